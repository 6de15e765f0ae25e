//! The life of a daemon between its start and its end: ready, watched over, asked to stop, stopped.

use std::time::Duration;

use crate::{TaskTree, TreeError, notify, shutdown_signal};

/// Says that the process is ready, runs it until it is asked to stop, and gives its tasks this long to end. To be called when all of it serves.
///
/// # Errors
/// A task has failed. That some did not end in time is none: a client that does not read must not make a stop a failure, and the log names
/// what was cut.
pub async fn serve_until_asked(tree: TaskTree, drain: Duration) -> Result<(), TreeError> {
    let asked_to_stop = shutdown_signal();
    notify::ready();
    let handle = tree.handle();
    let stop = handle.token();
    handle.spawn("watchdog", async move {
        tokio::select! {
            () = stop.cancelled() => {}
            () = notify::watchdog() => {}
        }
    });
    let signal = async {
        asked_to_stop.await;
        notify::stopping();
    };
    match tree.run(signal, drain).await {
        Err(TreeError::Unfinished { .. }) => Ok(()),
        ended => ended,
    }
}

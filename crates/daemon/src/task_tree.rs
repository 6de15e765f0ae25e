//! Every task of a process: its name, its owner, its end.
//!
//! Invariant: a task that ends before it was asked to ends the tree, with its name; and no task outlives the tree.

use std::collections::BTreeMap;
use std::error::Error;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::error_chain;

/// Owns the tasks. Dropping it aborts them.
#[derive(Debug)]
pub struct TaskTree {
    handle: TaskHandle,
}

/// Spawns into the tree, and tells its tasks when to stop.
#[derive(Clone, Debug)]
pub struct TaskHandle {
    shared: Arc<Shared>,
}

/// How the tree ended, when not well.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The first task that ended unexpectedly.
    #[error("the task {name} ended unexpectedly")]
    Task {
        /// Its name.
        name: String,
        /// How.
        source: TaskError,
    },
    /// These were still running at the deadline and were aborted, which the log has said. That somebody at the other end does not let
    /// go is reason enough, so for a daemon it is no failure.
    #[error("not ended within {deadline:?}, so aborted: {}", names.join(", "))]
    Unfinished {
        /// Sorted by age.
        names: Vec<String>,
        /// What they were given.
        deadline: Duration,
    },
}

/// How a task ended that should not have.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// Without an error, but before shutdown.
    #[error("it returned before shutdown")]
    Returned,
    /// By a panic.
    #[error("it panicked: {0}")]
    Panicked(String),
    /// With an error.
    #[error("it failed")]
    Failed(#[source] Box<dyn Error + Send + Sync>),
}

/// What a task's future may give: nothing, or a result.
pub trait TaskOutcome: Send + 'static {
    /// As a result.
    ///
    /// # Errors
    /// The task's own.
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>>;
}

impl TaskOutcome for () {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        Ok(())
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>> + Send + 'static> TaskOutcome for Result<(), E> {
    fn into_result(self) -> Result<(), Box<dyn Error + Send + Sync>> {
        self.map_err(Into::into)
    }
}

impl TaskTree {
    /// An empty tree. Must be used within a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        let shared = Shared {
            stop: CancellationToken::new(),
            state: Mutex::default(),
            ended: watch::Sender::new(()),
        };
        Self {
            handle: TaskHandle {
                shared: Arc::new(shared),
            },
        }
    }

    /// For those who spawn.
    #[must_use]
    pub fn handle(&self) -> TaskHandle {
        self.handle.clone()
    }

    /// Waits for `shutdown`, for [`TaskHandle::shutdown`] or for a task's unexpected end, then stops all and joins them.
    ///
    /// # Errors
    /// A task ended unexpectedly, or some did not end within `deadline`.
    pub async fn run(self, shutdown: impl Future<Output = ()>, deadline: Duration) -> Result<(), TreeError> {
        tokio::select! {
            () = shutdown => {}
            () = self.handle.cancelled() => {}
        }
        self.join_with_deadline(deadline).await
    }

    /// Asks all tasks to stop and waits for them; aborts those that have not ended after `deadline`.
    ///
    /// # Errors
    /// A task had ended unexpectedly, ended with an error now, or did not end within `deadline`.
    pub async fn join_with_deadline(self, deadline: Duration) -> Result<(), TreeError> {
        let shared = &self.handle.shared;
        shared.stop.cancel();
        let late = match tokio::time::timeout(deadline, shared.all_ended()).await {
            Ok(()) => Vec::new(),
            Err(_) => shared.abort(),
        };
        if !late.is_empty() {
            tracing::warn!(
                tasks = late.join(", "),
                ?deadline,
                "tasks did not end in time, aborted"
            );
            // An aborted task ends at its next await; one that blocks its thread never does, and must not hold us.
            let _may_block = tokio::time::timeout(ABORT, shared.all_ended()).await;
        }
        match shared.state().failure.take() {
            Some((name, source)) => Err(TreeError::Task { name, source }),
            None if late.is_empty() => Ok(()),
            None => Err(TreeError::Unfinished {
                names: late,
                deadline,
            }),
        }
    }
}

impl Default for TaskTree {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TaskTree {
    fn drop(&mut self) {
        self.handle.shared.stop.cancel();
        self.handle.shared.abort();
    }
}

impl TaskHandle {
    /// Starts a task that runs until shutdown. If it ends earlier, in whatever way, the whole tree ends.
    pub fn spawn<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.start(name.into(), Kind::Service, task);
    }

    /// Starts a task that ends by itself, such as a connection. Its failure or panic is logged and concerns nobody else.
    pub fn spawn_job<F>(&self, name: impl Into<String>, task: F)
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        self.start(name.into(), Kind::Job, task);
    }

    /// Asks the whole tree to stop.
    pub fn shutdown(&self) {
        self.shared.stop.cancel();
    }

    /// Cancelled when the tree is asked to stop.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.shared.stop.clone()
    }

    /// Ends when the tree is asked to stop.
    pub fn cancelled(&self) -> WaitForCancellationFutureOwned {
        self.token().cancelled_owned()
    }

    fn start<F>(&self, name: String, kind: Kind, task: F)
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        // Held while spawning, so that the task cannot end before it is entered.
        let mut state = self.shared.state();
        if state.closed {
            tracing::debug!(task = name, "not started: the process is ending");
            return;
        }
        let id = state.next;
        state.next += 1;
        let place = Place {
            shared: Arc::clone(&self.shared),
            id,
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "this is where tasks get their name and owner"
        )]
        let spawned = tokio::spawn(async move {
            let ended = AssertUnwindSafe(task).catch_unwind().await;
            place.end(
                kind,
                ended
                    .map(TaskOutcome::into_result)
                    .unwrap_or_else(|panic| Err(Box::new(TaskError::Panicked(panic_text(&*panic))))),
            );
        });
        state.running.insert(id, (name, spawned.abort_handle()));
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Service,
    Job,
}

#[derive(Debug)]
struct Shared {
    stop: CancellationToken,
    state: Mutex<State>,
    /// Sent each time a task has left `running`.
    ended: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct State {
    /// By age. Services are a fixed few; jobs are bounded by the limits of whoever accepts them.
    running: BTreeMap<u64, (String, AbortHandle)>,
    next: u64,
    failure: Option<(String, TaskError)>,
    /// Aborted: nothing starts any more.
    closed: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn all_ended(&self) {
        let mut ended = self.ended.subscribe();
        while !self.state().running.is_empty() {
            if ended.changed().await.is_err() {
                return;
            }
        }
    }

    /// Aborts what still runs, and says what that was.
    fn abort(&self) -> Vec<String> {
        let mut state = self.state();
        state.closed = true;
        for (_, abort) in state.running.values() {
            abort.abort();
        }
        state.running.values().map(|(name, _)| name.clone()).collect()
    }
}

/// A task's place in the tree; left when the task ends, also by abort.
struct Place {
    shared: Arc<Shared>,
    id: u64,
}

impl Place {
    fn end(self, kind: Kind, result: Result<(), Box<dyn Error + Send + Sync>>) {
        let asked = self.shared.stop.is_cancelled();
        let problem = match result {
            Ok(()) if asked || kind == Kind::Job => return,
            Ok(()) => TaskError::Returned,
            Err(error) => match error.downcast::<TaskError>() {
                Ok(panicked) => *panicked,
                Err(error) => TaskError::Failed(error),
            },
        };
        let mut state = self.shared.state();
        let name = state
            .running
            .get(&self.id)
            .map(|(name, _)| name.clone())
            .unwrap_or_default();
        let text = error_chain(&problem);
        if kind == Kind::Job {
            drop(state);
            tracing::error!(task = name, error = text, "a task failed");
            return;
        }
        // The first is the cause; what follows may be its consequence.
        if state.failure.is_none() {
            state.failure = Some((name.clone(), problem));
        }
        drop(state);
        tracing::error!(task = name, error = text, "a task ended unexpectedly; stopping");
        self.shared.stop.cancel();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.state().running.remove(&self.id);
        self.shared.ended.send_replace(());
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

const ABORT: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

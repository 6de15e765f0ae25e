//! The two signals that ask a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ends at the first SIGTERM or SIGINT after it was first polled. From then on neither kills the process by itself.
pub async fn shutdown_signal() {
    tokio::select! {
        name = arrival(SignalKind::terminate(), "SIGTERM") => tracing::info!(signal = name, "stopping"),
        name = arrival(SignalKind::interrupt(), "SIGINT") => tracing::info!(signal = name, "stopping"),
    }
}

/// Ends when the terminal has gone (SIGHUP) or somebody quits (SIGQUIT): for programs that a person runs at a terminal.
pub async fn terminal_signal() {
    tokio::select! {
        name = arrival(SignalKind::hangup(), "SIGHUP") => tracing::info!(signal = name, "stopping"),
        name = arrival(SignalKind::quit(), "SIGQUIT") => tracing::info!(signal = name, "stopping"),
    }
}

async fn arrival(kind: SignalKind, name: &'static str) -> &'static str {
    match signal(kind).as_mut().map(Signal::recv) {
        Ok(received) => {
            if received.await.is_none() {
                std::future::pending::<()>().await;
            }
        }
        Err(error) => {
            // The default action stays: the signal still ends the process, only not gently.
            tracing::warn!(signal = name, error = %error, "cannot listen for the signal");
            std::future::pending::<()>().await;
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn either_signal_ends_the_wait() {
        for number in [Number::TERM, Number::INT] {
            let mut waiting = std::pin::pin!(shutdown_signal());
            // Polled once, so that the signal meets a listener and not the default action.
            assert!((&mut waiting).now_or_never().is_none());
            kill_process(getpid(), number).unwrap();
            waiting.await;
        }
    }
}

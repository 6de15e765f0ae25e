//! The two signals that ask a process to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ends at the first SIGTERM or SIGINT after this call: from then on neither kills the process by itself. Say that the process is ready
/// only afterwards, or a stop that follows at once is not a gentle one.
pub fn shutdown_signal() -> impl Future<Output = ()> {
    either(
        Listener::new(SignalKind::terminate(), "SIGTERM"),
        Listener::new(SignalKind::interrupt(), "SIGINT"),
    )
}

/// Ends when the terminal has gone (SIGHUP) or somebody quits (SIGQUIT): for programs that a person runs at a terminal.
pub fn terminal_signal() -> impl Future<Output = ()> {
    either(
        Listener::new(SignalKind::hangup(), "SIGHUP"),
        Listener::new(SignalKind::quit(), "SIGQUIT"),
    )
}

async fn either(mut one: Listener, mut other: Listener) {
    tokio::select! {
        () = one.arrival() => {}
        () = other.arrival() => {}
    }
}

struct Listener {
    name: &'static str,
    /// Without it the default action stays: the signal still ends the process, only not gently.
    signal: Option<Signal>,
}

impl Listener {
    fn new(kind: SignalKind, name: &'static str) -> Self {
        let signal = signal(kind)
            .inspect_err(|error| tracing::warn!(signal = name, %error, "cannot listen for the signal"))
            .ok();
        Self { name, signal }
    }

    async fn arrival(&mut self) {
        let received = match &mut self.signal {
            Some(signal) => signal.recv().await,
            None => None,
        };
        if received.is_none() {
            std::future::pending::<()>().await;
        }
        tracing::info!(signal = self.name, "stopping");
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal as Number, getpid, kill_process};

    use super::*;

    #[tokio::test]
    async fn either_signal_ends_the_wait() {
        for number in [Number::TERM, Number::INT] {
            let waiting = shutdown_signal();
            // Never polled yet, and the signal does not meet the default action.
            kill_process(getpid(), number).unwrap();
            waiting.await;
        }
    }
}

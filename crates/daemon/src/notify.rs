//! Tells systemd how we stand. Without systemd every call does nothing.

use std::time::Duration;

use sd_notify::NotifyState;

/// Start-up is over (`READY=1`).
pub fn ready() {
    send(NotifyState::Ready);
}

/// Shutdown has begun (`STOPPING=1`).
pub fn stopping() {
    send(NotifyState::Stopping);
}

/// One line for `systemctl status`.
pub fn status(text: &str) {
    send(NotifyState::Status(text));
}

/// Pings systemd's watchdog at half its interval, for ever. It stops when the runtime no longer turns, which is what the
/// watchdog is for. Waits for ever when the unit has none.
pub async fn watchdog() {
    let Some(interval) = sd_notify::watchdog_enabled() else {
        return std::future::pending().await;
    };
    let mut tick = tokio::time::interval((interval / 2).max(Duration::from_millis(10)));
    loop {
        tick.tick().await;
        send(NotifyState::Watchdog);
    }
}

fn send(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(error = %error, "cannot notify systemd");
    }
}

//! Whether the server can sign, for gRPC health and `/ready`. Invariant: serving means that an authority is active and in its time.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::Health;
use landfast_lifecycle::SharedClock;
use tokio::sync::watch;

use crate::authority::Authorities;

/// Says whether this server can do what it is for.
pub(super) struct Judge {
    pub(super) authorities: Arc<Authorities>,
    pub(super) clock: SharedClock,
}

impl Judge {
    /// Why it cannot sign; `None` when it can.
    fn obstacle(&self) -> Option<&'static str> {
        let Some(now) = self.clock.now() else {
            return Some("the clock shows no time");
        };
        match self.authorities.active_x509_expires_at() {
            Some(end) if now < end => None,
            Some(_) => Some("the active authority has expired"),
            None => Some("no authority is active"),
        }
    }

    /// Tells gRPC health and `/ready`, for ever.
    pub(super) async fn keep(
        self,
        ready: watch::Sender<Health>,
        reporter: tonic_health::server::HealthReporter,
    ) {
        loop {
            let health = match self.obstacle() {
                None => Health {
                    ready: true,
                    reason: String::new(),
                },
                Some(obstacle) => Health::not_ready(obstacle),
            };
            let status = match health.ready {
                true => tonic_health::ServingStatus::Serving,
                false => tonic_health::ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
            ready.send_if_modified(|old| {
                old.ready != health.ready && {
                    *old = health;
                    true
                }
            });
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    }
}

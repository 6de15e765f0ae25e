//! Whether the agent is ready, and the metrics that change by themselves.
//!
//! Invariant: ready means that the workloads get what they are entitled to; a server that is away does not make an agent
//! unready once it was, a ban does.

use std::convert::Infallible;
use std::time::Duration;

use landfast_daemon::Health;
use landfast_lifecycle::SharedClock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::jwt::JwtCache;
use crate::keeper::views::Views;
use crate::link::LinkHandle;
use crate::telemetry;

/// Looks every second, and at once when the link has something new.
pub(crate) struct Reporter {
    pub(crate) views: Views,
    pub(crate) link: LinkHandle,
    pub(crate) tokens: JwtCache,
    pub(crate) clock: SharedClock,
    pub(crate) report: watch::Sender<Health>,
    /// The same for gRPC health.
    pub(crate) ready: watch::Sender<bool>,
}

impl Reporter {
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut status = self.link.status.clone();
        loop {
            self.look();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = status.changed() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    fn look(&self) {
        telemetry::link(&self.link.status.borrow(), self.clock.now());
        telemetry::tokens(self.tokens.len());
        let now = state(&self.views, &self.link);
        self.ready
            .send_if_modified(|old| std::mem::replace(old, now.ready) != now.ready);
        self.report.send_if_modified(|old| {
            let differs = *old != now;
            *old = now;
            differs
        });
    }
}

/// Ready once a whole round with the server has succeeded, and for good: only a ban takes it back.
pub(crate) fn state(views: &Views, link: &LinkHandle) -> Health {
    let snapshot = views.snapshot();
    let reason = if snapshot.banned {
        Some("the server has banned this node".to_owned())
    } else if !(snapshot.synced_at.is_some() && snapshot.round_over) {
        let status = link.status.borrow();
        let first = "no round of synchronisation with the server has succeeded yet";
        Some(if status.last_error.is_empty() {
            first.to_owned()
        } else {
            format!("{first}: {}", status.last_error)
        })
    } else {
        None
    };
    reason.map_or_else(Health::ready, Health::not_ready)
}

const EVERY: Duration = Duration::from_secs(1);

//! Whether the agent is ready, and the metrics that change by themselves.
//!
//! Invariant: ready means that there is something to give: a node identity to ask with, or SVIDs that are still valid. A server that
//! is away does not make an agent unready while it has those, nor does a disk that fails; a ban does. gRPC health and `/ready` say the same.

use std::convert::Infallible;
use std::time::Duration;

use landfast_daemon::{Health, notify};
use landfast_identity::UnixTime;
use landfast_lifecycle::{Clock as _, GuardedClock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::jwt::JwtCache;
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
use crate::link::LinkHandle;
use crate::link::status::LinkStatus;
use crate::telemetry;
use crate::time::{self, TimeWatch};

/// Looks every second, and at once when the link has something new.
pub(crate) struct Reporter {
    pub(crate) views: Views,
    pub(crate) link: LinkHandle,
    pub(crate) tokens: JwtCache,
    pub(crate) clock: GuardedClock,
    pub(crate) time: TimeWatch,
    pub(crate) report: watch::Sender<Health>,
    /// The same for gRPC health.
    pub(crate) ready: watch::Sender<bool>,
}

impl Reporter {
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
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

    fn look(&mut self) {
        let report = self.clock.report();
        telemetry::link(&self.link.status.borrow(), self.clock.now());
        telemetry::tokens(self.tokens.len());
        telemetry::time(&report);
        self.time.look(&report);
        let now = with_time(
            state(&self.views, &self.link, self.clock.now()),
            time::complaint(&report),
        );
        self.ready
            .send_if_modified(|old| std::mem::replace(old, now.ready) != now.ready);
        self.report.send_if_modified(|old| {
            let differs = *old != now;
            if differs {
                notify::status(&line(&now));
            }
            *old = now;
            differs
        });
    }
}

/// A clock that is wrong may be why the agent is not ready, and is to be set in any case.
fn with_time(health: Health, complaint: String) -> Health {
    let reasons = [health.reason, complaint];
    let reasons: Vec<_> = reasons.into_iter().filter(|one| !one.is_empty()).collect();
    Health {
        reason: reasons.join("; "),
        ..health
    }
}

/// For `systemctl status`.
fn line(health: &Health) -> String {
    match (health.ready, health.reason.as_str()) {
        (true, "") => "ready".to_owned(),
        (true, reason) => format!("ready, but: {reason}"),
        (false, reason) => format!("not ready: {reason}"),
    }
}

/// Ready once a whole round with the server has succeeded, for as long as the node's own SVID or any that it serves is valid.
pub(crate) fn state(views: &Views, link: &LinkHandle, now: Option<UnixTime>) -> Health {
    let status = link.status.borrow();
    match (obstacle(&views.snapshot(), &status, now), status.disk.as_str()) {
        (Some(obstacle), _) => Health::not_ready(obstacle),
        (None, "") => Health::ready(),
        (None, disk) => Health::ready_but(disk),
    }
}

fn obstacle(snapshot: &Snapshot, status: &LinkStatus, now: Option<UnixTime>) -> Option<String> {
    if snapshot.banned {
        return Some("the server has banned this node".to_owned());
    }
    let because = |what: &str| match status.last_error.as_str() {
        "" => what.to_owned(),
        error => format!("{what}: {error}"),
    };
    if !(snapshot.synced_at.is_some() && snapshot.round_over) {
        return Some(because(
            "no round of synchronisation with the server has succeeded yet",
        ));
    }
    let Some(now) = now else {
        return Some("the clock shows no time, so nothing can be shown to be valid".to_owned());
    };
    let own = status.agent_not_before.is_some_and(|begin| begin <= now)
        && status.agent_not_after.is_some_and(|end| now < end);
    let serves = || {
        snapshot
            .entries
            .iter()
            .any(|entry| snapshot.svid(entry, now).is_some())
    };
    (!own && !serves())
        .then(|| because("no SVID is valid at this time, neither the node's own nor any that it serves"))
}

const EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

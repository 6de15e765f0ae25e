//! Whether the agent is ready, and the metrics that change by themselves.
//!
//! Invariant: ready means that there is something to give: a node identity to ask with, or SVIDs that are still valid. A server that
//! is away does not make an agent unready while it has those, nor does a disk that fails; a ban does, and so does an island on which nothing is
//! valid any more. gRPC health, `/ready`, metrics, `agent status` and systemd say the same.

use std::convert::Infallible;
use std::time::Duration;

use landfast_daemon::{Health, notify};
use landfast_identity::UnixTime;
use landfast_lifecycle::island::Standing;
use landfast_lifecycle::{Clock as _, GuardedClock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::cache::CacheState;
use crate::jwt::JwtCache;
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
use crate::link::LinkHandle;
use crate::link::status::LinkStatus;
use crate::standing::{Report, Watch};
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
    pub(crate) watch: Watch,
    pub(crate) standing: watch::Sender<Report>,
    /// The last line for systemd.
    pub(crate) said: String,
    pub(crate) cache: watch::Receiver<CacheState>,
    /// The same for gRPC health.
    pub(crate) ready: watch::Sender<bool>,
}

impl Reporter {
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut status = self.link.status.clone();
        let mut cache = self.cache.clone();
        loop {
            self.look();
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                _ = status.changed() => {}
                Ok(()) = cache.changed() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    pub(crate) fn look(&mut self) {
        let clock = self.clock.report();
        let (time, snapshot) = (self.clock.now(), self.views.snapshot());
        let (status, cache) = (self.link.status.borrow().clone(), self.cache.borrow().clone());
        telemetry::link(&status, time);
        telemetry::tokens(self.tokens.len());
        telemetry::time(&clock);
        self.time.look(&clock);
        let complaint = time::complaint(&clock);
        let report = self.watch.look(&snapshot, &status, time);
        telemetry::standing(&report, &cache);
        self.tokens.on_an_island(report.standing >= Standing::Islanded);
        let said = join([report.text.as_str(), &complaint]);
        if self.said != said {
            notify::status(&said);
            self.said = said;
        }
        let now = with_time(state(&snapshot, &status, &report, &cache, time), &complaint);
        self.standing.send_if_modified(|old| {
            let differs = *old != report;
            *old = report;
            differs
        });
        self.ready
            .send_if_modified(|old| std::mem::replace(old, now.ready) != now.ready);
        self.report.send_if_modified(|old| {
            let differs = *old != now;
            *old = now;
            differs
        });
    }
}

/// Ready once a whole round with the server has succeeded, in this run or in one before it, for as long as the node's own SVID or any that it serves
/// is valid.
fn state(
    snapshot: &Snapshot,
    status: &LinkStatus,
    report: &Report,
    cache: &CacheState,
    now: Option<UnixTime>,
) -> Health {
    if let Some(obstacle) = obstacle(snapshot, status, now) {
        return Health::not_ready(obstacle);
    }
    let standing = match report.standing {
        Standing::Exhausted => return Health::not_ready(report.text.clone()),
        Standing::Degraded | Standing::Islanded => report.text.as_str(),
        Standing::Starting | Standing::Connected => "",
    };
    match join([standing, &status.disk, &cache.complaint]) {
        all if all.is_empty() => Health::ready(),
        all => Health::ready_but(all),
    }
}

/// A clock that is wrong may be why the agent is not ready, and is to be set in any case.
fn with_time(health: Health, complaint: &str) -> Health {
    Health {
        reason: join([health.reason.as_str(), complaint]),
        ..health
    }
}

/// What there is to say of these.
fn join<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    let said: Vec<_> = texts.into_iter().filter(|one| !one.is_empty()).collect();
    said.join("; ")
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

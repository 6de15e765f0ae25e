//! Whether the server can sign, for gRPC health and `/ready`. Invariant: serving means that an authority of each kind is active and in its time, and
//! that the last attempt to write a record succeeded; both doors say the same.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::{Health, error_chain};
use landfast_lifecycle::SharedClock;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::admission::Admission;
use crate::authority::Authorities;
use crate::chain::Chain;
use crate::datastore::{Datastore, DatastoreError};
use crate::ledger::Ledger;
use crate::publish::Trouble;

/// Says whether this server can do what it is for.
pub(super) struct Judge {
    pub(super) authorities: Arc<Authorities>,
    pub(super) datastore: Arc<dyn Datastore>,
    pub(super) clock: SharedClock,
    /// What keeps a listener for others closed. It is in nobody's way who has to sign.
    pub(super) published_trouble: Trouble,
    /// So is a crowd: it is served in its order.
    pub(super) admission: Admission,
    /// Nor is a chain that lags: only nodes that come back after long need it.
    pub(super) chain: Arc<Chain>,
    /// It is: what it does not take is not signed.
    pub(super) ledger: Ledger,
}

impl Judge {
    /// Why it cannot sign; `None` when it can.
    fn no_signature(&self) -> Option<String> {
        let Some(now) = self.clock.now() else {
            return Some("the clock shows no time".to_owned());
        };
        let Some((x509, jwt)) = self.authorities.active_x509().zip(self.authorities.active_jwt()) else {
            let why = self.authorities.upstream_trouble();
            return Some(why.map_or_else(
                || "no authority is active".to_owned(),
                |why| format!("no authority is active that the bundle verifies: {why}"),
            ));
        };
        let wit = self.authorities.active_wit();
        if wit.is_none() && self.authorities.has_wit() {
            return Some("no WIT authority is active".to_owned());
        }
        let (begins, ends) = wit.map_or((jwt.not_before, jwt.not_after), |wit| {
            (
                jwt.not_before.max(wit.not_before),
                jwt.not_after.min(wit.not_after),
            )
        });
        if now < x509.certificate.not_before().max(begins) {
            let reason = "the clock shows a time before the active authority begins: set the clock";
            return Some(reason.to_owned());
        }
        (now >= x509.not_after.min(ends)).then(|| "the active authority has expired".to_owned())
    }

    /// Why no record can be written, and so no certificate leaves; `None` when one can.
    async fn no_record(&self, before: Option<NoRecord>) -> Option<NoRecord> {
        let (full, why) = match tokio::time::timeout(PATIENCE, self.datastore.probe()).await {
            Ok(Ok(())) => return None,
            Ok(Err(error)) => {
                let full = matches!(error, DatastoreError::NoSpace { .. });
                (full, error_chain(&error))
            }
            Err(_elapsed) => (
                false,
                "the datastore does not answer: is its disk stuck?".to_owned(),
            ),
        };
        // Each attempt names another file: what was said first stays.
        let again = before.filter(|before| before.full && full);
        Some(again.unwrap_or(NoRecord { full, why }))
    }

    /// What somebody should look after, though it is in nobody's way who has to sign.
    fn trouble(&self) -> Option<String> {
        let troubles = [
            self.authorities.upstream_trouble(),
            (self.published_trouble)(),
            self.admission.trouble(),
            self.chain.trouble(),
            self.ledger.fills(),
        ];
        let troubles: Vec<_> = troubles.into_iter().flatten().collect();
        (!troubles.is_empty()).then(|| troubles.join("; "))
    }

    /// Tells gRPC health and `/ready`, for ever.
    pub(super) async fn keep(
        self,
        ready: watch::Sender<Health>,
        reporter: tonic_health::server::HealthReporter,
    ) {
        // The server has just been opened, which writes.
        let (mut no_record, mut probed) = (None, Instant::now());
        let mut doubt = false;
        loop {
            let mut stale = self.authorities.current().err();
            // A database that cannot be read is not written either, and trying would only wait for it.
            if stale.is_none() && (doubt || no_record.is_some() || probed.elapsed() >= PROBE) {
                no_record = self.no_record(no_record).await;
                (doubt, probed) = (false, Instant::now());
                stale = self.authorities.current().err();
            }
            let obstacle = self.no_signature();
            let stale = stale.map(|error| error_chain(&error));
            let health = match obstacle
                .or(stale)
                .or_else(|| self.ledger.trouble())
                .or_else(|| Some(no_record.as_ref()?.why.clone()))
            {
                Some(reason) => Health::not_ready(reason),
                None => match self.trouble() {
                    None => Health::ready(),
                    Some(trouble) => Health::ready_but(trouble),
                },
            };
            let status = match health.ready {
                true => tonic_health::ServingStatus::Serving,
                false => tonic_health::ServingStatus::NotServing,
            };
            reporter.set_service_status("", status).await;
            ready.send_if_modified(|old| {
                let differs = *old != health;
                *old = health;
                differs
            });
            tokio::time::sleep(LOOK).await;
            doubt |= tokio::select! {
                biased;
                () = self.datastore.doubted() => true,
                () = std::future::ready(()) => false,
            };
        }
    }
}

/// Why no record can be written.
struct NoRecord {
    /// For want of room on the database's disk.
    full: bool,
    why: String,
}

/// Between two looks. A write that failed is looked into at the next one, and so is a failure that lasts.
const LOOK: Duration = Duration::from_secs(1);
/// Between two attempts to write while nothing has failed: each is a commit, and flash wears out.
const PROBE: Duration = Duration::from_secs(60);
/// Longer than SQLite waits for a lock.
const PATIENCE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;

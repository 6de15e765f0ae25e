//! What has to be done from time to time. Invariant: a failure is logged when it begins, and tried again; nothing is removed for good while the
//! clock or the registry is in doubt.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use tokio::time::Instant;

use super::Core;
use super::disk::{Passed, Watermark, used_percent};
use super::leap::{At, LeapWatch, Noticed};
use crate::authority::{Authorities, AuthorityError, Trust};
use crate::datastore::{Datastore, DatastoreError, Prune};
use crate::peers::Peers;
use crate::quarantine::Quarantine;
use crate::quarantine::state::Mark;
use crate::registry::{AgentRecord, Registry};

impl Core {
    /// Rotates authorities, prunes, and watches the disk, until it is dropped. It ends by itself only when the datastore has.
    pub fn maintenance(&self) -> impl Future<Output = ()> + Send + use<> {
        let work = self.rounds();
        let following = Following {
            authorities: Arc::clone(&self.authorities),
            datastore: Arc::clone(&self.datastore),
            complaint: Complaint::new("the authorities of other servers cannot be taken over"),
        };
        async move {
            // A long round is in nobody's way: agents are sent away by who is behind.
            tokio::select! {
                () = work.run() => {}
                () = following.run() => {}
            }
        }
    }

    pub(super) fn rounds(&self) -> Maintenance {
        Maintenance {
            authorities: Arc::clone(&self.authorities),
            datastore: Arc::clone(&self.datastore),
            registry: Arc::clone(&self.registry),
            quarantine: Arc::clone(&self.quarantine),
            peers: Arc::clone(&self.peers),
            params: self.params.clone(),
            rotation: Complaint::new("authorities cannot be rotated"),
            pruning: Complaint::new("old data cannot be removed"),
            mark: Watermark::default(),
            leap: LeapWatch::default(),
            pruned: None,
        }
    }

    /// Removes what nobody needs at `now`, in small commits, as maintenance does every five minutes; returns how many rows.
    ///
    /// # Errors
    /// The datastore fails.
    pub async fn prune(&self, now: UnixTime) -> Result<usize, DatastoreError> {
        prune(&*self.datastore, self.params.records_keep, now).await
    }
}

pub(super) struct Maintenance {
    authorities: Arc<Authorities>,
    datastore: Arc<dyn Datastore>,
    registry: Arc<Registry>,
    quarantine: Arc<Quarantine>,
    peers: Arc<Peers>,
    params: super::CoreParams,
    rotation: Complaint,
    pruning: Complaint,
    mark: Watermark,
    leap: LeapWatch,
    pruned: Option<Instant>,
}

impl Maintenance {
    async fn run(mut self) {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        metrics::gauge!("landfast_server_clock_leap_seconds").set(0.0);
        loop {
            every.tick().await;
            if self.round().await.is_break() {
                return;
            }
        }
    }

    /// Everything that is due now. Breaks when the datastore has ended.
    pub(super) async fn round(&mut self) -> ControlFlow<()> {
        self.watch_disk();
        // What is committed by now, or a little less.
        let mark = Mark::new(self.registry.revision(), self.authorities.bundle().sequence());
        self.quarantine.keep(mark).await;
        let is_node = |agent: Arc<AgentRecord>| !agent.is_banned();
        self.peers.keep(|id| self.registry.agent(id).is_some_and(is_node));
        let Some(now) = self.params.clock.now() else {
            return ControlFlow::Continue(());
        };
        let trust = self.watch_clock(now);
        let rotated = self.authorities.tick(now, trust).await;
        if let Err(AuthorityError::Storage {
            source: DatastoreError::Stopped,
        }) = rotated
        {
            // Nothing can be issued any more; whoever runs us is to notice.
            tracing::error!("the datastore has stopped");
            return ControlFlow::Break(());
        }
        self.rotation.heed(rotated);
        if let Some(end) = self.authorities.active_x509_expires_at() {
            metrics::gauge!("landfast_server_authority_expiry_seconds").set(end.since(now).as_secs_f64());
        }
        let is_kept = self.quarantine.holds();
        if trust == Trust::Steady && !is_kept && self.pruned.is_none_or(|at| at.elapsed() >= PRUNE) {
            self.pruned = Some(Instant::now());
            let pruned = prune(&*self.datastore, self.params.records_keep, now).await;
            self.pruning.heed(pruned.map(|_| ()));
        }
        ControlFlow::Continue(())
    }

    fn watch_clock(&mut self, wall: UnixTime) -> Trust {
        let noticed = self.leap.observe(At {
            wall,
            mono: Instant::now(),
        });
        let ahead = metrics::gauge!("landfast_server_clock_leap_seconds");
        match noticed {
            Some(Noticed::Leapt(by)) => {
                ahead.set(by.as_secs_f64());
                tracing::error!(
                    seconds = by.as_secs(), now = %wall,
                    "the clock has leapt forward: nothing is removed by it until it has run on for half an hour; if it is wrong, set it"
                );
            }
            Some(Noticed::Back) => {
                ahead.set(0.0);
                tracing::info!(now = %wall, "the clock is back where it was");
            }
            Some(Noticed::Held) => {
                ahead.set(0.0);
                tracing::info!(now = %wall, "the clock has run evenly for half an hour: what is over by it is removed again");
            }
            None => {}
        }
        self.leap.trust()
    }

    fn watch_disk(&mut self) {
        let Some(dir) = &self.params.data_dir else { return };
        let used = match used_percent(dir) {
            Ok(used) => used,
            Err(error) => {
                tracing::debug!(%error, "cannot ask how full the disk is");
                return;
            }
        };
        metrics::gauge!("landfast_server_disk_used_percent")
            .set(f64::from(u32::try_from(used).unwrap_or(100)));
        let dir = dir.display();
        match self.mark.observe(used) {
            Some(Passed::Above) => {
                tracing::error!(used_percent = used, %dir, "the disk fills up: when it is full nothing more is issued");
            }
            Some(Passed::Below) => tracing::info!(used_percent = used, %dir, "the disk has room again"),
            None => {}
        }
    }
}

/// Takes over what other servers change in the journal.
struct Following {
    authorities: Arc<Authorities>,
    datastore: Arc<dyn Datastore>,
    complaint: Complaint,
}

impl Following {
    /// For ever.
    async fn run(mut self) {
        loop {
            self.datastore.journal_changed().await;
            loop {
                let followed = self.authorities.follow_journal().await;
                let is_done = followed.is_ok();
                self.complaint.heed(followed);
                if is_done {
                    break;
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

async fn prune(datastore: &dyn Datastore, keep: Duration, now: UnixTime) -> Result<usize, DatastoreError> {
    let day_ago = now.saturating_sub(DAY);
    let mut removed = 0;
    for what in [
        Prune::Entries { now },
        Prune::Tokens { before: day_ago },
        Prune::Records {
            expired_before: now.saturating_sub(keep),
        },
        Prune::Tombstones {
            before: now.saturating_sub(keep),
        },
        Prune::Authorities {
            ended_before: day_ago,
        },
    ] {
        // Each batch is a commit of its own, so that issuance waits for one batch at most.
        loop {
            let batch = datastore.prune(what, BATCH).await?;
            removed += batch;
            if batch < BATCH {
                break;
            }
            tokio::task::yield_now().await;
        }
    }
    Ok(removed)
}

/// Says once that something began to fail, and once that it works again.
struct Complaint {
    about: &'static str,
    said: Option<String>,
}

impl Complaint {
    fn new(about: &'static str) -> Self {
        Self { about, said: None }
    }

    fn heed<E: std::error::Error + 'static>(&mut self, outcome: Result<(), E>) {
        match outcome {
            Ok(()) => {
                if self.said.take().is_some() {
                    tracing::info!(about = self.about, "works again");
                }
            }
            Err(error) => {
                let text = error_chain(&error);
                if self.said.as_ref() != Some(&text) {
                    tracing::error!(error = text, "{}; trying again", self.about);
                }
                self.said = Some(text);
            }
        }
    }
}

const TICK: Duration = Duration::from_secs(10);
/// Until the journal is read again that could not be.
const AGAIN: Duration = Duration::from_secs(1);
const PRUNE: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
/// Rows in one commit of pruning.
const BATCH: usize = 500;

//! What has to be done from time to time. Invariant: a failure is logged when it begins, and tried again.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::UnixTime;

use super::Core;
use super::disk::{Passed, Watermark, used_percent};
use crate::authority::{Authorities, AuthorityError};
use crate::datastore::{Datastore, DatastoreError, Prune};

impl Core {
    /// Rotates authorities, prunes, and watches the disk, until it is dropped. It ends by itself only when the datastore has.
    pub fn maintenance(&self) -> impl Future<Output = ()> + Send + use<> {
        let work = Maintenance {
            authorities: Arc::clone(&self.authorities),
            datastore: Arc::clone(&self.datastore),
            params: self.params.clone(),
        };
        async move { work.run().await }
    }

    /// Removes what nobody needs at `now`, in small commits, as maintenance does every five minutes; returns how many rows.
    ///
    /// # Errors
    /// The datastore fails.
    pub async fn prune(&self, now: UnixTime) -> Result<usize, DatastoreError> {
        prune(&*self.datastore, self.params.records_keep, now).await
    }
}

struct Maintenance {
    authorities: Arc<Authorities>,
    datastore: Arc<dyn Datastore>,
    params: super::CoreParams,
}

impl Maintenance {
    async fn run(self) {
        let mut every = tokio::time::interval(TICK);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut rotation = Complaint::new("authorities cannot be rotated");
        let mut pruning = Complaint::new("old data cannot be removed");
        let mut mark = Watermark::default();
        let mut pruned: Option<tokio::time::Instant> = None;
        loop {
            every.tick().await;
            self.watch_disk(&mut mark);
            let Some(now) = self.params.clock.now() else {
                continue;
            };
            let rotated = self.authorities.tick(now).await;
            if let Err(AuthorityError::Storage {
                source: DatastoreError::Stopped,
            }) = rotated
            {
                // Nothing can be issued any more; whoever runs us is to notice.
                tracing::error!("the datastore has stopped");
                return;
            }
            rotation.heed(rotated);
            if let Some(end) = self.authorities.active_x509_expires_at() {
                metrics::gauge!("landfast_server_authority_expiry_seconds").set(end.since(now).as_secs_f64());
            }
            if pruned.is_none_or(|at| at.elapsed() >= PRUNE) {
                pruned = Some(tokio::time::Instant::now());
                pruning.heed(
                    prune(&*self.datastore, self.params.records_keep, now)
                        .await
                        .map(|_| ()),
                );
            }
        }
    }

    fn watch_disk(&self, mark: &mut Watermark) {
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
        match mark.observe(used) {
            Some(Passed::Above) => {
                tracing::error!(used_percent = used, %dir, "the disk fills up: when it is full nothing more is issued");
            }
            Some(Passed::Below) => tracing::info!(used_percent = used, %dir, "the disk has room again"),
            None => {}
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
const PRUNE: Duration = Duration::from_secs(300);
const DAY: Duration = Duration::from_secs(86_400);
/// Rows in one commit of pruning.
const BATCH: usize = 500;

//! Journals of nodes, on their way into the ledger of this server (`docs/formats/journal.md`).
//!
//! Invariant: a batch is acknowledged when the ledger has it on its disk, and of one node one batch is taken at a time, to its end, whoever waits for it,
//! so that nothing is there twice. A node has a bounded part of the ledger's room, and none of its last tenth.

mod budget;
mod kept;
mod line;
mod records;
mod step;

use std::hash::{BuildHasher as _, RandomState};
use std::path::PathBuf;
use std::sync::{Arc, Mutex as StdMutex, PoisonError};
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::SpiffeId;
use landfast_lifecycle::SharedClock;
use landfast_store::Store;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::authz::to_the_end;
use crate::ledger::{Ledger, LedgerError};
use budget::{AROUND, Budget, NOTICED};
use kept::Nodes;
use line::Line;

/// What this server has of them.
pub(crate) struct Journals {
    ledger: Ledger,
    clock: SharedClock,
    place: Option<(Store, PathBuf)>,
    hasher: RandomState,
    /// By the hash of the node's ID; each is held while the ledger writes.
    shards: Vec<Arc<Mutex<Nodes>>>,
    saved: StdMutex<Instant>,
    budget: Budget,
}

/// A batch as it came.
pub(crate) struct Batch<'a> {
    pub(crate) node: &'a SpiffeId,
    pub(crate) attestation: &'a str,
    pub(crate) journal: &'a str,
    pub(crate) lines: Vec<bytes::Bytes>,
    pub(crate) acknowledged_by: &'a str,
}

/// What the ledger has now.
pub(crate) struct Taken {
    pub(crate) next: u64,
    pub(crate) chain: [u8; 32],
    pub(crate) begin_anew: bool,
}

/// Why nothing was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeError {
    /// There is nothing to take it into.
    #[error("this server keeps no ledger")]
    NoLedger,
    /// It is none.
    #[error("{0}")]
    Malformed(&'static str),
    /// The rest is for what this server does itself.
    #[error("the ledger is nearly full")]
    NoRoom,
    /// It has brought more than its part.
    #[error("the node has brought more than its part of the ledger")]
    TooMuch {
        /// Until there is room for this.
        wait: Duration,
    },
    /// The ledger cannot be written.
    #[error("the journal was not taken")]
    Ledger {
        /// Why.
        #[from]
        source: LedgerError,
    },
}

impl Journals {
    /// Of this ledger, which is read for what it has: blocks.
    pub(crate) fn open(ledger: Ledger, clock: SharedClock) -> Self {
        let place = ledger.place().map(|(data, dir)| (data.clone(), dir.to_owned()));
        let found = match &place {
            Some((data, dir)) => kept::open(data, dir).unwrap_or_else(|error| {
                let error = error_chain(&error);
                tracing::error!(
                    error,
                    "the ledger cannot be read for what it has of the journals of nodes: what a node sends again may be in it twice, under the same number"
                );
                Nodes::new()
            }),
            None => Nodes::new(),
        };
        // And what a start on a full disk found behind the last checkpoint, which is in no file that is read here.
        let found = ledger.held().iter().fold(found, |mut found, record| {
            kept::learn(&mut found, record);
            found
        });
        let (hasher, mut shards) = (RandomState::new(), Vec::new());
        shards.resize_with(SHARDS, Nodes::new);
        for (node, known) in found {
            let shard = shard_of(&hasher, &node);
            shards[shard].insert(node, known);
        }
        Self {
            ledger,
            clock,
            place,
            hasher,
            shards: shards
                .into_iter()
                .map(|nodes| Arc::new(Mutex::new(nodes)))
                .collect(),
            saved: StdMutex::new(Instant::now()),
            budget: Budget::default(),
        }
    }

    /// The directory of the ledger.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        self.place.as_ref().map(|(_, dir)| dir.clone())
    }

    /// The name of the ledger; reads a file.
    pub(crate) fn ledger_name(dir: &std::path::Path) -> Option<String> {
        kept::head(dir).map(|(name, _)| name)
    }

    /// Takes what is new of a batch. When this returns it is on the disk.
    ///
    /// # Errors
    /// Nothing was taken.
    pub(crate) async fn take(&self, batch: Batch<'_>) -> Result<Taken, TakeError> {
        if self.place.is_none() {
            return Err(TakeError::NoLedger);
        }
        if self.ledger.is_nearly_full() {
            return Err(TakeError::NoRoom);
        }
        let is_name = batch.journal.len() == 32 && batch.journal.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_name {
            return Err(TakeError::Malformed(
                "the name of a journal has 32 hexadecimal digits",
            ));
        }
        if batch.lines.len() > MOST || batch.acknowledged_by.len() > LONGEST_NAME {
            return Err(TakeError::Malformed("more than 256 records of a journal at once"));
        }
        let lines: Result<Vec<_>, _> = batch.lines.iter().map(|line| Line::parse(line)).collect();
        let lines = lines.map_err(TakeError::Malformed)?;
        let in_order = lines.windows(2).all(|pair| pair[0].last < pair[1].first);
        if !in_order {
            return Err(TakeError::Malformed(
                "records of a journal that are not in their order",
            ));
        }
        let node = batch.node.to_string();
        let shard = &self.shards[shard_of(&self.hasher, &node)];
        let mut nodes = Arc::clone(shard).lock_owned().await;
        let (told, known) = step::step(nodes.get(&node), batch.journal, lines);
        let from = records::From {
            node: batch.node,
            attestation: batch.attestation,
            journal: batch.journal,
            acknowledged_by: batch.acknowledged_by,
            received: self.clock.now(),
        };
        for told in &told {
            match told {
                step::Told::Hole { from, to } => {
                    tracing::warn!(%node, from, to, "records of a node's journal never came here");
                }
                step::Told::Broken { at } => {
                    tracing::error!(%node, at, "a node's journal contradicts what it said before: its disk was put back, or somebody has changed it");
                }
                step::Told::Line { .. } | step::Told::Other { .. } => {}
            }
        }
        let new = told.iter().map(|told| match told {
            step::Told::Line { line, .. } => line.length + AROUND,
            // What this server notices, whatever brought it about, has a record too.
            _ => NOTICED,
        });
        let (next, chain, begin_anew, new) = (known.next, known.chain, known.broken, new.sum());
        if let Err(wait) = self.budget.draw(&node, new) {
            metrics::counter!("landfast_server_rate_limited_total", "what" => "bytes of journals")
                .increment(1);
            tracing::debug!(%node, "a node has brought more of its journal than its part of the ledger");
            return Err(TakeError::TooMuch { wait });
        }
        let records: Vec<_> = told.into_iter().map(|told| from.record(told)).collect();
        metrics::counter!("landfast_server_journal_records_total").increment(records.len() as u64);
        let (ledger, name) = (self.ledger.clone(), node.clone());
        // The ledger writes what it was given, whether the node waits for it or not: so what is known of the node changes with it, before anybody
        // else asks. It holds its shard, so there is one for each.
        let taken = to_the_end(async move {
            ledger.append(records).await?;
            nodes.insert(name, known);
            Ok::<_, TakeError>(())
        })
        .await;
        if taken.is_err() {
            self.budget.give_back(&node, new);
        }
        taken?;
        self.save().await;
        Ok(Taken {
            next,
            chain,
            begin_anew,
        })
    }

    /// Now and then: it only saves reading at the next start.
    async fn save(&self) {
        {
            let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
            if saved.elapsed() < SAVE_EVERY {
                return;
            }
            *saved = Instant::now();
        }
        let Some((data, dir)) = self.place.clone() else {
            return;
        };
        // With all of them nothing is between the ledger and what is known of it.
        let (mut held, mut all) = (Vec::with_capacity(SHARDS), Nodes::new());
        for shard in &self.shards {
            let nodes = Arc::clone(shard).lock_owned().await;
            all.extend(nodes.iter().map(|(node, known)| (node.clone(), known.clone())));
            held.push(nodes);
        }
        let saved = tokio::task::spawn_blocking(move || {
            let saved = kept::save(&data, &dir, &all);
            // Here, and not where somebody may have hung up: what is taken meanwhile would be below the checkpoint that is noted down.
            drop(held);
            saved
        });
        let saved = saved.await;
        if let Ok(Err(error)) = saved {
            let error = error_chain(&error);
            tracing::warn!(
                error,
                "what the ledger has of journals cannot be noted down: the next start reads more of it"
            );
        }
    }
}

fn shard_of(hasher: &RandomState, node: &str) -> usize {
    // A remainder of a small number.
    usize::try_from(hasher.hash_one(node) % SHARDS as u64).unwrap_or(0)
}

const SHARDS: usize = 32;
/// Records in one batch.
const MOST: usize = 256;
const LONGEST_NAME: usize = 512;
const SAVE_EVERY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;

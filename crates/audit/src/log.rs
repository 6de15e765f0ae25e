//! The log: a batch is acknowledged when it is on the disk, and a checkpoint is signed of what is in tiles on the disk.
//!
//! Invariant: the order is records, tiles, checkpoint, and only then is anything removed. Whatever fails in between, what was acknowledged is found
//! by the next [`Log::open`], and no two checkpoints contradict each other.

mod disk;
mod error;
mod open;
mod tail;

use std::ops::Range;

pub use error::LogError;
pub use open::Recovered;

use crate::note::{CheckpointKey, Head};
use crate::record::Record;
use crate::tile::{self, WIDTH};
use crate::tree::Edge;
pub(crate) use disk::Disk;
use tail::{Pending, Tail};

/// A log that is open for more. Every call blocks on the disk.
#[derive(Debug)]
pub struct Log {
    disk: Disk,
    key: CheckpointKey,
    /// What the last checkpoint says.
    head: Head,
    /// The tree of the last checkpoint.
    edge: Edge,
    /// The records of its last bundle, when that is not full.
    bundle: Vec<Vec<u8>>,
    /// Acknowledged since. At most [`MOST_PENDING`] and a batch.
    pending: Vec<Pending>,
    tail: Tail,
}

/// What was acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The sequence numbers of the batch.
    pub records: Range<u64>,
    /// Its bytes.
    pub bytes: u64,
}

impl Log {
    /// Records in the log.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.head.size + self.pending.len() as u64
    }

    /// Records that the last checkpoint names.
    #[must_use]
    pub fn signed(&self) -> u64 {
        self.head.size
    }

    /// The records that no checkpoint names yet, in their order.
    pub fn unsigned(&self) -> impl Iterator<Item = &[u8]> {
        self.pending.iter().map(|pending| &*pending.record)
    }

    /// The name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.key.origin()
    }

    /// Adds a batch. When this returns it is on the disk.
    ///
    /// # Errors
    /// None of the batch is acknowledged. After a power cut some of it may be there all the same: a record of what did not happen is possible, the
    /// reverse is not.
    pub fn append(&mut self, batch: &[Record]) -> Result<Committed, LogError> {
        let first = self.size();
        if batch.is_empty() {
            return Ok(Committed {
                records: first..first,
                bytes: 0,
            });
        }
        if self.pending.len() >= MOST_PENDING {
            self.checkpoint()?;
        }
        let numbered = (first..).zip(batch);
        let numbered: Vec<_> = numbered
            .map(|(sequence, record)| Pending::new(first, record.encode(sequence)))
            .collect();
        self.tail.add(&mut self.disk, &self.pending, &numbered)?;
        let bytes = numbered.iter().map(|pending| pending.record.len() as u64).sum();
        self.pending.extend(numbered);
        Ok(Committed {
            records: first..self.size(),
            bytes,
        })
    }

    /// Puts what is acknowledged into tiles and signs a checkpoint of it; nothing when there is nothing new.
    ///
    /// # Errors
    /// The last checkpoint stays; what was acknowledged is as durable as before.
    pub fn checkpoint(&mut self) -> Result<(), LogError> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let (mut edge, mut bundle) = (self.edge.clone(), self.bundle.clone());
        let mut outgrown = Vec::new();
        for (sequence, pending) in (self.head.size..).zip(&self.pending) {
            bundle.push(pending.record.clone());
            for tile in edge.push(sequence, pending.hash) {
                let path = tile::hashes(tile.level, tile.index, WIDTH);
                self.disk.write(&path, &tile.hashes.concat())?;
                if self.has_partial(tile.level, tile.index) {
                    outgrown.push(tile::partials_of(&path));
                }
            }
            if bundle.len() as u64 == WIDTH {
                let path = tile::entries(sequence / WIDTH, WIDTH);
                self.disk.write(&path, &framed(&bundle))?;
                if self.has_partial(0, sequence / WIDTH) {
                    outgrown.push(tile::partials_of(&path));
                }
                bundle.clear();
            }
        }
        let head = Head {
            size: self.size(),
            root: edge.root(),
        };
        self.write_partials(head.size, &edge, &bundle)?;
        self.disk.flush()?;
        let signed = self.key.sign(&head);
        self.disk.write(CHECKPOINT, signed.as_bytes())?;
        // From here on somebody may have seen it: it is what the log is, also if its name does not reach the disk now.
        (self.head, self.edge, self.bundle) = (head, edge, bundle);
        self.pending.clear();
        self.tail = Tail::from(head.size);
        self.disk.flush()?;
        tail::remove_all(&self.disk)?;
        for partials in outgrown {
            self.disk.clear(&partials);
        }
        Ok(())
    }

    /// Whether the last checkpoint has this tile in part.
    fn has_partial(&self, level: usize, index: u64) -> bool {
        let hashes = self.edge.levels().get(level).map_or(0, Vec::len);
        let own = (0..=level).fold(self.head.size, |size, _| size / WIDTH);
        hashes > 0 && own == index
    }

    fn write_partials(&mut self, size: u64, edge: &Edge, bundle: &[Vec<u8>]) -> Result<(), LogError> {
        let mut index = size / WIDTH;
        for (level, hashes) in edge.levels().iter().enumerate() {
            if !hashes.is_empty() {
                let path = tile::hashes(level, index, hashes.len() as u64);
                self.disk.write(&path, &hashes.concat())?;
            }
            index /= WIDTH;
        }
        if !bundle.is_empty() {
            let path = tile::entries(size / WIDTH, bundle.len() as u64);
            self.disk.write(&path, &framed(bundle))?;
        }
        Ok(())
    }
}

/// Each record behind its length, two bytes, the higher first.
fn framed(records: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.iter().map(|record| record.len() + 2).sum());
    for record in records {
        // A record is at most 16 KiB.
        let length = u16::try_from(record.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(record);
    }
    out
}

/// The checkpoint of a log.
pub(crate) const CHECKPOINT: &str = "checkpoint";
/// So many records wait for a checkpoint at most.
const MOST_PENDING: usize = 4096;

#[cfg(test)]
pub(crate) mod tests;

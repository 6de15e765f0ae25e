//! A log that is begun, or found after whatever happened. Invariant: when this returns, everything that was found is in a durable checkpoint, and no
//! tail is left; or the disk takes nothing, and all of it is held and stays where it was found until it is written again with what comes next.

use landfast_store::Store;

use super::disk::Disk;
use super::tail::{self, Found, Tail};
use super::{CHECKPOINT, Log, LogError};
use crate::note::{CheckpointKey, Head};
use crate::tile::{self, WIDTH};
use crate::tree::{Edge, Hash, leaf};

/// What the opening of a log found behind its last checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Records that were acknowledged, or written whole.
    pub records: u64,
    /// Bytes of a batch that was being written, cut off.
    pub cut: u64,
    /// The log was read, and nothing can be written: what was found is in no checkpoint yet.
    pub held: bool,
}

impl Log {
    /// Begins a log in this directory. A key that is kept only when this has returned was never used for another one.
    ///
    /// # Errors
    /// There is a log with records, or the disk fails.
    pub fn begin(store: Store, key: CheckpointKey) -> Result<Self, LogError> {
        let mut disk = Disk::new(store);
        let exists = LogError::Exists { path: disk.path("") };
        let names = disk.root().list().map_err(|source| LogError::CannotRead {
            path: disk.path(""),
            source,
        })?;
        // A checkpoint of nothing, whose key was not kept, is what a beginning that was interrupted leaves.
        let is_of_nothing = |bytes: Vec<u8>| bytes.split(|byte| *byte == b'\n').nth(1) == Some(b"0");
        let is_used = match disk.read(CHECKPOINT, MAX_CHECKPOINT_BYTES)? {
            Some(bytes) => !is_of_nothing(bytes),
            None => false,
        };
        if is_used || names.iter().any(|name| name == "tile") || tail::is_any(&disk)? {
            return Err(exists);
        }
        let edge = Edge::default();
        let head = Head {
            size: 0,
            root: edge.root(),
        };
        disk.write(CHECKPOINT, key.sign(&head).as_bytes())?;
        disk.flush()?;
        Ok(Self {
            disk,
            key,
            head,
            edge,
            bundle: Vec::new(),
            pending: Vec::new(),
            tail: Tail::from(0),
        })
    }

    /// Opens the log of this key. One that can be read is open, also where its disk is full.
    ///
    /// # Errors
    /// There is none, it belongs to another key, it is not as it was written, or cannot be read.
    pub fn open(store: Store, key: CheckpointKey) -> Result<(Self, Recovered), LogError> {
        let mut disk = Disk::new(store);
        let checkpoint = disk.read(CHECKPOINT, MAX_CHECKPOINT_BYTES)?;
        let checkpoint = checkpoint.ok_or_else(|| LogError::Gone { path: disk.path("") })?;
        let foreign = || LogError::Foreign {
            path: disk.path(CHECKPOINT),
        };
        let head = key.open(&checkpoint).ok_or_else(foreign)?;
        let edge = read_edge(&mut disk, &head)?;
        let leaves = edge.levels().first().map_or(&[][..], Vec::as_slice);
        let bundle = read_bundle(&mut disk, &head, leaves)?;
        let Found { pending, cut } = tail::recover(&mut disk, head.size)?;
        let mut recovered = Recovered {
            records: pending.len() as u64,
            cut,
            held: false,
        };
        let tail = Tail::beside_others(head.size);
        let mut log = Self {
            disk,
            key,
            head,
            edge,
            bundle,
            pending,
            tail,
        };
        match log.settle() {
            Err(LogError::CannotWrite { .. }) => recovered.held = true,
            settled => settled?,
        }
        Ok((log, recovered))
    }

    fn settle(&mut self) -> Result<(), LogError> {
        // The names that were found may not be on the disk yet.
        self.disk.flush()?;
        self.checkpoint()?;
        tail::remove_all(&self.disk)?;
        self.tail = Tail::from(self.head.size);
        Ok(())
    }
}

/// The partial tiles, which have to add up to what was signed.
fn read_edge(disk: &mut Disk, head: &Head) -> Result<Edge, LogError> {
    let (mut levels, mut rest) = (Vec::new(), head.size);
    while rest > 0 {
        let width = rest % WIDTH;
        let mut hashes: Vec<Hash> = Vec::new();
        if width > 0 {
            let path = tile::hashes(levels.len(), rest / WIDTH, width);
            let bytes = disk.read(&path, width * 32)?.unwrap_or_default();
            let (chunks, odd) = bytes.as_chunks::<32>();
            if chunks.len() as u64 != width || !odd.is_empty() {
                return Err(damaged(disk, &path, head));
            }
            hashes = chunks.to_vec();
        }
        levels.push(hashes);
        rest /= WIDTH;
    }
    let edge = Edge::new(levels);
    match edge.root() == head.root {
        true => Ok(edge),
        false => Err(damaged(disk, CHECKPOINT, head)),
    }
}

fn read_bundle(disk: &mut Disk, head: &Head, leaves: &[Hash]) -> Result<Vec<Vec<u8>>, LogError> {
    let width = head.size % WIDTH;
    if width == 0 {
        return Ok(Vec::new());
    }
    let path = tile::entries(head.size / WIDTH, width);
    let bytes = disk
        .read(&path, width * (u64::from(u16::MAX) + 2))?
        .unwrap_or_default();
    let (mut rest, mut records) = (&bytes[..], Vec::new());
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((record, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else {
            break;
        };
        records.push(record.to_vec());
        rest = after;
    }
    let is_whole = rest.is_empty()
        && records
            .iter()
            .map(|record| leaf(record))
            .eq(leaves.iter().copied());
    match is_whole {
        true => Ok(records),
        false => Err(damaged(disk, &path, head)),
    }
}

fn damaged(disk: &Disk, name: &str, head: &Head) -> LogError {
    LogError::Damaged {
        path: disk.path(name),
        record: head.size - head.size % WIDTH,
    }
}

/// Ours is far below.
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;

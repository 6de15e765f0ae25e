//! The records since the last checkpoint, in one file that grows: `tail.N`, from record N on, a line each: the first record of its batch, a check
//! over that and the record, the record.
//!
//! Invariant: a batch is begun only when the one before it is on the disk. So a power cut leaves damage in the last batch alone, and damage before
//! that is somebody's doing.

use std::fs::File;
use std::io;

use super::LogError;
use super::disk::Disk;
use crate::record::hex;
use crate::tree::{Hash, leaf};

/// A record that is acknowledged, and in no checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pending {
    pub(super) batch: u64,
    pub(super) record: Vec<u8>,
    pub(super) hash: Hash,
}

impl Pending {
    pub(super) fn new(batch: u64, record: Vec<u8>) -> Self {
        let hash = leaf(&record);
        Self { batch, record, hash }
    }

    fn line(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{} {} ", self.batch, self.check()).as_bytes());
        out.extend_from_slice(&self.record);
        out.push(b'\n');
    }

    fn parse(line: &[u8]) -> Option<Self> {
        let mut parts = line.splitn(3, |byte| *byte == b' ');
        let batch = std::str::from_utf8(parts.next()?).ok()?.parse().ok()?;
        let (begins, record) = (parts.next()?, parts.next()?);
        let found = Self::new(batch, record.to_vec());
        (found.check().as_bytes() == begins).then_some(found)
    }

    /// The beginning of the leaf hash, with the number of the batch in it.
    fn check(&self) -> String {
        let mut begins = [0; 8];
        begins.copy_from_slice(&self.hash[..8]);
        hex(&(u64::from_be_bytes(begins) ^ self.batch).to_be_bytes())
    }
}

/// The file.
#[derive(Debug)]
pub(super) struct Tail {
    name: String,
    /// `None`: it is written anew, whole, with the next batch: there is none, or the disk has failed and nobody knows what of it is there.
    file: Option<File>,
    /// Files of before may be there, with what is held in memory as well. A later one begins at what was acknowledged then, so it would take away what is
    /// added to this one: it goes before anything is acknowledged.
    beside: bool,
}

impl Tail {
    /// One that begins with this record.
    pub(super) fn from(first: u64) -> Self {
        Self {
            name: format!("{PREFIX}{first}"),
            file: None,
            beside: false,
        }
    }

    /// The same, where a start could not clear what it found.
    pub(super) fn beside_others(first: u64) -> Self {
        Self {
            beside: true,
            ..Self::from(first)
        }
    }

    /// The batch is on the disk when this returns. `before` is what is there already.
    pub(super) fn add(
        &mut self,
        disk: &mut Disk,
        before: &[Pending],
        batch: &[Pending],
    ) -> Result<(), LogError> {
        let mut lines = Vec::new();
        if let Some(mut file) = self.file.take() {
            batch.iter().for_each(|pending| pending.line(&mut lines));
            let files = disk.root();
            let added = files.write(&mut file, &lines).and_then(|()| files.sync(&file));
            // What a sync that failed has left behind is not known, also if the next one goes well.
            added.map_err(|source| disk.cannot_write(&self.name, source))?;
            self.file = Some(file);
            return Ok(());
        }
        let all = before.iter().chain(batch);
        all.for_each(|pending| pending.line(&mut lines));
        disk.write(&self.name, &lines)?;
        disk.flush()?;
        if self.beside {
            remove(disk, |name| name != self.name)?;
            self.beside = false;
        }
        let opened = disk.root().append(&self.name);
        // The batch is there; should the opening fail, the next one writes it all again.
        self.file = opened.ok().map(|growing| growing.file);
        Ok(())
    }
}

/// What was found behind a checkpoint.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) pending: Vec<Pending>,
    /// Bytes of a batch that was never acknowledged.
    pub(super) cut: u64,
}

/// The records from `first` on, of all files there are.
pub(super) fn recover(disk: &mut Disk, first: u64) -> Result<Found, LogError> {
    let mut found = Found::default();
    for (begins, name) in names(disk)? {
        let bytes = disk.read(&name, MAX_TAIL_BYTES)?.unwrap_or_default();
        found.cut = read(disk, (begins, &name), &bytes, first, &mut found.pending)?;
    }
    Ok(found)
}

/// Gives how many bytes are cut off.
fn read(
    disk: &Disk,
    (begins, name): (u64, &str),
    bytes: &[u8],
    first: u64,
    pending: &mut Vec<Pending>,
) -> Result<u64, LogError> {
    // A file begins at what was acknowledged then: what an earlier one has beyond that was never acknowledged, and its numbers were given again.
    if let Some(before) = begins.checked_sub(first) {
        if before > pending.len() as u64 {
            return Err(damaged(disk, name, first + pending.len() as u64));
        }
        pending.truncate(usize::try_from(before).unwrap_or(usize::MAX));
    }
    let (mut at, mut sequence) = (0, begins);
    while let Some(length) = bytes[at..].iter().position(|byte| *byte == b'\n') {
        let Some(line) = Pending::parse(&bytes[at..at + length]) else {
            break;
        };
        let expected = first + pending.len() as u64;
        if line.batch > sequence {
            return Err(damaged(disk, name, expected));
        }
        if sequence == expected {
            pending.push(line);
        }
        (at, sequence) = (at + length + 1, sequence + 1);
    }
    // A later batch was begun only after this one was on the disk.
    let later = |line: &[u8]| Pending::parse(line).is_some_and(|line| line.batch > sequence);
    let has_later = bytes[at..].split(|byte| *byte == b'\n').any(later);
    match has_later && sequence >= first {
        true => Err(damaged(disk, name, sequence)),
        false => Ok((bytes.len() - at) as u64),
    }
}

/// Removes them all, durably: what they held is in tiles.
pub(super) fn remove_all(disk: &Disk) -> Result<(), LogError> {
    remove(disk, |_| true)
}

fn remove(disk: &Disk, which: impl Fn(&str) -> bool) -> Result<(), LogError> {
    let files = disk.root();
    let names = names(disk)?.into_iter().map(|(_, name)| name);
    for name in names.filter(|name| which(name)) {
        match files.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(disk.cannot_write(&name, error));
            }
            _ => {}
        }
    }
    files.sync_dir().map_err(|source| disk.cannot_write("", source))
}

/// Whether there is any.
pub(super) fn is_any(disk: &Disk) -> Result<bool, LogError> {
    Ok(!names(disk)?.is_empty())
}

fn names(disk: &Disk) -> Result<Vec<(u64, String)>, LogError> {
    let listed = disk.root().list().map_err(|source| LogError::CannotRead {
        path: disk.path(""),
        source,
    })?;
    let begins = |name: String| Some((name.strip_prefix(PREFIX)?.parse().ok()?, name));
    let mut names: Vec<_> = listed.into_iter().filter_map(begins).collect();
    names.sort_unstable();
    Ok(names)
}

fn damaged(disk: &Disk, name: &str, record: u64) -> LogError {
    LogError::Damaged {
        path: disk.path(name),
        record,
    }
}

const PREFIX: &str = "tail.";
/// A tail is put into tiles long before.
const MAX_TAIL_BYTES: u64 = 512 * 1024 * 1024;

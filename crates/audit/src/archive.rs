//! A log is copied to where it stays, and what was copied may then be taken away from where it is written.
//!
//! Invariant: an archive is a whole log by itself, from its first record to its checkpoint; and nothing is taken away that an archive does not have,
//! verified just now, behind a checkpoint of its own.

mod error;
mod prune;

use std::io;
use std::path::Path;

use landfast_store::Store;

pub use error::ArchiveError;
pub use prune::{Pruned, age, prune};

use crate::log::{CHECKPOINT, Disk};
use crate::tile::{self, WIDTH};
use crate::verify::{Report, SignedHead, Source, VerifierKey, verify};

/// What was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Archived {
    /// Records in the archive now.
    pub records: u64,
    /// Files that were copied this time.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// Copies what the archive in this directory does not have yet, verifies all of the archive, and only then gives it the checkpoint. Beside a server that writes.
///
/// # Errors
/// The archive has the checkpoint that it had before.
pub fn archive(ledger: &dyn Source, to: &Path, key: &VerifierKey) -> Result<Archived, ArchiveError> {
    // A tile that was not full may grow while it is copied, and its file is another then.
    let mut tries = 0;
    let to = Store::open(to).map_err(|source| failed(source.into()))?;
    let mut disk = Disk::new(to);
    loop {
        tries += 1;
        match once(ledger, &mut disk, key) {
            Err(ArchiveError::Missing { .. }) if tries < 3 => {}
            done => return done,
        }
    }
}

fn once(ledger: &dyn Source, disk: &mut Disk, key: &VerifierKey) -> Result<Archived, ArchiveError> {
    let (note, head) = believed(ledger, key)?;
    let before = disk.read(CHECKPOINT, MAX_CHECKPOINT_BYTES).map_err(failed)?;
    let mut done = Archived {
        records: head.size,
        files: 0,
        bytes: 0,
    };
    let (mut level, mut rest) = (None, head.size);
    // The bundles, and then each level: of each the same number of files as hashes in the level above.
    loop {
        for index in 0..rest.div_ceil(WIDTH) {
            let width = (rest - index * WIDTH).min(WIDTH);
            copy(ledger, disk, (level, index, width), &mut done)?;
        }
        match level {
            None => level = Some(0),
            Some(_) if rest < WIDTH => break,
            Some(at) => {
                level = Some(at + 1);
                rest /= WIDTH;
            }
        }
    }
    disk.flush().map_err(failed)?;
    let made = Made { disk, note: &note };
    let kept: Vec<_> = before
        .iter()
        .map(|note| ("the checkpoint of the archive".to_owned(), note.clone()))
        .collect();
    is_good(verify(&made, key, &kept))?;
    disk.write(CHECKPOINT, &note).map_err(failed)?;
    disk.flush().map_err(failed)?;
    Ok(done)
}

fn copy(
    ledger: &dyn Source,
    disk: &mut Disk,
    (level, index, width): (Option<usize>, u64, u64),
    done: &mut Archived,
) -> Result<(), ArchiveError> {
    let name = |width| match level {
        None => tile::entries(index, width),
        Some(level) => tile::hashes(level, index, width),
    };
    let (full, partial) = (name(WIDTH), name(width));
    if disk.path(&full).exists() {
        return Ok(());
    }
    let read = |name: &str| {
        let read = ledger.read(name, MAX_FILE_BYTES);
        read.map_err(|source| ArchiveError::Read {
            what: ledger.describe(name),
            source,
        })
    };
    let (name, bytes) = match read(&partial)? {
        Some(bytes) => (partial, Some(bytes)),
        // It has filled meanwhile.
        None => (full.clone(), read(&full)?),
    };
    let bytes = bytes.ok_or_else(|| ArchiveError::Missing {
        what: ledger.describe(&name),
    })?;
    disk.write(&name, &bytes).map_err(failed)?;
    done.files += 1;
    done.bytes += bytes.len() as u64;
    Ok(())
}

/// The checkpoint of a log, and what it says.
fn believed(source: &dyn Source, key: &VerifierKey) -> Result<(Vec<u8>, SignedHead), ArchiveError> {
    let what = source.describe(CHECKPOINT);
    let read = source.read(CHECKPOINT, MAX_CHECKPOINT_BYTES);
    let read = read.map_err(|source| ArchiveError::Read {
        what: what.clone(),
        source,
    })?;
    let note = read.ok_or_else(|| ArchiveError::Missing { what: what.clone() })?;
    let head = key.checkpoint(&note);
    let head = head.map_err(|source| ArchiveError::Checkpoint { what, source })?;
    Ok((note, head))
}

fn is_good(report: Report) -> Result<(), ArchiveError> {
    match report.findings.into_iter().next() {
        None if report.pruned == 0 => Ok(()),
        None => Err(ArchiveError::Short {
            records: report.pruned,
        }),
        Some(first) => Err(ArchiveError::NotGood { what: first.what }),
    }
}

fn failed(source: crate::LogError) -> ArchiveError {
    ArchiveError::Write { source }
}

/// The archive as it will be.
struct Made<'a> {
    disk: &'a Disk,
    note: &'a [u8],
}

impl Source for Made<'_> {
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match path {
            CHECKPOINT => Ok(Some(self.note.to_vec())),
            _ => crate::verify::DirSource::new(&self.disk.path("")).read(path, limit),
        }
    }

    fn describe(&self, path: &str) -> String {
        self.disk.path(path).display().to_string()
    }
}

const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;
/// 256 records of the greatest length.
const MAX_FILE_BYTES: u64 = 256 * (65_535 + 2);

#[cfg(test)]
mod tests;

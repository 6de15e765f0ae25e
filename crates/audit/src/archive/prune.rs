//! Taking away what an archive has. Invariant: the ledger says from where on it is whole before the first file goes, and the tiles above level 0 stay,
//! so that what is left adds up to its checkpoint.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use landfast_store::{DirFiles, Files as _};
use serde::Deserialize;

use super::{ArchiveError, believed, is_good};
use crate::tile::{self, WIDTH};
use crate::verify::{DirSource, LayeredSource, Source, VerifierKey, read, verify};

/// What was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// The ledger has its records from this one on.
    pub before: u64,
    /// Files that went this time.
    pub files: u64,
}

/// Takes the records before this one from the ledger, as far as they fill bundles; beside a server that writes, too. Both are verified first: the
/// archive by itself, and the ledger as the continuation of the archive's checkpoint.
///
/// # Errors
/// As [`ArchiveError`] says; it may be asked again.
pub fn prune(ledger: &Path, archive: &Path, key: &VerifierKey, before: u64) -> Result<Pruned, ArchiveError> {
    let of_archive = DirSource::new(archive);
    let (note, archived) = believed(&of_archive, key)?;
    let before = before / WIDTH * WIDTH;
    if before > archived.size {
        let archived = archived.size;
        return Err(ArchiveError::Behind { archived, before });
    }
    is_good(verify(&of_archive, key, &[]))?;
    let both = LayeredSource::new(ledger, &[PathBuf::from(archive)]);
    let kept = [("the checkpoint of the archive".to_owned(), note)];
    is_good(verify(&both, key, &kept))?;
    let cannot = |what: &Path| {
        let what = what.display().to_string();
        move |source| ArchiveError::Remove { what, source }
    };
    let said = ledger.join(PRUNED);
    // What went before stays gone.
    let before = before.max(said_before(&DirSource::new(ledger)));
    say(ledger, before).map_err(cannot(&said))?;
    let mut files = 0;
    for index in 0..before / WIDTH {
        for name in [tile::entries(index, WIDTH), tile::hashes(0, index, WIDTH)] {
            let path = ledger.join(name);
            match std::fs::remove_file(&path) {
                Ok(()) => files += 1,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(cannot(&path)(error)),
            }
        }
    }
    Ok(Pruned { before, files })
}

/// The first record that is not older than this moment, which is written as records write it; those without a time are as old as their neighbours.
///
/// # Errors
/// The records cannot be read.
pub fn age(source: &dyn Source, since: &str) -> Result<u64, crate::verify::ReadError> {
    let mut found = None;
    let size = read(source, 0, &mut |sequence, record| {
        let time = serde_json::from_slice::<Timed>(record)
            .ok()
            .and_then(|timed| timed.time);
        if time.is_some_and(|time| time.as_str() >= since) {
            found = Some(sequence);
        }
        found.is_none()
    })?;
    Ok(found.unwrap_or(size))
}

#[derive(Deserialize)]
struct Timed {
    time: Option<String>,
}

fn said_before(source: &DirSource) -> u64 {
    let text = source.read(PRUNED, 64).ok().flatten().unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    text.trim().parse().unwrap_or(0)
}

fn say(ledger: &Path, before: u64) -> io::Result<()> {
    let files = DirFiles::new(File::open(ledger)?.into());
    let temp = format!(".{PRUNED}.tmp");
    match files.remove(&temp) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut made = files.create_temp(&temp)?;
    files.write(&mut made, format!("{before}\n").as_bytes())?;
    files.sync(&made)?;
    files.rename(&temp, PRUNED)?;
    files.sync_dir()
}

/// The first record that the ledger has.
const PRUNED: &str = "pruned";

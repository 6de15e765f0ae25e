//! Taking away what an archive has. Invariant: the ledger says from where on it is whole before the first file goes; of the records nothing but their
//! bundles goes, so that what is left adds up to its checkpoint and has all its proofs; and nothing goes that is the archive's own file.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt as _;
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

/// Takes the records before this one from the ledger, as far as they fill bundles and are not its last ones; beside a server that writes, too. Both are
/// verified first: the archive by itself, and the ledger as the continuation of the archive's checkpoint.
///
/// # Errors
/// As [`ArchiveError`] says; it may be asked again.
pub fn prune(ledger: &Path, archive: &Path, key: &VerifierKey, before: u64) -> Result<Pruned, ArchiveError> {
    is_another(ledger, archive)?;
    let of_archive = DirSource::new(archive);
    let (note, archived) = believed(&of_archive, key)?;
    let (_, own) = believed(&DirSource::new(ledger), key)?;
    // One of which everything is gone would say nothing of itself.
    let last = own.size.saturating_sub(1) / WIDTH * WIDTH;
    // What went before stays gone; a number that no log comes to was not written here.
    let said = Some(said_before(&DirSource::new(ledger))).filter(|said| *said <= last);
    let before = (before / WIDTH * WIDTH).min(last).max(said.unwrap_or(0));
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
    for index in 0..before / WIDTH {
        let name = tile::entries(index, WIDTH);
        is_other_file(&ledger.join(&name), &archive.join(&name))?;
    }
    let said = ledger.join(PRUNED);
    say(ledger, before).map_err(cannot(&said))?;
    let mut files = 0;
    for index in 0..before / WIDTH {
        let path = ledger.join(tile::entries(index, WIDTH));
        match std::fs::remove_file(&path) {
            Ok(()) => files += 1,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(cannot(&path)(error)),
        }
    }
    Ok(Pruned { before, files })
}

/// By another name, a link or a mount the archive may be the ledger, or have its files.
fn is_another(ledger: &Path, archive: &Path) -> Result<(), ArchiveError> {
    for name in ["", "tile", "tile/entries"] {
        let (own, other) = (ledger.join(name), archive.join(name));
        if let (Some(own_id), Some(other_id)) = (identity(&own), identity(&other))
            && own_id.0 == other_id.0
        {
            let what = own.display().to_string();
            return Err(ArchiveError::Itself { what });
        }
    }
    Ok(())
}

/// Whether there is a copy when this one goes: a second name of the same file is one, the same name by another way is none.
fn is_other_file(own: &Path, other: &Path) -> Result<(), ArchiveError> {
    match (identity(own), identity(other)) {
        (Some((own_id, names)), Some((other_id, _))) if own_id == other_id && names < 2 => {
            let what = own.display().to_string();
            Err(ArchiveError::Itself { what })
        }
        _ => Ok(()),
    }
}

/// Which file that is, and how many names it has.
fn identity(path: &Path) -> Option<((u64, u64), u64)> {
    let found = std::fs::metadata(path).ok()?;
    Some(((found.dev(), found.ino()), found.nlink()))
}

/// The first record that is not older than this moment, which is written as records write it; those without a time are as old as their neighbours. Of what
/// nodes have said it counts when it came: one whose clock runs ahead must not keep all that follows.
///
/// # Errors
/// The records cannot be read.
pub fn age(source: &dyn Source, since: &str) -> Result<u64, crate::verify::ReadError> {
    let mut found = None;
    let size = read(source, 0, &mut |sequence, record| {
        let timed = serde_json::from_slice::<Timed>(record).ok();
        let time = timed.and_then(Timed::here);
        if time.is_some_and(|time| time.as_str() >= since) {
            found = Some(sequence);
        }
        found.is_none()
    })?;
    Ok(found.unwrap_or(size))
}

#[derive(Deserialize)]
struct Timed {
    #[serde(rename = "type", default)]
    kind: String,
    time: Option<String>,
    #[serde(default)]
    detail: Came,
}

#[derive(Deserialize, Default)]
struct Came {
    received: Option<String>,
    /// Of a line of a node's journal: its time is the node's.
    chain: Option<String>,
}

impl Timed {
    /// By the clock of this log's server.
    fn here(self) -> Option<String> {
        match self.kind.starts_with("agent.") && self.detail.chain.is_some() {
            true => self.detail.received,
            false => self.time,
        }
    }
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

//! Puts a new database and new keys in the place of the old ones, which stay in a directory beside them.
//!
//! Invariant: whenever this is interrupted, the data directory is the old one, or becomes the new one when it is next opened. What decides is one
//! file, the marker: before it is durable nothing is moved, and from then on everything will be.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use landfast_identity::UnixTime;
use landfast_store::{DirFiles, Files};

use super::error::BackupError;
use crate::core::{DATABASE, KEYS};

/// A data directory whose lock the caller holds.
#[derive(Debug)]
pub(super) struct Swap {
    dir: PathBuf,
    files: Box<dyn Files>,
}

/// Ends what an interrupted restoration has begun. The caller holds the lock.
pub(crate) fn recover(dir: &Path) -> Result<(), BackupError> {
    let swap = Swap::open(dir)?;
    if let Some(aside) = swap.finish_aside()? {
        tracing::warn!(old_data = %aside.display(), "a migrate had been interrupted: it is complete now");
    }
    if let Some(aside) = swap.finish()? {
        tracing::warn!(old_data = %aside.display(), "a restore had been interrupted: it is complete now");
    } else if swap.exists(STAGING) {
        tracing::warn!(
            "a restore had been interrupted before it replaced anything: what it had prepared is removed"
        );
        swap.discard()?;
    }
    Ok(())
}

impl Swap {
    pub(super) fn open(dir: &Path) -> Result<Self, BackupError> {
        Self::open_with(dir, |files| files)
    }

    /// Like [`Swap::open`], but works through `wrap(files)`; for tests that break the disk.
    pub(super) fn open_with<F: Files + 'static>(
        dir: &Path,
        wrap: impl FnOnce(DirFiles) -> F,
    ) -> Result<Self, BackupError> {
        let opened = File::open(dir).map_err(|source| BackupError::Read {
            path: dir.into(),
            source,
        })?;
        Ok(Self {
            dir: dir.into(),
            files: Box::new(wrap(DirFiles::new(opened.into()))),
        })
    }

    /// An empty directory for what is new.
    pub(super) fn prepare(&self) -> Result<PathBuf, BackupError> {
        use std::os::unix::fs::DirBuilderExt as _;
        self.discard()?;
        let staging = self.dir.join(STAGING);
        let made = fs::DirBuilder::new().mode(0o700).create(&staging);
        self.tried("make a directory", made)?;
        Ok(staging)
    }

    /// Removes what was prepared.
    pub(super) fn discard(&self) -> Result<(), BackupError> {
        match fs::remove_dir_all(self.dir.join(STAGING)) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                self.tried("remove what was prepared", Err(error))
            }
            _ => Ok(()),
        }
    }

    /// Replaces; returns where the old data is, if there was any.
    pub(super) fn commit(&self, now: UnixTime) -> Result<Option<PathBuf>, BackupError> {
        let staged = [
            STAGING.to_owned(),
            format!("{STAGING}/{KEYS}"),
            format!("{STAGING}/{DATABASE}"),
        ];
        for name in &staged {
            self.sync(name)?;
        }
        let aside = self.make_aside(ASIDE, now)?;
        self.tried("write", self.files.sync_dir())?;
        self.tried("write", self.mark(MARKER, &aside))?;
        self.finish()?;
        let aside = self.dir.join(aside);
        // It goes only when nothing is in it.
        Ok(fs::remove_dir(&aside).is_err().then_some(aside))
    }

    /// Moves whatever the marker says is to be moved; returns where the old data is, if there is a marker.
    pub(super) fn finish(&self) -> Result<Option<PathBuf>, BackupError> {
        let Some(aside) = self.marked(MARKER, ASIDE)? else {
            return Ok(None);
        };
        for (name, with) in [(DATABASE, &LOGS[..]), (KEYS, &[])] {
            let new = format!("{STAGING}/{name}");
            // Else it has its place already.
            if self.exists(&new) {
                for old in [&[name], with].concat() {
                    if self.exists(old) {
                        self.tried("move", self.files.rename(old, &format!("{aside}/{old}")))?;
                    }
                }
                self.sync(&aside)?;
                self.tried("move", self.files.sync_dir())?;
                self.tried("move", self.files.rename(&new, name))?;
                self.sync(STAGING)?;
                self.tried("move", self.files.sync_dir())?;
            }
        }
        self.discard()?;
        self.tried("remove the marker", self.files.remove(MARKER))?;
        self.tried("remove the marker", self.files.sync_dir())?;
        Ok(Some(self.dir.join(aside)))
    }

    /// The commit: whoever opens the directory from now on moves the new data into its place first.
    fn mark(&self, marker: &str, aside: &str) -> io::Result<()> {
        let temp = format!(".{marker}.tmp");
        let mut file = self.files.create_temp(&temp)?;
        self.files.write(&mut file, format!("{aside}\n").as_bytes())?;
        self.files.sync(&file)?;
        self.files.rename(&temp, marker)?;
        self.files.sync_dir()
    }

    fn make_aside(&self, stem: &str, now: UnixTime) -> Result<String, BackupError> {
        use std::os::unix::fs::DirBuilderExt as _;
        let stem = format!("{stem}{}", now.to_string().replace(':', ""));
        let mut name = stem.clone();
        for number in 2_u32.. {
            match fs::DirBuilder::new().mode(0o700).create(self.dir.join(&name)) {
                Err(error) if error.kind() == ErrorKind::AlreadyExists => name = format!("{stem}-{number}"),
                made => return self.tried("make a directory", made).map(|()| name),
            }
        }
        Ok(name)
    }

    /// Puts the database out of the way; returns where it is.
    pub(super) fn put_aside(&self, now: UnixTime) -> Result<PathBuf, BackupError> {
        let aside = self.make_aside(MIGRATED, now)?;
        self.tried("write the marker", self.mark(MOVING, &aside))?;
        self.finish_aside()?;
        Ok(self.dir.join(aside))
    }

    /// Moves the database away when the marker says so; returns where it is, if there is a marker.
    pub(super) fn finish_aside(&self) -> Result<Option<PathBuf>, BackupError> {
        let Some(aside) = self.marked(MOVING, MIGRATED)? else {
            return Ok(None);
        };
        for name in [&[DATABASE], &LOGS[..]].concat() {
            if self.exists(name) {
                self.tried("move", self.files.rename(name, &format!("{aside}/{name}")))?;
            }
        }
        self.sync(&aside)?;
        self.tried("move", self.files.sync_dir())?;
        self.tried("remove the marker", self.files.remove(MOVING))?;
        self.tried("remove the marker", self.files.sync_dir())?;
        Ok(Some(self.dir.join(aside)))
    }

    /// Where an earlier run has put the database, the last one when there were several.
    pub(super) fn moved(&self) -> Result<Option<PathBuf>, BackupError> {
        let names = self.tried("read", self.files.list())?;
        let moved = names.into_iter().filter(|name| name.starts_with(MIGRATED)).max();
        Ok(moved.map(|name| self.dir.join(name)))
    }

    /// Where what is replaced goes, by this marker.
    fn marked(&self, marker: &str, stem: &str) -> Result<Option<String>, BackupError> {
        let Some(found) = self.tried("read", self.files.read(marker, 256))? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&found.bytes);
        let aside = text.trim_end();
        if !aside.starts_with(stem) || aside.contains('/') {
            let source = io::Error::new(ErrorKind::InvalidData, format!("{marker} is none of ours"));
            return self.tried("go on", Err(source));
        }
        Ok(Some(aside.to_owned()))
    }

    /// What stands in this file or directory reaches the disk.
    fn sync(&self, name: &str) -> Result<(), BackupError> {
        let synced = File::open(self.dir.join(name)).and_then(|file| self.files.sync(&file));
        self.tried("write", synced)
    }

    fn exists(&self, name: &str) -> bool {
        self.dir.join(name).symlink_metadata().is_ok()
    }

    fn tried<T>(&self, what: &'static str, outcome: io::Result<T>) -> Result<T, BackupError> {
        outcome.map_err(|source| BackupError::Replace {
            what,
            path: self.dir.clone(),
            source,
        })
    }
}

/// What is to come into its place.
const STAGING: &str = "restore.new";
const MARKER: &str = "restore-pending";
const ASIDE: &str = "before-restore-";
/// Orders that the database goes away, which another has taken over.
const MOVING: &str = "migrate-pending";
const MIGRATED: &str = "before-migrate-";
/// What belongs to the database file.
const LOGS: [&str; 2] = ["landfast.db-wal", "landfast.db-shm"];

#[cfg(test)]
pub(super) mod tests;

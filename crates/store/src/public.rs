//! One file that others read: no secret, in a directory that need not be ours alone (of a web server, on a USB stick).
//!
//! Invariant: whoever reads it sees the old content whole or the new one whole, whatever fails in between.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::place::{cannot, place};
use crate::{DirFiles, Files, MAX_FILE_BYTES, StoreError};

/// See the module. Every call blocks on the disk.
#[derive(Debug)]
pub struct PublicFile {
    path: PathBuf,
    name: String,
    files: Arc<dyn Files>,
    temps: AtomicU64,
}

impl PublicFile {
    /// Opens the directory of `path`, which must be there, and removes what an interrupted write left in it. The file may be missing.
    ///
    /// # Errors
    /// The directory cannot be used, or the path names no file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::open_with(path, |files| files)
    }

    /// Like [`PublicFile::open`], but reads and writes through `wrap(files)`; for tests that break the disk.
    ///
    /// # Errors
    /// As [`PublicFile::open`].
    pub fn open_with<F: Files + 'static>(
        path: &Path,
        wrap: impl FnOnce(DirFiles) -> F,
    ) -> Result<Self, StoreError> {
        let (files, name) = place(path)?;
        let file = Self {
            path: path.to_owned(),
            name,
            files: Arc::new(wrap(files)),
            temps: AtomicU64::new(0),
        };
        file.clean().map_err(cannot(path))?;
        Ok(file)
    }

    /// What is in it; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, is a link or no regular file, or is larger than [`MAX_FILE_BYTES`].
    pub fn read(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let path = self.path.clone();
        match self.files.read(&self.name, MAX_FILE_BYTES) {
            Ok(None) => Ok(None),
            Ok(Some(found)) if !found.regular => Err(StoreError::NotAFile { path }),
            Ok(Some(found)) if found.bytes.len() as u64 > MAX_FILE_BYTES => Err(StoreError::TooLarge {
                path,
                limit: MAX_FILE_BYTES,
            }),
            Ok(Some(found)) => Ok(Some(found.bytes.to_vec())),
            Err(source) => Err(StoreError::CannotRead { path, source }),
        }
    }

    /// Puts these bytes in its place, durably, for all to read (mode `0644`, where the file system has modes).
    ///
    /// # Errors
    /// As [`crate::Store::replace`].
    pub fn replace(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let number = self.temps.fetch_add(1, Ordering::Relaxed);
        let temp = format!("{}{}.{number}{TEMP}", self.temp_prefix(), std::process::id());
        let written = self
            .write_temp(&temp, bytes)
            .and_then(|()| self.files.rename(&temp, &self.name));
        if let Err(source) = written {
            // Best effort: what cannot be removed now is removed at the next opening.
            let _cleaned_later = self.files.remove(&temp);
            let path = self.path.clone();
            return Err(StoreError::CannotWrite { path, source });
        }
        self.files.sync_dir().map_err(|source| StoreError::NotDurable {
            path: self.path.clone(),
            source,
        })
    }

    fn write_temp(&self, temp: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.files.create_temp(temp)?;
        self.files.write(&mut file, bytes)?;
        match file.set_permissions(Permissions::from_mode(MODE)) {
            // A file system without modes gives it those of its mount.
            Err(error) if error.kind() != io::ErrorKind::PermissionDenied => return Err(error),
            _ => {}
        }
        self.files.sync(&file)
    }

    /// Temporary files of processes that are no more; others may be writing this moment.
    fn clean(&self) -> io::Result<()> {
        let prefix = self.temp_prefix();
        for name in self.files.list()? {
            let number = name
                .strip_prefix(&prefix)
                .and_then(|rest| rest.strip_suffix(TEMP));
            let pid = number.and_then(|number| number.split_once('.')?.0.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
                self.files.remove(&name)?;
            }
        }
        Ok(())
    }

    fn temp_prefix(&self) -> String {
        format!(".{}.", self.name)
    }
}

const TEMP: &str = ".tmp";
const MODE: u32 = 0o644;

#[cfg(test)]
mod tests;

//! One new file, written piece by piece, that only its owner can read: an archive too large to be held in memory, in a directory that need not
//! be ours alone (on a USB stick).
//!
//! Invariant: it has its name when it is whole and on the disk, and not before; what has the name already is left alone.

use std::fs::File;
use std::io::{self, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::place::place;
use crate::{DirFiles, Files, StoreError};

/// See the module. Every call blocks on the disk.
#[derive(Debug)]
pub struct FreshFile {
    path: PathBuf,
    name: String,
    temp: String,
    file: File,
    files: Box<dyn Files>,
    committed: bool,
}

impl FreshFile {
    /// Begins it. Its directory must be there.
    ///
    /// # Errors
    /// The name is taken or none, or the directory cannot be written.
    pub fn begin(path: &Path) -> Result<Self, StoreError> {
        Self::begin_with(path, |files| files)
    }

    /// Like [`FreshFile::begin`], but writes through `wrap(files)`; for tests that break the disk.
    ///
    /// # Errors
    /// As [`FreshFile::begin`].
    pub fn begin_with<F: Files + 'static>(
        path: &Path,
        wrap: impl FnOnce(DirFiles) -> F,
    ) -> Result<Self, StoreError> {
        let (files, name) = place(path)?;
        let files = wrap(files);
        refuse_taken(&files, path, &name)?;
        let count = BEGUN.fetch_add(1, Ordering::Relaxed);
        let temp = format!(".{name}.{}-{count}.tmp", std::process::id());
        let made = match files.create_temp(&temp) {
            // Left by a process of our number, which is no more.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                files.remove(&temp).and_then(|()| files.create_temp(&temp))
            }
            made => made,
        };
        Ok(Self {
            file: made.map_err(|source| StoreError::CannotWrite {
                path: path.to_owned(),
                source,
            })?,
            path: path.to_owned(),
            name: name.to_owned(),
            temp,
            files: Box::new(files),
            committed: false,
        })
    }

    /// Adds these bytes.
    ///
    /// # Errors
    /// The disk refuses; nothing has the name.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self.files.write(&mut self.file, bytes);
        written.map_err(|source| self.cannot(source))
    }

    /// Puts these bytes over those that were written at this place; the next are added at the end.
    ///
    /// # Errors
    /// As [`FreshFile::write`].
    pub fn overwrite(&mut self, place: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let written = self
            .file
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.files.write(&mut self.file, bytes))
            .and_then(|()| self.file.seek(SeekFrom::End(0)));
        written.map(|_| ()).map_err(|source| self.cannot(source))
    }

    /// Gives it its name, durably.
    ///
    /// # Errors
    /// [`StoreError::Exists`] or [`StoreError::CannotWrite`]: nothing of ours has the name. [`StoreError::NotDurable`]: it is there, but a
    /// power cut may undo it. [`StoreError::TwoNames`]: it is there, and a key that is moved elsewhere would stay.
    pub fn commit(mut self) -> Result<(), StoreError> {
        self.files
            .sync(&self.file)
            .map_err(|source| self.cannot(source))?;
        let second_name = self.name_it()?;
        self.committed = true;
        self.files.sync_dir().map_err(|source| StoreError::NotDurable {
            path: self.path.clone(),
            source,
        })?;
        match second_name {
            None => Ok(()),
            Some(source) => Err(StoreError::TwoNames {
                other: self.path.with_file_name(&self.temp),
                path: self.path.clone(),
                source,
            }),
        }
    }

    /// By one step where the file system can do that: whatever the power cuts, the file has one name. Else by a link and a removal; why that failed, if it did.
    fn name_it(&self) -> Result<Option<io::Error>, StoreError> {
        let is_taken = |error: &io::Error| error.kind() == io::ErrorKind::AlreadyExists;
        let taken = || StoreError::Exists {
            path: self.path.clone(),
        };
        match self.files.rename_new(&self.temp, &self.name) {
            Ok(()) => return Ok(None),
            Err(error) if is_taken(&error) => return Err(taken()),
            Err(_cannot) => {}
        }
        match self.files.link(&self.temp, &self.name) {
            Ok(()) => Ok(self.files.remove(&self.temp).err()),
            Err(error) if is_taken(&error) => Err(taken()),
            // Sticks have file systems without either: a rename it is, and who makes this name in this moment loses.
            Err(_) => {
                refuse_taken(&*self.files, &self.path, &self.name)?;
                let renamed = self.files.rename(&self.temp, &self.name);
                renamed.map(|()| None).map_err(|source| self.cannot(source))
            }
        }
    }

    fn cannot(&self, source: io::Error) -> StoreError {
        StoreError::CannotWrite {
            path: self.path.clone(),
            source,
        }
    }
}

impl Drop for FreshFile {
    fn drop(&mut self) {
        if !self.committed {
            // Best effort: what stays has a hidden name and is whole nowhere.
            let _stays = self.files.remove(&self.temp);
        }
    }
}

fn refuse_taken(files: &dyn Files, path: &Path, name: &str) -> Result<(), StoreError> {
    let path = path.to_owned();
    match files.read(name, 0) {
        Ok(None) => Ok(()),
        // Links end here as well: what they name need not be there.
        Ok(Some(_)) => Err(StoreError::Exists { path }),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            Err(StoreError::Exists { path })
        }
        Err(source) => Err(StoreError::CannotRead { path, source }),
    }
}

/// Two of one name in one process have files of their own until one has the name.
static BEGUN: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests;

//! A directory of small files that belong to one process.
//!
//! Invariant: while a [`Store`] is open no other process opens the same directory as one.

mod growing;
mod many;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use crate::{DirFiles, Files, StoreError};

/// The largest file a store reads or writes: keys, chains, bundles and a node's entries are far below.
pub const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How the directory of a [`Store`] is opened: tests put a disk of their own in between.
pub type OpenStore = Arc<dyn Fn(&Path) -> Result<Store, StoreError> + Send + Sync>;

/// Every call blocks on the disk: keep it off the async threads. Clones share one directory.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    files: Arc<dyn Files>,
    temps: AtomicU64,
    /// Holds the lock until the last clone is gone.
    lock: OwnedFd,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Closing is not enough: a child between its fork and its exec has the descriptor too, and the lock with it. Failing that, the lock
        // ends with that child.
        flock(&self.lock, FlockOperation::Unlock).ok();
    }
}

impl Store {
    /// Opens `dir`, made with mode `0700` when missing, and removes what an interrupted write left behind.
    ///
    /// # Errors
    /// The directory belongs to another user, others may write to it, or somebody has it open as a store.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let cannot = |source| StoreError::Directory {
            path: dir.to_owned(),
            source,
        };
        let fd = open_directory(dir)?;
        let files = DirFiles::new(fd.try_clone().map_err(cannot)?);
        Self::locked(dir, fd, Arc::new(files))
    }

    /// Like [`Store::open`], but reads and writes through `wrap(files)`; for tests that break the disk.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_with<F: Files + 'static>(
        dir: &Path,
        wrap: impl FnOnce(DirFiles) -> F,
    ) -> Result<Self, StoreError> {
        let cannot = |source| StoreError::Directory {
            path: dir.to_owned(),
            source,
        };
        let fd = open_directory(dir)?;
        let files = DirFiles::new(fd.try_clone().map_err(cannot)?);
        Self::locked(dir, fd, Arc::new(wrap(files)))
    }

    fn locked(dir: &Path, lock: OwnedFd, files: Arc<dyn Files>) -> Result<Self, StoreError> {
        let path = dir.to_owned();
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => StoreError::InUse { path: path.clone() },
            other => StoreError::Directory {
                path: path.clone(),
                source: other.into(),
            },
        })?;
        let store = Self {
            inner: Arc::new(Inner {
                path,
                files,
                temps: AtomicU64::new(0),
                lock,
            }),
        };
        store.clean()?;
        Ok(store)
    }

    /// The directory, as it was given.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.path
    }

    /// What works in the directory, for one that has an order of writing of its own. The directory is ours while the store is open, no longer.
    #[must_use]
    pub fn files(&self) -> Arc<dyn Files> {
        Arc::clone(&self.inner.files)
    }

    /// Whether the directory of this name is still the one that was opened: not if it was removed, or something was mounted over it.
    #[must_use]
    pub fn is_there(&self) -> bool {
        let (ours, named) = (
            rustix::fs::fstat(&self.inner.lock),
            rustix::fs::stat(&self.inner.path),
        );
        matches!((ours, named), (Ok(ours), Ok(named)) if (ours.st_dev, ours.st_ino) == (named.st_dev, named.st_ino))
    }

    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    /// It cannot be read, is not a regular file of ours, can be read by others, or is larger than [`MAX_FILE_BYTES`].
    pub fn read(&self, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let path = self.file(name)?;
        let found = match self.inner.files.read(name, MAX_FILE_BYTES) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(None),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(StoreError::NotAFile { path });
            }
            Err(source) => return Err(StoreError::CannotRead { path, source }),
        };
        if !found.regular {
            return Err(StoreError::NotAFile { path });
        }
        let us = rustix::process::geteuid().as_raw();
        if found.owner != us {
            return Err(StoreError::ForeignFile {
                path,
                owner: found.owner,
                us,
            });
        }
        if found.mode & 0o077 != 0 {
            return Err(StoreError::TooOpen {
                path,
                mode: found.mode,
            });
        }
        if found.bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(StoreError::TooLarge {
                path,
                limit: MAX_FILE_BYTES,
            });
        }
        Ok(Some(found.bytes))
    }

    /// Gives the file this content, durably, mode `0600`.
    ///
    /// # Errors
    /// [`StoreError::CannotWrite`]: the old content is untouched. [`StoreError::NotDurable`]: the new one is in place, but a power
    /// cut may undo it.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        self.publish(name, bytes, |files, temp| files.rename(temp, name))
    }

    /// Writes a file that must not exist yet, durably, mode `0600`.
    ///
    /// # Errors
    /// [`StoreError::Exists`], else as [`Store::replace`].
    pub fn create(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let created = self.publish(name, bytes, |files, temp| {
            // A link, unlike a rename, fails when the name is taken, also by a process that does not know our lock.
            files.link(temp, name)?;
            // The file is there; a second name that stays behind is cleaned at the next start.
            let _cleaned_later = files.remove(temp);
            Ok(())
        });
        created.map_err(|error| match error {
            StoreError::CannotWrite { path, source } if source.kind() == io::ErrorKind::AlreadyExists => {
                StoreError::Exists { path }
            }
            other => other,
        })
    }

    /// Like [`Store::create`], but content with the file's bytes being exactly these already.
    ///
    /// # Errors
    /// [`StoreError::Exists`] when they are others.
    pub fn create_idempotent(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
        match self.create(name, bytes) {
            Err(StoreError::Exists { path }) => match self.read(name)? {
                // Whoever wrote it may not have come to the last step.
                Some(found) if found.as_slice() == bytes => self.sync_dir(path),
                _ => Err(StoreError::Exists { path }),
            },
            other => other,
        }
    }

    /// Removes a file, durably. One that is not there is fine.
    ///
    /// # Errors
    /// [`StoreError::CannotRemove`]: it is still there. [`StoreError::NotDurable`]: a power cut may bring it back.
    pub fn remove(&self, name: &str) -> Result<(), StoreError> {
        let path = self.file(name)?;
        match self.inner.files.remove(name) {
            Ok(()) => self.sync_dir(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(source) => Err(StoreError::CannotRemove { path, source }),
        }
    }

    /// The names of all files, sorted.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn list(&self) -> Result<Vec<String>, StoreError> {
        let mut names = self.names()?;
        names.retain(|name| valid(name));
        Ok(names)
    }

    fn publish(
        &self,
        name: &str,
        bytes: &[u8],
        adopt: impl FnOnce(&dyn Files, &str) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        let path = self.put(name, bytes, adopt)?;
        self.sync_dir(path)
    }

    /// All but the last step.
    fn put(
        &self,
        name: &str,
        bytes: &[u8],
        adopt: impl FnOnce(&dyn Files, &str) -> io::Result<()>,
    ) -> Result<PathBuf, StoreError> {
        let path = self.file(name)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(StoreError::TooLarge {
                path,
                limit: MAX_FILE_BYTES,
            });
        }
        let files = &*self.inner.files;
        let temp = format!(
            ".{name}.{}{TEMP}",
            self.inner.temps.fetch_add(1, Ordering::Relaxed)
        );
        let written = write_temp(files, &temp, bytes).and_then(|()| adopt(files, &temp));
        if let Err(source) = written {
            // Best effort: what cannot be removed now is removed at the next start.
            let _cleaned_later = files.remove(&temp);
            return Err(StoreError::CannotWrite { path, source });
        }
        Ok(path)
    }

    fn sync_dir(&self, path: PathBuf) -> Result<(), StoreError> {
        self.inner
            .files
            .sync_dir()
            .map_err(|source| StoreError::NotDurable { path, source })
    }

    /// With the lock held nobody is writing, so every temporary file is left over.
    fn clean(&self) -> Result<(), StoreError> {
        for name in self
            .names()?
            .iter()
            .filter(|name| name.starts_with('.') && name.ends_with(TEMP))
        {
            // Best effort: on a disk that is read-only after a power cut what is there must be read all the same.
            let _stays = self.inner.files.remove(name);
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        self.inner.files.list().map_err(|source| StoreError::Directory {
            path: self.inner.path.clone(),
            source,
        })
    }

    fn file(&self, name: &str) -> Result<PathBuf, StoreError> {
        if valid(name) {
            Ok(self.inner.path.join(name))
        } else {
            Err(StoreError::BadName {
                name: name.to_owned(),
            })
        }
    }
}

fn write_temp(files: &dyn Files, temp: &str, bytes: &[u8]) -> io::Result<()> {
    let mut file = files.create_temp(temp)?;
    files.write(&mut file, bytes)?;
    files.sync(&file)
}

fn open_directory(dir: &Path) -> Result<OwnedFd, StoreError> {
    let path = || dir.to_owned();
    let cannot = |source| StoreError::Directory { path: path(), source };
    // The directory itself may be a link: systemd's StateDirectory= of a dynamic user is one. What it leads to is checked.
    make_durably(dir).map_err(cannot)?;
    let file = File::open(dir).map_err(cannot)?;
    let found = file.metadata().map_err(cannot)?;
    if !found.is_dir() {
        return Err(cannot(io::ErrorKind::NotADirectory.into()));
    }
    let us = rustix::process::geteuid().as_raw();
    if found.uid() != us {
        return Err(StoreError::ForeignDirectory {
            path: path(),
            owner: found.uid(),
            us,
        });
    }
    if found.mode() & 0o022 != 0 {
        return Err(StoreError::WritableDirectory {
            path: path(),
            mode: found.mode() & 0o7777,
        });
    }
    Ok(file.into())
}

/// What is on the disk in a directory whose own name is not is lost with it.
fn make_durably(dir: &Path) -> io::Result<()> {
    let missing: Vec<_> = dir.ancestors().take_while(|path| !path.exists()).collect();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)?;
    let name_of = |path: &Path| match path.parent() {
        Some(parent) if parent != Path::new("") => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    };
    match missing.is_empty() {
        // Whoever made it may have been stopped in between. Best effort: a disk that is read-only now is read all the same.
        true => drop(name_of(dir)),
        false => missing.into_iter().try_for_each(name_of)?,
    }
    Ok(())
}

/// One path component, not hidden: hidden names are our temporary files.
fn valid(name: &str) -> bool {
    !name.is_empty() && name.len() <= 200 && !name.starts_with('.') && !name.contains(['/', '\0'])
}

const TEMP: &str = ".tmp";

#[cfg(test)]
mod tests;

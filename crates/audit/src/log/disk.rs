//! The directory of a log. Invariant: a file has its name only when its content is on the disk, and after [`Disk::flush`] the names are too.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use landfast_store::{Files, Store};

use super::LogError;

#[derive(Debug)]
pub(crate) struct Disk {
    /// Holds the lock of the directory.
    store: Store,
    open: HashMap<String, Arc<dyn Files>>,
    /// Directories with names that may not be on the disk.
    dirty: BTreeSet<String>,
    temps: u64,
}

impl Disk {
    pub(crate) fn new(store: Store) -> Self {
        Self {
            store,
            open: HashMap::new(),
            // Whoever ran before may have been stopped in between.
            dirty: BTreeSet::from([String::new()]),
            temps: 0,
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.store.path().join(name)
    }

    pub(super) fn root(&self) -> Arc<dyn Files> {
        self.store.files()
    }

    /// At most `limit` bytes of a file.
    pub(crate) fn read(&mut self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, LogError> {
        let cannot = |path, source| LogError::CannotRead { path, source };
        let path = self.path(name);
        let (dir, file) = split(name);
        let found = self.dir(dir).and_then(|files| files.read(file, limit));
        match found.map_err(|source| cannot(path.clone(), source))? {
            None => Ok(None),
            Some(found) if !found.regular => Err(cannot(path, io::ErrorKind::InvalidData.into())),
            Some(found) if found.bytes.len() as u64 > limit => {
                Err(cannot(path, io::ErrorKind::FileTooLarge.into()))
            }
            Some(found) => Ok(Some(found.bytes.to_vec())),
        }
    }

    /// Gives a file this content; its name is on the disk after the next flush.
    pub(crate) fn write(&mut self, name: &str, bytes: &[u8]) -> Result<(), LogError> {
        let (dir, file) = split(name);
        let temp = format!(".{file}.{}.tmp", self.temps);
        self.temps += 1;
        let written = self.dir(dir).and_then(|files| {
            let made = match files.create_temp(&temp) {
                // Left by one that was stopped; nobody else is here.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    files.remove(&temp).and_then(|()| files.create_temp(&temp))
                }
                made => made,
            };
            let written = made.and_then(|mut made| {
                files.write(&mut made, bytes)?;
                files.sync(&made)
            });
            let named = written.and_then(|()| files.rename(&temp, file));
            if named.is_err() {
                // Best effort: it takes room, and nobody reads it.
                let _stays = files.remove(&temp);
            }
            named
        });
        self.dirty.insert(dir.to_owned());
        written.map_err(|source| self.cannot_write(name, source))
    }

    /// Every name reaches the disk.
    pub(crate) fn flush(&mut self) -> Result<(), LogError> {
        while let Some(dir) = self.dirty.last().cloned() {
            let synced = self.dir(&dir).and_then(|files| files.sync_dir());
            synced.map_err(|source| self.cannot_write(&dir, source))?;
            self.dirty.remove(&dir);
        }
        if self.open.len() > MOST_OPEN {
            self.open.clear();
        }
        Ok(())
    }

    /// Removes all files in a directory, and leaves the directory: whoever reads a log has seen its name. Best effort: they take room, no more.
    pub(super) fn clear(&mut self, dir: &str) {
        let Ok(files) = self.dir(dir) else { return };
        for name in files.list().unwrap_or_default() {
            let _takes_room = files.remove(&name);
        }
        self.open.remove(dir);
    }

    pub(super) fn cannot_write(&self, name: &str, source: io::Error) -> LogError {
        LogError::CannotWrite {
            path: self.path(name),
            source,
        }
    }

    fn dir(&mut self, dir: &str) -> io::Result<Arc<dyn Files>> {
        if dir.is_empty() {
            return Ok(self.root());
        }
        if let Some(open) = self.open.get(dir) {
            return Ok(Arc::clone(open));
        }
        let (above, name) = split(dir);
        let made = self.dir(above)?.within(name)?;
        // Known to be there is not known to be on the disk.
        self.dirty.insert(above.to_owned());
        self.open.insert(dir.to_owned(), Arc::clone(&made));
        Ok(made)
    }
}

fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('/').unwrap_or(("", name))
}

/// Directories that stay open between two flushes.
const MOST_OPEN: usize = 32;

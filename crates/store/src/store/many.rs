//! Several files at once. Invariant: each is as durable as one alone; the directory reaches the disk once for all of them.

use std::path::PathBuf;

use super::Store;
use crate::StoreError;

impl Store {
    /// Like [`Store::replace`] for each of them. When one fails, those before it may be in place already.
    ///
    /// # Errors
    /// As [`Store::replace`], of the first that fails.
    pub fn replace_all(&self, files: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let mut last = None;
        for (name, bytes) in files {
            let path = self.put(name, bytes, |files, temp| files.rename(temp, name))?;
            last = Some(path);
        }
        self.settle(last)
    }

    /// Like [`Store::remove`] for each of them.
    ///
    /// # Errors
    /// As [`Store::remove`], of the first that fails; the others are removed all the same.
    pub fn remove_all(&self, names: &[&str]) -> Result<(), StoreError> {
        let (mut last, mut failed) = (None, None);
        for name in names {
            let path = self.file(name)?;
            match self.inner.files.remove(name) {
                Ok(()) => last = Some(path),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => {
                    failed.get_or_insert(StoreError::CannotRemove { path, source });
                }
            }
        }
        let settled = self.settle(last);
        failed.map_or(settled, Err)
    }

    fn settle(&self, last: Option<PathBuf>) -> Result<(), StoreError> {
        last.map_or(Ok(()), |path| self.sync_dir(path))
    }
}

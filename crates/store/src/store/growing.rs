//! Files that only grow, by whole lines, and are put aside when they are large. Nothing of them is worth a wait: they are opened for each batch,
//! so that one that was removed or put aside by somebody else is begun anew.
//!
//! Invariant: whatever fails in between, each line that was added is a line of its own: what a power cut or a full disk left of one is cut off or
//! ended before the next.

use std::io;
use std::os::unix::fs::FileExt as _;

use super::Store;
use crate::{Growing, StoreError};

impl Store {
    /// Adds these lines at the end of a file of mode `0600`. When it would be larger than `most` it gets the name `aside` first, which takes the
    /// place of the one before. Without `durable` a power cut may take what was added since it last was.
    ///
    /// # Errors
    /// As [`Store::read`] and [`Store::replace`]. The lines are not added then, but for [`StoreError::NotDurable`].
    pub fn append(
        &self,
        name: &str,
        lines: &[u8],
        durable: bool,
        aside: (&str, u64),
    ) -> Result<(), StoreError> {
        let (path, (aside, most)) = (self.file(name)?, aside);
        self.file(aside)?;
        let cannot = |source| StoreError::CannotWrite {
            path: path.clone(),
            source,
        };
        let mut growing = self.open_growing(name)?;
        let mut length = length_of(&growing).map_err(cannot)?;
        let full = length > 0 && length.saturating_add(lines.len() as u64) > most;
        if full && !lines.is_empty() {
            let files = &self.inner.files;
            files
                .sync(&growing.file)
                .and_then(|()| files.rename(name, aside))
                .map_err(cannot)?;
            growing = self.open_growing(name)?;
            length = length_of(&growing).map_err(cannot)?;
            files.sync_dir().map_err(cannot)?;
        }
        if let Err(source) = self.add(&mut growing, length, lines) {
            // Where this fails as well, the half of a line that is there is ended before the next.
            let _ended_later = growing.file.set_len(length);
            return Err(cannot(source));
        }
        if durable {
            let synced = self.inner.files.sync(&growing.file);
            synced.map_err(|source| StoreError::NotDurable { path, source })?;
        }
        Ok(())
    }

    fn add(&self, growing: &mut Growing, length: u64, lines: &[u8]) -> io::Result<()> {
        if lines.is_empty() {
            return Ok(());
        }
        let whole = match length.checked_sub(1) {
            None => true,
            Some(last) => {
                let mut byte = [0];
                growing.file.read_exact_at(&mut byte, last)?;
                byte == *b"\n"
            }
        };
        if !whole {
            self.inner.files.write(&mut growing.file, b"\n")?;
        }
        self.inner.files.write(&mut growing.file, lines)
    }

    fn open_growing(&self, name: &str) -> Result<Growing, StoreError> {
        let path = self.file(name)?;
        let growing = match self.inner.files.append(name) {
            Ok(growing) => growing,
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                return Err(StoreError::NotAFile { path });
            }
            Err(source) => return Err(StoreError::CannotWrite { path, source }),
        };
        let us = rustix::process::geteuid().as_raw();
        match growing {
            growing if !growing.regular => Err(StoreError::NotAFile { path }),
            growing if growing.owner != us => Err(StoreError::ForeignFile {
                path,
                owner: growing.owner,
                us,
            }),
            growing if growing.mode & 0o077 != 0 => Err(StoreError::TooOpen {
                path,
                mode: growing.mode,
            }),
            growing => Ok(growing),
        }
    }
}

fn length_of(growing: &Growing) -> io::Result<u64> {
    Ok(growing.file.metadata()?.len())
}

#[cfg(test)]
mod tests;

//! The files of a ledger. Invariant: what is verified and what is read afterwards is named by one checkpoint, whatever the server signs meanwhile.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use landfast_audit::verify::{LayeredSource, Source};

/// A directory, and then its archives, whose small files are read once: a proof needs some ten of them, and the next proof the same.
pub(super) struct Cached {
    files: LayeredSource,
    kept: Mutex<HashMap<String, Arc<Vec<u8>>>>,
}

impl Cached {
    pub(super) fn new(directory: &Path, archives: &[PathBuf]) -> Self {
        Self {
            files: LayeredSource::new(directory, archives),
            kept: Mutex::new(HashMap::new()),
        }
    }
}

impl Source for Cached {
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let is_hashes = path.starts_with("tile/") && !path.starts_with("tile/entries/");
        if !is_hashes {
            return self.files.read(path, limit);
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = kept.get(path) {
            return Ok(Some(bytes.to_vec()));
        }
        let bytes = self.files.read(path, limit)?;
        if let Some(bytes) = &bytes {
            if kept.len() >= MOST_KEPT {
                kept.clear();
            }
            kept.insert(path.to_owned(), Arc::new(bytes.clone()));
        }
        Ok(bytes)
    }

    fn describe(&self, path: &str) -> String {
        self.files.describe(path)
    }
}

/// The files as one checkpoint names them.
pub(super) struct Pinned<'a> {
    pub(super) files: &'a Cached,
    pub(super) checkpoint: &'a [u8],
}

impl Source for Pinned<'_> {
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        match path {
            "checkpoint" => Ok(Some(self.checkpoint.to_vec())),
            path => self.files.read(path, limit),
        }
    }

    fn describe(&self, path: &str) -> String {
        self.files.describe(path)
    }
}

/// Tiles of 8 KiB that are kept.
const MOST_KEPT: usize = 4096;

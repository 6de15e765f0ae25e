//! The file of a root key. Invariant: it is read anew for each step, so that a medium may come and go; none is made where one was known, and one
//! that others could read is not used.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfast_identity::chain::RootPrivateKey;
use landfast_store::{FreshFile, StoreError, read_beside};

use super::MakeError;

pub(super) struct RootFile {
    pub(super) path: PathBuf,
}

impl RootFile {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// The key that is there.
    pub(super) async fn read(&self) -> Result<Arc<RootPrivateKey>, MakeError> {
        self.beside(read).await
    }

    /// The key that is there, or one that is made: before anybody knows one.
    pub(super) async fn read_or_make(&self) -> Result<Arc<RootPrivateKey>, MakeError> {
        let read_or_make = |path: &Path| match read(path) {
            Err(MakeError::Missing { .. }) => make(path),
            read => read,
        };
        self.beside(read_or_make).await
    }

    /// Off the async threads, and not for ever.
    async fn beside(
        &self,
        work: impl FnOnce(&Path) -> Result<RootPrivateKey, MakeError> + Send + 'static,
    ) -> Result<Arc<RootPrivateKey>, MakeError> {
        let path = self.path.clone();
        let working = tokio::task::spawn_blocking(move || work(&path));
        let hangs = || MakeError::Hangs {
            path: self.path.clone(),
        };
        let done = tokio::time::timeout(PATIENCE, working).await;
        let done = done.map_err(|_elapsed| hangs())?.map_err(|_cause| hangs())?;
        done.map(Arc::new)
    }
}

fn read(path: &Path) -> Result<RootPrivateKey, MakeError> {
    let no_file = || MakeError::NoFile { path: path.into() };
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .ok_or_else(no_file)?;
    let dir = path.parent().ok_or_else(no_file)?;
    let bytes = match read_beside(dir, name) {
        Ok(bytes) => bytes,
        // A medium that is not mounted.
        Err(_) if !dir.exists() => None,
        Err(source) => {
            return Err(MakeError::Store {
                path: path.into(),
                source,
            });
        }
    };
    let bytes = bytes.ok_or_else(|| MakeError::Missing { path: path.into() })?;
    let text = std::str::from_utf8(&bytes).unwrap_or_default();
    RootPrivateKey::from_pem(text).map_err(|source| MakeError::Damaged {
        path: path.into(),
        source,
    })
}

/// Durable before anybody knows its public half.
fn make(path: &Path) -> Result<RootPrivateKey, MakeError> {
    let key = RootPrivateKey::generate().map_err(|source| MakeError::Damaged {
        path: path.into(),
        source,
    })?;
    let written = FreshFile::begin(path).and_then(|mut file| {
        file.write(key.to_pem().as_bytes())?;
        file.commit()
    });
    match written {
        Ok(()) => {}
        // Another server was faster.
        Err(StoreError::Exists { .. }) => return read(path),
        Err(source) => {
            return Err(MakeError::Store {
                path: path.into(),
                source,
            });
        }
    }
    tracing::warn!(
        path = %path.display(), root_key = %key.public_key(),
        "a root key of the trust domain is made: keep a copy in a safe place, a backup of this server does not hold it (docs/operations.md, \"The root key\")"
    );
    Ok(key)
}

const PATIENCE: Duration = Duration::from_secs(10);

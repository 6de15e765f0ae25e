//! Where the keys of authorities are. Invariant: a key is durable before anybody learns its public part, and is never replaced.

use std::collections::HashMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use landfast_identity::{KeyError, KeyType, PrivateKey, Signer};
use landfast_store::{Store, StoreError};

/// Makes, finds and removes keys by name. Calls block on the disk or the device.
pub trait KeyManager: Send + Sync {
    /// Makes a key, durably.
    ///
    /// # Errors
    /// There is one of this name, or it cannot be made or stored.
    fn generate(&self, id: &str, key_type: KeyType) -> Result<Arc<dyn Signer>, KeyManagerError>;

    /// The key of this name.
    ///
    /// # Errors
    /// It is missing, damaged, or cannot be read.
    fn get(&self, id: &str) -> Result<Arc<dyn Signer>, KeyManagerError>;

    /// Removes a key, durably. One that is not there is fine.
    ///
    /// # Errors
    /// It may still be there.
    fn remove(&self, id: &str) -> Result<(), KeyManagerError>;

    /// The names of all keys.
    ///
    /// # Errors
    /// They cannot be listed.
    fn list(&self) -> Result<Vec<String>, KeyManagerError>;

    /// Where the key of this name is, for people.
    fn describe(&self, id: &str) -> String;
}

/// Keys in files, mode `0600`, one each, PKCS#8 DER.
pub struct DiskKeys {
    store: Store,
}

impl DiskKeys {
    /// Keys in this directory, made if missing.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Ok(Self {
            store: Store::open(directory)?,
        })
    }

    /// Keys in this store.
    pub fn new(store: Store) -> Self {
        Self { store }
    }

    /// Whether there is no key at all.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(self.store.list()?.iter().all(|name| !name.ends_with(SUFFIX)))
    }

    /// The file of the key of this name, in the directory.
    pub(crate) fn file_name(id: &str) -> String {
        file(id)
    }

    fn path(&self, id: &str) -> PathBuf {
        self.store.path().join(file(id))
    }
}

impl KeyManager for DiskKeys {
    fn generate(&self, id: &str, key_type: KeyType) -> Result<Arc<dyn Signer>, KeyManagerError> {
        let key = PrivateKey::generate_as(key_type).map_err(|source| KeyManagerError::Generate { source })?;
        self.store.create(&file(id), key.as_pkcs8_der())?;
        Ok(Arc::new(key))
    }

    fn get(&self, id: &str) -> Result<Arc<dyn Signer>, KeyManagerError> {
        let missing = || KeyManagerError::Missing { file: self.path(id) };
        let bytes = self.store.read(&file(id))?.ok_or_else(missing)?;
        let key = PrivateKey::from_pkcs8_der(bytes.to_vec()).map_err(|source| KeyManagerError::Damaged {
            file: self.path(id),
            source,
        })?;
        Ok(Arc::new(key))
    }

    fn remove(&self, id: &str) -> Result<(), KeyManagerError> {
        Ok(self.store.remove(&file(id))?)
    }

    fn list(&self) -> Result<Vec<String>, KeyManagerError> {
        let files = self.store.list()?;
        Ok(files
            .iter()
            .filter_map(|name| name.strip_suffix(SUFFIX))
            .map(str::to_owned)
            .collect())
    }

    fn describe(&self, id: &str) -> String {
        self.path(id).display().to_string()
    }
}

impl fmt::Debug for DiskKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskKeys({})", self.store.path().display())
    }
}

/// Keys that are gone when the process is: for `landfast dev` and tests.
#[derive(Default)]
pub struct MemoryKeys(Mutex<HashMap<String, Arc<dyn Signer>>>);

impl KeyManager for MemoryKeys {
    fn generate(&self, id: &str, key_type: KeyType) -> Result<Arc<dyn Signer>, KeyManagerError> {
        let key: Arc<dyn Signer> = Arc::new(
            PrivateKey::generate_as(key_type).map_err(|source| KeyManagerError::Generate { source })?,
        );
        let mut keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Arc::clone(keys.entry(id.to_owned()).or_insert(key)))
    }

    fn get(&self, id: &str) -> Result<Arc<dyn Signer>, KeyManagerError> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(id)
            .cloned()
            .ok_or_else(|| KeyManagerError::Missing { file: id.into() })
    }

    fn remove(&self, id: &str) -> Result<(), KeyManagerError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Ok(())
    }

    fn list(&self) -> Result<Vec<String>, KeyManagerError> {
        let keys = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(keys.keys().cloned().collect())
    }

    fn describe(&self, id: &str) -> String {
        format!("the key {id} in memory")
    }
}

impl fmt::Debug for MemoryKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemoryKeys(..)")
    }
}

/// Why a key cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyManagerError {
    /// No key can be made.
    #[error("no key can be made")]
    Generate {
        /// Why.
        source: KeyError,
    },
    /// The key is not there.
    #[error(
        "the key file {} is missing: restore it from a backup, together with the database", file.display()
    )]
    Missing {
        /// The file.
        file: PathBuf,
    },
    /// The file holds no key.
    #[error(
        "the key file {} is damaged: restore it from a backup, together with the database", file.display()
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The store failed.
    #[error("the key store failed")]
    Store {
        /// Why.
        #[from]
        source: StoreError,
    },
}

impl KeyManagerError {
    /// Whether the disk is full.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Store { source: StoreError::CannotWrite { source, .. } | StoreError::NotDurable { source, .. } }
            if matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }
}

fn file(id: &str) -> String {
    format!("{id}{SUFFIX}")
}

const SUFFIX: &str = ".key";

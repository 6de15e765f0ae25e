//! A seal key in a file, on this disk or on a medium that can be taken away.
//!
//! Invariant: a file is a key or it is not: one that is cut short or changed is never taken for another key. What is there is never replaced
//! without being asked to.

use std::fmt;
use std::path::{Path, PathBuf};

use ring::digest::{Context, SHA256};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

use super::{ID_LEN, SALT_LEN, SealError, SealKey, SealKeyId};
use crate::{FreshFile, StoreError, read_beside};

/// 32 random bytes.
pub struct FileSealKey {
    id: SealKeyId,
    secret: Zeroizing<[u8; KEY_LEN]>,
}

impl fmt::Debug for FileSealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileSealKey({}, ..)", self.id)
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum SealKeyError {
    /// The file cannot be read or written, or others can read it.
    #[error("the seal key cannot be used")]
    Store(#[source] StoreError),
    /// Something else, or no longer what was written.
    #[error("the seal key {} is damaged: bring it back from a copy, or remove it to begin anew", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The system has no randomness.
    #[error("no seal key can be made: the system's source of randomness fails")]
    Random,
}

impl FileSealKey {
    /// Reads the key; `None` when there is no such file.
    ///
    /// # Errors
    /// There is one, and it cannot be used.
    pub fn open(path: &Path) -> Result<Option<Self>, SealKeyError> {
        let (dir, name) = parts(path)?;
        let bytes = match read_beside(dir, name) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(None),
            // A medium that is not there.
            Err(StoreError::Directory { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Ok(None);
            }
            Err(error) => return Err(SealKeyError::Store(error)),
        };
        let damaged = || SealKeyError::Damaged {
            path: path.to_owned(),
        };
        let rest = bytes.strip_prefix(MAGIC).ok_or_else(damaged)?;
        let (secret, check) = rest.split_first_chunk::<KEY_LEN>().ok_or_else(damaged)?;
        if check != check_of(secret) {
            return Err(damaged());
        }
        Ok(Some(Self::new(Zeroizing::new(*secret))))
    }

    /// Makes a key and its file, mode `0600`, durably. The directory must be there, and the name free.
    ///
    /// # Errors
    /// It cannot be written; then there is no such file.
    pub fn create(path: &Path) -> Result<Self, SealKeyError> {
        let mut secret = Zeroizing::new([0; KEY_LEN]);
        SystemRandom::new()
            .fill(secret.as_mut_slice())
            .map_err(|_cause| SealKeyError::Random)?;
        let mut file = Zeroizing::new(Vec::with_capacity(MAGIC.len() + KEY_LEN + CHECK_LEN));
        file.extend_from_slice(MAGIC);
        file.extend_from_slice(secret.as_slice());
        file.extend_from_slice(&check_of(&secret));
        let mut fresh = FreshFile::begin(path).map_err(SealKeyError::Store)?;
        fresh.write(&file).map_err(SealKeyError::Store)?;
        fresh.commit().map_err(SealKeyError::Store)?;
        Ok(Self::new(secret))
    }

    fn new(secret: Zeroizing<[u8; KEY_LEN]>) -> Self {
        let mut id = [0; ID_LEN];
        let full = expand(secret.as_slice(), &[0; SALT_LEN], ID_CONTEXT);
        // 32 bytes are always to be had of SHA-256.
        if let Ok(full) = full {
            id.copy_from_slice(&full[..ID_LEN]);
        }
        Self {
            id: SealKeyId(id),
            secret,
        }
    }
}

impl SealKey for FileSealKey {
    fn id(&self) -> SealKeyId {
        self.id
    }

    fn derive(&self, salt: &[u8; SALT_LEN], context: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
        expand(self.secret.as_slice(), salt, context)
    }
}

fn expand(secret: &[u8], salt: &[u8], context: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut key = Zeroizing::new([0; 32]);
    Salt::new(HKDF_SHA256, salt)
        .extract(secret)
        .expand(&[context], ThirtyTwo)
        .and_then(|okm| okm.fill(key.as_mut_slice()))
        .map_err(|_cause| SealError::Unusable)?;
    Ok(key)
}

struct ThirtyTwo;

impl KeyType for ThirtyTwo {
    fn len(&self) -> usize {
        32
    }
}

fn check_of(secret: &[u8; KEY_LEN]) -> [u8; CHECK_LEN] {
    // Piece by piece: a concatenation would be a copy of the key that nobody wipes.
    let mut hash = Context::new(&SHA256);
    hash.update(CHECK_CONTEXT);
    hash.update(secret);
    let hash = hash.finish();
    let mut check = [0; CHECK_LEN];
    check.copy_from_slice(&hash.as_ref()[..CHECK_LEN]);
    check
}

fn parts(path: &Path) -> Result<(&Path, &str), SealKeyError> {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str);
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    name.map(|name| (dir.unwrap_or_else(|| Path::new(".")), name))
        .ok_or_else(|| {
            SealKeyError::Store(StoreError::BadName {
                name: path.display().to_string(),
            })
        })
}

const MAGIC: &[u8] = b"LFSEALKEY\0\0\x01";
const KEY_LEN: usize = 32;
const CHECK_LEN: usize = 4;
const ID_CONTEXT: &[u8] = b"landfast seal key id 1";
const CHECK_CONTEXT: &[u8] = b"landfast seal key check 1";

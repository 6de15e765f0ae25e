//! Files that only who has the seal key can read, and that nobody else can have written.
//!
//! Invariant: every sealing has a key of its own, made of a fresh salt, the purpose, the realm and the file's name. So no nonce is ever used
//! twice under one key, and one sealed file never passes for another, nor for one of another realm.

mod key;

use std::fmt;
use std::sync::Arc;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::Zeroizing;

pub use key::{FileSealKey, SealKeyError};

/// Says which key sealed something. Not a secret: it tells nothing of the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SealKeyId([u8; ID_LEN]);

impl fmt::Display for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for SealKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealKeyId({self})")
    }
}

/// What files are sealed under: a key file, or something that does not give its key away.
pub trait SealKey: Send + Sync + fmt::Debug {
    /// Which one it is.
    fn id(&self) -> SealKeyId;

    /// The key of one file: always the same for the same salt and context, and independent of every other.
    ///
    /// # Errors
    /// The key cannot be used (any more).
    fn derive(&self, salt: &[u8; SALT_LEN], context: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError>;
}

/// Why something could not be sealed, or is not what we sealed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Too short, or of another kind altogether.
    #[error("it is not a sealed file")]
    NotSealed,
    /// Of a later version of this program.
    #[error("it is sealed in format {0}, which is not known to this version")]
    UnknownFormat(u8),
    /// Another key is needed.
    #[error("it was sealed under key {found}, and the key here is {ours}")]
    OtherKey {
        /// The one it was sealed under.
        found: SealKeyId,
        /// The one at hand.
        ours: SealKeyId,
    },
    /// Changed, cut short, or sealed as another file.
    #[error("it was changed after it was sealed, or is another file than its name says")]
    Broken,
    /// The key, or the system's source of randomness, cannot be used.
    #[error("the key cannot be used")]
    Unusable,
}

/// Seals and opens the files of one purpose and realm (a trust domain).
#[derive(Clone, Debug)]
pub struct Sealer {
    key: Arc<dyn SealKey>,
    purpose: &'static str,
    realm: String,
}

impl Sealer {
    /// Under `key`, for `purpose` in `realm`.
    pub fn new(key: Arc<dyn SealKey>, purpose: &'static str, realm: impl Into<String>) -> Self {
        Self {
            key,
            purpose,
            realm: realm.into(),
        }
    }

    /// Which key it has.
    #[must_use]
    pub fn key_id(&self) -> SealKeyId {
        self.key.id()
    }

    /// The bytes to write to the file of this name.
    ///
    /// # Errors
    /// [`SealError::Unusable`].
    pub fn seal(&self, name: &str, plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut salt = [0; SALT_LEN];
        SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_cause| SealError::Unusable)?;
        let header = Header {
            key: self.key.id(),
            salt,
        }
        .to_bytes();
        let mut sealed = Vec::with_capacity(HEADER_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.extend_from_slice(&header);
        // Encrypted where it stands: no second copy of the plain text.
        sealed.extend_from_slice(plain);
        let tag = self
            .file_key(&salt, name)?
            .seal_in_place_separate_tag(once(), Aad::from(&header), &mut sealed[HEADER_LEN..])
            .map_err(|_cause| SealError::Unusable)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// What was sealed, if all of it is as it was.
    ///
    /// # Errors
    /// Anything else.
    pub fn open(&self, name: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let header = Header::read(sealed)?;
        if header.key != self.key.id() {
            return Err(SealError::OtherKey {
                found: header.key,
                ours: self.key.id(),
            });
        }
        let mut plain = Zeroizing::new(sealed[HEADER_LEN..].to_vec());
        let length = self
            .file_key(&header.salt, name)?
            .open_in_place(once(), Aad::from(header.to_bytes()), &mut plain)
            .map_err(|_cause| SealError::Broken)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    fn file_key(&self, salt: &[u8; SALT_LEN], name: &str) -> Result<LessSafeKey, SealError> {
        // Each part with its length: no two lists of parts give the same bytes.
        let mut context = Vec::new();
        for part in [CONTEXT, self.purpose, &self.realm, name] {
            context.extend_from_slice(&(part.len() as u64).to_be_bytes());
            context.extend_from_slice(part.as_bytes());
        }
        let key = self.key.derive(salt, &context)?;
        let key = UnboundKey::new(&AES_256_GCM, key.as_slice()).map_err(|_cause| SealError::Unusable)?;
        Ok(LessSafeKey::new(key))
    }
}

/// Which key a sealed file asks for, whatever else is wrong with it.
///
/// # Errors
/// [`SealError::NotSealed`] or [`SealError::UnknownFormat`].
pub fn sealed_under(sealed: &[u8]) -> Result<SealKeyId, SealError> {
    Header::read(sealed).map(|header| header.key)
}

struct Header {
    key: SealKeyId,
    salt: [u8; SALT_LEN],
}

impl Header {
    fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..MAGIC.len()].copy_from_slice(MAGIC);
        bytes[MAGIC.len()] = FORMAT;
        bytes[MAGIC.len() + 1..HEADER_LEN - SALT_LEN].copy_from_slice(&self.key.0);
        bytes[HEADER_LEN - SALT_LEN..].copy_from_slice(&self.salt);
        bytes
    }

    fn read(sealed: &[u8]) -> Result<Self, SealError> {
        let (magic, rest) = sealed
            .split_first_chunk::<{ MAGIC.len() }>()
            .ok_or(SealError::NotSealed)?;
        if magic != MAGIC {
            return Err(SealError::NotSealed);
        }
        let (format, rest) = rest.split_first().ok_or(SealError::NotSealed)?;
        if *format != FORMAT {
            return Err(SealError::UnknownFormat(*format));
        }
        let (key, rest) = rest.split_first_chunk().ok_or(SealError::NotSealed)?;
        let (salt, _) = rest.split_first_chunk().ok_or(SealError::NotSealed)?;
        Ok(Self {
            key: SealKeyId(*key),
            salt: *salt,
        })
    }
}

/// The key that this nonce belongs to seals once.
fn once() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

const MAGIC: &[u8; 7] = b"LFSEAL\0";
const FORMAT: u8 = 1;
const ID_LEN: usize = 8;
/// As long as what HKDF-SHA256 extracts to.
pub const SALT_LEN: usize = 32;
const HEADER_LEN: usize = MAGIC.len() + 1 + ID_LEN + SALT_LEN;
const CONTEXT: &str = "landfast seal 1";

#[cfg(test)]
mod tests;

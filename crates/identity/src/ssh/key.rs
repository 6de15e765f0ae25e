//! Public keys of SSH. Invariant: a key is of a kind that we verify; its fingerprint is OpenSSH's.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};

use super::SshError;
use super::wire::Reader;

/// A key as it stands in `authorized_keys`. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct SshPublicKey {
    blob: Arc<[u8]>,
    pub(super) kind: Kind,
}

/// With what a signature is verified by.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Ed25519(Vec<u8>),
    /// An uncompressed point.
    EcdsaP256(Vec<u8>),
    EcdsaP384(Vec<u8>),
    /// On a security key, for this application.
    SkEd25519(Vec<u8>, Vec<u8>),
    SkEcdsaP256(Vec<u8>, Vec<u8>),
}

/// The SHA-256 of a public key: `SHA256:…` as `ssh-keygen -l` shows it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SshFingerprint([u8; 32]);

impl SshPublicKey {
    /// Reads the binary form, which protocols carry.
    ///
    /// # Errors
    /// When it is malformed, or of a kind that we do not know.
    pub fn from_blob(blob: &[u8]) -> Result<Self, SshError> {
        if blob.len() > MAX_KEY {
            return Err(SshError::Malformed);
        }
        let mut reader = Reader(blob);
        let kind = match reader.text()? {
            ED25519 => Kind::Ed25519(exactly(reader.string()?, 32)?),
            ECDSA_P256 => Kind::EcdsaP256(point(&mut reader, "nistp256", 65)?),
            ECDSA_P384 => Kind::EcdsaP384(point(&mut reader, "nistp384", 97)?),
            SK_ED25519 => {
                let key = exactly(reader.string()?, 32)?;
                Kind::SkEd25519(key, application(&mut reader)?)
            }
            SK_ECDSA_P256 => {
                let key = point(&mut reader, "nistp256", 65)?;
                Kind::SkEcdsaP256(key, application(&mut reader)?)
            }
            _ => return Err(SshError::Unsupported),
        };
        reader.end()?;
        Ok(Self {
            blob: blob.into(),
            kind,
        })
    }

    /// Reads a line of a `.pub` file: kind, base64, and perhaps a comment.
    ///
    /// # Errors
    /// As [`SshPublicKey::from_blob`]; and when the kind in front is not that of the key.
    pub fn from_line(line: &str) -> Result<Self, SshError> {
        let mut words = line.split_ascii_whitespace();
        let (Some(kind), Some(blob)) = (words.next(), words.next()) else {
            return Err(SshError::Malformed);
        };
        let blob = STANDARD.decode(blob).map_err(|_no_base64| SshError::Malformed)?;
        let key = Self::from_blob(&blob)?;
        match key.kind() == kind {
            true => Ok(key),
            false => Err(SshError::Malformed),
        }
    }

    /// Its name in SSH's protocols.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Ed25519(_) => ED25519,
            Kind::EcdsaP256(_) => ECDSA_P256,
            Kind::EcdsaP384(_) => ECDSA_P384,
            Kind::SkEd25519(..) => SK_ED25519,
            Kind::SkEcdsaP256(..) => SK_ECDSA_P256,
        }
    }

    /// The binary form.
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// By which it is named.
    pub fn fingerprint(&self) -> SshFingerprint {
        SshFingerprint(crate::key::sha256(&self.blob))
    }
}

impl fmt::Debug for SshPublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SshPublicKey({} {})", self.kind(), self.fingerprint())
    }
}

impl FromStr for SshFingerprint {
    type Err = SshError;

    fn from_str(text: &str) -> Result<Self, SshError> {
        let digest = text.strip_prefix(SHA256).ok_or(SshError::Malformed)?;
        let digest = STANDARD_NO_PAD.decode(digest);
        let digest = digest.map_err(|_no_base64| SshError::Malformed)?;
        let digest = digest.try_into().map_err(|_length| SshError::Malformed)?;
        Ok(Self(digest))
    }
}

impl fmt::Display for SshFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SHA256}{}", STANDARD_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for SshFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn exactly(bytes: &[u8], length: usize) -> Result<Vec<u8>, SshError> {
    match bytes.len() == length {
        true => Ok(bytes.to_vec()),
        false => Err(SshError::Malformed),
    }
}

/// Uncompressed, as OpenSSH writes it.
fn point(reader: &mut Reader<'_>, curve: &str, length: usize) -> Result<Vec<u8>, SshError> {
    let named = reader.text()?;
    let point = exactly(reader.string()?, length)?;
    match named == curve && point.first() == Some(&4) {
        true => Ok(point),
        false => Err(SshError::Malformed),
    }
}

/// Of another application it is a key for something else: a browser's, say.
fn application(reader: &mut Reader<'_>) -> Result<Vec<u8>, SshError> {
    let application = reader.text()?;
    match application.starts_with("ssh:") {
        true => Ok(application.as_bytes().to_vec()),
        false => Err(SshError::Unsupported),
    }
}

pub(super) const ED25519: &str = "ssh-ed25519";
pub(super) const ECDSA_P256: &str = "ecdsa-sha2-nistp256";
pub(super) const ECDSA_P384: &str = "ecdsa-sha2-nistp384";
pub(super) const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
pub(super) const SK_ECDSA_P256: &str = "sk-ecdsa-sha2-nistp256@openssh.com";
const SHA256: &str = "SHA256:";
/// The largest that we know has less than 200.
const MAX_KEY: usize = 1024;

//! Recipients and identities: X25519 keys, and the file key wrapped for one. ring has the half that seals; it makes no agreement with a key
//! that lasts, so the half that opens is curve25519-dalek's.

use std::fmt;
use std::str::FromStr;

use curve25519_dalek::montgomery::MontgomeryPoint;
use ring::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use ring::rand::SystemRandom;
use zeroize::Zeroizing;

use super::bech32;
use super::header::{Stanza, base64, unbase64};
use super::{AgeError, FileKey, hkdf, random};

/// For whom something is sealed: `age1…`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Recipient([u8; 32]);

/// What opens it: `AGE-SECRET-KEY-1…`.
pub(crate) struct Identity(Zeroizing<[u8; 32]>);

impl Identity {
    pub(crate) fn generate() -> Result<Self, AgeError> {
        let mut secret = Zeroizing::new([0; 32]);
        random(&mut secret[..])?;
        Ok(Self(secret))
    }

    pub(crate) fn recipient(&self) -> Recipient {
        Recipient(MontgomeryPoint::mul_base_clamped(*self.0).to_bytes())
    }

    /// As it stands in a file.
    pub(crate) fn reveal(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(bech32::encode(SECRET, &self.0[..]));
        text.make_ascii_uppercase();
        text
    }
}

impl FromStr for Identity {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        // Upper case throughout, as age writes it.
        if text.bytes().any(|b| b.is_ascii_lowercase()) {
            return Err(AgeError::NoIdentity);
        }
        let bytes = Zeroizing::new(bech32::decode(SECRET, &lower).ok_or(AgeError::NoIdentity)?);
        let mut secret = Zeroizing::new([0; 32]);
        if bytes.len() != secret.len() {
            return Err(AgeError::NoIdentity);
        }
        secret.copy_from_slice(&bytes);
        Ok(Self(secret))
    }
}

impl FromStr for Recipient {
    type Err = AgeError;

    fn from_str(text: &str) -> Result<Self, AgeError> {
        let bytes = bech32::decode(PUBLIC, text).and_then(|bytes| bytes.try_into().ok());
        let shown = || text.chars().filter(|c| !c.is_control()).take(80).collect();
        bytes.map(Self).ok_or_else(|| AgeError::NoRecipient(shown()))
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(PUBLIC, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({self})")
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Identity(..)")
    }
}

pub(super) fn wrap(recipient: &Recipient, file_key: &FileKey) -> Result<Stanza, AgeError> {
    let ours = EphemeralPrivateKey::generate(&X25519, &SystemRandom::new())
        .map_err(|_unspecified| AgeError::Random)?;
    let share = ours
        .compute_public_key()
        .map_err(|_unspecified| AgeError::Random)?;
    let theirs = UnparsedPublicKey::new(&X25519, recipient.0);
    let key = agree_ephemeral(ours, &theirs, |shared| {
        wrapping_key(shared, share.as_ref(), recipient)
    });
    // A key of small order, for which everybody would have the same secret.
    let key = key.map_err(|_unspecified| AgeError::NoRecipient(recipient.to_string()))?;
    Ok(Stanza {
        args: vec![KIND.to_owned(), base64(share.as_ref())],
        body: super::wrap(&key, file_key)?,
    })
}

/// `None` when it is for somebody else.
pub(super) fn unwrap(identity: &Identity, stanza: &Stanza) -> Result<Option<FileKey>, AgeError> {
    if stanza.args[0] != KIND {
        return Ok(None);
    }
    let malformed = AgeError::Malformed("the share of a recipient");
    let [_, share] = &stanza.args[..] else {
        return Err(malformed);
    };
    let share: Option<[u8; 32]> = unbase64(share).and_then(|share| share.try_into().ok());
    let Some(share) = share else {
        return Err(malformed);
    };
    let shared = Zeroizing::new(MontgomeryPoint(share).mul_clamped(*identity.0).to_bytes());
    if shared.iter().all(|byte| *byte == 0) {
        return Err(malformed);
    }
    let key = wrapping_key(&shared[..], &share, &identity.recipient());
    super::unwrap(&key, &stanza.body)
}

fn wrapping_key(shared: &[u8], share: &[u8], recipient: &Recipient) -> Zeroizing<[u8; 32]> {
    hkdf(
        &[share, &recipient.0].concat(),
        shared,
        "age-encryption.org/v1/X25519",
    )
}

const KIND: &str = "X25519";
const PUBLIC: &str = "age";
const SECRET: &str = "age-secret-key-";

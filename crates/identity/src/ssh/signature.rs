//! Signatures in the format of PROTOCOL.sshsig, as `ssh-keygen -Y sign` makes them.

use ring::digest::{SHA256, SHA512, digest};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm,
};

use super::SshError;
use super::key::{Kind, SshPublicKey};
use super::wire::{Reader, string};

/// One that was taken apart and is not yet verified.
#[derive(Debug)]
pub struct SshSignature<'a> {
    key: SshPublicKey,
    namespace: &'a [u8],
    hash: &'a str,
    signature: &'a [u8],
}

impl<'a> SshSignature<'a> {
    /// Takes the binary form apart: what stands between the lines of the armour, without base64.
    ///
    /// # Errors
    /// When it is malformed, or by a kind of key that we do not know.
    pub fn parse(blob: &'a [u8]) -> Result<Self, SshError> {
        if blob.len() > MAX_SIGNATURE {
            return Err(SshError::Malformed);
        }
        let mut reader = Reader(blob);
        if reader.take(MAGIC.len())? != MAGIC || reader.number()? != VERSION {
            return Err(SshError::Malformed);
        }
        let key = SshPublicKey::from_blob(reader.string()?)?;
        let namespace = reader.string()?;
        if !reader.string()?.is_empty() {
            return Err(SshError::Malformed);
        }
        let hash = reader.text()?;
        let signature = reader.string()?;
        reader.end()?;
        Ok(Self {
            key,
            namespace,
            hash,
            signature,
        })
    }

    /// Puts one together, of what an SSH agent has answered: `signature` has its kind in front.
    pub fn assemble(key: &SshPublicKey, namespace: &str, signature: &[u8]) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&VERSION.to_be_bytes());
        for part in [key.blob(), namespace.as_bytes(), b"", HASH.as_bytes(), signature] {
            string(&mut out, part);
        }
        out
    }

    /// The key that has signed this message for this purpose.
    ///
    /// # Errors
    /// When it was signed for another purpose, by nobody's touch, or not by the key that it names.
    pub fn verify(&self, namespace: &str, message: &[u8]) -> Result<&SshPublicKey, SshError> {
        if namespace.is_empty() || self.namespace != namespace.as_bytes() {
            return Err(SshError::Namespace);
        }
        let signed = signed(namespace, self.hash, message)?;
        let mut reader = Reader(self.signature);
        if reader.text()? != self.key.kind() {
            return Err(SshError::Malformed);
        }
        match &self.key.kind {
            Kind::Ed25519(key) => {
                let signature = reader.string()?;
                reader.end()?;
                verify(&ED25519, key, &signed, signature)
            }
            Kind::EcdsaP256(key) => {
                let signature = pair(reader.string()?, 32)?;
                reader.end()?;
                verify(&ECDSA_P256_SHA256_FIXED, key, &signed, &signature)
            }
            Kind::EcdsaP384(key) => {
                let signature = pair(reader.string()?, 48)?;
                reader.end()?;
                verify(&ECDSA_P384_SHA384_FIXED, key, &signed, &signature)
            }
            Kind::SkEd25519(key, application) => {
                let signature = reader.string()?;
                let signed = by_security_key(reader, application, &signed)?;
                verify(&ED25519, key, &signed, signature)
            }
            Kind::SkEcdsaP256(key, application) => {
                let signature = pair(reader.string()?, 32)?;
                let signed = by_security_key(reader, application, &signed)?;
                verify(&ECDSA_P256_SHA256_FIXED, key, &signed, &signature)
            }
        }?;
        Ok(&self.key)
    }
}

/// What the key itself signs, for this message and purpose.
pub fn to_be_signed(namespace: &str, message: &[u8]) -> Vec<u8> {
    signed(namespace, HASH, message).unwrap_or_default()
}

fn signed(namespace: &str, hash: &str, message: &[u8]) -> Result<Vec<u8>, SshError> {
    let digest = match hash {
        "sha256" => digest(&SHA256, message),
        HASH => digest(&SHA512, message),
        _ => return Err(SshError::Malformed),
    };
    let mut out = MAGIC.to_vec();
    for part in [namespace.as_bytes(), b"", hash.as_bytes(), digest.as_ref()] {
        string(&mut out, part);
    }
    Ok(out)
}

/// PROTOCOL.u2f, "SSH U2F signatures": what a security key signs in place of the message.
fn by_security_key(mut reader: Reader<'_>, application: &[u8], message: &[u8]) -> Result<Vec<u8>, SshError> {
    let (flags, counter) = (reader.byte()?, reader.number()?);
    reader.end()?;
    if flags & TOUCHED == 0 {
        return Err(SshError::NoTouch);
    }
    let (application, message) = (digest(&SHA256, application), digest(&SHA256, message));
    Ok([
        application.as_ref(),
        &[flags],
        &counter.to_be_bytes(),
        message.as_ref(),
    ]
    .concat())
}

/// r and s, each of this many bytes.
fn pair(signature: &[u8], width: usize) -> Result<Vec<u8>, SshError> {
    let mut reader = Reader(signature);
    let both = [reader.scalar(width)?, reader.scalar(width)?].concat();
    reader.end()?;
    Ok(both)
}

fn verify(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), SshError> {
    UnparsedPublicKey::new(algorithm, key)
        .verify(message, signature)
        .map_err(|_unspecified| SshError::BadSignature)
}

const MAGIC: &[u8; 6] = b"SSHSIG";
const VERSION: u32 = 1;
const HASH: &str = "sha512";
const TOUCHED: u8 = 1;
/// Twice what the largest of ours has.
const MAX_SIGNATURE: usize = 4096;

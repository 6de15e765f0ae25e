//! Private keys in OpenSSH's files. Invariant: only what has no passphrase is read; what it signs is for one message and purpose.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    Ed25519KeyPair,
};
use zeroize::Zeroizing;

use super::key::{ECDSA_P256, ECDSA_P384, ED25519};
use super::wire::{Reader, scalar, string};
use super::{SshError, SshPublicKey, SshSignature, to_be_signed};

/// A key of a file such as `~/.ssh/id_ed25519`.
pub struct SshPrivateKey {
    public: SshPublicKey,
    pair: Pair,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
}

impl SshPrivateKey {
    /// Reads a file that begins with `-----BEGIN OPENSSH PRIVATE KEY-----` (PROTOCOL.key).
    ///
    /// # Errors
    /// When it is none, has a passphrase, or is of a kind that we do not know.
    pub fn from_pem(text: &str) -> Result<Self, SshError> {
        let body = text
            .trim()
            .strip_prefix(BEGIN)
            .and_then(|rest| rest.strip_suffix(END));
        let body: Zeroizing<String> = Zeroizing::new(
            body.ok_or(SshError::Malformed)?
                .split_ascii_whitespace()
                .collect(),
        );
        let bytes = STANDARD
            .decode(body.as_bytes())
            .map_err(|_no_base64| SshError::Malformed)?;
        Self::from_bytes(&Zeroizing::new(bytes))
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, SshError> {
        let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or(SshError::Malformed)?);
        let (cipher, kdf, _options) = (reader.text()?, reader.text()?, reader.string()?);
        if (cipher, kdf) != ("none", "none") {
            return Err(SshError::Encrypted);
        }
        if reader.number()? != 1 {
            return Err(SshError::Malformed);
        }
        let public = SshPublicKey::from_blob(reader.string()?)?;
        let mut secret = Reader(reader.string()?);
        reader.end()?;
        // The same number twice: what a passphrase that is right shows.
        if secret.number()? != secret.number()? || secret.text()? != public.kind() {
            return Err(SshError::Malformed);
        }
        let pair = match public.kind() {
            ED25519 => {
                let (key, both) = (secret.string()?, secret.string()?);
                let seed = both.strip_suffix(key).ok_or(SshError::Malformed)?;
                let pair = Ed25519KeyPair::from_seed_and_public_key(seed, key);
                Pair::Ed25519(pair.map_err(|_broken| SshError::Malformed)?)
            }
            ECDSA_P256 => Pair::Ecdsa(ecdsa(&mut secret, &ECDSA_P256_SHA256_FIXED_SIGNING, 32)?),
            ECDSA_P384 => Pair::Ecdsa(ecdsa(&mut secret, &ECDSA_P384_SHA384_FIXED_SIGNING, 48)?),
            _ => return Err(SshError::Unsupported),
        };
        Ok(Self { public, pair })
    }

    /// Its public half.
    pub fn public_key(&self) -> &SshPublicKey {
        &self.public
    }

    /// Signs a message for this purpose, in the format that [`SshSignature::parse`] reads.
    ///
    /// # Errors
    /// When the random source fails.
    pub fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, SshError> {
        let message = to_be_signed(namespace, message);
        let raw = match &self.pair {
            Pair::Ed25519(pair) => pair.sign(&message).as_ref().to_vec(),
            Pair::Ecdsa(pair) => {
                let signed = pair.sign(&SystemRandom::new(), &message);
                let signed = signed.map_err(|_random| SshError::CannotSign)?;
                let (r, s) = signed.as_ref().split_at(signed.as_ref().len() / 2);
                let mut both = Vec::new();
                scalar(&mut both, r);
                scalar(&mut both, s);
                both
            }
        };
        let mut signature = Vec::new();
        string(&mut signature, self.public.kind().as_bytes());
        string(&mut signature, &raw);
        Ok(SshSignature::assemble(&self.public, namespace, &signature))
    }
}

fn ecdsa(
    secret: &mut Reader<'_>,
    algorithm: &'static EcdsaSigningAlgorithm,
    width: usize,
) -> Result<EcdsaKeyPair, SshError> {
    let (_curve, point) = (secret.text()?, secret.string()?);
    let key = Zeroizing::new(secret.scalar(width)?);
    let pair = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &key, point, &SystemRandom::new());
    pair.map_err(|_broken| SshError::Malformed)
}

/// Never the key.
impl std::fmt::Debug for SshPrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SshPrivateKey({})", self.public.fingerprint())
    }
}

const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
const END: &str = "-----END OPENSSH PRIVATE KEY-----";
const MAGIC: &[u8] = b"openssh-key-v1\0";

//! The bundle chain: each change of a trust domain's bundle is a step, signed by a *root key* that signs nothing else.
//!
//! Invariant: what is signed are the bytes of a step as they are, never made anew; whoever holds a root key of a node, and nobody else, moves
//! it on, and only forwards. Format: `docs/formats/bundle-step.md`.

mod error;
mod root_key;
mod walker;
mod wire;

use ring::digest::{Context, SHA256};

use crate::bundle::Bundle;
use crate::pem;
use crate::trust_domain::TrustDomain;
use crate::unix_time::UnixTime;

pub use error::ChainError;
pub use root_key::{RootKey, RootPrivateKey};
pub use walker::{Position, Walked, Walker};

/// SHA-256 of what is signed of a step.
pub type StepDigest = [u8; 32];

/// What a step says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// Grows when the server's registry begins anew or is restored: as that of its revisions.
    pub epoch: u64,
    /// Grows by one with each step, over epochs too.
    pub sequence: u64,
    /// Digest of the step before; `None` for the first of all.
    pub previous: Option<StepDigest>,
    /// The X.509 and JWT authorities from here on, with the sequence of the bundle.
    pub bundle: Bundle,
    /// Whoever has one of these signs the next step. One to four.
    pub root_keys: Vec<RootKey>,
    /// When it was made, for people: nothing is decided by it.
    pub time: UnixTime,
}

/// A step as it is sent and kept: the bytes, what they say, and who signed them. That somebody signed says nothing before a [`Walker`] has looked.
#[derive(Clone, PartialEq, Eq)]
pub struct SignedStep {
    bytes: Vec<u8>,
    step: Step,
    digest: StepDigest,
    signatures: Vec<(RootKey, [u8; SIGNATURE])>,
}

impl SignedStep {
    /// A step that nobody has signed yet.
    ///
    /// # Errors
    /// It has no root key or more than four, or is larger than a step may be.
    pub fn unsigned(step: &Step) -> Result<Self, ChainError> {
        Self::read(wire::step_out(step), Vec::new())
    }

    /// Reads what [`Self::to_bytes`] wrote.
    ///
    /// # Errors
    /// It is too large, or not the form of a step.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ChainError> {
        let (step, signatures) = wire::signed_in(bytes)?;
        Self::read(step, signatures)
    }

    /// All of it, to be sent or kept.
    pub fn to_bytes(&self) -> Vec<u8> {
        wire::signed_out(&self.bytes, &self.signatures)
    }

    /// Reads the first step of a PEM text.
    ///
    /// # Errors
    /// There is none, or as [`Self::from_bytes`].
    pub fn from_pem(text: &str) -> Result<Self, ChainError> {
        let bytes = pem::first(text, LABEL).ok_or(ChainError::NoPem)?;
        Self::from_bytes(&bytes)
    }

    /// To be carried by hand to where the root key is.
    pub fn to_pem(&self) -> String {
        pem::encode(LABEL, &self.to_bytes()).to_string()
    }

    fn read(bytes: Vec<u8>, signatures: Vec<(RootKey, [u8; SIGNATURE])>) -> Result<Self, ChainError> {
        let step = wire::step_in(&bytes)?;
        let mut hash = Context::new(&SHA256);
        hash.update(PREFIX);
        hash.update(&bytes);
        let mut digest = [0; 32];
        digest.copy_from_slice(hash.finish().as_ref());
        Ok(Self {
            bytes,
            step,
            digest,
            signatures,
        })
    }

    /// What it says.
    pub fn step(&self) -> &Step {
        &self.step
    }

    /// Whose bundle it is.
    pub fn trust_domain(&self) -> &TrustDomain {
        self.step.bundle.trust_domain()
    }

    /// What the next step names.
    pub fn digest(&self) -> StepDigest {
        self.digest
    }

    /// Those who say that they signed.
    pub fn signers(&self) -> impl Iterator<Item = RootKey> {
        self.signatures.iter().map(|(key, _)| *key)
    }

    /// Signs it with this key too.
    ///
    /// # Errors
    /// It has as many signatures as a step may have.
    pub fn sign(&mut self, key: &RootPrivateKey) -> Result<(), ChainError> {
        let public = key.public_key();
        self.signatures.retain(|(other, _)| *other != public);
        if self.signatures.len() >= MAX_SIGNATURES {
            return Err(ChainError::TooManySignatures);
        }
        self.signatures.push((public, key.sign(&self.message())));
        Ok(())
    }

    /// Whether this key has signed these very bytes.
    pub fn is_signed_by(&self, key: RootKey) -> bool {
        let message = self.message();
        let mut of_key = self.signatures.iter().filter(|(signer, _)| *signer == key);
        of_key.any(|(signer, signature)| signer.verifies(&message, signature))
    }

    fn message(&self) -> Vec<u8> {
        [PREFIX, &self.bytes].concat()
    }
}

impl std::fmt::Debug for SignedStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let step = &self.step;
        write!(
            f,
            "SignedStep({} {}.{})",
            self.trust_domain(),
            step.epoch,
            step.sequence
        )
    }
}

/// Nothing else that a root key could be made to sign begins like this.
const PREFIX: &[u8] = b"landfast bundle step v1\n";
const LABEL: &str = "LANDFAST BUNDLE STEP";
const SIGNATURE: usize = 64;
/// Bytes of a step: 256 authorities with long chains of names have room.
const MAX_STEP: usize = 512 * 1024;
/// As many as old and new root keys together.
const MAX_SIGNATURES: usize = 2 * MAX_ROOT_KEYS;
const MAX_ROOT_KEYS: usize = 4;

#[cfg(test)]
mod tests;

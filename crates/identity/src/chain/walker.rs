//! Walks from a step that is known to later ones. Pure. Invariant: it stands where the last step that it took stands; one that is refused moves
//! nothing.

use super::{ChainError, RootKey, SignedStep, StepDigest};
use crate::trust_domain::TrustDomain;

/// Where somebody stands in a chain, and whom he believes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Position {
    /// Of the last step.
    pub epoch: u64,
    /// Of the last step.
    pub sequence: u64,
    /// Of the bundle in the last step.
    pub bundle_sequence: u64,
    /// Of the last step.
    pub digest: StepDigest,
    /// Who signs the next one.
    pub root_keys: Vec<RootKey>,
}

/// What a step was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Walked {
    /// The very one on which the walk stands.
    Here,
    /// The next.
    Onward,
    /// The first that is known of a later epoch: the registry has begun anew, or was restored.
    NewEpoch,
}

/// Walks the chain of one trust domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Walker {
    trust_domain: TrustDomain,
    at: Position,
}

impl Walker {
    /// Begins with a step, which is believed for where it came from: from a server that was verified otherwise.
    ///
    /// # Errors
    /// It is of another trust domain, or none of its own root keys has signed it.
    pub fn begin(trust_domain: TrustDomain, step: &SignedStep) -> Result<Self, ChainError> {
        is_of(&trust_domain, step)?;
        if !is_signed_by_any(step, &step.step().root_keys) {
            return Err(not_signed(step));
        }
        Ok(Self {
            trust_domain,
            at: position(step),
        })
    }

    /// Goes on from where somebody stood.
    pub fn resume(trust_domain: TrustDomain, at: Position) -> Self {
        Self { trust_domain, at }
    }

    /// Where it stands.
    pub fn position(&self) -> &Position {
        &self.at
    }

    /// Takes one step, or stays where it is.
    ///
    /// # Errors
    /// The first rule that the step breaks.
    pub fn walk(&mut self, signed: &SignedStep) -> Result<Walked, ChainError> {
        is_of(&self.trust_domain, signed)?;
        let (step, at) = (signed.step(), &self.at);
        let (epoch, sequence) = (step.epoch, step.sequence);
        if (epoch, sequence) == (at.epoch, at.sequence) {
            return match signed.digest() == at.digest {
                true => Ok(Walked::Here),
                false => Err(ChainError::Forked { epoch, sequence }),
            };
        }
        if epoch < at.epoch || (epoch == at.epoch && sequence < at.sequence) {
            return Err(ChainError::Older {
                epoch,
                sequence,
                at_epoch: at.epoch,
                at_sequence: at.sequence,
            });
        }
        if epoch == at.epoch && step.previous != Some(at.digest) {
            return Err(ChainError::NotNext { epoch, sequence });
        }
        if epoch == at.epoch && step.bundle.sequence() < at.bundle_sequence {
            return Err(ChainError::BundleGoesBack { epoch, sequence });
        }
        if !is_signed_by_any(signed, &at.root_keys) {
            return Err(not_signed(signed));
        }
        if !has_consent(signed, &at.root_keys) {
            return Err(ChainError::NewKeysHaveNotSigned { epoch, sequence });
        }
        let walked = match epoch == at.epoch {
            true => Walked::Onward,
            false => Walked::NewEpoch,
        };
        self.at = position(signed);
        Ok(walked)
    }
}

fn position(signed: &SignedStep) -> Position {
    let step = signed.step();
    Position {
        epoch: step.epoch,
        sequence: step.sequence,
        bundle_sequence: step.bundle.sequence(),
        digest: signed.digest(),
        root_keys: step.root_keys.clone(),
    }
}

fn is_of(trust_domain: &TrustDomain, step: &SignedStep) -> Result<(), ChainError> {
    match step.trust_domain() == trust_domain {
        true => Ok(()),
        false => Err(ChainError::OtherTrustDomain {
            found: step.trust_domain().clone(),
            expected: trust_domain.clone(),
        }),
    }
}

fn is_signed_by_any(step: &SignedStep, keys: &[RootKey]) -> bool {
    keys.iter().any(|key| step.is_signed_by(*key))
}

/// Whoever is to sign from here on can: each key that is new, and one at least of all. A key that was mistyped, or whose owner has lost it, would
/// end the chain.
fn has_consent(step: &SignedStep, before: &[RootKey]) -> bool {
    let next = &step.step().root_keys;
    let mut new = next.iter().filter(|key| !before.contains(key));
    new.all(|key| step.is_signed_by(*key)) && is_signed_by_any(step, next)
}

fn not_signed(step: &SignedStep) -> ChainError {
    ChainError::NotSigned {
        epoch: step.step().epoch,
        sequence: step.step().sequence,
    }
}

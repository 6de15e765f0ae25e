//! Why a step is refused. Invariant: each rule has a reason of its own.

use crate::bundle::BundleError;
use crate::trust_domain::TrustDomain;

/// Why a step, or a walk, is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// No PEM block of a step, or a broken one.
    #[error("the text holds no LANDFAST BUNDLE STEP, or a broken one")]
    NoPem,
    /// More than 512 KiB.
    #[error("the step has {bytes} bytes, more than accepted")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// Not protobuf.
    #[error("the step cannot be read")]
    Form {
        /// Where it breaks.
        source: prost::DecodeError,
    },
    /// A part that is missing or of the wrong kind.
    #[error("{part} of the step is missing or of the wrong kind")]
    Part {
        /// Which.
        part: &'static str,
    },
    /// The authorities make no bundle.
    #[error("the authorities of the step make no bundle")]
    Bundle {
        /// Why.
        #[from]
        source: BundleError,
    },
    /// No root key, the same twice, or more than four.
    #[error("the step has {count} different root keys, and 1 to 4 are accepted, each once")]
    RootKeys {
        /// How many.
        count: usize,
    },
    /// More than eight.
    #[error("the step has more signatures than accepted")]
    TooManySignatures,
    /// Of another trust domain.
    #[error("the step is of trust domain {found}, not of {expected}")]
    OtherTrustDomain {
        /// Its own.
        found: TrustDomain,
        /// Ours.
        expected: TrustDomain,
    },
    /// It lies before where the walk stands.
    #[error("the step {epoch}.{sequence} is older than {at_epoch}.{at_sequence}, which was walked already")]
    Older {
        /// Of the step.
        epoch: u64,
        /// Of the step.
        sequence: u64,
        /// Where the walk stands.
        at_epoch: u64,
        /// Where the walk stands.
        at_sequence: u64,
    },
    /// The place is taken by another step.
    #[error("there is another step {epoch}.{sequence} than the one that was walked: the chain was forked")]
    Forked {
        /// Of both.
        epoch: u64,
        /// Of both.
        sequence: u64,
    },
    /// It does not follow where the walk stands.
    #[error(
        "the step {epoch}.{sequence} does not name the one before it: a step is missing, or the chain was forked"
    )]
    NotNext {
        /// Of the step.
        epoch: u64,
        /// Of the step.
        sequence: u64,
    },
    /// The bundle of a step is older than the one before.
    #[error("the bundle of step {epoch}.{sequence} is older than that of the step before")]
    BundleGoesBack {
        /// Of the step.
        epoch: u64,
        /// Of the step.
        sequence: u64,
    },
    /// No root key that is known has signed it.
    #[error("no root key that is known has signed the step {epoch}.{sequence}")]
    NotSigned {
        /// Of the step.
        epoch: u64,
        /// Of the step.
        sequence: u64,
    },
    /// A root key that is new, or all that stay, have not signed.
    #[error("the step {epoch}.{sequence} changes the root keys, and the new ones have not all signed it")]
    NewKeysHaveNotSigned {
        /// Of the step.
        epoch: u64,
        /// Of the step.
        sequence: u64,
    },
}

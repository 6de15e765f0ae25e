//! What an authority above ours is asked, and how it fails. Who it is, `crate::upstream` knows.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use landfast_identity::{Certificate, JwtAuthority, Signer, TrustDomain, UnixTime, X509Authority};

use super::descent::DescentError;
use crate::upstream::{DiskError, ParentError};

/// An authority that signs ours.
#[async_trait]
pub(crate) trait Upstream: Send + Sync + Debug {
    /// A certificate for the key of our next authority.
    async fn sign(&self, wish: &Wish<'_>) -> Result<Signed, UpstreamError>;

    /// What is believed there now.
    async fn look(&self, now: UnixTime) -> Result<Seen, UpstreamError>;

    /// Makes a JWT key of ours known there. Nothing where nobody asks for it.
    async fn publish(&self, key: &JwtAuthority) -> Result<(), UpstreamError>;

    /// Whether it names everything that it believes, JWT keys too: then what it no longer names is over.
    fn is_complete(&self) -> bool;

    /// Its name, for people.
    fn name(&self) -> String;
}

/// What our next authority shall be.
pub(crate) struct Wish<'a> {
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) signer: &'a Arc<dyn Signer>,
    pub(crate) now: UnixTime,
    pub(crate) not_before: UnixTime,
    /// At most.
    pub(crate) not_after: UnixTime,
}

/// What came of it. Not believed before [`super::descent::judge`] has looked at it.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) certificate: Certificate,
    /// What is between it and the root, the signer first.
    pub(crate) chain: Vec<Certificate>,
    pub(crate) roots: Vec<X509Authority>,
}

/// The upstream authority's own bundle.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    pub(crate) roots: Vec<X509Authority>,
    pub(crate) jwt: Vec<JwtAuthority>,
    /// What signs there is new, so that what failed may do now.
    pub(crate) fresh: bool,
    /// Grows with every change of what is believed there, where somebody counts them.
    pub(crate) sequence: Option<u64>,
}

/// Why an upstream authority is of no use now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    #[error("the upstream files cannot be used")]
    Disk {
        #[from]
        source: Arc<DiskError>,
    },
    #[error("the parent server is of no use now")]
    Parent {
        #[from]
        source: ParentError,
    },
    #[error("what the upstream authority signed cannot be used")]
    Descent {
        #[from]
        source: DescentError,
    },
    #[error(
        "the upstream authority's own certificates end at {ends}, and what it signs ends with them, no later than what signs now: renew them there"
    )]
    NoGain { ends: UnixTime },
    #[error("the upstream authority's bundle holds no X.509 authority: what we have stays")]
    Empty,
}

impl UpstreamError {
    /// Whether a key is refused for what it is, so that others may not be.
    pub(crate) fn is_about_the_key(&self) -> bool {
        matches!(self, Self::Parent { source } if source.is_an_answer())
    }

    /// Whether time may mend it, or somebody elsewhere. Files of our own are mended here.
    pub(crate) fn may_pass(&self) -> bool {
        !matches!(self, Self::Disk { .. })
    }
}

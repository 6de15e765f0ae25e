//! Why a certificate or chain is refused. Invariant: each rule has a reason of its own, so a log line names the rule.

use crate::id::IdError;
use crate::key::KeyError;
use crate::trust_domain::TrustDomain;
use crate::unix_time::UnixTime;

/// Where in the chain a certificate stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChainRole {
    /// The certificate of the peer itself.
    Leaf,
    /// One between the leaf and the anchor.
    Intermediate,
    /// An authority of the bundle, or a root.
    Anchor,
}

impl std::fmt::Display for ChainRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate",
            Self::Anchor => "trust anchor",
        })
    }
}

/// Why a certificate or a chain is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum X509Error {
    /// No certificate at all.
    #[error("the chain is empty")]
    EmptyChain,
    /// More certificates than we follow.
    #[error("the chain has {count} certificates, more than accepted")]
    ChainTooLong {
        /// How many.
        count: usize,
    },
    /// More bytes than we read.
    #[error("the chain has {bytes} bytes, more than accepted")]
    ChainTooLarge {
        /// How many.
        bytes: usize,
    },
    /// Not a DER certificate.
    #[error("the certificate is malformed: {detail}")]
    Malformed {
        /// Where the parser stopped.
        detail: String,
    },
    /// A PEM text that is broken or holds no certificate.
    #[error("the PEM text is broken or holds no certificate")]
    Pem,
    /// The same extension twice (RFC 5280 §4.2).
    #[error("the certificate carries an extension twice")]
    DuplicateExtension,
    /// Not X.509 version 3.
    #[error("the certificate is not of version 3")]
    Version,
    /// A key that is too weak or of an unknown kind.
    #[error("the {role} key is refused")]
    Key {
        /// Whose key; a leaf where the position is not known.
        role: ChainRole,
        /// Why.
        source: KeyError,
    },
    /// A leaf without a URI SAN.
    #[error("the certificate has no URI SAN")]
    NoUriSan,
    /// More than one URI SAN (X509-SVID §2, §5.2).
    #[error("the certificate has {count} URI SANs instead of one")]
    SeveralUriSans {
        /// How many.
        count: usize,
    },
    /// A URI SAN that is no SPIFFE ID.
    #[error("the URI SAN is no SPIFFE ID")]
    SpiffeId {
        /// Which rule it breaks.
        source: IdError,
    },
    /// A leaf whose SPIFFE ID has no path (X509-SVID §3.1).
    #[error("the SPIFFE ID of the leaf has no path")]
    NoPath,
    /// A leaf that is a CA (X509-SVID §4.1, §5.2).
    #[error("the leaf is a CA certificate")]
    LeafIsCa,
    /// No key usage extension (X509-SVID §4.3).
    #[error("the {role} has no key usage")]
    NoKeyUsage {
        /// Which certificate.
        role: ChainRole,
    },
    /// Key usage that is not critical (X509-SVID §4.3).
    #[error("the key usage of the {role} is not critical")]
    KeyUsageNotCritical {
        /// Which certificate.
        role: ChainRole,
    },
    /// A leaf without digitalSignature (X509-SVID §4.3).
    #[error("the leaf lacks the key usage digitalSignature")]
    NoDigitalSignature,
    /// A leaf with keyCertSign or cRLSign (X509-SVID §4.3, §5.2).
    #[error("the leaf has a key usage of signing certificates")]
    LeafMaySign,
    /// A leaf with name constraints, which are for those who certify (RFC 5280 §4.2.1.10).
    #[error("the leaf carries name constraints")]
    LeafNameConstraints,
    /// An extended key usage that lacks serverAuth or clientAuth (X509-SVID §4.4).
    #[error("the extended key usage lacks server or client authentication")]
    ExtendedKeyUsage,
    /// A signing certificate that is no CA (X509-SVID §4.1).
    #[error("the {role} is no CA certificate")]
    NotCa {
        /// Which certificate.
        role: ChainRole,
    },
    /// A signing certificate without keyCertSign (X509-SVID §4.3).
    #[error("the {role} lacks the key usage keyCertSign")]
    NoCertSign {
        /// Which certificate.
        role: ChainRole,
    },
    /// A signing certificate with an ID that has a path or is of another trust domain (X509-SVID §3.2).
    #[error("the intermediate carries an ID with a path or of another trust domain")]
    IntermediateId,
    /// A URI name constraint. The path validator cannot evaluate it, so it is refused rather than ignored.
    #[error("the chain carries a URI name constraint, which is not supported")]
    UriNameConstraint,
    /// A critical extension that we do not know.
    #[error("the {role} carries an unknown critical extension")]
    UnknownCriticalExtension {
        /// Which certificate.
        role: ChainRole,
    },
    /// Before its validity. Check the clock.
    #[error("the {role} is not valid before {not_before}")]
    NotYetValid {
        /// Which certificate.
        role: ChainRole,
        /// Start of its validity.
        not_before: UnixTime,
    },
    /// After its validity.
    #[error("the {role} expired at {not_after}")]
    Expired {
        /// Which certificate.
        role: ChainRole,
        /// End of its validity.
        not_after: UnixTime,
    },
    /// We have no bundle of the peer's trust domain.
    #[error("no bundle of trust domain {trust_domain}")]
    NoBundle {
        /// The peer's.
        trust_domain: TrustDomain,
    },
    /// No path to an anchor.
    #[error("the chain leads to no known authority")]
    UnknownIssuer,
    /// A signature in the chain is wrong.
    #[error("a signature in the chain is wrong")]
    BadSignature,
    /// A signature algorithm that we do not accept, such as SHA-1.
    #[error("a signature in the chain uses an algorithm that is not accepted")]
    SignatureAlgorithm,
    /// A path length constraint is exceeded.
    #[error("the chain is longer than an authority allows")]
    PathLength,
    /// A name is outside of what an authority may certify.
    #[error("a name is outside the name constraints of an authority")]
    NameConstraint,
    /// Another rule of RFC 5280 §6.
    #[error("the chain is invalid: {detail}")]
    Path {
        /// What the path validator said.
        detail: String,
    },
    /// A private key that does not belong to the certificate.
    #[error("the private key does not belong to the certificate")]
    KeyMismatch,
}

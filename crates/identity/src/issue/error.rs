//! Why a certificate was not built.

use crate::key::KeyError;
use crate::unix_time::UnixTime;
use crate::x509_error::X509Error;

/// Why no certificate or request was built.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// A leaf needs an ID with a path (X509-SVID §3.1).
    #[error("the SPIFFE ID of a leaf needs a path")]
    NoPath,
    /// Ends before it starts.
    #[error("the validity is empty")]
    EmptyValidity,
    /// A time outside of the years 1950 to 9999.
    #[error("{time} cannot stand in a certificate")]
    TimeRange {
        /// Which.
        time: UnixTime,
    },
    /// A leaf that would outlive its authority.
    #[error("the leaf would outlive its issuer, which ends at {issuer_not_after}")]
    OutlivesIssuer {
        /// The issuer's end.
        issuer_not_after: UnixTime,
    },
    /// A serial number of zero.
    #[error("the serial number is zero")]
    ZeroSerial,
    /// The signer's key is not the one in the issuer's certificate.
    #[error("the signer is not the key of the issuer")]
    WrongSigner,
    /// A DNS SAN that is no DNS name.
    #[error("{name:?} is no DNS name")]
    DnsName {
        /// Which.
        name: String,
    },
    /// The issuer's subject cannot be repeated byte by byte.
    #[error("the issuer's subject cannot be repeated in a certificate")]
    IssuerName,
    /// The signer failed.
    #[error("signing failed")]
    Signing {
        /// Why.
        source: KeyError,
    },
    /// The encoder refused.
    #[error("the certificate cannot be encoded")]
    Build {
        /// Why.
        source: rcgen::Error,
    },
    /// What was built does not read back.
    #[error("the new certificate cannot be read back")]
    ReadBack {
        /// Why.
        source: X509Error,
    },
}

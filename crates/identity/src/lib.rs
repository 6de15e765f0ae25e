//! SPIFFE identities as values: parse, build, verify. No I/O, no clock, no tokio.
//!
//! Invariant: a value of a type of this crate meets the rules of its standard; time is always a parameter.

mod bundle;
mod bundle_set;
mod certificate;
pub mod chain;
mod csr;
mod der;
mod device_key;
mod id;
pub mod issue;
mod json;
mod jwk;
pub mod jwt;
mod key;
mod login;
pub mod oidc;
mod pattern;
mod pem;
mod pss;
mod public_key;
mod recovery;
mod roca;
mod selector;
pub mod ssh;
mod supplied_key;
mod svid;
mod trust_domain;
mod unix_time;
mod verify;
pub mod wit;
mod x509_error;

pub use bundle::{Bundle, BundleError, JwtAuthority, WitAuthority, X509Authority};
pub use bundle_set::BundleSet;
pub use certificate::{Certificate, chain_to_pem, parse_chain_der, parse_chain_pem};
pub use csr::{Csr, CsrError, build_csr};
pub use device_key::DeviceKey;
pub use id::{IdError, SpiffeId};
pub use issue::IssueError;
pub use jwt::{JwtError, JwtSvid};
pub use key::{KeyError, KeyType, PrivateKey, Signer};
pub use login::LoginProof;
pub use pattern::IdPattern;
pub use public_key::{KeyAlgorithm, PublicKey, SignatureScheme, verify_signature};
pub use recovery::{RecoveryProof, RegistrationProof};
pub use selector::{Selector, SelectorError, SelectorSet};
pub use supplied_key::SuppliedKey;
pub use svid::X509Svid;
pub use trust_domain::TrustDomain;
pub use unix_time::UnixTime;
pub use verify::{VerifiedPeer, verify_external_chain, verify_x509_svid};
pub use wit::WitSvid;
pub use x509_error::{ChainRole, X509Error};

#[cfg(test)]
mod vectors;

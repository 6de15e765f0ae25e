//! rustls verifiers and resolvers by SPIFFE ID.
//!
//! Invariant: every handshake is a full one, verified with the bundles, the identity and the wall time of that moment. There is
//! nothing to resume: no tickets, no session cache, on either side.

mod bundle_store;
mod config;
mod danger;
mod expect;
mod identity_store;
mod peer;
mod verifier;
mod web;

pub use bundle_store::BundleStore;
pub use config::{ClientAuth, LeastTls, TlsError, client_config, https_config, server_config};
pub use danger::danger_unverified_client_config;
pub use expect::Expect;
pub use identity_store::IdentityStore;
pub use peer::{PeerError, peer, refusal};
pub use web::{
    SYSTEM_ROOTS, WebRoots, WebRootsError, spiffe_https_config, system_roots, web_https_config,
    web_tls_config,
};

#[cfg(test)]
mod tests;

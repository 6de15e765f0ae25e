//! TLS for HTTP/1.1: to bundle endpoints, known by their host's certificate or by their SPIFFE ID.

use std::path::PathBuf;
use std::sync::Arc;

use landfast_lifecycle::SharedClock;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

use crate::config::{client_builder, client_of, finished};
use crate::{BundleStore, Expect, TlsError};

/// Authorities of hosts' certificates. Cheap to clone; never empty.
#[derive(Clone, Debug)]
pub struct WebRoots(Arc<RootCertStore>);

/// The text holds no authorities.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebRootsError {
    /// Not PEM.
    #[error("it is no PEM")]
    Pem {
        /// Why.
        source: rustls::pki_types::pem::Error,
    },
    /// No certificate that can be used.
    #[error("it holds no certificate of an authority")]
    Empty,
}

/// Where systems have the authorities of web servers: Debian and Alpine, Fedora, SUSE, others.
pub const SYSTEM_ROOTS: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The first of [`SYSTEM_ROOTS`] that is there.
#[must_use]
pub fn system_roots() -> Option<PathBuf> {
    SYSTEM_ROOTS.iter().map(PathBuf::from).find(|path| path.exists())
}

impl WebRoots {
    /// Reads certificates in PEM. Those of a kind we do not know are left out: system files hold all sorts.
    ///
    /// # Errors
    /// The text is broken, or nothing remains.
    pub fn from_pem(text: &[u8]) -> Result<Self, WebRootsError> {
        let certificates = CertificateDer::pem_slice_iter(text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| WebRootsError::Pem { source })?;
        let mut roots = RootCertStore::empty();
        let (added, _others) = roots.add_parsable_certificates(certificates);
        match added {
            0 => Err(WebRootsError::Empty),
            _ => Ok(Self(Arc::new(roots))),
        }
    }
}

/// For a client of a server that shows a certificate for the host it is called by, of one of these authorities.
///
/// # Errors
/// The cryptographic provider lacks what TLS needs.
pub fn web_https_config(roots: &WebRoots, clock: SharedClock) -> Result<Arc<ClientConfig>, TlsError> {
    let config = client_builder(clock)?
        .with_root_certificates(Arc::clone(&roots.0))
        .with_no_client_auth();
    Ok(Arc::new(finished(config, HTTP1)))
}

/// The same for what speaks something else than HTTP/1.1: `protocols` are offered, none when there are none.
///
/// # Errors
/// The cryptographic provider lacks what TLS needs.
pub fn web_tls_config(
    roots: &WebRoots,
    protocols: &[&[u8]],
    clock: SharedClock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let config = client_builder(clock)?
        .with_root_certificates(Arc::clone(&roots.0))
        .with_no_client_auth();
    let mut config = finished(config, HTTP1);
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(config))
}

/// For a client of a server that is `expect`, whatever its host is called.
///
/// # Errors
/// The cryptographic provider lacks what TLS needs.
pub fn spiffe_https_config(
    expect: Expect,
    bundles: BundleStore,
    clock: SharedClock,
) -> Result<Arc<ClientConfig>, TlsError> {
    let config = client_of(crate::config::VERSIONS, expect, bundles, None, clock)?;
    Ok(Arc::new(finished(config, HTTP1)))
}

const HTTP1: &[u8] = b"http/1.1";

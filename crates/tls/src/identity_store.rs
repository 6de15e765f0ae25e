//! Our own certificate and key as rustls asks for them, replaced while connections run.
//!
//! Invariant: the key stays where it is; rustls gets something that signs with it, never its bytes.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use landfast_identity::{KeyType, PrivateKey, X509Svid};
use rustls::client::ResolvesClientCert;
use rustls::pki_types::CertificateDer;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::{CertifiedKey, Signer, SigningKey};
use rustls::{SignatureAlgorithm, SignatureScheme};

/// Clones share one identity, or the lack of one. A handshake takes the one of its moment.
#[derive(Clone, Default)]
pub struct IdentityStore(Arc<ArcSwapOption<Held>>);

struct Held {
    svid: Arc<X509Svid>,
    certified: Arc<CertifiedKey>,
}

impl IdentityStore {
    /// Without an identity. A server without one refuses every handshake; a client shows no certificate.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on we are this one. Connections that are open go on.
    pub fn set(&self, svid: Arc<X509Svid>) {
        let chain = svid
            .chain()
            .iter()
            .map(|certificate| CertificateDer::from(certificate.as_der().to_vec()))
            .collect();
        let certified = Arc::new(CertifiedKey::new(chain, Arc::new(Key(Arc::clone(svid.key())))));
        self.0.store(Some(Arc::new(Held { svid, certified })));
    }

    /// From now on we are nobody.
    pub fn clear(&self) {
        self.0.store(None);
    }

    /// Who we are.
    #[must_use]
    pub fn current(&self) -> Option<Arc<X509Svid>> {
        self.0.load().as_ref().map(|held| Arc::clone(&held.svid))
    }

    fn certified(&self) -> Option<Arc<CertifiedKey>> {
        self.0.load().as_ref().map(|held| Arc::clone(&held.certified))
    }
}

impl fmt::Debug for IdentityStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.current() {
            Some(svid) => write!(f, "IdentityStore({})", svid.id()),
            None => f.write_str("IdentityStore(none)"),
        }
    }
}

impl ResolvesServerCert for IdentityStore {
    /// Whatever name the client asks for: who we are is in the certificate's URI.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.certified()
    }
}

impl ResolvesClientCert for IdentityStore {
    fn resolve(&self, _authorities: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.certified().filter(|certified| {
            schemes
                .iter()
                .any(|scheme| certified.key.choose_scheme(&[*scheme]).is_some())
        })
    }

    fn has_certs(&self) -> bool {
        self.0.load().is_some()
    }
}

#[derive(Debug)]
struct Key(Arc<PrivateKey>);

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&self.scheme())
            .then(|| Box::new(Self(Arc::clone(&self.0))) as Box<dyn Signer>)
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        self.0
            .sign(message)
            .map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        match self.0.key_type() {
            KeyType::EcP256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            KeyType::EcP384 => SignatureScheme::ECDSA_NISTP384_SHA384,
        }
    }
}

//! Callers of the server's port with whatever they show. Invariant: the server itself is believed by the bundle alone, also by those who lie.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::issue::{self, AuthorityParams, LeafParams};
use landfast_identity::{Bundle, BundleSet, PrivateKey, SpiffeId, TrustDomain, UnixTime, X509Svid};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use rustls::AlertDescription;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::Channel;

use crate::connect;
use crate::failure::Failure;

/// A connection that shows this, or nothing. TLS 1.3 lets a client believe that it is in before the server has looked: the first call tells.
pub(super) async fn caller(
    address: &str,
    bundle: &Bundle,
    shown: Option<Arc<X509Svid>>,
) -> Result<Channel, Failure> {
    let stream = opened(address, bundle, shown).await?;
    let stream = stream.map_err(|error| {
        let hint = "is it the server's address for agents, and is the server well?";
        Failure::not_ready(format!("{address}: {}", error_chain(&error)), hint)
    })?;
    connect::over(stream, address).await
}

/// The word by which the server refuses what is shown before anything is asked; `None` when it does not: it says nothing, is away, or hangs up.
pub(super) async fn alert(
    address: &str,
    bundle: &Bundle,
    shown: Arc<X509Svid>,
) -> Result<Option<String>, Failure> {
    let heard = match opened(address, bundle, Some(shown)).await? {
        Err(error) => Err(error),
        // It is for the client to speak first: whatever comes is about the handshake.
        Ok(mut stream) => tokio::time::timeout(DEADLINE, stream.read_u8())
            .await
            .unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())),
    };
    let error = heard.err();
    let said = error.as_ref().and_then(io::Error::get_ref);
    Ok(match said.and_then(|said| said.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) if ABOUT_A_CERTIFICATE.contains(alert) => {
            Some(format!("{alert:?}"))
        }
        _ => None,
    })
}

async fn opened(
    address: &str,
    bundle: &Bundle,
    shown: Option<Arc<X509Svid>>,
) -> Result<io::Result<TlsStream<TcpStream>>, Failure> {
    let domain = bundle.trust_domain();
    let store = shown.map(|svid| {
        let store = IdentityStore::new();
        store.set(svid);
        store
    });
    let known: BundleSet = [bundle.clone()].into_iter().collect();
    let config = client_config(
        Expect::Exactly(SpiffeId::server(domain)),
        BundleStore::new(known),
        store,
        Arc::new(SystemClock),
    );
    let config = config.map_err(|error| Failure::failed(error_chain(&error), "please report this"))?;
    let name = ServerName::try_from(connect::host_of(address)?.to_owned())
        .map_err(|error| Failure::usage(format!("{address}: {error}"), "--address wants HOST:PORT"))?;
    let connected = async {
        let tcp = TcpStream::connect(address).await?;
        TlsConnector::from(config).connect(name, tcp).await
    };
    let connected = tokio::time::timeout(DEADLINE, connected).await;
    Ok(connected.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())))
}

/// An SVID that somebody made who has no authority of ours.
pub(super) fn forged(domain: &TrustDomain, path: &str) -> Result<Arc<X509Svid>, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::failed(error_chain(error), "please report this");
    let now = SystemClock.now();
    let now = now.ok_or_else(|| Failure::failed("this machine has no clock", "set it"))?;
    let (not_before, not_after): (UnixTime, UnixTime) = (now.saturating_sub(HOUR), now.saturating_add(HOUR));
    let key = PrivateKey::generate().map_err(|error| failed(&error))?;
    let params = AuthorityParams {
        trust_domain: domain,
        authority_id: "landfast-selftest",
        not_before,
        not_after,
    };
    let authority = issue::self_signed_authority(&params, &key).map_err(|error| failed(&error))?;
    let id = SpiffeId::parse(&format!("spiffe://{domain}{path}")).map_err(|error| failed(&error))?;
    let own = PrivateKey::generate().map_err(|error| failed(&error))?;
    let params = LeafParams {
        id: &id,
        public_key: &own.public_key(),
        dns_names: &[],
        serial: issue::random_serial().map_err(|error| failed(&error))?,
        not_before,
        not_after,
    };
    let leaf = issue::leaf(&params, &authority, &key).map_err(|error| failed(&error))?;
    X509Svid::new(vec![leaf], own)
        .map(Arc::new)
        .map_err(|error| failed(&error))
}

/// A server that fails inside has refused nothing.
const ABOUT_A_CERTIFICATE: [AlertDescription; 7] = [
    AlertDescription::BadCertificate,
    AlertDescription::UnsupportedCertificate,
    AlertDescription::CertificateRevoked,
    AlertDescription::CertificateExpired,
    AlertDescription::CertificateUnknown,
    AlertDescription::UnknownCA,
    AlertDescription::AccessDenied,
];
const HOUR: Duration = Duration::from_secs(3600);
const DEADLINE: Duration = Duration::from_secs(30);

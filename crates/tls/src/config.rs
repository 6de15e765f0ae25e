//! The rustls configurations: TLS 1.3 and 1.2, nothing to resume. Ours among us speak HTTP/2; what we publish goes over HTTP/1.1.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::SharedClock;
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ConfigBuilder, ServerConfig, SupportedProtocolVersion, WantsVerifier};

use crate::verifier::Verifier;
use crate::{BundleStore, Expect, IdentityStore};

/// What a client must at least speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LeastTls {
    /// TLS 1.2.
    V12,
    /// TLS 1.3.
    V13,
}

/// Whether a server wants to know who its client is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClientAuth {
    /// It does not ask.
    None,
    /// It asks. Who shows a certificate must show a good one.
    Optional,
    /// It refuses who shows none.
    Required,
}

/// No configuration could be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up TLS")]
pub struct TlsError(#[source] rustls::Error);

/// For a client that accepts only `expect`, verified with the bundle of the peer's trust domain, and shows `identity` when asked.
///
/// # Errors
/// The cryptographic provider lacks what TLS needs.
pub fn client_config(
    expect: Expect,
    bundles: BundleStore,
    identity: Option<IdentityStore>,
    clock: SharedClock,
) -> Result<Arc<ClientConfig>, TlsError> {
    client_of(VERSIONS, expect, bundles, identity, clock).map(Arc::new)
}

/// For a server that is `identity` at the moment of each handshake.
///
/// # Errors
/// The cryptographic provider lacks what TLS needs.
pub fn server_config(
    identity: IdentityStore,
    client: ClientAuth,
    bundles: BundleStore,
    clock: SharedClock,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = provider();
    let builder =
        ServerConfig::builder_with_details(Arc::clone(&provider), Arc::new(Time(Arc::clone(&clock))))
            .with_protocol_versions(VERSIONS)
            .map_err(TlsError)?;
    let mandatory = client == ClientAuth::Required;
    let builder = match client {
        ClientAuth::None => builder.with_no_client_auth(),
        ClientAuth::Optional | ClientAuth::Required => {
            builder.with_client_cert_verifier(Arc::new(Verifier {
                bundles,
                clock,
                provider,
                expect: None,
                mandatory,
            }))
        }
    };
    let config = builder.with_cert_resolver(Arc::new(identity));
    Ok(nothing_to_resume(config, ALPN))
}

/// For a server that publishes to anybody over HTTP/1.1: it asks no client who it is (Federation §5.2), and shows what `certificates` has at
/// the moment of each handshake.
///
/// # Errors
/// The cryptographic provider lacks what TLS needs.
pub fn https_config(
    certificates: Arc<dyn ResolvesServerCert>,
    least: LeastTls,
    clock: SharedClock,
) -> Result<Arc<ServerConfig>, TlsError> {
    let versions = match least {
        LeastTls::V12 => VERSIONS,
        LeastTls::V13 => &[&rustls::version::TLS13],
    };
    let config = ServerConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(versions)
        .map_err(TlsError)?
        .with_no_client_auth()
        .with_cert_resolver(certificates);
    Ok(nothing_to_resume(config, HTTP1))
}

fn nothing_to_resume(mut config: ServerConfig, protocol: &[u8]) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![protocol.to_vec()];
    // A resumed session would skip the verifier: a ban or a removed authority would not be seen.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

pub(crate) fn client_of(
    versions: &[&'static SupportedProtocolVersion],
    expect: Expect,
    bundles: BundleStore,
    identity: Option<IdentityStore>,
    clock: SharedClock,
) -> Result<ClientConfig, TlsError> {
    let provider = provider();
    let builder =
        ClientConfig::builder_with_details(Arc::clone(&provider), Arc::new(Time(Arc::clone(&clock))))
            .with_protocol_versions(versions)
            .map_err(TlsError)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier {
                bundles,
                clock,
                provider,
                expect: Some(expect),
                mandatory: false,
            }));
    let config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(identity)),
        None => builder.with_no_client_auth(),
    };
    Ok(finished(config, ALPN))
}

/// For a client whose verifier is still to be chosen.
pub(crate) fn client_builder(
    clock: SharedClock,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, TlsError> {
    ClientConfig::builder_with_details(provider(), Arc::new(Time(clock)))
        .with_protocol_versions(VERSIONS)
        .map_err(TlsError)
}

/// What holds for every client: one protocol, nothing to resume.
pub(crate) fn finished(mut config: ClientConfig, protocol: &[u8]) -> ClientConfig {
    config.alpn_protocols = vec![protocol.to_vec()];
    config.resumption = Resumption::disabled();
    config
}

/// The same, over HTTP/2, as ours among us speak.
pub(crate) fn finished_for_us(config: ClientConfig) -> ClientConfig {
    finished(config, ALPN)
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Our clock for rustls. It must always have an answer, or handshakes fail before anybody is asked to verify; only tickets,
/// which we do not have, depend on it. The verifier asks our clock itself.
#[derive(Debug)]
struct Time(SharedClock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<rustls::pki_types::UnixTime> {
        let seconds = self.0.now().map_or(0, UnixTime::as_secs);
        Some(rustls::pki_types::UnixTime::since_unix_epoch(
            Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
        ))
    }
}

pub(crate) const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];
const ALPN: &[u8] = b"h2";
const HTTP1: &[u8] = b"http/1.1";

//! Handshakes over in-memory streams, in both versions of TLS, with certificates of a simulated site.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use landfast_identity::issue::{self, AuthorityParams, LeafParams};
use landfast_identity::{
    Bundle, BundleSet, Certificate, PrivateKey, SpiffeId, TrustDomain, UnixTime, X509Authority, X509Error,
    X509Svid,
};
use landfast_lifecycle::{Clock as _, SharedClock, SimClock};
use rustls::client::{
    ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue,
    Tls13ClientSessionValue,
};
use rustls::pki_types::ServerName;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, HandshakeKind, NamedGroup, ServerConfig, SupportedProtocolVersion};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::*;
use crate::config::client_of;

const BOTH: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];
const HOUR: Duration = Duration::from_secs(3600);

/// A trust domain with one authority.
struct Site {
    name: TrustDomain,
    key: PrivateKey,
    authority: Certificate,
    start: UnixTime,
}

impl Site {
    fn new(name: &str) -> Self {
        let name = TrustDomain::parse(name).unwrap();
        let (key, start) = (
            PrivateKey::generate().unwrap(),
            UnixTime::from_secs(1_800_000_000),
        );
        let authority = authority(&name, &key, start, 1000 * HOUR);
        Self {
            name,
            key,
            authority,
            start,
        }
    }

    fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::from_parts(&self.name, path).unwrap()
    }

    /// Valid from an hour before the start to an hour after it.
    fn svid(&self, path: &str) -> Arc<X509Svid> {
        let key = PrivateKey::generate().unwrap();
        let params = LeafParams {
            id: &self.id(path),
            public_key: &key.public_key(),
            dns_names: &[],
            serial: issue::random_serial().unwrap(),
            not_before: self.start.saturating_sub(HOUR),
            not_after: self.start.saturating_add(HOUR),
        };
        let leaf = issue::leaf(&params, &self.authority, &self.key).unwrap();
        Arc::new(X509Svid::new(vec![leaf], key).unwrap())
    }

    fn identity(&self, path: &str) -> IdentityStore {
        let identity = IdentityStore::new();
        identity.set(self.svid(path));
        identity
    }

    fn bundle(&self) -> Bundle {
        let authority = X509Authority {
            certificate: self.authority.clone(),
            tainted: false,
        };
        Bundle::new(self.name.clone())
            .with_x509_authorities(vec![authority])
            .unwrap()
    }

    fn bundles(&self) -> BundleStore {
        BundleStore::new(BundleSet::from_iter([self.bundle()]))
    }

    fn clock(&self) -> SimClock {
        SimClock::new(self.start)
    }
}

fn authority(name: &TrustDomain, key: &PrivateKey, start: UnixTime, lifetime: Duration) -> Certificate {
    let params = AuthorityParams {
        trust_domain: name,
        authority_id: "1",
        not_before: start.saturating_sub(HOUR),
        not_after: start.saturating_add(lifetime),
    };
    issue::self_signed_authority(&params, key).unwrap()
}

/// One end of each; the test changes what it is about.
struct Pair {
    version: &'static SupportedProtocolVersion,
    site: Site,
    clock: SimClock,
    server: IdentityStore,
    client: IdentityStore,
    bundles: BundleStore,
    auth: ClientAuth,
    expect: Expect,
}

impl Pair {
    fn new(version: &'static SupportedProtocolVersion) -> Self {
        let site = Site::new("plant.example");
        Self {
            version,
            clock: site.clock(),
            server: site.identity("/server"),
            client: site.identity("/client"),
            bundles: site.bundles(),
            auth: ClientAuth::Required,
            expect: Expect::Exactly(site.id("/server")),
            site,
        }
    }

    fn shared_clock(&self) -> SharedClock {
        Arc::new(self.clock.clone())
    }

    fn client_config(&self) -> ClientConfig {
        let identity = Some(self.client.clone());
        client_of(
            &[self.version],
            self.expect.clone(),
            self.bundles.clone(),
            identity,
            self.shared_clock(),
        )
        .unwrap()
    }

    fn server_config(&self) -> Arc<ServerConfig> {
        server_config(
            self.server.clone(),
            self.auth,
            self.bundles.clone(),
            self.shared_clock(),
        )
        .unwrap()
    }

    async fn connect(&self) -> Ends {
        handshake(self.client_config(), self.server_config()).await
    }
}

type Ends = (
    io::Result<client::TlsStream<DuplexStream>>,
    io::Result<server::TlsStream<DuplexStream>>,
);

/// Runs both ends until each has seen a byte of the other or an error: in TLS 1.3 a client is done before the server has judged it.
async fn handshake(client: ClientConfig, server: Arc<ServerConfig>) -> Ends {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("landfast.invalid").unwrap();
    let client = async {
        let mut stream = TlsConnector::from(Arc::new(client)).connect(name, near).await?;
        stream.write_u8(1).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let server = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        stream.write_u8(1).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    tokio::join!(client, server)
}

/// The client refused the server, for this reason; and the server saw it fail.
fn client_refused((client, server): Ends) -> PeerError {
    assert!(server.is_err());
    refusal(&client.unwrap_err()).unwrap().clone()
}

/// The server refused the client, for this reason; and the client saw it fail.
fn server_refused((client, server): Ends) -> PeerError {
    assert!(client.is_err());
    refusal(&server.unwrap_err()).unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn two_svids_of_one_domain_meet_and_know_each_other() {
    for version in BOTH {
        let pair = Pair::new(version);
        let (client, server) = pair.connect().await;
        let (client, server) = (client.unwrap(), server.unwrap());
        let now = pair.clock.now().unwrap();
        let seen = peer(server.get_ref().1.peer_certificates(), &pair.bundles.load(), now).unwrap();
        assert_eq!(
            (&seen.id, seen.serial_hex),
            (
                &pair.site.id("/client"),
                pair.client.current().unwrap().serial_hex()
            )
        );
        let seen = peer(client.get_ref().1.peer_certificates(), &pair.bundles.load(), now).unwrap();
        assert_eq!(seen.id, pair.site.id("/server"));
        assert_eq!(client.get_ref().1.protocol_version(), Some(version.version));
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        // What is asked later is answered as of later.
        let bundles = pair.bundles.load();
        assert!(peer(server.get_ref().1.peer_certificates(), &BundleSet::default(), now).is_none());
        assert!(
            peer(
                server.get_ref().1.peer_certificates(),
                &bundles,
                now.saturating_add(2 * HOUR)
            )
            .is_none()
        );
        assert!(peer(None, &bundles, now).is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_with_another_id_is_refused() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        pair.expect = Expect::Exactly(pair.site.id("/other"));
        let error = client_refused(pair.connect().await);
        assert_eq!(
            error.to_string(),
            "the peer is spiffe://plant.example/server, expected spiffe://plant.example/other"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_of_a_domain_without_a_bundle_is_refused() {
    for version in BOTH {
        let pair = Pair::new(version);
        let foreign = Site::new("other.example");
        pair.server.set(foreign.svid("/server"));
        let error = client_refused(pair.connect().await);
        assert!(
            matches!(error, PeerError::Refused(X509Error::NoBundle { .. })),
            "{error:?}"
        );

        let pair = Pair::new(version);
        pair.client.set(foreign.svid("/client"));
        let error = server_refused(pair.connect().await);
        assert!(
            matches!(error, PeerError::Refused(X509Error::NoBundle { .. })),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_another_authority_signed_for_our_domain_is_refused() {
    for version in BOTH {
        // Same name, another key: somebody else's plant.example.
        let impostor = Site::new("plant.example");
        let pair = Pair::new(version);
        pair.server.set(impostor.svid("/server"));
        let error = client_refused(pair.connect().await);
        assert!(
            matches!(
                error,
                PeerError::Refused(X509Error::UnknownIssuer | X509Error::BadSignature)
            ),
            "{error:?}"
        );

        let pair = Pair::new(version);
        pair.client.set(impostor.svid("/client"));
        let error = server_refused(pair.connect().await);
        assert!(
            matches!(
                error,
                PeerError::Refused(X509Error::UnknownIssuer | X509Error::BadSignature)
            ),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_domain_whose_bundle_we_have_may_not_speak_for_another() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        let other = Site::new("other.example");
        pair.bundles
            .store(BundleSet::from_iter([pair.site.bundle(), other.bundle()]));
        pair.server.set(other.svid("/server"));
        assert!(matches!(
            client_refused(pair.connect().await),
            PeerError::Unexpected { .. }
        ));
        pair.expect = Expect::TrustDomain(other.name.clone());
        let (client, _server) = pair.connect().await;
        client.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn expiry_is_by_our_clock() {
    for version in BOTH {
        let pair = Pair::new(version);
        pair.clock.step(2 * 3600);
        let error = client_refused(pair.connect().await);
        assert!(
            matches!(error, PeerError::Refused(X509Error::Expired { .. })),
            "{error:?}"
        );
        pair.clock.step(-4 * 3600);
        let error = client_refused(pair.connect().await);
        assert!(
            matches!(error, PeerError::Refused(X509Error::NotYetValid { .. })),
            "{error:?}"
        );
        pair.clock.step(2 * 3600);
        pair.connect().await.0.unwrap();
        // Simulated time passes for TLS, too.
        tokio::time::sleep(2 * HOUR).await;
        client_refused(pair.connect().await);
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_client_is_refused_by_the_servers_clock() {
    for version in BOTH {
        let pair = Pair::new(version);
        let late = pair.site.clock();
        late.step(2 * 3600);
        // The server's own certificate is judged by the client, whose clock is right.
        let late: SharedClock = Arc::new(late);
        let server = server_config(pair.server.clone(), pair.auth, pair.bundles.clone(), late).unwrap();
        let error = server_refused(handshake(pair.client_config(), server).await);
        assert!(
            matches!(error, PeerError::Refused(X509Error::Expired { .. })),
            "{error:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_authority_vouches_for_nobody() {
    for version in BOTH {
        let pair = Pair::new(version);
        // The leaves are valid for an hour, their authority (same name, same key) for half of it.
        let Site { name, key, start, .. } = &pair.site;
        let certificate = authority(name, key, *start, HOUR / 2);
        let short = X509Authority {
            certificate,
            tainted: false,
        };
        let bundle = Bundle::new(name.clone())
            .with_x509_authorities(vec![short])
            .unwrap();
        pair.bundles.store(BundleSet::from_iter([bundle]));
        pair.connect().await.0.unwrap();
        pair.clock.step(2000);
        let error = client_refused(pair.connect().await);
        assert!(matches!(error, PeerError::Refused(_)), "{error:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_the_time_nobody_is_trusted_and_the_reason_is_said() {
    for version in BOTH {
        let pair = Pair::new(version);
        pair.clock.set_absent(true);
        assert_eq!(client_refused(pair.connect().await), PeerError::NoTime);
        let blind: SharedClock = Arc::new(pair.clock.clone());
        let server = server_config(pair.server.clone(), pair.auth, pair.bundles.clone(), blind).unwrap();
        let sighted: SharedClock = Arc::new(pair.site.clock());
        let client = client_of(
            &[version],
            pair.expect.clone(),
            pair.bundles.clone(),
            Some(pair.client.clone()),
            sighted,
        )
        .unwrap();
        let (client, server) = handshake(client, server).await;
        assert!(client.is_err());
        let error = server.unwrap_err();
        assert_eq!(refusal(&error), Some(&PeerError::NoTime));
        assert!(error.to_string().contains("the time is not known"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_shows_no_certificate_passes_only_where_none_is_required() {
    for version in BOTH {
        for (auth, accepted) in [
            (ClientAuth::None, true),
            (ClientAuth::Optional, true),
            (ClientAuth::Required, false),
        ] {
            let mut pair = Pair::new(version);
            pair.auth = auth;
            pair.client.clear();
            let (client, server) = pair.connect().await;
            assert_eq!((client.is_ok(), server.is_ok()), (accepted, accepted), "{auth:?}");
            if let Ok(server) = server {
                assert!(server.get_ref().1.peer_certificates().is_none());
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_bad_certificate_is_refused_also_where_none_is_required() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        pair.auth = ClientAuth::Optional;
        pair.client.set(Site::new("other.example").svid("/client"));
        assert!(matches!(
            server_refused(pair.connect().await),
            PeerError::Refused(_)
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn a_certificate_of_somebody_else_without_its_key_is_refused() {
    for version in BOTH {
        let pair = Pair::new(version);
        let theirs = pair.client_with_stolen_certificate();
        let (client, server) = handshake(theirs, pair.server_config()).await;
        assert!(client.is_err());
        let error = server.unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{error}");

        let pair = Pair::new(version);
        let server = pair.server_with_stolen_certificate();
        let (client, _) = handshake(pair.client_config(), server).await;
        let error = client.unwrap_err();
        assert!(error.to_string().contains("BadSignature"), "{error}");
    }
}

impl Pair {
    /// Shows the pair's client certificate, signs with another key.
    fn client_with_stolen_certificate(&self) -> ClientConfig {
        let mut config = self.client_config();
        config.client_auth_cert_resolver = Arc::new(stolen(&self.client));
        config
    }

    fn server_with_stolen_certificate(&self) -> Arc<ServerConfig> {
        let mut config = (*self.server_config()).clone();
        config.cert_resolver = Arc::new(stolen(&self.server));
        Arc::new(config)
    }
}

fn stolen(victim: &IdentityStore) -> rustls::sign::SingleCertAndKey {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
    let own = PrivateKey::generate().unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(own.as_pkcs8_der().to_vec()));
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&key).unwrap();
    let chain = vec![CertificateDer::from(
        victim.current().unwrap().leaf().as_der().to_vec(),
    )];
    rustls::sign::CertifiedKey::new(chain, key).into()
}

#[tokio::test(start_paused = true)]
async fn a_server_without_an_identity_refuses_every_handshake() {
    for version in BOTH {
        let pair = Pair::new(version);
        pair.server.clear();
        let (client, server) = pair.connect().await;
        assert!(client.is_err() && server.is_err());
        pair.server.set(pair.site.svid("/server"));
        pair.connect().await.0.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_new_identity_is_shown_at_the_next_handshake_and_open_connections_go_on() {
    for version in BOTH {
        let pair = Pair::new(version);
        // One configuration for all handshakes: the stores change under it.
        let (client, server) = (pair.client_config(), pair.server_config());
        let (first_client, first_server) = handshake(client.clone(), Arc::clone(&server)).await;
        let (mut first_client, mut first_server) = (first_client.unwrap(), first_server.unwrap());
        pair.server.set(pair.site.svid("/server"));
        pair.client.set(pair.site.svid("/client"));
        let (second_client, second_server) = handshake(client, server).await;
        let leaf = |chain: Option<&[rustls::pki_types::CertificateDer<'_>]>| chain.unwrap()[0].to_vec();
        assert_eq!(
            leaf(second_client.unwrap().get_ref().1.peer_certificates()),
            pair.server.current().unwrap().leaf().as_der()
        );
        assert_eq!(
            leaf(second_server.unwrap().get_ref().1.peer_certificates()),
            pair.client.current().unwrap().leaf().as_der()
        );
        first_client.write_u8(7).await.unwrap();
        assert_eq!(first_server.read_u8().await.unwrap(), 7);
    }
}

#[tokio::test(start_paused = true)]
async fn a_removed_authority_is_missed_at_the_next_handshake() {
    for version in BOTH {
        let pair = Pair::new(version);
        let (client, server) = (pair.client_config(), pair.server_config());
        handshake(client.clone(), Arc::clone(&server)).await.0.unwrap();
        pair.bundles.store(BundleSet::default());
        client_refused(handshake(client, server).await);
    }
}

#[tokio::test(start_paused = true)]
async fn http_1_is_refused() {
    for version in BOTH {
        let pair = Pair::new(version);
        let mut client = pair.client_config();
        client.alpn_protocols = vec![b"http/1.1".to_vec()];
        let (client, server) = handshake(client, pair.server_config()).await;
        assert!(client.is_err());
        let error = server.unwrap_err();
        let cause = error.get_ref().unwrap().downcast_ref();
        assert_eq!(cause, Some(&rustls::Error::NoApplicationProtocol));
    }
}

#[tokio::test(start_paused = true)]
async fn both_versions_are_offered_and_the_newer_is_taken() {
    let pair = Pair::new(&TLS13);
    let clock = pair.shared_clock();
    let client = client_config(
        pair.expect.clone(),
        pair.bundles.clone(),
        Some(pair.client.clone()),
        clock,
    )
    .unwrap();
    let (client, _) = handshake((*client).clone(), pair.server_config()).await;
    assert_eq!(
        client.unwrap().get_ref().1.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
}

/// A client's memory that counts what a server gives it to resume with.
#[derive(Debug)]
struct Hoarder {
    cache: ClientSessionMemoryCache,
    given: AtomicUsize,
}

impl ClientSessionStore for Hoarder {
    fn set_kx_hint(&self, name: ServerName<'static>, group: NamedGroup) {
        self.cache.set_kx_hint(name, group);
    }
    fn kx_hint(&self, name: &ServerName<'_>) -> Option<NamedGroup> {
        self.cache.kx_hint(name)
    }
    fn set_tls12_session(&self, name: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.given.fetch_add(1, Ordering::SeqCst);
        self.cache.set_tls12_session(name, value);
    }
    fn tls12_session(&self, name: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.cache.tls12_session(name)
    }
    fn remove_tls12_session(&self, name: &ServerName<'static>) {
        self.cache.remove_tls12_session(name);
    }
    fn insert_tls13_ticket(&self, name: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.given.fetch_add(1, Ordering::SeqCst);
        self.cache.insert_tls13_ticket(name, value);
    }
    fn take_tls13_ticket(&self, name: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.cache.take_tls13_ticket(name)
    }
}

/// Connects three times with one memory. How many sessions it was given, and whether the later handshakes were full.
async fn try_to_resume(mut client: ClientConfig, server: Arc<ServerConfig>) -> (usize, bool) {
    let memory = Arc::new(Hoarder {
        cache: ClientSessionMemoryCache::new(32),
        given: AtomicUsize::new(0),
    });
    client.resumption = Resumption::store(Arc::clone(&memory) as Arc<dyn ClientSessionStore>);
    let mut full = true;
    for _ in 0..3 {
        let (client, server) = handshake(client.clone(), Arc::clone(&server)).await;
        full &= client.unwrap().get_ref().1.handshake_kind() == Some(HandshakeKind::Full);
        full &= server.unwrap().get_ref().1.handshake_kind() == Some(HandshakeKind::Full);
    }
    (memory.given.load(Ordering::SeqCst), full)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_wants_to_resume_gets_nothing_to_resume_with() {
    for version in BOTH {
        for auth in [ClientAuth::None, ClientAuth::Optional, ClientAuth::Required] {
            let mut pair = Pair::new(version);
            pair.auth = auth;
            assert_eq!(
                try_to_resume(pair.client_config(), pair.server_config()).await,
                (0, true),
                "{version:?} {auth:?}"
            );
        }
    }
}

/// Federation §5.2: a publisher must not ask.
#[tokio::test(start_paused = true)]
async fn a_publisher_asks_nobody_who_he_is_and_resumes_nothing() {
    for version in BOTH {
        let pair = Pair::new(version);
        let mut client = pair.client_config();
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let publisher =
            || https_config(Arc::new(pair.server.clone()), LeastTls::V12, pair.shared_clock()).unwrap();
        let (_client, server) = handshake(client.clone(), publisher()).await;
        let server = server.unwrap();
        assert_eq!(server.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(
            server.get_ref().1.peer_certificates().is_none(),
            "the client has one"
        );
        assert_eq!(try_to_resume(client, publisher()).await, (0, true), "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_resumption_test_can_tell_the_difference() {
    for version in BOTH {
        let mut pair = Pair::new(version);
        pair.auth = ClientAuth::None;
        let mut server = (*pair.server_config()).clone();
        server.session_storage = rustls::server::ServerSessionMemoryCache::new(32);
        server.send_tls13_tickets = 2;
        let (given, full) = try_to_resume(pair.client_config(), Arc::new(server)).await;
        assert!(given > 0 && !full, "{version:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn our_client_resumes_nothing_that_a_server_offers() {
    for version in BOTH {
        let pair = Pair::new(version);
        let mut server = (*pair.server_config()).clone();
        server.session_storage = rustls::server::ServerSessionMemoryCache::new(32);
        server.send_tls13_tickets = 2;
        let (client, server) = (pair.client_config(), Arc::new(server));
        for _ in 0..3 {
            let (client, _) = handshake(client.clone(), Arc::clone(&server)).await;
            assert_eq!(
                client.unwrap().get_ref().1.handshake_kind(),
                Some(HandshakeKind::Full)
            );
        }
    }
}

#[test]
fn a_refusal_is_found_under_other_errors() {
    #[derive(Debug, thiserror::Error)]
    #[error("cannot connect")]
    struct Outer(#[source] io::Error);
    let inner = io::Error::other(rustls::Error::from(PeerError::NoTime));
    assert_eq!(refusal(&Outer(inner)), Some(&PeerError::NoTime));
    assert_eq!(refusal(&Outer(io::ErrorKind::UnexpectedEof.into())), None);
    assert_eq!(refusal(&rustls::Error::DecryptError), None);
}

#[test]
fn what_is_printed_of_an_identity_holds_no_key() {
    let identity = IdentityStore::new();
    assert_eq!(format!("{identity:?}"), "IdentityStore(none)");
    identity.set(Site::new("plant.example").svid("/client"));
    assert_eq!(
        format!("{identity:?}"),
        "IdentityStore(spiffe://plant.example/client)"
    );
}

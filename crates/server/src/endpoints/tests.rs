//! The listener against peers that stall, mumble or never leave.

use landfast_daemon::TaskTree;
use landfast_identity::{BundleSet, PrivateKey, SpiffeId, X509Svid};
use landfast_tls::{ClientAuth, Expect, IdentityStore, client_config, server_config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_stream::StreamExt as _;

use super::*;
use crate::core::fixture::{Rig, id, me, td};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const LONG: Duration = Duration::from_secs(60);

struct Listening {
    rig: Rig,
    tree: TaskTree,
    permits: Arc<Semaphore>,
    places: usize,
    bundles: BundleStore,
    address: SocketAddr,
    connections: ReceiverStream<io::Result<TlsConnection>>,
}

type Client = tokio_rustls::client::TlsStream<TcpStream>;

impl Listening {
    /// Of so many places, all for anybody.
    async fn with(places: usize, handshake_timeout: Duration, last: Duration) -> Self {
        Self::of(places, Places::new(4096), handshake_timeout, last).await
    }

    /// Of 16 places, 4 for one address or identity; and nothing ends by itself.
    async fn shared() -> Self {
        Self::of(16, Places::new(16), LONG * 30, LONG * 30).await
    }

    async fn of(places: usize, shares: Places, handshake_timeout: Duration, last: Duration) -> Self {
        let rig = Rig::new().await;
        let key = PrivateKey::generate().unwrap();
        let issued = rig.core.issuer.server_svid(&key.public_key()).await.unwrap();
        let identity = IdentityStore::new();
        identity.set(Arc::new(X509Svid::new(issued.chain, key).unwrap()));
        let bundles = BundleStore::new(BundleSet::from_iter([(*rig.core.authorities.bundle()).clone()]));
        let clock: SharedClock = Arc::new(rig.clock.clone());
        let (mode, seen) = (ClientAuth::Optional, bundles.clone());
        let permits = Arc::new(Semaphore::new(places));
        let front = TlsFront {
            tls: server_config(identity, mode, seen, Arc::clone(&clock)).unwrap(),
            bundles: bundles.clone(),
            clock,
            permits: Arc::clone(&permits),
            places: shares,
            admits: Arc::new(|id| id.trust_domain() == &td()),
            knows: Arc::new(|id| id.path().starts_with("/spire/agent/")),
            handshake_timeout,
            ledger: Ledger::none(),
            last,
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tree = TaskTree::new();
        Self {
            address: listener.local_addr().unwrap(),
            connections: front.listen(listener, &tree.handle()),
            rig,
            tree,
            permits,
            places,
            bundles,
        }
    }

    /// TLS with an agent's certificate, and nothing said yet.
    async fn agent(&self) -> io::Result<Client> {
        self.named(HERE, "/spire/agent/join_token/abc").await
    }

    /// TLS with a certificate for an agent of any name, from an address of ours.
    async fn named(&self, from: [u8; 4], name: &str) -> io::Result<Client> {
        let key = PrivateKey::generate().unwrap();
        let name = id(name);
        let issuer = &self.rig.core.issuer;
        let issued = if name.path().starts_with("/spire/agent/") {
            issuer.agent_svid(&me(), &name, &key.public_key()).await
        } else {
            issuer.mint_x509(&me(), &name, &[], None, &key.public_key()).await
        };
        let issued = issued.unwrap();
        let identity = IdentityStore::new();
        identity.set(Arc::new(X509Svid::new(issued.chain, key).unwrap()));
        self.connect_from(from, Some(identity)).await
    }

    async fn connect(&self, identity: Option<IdentityStore>) -> io::Result<Client> {
        self.connect_from(HERE, identity).await
    }

    async fn connect_from(&self, from: [u8; 4], identity: Option<IdentityStore>) -> io::Result<Client> {
        let expect = Expect::Exactly(SpiffeId::server(&td()));
        let clock = Arc::new(self.rig.clock.clone());
        let tls = client_config(expect, self.bundles.clone(), identity, clock).unwrap();
        let tcp = self.tcp(from).await?;
        let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
        TlsConnector::from(tls).connect(name, tcp).await
    }

    async fn tcp(&self, from: [u8; 4]) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        socket.connect(self.address).await
    }

    async fn next(&mut self) -> TlsConnection {
        let next = tokio::time::timeout(LONG, self.connections.next()).await;
        next.expect("no connection began").unwrap().unwrap()
    }

    /// A connection that has begun, from here. A place that has just been left is not free at once.
    async fn patient(&mut self, name: &str) -> (TlsConnection, Client) {
        let begun = async {
            loop {
                if let Ok(mut client) = self.named(HERE, name).await
                    && begin(&mut client).await.is_ok()
                    && let Ok(Some(connection)) =
                        tokio::time::timeout(LONG / 20, self.connections.next()).await
                {
                    return (connection.unwrap(), client);
                }
            }
        };
        tokio::time::timeout(LONG, begun)
            .await
            .expect("no connection began")
    }

    /// All places are free but the one that waits for the next to come.
    async fn all_free(&self) {
        let free = async {
            while self.permits.available_permits() + 1 < self.places {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(LONG, free)
            .await
            .expect("a place was not given back");
    }

    async fn tear_down(self) {
        drop(self.connections);
        self.tree.join_with_deadline(LONG).await.unwrap();
    }
}

const HERE: [u8; 4] = [127, 0, 0, 1];
const ELSEWHERE: [u8; 4] = [127, 0, 0, 2];

/// What makes a connection begin.
async fn begin(client: &mut Client) -> io::Result<()> {
    client.write_all(PREFACE).await?;
    client.flush().await
}

/// The server closes; how it says so is TLS's business.
async fn is_closed<S: tokio::io::AsyncRead + Unpin>(client: &mut S) -> bool {
    let read = tokio::time::timeout(LONG, client.read(&mut [0; 64])).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test]
async fn who_shakes_hands_and_says_nothing_loses_its_place() {
    let listening = Listening::with(4, Duration::from_millis(300), LONG).await;
    let mut silent = listening.agent().await.unwrap();
    let mut stranger = listening.connect(None).await.unwrap();
    // Almost the preface is not the preface.
    stranger.write_all(&PREFACE[..23]).await.unwrap();
    stranger.flush().await.unwrap();
    assert!(is_closed(&mut silent).await);
    assert!(is_closed(&mut stranger).await);
    listening.all_free().await;
    listening.tear_down().await;
}

#[tokio::test]
async fn who_speaks_something_else_is_let_go_at_once() {
    let listening = Listening::with(4, Duration::from_secs(600), LONG).await;
    let mut client = listening.agent().await.unwrap();
    client
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    client.flush().await.unwrap();
    assert!(is_closed(&mut client).await);
    listening.all_free().await;
    listening.tear_down().await;
}

#[tokio::test]
async fn what_was_read_to_begin_with_is_read_again() {
    let mut listening = Listening::with(4, LONG, LONG).await;
    let mut client = listening.agent().await.unwrap();
    client.write_all(&[PREFACE, b"and more"].concat()).await.unwrap();
    client.flush().await.unwrap();
    let mut connection = listening.next().await;
    assert_eq!(
        connection.connect_info().verified().unwrap().id,
        id("/spire/agent/join_token/abc")
    );
    // In pieces smaller than what is owed.
    let mut read: Vec<u8> = Vec::new();
    let mut piece = [0; 7];
    while read.len() < PREFACE.len() + 8 {
        let count = connection.read(&mut piece).await.unwrap();
        assert_ne!(count, 0);
        read.extend(&piece[..count]);
    }
    assert_eq!(read, [PREFACE, b"and more"].concat());
    connection.write_all(b"answer").await.unwrap();
    connection.flush().await.unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"answer");
    drop(connection);
    listening.all_free().await;
    listening.tear_down().await;
}

#[tokio::test]
async fn a_connection_ends_however_busy_its_peer_keeps_it() {
    let mut listening = Listening::with(4, LONG, Duration::from_millis(300)).await;
    let mut client = listening.agent().await.unwrap();
    client.write_all(PREFACE).await.unwrap();
    client.flush().await.unwrap();
    let mut connection = listening.next().await;
    let busy = async {
        while client.write_all(&[0; 64]).await.is_ok() && client.flush().await.is_ok() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        std::future::pending::<()>().await
    };
    let last = async {
        let mut room = [0; 4096];
        loop {
            match connection.read(&mut room).await {
                Ok(count) => assert_ne!(count, 0, "the peer did not close"),
                Err(error) => return error,
            }
        }
    };
    let error = tokio::time::timeout(LONG, async {
        tokio::select! { error = last => error, () = busy => unreachable!() }
    })
    .await
    .expect("it goes on for ever");
    assert_eq!(error.kind(), io::ErrorKind::TimedOut, "{error}");
    drop(connection);
    listening.all_free().await;
    listening.tear_down().await;
}

#[tokio::test]
async fn when_all_places_are_taken_the_next_waits_and_then_gets_in() {
    let mut listening = Listening::with(2, LONG, LONG).await;
    let (mut one, mut two) = (listening.agent().await.unwrap(), listening.agent().await.unwrap());
    one.write_all(PREFACE).await.unwrap();
    one.flush().await.unwrap();
    let first = listening.next().await;
    two.write_all(PREFACE).await.unwrap();
    two.flush().await.unwrap();
    let second = listening.next().await;
    assert_eq!(listening.permits.available_permits(), 0);
    {
        let third = listening.agent();
        tokio::pin!(third);
        // The kernel accepts for us, so a handshake that is served would be done in this time many times over.
        let early = tokio::time::timeout(Duration::from_millis(300), &mut third).await;
        assert!(early.is_err(), "there was no place");
        drop(first);
        tokio::time::timeout(LONG, third)
            .await
            .expect("the place was not given on")
            .unwrap();
    }
    drop(second);
    listening.tear_down().await;
}

#[tokio::test]
async fn an_address_holds_so_many_places_without_a_certificate_and_agents_are_not_counted() {
    let mut listening = Listening::with(200, LONG, LONG).await;
    // First, so that it would take a place from those who follow.
    let mut early = listening.agent().await.unwrap();
    early.write_all(PREFACE).await.unwrap();
    early.flush().await.unwrap();
    let early = (listening.next().await, early);
    let mut held = Vec::new();
    for _ in 0..32 {
        let mut stranger = listening.connect(None).await.unwrap();
        stranger.write_all(PREFACE).await.unwrap();
        stranger.flush().await.unwrap();
        held.push((listening.next().await, stranger));
    }
    let mut late = listening.connect(None).await.unwrap();
    // Nothing need be said: it is closed at once, not when time is up.
    let closed = tokio::time::timeout(LONG / 4, is_closed(&mut late)).await;
    assert_eq!(closed, Ok(true));
    let mut agent = listening.agent().await.unwrap();
    agent.write_all(PREFACE).await.unwrap();
    agent.flush().await.unwrap();
    assert!(listening.next().await.connect_info().verified().is_some());
    held.pop();
    let mut next = listening.connect(None).await.unwrap();
    next.write_all(PREFACE).await.unwrap();
    next.flush().await.unwrap();
    assert!(listening.next().await.connect_info().verified().is_none());
    drop((early, held));
    listening.tear_down().await;
}

/// T-17b.
#[tokio::test]
async fn an_address_that_opens_connections_and_says_nothing_locks_nobody_out() {
    let mut listening = Listening::shared().await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        silent.push(listening.tcp(HERE).await.unwrap());
    }
    for late in &mut silent[4..] {
        assert!(is_closed(late).await);
    }
    let mut agent = tokio::time::timeout(LONG, listening.named(ELSEWHERE, "/spire/agent/join_token/abc"))
        .await
        .expect("no place is left")
        .unwrap();
    begin(&mut agent).await.unwrap();
    assert!(listening.next().await.connect_info().verified().is_some());
    // Behind that address as well, when the silent ones leave; and one after the other, more than may arrive at once.
    drop(silent);
    let mut held = Vec::new();
    for n in 0..8 {
        held.push(listening.patient(&format!("/spire/agent/join_token/{n}")).await);
    }
    drop(held);
    listening.tear_down().await;
}

/// T-17b.
#[tokio::test]
async fn an_identity_holds_so_many_places_and_no_more() {
    let mut listening = Listening::shared().await;
    let (thief, other) = ("/spire/agent/join_token/thief", "/spire/agent/join_token/other");
    let mut held = Vec::new();
    for _ in 0..4 {
        held.push(listening.patient(thief).await);
    }
    // From wherever it calls.
    for from in [HERE, ELSEWHERE] {
        let closed = match listening.named(from, thief).await {
            Ok(mut late) => is_closed(&mut late).await,
            Err(_closed_already) => true,
        };
        assert!(closed);
    }
    held.push(listening.patient(other).await);
    held.remove(0);
    held.push(listening.patient(thief).await);
    drop(held);
    listening.tear_down().await;
}

/// T-17b: an agent may ask for thousands of these.
#[tokio::test]
async fn identities_that_open_nothing_count_by_address_as_no_certificate_does() {
    let mut listening = Listening::shared().await;
    let mut held = Vec::new();
    for n in 0..4 {
        held.push(listening.patient(&format!("/workload/{n}")).await);
    }
    let closed = match listening.named(HERE, "/workload/late").await {
        Ok(mut late) => is_closed(&mut late).await,
        Err(_closed_already) => true,
    };
    assert!(closed);
    held.push(listening.patient("/spire/agent/join_token/abc").await);
    drop(held);
    listening.tear_down().await;
}

#[test]
fn an_error_of_one_connection_is_told_from_an_error_of_ours() {
    for kind in [io::ErrorKind::ConnectionAborted, io::ErrorKind::ConnectionReset] {
        assert!(concerns_one(&io::Error::from(kind)), "{kind}");
    }
    // Out of descriptors, of memory; a socket that is none.
    for number in [24, 23, 12, 105, 9, 22] {
        let error = io::Error::from_raw_os_error(number);
        assert!(!concerns_one(&error), "{error}");
    }
}

//! For tests: bundle endpoints over real TLS on the loopback, and trust domains to publish there. They say exactly what they are told to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use landfast_daemon::TaskTree;
use landfast_identity::issue::{self, AuthorityParams, LeafParams};
use landfast_identity::{
    Bundle, Certificate, JwtAuthority, PrivateKey, SpiffeId, TrustDomain, UnixTime, X509Authority, X509Svid,
};
use landfast_lifecycle::{Clock as _, SimClock, SystemClock};
use landfast_tls::{BundleStore, ClientAuth, IdentityStore, WebRoots, server_config};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use crate::core::fixture::{DAY, START};

/// What a path answers.
#[derive(Clone)]
pub(crate) enum Reply {
    Document(String),
    /// Status line, headers and body as they are.
    Raw(String),
    Redirect(String),
    /// 1 GiB, as fast as it is taken.
    Flood,
    /// A byte a second, for ever.
    Drip,
    /// Nothing, for ever.
    Silent,
    /// This document, when told to.
    Held(String, Arc<Notify>),
}

pub(crate) struct Endpoint {
    pub(crate) port: u16,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    asked: watch::Receiver<usize>,
    _tree: TaskTree,
}

impl Endpoint {
    pub(crate) async fn start(tls: ServerConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let replies = Arc::new(Mutex::new(HashMap::new()));
        let (count, asked) = watch::channel(0);
        let (tree, acceptor) = (TaskTree::new(), TlsAcceptor::from(Arc::new(tls)));
        let (tasks, known) = (tree.handle(), Arc::clone(&replies));
        let count = Arc::new(count);
        tree.handle().spawn("endpoint", async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, known, count) = (acceptor.clone(), Arc::clone(&known), Arc::clone(&count));
                tasks.spawn_job("connection", async move {
                    serve(tcp, acceptor, &known, &count).await;
                });
            }
        });
        Self {
            port,
            replies,
            asked,
            _tree: tree,
        }
    }

    pub(crate) fn say(&self, path: &str, reply: Reply) {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
    }

    pub(crate) fn publish(&self, bundle: &Bundle) {
        self.say("/", Reply::Document(bundle.to_jwks()));
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port)
    }

    /// How many requests have come.
    pub(crate) fn asked(&self) -> usize {
        *self.asked.borrow()
    }

    /// Until so many have come.
    pub(crate) async fn reached(&self, count: usize) {
        let mut asked = self.asked.clone();
        let reached = asked.wait_for(|asked| *asked >= count);
        tokio::time::timeout(Duration::from_secs(60), reached)
            .await
            .unwrap()
            .unwrap();
    }
}

async fn serve(
    tcp: TcpStream,
    acceptor: TlsAcceptor,
    replies: &Mutex<HashMap<String, Reply>>,
    count: &watch::Sender<usize>,
) {
    // A client that does not like who we are goes away.
    let Ok(mut tls) = acceptor.accept(tcp).await else {
        return;
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match tls.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_gone) => return,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    assert!(
        head.starts_with("GET ") && head.contains("\r\nhost: localhost:"),
        "{head}"
    );
    let reply = replies.lock().unwrap().get(&path).cloned();
    let ok = |length: usize, body: &str| {
        format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}")
    };
    let sent = match reply.clone() {
        None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
        Some(Reply::Document(text)) => ok(text.len(), &text),
        Some(Reply::Raw(text)) => text,
        Some(Reply::Redirect(to)) => {
            format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
        }
        Some(Reply::Flood | Reply::Drip) => "HTTP/1.1 200 OK\r\n\r\n".to_owned(),
        Some(Reply::Silent) => String::new(),
        Some(Reply::Held(text, release)) => {
            count.send_modify(|count| *count += 1);
            release.notified().await;
            ok(text.len(), &text)
        }
    };
    count.send_modify(|count| *count += 1);
    if tls.write_all(sent.as_bytes()).await.is_err() {
        return;
    }
    match reply {
        Some(Reply::Flood) => {
            let mib = vec![b' '; 1 << 20];
            for _ in 0..1024 {
                if tls.write_all(&mib).await.is_err() {
                    return;
                }
            }
        }
        Some(Reply::Drip) => {
            while tls.write_all(b" ").await.is_ok() && tls.flush().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
        Some(Reply::Silent) => std::future::pending().await,
        _ => drop(tls.shutdown().await),
    }
}

/// A foreign trust domain.
pub(crate) struct Site {
    pub(crate) name: TrustDomain,
    start: UnixTime,
    end: UnixTime,
    key: PrivateKey,
    authority: Certificate,
}

impl Site {
    pub(crate) fn new(name: &str) -> Self {
        Self::made(name, START, START.saturating_add(30 * DAY))
    }

    /// By the machine's clock.
    pub(crate) fn now(name: &str) -> Self {
        let now = SystemClock.now().unwrap();
        Self::made(name, now, now.saturating_add(30 * DAY))
    }

    /// Whose authority ends then.
    pub(crate) fn until(name: &str, not_after: UnixTime) -> Self {
        Self::made(name, START, not_after)
    }

    fn made(name: &str, start: UnixTime, not_after: UnixTime) -> Self {
        let (name, key) = (TrustDomain::parse(name).unwrap(), PrivateKey::generate().unwrap());
        let params = AuthorityParams {
            trust_domain: &name,
            authority_id: "1",
            not_before: start.saturating_sub(100 * DAY),
            not_after,
        };
        let authority = issue::self_signed_authority(&params, &key).unwrap();
        Self {
            name,
            start,
            end: not_after,
            key,
            authority,
        }
    }

    pub(crate) fn id(&self, path: &str) -> SpiffeId {
        SpiffeId::from_parts(&self.name, path).unwrap()
    }

    /// One X.509 and one JWT key, the latter new each time.
    pub(crate) fn bundle(&self, sequence: u64) -> Bundle {
        let x509 = X509Authority {
            certificate: self.authority.clone(),
            tainted: false,
        };
        let jwt = JwtAuthority {
            key_id: "one".to_owned(),
            public_key: PrivateKey::generate().unwrap().public_key(),
            expires_at: None,
            tainted: false,
        };
        Bundle::new(self.name.clone())
            .with_x509_authorities(vec![x509])
            .and_then(|bundle| bundle.with_jwt_authorities(vec![jwt]))
            .unwrap()
            .with_sequence(sequence)
    }

    /// Of this site, with this ID.
    pub(crate) fn svid(&self, path: &str) -> Arc<X509Svid> {
        let key = PrivateKey::generate().unwrap();
        let params = LeafParams {
            id: &self.id(path),
            public_key: &key.public_key(),
            dns_names: &[],
            serial: issue::random_serial().unwrap(),
            not_before: self.start.saturating_sub(DAY),
            not_after: self.start.saturating_add(DAY).min(self.end),
        };
        let leaf = issue::leaf(&params, &self.authority, &self.key).unwrap();
        Arc::new(X509Svid::new(vec![leaf], key).unwrap())
    }

    /// A server that shows this ID.
    pub(crate) fn tls(&self, path: &str) -> ServerConfig {
        let identity = IdentityStore::new();
        identity.set(self.svid(path));
        let clock = Arc::new(SimClock::new(self.start));
        let config = server_config(identity, ClientAuth::None, BundleStore::default(), clock).unwrap();
        let mut config = (*config).clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }
}

/// A server with a certificate for this host until this year, and whom to trust for it.
pub(crate) fn web(host: &str, until: i32) -> (ServerConfig, WebRoots) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(until, 1, 1);
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    (config, WebRoots::from_pem(root.pem().as_bytes()).unwrap())
}

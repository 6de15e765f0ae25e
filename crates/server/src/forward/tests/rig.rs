//! A ledger, and those who receive its records.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use landfast_audit::verify::{DirSource, read};
use landfast_audit::{
    Actor, ActorClass, Category, CheckpointKey, Decision, Log, Outcome, Record, TimeQuality,
};
use landfast_identity::UnixTime;
use landfast_lifecycle::SystemClock;
use landfast_store::Store;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::super::{Cursor, ForwardConfig, ForwardError, Forwarder, Target};

pub(super) struct Ledger {
    pub(super) dir: TempDir,
    pub(super) cursors: Store,
    pub(super) origin: String,
    log: Log,
}

impl Ledger {
    pub(super) fn new(records: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = CheckpointKey::generate().unwrap();
        let key = CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", &key).unwrap();
        let log = Log::begin(Store::open(&dir.path().join("ledger")).unwrap(), key).unwrap();
        let cursors = Store::open(&dir.path().join("forward")).unwrap();
        let origin = log.origin().to_owned();
        let mut made = Self {
            dir,
            cursors,
            origin,
            log,
        };
        made.add(records);
        made
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    pub(super) fn add(&mut self, records: usize) {
        let record = || {
            let record = Record::new(
                Category::AccessControl,
                "svid.denied",
                Actor::new(ActorClass::Node, None),
            );
            Record {
                time: Some(UnixTime::from_secs(1_795_420_800)),
                time_quality: TimeQuality::Unconfirmed,
                decision: Decision::Deny,
                result: Outcome::Refused,
                reason: Some("because of what it is".to_owned()),
                ..record
            }
        };
        let records: Vec<_> = std::iter::repeat_with(record).take(records).collect();
        self.log.append(&records).unwrap();
        self.log.checkpoint().unwrap();
    }

    /// As they are in the files.
    pub(super) fn records(&self, range: Range<u64>) -> Vec<String> {
        let mut found = Vec::new();
        read(
            &DirSource::new(&self.path()),
            range.start,
            &mut |sequence, record| {
                if sequence < range.end {
                    found.push(String::from_utf8(record.to_vec()).unwrap());
                }
                true
            },
        )
        .unwrap();
        found
    }

    pub(super) fn cursor(&self) -> Cursor {
        Cursor::load(&self.cursors, "test").unwrap()
    }

    pub(super) fn forwarder(&self, config: ForwardConfig) -> Forwarder {
        Forwarder::new(&config, self.cursors.clone(), &self.path(), Arc::new(SystemClock))
    }
}

/// Steps until there is nothing more, or something fails. Gives how many messages that were.
pub(super) async fn all(forwarder: &mut Forwarder) -> Result<usize, ForwardError> {
    let (mut cursor, mut all) = (None, 0);
    loop {
        match forwarder.step(&mut cursor).await? {
            0 => return Ok(all),
            count => all += count,
        }
    }
}

pub(super) fn config(target: Target) -> ForwardConfig {
    ForwardConfig {
        name: "test".to_owned(),
        target,
        ca_file: None,
    }
}

/// Reads each connection to its end; the first one dies after so many bytes, when it is told to.
pub(super) struct Receiver {
    port: u16,
    roots: Option<(TempDir, PathBuf)>,
    taken: Arc<Mutex<Vec<u8>>>,
    ended: watch::Receiver<usize>,
    _tree: landfast_daemon::TaskTree,
}

impl Receiver {
    pub(super) async fn tcp(dies_after: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::start(port, None, dies_after, Listening::Tcp(listener))
    }

    pub(super) async fn tls(dies_after: Option<usize>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (acceptor, roots) = web();
        Self::start(port, Some(roots), dies_after, Listening::Tls(listener, acceptor))
    }

    pub(super) async fn unix(path: &Path, dies_after: Option<usize>) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        Self::start(0, None, dies_after, Listening::Unix(listener))
    }

    fn start(
        port: u16,
        roots: Option<(TempDir, PathBuf)>,
        dies_after: Option<usize>,
        listening: Listening,
    ) -> Self {
        let (tree, taken) = (landfast_daemon::TaskTree::new(), Arc::<Mutex<Vec<u8>>>::default());
        let (count, ended) = watch::channel(0);
        let into = Arc::clone(&taken);
        tree.handle().spawn("receiver", async move {
            let mut dies_after = dies_after;
            while let Ok(mut stream) = listening.accept().await {
                let mut bytes = vec![0; dies_after.take().unwrap_or(0)];
                match bytes.is_empty() {
                    true => drop(stream.read_to_end(&mut bytes).await.unwrap()),
                    // All of it is there before it dies: nothing is left to be refused later.
                    false => {
                        stream.read_exact(&mut bytes).await.unwrap();
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                }
                drop(stream);
                into.lock().unwrap().extend_from_slice(&bytes);
                count.send_modify(|count| *count += 1);
            }
        });
        Self {
            port,
            roots,
            taken,
            ended,
            _tree: tree,
        }
    }

    pub(super) fn config(&self) -> ForwardConfig {
        let target = Target::Syslog {
            host: if self.roots.is_some() {
                "localhost"
            } else {
                "127.0.0.1"
            }
            .to_owned(),
            port: self.port,
            tls: self.roots.is_some(),
        };
        ForwardConfig {
            ca_file: self.roots.as_ref().map(|(_, path)| path.clone()),
            ..config(target)
        }
    }

    pub(super) fn so_far(&self) -> Vec<u8> {
        self.taken.lock().unwrap().clone()
    }

    /// What came until so many connections had ended.
    pub(super) async fn taken(&self, connections: usize) -> Vec<u8> {
        let mut ended = self.ended.clone();
        let waited = ended.wait_for(|count| *count >= connections);
        tokio::time::timeout(std::time::Duration::from_secs(60), waited)
            .await
            .expect("they end in time")
            .unwrap();
        self.so_far()
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

enum Listening {
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
    Unix(UnixListener),
}

impl Listening {
    async fn accept(&self) -> std::io::Result<Box<dyn Stream>> {
        Ok(match self {
            Self::Tcp(listener) => Box::new(listener.accept().await?.0),
            Self::Unix(listener) => Box::new(listener.accept().await?.0),
            Self::Tls(listener, acceptor) => loop {
                // Who does not believe us is not to be counted.
                if let Ok(stream) = acceptor.accept(listener.accept().await?.0).await {
                    break Box::new(stream);
                }
            },
        })
    }
}

/// The messages' texts, of frames as RFC 5425 has them.
pub(super) fn messages(mut bytes: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let space = bytes.iter().position(|byte| *byte == b' ').expect("a length");
        let length: usize = std::str::from_utf8(&bytes[..space]).unwrap().parse().unwrap();
        let frame = &bytes[space + 1..][..length];
        bytes = &bytes[space + 1 + length..];
        let text = std::str::from_utf8(frame).unwrap();
        found.push(text[text.find("] {").unwrap() + 2..].to_owned());
    }
    found
}

pub(super) type Requests = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A collector that answers with these, one after the other.
pub(super) async fn http(statuses: Vec<u16>) -> (u16, Requests, landfast_daemon::TaskTree) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Requests::default();
    let known = Arc::clone(&requests);
    let tree = landfast_daemon::TaskTree::new();
    tree.handle().spawn_job("collector", async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, length) = loop {
                stream.read_buf(&mut bytes).await.unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                if let Some(end) = text.find("\r\n\r\n") {
                    let length = text.to_lowercase();
                    let length = length.split("content-length: ").nth(1).unwrap();
                    let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
                    break (text[..end].to_owned(), length + end + 4);
                }
            };
            while bytes.len() < length {
                stream.read_buf(&mut bytes).await.unwrap();
            }
            let body = bytes[head.len() + 4..].to_vec();
            known.lock().unwrap().push((format!("{head}\r\n"), body));
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (port, requests, tree)
}

pub(super) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn web() -> (TlsAcceptor, (TempDir, PathBuf)) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![leaf.der().clone()], key)
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("roots")).unwrap();
    store.replace("ca.pem", root.pem().as_bytes()).unwrap();
    let path = store.path().join("ca.pem");
    (TlsAcceptor::from(Arc::new(config)), (dir, path))
}

//! Somebody who stands where agents look for their server: he has the server's keys, and hears and says bytes.
//!
//! Invariant: what agents demand of a server is fulfilled by its own keys; nothing is switched off for it.

#![expect(
    clippy::disallowed_methods,
    reason = "the network of a test is no task of anybody"
)]

use std::fs;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::rt::TokioIo;
use landfast_identity::issue::{LeafParams, leaf, random_serial};
use landfast_identity::{Bundle, BundleSet, Certificate, PrivateKey, PublicKey, SpiffeId, X509Svid};
use landfast_lifecycle::{Clock as _, SimClock};
use landfast_tls::{BundleStore, ClientAuth, Expect, IdentityStore, client_config, server_config};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status, Streaming};

use crate::spoken::Plain;

/// Messages of an answer.
pub type Messages = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;
/// An answer on its way.
pub type Answer = Pin<Box<dyn Future<Output = Result<Response<Messages>, Status>> + Send>>;
/// Answers a call of this method.
pub type Answers = Arc<dyn Fn(String, Request<Streaming<Bytes>>) -> Answer + Send + Sync>;

/// He stands there until this is dropped.
pub struct Front {
    /// Where agents find him.
    pub address: String,
    standing: [JoinHandle<()>; 2],
}

impl Front {
    /// Begins to listen, and answers with this.
    pub async fn open(authority: &Authority, clock: &SimClock, answers: Answers) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let identity = IdentityStore::new();
        identity.set(Arc::new(authority.server(clock)));
        let bundles = BundleStore::new(BundleSet::from_iter([authority.bundle.clone()]));
        let tls = server_config(identity, ClientAuth::Optional, bundles, Arc::new(clock.clone()));
        let tls = TlsAcceptor::from(tls.expect("TLS"));
        let (arrived, incoming) = tokio::sync::mpsc::channel(16);
        let accepting = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                if let Ok(stream) = tls.accept(tcp).await {
                    drop(arrived.send(Ok::<_, std::io::Error>(Arrived(stream))).await);
                }
            }
        });
        let service = tower::service_fn(move |request: http::Request<tonic::body::Body>| {
            let (method, answers) = (request.uri().path().to_owned(), Arc::clone(&answers));
            async move {
                let talk = tower::service_fn(move |request| answers(method.clone(), request));
                Ok::<_, std::convert::Infallible>(
                    tonic::server::Grpc::new(Plain).streaming(talk, request).await,
                )
            }
        });
        let serving = tokio::spawn(async move {
            let incoming = ReceiverStream::new(incoming);
            let served = tonic::transport::Server::builder().serve_with_incoming(service, incoming);
            drop(served.await);
        });
        Self {
            address,
            standing: [accepting, serving],
        }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.standing.iter().for_each(JoinHandle::abort);
    }
}

/// An authority with its key.
pub struct Authority {
    bundle: Bundle,
    certificate: Certificate,
    key: PrivateKey,
}

impl Authority {
    /// Of a server's data directory: the first in the bundle whose key is there.
    pub fn of_server(data: &Path, bundle: &Bundle) -> Self {
        let files = fs::read_dir(data.join("keys")).expect("keys");
        let files = files.map(|file| fs::read(file.expect("a file").path()).expect("a key"));
        let keys: Vec<_> = files
            .filter_map(|der| PrivateKey::from_pkcs8_der(der).ok())
            .collect();
        let mut all = bundle.x509_authorities().iter().map(|one| &one.certificate);
        let found = all.find_map(|certificate| {
            let mut keys = keys.iter();
            let key = keys.find(|key| key.public_key() == *certificate.public_key())?;
            Some((
                certificate,
                PrivateKey::from_pkcs8_der(key.as_pkcs8_der().to_vec()).ok()?,
            ))
        });
        let (certificate, key) = found.expect("an authority whose key is here");
        Self {
            bundle: bundle.clone(),
            certificate: certificate.clone(),
            key,
        }
    }

    /// A certificate for whoever has this key.
    pub fn sign(&self, id: &SpiffeId, key: &PublicKey, begins: i64, ends: i64) -> Certificate {
        let params = LeafParams {
            id,
            public_key: key,
            dns_names: &[],
            serial: random_serial().expect("a number"),
            not_before: landfast_identity::UnixTime::from_secs(begins),
            not_after: landfast_identity::UnixTime::from_secs(ends),
        };
        leaf(&params, &self.certificate, &self.key).expect("a certificate")
    }

    fn server(&self, clock: &SimClock) -> X509Svid {
        let key = PrivateKey::generate().expect("a key");
        let now = clock.now().expect("the time").as_secs();
        let id = SpiffeId::server(self.bundle.trust_domain());
        let certificate = self.sign(&id, &key.public_key(), now - 60, now + 7 * 86_400);
        X509Svid::new(vec![certificate], key).expect("an SVID")
    }
}

/// A connection to a server, as this node or as anybody.
///
/// # Errors
/// It is not to be had.
pub async fn connect(
    address: &str,
    bundle: &Bundle,
    svid: Option<Arc<X509Svid>>,
    clock: &SimClock,
) -> Result<Channel, tonic::transport::Error> {
    let expect = Expect::Exactly(SpiffeId::server(bundle.trust_domain()));
    let identity = svid.map(|svid| {
        let store = IdentityStore::new();
        store.set(svid);
        store
    });
    let bundles = BundleStore::new(BundleSet::from_iter([bundle.clone()]));
    let tls = client_config(expect, bundles, identity, Arc::new(clock.clone())).expect("TLS");
    let address = address.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (tls, address) = (TlsConnector::from(Arc::clone(&tls)), address.clone());
        async move {
            let tcp = TcpStream::connect(address).await?;
            let name = rustls::pki_types::ServerName::try_from("server.invalid").expect("a name");
            Ok::<_, std::io::Error>(TokioIo::new(tls.connect(name, tcp).await?))
        }
    });
    Endpoint::from_static("http://server.invalid")
        .connect_timeout(Duration::from_secs(10))
        .connect_with_connector(connector)
        .await
}

/// The identity of an agent, from `node-identity.json`.
pub fn identity(file: &Path) -> Option<Arc<X509Svid>> {
    use base64::Engine as _;
    let text = fs::read_to_string(file).ok()?;
    let value: serde_json::Value = serde_json::from_str(&text).ok()?;
    let chain = landfast_identity::parse_chain_pem(value["chain"].as_str()?).ok()?;
    let key = base64::engine::general_purpose::STANDARD.decode(value["key"].as_str()?);
    let key = PrivateKey::from_pkcs8_der(key.ok()?).ok()?;
    X509Svid::new(chain, key).ok().map(Arc::new)
}

/// Whether the caller has shown who he is.
#[derive(Clone, Debug)]
pub struct Shown(pub bool);

struct Arrived(TlsStream<TcpStream>);

impl Connected for Arrived {
    type ConnectInfo = Shown;

    fn connect_info(&self) -> Shown {
        Shown(self.0.get_ref().1.peer_certificates().is_some())
    }
}

impl AsyncRead for Arrived {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        to: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, to)
    }
}

impl AsyncWrite for Arrived {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

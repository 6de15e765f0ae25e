//! A client that sees every byte.

use std::collections::BTreeMap;

use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::*;

pub(super) const HERE: [u8; 4] = [127, 0, 0, 1];

pub(super) struct Client(pub(super) TlsStream<TcpStream>);

#[derive(Debug, PartialEq)]
pub(super) struct Answer {
    pub(super) status: u16,
    /// By lower-case name; without the date.
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: String,
}

impl Answer {
    pub(super) fn json(&self) -> serde_json::Value {
        assert_eq!(self.headers["content-type"], "application/json");
        serde_json::from_str(&self.body).unwrap()
    }
}

impl Web {
    /// Somebody who trusts the web's authority.
    pub(super) fn client(&self) -> ClientConfig {
        self.client_of(&[&rustls::version::TLS13, &rustls::version::TLS12])
    }

    pub(super) fn client_of(&self, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        config
    }

    pub(super) async fn connect(&self, address: SocketAddr) -> Client {
        Client::connect(address, Arc::new(self.client())).await.unwrap()
    }
}

impl Client {
    pub(super) async fn connect(address: SocketAddr, tls: Arc<ClientConfig>) -> std::io::Result<Self> {
        Self::connect_from(HERE, address, tls).await
    }

    pub(super) async fn connect_from(
        from: [u8; 4],
        address: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        Self::over(TcpSocket::new_v4()?, from, address, tls).await
    }

    /// Takes at most so many bytes before it is read from.
    pub(super) async fn connect_slowly(
        address: SocketAddr,
        tls: Arc<ClientConfig>,
        buffer: u32,
    ) -> std::io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(buffer)?;
        Self::over(socket, HERE, address, tls).await
    }

    async fn over(
        socket: TcpSocket,
        from: [u8; 4],
        address: SocketAddr,
        tls: Arc<ClientConfig>,
    ) -> std::io::Result<Self> {
        socket.bind(SocketAddr::from((from, 0)))?;
        let tcp = socket.connect(address).await?;
        let name = rustls::pki_types::ServerName::try_from(HOST).unwrap();
        TlsConnector::from(tls).connect(name, tcp).await.map(Self)
    }

    pub(super) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    /// One request; the connection stays.
    pub(super) async fn ask(&mut self, method: &str, path: &str, headers: &str) -> Answer {
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\nhost: {HOST}\r\n{headers}\r\n"
        ))
        .await;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let (line, headers) = head.split_once("\r\n").unwrap();
        let headers: BTreeMap<_, _> = headers
            .lines()
            .filter_map(|line| line.split_once(": "))
            .filter(|(name, _)| *name != "date")
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        let length = headers
            .get("content-length")
            .map_or(0, |length| length.parse().unwrap());
        let mut body = vec![0; if method == "HEAD" { 0 } else { length }];
        self.0.read_exact(&mut body).await.unwrap();
        Answer {
            status: line[9..12].parse().unwrap(),
            headers,
            body: String::from_utf8(body).unwrap(),
        }
    }

    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// All that comes until the server ends the connection, which it must.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        let end = self.0.read_to_end(&mut rest);
        // An end without TLS's goodbye is one as well.
        let _how = tokio::time::timeout(Duration::from_secs(30), end)
            .await
            .expect("the connection was not ended");
        String::from_utf8(rest).unwrap()
    }

    pub(super) fn certificate(&self) -> CertificateDer<'static> {
        self.0.get_ref().1.peer_certificates().unwrap()[0].clone()
    }
}

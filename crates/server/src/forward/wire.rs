//! Connections to receivers. Invariant: what is not encrypted leaves this machine never; what was handed over was read by the receiver until its end,
//! or the receiver holds the connection open.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use landfast_lifecycle::SharedClock;
use landfast_tls::{WebRoots, web_tls_config};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::sink::SinkError;

/// A receiver over TCP.
pub(super) struct Peer {
    host: String,
    port: u16,
    is_tls: bool,
    ca_file: Option<PathBuf>,
    clock: SharedClock,
}

pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Peer {
    pub(super) fn new(
        host: &str,
        port: u16,
        is_tls: bool,
        ca_file: Option<PathBuf>,
        clock: SharedClock,
    ) -> Self {
        Self {
            host: host.to_owned(),
            port,
            is_tls,
            ca_file,
            clock,
        }
    }

    /// As an HTTP header has it.
    pub(super) fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }

    /// Each batch has a connection of its own: its end is the only thing that syslog has for an acknowledgement.
    pub(super) async fn hand_over(&self, bytes: &[u8]) -> Result<(), SinkError> {
        let handed = match self.connect(&[]).await? {
            Wire::Plain(stream) => hand_over(stream, bytes, TcpStream::take_error).await,
            Wire::Tls(stream) => hand_over(*stream, bytes, |stream| stream.get_ref().0.take_error()).await,
        };
        handed.map_err(SinkError::Broken)
    }

    pub(super) async fn connect(&self, protocols: &[&[u8]]) -> Result<Wire, SinkError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port))
            .await
            .map_err(SinkError::Resolve)?;
        let permitted = |address: &SocketAddr| self.is_tls || address.ip().is_loopback();
        let mut last = SinkError::Address;
        for address in found.filter(permitted).take(ADDRESSES) {
            let reached = tokio::time::timeout(CONNECT, TcpStream::connect(address)).await;
            match reached.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
                Ok(tcp) => return self.secured(tcp, protocols).await,
                Err(source) => last = SinkError::Connect(source),
            }
        }
        Err(last)
    }

    async fn secured(&self, tcp: TcpStream, protocols: &[&[u8]]) -> Result<Wire, SinkError> {
        if !self.is_tls {
            return Ok(Wire::Plain(tcp));
        }
        let name = ServerName::try_from(self.host.clone()).map_err(SinkError::Name)?;
        let connected = TlsConnector::from(self.tls(protocols)?).connect(name, tcp).await;
        Ok(Wire::Tls(Box::new(connected.map_err(SinkError::Tls)?)))
    }

    /// Read anew for each connection: authorities change while a server runs.
    fn tls(&self, protocols: &[&[u8]]) -> Result<Arc<ClientConfig>, SinkError> {
        let system = landfast_tls::system_roots;
        let path = self.ca_file.clone().or_else(system).ok_or(SinkError::NoRoots)?;
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(source) => return Err(SinkError::Roots { path, source }),
        };
        let roots = WebRoots::from_pem(&text).map_err(|source| SinkError::BadRoots { path, source })?;
        Ok(web_tls_config(&roots, protocols, Arc::clone(&self.clock))?)
    }
}

/// Writes all of it and ends; then the receiver reads until that end and ends as well, or died before: its kernel refuses then what it has not read.
/// One that holds the connection open has it.
pub(super) async fn hand_over<S>(
    mut stream: S,
    bytes: &[u8],
    error: impl Fn(&S) -> io::Result<Option<io::Error>>,
) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(bytes).await?;
    stream.flush().await?;
    stream.shutdown().await?;
    let mut rest = [0; 256];
    let ended = async {
        loop {
            match stream.read(&mut rest).await {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // TLS was not ended, TCP was: receivers do.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    };
    match tokio::time::timeout(END, ended).await {
        Ok(ended) => ended?,
        Err(_elapsed) => tracing::debug!("a receiver of the ledger does not end its connection"),
    }
    // Its end may have been sent before our last bytes came there: the refusal of those is on its way.
    tokio::time::sleep(REFUSAL).await;
    match error(&stream)? {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

/// Addresses of one host that are tried.
const ADDRESSES: usize = 4;
/// To one of them.
const CONNECT: Duration = Duration::from_secs(5);
/// For the receiver to read to the end.
const END: Duration = Duration::from_secs(20);
/// The way there and back.
const REFUSAL: Duration = Duration::from_millis(500);

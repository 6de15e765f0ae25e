//! From a list of addresses to one TLS connection: names, addresses, proxy, handshake, each with a deadline.
//!
//! Invariant: a connection that leaves here was verified to be the server of our trust domain.

mod refused;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use landfast_identity::{ChainRole, UnixTime};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use refused::handshake;

/// `host:port`, where host is a name, an IPv4 address or an IPv6 address in brackets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddress {
    host: String,
    port: u16,
}

/// A proxy that is asked with HTTP CONNECT.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    address: ServerAddress,
    /// `user:password`, decoded.
    credentials: Option<Vec<u8>>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({})", self.address)
    }
}

impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl FromStr for ServerAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest
                    .split_once("]:")
                    .ok_or("an IPv6 address in brackets, a colon and a port")?;
                host.parse::<std::net::Ipv6Addr>()
                    .map_err(|_cause| "an IPv6 address in brackets, a colon and a port")?;
                (host, port)
            }
            None => text.rsplit_once(':').ok_or("host:port")?,
        };
        let bracketed = text.starts_with('[');
        let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || host.len() > 253 || (!bracketed && !host.chars().all(name)) {
            return Err("host:port, with an IPv6 address in brackets");
        }
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or("a port from 1 to 65535")?;
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

impl FromStr for Proxy {
    type Err = &'static str;

    /// Reads `http://[user:password@]host:port`, with `%` and two digits for what a URL cannot hold.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text
            .strip_prefix("http://")
            .ok_or("http://host:port")?
            .trim_end_matches('/');
        let (credentials, address) = match rest.rsplit_once('@') {
            Some((credentials, address)) => (Some(self::credentials(credentials)?), address),
            None => (None, rest),
        };
        Ok(Self {
            address: address.parse()?,
            credentials,
        })
    }
}

/// RFC 3986 §2.1 undone. A colon in the name would move the boundary between name and password (RFC 7617 §2).
fn credentials(text: &str) -> Result<Vec<u8>, &'static str> {
    let (user, password) = text.split_once(':').unwrap_or((text, ""));
    let user = percent_decoded(user)?;
    if user.contains(&b':') {
        return Err("a user name without a colon");
    }
    Ok([user, percent_decoded(password)?].join(&b':'))
}

fn percent_decoded(text: &str) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(if byte == b'%' {
            let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16));
            let value = digit().zip(digit()).map(|(high, low)| high * 16 + low);
            let value = value.and_then(|value| u8::try_from(value).ok());
            value.ok_or("two hexadecimal digits after each % of user and password")?
        } else {
            byte
        });
    }
    Ok(out)
}

/// Why no server could be reached.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.words())]
pub(crate) struct DialError {
    /// One a server address, in the order tried.
    pub(crate) attempts: Vec<(String, AttemptError)>,
}

impl DialError {
    fn words(&self) -> String {
        let each = self
            .attempts
            .iter()
            .map(|(address, error)| format!("{address}: {}", landfast_daemon::error_chain(error)));
        let mut words: Vec<String> = each.collect();
        words.dedup();
        words.join("; ")
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error("cannot resolve the name")]
    Resolve(#[source] std::io::Error),
    #[error("the name has no address")]
    NoAddress,
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("{step} took longer than {} s", DEADLINE.as_secs())]
    Deadline { step: &'static str },
    #[error("the proxy refused: {0}")]
    Proxy(String),
    #[error("cannot speak to the proxy")]
    ProxyIo(#[source] std::io::Error),
    #[error("TLS handshake failed")]
    Tls(#[source] std::io::Error),
    #[error("clock is behind by {seconds} s or more: the {role} of the server begins at {not_before}")]
    ClockBehind {
        seconds: u64,
        role: ChainRole,
        not_before: UnixTime,
    },
    #[error(
        "the {role} of the server ended at {not_after}: it is not in use any more, or the clock is ahead by {seconds} s or more"
    )]
    Ended {
        seconds: u64,
        role: ChainRole,
        not_after: UnixTime,
    },
    #[error(
        "the server is of an authority this node does not know; put the present bundle into trust_bundle (`landfast bundle show` prints it)"
    )]
    UnknownAuthority,
    #[error("what answers is not the server")]
    NotTheServer(#[source] std::io::Error),
    #[error("the server chose another protocol than HTTP/2")]
    Alpn,
}

/// A verified connection and the address it goes to.
pub(crate) struct Dialled {
    pub(crate) stream: TlsStream<TcpStream>,
    pub(crate) address: String,
    /// Its place in the list.
    pub(crate) server: usize,
}

/// Where to and through what.
#[derive(Clone, Debug)]
pub(crate) struct Dialler {
    pub(crate) servers: Vec<ServerAddress>,
    pub(crate) proxy: Option<Proxy>,
}

impl Dialler {
    /// Tries the servers in order, beginning with the one at `begin`, and of each name all its addresses in order. One that has not answered
    /// after [`HEAD_START`] is waited for beside the next: a dead first server costs less than a second.
    pub(crate) async fn dial(
        &self,
        begin: usize,
        tls: &Arc<rustls::ClientConfig>,
        now: UnixTime,
    ) -> Result<Dialled, DialError> {
        let mut attempts = Vec::new();
        let places = self.servers.iter().enumerate();
        let mut left = places.clone().skip(begin).chain(places.take(begin)).fuse();
        let mut asked = FuturesUnordered::new();
        loop {
            let (last, pause) = match left.next() {
                Some((place, server)) => {
                    asked.push(async move { (place, server, self.dial_one(server, (tls, now)).await) });
                    (false, HEAD_START)
                }
                None if asked.is_empty() => return Err(DialError { attempts }),
                // Each has its own deadlines.
                None => (true, DEADLINE),
            };
            let answered = tokio::select! {
                answered = asked.next() => answered,
                () = tokio::time::sleep(pause), if !last => None,
            };
            match answered {
                Some((place, server, Ok(stream))) => {
                    return Ok(Dialled {
                        stream,
                        address: server.to_string(),
                        server: place,
                    });
                }
                Some((_, server, Err(errors))) => {
                    attempts.extend(errors.into_iter().map(|error| (server.to_string(), error)));
                }
                None => {}
            }
        }
    }

    /// A server may have several addresses: one failure each.
    async fn dial_one(
        &self,
        server: &ServerAddress,
        tls: (&Arc<rustls::ClientConfig>, UnixTime),
    ) -> Result<TlsStream<TcpStream>, Vec<AttemptError>> {
        let first_hop = self.proxy.as_ref().map_or(server, |proxy| &proxy.address);
        let addresses = resolve(first_hop).await.map_err(|error| vec![error])?;
        let mut errors = Vec::new();
        for address in addresses {
            match self.dial_address(address, server, tls).await {
                Ok(stream) => return Ok(stream),
                Err(error) => errors.push(error),
            }
        }
        if errors.is_empty() {
            errors.push(AttemptError::NoAddress);
        }
        Err(errors)
    }

    async fn dial_address(
        &self,
        address: SocketAddr,
        server: &ServerAddress,
        (tls, now): (&Arc<rustls::ClientConfig>, UnixTime),
    ) -> Result<TlsStream<TcpStream>, AttemptError> {
        let tcp = within("connecting", TcpStream::connect(address))
            .await?
            .map_err(AttemptError::Connect)?;
        // Small requests, each waited for: Nagle's delay would be added to every one. Failure costs only speed.
        drop(tcp.set_nodelay(true));
        let tcp = match &self.proxy {
            Some(proxy) => within("the proxy", proxy.connect(tcp, server)).await??,
            None => tcp,
        };
        // The name is for the wire only (SNI); who the server is, its SPIFFE ID says.
        let name = ServerName::try_from(server.host.clone())
            .or_else(|_| ServerName::try_from("server.invalid"))
            .map_err(|_cause| AttemptError::NoAddress)?;
        let connecting = TlsConnector::from(Arc::clone(tls)).connect(name, tcp);
        let stream = within("the TLS handshake", connecting)
            .await?
            .map_err(|error| handshake(error, now))?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(AttemptError::Alpn);
        }
        Ok(stream)
    }
}

impl Proxy {
    async fn connect(&self, mut tcp: TcpStream, server: &ServerAddress) -> Result<TcpStream, AttemptError> {
        let mut request = format!("CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n");
        if let Some(credentials) = &self.credentials {
            let encoded = base64::engine::general_purpose::STANDARD.encode(credentials);
            request.push_str(&format!("Proxy-Authorization: Basic {encoded}\r\n"));
        }
        request.push_str("\r\n");
        tcp.write_all(request.as_bytes())
            .await
            .map_err(AttemptError::ProxyIo)?;
        // Byte by byte: whatever follows the head belongs to TLS. The head is short and read once a connection.
        let mut head = Vec::with_capacity(256);
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() >= MAX_PROXY_HEAD {
                return Err(AttemptError::Proxy(format!(
                    "its answer is longer than {MAX_PROXY_HEAD} bytes"
                )));
            }
            head.push(tcp.read_u8().await.map_err(AttemptError::ProxyIo)?);
        }
        let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
        let line: String = String::from_utf8_lossy(line)
            .chars()
            .filter(|c| !c.is_control())
            .take(100)
            .collect();
        let mut words = line.split(' ');
        let http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
        match words.next() {
            // Any 2xx opens the tunnel (RFC 9110 §9.3.6).
            Some(code) if http && code.len() == 3 && code.starts_with('2') => Ok(tcp),
            _ => Err(AttemptError::Proxy(line)),
        }
    }
}

async fn resolve(server: &ServerAddress) -> Result<Vec<SocketAddr>, AttemptError> {
    let found = within(
        "resolving the name",
        tokio::net::lookup_host((server.host.as_str(), server.port)),
    )
    .await?;
    Ok(interleave(
        found
            .map_err(AttemptError::Resolve)?
            .take(MAX_ADDRESSES)
            .collect(),
    ))
}

/// IPv6 and IPv4 in turn, beginning with what the resolver put first: when one family is dead, the other comes second.
fn interleave(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    let mut out = Vec::with_capacity(first.len() + second.len());
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    loop {
        let pair = [first.next(), second.next()];
        if pair == [None, None] {
            return out;
        }
        out.extend(pair.into_iter().flatten());
    }
}

async fn within<F: Future>(step: &'static str, future: F) -> Result<F::Output, AttemptError> {
    timeout(DEADLINE, future)
        .await
        .map_err(|_cause| AttemptError::Deadline { step })
}

/// For each step of one attempt.
const DEADLINE: Duration = Duration::from_secs(5);
/// For the server before, until the next is asked as well.
const HEAD_START: Duration = Duration::from_millis(750);
/// Addresses tried of one name.
const MAX_ADDRESSES: usize = 8;
const MAX_PROXY_HEAD: usize = 8192;

#[cfg(test)]
mod tests;

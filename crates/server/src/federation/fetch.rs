//! One document from one endpoint. Invariant: it ends within ten seconds, holds at most 1 MiB, and what the peer sends is never shown to
//! anybody (T-18, T-26).

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_LENGTH, HOST, HeaderMap, LOCATION, USER_AGENT,
};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::DangerNetworks;
use crate::registry::EndpointUrl;

/// Gets what is at `url`, from whoever passes `tls`. Follows three redirects to other places that pass it too; they are not remembered
/// (SPIFFE Federation §5.2.1.4, §5.2.2.4).
pub(crate) async fn fetch(
    url: &EndpointUrl,
    tls: &Arc<ClientConfig>,
    danger: &DangerNetworks,
) -> Result<Vec<u8>, FetchError> {
    tokio::time::timeout(DEADLINE, follow(url, tls, danger))
        .await
        .unwrap_or(Err(FetchError::Late))
}

async fn follow(
    url: &EndpointUrl,
    tls: &Arc<ClientConfig>,
    danger: &DangerNetworks,
) -> Result<Vec<u8>, FetchError> {
    let mut url = url.clone();
    for _ in 0..=REDIRECTS {
        match ask(&url, tls, danger).await? {
            Answer::Document(document) => return Ok(document),
            Answer::Elsewhere(next) => {
                tracing::debug!(from = %url, "a bundle endpoint redirects");
                url = next;
            }
        }
    }
    Err(FetchError::Redirects)
}

enum Answer {
    Document(Vec<u8>),
    Elsewhere(EndpointUrl),
}

async fn ask(
    url: &EndpointUrl,
    tls: &Arc<ClientConfig>,
    danger: &DangerNetworks,
) -> Result<Answer, FetchError> {
    let stream = connect(url, tls, danger).await?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADERS)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|source| FetchError::Http { source })?;
    let request = Request::get(url.path().as_str())
        .header(HOST, url.authority())
        .header(ACCEPT, "application/json")
        .header(ACCEPT_ENCODING, "identity")
        .header(USER_AGENT, concat!("landfast/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|source| FetchError::Request { source })?;
    let mut exchange = pin!(async {
        let response = sender
            .send_request(request)
            .await
            .map_err(|source| FetchError::Http { source })?;
        answer(url, response).await
    });
    // The connection does the work while the exchange waits; it may end before its last bytes have been read.
    tokio::select! {
        answered = &mut exchange => answered,
        _ended = connection => exchange.await,
    }
}

async fn connect(
    url: &EndpointUrl,
    tls: &Arc<ClientConfig>,
    danger: &DangerNetworks,
) -> Result<TlsStream<TcpStream>, FetchError> {
    let name = ServerName::try_from(url.host().to_owned()).map_err(|source| FetchError::Name { source })?;
    let found = tokio::net::lookup_host((url.host(), url.port()))
        .await
        .map_err(|source| FetchError::Resolve { source })?;
    let permitted: Vec<SocketAddr> = found
        .filter(|address| danger.permit(address.ip()))
        .take(ADDRESSES)
        .collect();
    let tcp = first_of(permitted, TcpStream::connect).await?;
    let connected = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await;
    connected.map_err(|source| FetchError::Tls { source })
}

/// One after the other, each in its own time: a network that swallows what is sent to one address leaves enough for the next.
async fn first_of<T, F>(
    addresses: Vec<SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> Result<T, FetchError>
where
    F: Future<Output = io::Result<T>>,
{
    let mut last = FetchError::Address;
    for address in addresses {
        let reached = tokio::time::timeout(CONNECT, connect(address)).await;
        match reached.unwrap_or_else(|_elapsed| Err(io::ErrorKind::TimedOut.into())) {
            Ok(tcp) => return Ok(tcp),
            Err(source) => last = FetchError::Connect { source },
        }
    }
    Err(last)
}

async fn answer(url: &EndpointUrl, response: Response<Incoming>) -> Result<Answer, FetchError> {
    let status = response.status();
    if REDIRECT.contains(&status) {
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.redirected(location).ok());
        return next.map(Answer::Elsewhere).ok_or(FetchError::Elsewhere);
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status {
            status: status.as_u16(),
        });
    }
    check_head(response.headers())?;
    let mut body = response.into_body();
    let mut document = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|source| FetchError::Http { source })?;
        let Ok(data) = frame.into_data() else { continue };
        if document.len() + data.len() > DOCUMENT {
            return Err(FetchError::Large);
        }
        document.extend_from_slice(&data);
    }
    Ok(Answer::Document(document))
}

fn check_head(headers: &HeaderMap) -> Result<(), FetchError> {
    // We have asked for none: what unpacks to more than it weighs is not unpacked.
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|coding| coding != "identity")
    {
        return Err(FetchError::Packed);
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<usize>().ok());
    match announced {
        Some(length) if length > DOCUMENT => Err(FetchError::Large),
        _ => Ok(()),
    }
}

/// Why there is no document. `Display` is for operators anywhere, and holds nothing that the peer wrote.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    #[error("the endpoint's host is no name or address")]
    Name {
        source: rustls::pki_types::InvalidDnsNameError,
    },
    #[error("the endpoint's host cannot be resolved")]
    Resolve { source: io::Error },
    #[error(
        "the endpoint's host has only addresses that are not asked (federation_danger_networks names exceptions)"
    )]
    Address,
    #[error("the endpoint cannot be reached")]
    Connect { source: io::Error },
    #[error("the endpoint does not prove to be what the relationship says")]
    Tls { source: io::Error },
    #[error("the request cannot be made")]
    Request { source: http::Error },
    #[error("the endpoint does not speak HTTP/1.1 properly")]
    Http { source: hyper::Error },
    #[error("the endpoint answers with status {status}")]
    Status { status: u16 },
    #[error("the endpoint redirects to what is no https URL")]
    Elsewhere,
    #[error("the endpoint redirects more than {REDIRECTS} times")]
    Redirects,
    #[error("the endpoint's document is larger than {DOCUMENT} bytes")]
    Large,
    #[error("the endpoint's document is packed, and was not asked to be")]
    Packed,
    #[error("the endpoint has not sent its document within {} s", DEADLINE.as_secs())]
    Late,
}

/// For everything: name, connections, redirects, document.
const DEADLINE: Duration = Duration::from_secs(10);
/// To one address.
const CONNECT: Duration = Duration::from_secs(2);
const REDIRECTS: usize = 3;
const REDIRECT: [StatusCode; 5] = [
    StatusCode::MOVED_PERMANENTLY,
    StatusCode::FOUND,
    StatusCode::SEE_OTHER,
    StatusCode::TEMPORARY_REDIRECT,
    StatusCode::PERMANENT_REDIRECT,
];
const DOCUMENT: usize = 1024 * 1024;
const HEADERS: usize = 64 * 1024;
/// Addresses of one host that are tried.
const ADDRESSES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(count: u8) -> Vec<SocketAddr> {
        (1..=count)
            .map(|n| SocketAddr::from(([192, 0, 2, n], 443)))
            .collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_never_answers_leaves_time_for_the_next() {
        let connect = |address: SocketAddr| async move {
            match address {
                SocketAddr::V4(v4) if v4.ip().octets()[3] == 4 => Ok(address),
                SocketAddr::V4(v4) if v4.ip().octets()[3] == 2 => {
                    Err(io::ErrorKind::ConnectionRefused.into())
                }
                _ => std::future::pending().await,
            }
        };
        let reached = tokio::time::timeout(DEADLINE, first_of(addresses(4), connect)).await;
        assert_eq!(
            reached.expect("all the time went to one address").unwrap(),
            addresses(4)[3]
        );
        let none = first_of(addresses(3), connect).await;
        assert!(
            matches!(none, Err(FetchError::Connect { source }) if source.kind() == io::ErrorKind::TimedOut)
        );
        assert!(matches!(
            first_of(Vec::new(), connect).await,
            Err(FetchError::Address)
        ));
    }
}

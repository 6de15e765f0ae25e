//! One POST. Invariant: it holds no more of an answer than its bound.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use super::sink::SinkError;
use super::wire::{Peer, Wire};

/// Sends protobuf; gives the beginning of what a 200 brings.
pub(super) async fn post(peer: &Peer, path: &str, body: Vec<u8>) -> Result<Vec<u8>, SinkError> {
    let request = Request::post(path)
        .header(HOST, peer.authority())
        .header(CONNECTION, "close")
        .header(CONTENT_TYPE, "application/x-protobuf")
        .header(USER_AGENT, concat!("landfast/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(Bytes::from(body)))?;
    match peer.connect(&[b"http/1.1"]).await? {
        Wire::Plain(stream) => ask(stream, request).await,
        Wire::Tls(stream) => ask(stream, request).await,
    }
}

async fn ask<S>(stream: S, request: Request<Full<Bytes>>) -> Result<Vec<u8>, SinkError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADERS)
        .handshake(TokioIo::new(stream))
        .await?;
    let mut exchange = std::pin::pin!(async {
        let response = sender.send_request(request).await?;
        if response.status() != StatusCode::OK {
            return Err(SinkError::Status(response.status().as_u16()));
        }
        let (mut body, mut answer) = (response.into_body(), Vec::new());
        while let Some(frame) = body.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            let room = ANSWER - answer.len();
            answer.extend_from_slice(&data[..data.len().min(room)]);
        }
        Ok(answer)
    });
    // The connection does the work while the exchange waits; it may end before its last bytes have been read.
    tokio::select! {
        answered = &mut exchange => answered,
        _ended = connection => exchange.await,
    }
}

const HEADERS: usize = 64 * 1024;
const ANSWER: usize = 64 * 1024;

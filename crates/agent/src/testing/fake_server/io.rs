//! The scripted server's end of a connection: it breaks, or falls silent, when the test says so.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

use super::Shown;

/// A TLS stream that tells tonic who is at the other end, and breaks when the server stops.
pub(super) struct TlsIo(
    pub(super) TlsStream<TcpStream>,
    pub(super) Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
    pub(super) Arc<AtomicBool>,
);

impl Connected for TlsIo {
    type ConnectInfo = Shown;

    fn connect_info(&self) -> Shown {
        let leaf = self
            .0
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        Shown(leaf.map(|der| {
            let leaf = landfast_identity::Certificate::from_der(der).unwrap();
            (leaf.spiffe_id().unwrap(), leaf.serial_hex())
        }))
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Also when nothing is sent.
        if self.1.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        if self.2.load(Ordering::SeqCst) {
            return Poll::Pending;
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

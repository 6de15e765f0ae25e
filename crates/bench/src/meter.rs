//! A TCP stream that counts what goes over it. Invariant: what is counted is the payload of TCP, TLS and all.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Shared by all connections of a fleet.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    bytes: AtomicU64,
    segments: AtomicU64,
}

/// A moment of a [`Meter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Counted {
    /// Both directions.
    pub(crate) bytes: u64,
    /// At least so many carried them: each write and each read is one for every [`SEGMENT`] bytes begun.
    pub(crate) segments: u64,
}

impl Meter {
    fn add(&self, bytes: usize) {
        if bytes > 0 {
            let bytes = bytes as u64;
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
            self.segments
                .fetch_add(bytes.div_ceil(SEGMENT), Ordering::Relaxed);
        }
    }

    pub(crate) fn now(&self) -> Counted {
        Counted {
            bytes: self.bytes.load(Ordering::Relaxed),
            segments: self.segments.load(Ordering::Relaxed),
        }
    }
}

impl Counted {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            bytes: self.bytes - earlier.bytes,
            segments: self.segments - earlier.segments,
        }
    }

    /// With headers of IPv4 and TCP, as if each segment were acknowledged by one of its own: an estimate, from above for one connection.
    pub(crate) fn with_headers(self) -> u64 {
        self.bytes + 2 * HEADERS * self.segments
    }
}

/// The stream.
#[derive(Debug)]
pub(crate) struct Metered {
    inner: TcpStream,
    meter: Arc<Meter>,
}

impl Metered {
    pub(crate) fn new(inner: TcpStream, meter: Arc<Meter>) -> Self {
        Self { inner, meter }
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.meter.add(buf.filled().len() - before);
        read
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        if let Poll::Ready(Ok(bytes)) = &written {
            self.meter.add(*bytes);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// What a segment carries over Ethernet, with timestamps.
const SEGMENT: u64 = 1448;
/// IPv4 20, TCP 20, timestamps 12.
const HEADERS: u64 = 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_those_of_a_segment_and_its_acknowledgement() {
        let meter = Meter::default();
        let begin = meter.now();
        for bytes in [0, 1, 1448, 1449] {
            meter.add(bytes);
        }
        let counted = meter.now().since(begin);
        assert_eq!(
            counted,
            Counted {
                bytes: 2898,
                segments: 4
            }
        );
        assert_eq!(counted.with_headers(), 2898 + 4 * 104);
    }
}

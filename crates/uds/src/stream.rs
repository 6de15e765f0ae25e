//! An accepted connection.
//!
//! Invariant: what is read has passed the [`Rewriter`]; what is written passes untouched.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
    time::Sleep,
};
use tonic::transport::server::Connected;

use crate::{PeerInfo, authority::Rewriter};

/// One accepted connection, to be served with HTTP/2.
#[derive(Debug)]
pub struct UdsStream {
    inner: Tolerant<UnixStream>,
    peer: PeerInfo,
}

impl UdsStream {
    pub(crate) fn new(socket: UnixStream, peer: PeerInfo) -> Self {
        let inner = Tolerant::new(socket);
        Self { inner, peer }
    }

    /// Who connected.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// See [`Tolerant::set_handshake_timeout`].
    pub fn set_handshake_timeout(&mut self, timeout: Duration) {
        self.inner.set_handshake_timeout(timeout);
    }

    /// The socket itself, for what comes before HTTP/2: TLS, say. To be called before anything is read.
    pub fn into_parts(self) -> (UnixStream, PeerInfo) {
        (self.inner.socket, self.peer)
    }
}

impl Connected for UdsStream {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.peer.clone()
    }
}

impl AsyncRead for UdsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for UdsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

/// What carries HTTP/2 from a client that may send any `:authority`.
#[derive(Debug)]
pub struct Tolerant<S> {
    socket: S,
    rewriter: Rewriter,
    /// Rewritten and not yet read.
    ready: Vec<u8>,
    taken: usize,
    handshake: Option<Pin<Box<Sleep>>>,
}

impl<S> Tolerant<S> {
    /// Of which nothing has been read.
    pub fn new(socket: S) -> Self {
        Self {
            socket,
            rewriter: Rewriter::new(),
            ready: Vec::new(),
            taken: 0,
            handshake: None,
        }
    }

    /// From now on the peer has this long for HTTP/2's preface and first frame; reading then fails with `TimedOut`.
    pub fn set_handshake_timeout(&mut self, timeout: Duration) {
        self.handshake = Some(Box::pin(tokio::time::sleep(timeout)));
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tolerant<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.taken < this.ready.len() {
                let rest = &this.ready[this.taken..];
                let length = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..length]);
                this.taken += length;
                if this.taken == this.ready.len() {
                    // An idle connection keeps no buffer.
                    (this.ready, this.taken) = (Vec::new(), 0);
                }
                return Poll::Ready(Ok(()));
            }
            if this.rewriter.refused() || buffer.remaining() == 0 {
                return Poll::Ready(Ok(()));
            }
            if let Some(handshake) = &mut this.handshake {
                if this.rewriter.handshake_done() {
                    this.handshake = None;
                } else if handshake.as_mut().poll(context).is_ready() {
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
            }
            let mut chunk = [0; CHUNK];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.socket).poll_read(context, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.rewriter.push(chunk.filled(), &mut this.ready);
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tolerant<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, buffer)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(context, buffers)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}

/// On the stack, for the time of one read.
const CHUNK: usize = 4096;

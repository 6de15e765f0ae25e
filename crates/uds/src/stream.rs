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
    socket: UnixStream,
    peer: PeerInfo,
    rewriter: Rewriter,
    /// Rewritten and not yet read.
    ready: Vec<u8>,
    taken: usize,
    handshake: Option<Pin<Box<Sleep>>>,
}

impl UdsStream {
    pub(crate) fn new(socket: UnixStream, peer: PeerInfo) -> Self {
        Self {
            socket,
            peer,
            rewriter: Rewriter::new(),
            ready: Vec::new(),
            taken: 0,
            handshake: None,
        }
    }

    /// Who connected.
    pub fn peer(&self) -> &PeerInfo {
        &self.peer
    }

    /// From now on the peer has this long for HTTP/2's preface and first frame; reading then fails with `TimedOut`.
    pub fn set_handshake_timeout(&mut self, timeout: Duration) {
        self.handshake = Some(Box::pin(tokio::time::sleep(timeout)));
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

impl AsyncWrite for UdsStream {
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

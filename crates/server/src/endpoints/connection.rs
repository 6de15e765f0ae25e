//! One accepted connection. Invariant: it holds its place among the connections, and gives it back in bounded time whatever the peer does.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

use super::cut::Cut;
use super::outflow::Outflow;
use super::places::Place;

/// A connection that speaks HTTP/2 and counts while it lives.
pub(crate) struct Connection<S, I> {
    stream: S,
    info: I,
    /// Read already, and owed to whoever reads.
    owed: &'static [u8],
    /// HTTP/2 alone would wait for ever for a peer that keeps a stream open and answers pings.
    end: Option<Pin<Box<Sleep>>>,
    cut: Option<Arc<Cut>>,
    outflow: Option<Arc<Outflow>>,
    _permit: OwnedSemaphorePermit,
    _place: Option<Place>,
}

impl<S: AsyncRead + Unpin, I> Connection<S, I> {
    /// Waits for HTTP/2's preface (RFC 9113 §3.4): nobody else would end a connection on which it never comes. The caller sets the
    /// deadline. With `last`, the connection breaks off after that time.
    ///
    /// # Errors
    /// The peer closes, or speaks something else.
    pub(super) async fn begin(
        mut stream: S,
        info: I,
        permit: OwnedSemaphorePermit,
        last: Option<Duration>,
    ) -> io::Result<Self> {
        let mut preface = [0; PREFACE.len()];
        stream.read_exact(&mut preface).await?;
        if &preface != PREFACE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the peer does not speak HTTP/2",
            ));
        }
        Ok(Self {
            stream,
            info,
            owed: PREFACE,
            end: last.map(|last| Box::pin(tokio::time::sleep(last))),
            cut: None,
            outflow: None,
            _permit: permit,
            _place: None,
        })
    }

    /// Ends when this says so, too.
    pub(super) fn until(mut self, cut: Arc<Cut>) -> Self {
        self.cut = Some(cut);
        self
    }

    /// Says when it has sent what it was given.
    pub(super) fn telling(mut self, outflow: Arc<Outflow>) -> Self {
        self.outflow = Some(outflow);
        self
    }

    fn heed_cut(&mut self, context: &Context<'_>) {
        let Some(at) = self.cut.as_ref().and_then(|cut| cut.when(context)) else {
            return;
        };
        match &mut self.end {
            Some(end) if end.deadline() > at => end.as_mut().reset(at),
            Some(_) => {}
            None => self.end = Some(Box::pin(tokio::time::sleep_until(at))),
        }
    }

    /// Counts as its peer's until it ends.
    pub(super) fn holding(mut self, place: Place) -> Self {
        self._place = Some(place);
        self
    }
}

impl<S: Unpin, I: Clone + Send + Sync + Unpin + 'static> Connected for Connection<S, I> {
    type ConnectInfo = I;
    fn connect_info(&self) -> I {
        self.info.clone()
    }
}

impl<S: AsyncRead + Unpin, I: Unpin> AsyncRead for Connection<S, I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.owed.is_empty() {
            let (now, later) = self.owed.split_at(self.owed.len().min(into.remaining()));
            into.put_slice(now);
            self.owed = later;
            return Poll::Ready(Ok(()));
        }
        // HTTP/2 always reads, so this sees to the end also when nothing comes.
        self.heed_cut(context);
        if let Some(end) = &mut self.end
            && end.as_mut().poll(context).is_ready()
        {
            let error = io::Error::new(
                io::ErrorKind::TimedOut,
                "the connection is too old, or its peer is welcome no longer",
            );
            return Poll::Ready(Err(error));
        }
        ready!(Pin::new(&mut self.stream).poll_read(context, into))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin, I: Unpin> AsyncWrite for Connection<S, I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(context, from))?;
        if let Some(outflow) = &self.outflow {
            outflow.sent(sent);
        }
        Poll::Ready(Ok(sent))
    }
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(context))?;
        if let Some(outflow) = &self.outflow {
            outflow.flushed();
        }
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

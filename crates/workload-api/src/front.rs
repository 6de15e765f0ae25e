//! What a connection passes before HTTP/2, where an attested process alone is not enough: TLS.
//!
//! Invariant: until it has passed, nothing of it reaches a service; what it showed is among the extensions of each of its requests.

use std::{io, sync::Arc};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use landfast_uds::PinnedProcess;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::UnixStream,
};

/// Judges connections of pinned processes. It has as long as a handshake may take.
#[async_trait]
pub trait Front: std::fmt::Debug + Send + Sync {
    /// Lets a connection pass.
    ///
    /// # Errors
    /// It does not pass; the reason is for the log.
    async fn begin(&self, socket: UnixStream, process: &Arc<PinnedProcess>) -> io::Result<Begun>;
}

/// A connection that has passed.
pub struct Begun {
    /// Carries HTTP/2.
    pub stream: Box<dyn Carrier>,
    /// What was shown, for the services.
    pub shown: http::Extensions,
    /// Ends when that is not good any more: the connection then takes no further request, and what is open has a few seconds.
    pub over: BoxFuture<'static, ()>,
}

/// Reads and writes.
pub trait Carrier: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Carrier for T {}

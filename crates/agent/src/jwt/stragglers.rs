//! Requests that go on without their callers. Invariant: they end with the agent, and are no more than a number.

use std::convert::Infallible;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Request;

/// Requests whose callers were served from the cache meanwhile.
pub(crate) struct Stragglers(pub(super) mpsc::Receiver<Request>);

impl Stragglers {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut running = FuturesUnordered::new();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(request) = self.0.recv(), if running.len() < MAX_STRAGGLERS => running.push(request),
                Some(_) = running.next() => {}
            }
        }
    }
}

/// Each is over when its deadlines are.
const MAX_STRAGGLERS: usize = 256;

//! What goes into an agent, and what is left of it in the hands of whoever started it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfast_daemon::{Health, Metrics};
use landfast_identity::UnixTime;
use landfast_lifecycle::{SharedBoot, SharedClock, SystemBoot, SystemClock};
use landfast_store::{OpenStore, Store};
use tokio::sync::watch;

/// What an agent is given from outside.
pub struct AgentParts {
    /// Wall time. The agent believes it only where it can be.
    pub clock: SharedClock,
    /// Time since the machine was started.
    pub boot: SharedBoot,
    /// Before which it cannot be.
    pub built: UnixTime,
    /// The disk.
    pub disk: OpenStore,
    /// What `/metrics` serves; without it the page is not served.
    pub metrics: Option<Metrics>,
}

impl Default for AgentParts {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            boot: Arc::new(SystemBoot),
            built: landfast_lifecycle::built(),
            disk: Arc::new(Store::open),
            metrics: None,
        }
    }
}

/// A running agent.
#[derive(Clone)]
pub struct AgentHandle {
    pub(super) socket: PathBuf,
    pub(super) admin_socket: PathBuf,
    pub(super) delegate_socket: Option<PathBuf>,
    pub(super) broker_socket: Option<PathBuf>,
    pub(super) http_address: Option<SocketAddr>,
    pub(crate) health: watch::Receiver<Health>,
}

impl AgentHandle {
    /// Where the Workload API is served.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Where `landfast agent status` asks.
    pub fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    /// Where delegates ask, if they have a socket of their own.
    pub fn delegate_socket(&self) -> Option<&Path> {
        self.delegate_socket.as_deref()
    }

    /// Where brokers ask, if they are served.
    pub fn broker_socket(&self) -> Option<&Path> {
        self.broker_socket.as_deref()
    }

    /// Where metrics are, with the real port.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Waits until the agent has synchronised with its server and asked once for every SVID due, in this run or in one before it of which something
    /// is still valid. Waits for ever when the server stays away.
    pub async fn ready(&self) {
        let mut health = self.health.clone();
        if health.wait_for(|health| health.ready).await.is_err() {
            // The agent has ended: it will not be ready any more.
            std::future::pending::<()>().await;
        }
    }
}

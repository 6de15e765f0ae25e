//! TLS in front of the brokers' socket (Broker Endpoint §3.1, §5): the agent shows its own SVID, and who shows none does not come in.
//!
//! Invariant: handshakes are full ones, by the SVID and the bundle of their moment. Only our own trust domain's are accepted: a broker is a
//! program of this node.

use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use landfast_daemon::error_chain;
use landfast_lifecycle::SharedClock;
use landfast_tls::{BundleStore, ClientAuth, IdentityStore, TlsError, refusal};
use landfast_uds::PinnedProcess;
use landfast_workload_api::{Begun, Front};
use rustls::ServerConfig;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::delegate::asker::Shown;
use crate::link::status::LinkStatus;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tls {
    config: Arc<ServerConfig>,
    identity: IdentityStore,
    node: watch::Receiver<LinkStatus>,
    bundles: BundleStore,
    clock: SharedClock,
}

impl Tls {
    /// Shows whatever SVID the node has at the time.
    pub(crate) fn new(
        node: watch::Receiver<LinkStatus>,
        bundles: BundleStore,
        clock: SharedClock,
    ) -> Result<Self, TlsError> {
        let identity = IdentityStore::new();
        let config = landfast_tls::server_config(
            identity.clone(),
            ClientAuth::Required,
            bundles.clone(),
            Arc::clone(&clock),
        )?;
        Ok(Self {
            config,
            identity,
            node,
            bundles,
            clock,
        })
    }
}

#[async_trait]
impl Front for Tls {
    async fn begin(&self, socket: UnixStream, _process: &Arc<PinnedProcess>) -> io::Result<Begun> {
        match self.node.borrow().agent_svid.clone() {
            Some(svid) => self.identity.set(svid),
            // A node that is banned, or not attested yet.
            None => self.identity.clear(),
        }
        let accepted = TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await;
        let stream = accepted.map_err(|error| {
            let reason = refusal(&error).map_or_else(|| error_chain(&error), |refused| error_chain(refused));
            io::Error::other(format!("no TLS with a broker: {reason}"))
        })?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let chain = chain.iter().map(|each| each.clone().into_owned()).collect();
        let shown = Shown::new(chain, self.bundles.clone(), Arc::clone(&self.clock))
            .ok_or_else(|| io::Error::other("the broker's SVID stopped verifying during the handshake"))?;
        let mut extensions = http::Extensions::new();
        extensions.insert(shown.clone());
        Ok(Begun {
            stream: Box::new(stream),
            shown: extensions,
            over: Box::pin(async move { shown.over().await }),
        })
    }
}

//! The trust domain made visible to others: its bundle over HTTPS in both profiles (SPIFFE Federation §5), and OIDC discovery.
//!
//! Invariant: what is published is what this server's own clients are verified with, at every moment; nobody is asked who he is, and nothing
//! can be changed here.

mod answer;
mod certificate;
mod closed;
mod documents;
mod front;
mod issuer;
mod margo;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::TaskHandle;
use landfast_identity::Bundle;
use landfast_lifecycle::SharedClock;
use landfast_tls::{IdentityStore, LeastTls, TlsError, https_config};
use tokio::net::TcpListener;
use tokio::sync::watch;

pub use certificate::{CertificateError, CertificateFiles};
pub use issuer::Issuer;
pub use margo::MargoDiscovery;

use crate::quarantine::Quarantine;
use certificate::Certificates;
use closed::Closed;
use documents::{Plan, Site};
use front::Front;
pub(crate) use issuer::is_plain_path;

/// What is published, and where.
#[derive(Clone, Debug)]
pub struct PublishConfig {
    /// Over HTTPS with the operator's certificate (`https_web`), when given.
    pub web: Option<WebConfig>,
    /// Over HTTPS with the server's own SVID (`https_spiffe`).
    pub spiffe_listen: Vec<SocketAddr>,
    /// Where the bundle is, under both.
    pub path: String,
    /// How often others shall ask.
    pub refresh_hint: Duration,
}

/// See [`PublishConfig::web`].
#[derive(Clone, Debug)]
pub struct WebConfig {
    /// Where. Never empty.
    pub listen: Vec<SocketAddr>,
    /// What is shown to clients.
    pub certificate: CertificateFiles,
    /// Whose OIDC discovery is served as well.
    pub issuer: Option<Issuer>,
    /// Whether Margo clients find the bundle.
    pub margo: Option<MargoDiscovery>,
    /// Whether clients may speak TLS 1.2; else 1.3 alone.
    pub tls12: bool,
}

/// Where a server publishes, with real ports.
#[derive(Clone, Debug, Default)]
pub struct PublishAddresses {
    /// With the operator's certificate.
    pub web: Vec<SocketAddr>,
    /// With the server's own SVID.
    pub spiffe: Vec<SocketAddr>,
}

/// Says what somebody should look after, when there is anything.
pub(crate) type Trouble = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// Bound, and not yet serving. By default nothing.
#[derive(Default)]
pub(crate) struct Publishing {
    bound: Vec<(Front, TcpListener)>,
    /// Reserved, and refusing connections until there is a certificate to show.
    closed: Closed,
    certificates: Option<Arc<Certificates>>,
    addresses: PublishAddresses,
}

impl Publishing {
    pub(crate) async fn bind(
        config: Option<&PublishConfig>,
        bundle: watch::Receiver<Arc<Bundle>>,
        own: IdentityStore,
        clock: &SharedClock,
    ) -> Result<Self, PublishError> {
        let mut publishing = Self::default();
        let Some(config) = config else {
            return Ok(publishing);
        };
        let plan = |issuer, margo| Plan {
            path: config.path.clone(),
            issuer,
            margo,
            refresh_hint: config.refresh_hint,
        };
        if let Some(web) = &config.web {
            let certificates = Arc::new(Certificates::open(web.certificate.clone(), web.hosts()));
            let least = if web.tls12 { LeastTls::V12 } else { LeastTls::V13 };
            let tls = https_config(Arc::clone(&certificates) as _, least, Arc::clone(clock))?;
            let site = Site::new(plan(web.issuer.clone(), web.margo.clone()), bundle.clone());
            let front = Front::new(tls, Arc::new(site), "https_web");
            publishing.addresses.web = match certificates.are_usable() {
                true => publishing.listen(&front, &web.listen).await?,
                false => publishing.reserve(&front, &web.listen)?,
            };
            publishing.certificates = Some(certificates);
        }
        if !config.spiffe_listen.is_empty() {
            let tls = https_config(Arc::new(own), LeastTls::V12, Arc::clone(clock))?;
            let front = Front::new(tls, Arc::new(Site::new(plan(None, None), bundle)), "https_spiffe");
            publishing.addresses.spiffe = publishing.listen(&front, &config.spiffe_listen).await?;
        }
        Ok(publishing)
    }

    async fn listen(
        &mut self,
        front: &Front,
        wanted: &[SocketAddr],
    ) -> Result<Vec<SocketAddr>, PublishError> {
        let mut addresses = Vec::with_capacity(wanted.len());
        for address in wanted {
            let bound = TcpListener::bind(address).await;
            let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
            let (real, listener) = bound.map_err(|source| PublishError::Listen {
                address: *address,
                source,
            })?;
            addresses.push(real);
            self.bound.push((front.clone(), listener));
        }
        Ok(addresses)
    }

    fn reserve(&mut self, front: &Front, wanted: &[SocketAddr]) -> Result<Vec<SocketAddr>, PublishError> {
        let mut addresses = Vec::with_capacity(wanted.len());
        for address in wanted {
            let reserved = self.closed.reserve(front.clone(), *address);
            let real = reserved.map_err(|source| PublishError::Listen {
                address: *address,
                source,
            })?;
            addresses.push(real);
        }
        Ok(addresses)
    }

    /// So many handshakes a second of one address, at either profile.
    pub(crate) fn limited(mut self, per_second: u32) -> Self {
        let limited = |front: Front| front.limited(per_second);
        self.bound = self
            .bound
            .into_iter()
            .map(|(front, at)| (limited(front), at))
            .collect();
        self.closed.map(limited);
        self
    }

    /// Nothing is shown while it holds: a bundle that went back would be taken for a newer one.
    pub(crate) fn held_by(mut self, quarantine: &Arc<Quarantine>) -> Self {
        let held = |front: Front| front.held_by(Arc::clone(quarantine));
        self.bound = self
            .bound
            .into_iter()
            .map(|(front, at)| (held(front), at))
            .collect();
        self.closed.map(held);
        self
    }

    /// Asks what keeps a listener closed.
    pub(crate) fn trouble(&self) -> Trouble {
        let why = self.closed.why();
        Arc::new(move || why.borrow().clone())
    }

    /// From now on others can see.
    pub(crate) fn serve(self, tasks: &TaskHandle) -> PublishAddresses {
        let PublishAddresses { web, spiffe } = &self.addresses;
        if !self.bound.is_empty() {
            tracing::info!(https_web = ?web, https_spiffe = ?spiffe, "publishing the trust domain's bundle");
        }
        for (front, listener) in self.bound {
            front.listen(listener, tasks);
        }
        if let Some(certificates) = self.certificates {
            let (stop, jobs, closed) = (tasks.token(), tasks.clone(), self.closed);
            let follow = async move {
                let opened = async {
                    certificates.usable().await;
                    closed.open(&jobs).await;
                };
                tokio::join!(Arc::clone(&certificates).keep(), opened);
            };
            tasks.spawn("https-certificate", async move {
                stop.run_until_cancelled(follow).await.unwrap_or_default();
            });
        }
        self.addresses
    }
}

impl WebConfig {
    /// The names that clients look for, as far as we know them, with what names them.
    fn hosts(&self) -> Vec<(&'static str, String)> {
        let issuer = self.issuer.as_ref().map(|issuer| ("jwt_issuer", issuer.host()));
        let margo = self
            .margo
            .as_ref()
            .map(|margo| ("margo.bundle_url", margo.host()));
        let hosts = [issuer, margo].into_iter().flatten();
        hosts.map(|(key, host)| (key, host.to_owned())).collect()
    }
}

impl PublishConfig {
    /// How many connections there may be.
    pub(crate) fn connections(&self) -> usize {
        let profiles = usize::from(self.web.is_some()) + usize::from(!self.spiffe_listen.is_empty());
        profiles * front::CONNECTIONS
    }
}

/// Why nothing can be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// An address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up")]
    Tls {
        /// Why.
        #[from]
        source: TlsError,
    },
}

#[cfg(test)]
mod tests;

//! A whole server: core, API, listeners, and the upkeep of its own SVID. Invariant: it listens only when it can serve.

mod clients;
mod error;
mod health;
mod keeping;
mod own_svid;
mod router;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::{Health, Metrics, TaskHandle};
use landfast_identity::Bundle;
use landfast_lifecycle::{SharedClock, SystemClock};
use landfast_tls::{ClientAuth, IdentityStore, server_config};
use landfast_uds::{SocketMode, UdsListener};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::HealthService;

use crate::admission::{Admission, Bounds, LONGEST};
use crate::answers::Budget;
use crate::api::health::WholeHealth;
use crate::api::limit::RateLimit;
use crate::api::{Api, Shared};
use crate::attestation::Attestors;
use crate::attestation::device_key::DeviceKey;
use crate::attestation::x509pop::X509Pop;
use crate::authority::Authorities;
use crate::authz::Authorizer;
use crate::chain::{Chain, Prepared};
use crate::config::{ServerConfig, ServerLimits};
use crate::core::{Core, CoreError, CoreParams};
use crate::endpoints::{HANDSHAKE, Places, TlsFront, bind, listen_admin};
use crate::federation::Federation;
use crate::forward;
use crate::journals::Journals;
use crate::login::Logins;
use crate::publish::{PublishAddresses, Publishing};
use crate::push::Stale;
use clients::Clients;
pub use error::ServerError;
use health::Judge;
use keeping::keep;
use own_svid::OwnSvid;
use router::router;

/// What a server gets from its process.
#[derive(Clone, Debug)]
pub struct ServerParts {
    /// The time.
    pub clock: SharedClock,
    /// Where metrics go; needed when `http_listen` is given.
    pub metrics: Option<Metrics>,
    /// Whether it records what it does. No configuration says no: it is for measuring what the ledger costs.
    pub ledger: bool,
}

impl Default for ServerParts {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            metrics: None,
            ledger: true,
        }
    }
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A running server. It runs until its task tree stops, whether or not this is kept.
#[derive(Debug)]
pub struct ServerHandle {
    addresses: Vec<SocketAddr>,
    http_address: Option<SocketAddr>,
    published: PublishAddresses,
    admin_socket: PathBuf,
    authorities: Arc<Authorities>,
}

impl ServerHandle {
    /// Where agents connect, with real ports.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where metrics are.
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_address
    }

    /// Where others see the trust domain.
    pub fn published(&self) -> &PublishAddresses {
        &self.published
    }

    /// Where local operators connect.
    pub fn admin_socket(&self) -> &Path {
        &self.admin_socket
    }

    /// What is wrong with the authority above ours, as `/ready` says it; `None` when all is well.
    pub fn upstream_trouble(&self) -> Option<String> {
        self.authorities.upstream_trouble()
    }

    /// What verifies this server, as of now.
    pub fn bundle(&self) -> Arc<Bundle> {
        self.authorities.bundle()
    }
}

impl Server {
    /// Opens the data directory and listens. When this returns, the server answers.
    ///
    /// # Errors
    /// [`ServerError`] says what is in the way; nothing was begun anew.
    pub async fn start(
        config: ServerConfig,
        parts: ServerParts,
        tasks: &TaskHandle,
    ) -> Result<ServerHandle, ServerError> {
        let core = Core::open(CoreParams {
            trust_domain: config.trust_domain.clone(),
            data_dir: config.data_dir.clone(),
            ledger_dir: config.ledger_dir.clone(),
            ledger_limit: config.ledger_limit,
            ledger: parts.ledger,
            postgres: config.postgres.clone(),
            ttls: config.ttls.clone(),
            records_keep: config.records_keep,
            clock: Arc::clone(&parts.clock),
            jwt_issuer: config.jwt_issuer.clone(),
            keys: config.keys,
            wit: config.wit_svid,
            margo: config.margo,
            reserve: config.reserve,
            upstream: config.upstream.clone(),
        })
        .await?;
        let own = OwnSvid::issue(
            Arc::clone(&core.issuer),
            Arc::clone(&core.authorities),
            Arc::clone(&parts.clock),
            config.keys.x509,
        )
        .await?;
        let clients = Clients::new(&core, &config.admin_ids, &config.federation);
        let tls = server_config(
            own.store.clone(),
            ClientAuth::Optional,
            clients.store.clone(),
            Arc::clone(&parts.clock),
        )?;
        let authorizer = Authorizer::new(
            Arc::clone(&core.registry),
            config.admin_ids.clone(),
            Arc::clone(&parts.clock),
            Arc::clone(&core.quarantine),
            core.ledger.clone(),
        );
        let (admits, judge) = (authorizer.clone(), authorizer.clone());
        let front = TlsFront {
            tls,
            bundles: clients.store.clone(),
            clock: Arc::clone(&parts.clock),
            permits: Arc::new(Semaphore::new(config.limits.connections)),
            places: Places::new(config.limits.connections),
            admits: Arc::new(move |id| admits.admits(id)),
            knows: Arc::new(move |id| judge.knows(id)),
            handshake_timeout: HANDSHAKE,
            ledger: core.ledger.clone(),
            last: MAX_AGE + DRAIN,
        };
        let mut listeners = Vec::with_capacity(config.listen.len());
        let mut addresses = Vec::with_capacity(config.listen.len());
        for wanted in &config.listen {
            let bound = bind(*wanted);
            let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
            let (address, listener) = bound.map_err(|source| ServerError::Listen {
                address: *wanted,
                source,
            })?;
            addresses.push(address);
            listeners.push(listener);
        }
        let mode = match config.admin_socket_group {
            None => SocketMode {
                mode: 0o600,
                group: None,
            },
            Some(_) => SocketMode {
                mode: 0o660,
                group: config.admin_socket_group.clone(),
            },
        };
        let admin = UdsListener::bind(&config.admin_socket, mode)?;
        let http = match config.http_listen {
            None => None,
            Some(wanted) => {
                let bound = TcpListener::bind(wanted).await;
                let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
                Some(bound.map_err(|source| ServerError::Listen {
                    address: wanted,
                    source,
                })?)
            }
        };
        let (updates, own_store) = (core.authorities.bundle_updates(), own.store.clone());
        let publishing = Publishing::bind(config.publish.as_ref(), updates, own_store, &parts.clock).await?;
        let publishing = publishing.limited(config.limits.publish_handshakes);
        let publishing = publishing.held_by(&core.quarantine);
        let published_trouble = publishing.trouble();

        let federation = Federation::open(&config.federation, &core, Arc::clone(&parts.clock)).await?;
        let chain = Chain::new(
            &config.root_key,
            (Arc::clone(&core.authorities), Arc::clone(&core.registry)),
            Arc::clone(&core.datastore),
            Arc::clone(&parts.clock),
        );
        let prepared = config.data_dir.as_deref().map(Prepared::open).transpose();
        let prepared = prepared.map_err(CoreError::from)?.unwrap_or_default();
        let chain = Arc::new(chain.noting(prepared));
        let bounds = Bounds {
            requests: config.limits.signing_queue,
            bytes: config.limits.signing_queue_bytes,
            longest: LONGEST,
        };
        let admission = Admission::new(bounds, Arc::clone(&parts.clock));
        let logins = Logins::new(
            config.login.clone(),
            &config.federation.danger_networks,
            &parts.clock,
        )
        .ok_or(ServerError::Random)?;
        let api = api(
            &config,
            &core,
            &parts,
            (own.store.clone(), federation.clone(), Arc::clone(&chain), logins),
            admission.clone(),
            tasks,
        );
        let (reporter, _) = tonic_health::server::health_reporter();
        let health = HealthService::from_health_reporter(reporter.clone());
        let health = HealthServer::new(WholeHealth(health));
        reporter
            .set_service_status("", tonic_health::ServingStatus::Serving)
            .await;
        for listener in listeners {
            let connections = front.clone().listen(listener, tasks);
            let router = router(&api, &authorizer, health.clone());
            let stop = tasks.cancelled();
            tasks.spawn("serve-tls", async move {
                router.serve_with_incoming_shutdown(connections, stop).await
            });
        }
        let router = router(&api, &authorizer, health);
        let (connections, stop) = (listen_admin(admin, tasks), tasks.cancelled());
        tasks.spawn("serve-admin", async move {
            router.serve_with_incoming_shutdown(connections, stop).await
        });

        let published = publishing.serve(tasks);
        let http_address = http.as_ref().map(|(address, _)| *address);
        let (ready, standing) = watch::channel(Health::ready());
        if let (Some((_, listener)), Some(metrics)) = (http, parts.metrics) {
            let stop = tasks.cancelled();
            tasks.spawn(
                "http",
                landfast_daemon::serve_http(listener, metrics, standing, stop),
            );
        }
        let judge = Judge {
            authorities: Arc::clone(&core.authorities),
            datastore: Arc::clone(&core.datastore),
            clock: Arc::clone(&parts.clock),
            published_trouble,
            admission,
            chain: Arc::clone(&chain),
            ledger: core.ledger.clone(),
        };
        let stop = tasks.token();
        tasks.spawn("health", async move {
            stop.run_until_cancelled(judge.keep(ready, reporter))
                .await
                .unwrap_or_default();
        });
        forward::start(&config, &parts.clock, tasks).map_err(CoreError::from)?;
        keep(&core, own, clients, (federation, &parts.clock), tasks);
        let stop = tasks.token();
        tasks.spawn("chain", async move {
            stop.run_until_cancelled(chain.keep()).await.unwrap_or_default();
        });
        for address in &addresses {
            tracing::info!(%address, trust_domain = %config.trust_domain, "listening");
        }
        Ok(ServerHandle {
            addresses,
            http_address,
            published,
            admin_socket: config.admin_socket,
            authorities: core.authorities,
        })
    }
}

fn api(
    config: &ServerConfig,
    core: &Core,
    parts: &ServerParts,
    (own, federation, chain, logins): (IdentityStore, Federation, Arc<Chain>, Arc<Logins>),
    admission: Admission,
    tasks: &TaskHandle,
) -> Api {
    let x509pop = config
        .x509pop
        .as_ref()
        .map(|pop| X509Pop::new(&pop.roots, pop.max_intermediates));
    let ServerLimits {
        attestations,
        signatures,
        signatures_burst,
        ..
    } = config.limits;
    Api(Arc::new(Shared {
        trust_domain: config.trust_domain.clone(),
        registry: Arc::clone(&core.registry),
        authorities: Arc::clone(&core.authorities),
        issuer: Arc::clone(&core.issuer),
        datastore: Arc::clone(&core.datastore),
        quarantine: Arc::clone(&core.quarantine),
        ledger: core.ledger.clone(),
        journals: Journals::open(core.ledger.clone(), Arc::clone(&parts.clock)),
        attestors: Attestors {
            join_token: config.join_token,
            x509pop,
            device_key: config.device_key.map(DeviceKey::new),
        },
        federation,
        chain,
        tasks: tasks.clone(),
        own,
        started: tokio::time::Instant::now(),
        clock: Arc::clone(&parts.clock),
        admission,
        answers: Budget::new(config.limits.answers_bytes),
        logins,
        // Of a person at a keyboard, and of some who share an address; each costs two.
        login_limit: RateLimit::new(1, 20, "logins"),
        attest_limit: RateLimit::new(attestations, attestations.saturating_mul(2), "attestations"),
        sign_limit: RateLimit::new(signatures, signatures_burst, "X.509 signatures"),
        jwt_limit: RateLimit::new(signatures, signatures_burst, "JWT signatures"),
        ahead_limit: RateLimit::new(signatures, signatures_burst, "signatures ahead"),
        publish_limit: RateLimit::new(10, 500, "published keys"),
        wit_limit: RateLimit::new(signatures, signatures_burst, "WIT signatures"),
        subscribe_limit: RateLimit::new(1, 20, "subscriptions"),
        digests: Arc::default(),
        stale: Stale::default(),
        peers: Arc::clone(&core.peers),
        chain_limit: RateLimit::new(20, 200, "walks of the bundle chain"),
        show_limit: RateLimit::new(1, 5, "shown steps"),
        witness_limit: RateLimit::new(1, 10, "checkpoints"),
        // An eight-megabyte journal at once, after an island.
        journal_limit: RateLimit::new(5, 100, "batches of journals"),
        status_limit: RateLimit::new(1, 2, "reports"),
    }))
}

/// Then a client connects anew. It may be long: every call is judged by what is in force then, and a handshake an hour is what an idle agent can
/// afford.
pub(crate) const MAX_AGE: Duration = Duration::from_secs(3600);
/// What was begun before has this long to end.
pub(crate) const DRAIN: Duration = Duration::from_secs(150);

#[cfg(test)]
pub(crate) mod rig;
#[cfg(test)]
mod tests;

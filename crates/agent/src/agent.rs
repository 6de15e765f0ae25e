//! The agent put together: what is read first, which tasks run, what they share.
//!
//! Invariant: everything that can be wrong on this machine is found before a socket opens; nothing about a server is
//! needed for that.

mod handle;
mod node_state;
mod sockets;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::{Health, TaskHandle};
use landfast_identity::{BundleSet, UnixTime};
use landfast_lifecycle::{Clock as _, GuardedClock, SharedClock, TimeRecord};
use landfast_store::OpenStore;
use landfast_tls::BundleStore;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::access::AdminGate;
use crate::admin::Admin;
use crate::attestor::Attestors;
use crate::attestor::unix::{self, UnixAttestor};
use crate::broker;
use crate::cache::{self, Begun};
use crate::config::AgentConfig;
use crate::delegate::{self, DelegatedIdentity, office::Office};
use crate::error::AgentError;
use crate::handouts::HandOuts;
use crate::journal::{self, Desk, Watcher};
use crate::jwt::JwtCache;
use crate::jwt::offline::OfflineTokens;
use crate::keeper::Keeper;
use crate::keeper::views::Views;
use crate::link::{CONFIRM_AFTER, Link, Settings};
use crate::source::AgentSource;
use crate::telemetry;
use crate::time::{TimeWatch, Timekeeper};
use crate::wit::Wits;
use crate::witness::Witness;
use crate::{admin_server, health, standing};
pub use handle::{AgentHandle, AgentParts};
use landfast_workload_api::{Attestor, Gauges, Way};
use node_state::NodeState;
use sockets::{bind, serve_brokers, serve_delegates};

/// A node agent. Use [`Agent::start`].
pub struct Agent;

impl Agent {
    /// Reads the node's state, opens both sockets and starts the tasks. Does not wait for a server.
    ///
    /// # Errors
    /// When the data directory, the bootstrap bundle or a socket cannot be used; the error names the file.
    pub async fn start(
        config: AgentConfig,
        parts: AgentParts,
        tasks: &TaskHandle,
    ) -> Result<AgentHandle, AgentError> {
        telemetry::describe();
        let (wall, boot, built, skew) = (
            parts.clock.clone(),
            parts.boot.clone(),
            parts.built,
            config.time_skew,
        );
        let now = move |times: Option<&_>| GuardedClock::new(wall, boot, built, skew, times).now();
        let state = Self::read_state(&config, parts.disk, now).await?;
        let guarded = GuardedClock::new(
            parts.clock,
            parts.boot,
            parts.built,
            config.time_skew,
            state.times.as_ref(),
        );
        let clock: SharedClock = Arc::new(guarded.clone());
        let (timekeeper, ear) = Timekeeper::new(guarded.clone(), config.time_skew, Arc::clone(&state.files));
        let Begun {
            shelf,
            before,
            state: cache_state,
            doomed,
        } = state.cache;
        let held_before = before.as_ref().map(|image| &image.snapshot);
        let views = Views::new(&config.trust_domain);
        let (keeper, keeper_handle) = Keeper::restored(views.clone(), Arc::clone(&clock), held_before);
        let settings = Settings {
            trust_domain: config.trust_domain.clone(),
            dialler: config.dialler(),
            evidence: config.attestation.clone(),
            node_key: config.node_key,
            workload_key: config.workload_key,
            interval: config.sync_interval,
            backstop: config.sync_backstop,
            keep_alive: config.keep_alive,
            retry: (RETRY_MIN.min(config.retry_max), config.retry_max),
            confirm_after: CONFIRM_AFTER,
            bootstrap: state.bootstrap.clone(),
            newest: state.newest,
            pin: state.pin,
            steps: state.steps,
            ear: Some(ear),
        };
        let (standing_report, standing) = watch::channel(standing::Report::first());
        let (desk, files) = (Desk::new(guarded.clone()), Arc::clone(&state.files));
        let (hand_outs, hand_out_writer, hand_out_records) = HandOuts::new(
            guarded.clone(),
            standing.clone(),
            Arc::clone(&state.files),
            desk.clone(),
        );
        let bundles = BundleStore::new(BundleSet::from_iter([state.bundle]));
        let (link, link_handle) = Link::new(
            settings,
            Arc::clone(&clock),
            state.files,
            keeper_handle.clone(),
            bundles.clone(),
            state.node,
        );
        let link = link
            .of_node(state.agent_id)
            .restored(held_before.map(|snapshot| &**snapshot));
        let channel = &link_handle.channel;
        let (journal, journal_told) =
            journal::Keeper::new(desk.clone(), Arc::clone(&files), config.journal, channel.clone());
        let (witness, ledger_told) =
            Witness::new(desk.clone(), files, config.trust_domain.clone(), channel.clone());
        let watcher = Watcher {
            desk: desk.clone(),
            standing: standing.clone(),
            link: link_handle.clone(),
            clock: guarded.clone(),
        };
        let (tokens, stragglers) = JwtCache::new(Arc::clone(&clock));
        let watch = standing::Watch::new(before.is_some());
        if let Some(image) = before {
            tokens.restore(image.tokens);
        }
        let (wits, wit_stragglers) = Wits::new(Arc::clone(&clock), config.workload_key);
        let missing = unix::missing();
        if !missing.capabilities.is_empty() {
            tracing::warn!(
                capabilities = missing.capabilities.join(", "),
                selectors = missing.selectors.join(", "),
                "without these capabilities these selectors are missing for programs of other users"
            );
        }
        let unix = UnixAttestor::new(config.hash_limits(), views.clone());
        let attestors = Arc::new(Attestors::new(vec![Box::new(unix)], views.clone()));
        let gauges = Arc::new(Gauges::default());
        let workload = bind(&config.socket, 0o777, config.socket_group.clone())?;
        let workload_pin_mode = workload.mode_name();
        let delegates = match &config.delegate_socket {
            Some(path) => Some(bind(path, 0o600, config.delegate_socket_group.clone())?),
            None => None,
        };
        let brokers = match &config.broker {
            Some(broker) => {
                let front = broker::Tls::new(link_handle.status.clone(), bundles, Arc::clone(&clock))?;
                Some((bind(&broker.socket, 0o600, broker.group.clone())?, front))
            }
            None => None,
        };
        let admin_listener = bind(&config.admin_socket, 0o600, config.admin_socket_group.clone())?;
        let http = match config.http_listen {
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                let bound = bound.and_then(|listener| Ok((listener.local_addr()?, listener)));
                Some(bound.map_err(|source| AgentError::Http { address, source })?)
            }
            None => None,
        };
        let http_address = http.as_ref().map(|(address, _)| *address);

        let (ready, is_ready) = watch::channel(false);
        let cache = cache_state.subscribe();

        let stop = tasks.token();
        if let Some(shelf) = shelf {
            let writer = cache::Writer {
                shelf,
                views: views.clone(),
                keeper: keeper_handle,
                link: link_handle.clone(),
                tokens: tokens.clone(),
                clock: Arc::clone(&clock),
                bootstrap: state.bootstrap,
                state: cache_state,
                doomed,
            };
            tasks.spawn("cache", writer.run(stop.clone()));
        }
        tasks.spawn("keeper", keeper.run(stop.clone()));
        tasks.spawn("link", link.run(stop.clone()));
        tasks.spawn("time", timekeeper.run(stop.clone()));
        tasks.spawn("hand-outs", hand_out_writer.run(stop.clone()));
        tasks.spawn("journal", journal.run(stop.clone()));
        tasks.spawn("journal-watch", watcher.run(stop.clone()));
        tasks.spawn("witness", witness.run(stop.clone()));
        tasks.spawn("tokens", stragglers.run(stop.clone()));
        tasks.spawn(
            "token-cache",
            tokens.clone().keep_clean(views.clone(), stop.clone()),
        );
        let offline = OfflineTokens {
            views: views.clone(),
            link: link_handle.clone(),
            tokens: tokens.clone(),
            left_out: 0,
            refused: HashMap::new(),
        };
        tasks.spawn("offline-tokens", offline.run(stop.clone()));
        tasks.spawn("wit-tokens", wit_stragglers.run(stop.clone()));
        let held_clean = wits.cache.clone().keep_clean(views.clone(), stop.clone());
        tasks.spawn("wit-cache", held_clean);
        let source = Arc::new(AgentSource {
            views: views.clone(),
            link: link_handle.clone(),
            tokens: tokens.clone(),
            budget: crate::jwt::budget::Budget::default(),
            wits,
            clock: Arc::clone(&clock),
            ready: is_ready,
            hand_outs,
            journal: desk,
        });
        tasks.spawn(
            "workload-api",
            landfast_workload_api::serve(
                workload,
                Arc::clone(&source) as Arc<dyn landfast_workload_api::IdentitySource>,
                Arc::clone(&attestors) as Arc<dyn Attestor>,
                config.sds.clone(),
                config.limits.clone(),
                Arc::clone(&gauges),
                stop.clone().cancelled_owned(),
            ),
        );
        if let (Some((listener, front)), Some(broker)) = (brokers, &config.broker) {
            let office = Office::new(
                broker.authorized.clone(),
                (Way::Broker, broker::NO_BROKER),
                views.clone(),
                Arc::clone(&source),
                Arc::clone(&clock),
                Arc::clone(&attestors) as Arc<dyn Attestor>,
            );
            let served = serve_brokers(listener, front, office, &attestors, &config, stop.clone());
            tasks.spawn("brokers", served);
        }
        let office = Office::new(
            config.authorized_delegates.clone(),
            (Way::DelegatedIdentity, delegate::NO_DELEGATE),
            views.clone(),
            source,
            Arc::clone(&clock),
            Arc::clone(&attestors) as Arc<dyn Attestor>,
        );
        if let Some(listener) = delegates {
            let served = serve_delegates(listener, &office, &attestors, &config, stop.clone());
            tasks.spawn("delegates", served);
        }
        let delegated =
            DelegatedIdentity::on_the_admin_socket(office, Arc::clone(&attestors) as Arc<dyn Attestor>);
        let admin = Admin {
            trust_domain: config.trust_domain.clone(),
            started_at: clock.now(),
            clock: Arc::clone(&clock),
            time: guarded.clone(),
            views: views.clone(),
            link: link_handle.clone(),
            attestors,
            missing,
            pin_mode: workload_pin_mode,
            gauges: Arc::clone(&gauges),
            descriptors_wanted: config.descriptors_wanted(),
            tokens: tokens.clone(),
            started: Instant::now(),
            standing,
            cache: cache.clone(),
            sealed: config.cache.sealed(),
            hand_outs: hand_out_records,
            ledger: ledger_told,
            journal: journal_told,
        };
        let services = admin_server::Services {
            admin,
            delegated,
            gate: AdminGate {
                group_allowed: config.admin_socket_group.is_some(),
            },
        };
        tasks.spawn(
            "admin",
            admin_server::serve(
                admin_listener,
                services,
                config.limits.handshake_timeout,
                stop.clone(),
            ),
        );
        let (report, health) = watch::channel(Health::not_ready("starting"));
        let mut reporter = health::Reporter {
            views,
            link: link_handle,
            tokens,
            clock: guarded,
            time: TimeWatch::default(),
            report,
            watch,
            standing: standing_report,
            said: String::new(),
            cache,
            ready,
        };
        // Whoever asks first is told how it is.
        reporter.look();
        tasks.spawn("health", reporter.run(stop.clone()));
        if let (Some((_, listener)), Some(metrics)) = (http, parts.metrics) {
            tasks.spawn(
                "http",
                landfast_daemon::serve_http(listener, metrics, health.clone(), stop.cancelled_owned()),
            );
        }
        Ok(AgentHandle {
            socket: config.socket,
            admin_socket: config.admin_socket,
            delegate_socket: config.delegate_socket,
            broker_socket: config.broker.map(|broker| broker.socket),
            http_address,
            health,
        })
    }

    async fn read_state(
        config: &AgentConfig,
        disk: OpenStore,
        now: impl FnOnce(Option<&TimeRecord>) -> Option<UnixTime> + Send + 'static,
    ) -> Result<NodeState, AgentError> {
        let config = config.clone();
        let read = tokio::task::spawn_blocking(move || NodeState::read(&config, &disk, now));
        read.await.map_err(|_cause| AgentError::Stopping)?
    }
}

/// First pause after a failure; doubles, with jitter, up to `sync.retry_max`.
const RETRY_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

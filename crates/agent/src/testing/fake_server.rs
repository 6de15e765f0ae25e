//! A SPIRE server on a script: answers what the test says, counts what it is asked, fails where it is told to.

pub(crate) mod chain;
mod io;
mod nodes;
pub(crate) mod push;
pub(crate) mod recovery;
pub(crate) mod reserve;
mod services;
mod wire;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use landfast_identity::{BundleSet, Csr, PublicKey, SpiffeId, UnixTime};
use landfast_proto::landfast::chain::v1 as steps;
use landfast_proto::landfast::reserve::v1 as reserve_api;
use landfast_proto::landfast::sync::v1 as sync;
use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::bundle::v1 as bundle;
use landfast_proto::spire::api::server::entry::v1 as entry;
use landfast_proto::spire::api::server::svid::v1 as svid;
use landfast_proto::spire::api::types;
use landfast_tls::{BundleStore, ClientAuth, IdentityStore};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Ca, real_clock, td};
use crate::link::failure::denied_details;
use io::TlsIo;
pub(crate) use nodes::Nodes;
pub(crate) use wire::{wire_bundle, wire_entry};

/// What the server does. Tests change it while it runs.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) entries: Vec<types::Entry>,
    /// Keep account of nodes as SPIRE does, instead of believing each.
    pub(crate) nodes: Option<Nodes>,
    /// As many synchronisations are answered as if there were no entries.
    pub(crate) forget_entries: u32,
    /// Entries and revisions in a page.
    pub(crate) page: usize,
    /// A challenge to send before the result of an attestation, and the answer that came.
    pub(crate) challenge: Option<Vec<u8>>,
    pub(crate) challenge_answer: Option<Vec<u8>>,
    pub(crate) reattestable: bool,
    /// Attestations that are done, but whose answer is lost.
    pub(crate) lose_replies: u32,
    /// `PermissionDeniedDetails.reason` for every call of an attested agent.
    pub(crate) deny: Option<i32>,
    /// A refusal for attestations.
    pub(crate) refuse_attestation: Option<Status>,
    /// A refusal for one method.
    pub(crate) refuse: HashMap<&'static str, Status>,
    /// A refusal for each SVID of a batch.
    pub(crate) refuse_each: Option<Status>,
    pub(crate) agent_validity: Option<(i64, i64)>,
    pub(crate) workload_validity: Option<(i64, i64)>,
    pub(crate) federated: HashMap<String, types::Bundle>,
    pub(crate) tainted: bool,
    /// Of the bundle, when it is not 0.
    pub(crate) sequence: u64,
    /// The key IDs for WIT-SVIDs in the bundle, and which are tainted; the last one signs.
    pub(crate) wit: Vec<(&'static str, bool)>,
    /// How long WIT-SVIDs live; an hour unless set.
    pub(crate) wit_life: Option<u64>,
    /// The bundle chain.
    pub(crate) steps: chain::Steps,
    /// Subscriptions.
    pub(crate) push: push::Push,
    /// What is signed for later, and what entries are told with.
    pub(crate) reserve: reserve::Reserve,
    /// X.509-SVIDs are signed while there are permits.
    pub(crate) hold_issuing: Option<Arc<tokio::sync::Semaphore>>,
    /// What time the server says it is, by seconds from now.
    pub(crate) time: Option<i64>,
    /// How long JWT-SVIDs live; five minutes unless set.
    pub(crate) jwt_life: Option<u64>,
    /// Answers of these methods say that they are of this revision, whatever the registry's is.
    pub(crate) dated_as: HashMap<&'static str, (u64, u64)>,
    /// What becomes of a device key; a server of SPIRE's knows of none.
    pub(crate) device_key: Option<recovery::State>,
    /// Device keys that were registered, and those who claimed to be a node by one.
    pub(crate) device_keys: Vec<PublicKey>,
    pub(crate) claims: Vec<(u64, PublicKey)>,
    /// How the server misbehaves.
    pub(crate) lie: Option<Lie>,
    /// What happened.
    pub(crate) accepted: usize,
    pub(crate) shown_at_attestation: Vec<Option<String>>,
    pub(crate) calls: HashMap<&'static str, u32>,
    pub(crate) attested_keys: Vec<PublicKey>,
    pub(crate) payloads: Vec<Vec<u8>>,
    pub(crate) shown_serials: Vec<Option<String>>,
    pub(crate) batch_sizes: Vec<usize>,
    /// By when signatures were said to be needed.
    pub(crate) needed_by: Vec<(&'static str, i64)>,
    pub(crate) asked_ids: Vec<usize>,
    /// What the server says with its answers that it can; SPIRE's say nothing.
    pub(crate) speaks: Option<&'static str>,
    /// What those who asked said.
    pub(crate) introduced: Vec<(&'static str, String)>,
}

/// One misbehaviour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    OtherEntries,
    EmptyBundle,
    OtherBundle,
    LeafInBundle,
    NotAnAgent,
    ShortBatch,
    /// Pages without entries, with a promise of more.
    EmptyPage,
    OtherWorkload,
    /// A WIT-SVID bound to a key that nobody asked for.
    OtherKey,
    /// Rungs that begin hours later than was asked for.
    OtherTime,
}

/// The server; clones share one script.
#[derive(Clone)]
pub(crate) struct FakeServer {
    script: Arc<Mutex<Script>>,
    ca: Arc<Ca>,
    pub(crate) address: SocketAddr,
    stop: tokio_util::sync::CancellationToken,
    connections: Arc<Mutex<tokio_util::sync::CancellationToken>>,
    silent: Arc<AtomicBool>,
}

/// Who called: the ID and the serial of the certificate shown.
#[derive(Clone)]
pub(super) struct Shown(Option<(SpiffeId, String)>);

impl FakeServer {
    pub(crate) async fn start() -> Self {
        Self::start_as(Ca::new("one"), SpiffeId::server(&td())).await
    }

    /// A server with this authority and this name on its certificate.
    pub(crate) async fn start_as(ca: Ca, name: SpiffeId) -> Self {
        Self::start_with(Arc::new(ca), name).await
    }

    /// Another server of the same authority, with the same entries.
    pub(crate) async fn beside(&self) -> Self {
        let other = Self::start_with(Arc::clone(&self.ca), SpiffeId::server(&td())).await;
        other.script().entries = self.script().entries.clone();
        other
    }

    async fn start_with(ca: Arc<Ca>, name: SpiffeId) -> Self {
        Self::start_in(ca, name, real_clock().now().unwrap()).await
    }

    /// One whose certificate is of the hours around this time.
    pub(crate) async fn start_in(ca: Arc<Ca>, name: SpiffeId, now: UnixTime) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let identity = IdentityStore::new();
        identity.set(ca.svid(&name, now.saturating_sub(HOUR), now.saturating_add(HOUR)));
        let bundles = BundleStore::new(BundleSet::from_iter([ca.bundle()]));
        let tls = landfast_tls::server_config(identity, ClientAuth::Optional, bundles, real_clock()).unwrap();
        let script = Script {
            page: 500,
            ..Script::default()
        };
        let stop = tokio_util::sync::CancellationToken::new();
        let living = Arc::new(Mutex::new(stop.child_token()));
        let script = Arc::new(Mutex::new(script));
        let server = Self {
            script,
            ca,
            address,
            stop,
            connections: Arc::clone(&living),
            silent: Arc::default(),
        };
        let silent = Arc::clone(&server.silent);
        let counted = Arc::clone(&server.script);
        let acceptor = tokio_rustls::TlsAcceptor::from(tls);
        let (connections, incoming) = mpsc::channel::<std::io::Result<TlsIo>>(16);
        let stop = server.stop.clone();
        #[expect(clippy::disallowed_methods, reason = "a test's server has no task tree")]
        tokio::spawn(async move {
            loop {
                let accepted = tokio::select! {
                    () = stop.cancelled() => return,
                    accepted = listener.accept() => accepted,
                };
                let Ok((tcp, _)) = accepted else { return };
                if let Ok(stream) = acceptor.accept(tcp).await {
                    counted.lock().unwrap().accepted += 1;
                    let breaks = living.lock().unwrap().clone().cancelled_owned();
                    let io = TlsIo(stream, Box::pin(breaks), Arc::clone(&silent));
                    drop(connections.send(Ok(io)).await);
                }
            }
        });
        let router = tonic::transport::Server::builder()
            .add_service(agent::agent_server::AgentServer::new(server.clone()))
            .add_service(bundle::bundle_server::BundleServer::new(server.clone()))
            .add_service(entry::entry_server::EntryServer::new(server.clone()))
            .add_service(svid::svid_server::SvidServer::new(server.clone()))
            .add_service(recovery::RecoveryServer::new(server.clone()))
            .add_service(steps::chain_server::ChainServer::new(server.clone()))
            .add_service(reserve_api::reserve_server::ReserveServer::new(server.clone()))
            .add_service(sync::sync_server::SyncServer::new(server.clone()));
        let stop = server.stop.clone();
        #[expect(clippy::disallowed_methods, reason = "a test's server has no task tree")]
        tokio::spawn(async move {
            let serving = router.serve_with_incoming(ReceiverStream::new(incoming));
            tokio::select! {
                () = stop.cancelled() => {}
                ended = serving => ended.unwrap(),
            }
        });
        server
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    pub(crate) fn ca(&self) -> &Ca {
        &self.ca
    }

    pub(crate) fn calls(&self, method: &str) -> u32 {
        self.script().calls.get(method).copied().unwrap_or(0)
    }

    /// Gone, connections and all.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Breaks every connection there is; new ones are accepted.
    pub(crate) fn break_connections(&self) {
        std::mem::replace(&mut *self.connections.lock().unwrap(), self.stop.child_token()).cancel();
    }

    /// Hears nothing any more on any connection, and closes none.
    pub(crate) fn fall_silent(&self) {
        self.silent.store(true, Ordering::SeqCst);
    }

    fn lies(&self, lie: Lie) -> bool {
        self.script().lie == Some(lie)
    }

    fn called<T>(&self, method: &'static str, request: &Request<T>, needs_agent: bool) -> Result<(), Status> {
        let caller = request
            .extensions()
            .get::<Shown>()
            .and_then(|shown| shown.0.clone());
        let shown = caller.as_ref().map(|(_, serial)| serial.clone());
        let mut script = self.script();
        if method == "AttestAgent" {
            script.shown_at_attestation.push(shown.clone());
        }
        *script.calls.entry(method).or_default() += 1;
        if let Some(said) = request.metadata().get(landfast_proto::speaks::SPEAKS) {
            let said = said.to_str().unwrap().to_owned();
            script.introduced.push((method, said));
        }
        if let Some(said) = request.metadata().get(landfast_proto::NEEDED_BY) {
            let said = said.to_str().unwrap().parse().unwrap();
            script.needed_by.push((method, said));
        }
        if let Some(refusal) = script.refuse.get(method) {
            return Err(refusal.clone());
        }
        if needs_agent {
            script.shown_serials.push(shown.clone());
            if let (Some(nodes), Some((id, serial))) = (&mut script.nodes, &caller) {
                nodes.check(id, serial)?;
            }
            let reason = script.deny.or_else(|| shown.is_none().then_some(2));
            if let Some(reason) = reason {
                return Err(Status::with_details(
                    Code::PermissionDenied,
                    "denied",
                    denied_details(reason).into(),
                ));
            }
        }
        Ok(())
    }

    /// An answer with the registry's revision, as our server has it.
    fn dated<T>(&self, method: &str, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        let script = self.script();
        let own = script.dated_as.get(method).copied();
        if let Some(revision) = push::metadata(own.unwrap_or(script.push.revision)) {
            response.metadata_mut().insert(landfast_proto::REVISION, revision);
        }
        // As ours, which says it to agents alone.
        if let Some(speaks) = script.speaks.filter(|_| method != "GetBundle") {
            let speaks = speaks.parse().unwrap();
            response
                .metadata_mut()
                .insert(landfast_proto::speaks::SPEAKS, speaks);
        }
        if let Some(offset) = script.time {
            let time = real_clock().now().unwrap().as_secs() + offset;
            response.metadata_mut().insert(landfast_proto::TIME, time.into());
        }
        response
    }

    fn authorized(&self) -> Vec<types::Entry> {
        let mut script = self.script();
        if script.forget_entries > 0 {
            script.forget_entries -= 1;
            return Vec::new();
        }
        script.entries.clone()
    }

    fn svid(&self, id: &SpiffeId, csr: &[u8], validity: Option<(i64, i64)>) -> types::X509svid {
        let csr = Csr::parse_der(csr).unwrap();
        let now = real_clock().now().unwrap().as_secs();
        let (from, to) = validity.unwrap_or((-300, 3600));
        let leaf = self.ca.sign(
            id,
            csr.public_key(),
            UnixTime::from_secs(now + from),
            UnixTime::from_secs(now + to),
        );
        types::X509svid {
            cert_chain: vec![leaf.as_der().to_vec().into()],
            id: Some(types::Spiffeid {
                trust_domain: td().to_string(),
                path: id.path().to_owned(),
            }),
            expires_at: now + to,
            hint: String::new(),
        }
    }
}

impl FakeServer {
    fn wit(&self, asked: &svid::NewWitsvidParams) -> types::Witsvid {
        let script = self.script();
        let entry = script
            .entries
            .iter()
            .find(|entry| entry.id == asked.entry_id)
            .unwrap();
        let (kid, _) = script.wit.last().unwrap();
        let lie = script.lie;
        let honest = super::id(&entry.spiffe_id.as_ref().unwrap().path);
        let sub = if lie == Some(Lie::OtherWorkload) {
            super::id("/other")
        } else {
            honest
        };
        let key = match lie {
            Some(Lie::OtherKey) => landfast_identity::PrivateKey::generate().unwrap().public_key(),
            _ => PublicKey::from_spki_der(&asked.public_key).unwrap(),
        };
        let now = real_clock().now().unwrap();
        let exp = now.saturating_add(Duration::from_secs(script.wit_life.unwrap_or(3600)));
        let token = self.ca.wit(&sub, &key, &asked.signing_algorithm, kid, now, exp);
        types::Witsvid {
            token,
            expires_at: exp.as_secs(),
            issued_at: now.as_secs(),
            ..Default::default()
        }
    }
}

fn serial(svid: &types::X509svid) -> String {
    landfast_identity::Certificate::from_der(&svid.cert_chain[0])
        .unwrap()
        .serial_hex()
}

const HOUR: Duration = Duration::from_secs(3600);

//! A SPIRE server on a script: answers what the test says, counts what it is asked, fails where it is told to.

mod nodes;
pub(crate) mod push;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use landfast_identity::{BundleSet, Csr, PublicKey, SpiffeId, UnixTime};
use landfast_proto::landfast::sync::v1 as sync;
use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::bundle::v1 as bundle;
use landfast_proto::spire::api::server::entry::v1 as entry;
use landfast_proto::spire::api::server::svid::v1 as svid;
use landfast_proto::spire::api::types;
use landfast_tls::{BundleStore, ClientAuth, IdentityStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Code, Request, Response, Status, Streaming};

use super::{Ca, real_clock, td};
use crate::link::failure::denied_details;
pub(crate) use nodes::Nodes;

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
    /// Subscriptions.
    pub(crate) push: push::Push,
    /// X.509-SVIDs are signed while there are permits.
    pub(crate) hold_issuing: Option<Arc<tokio::sync::Semaphore>>,
    /// How the server misbehaves.
    pub(crate) lie: Option<Lie>,
    /// What happened.
    pub(crate) shown_at_attestation: Vec<Option<String>>,
    pub(crate) calls: HashMap<&'static str, u32>,
    pub(crate) attested_keys: Vec<PublicKey>,
    pub(crate) payloads: Vec<Vec<u8>>,
    pub(crate) shown_serials: Vec<Option<String>>,
    pub(crate) batch_sizes: Vec<usize>,
    /// By when signatures were said to be needed.
    pub(crate) needed_by: Vec<(&'static str, i64)>,
    pub(crate) asked_ids: Vec<usize>,
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
}

/// The server; clones share one script.
#[derive(Clone)]
pub(crate) struct FakeServer {
    script: Arc<Mutex<Script>>,
    ca: Arc<Ca>,
    pub(crate) address: SocketAddr,
    stop: tokio_util::sync::CancellationToken,
    connections: Arc<Mutex<tokio_util::sync::CancellationToken>>,
}

/// Who called: the ID and the serial of the certificate shown.
#[derive(Clone)]
struct Shown(Option<(SpiffeId, String)>);

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
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let now = real_clock().now().unwrap();
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
        };
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
                    let breaks = living.lock().unwrap().clone().cancelled_owned();
                    drop(connections.send(Ok(TlsIo(stream, Box::pin(breaks)))).await);
                }
            }
        });
        let router = tonic::transport::Server::builder()
            .add_service(agent::agent_server::AgentServer::new(server.clone()))
            .add_service(bundle::bundle_server::BundleServer::new(server.clone()))
            .add_service(entry::entry_server::EntryServer::new(server.clone()))
            .add_service(svid::svid_server::SvidServer::new(server.clone()))
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
    fn dated<T>(&self, answer: T) -> Response<T> {
        let mut response = Response::new(answer);
        if let Some(revision) = self.script().push.metadata() {
            response.metadata_mut().insert(landfast_proto::REVISION, revision);
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

/// An entry on the wire.
pub(crate) fn wire_entry(name: &str, path: &str, selectors: &[&str]) -> types::Entry {
    let selector = |text: &&str| {
        let (kind, value) = text.split_once(':').unwrap();
        types::Selector {
            r#type: kind.to_owned(),
            value: value.to_owned(),
        }
    };
    types::Entry {
        id: name.to_owned(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: td().to_string(),
            path: path.to_owned(),
        }),
        selectors: selectors.iter().map(selector).collect(),
        ..Default::default()
    }
}

pub(crate) fn wire_bundle(ca: &Ca, tainted: bool) -> types::Bundle {
    let spiffe_id = ca.certificate.spiffe_id().unwrap();
    types::Bundle {
        trust_domain: spiffe_id.trust_domain().to_string(),
        x509_authorities: vec![types::X509Certificate {
            asn1: ca.certificate.as_der().to_vec().into(),
            tainted,
        }],
        jwt_authorities: vec![types::JwtKey {
            public_key: ca.public_key().spki_der().to_vec().into(),
            key_id: "kid".to_owned(),
            ..Default::default()
        }],
        sequence_number: 1,
        ..Default::default()
    }
}

macro_rules! service {
    (impl $service:path { $($body:tt)* } refuses { $($name:ident($request:ty) -> $response:ty;)* }) => {
        #[tonic::async_trait]
        impl $service for FakeServer {
            $($body)*
            $(async fn $name(&self, _: Request<$request>) -> Result<Response<$response>, Status> {
                Err(Status::unimplemented("not scripted"))
            })*
        }
    };
}

service! {
    impl agent::agent_server::Agent {
        type AttestAgentStream = ReceiverStream<Result<agent::AttestAgentResponse, Status>>;

        async fn attest_agent(
            &self,
            request: Request<Streaming<agent::AttestAgentRequest>>,
        ) -> Result<Response<Self::AttestAgentStream>, Status> {
            use agent::attest_agent_request::Step;
            use agent::attest_agent_response::Step as Answer;
            self.called("AttestAgent", &request, false)?;
            let mut steps = request.into_inner();
            let server = self.clone();
            let (answers, stream) = mpsc::channel(4);
            #[expect(clippy::disallowed_methods, reason = "a test's server has no task tree")]
            tokio::spawn(async move {
                let Some(Step::Params(params)) = steps.message().await.unwrap().unwrap().step else { panic!("no params") };
                let data = params.data.unwrap();
                let csr = params.params.unwrap().csr;
                server.script().payloads.push(data.payload.to_vec());
                server.script().attested_keys.push(Csr::parse_der(&csr).unwrap().public_key().clone());
                let accounted = server.script().nodes.as_mut().map(|nodes| nodes.attest(&data.r#type, &data.payload));
                let scripted = server.script().refuse_attestation.clone();
                let refusal = accounted.and_then(Result::err).or(scripted);
                let challenge = server.script().challenge.clone();
                if let Some(refusal) = refusal {
                    answers.send(Err(refusal)).await.unwrap();
                    return;
                }
                if let Some(challenge) = challenge {
                    let step = Some(Answer::Challenge(challenge.into()));
                    answers.send(Ok(agent::AttestAgentResponse { step })).await.unwrap();
                    let answer = steps.message().await.unwrap().unwrap().step;
                    let Some(Step::ChallengeResponse(answer)) = answer else { panic!("no answer to the challenge") };
                    server.script().challenge_answer = Some(answer.to_vec());
                }
                let lost = {
                    let mut script = server.script();
                    script.deny = None;
                    let lost = script.lose_replies > 0;
                    script.lose_replies = script.lose_replies.saturating_sub(1);
                    lost
                };
                if lost {
                    answers.send(Err(Status::unavailable("the connection broke"))).await.unwrap();
                    return;
                }
                let validity = server.script().agent_validity;
                let honest = SpiffeId::agent(&td(), &data.r#type, "node-1").unwrap();
                let id = if server.lies(Lie::NotAnAgent) { super::id("/workload") } else { honest };
                let svid = server.svid(&id, &csr, validity);
                let reattestable = {
                    let mut script = server.script();
                    let scripted = script.reattestable;
                    let nodes = script.nodes.as_mut();
                    nodes.map_or(scripted, |nodes| nodes.attested(&id, &serial(&svid), &data.r#type))
                };
                let result = agent::attest_agent_response::Result { svid: Some(svid), reattestable };
                let step = Some(Answer::Result(result));
                drop(answers.send(Ok(agent::AttestAgentResponse { step })).await);
            });
            Ok(Response::new(ReceiverStream::new(stream)))
        }

        async fn renew_agent(
            &self,
            request: Request<agent::RenewAgentRequest>,
        ) -> Result<Response<agent::RenewAgentResponse>, Status> {
            self.called("RenewAgent", &request, true)?;
            let validity = self.script().agent_validity;
            let csr = request.into_inner().params.unwrap().csr;
            let id = SpiffeId::agent(&td(), "join_token", "node-1").unwrap();
            let svid = self.svid(&id, &csr, validity);
            if let Some(nodes) = &mut self.script().nodes {
                nodes.renewed(&id, &serial(&svid))?;
            }
            Ok(Response::new(agent::RenewAgentResponse { svid: Some(svid) }))
        }

        async fn post_status(
            &self,
            request: Request<agent::PostStatusRequest>,
        ) -> Result<Response<agent::PostStatusResponse>, Status> {
            self.called("PostStatus", &request, false)?;
            Ok(Response::new(agent::PostStatusResponse {}))
        }
    }
    refuses {
        count_agents(agent::CountAgentsRequest) -> agent::CountAgentsResponse;
        list_agents(agent::ListAgentsRequest) -> agent::ListAgentsResponse;
        get_agent(agent::GetAgentRequest) -> types::Agent;
        create_join_token(agent::CreateJoinTokenRequest) -> types::JoinToken;
        delete_agent(agent::DeleteAgentRequest) -> ();
        ban_agent(agent::BanAgentRequest) -> ();
    }
}

service! {
    impl bundle::bundle_server::Bundle {
        async fn get_bundle(&self, request: Request<bundle::GetBundleRequest>) -> Result<Response<types::Bundle>, Status> {
            self.called("GetBundle", &request, false)?;
            let tainted = self.script().tainted;
            let mut bundle = wire_bundle(&self.ca, tainted);
            bundle.sequence_number = self.script().sequence.max(1);
            let wit = self.script().wit.clone();
            bundle.wit_authorities = wit.into_iter().map(|(key_id, tainted)| types::WitKey {
                public_key: self.ca.public_key().spki_der().to_vec().into(),
                key_id: key_id.to_owned(),
                expires_at: 0,
                tainted,
            }).collect();
            if self.lies(Lie::EmptyBundle) {
                bundle.x509_authorities.clear();
            }
            if self.lies(Lie::OtherBundle) {
                bundle.trust_domain = "other.test".to_owned();
            }
            if self.lies(Lie::LeafInBundle) {
                let svid = self.ca.svid(&super::id("/leaf"), UnixTime::from_secs(1_700_000_000), super::NOON);
                bundle.x509_authorities[0].asn1 = svid.leaf().as_der().to_vec().into();
            }
            Ok(self.dated(bundle))
        }

        async fn get_federated_bundle(
            &self,
            request: Request<bundle::GetFederatedBundleRequest>,
        ) -> Result<Response<types::Bundle>, Status> {
            self.called("GetFederatedBundle", &request, true)?;
            let found = self.script().federated.get(&request.into_inner().trust_domain).cloned();
            found.map(Response::new).ok_or_else(|| Status::not_found("bundle not found"))
        }
    }
    refuses {
        count_bundles(bundle::CountBundlesRequest) -> bundle::CountBundlesResponse;
        append_bundle(bundle::AppendBundleRequest) -> types::Bundle;
        publish_jwt_authority(bundle::PublishJwtAuthorityRequest) -> bundle::PublishJwtAuthorityResponse;
        publish_wit_authority(bundle::PublishWitAuthorityRequest) -> bundle::PublishWitAuthorityResponse;
        list_federated_bundles(bundle::ListFederatedBundlesRequest) -> bundle::ListFederatedBundlesResponse;
        batch_create_federated_bundle(bundle::BatchCreateFederatedBundleRequest) -> bundle::BatchCreateFederatedBundleResponse;
        batch_update_federated_bundle(bundle::BatchUpdateFederatedBundleRequest) -> bundle::BatchUpdateFederatedBundleResponse;
        batch_set_federated_bundle(bundle::BatchSetFederatedBundleRequest) -> bundle::BatchSetFederatedBundleResponse;
        batch_delete_federated_bundle(bundle::BatchDeleteFederatedBundleRequest) -> bundle::BatchDeleteFederatedBundleResponse;
    }
}

service! {
    impl entry::entry_server::Entry {
        type SyncAuthorizedEntriesStream = ReceiverStream<Result<entry::SyncAuthorizedEntriesResponse, Status>>;

        async fn sync_authorized_entries(
            &self,
            request: Request<Streaming<entry::SyncAuthorizedEntriesRequest>>,
        ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
            self.called("SyncAuthorizedEntries", &request, true)?;
            let mut requests = request.into_inner();
            let server = self.clone();
            let (answers, stream) = mpsc::channel(4);
            #[expect(clippy::disallowed_methods, reason = "a test's server has no task tree")]
            tokio::spawn(async move {
                let Ok(Some(first)) = requests.message().await else { return };
                assert!(first.ids.is_empty() && first.output_mask.is_some_and(|mask| mask.revision_number));
                let entries = server.authorized();
                let page = server.script().page;
                if entries.len() <= page {
                    let all = entry::SyncAuthorizedEntriesResponse { entries, ..Default::default() };
                    drop(answers.send(Ok(all)).await);
                    return;
                }
                let mut pages = entries.chunks(page).peekable();
                while let Some(part) = pages.next() {
                    let entry_revisions = part.iter().map(|e| entry::EntryRevision {
                        id: e.id.clone(), revision_number: e.revision_number, created_at: e.created_at,
                    });
                    let more = pages.peek().is_some();
                    let entry_revisions = entry_revisions.collect();
                    let answer = entry::SyncAuthorizedEntriesResponse { entry_revisions, more, ..Default::default() };
                    if answers.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                while let Ok(Some(request)) = requests.message().await {
                    server.script().asked_ids.push(request.ids.len());
                    assert!(request.ids.len() <= page && request.ids.is_sorted());
                    let lie = server.lies(Lie::OtherEntries);
                    let wanted = entries.iter().filter(|e| request.ids.contains(&e.id) != lie);
                    let wanted: Vec<_> = wanted.take(request.ids.len()).cloned().collect();
                    // In two messages, to show that `more` is obeyed.
                    let (one, two) = wanted.split_at(wanted.len() / 2);
                    let hollow = server.lies(Lie::EmptyPage);
                    let pages = [(one, true), (two, false)];
                    for (part, more) in pages.into_iter().filter(|(part, more)| hollow || !more || !part.is_empty()) {
                        let answer = entry::SyncAuthorizedEntriesResponse { entries: part.to_vec(), more, ..Default::default() };
                        if answers.send(Ok(answer)).await.is_err() {
                            return;
                        }
                    }
                }
            });
            Ok(self.dated(ReceiverStream::new(stream)))
        }

        async fn get_authorized_entries(
            &self,
            request: Request<entry::GetAuthorizedEntriesRequest>,
        ) -> Result<Response<entry::GetAuthorizedEntriesResponse>, Status> {
            self.called("GetAuthorizedEntries", &request, true)?;
            Ok(self.dated(entry::GetAuthorizedEntriesResponse { entries: self.authorized() }))
        }
    }
    refuses {
        count_entries(entry::CountEntriesRequest) -> entry::CountEntriesResponse;
        list_entries(entry::ListEntriesRequest) -> entry::ListEntriesResponse;
        get_entry(entry::GetEntryRequest) -> types::Entry;
        batch_create_entry(entry::BatchCreateEntryRequest) -> entry::BatchCreateEntryResponse;
        batch_update_entry(entry::BatchUpdateEntryRequest) -> entry::BatchUpdateEntryResponse;
        batch_delete_entry(entry::BatchDeleteEntryRequest) -> entry::BatchDeleteEntryResponse;
    }
}

service! {
    impl svid::svid_server::Svid {
        async fn batch_new_x509svid(
            &self,
            request: Request<svid::BatchNewX509svidRequest>,
        ) -> Result<Response<svid::BatchNewX509svidResponse>, Status> {
            self.called("BatchNewX509SVID", &request, true)?;
            let held = self.script().hold_issuing.clone();
            if let Some(held) = held {
                held.acquire().await.unwrap().forget();
            }
            let params = request.into_inner().params;
            self.script().batch_sizes.push(params.len());
            let entries = self.script().entries.clone();
            let validity = self.script().workload_validity;
            let refused = self.script().refuse_each.clone();
            let short = usize::from(self.lies(Lie::ShortBatch));
            let results = params.iter().skip(short).map(|one| {
                if let Some(refused) = &refused {
                    let status = types::Status { code: refused.code().into(), message: refused.message().to_owned() };
                    return svid::batch_new_x509svid_response::Result { status: Some(status), svid: None };
                }
                let found = entries.iter().find(|entry| entry.id == one.entry_id);
                let Some(found) = found else {
                    let status = types::Status { code: 5, message: "entry not found or not authorized".to_owned() };
                    return svid::batch_new_x509svid_response::Result { status: Some(status), svid: None };
                };
                let honest = super::id(&found.spiffe_id.as_ref().unwrap().path);
                let id = if self.lies(Lie::OtherWorkload) { super::id("/other") } else { honest };
                let svid = Some(self.svid(&id, &one.csr, validity));
                svid::batch_new_x509svid_response::Result { status: Some(types::Status::default()), svid }
            });
            Ok(Response::new(svid::BatchNewX509svidResponse { results: results.collect() }))
        }

        async fn new_jwtsvid(
            &self,
            request: Request<svid::NewJwtsvidRequest>,
        ) -> Result<Response<svid::NewJwtsvidResponse>, Status> {
            self.called("NewJWTSVID", &request, true)?;
            let request = request.into_inner();
            let entry = self.script().entries.iter().find(|entry| entry.id == request.entry_id).cloned();
            let entry = entry.ok_or_else(|| Status::not_found("entry not found or not authorized"))?;
            let spiffe_id = entry.spiffe_id.unwrap();
            let now = real_clock().now().unwrap();
            let expires = now.saturating_add(Duration::from_secs(300));
            let token = self.ca.jwt(&super::id(&spiffe_id.path), &request.audience, "kid", now, expires);
            let svid = types::Jwtsvid {
                token, id: Some(spiffe_id), expires_at: expires.as_secs(), issued_at: now.as_secs(), hint: String::new(),
            };
            Ok(Response::new(svid::NewJwtsvidResponse { svid: Some(svid) }))
        }

        async fn batch_new_witsvid(
            &self,
            request: Request<svid::BatchNewWitsvidRequest>,
        ) -> Result<Response<svid::BatchNewWitsvidResponse>, Status> {
            self.called("BatchNewWITSVID", &request, true)?;
            let refused = self.script().refuse_each.clone();
            let results = request.into_inner().params.into_iter().map(|one| {
                let status = |status: &Status| types::Status { code: status.code().into(), message: status.message().to_owned() };
                if let Some(refused) = &refused {
                    return svid::batch_new_witsvid_response::Result { status: Some(status(refused)), svid: None };
                }
                // As SPIRE, which leaves out the status of a success.
                svid::batch_new_witsvid_response::Result { status: None, svid: Some(self.wit(&one)) }
            });
            Ok(Response::new(svid::BatchNewWitsvidResponse { results: results.collect() }))
        }
    }
    refuses {
        mint_x509svid(svid::MintX509svidRequest) -> svid::MintX509svidResponse;
        mint_jwtsvid(svid::MintJwtsvidRequest) -> svid::MintJwtsvidResponse;
        mint_witsvid(svid::MintWitsvidRequest) -> svid::MintWitsvidResponse;
        new_downstream_x509ca(svid::NewDownstreamX509caRequest) -> svid::NewDownstreamX509caResponse;
    }
}

/// A TLS stream that tells tonic who is at the other end, and breaks when the server stops.
struct TlsIo(
    TlsStream<TcpStream>,
    Pin<Box<tokio_util::sync::WaitForCancellationFutureOwned>>,
);

impl Connected for TlsIo {
    type ConnectInfo = Shown;

    fn connect_info(&self) -> Shown {
        let leaf = self
            .0
            .get_ref()
            .1
            .peer_certificates()
            .and_then(|chain| chain.first());
        Shown(leaf.map(|der| {
            let leaf = landfast_identity::Certificate::from_der(der).unwrap();
            (leaf.spiffe_id().unwrap(), leaf.serial_hex())
        }))
    }
}

impl AsyncRead for TlsIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        // Also when nothing is sent.
        if self.1.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

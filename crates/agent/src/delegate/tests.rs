//! T-11 on real sockets: what a delegate asks for, and what it gets.

use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use hyper_util::rt::TokioIo;
use landfast_daemon::TaskTree;
use landfast_identity::PrivateKey;
use landfast_proto::landfast::agent::v1 as admin_api;
use landfast_uds::Pins;
use landfast_workload_api::Way;
use pb::delegated_identity_client::DelegatedIdentityClient;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Streaming};

use super::rights::Delegates;
use super::*;
use crate::agent::{Agent, AgentHandle, AgentParts};
use crate::config::AgentConfig;
use crate::keeper::state::Snapshot;
use crate::keeper::views::Views;
use crate::source::AgentSource;
use crate::testing::fake_server::{FakeServer, wire_entry};
use crate::testing::{NOON, StoppedClock, entry, id as spiffe_id, selectors, td};

/// An agent with entries for this process, which is the delegate, and for a program beside it.
pub(crate) struct World {
    pub(crate) server: FakeServer,
    dir: tempfile::TempDir,
    tree: TaskTree,
    pub(crate) handle: AgentHandle,
    pub(crate) workload: Sleeper,
}

/// Ends with the test, however that ends.
pub(crate) struct Sleeper(pub(crate) Child);

impl Sleeper {
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.0.id()).unwrap()
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

const DELEGATES: &str = "[[authorized_delegates]]\ndelegate = \"spiffe://plant.test/mesh\"\nmay_have = [\"spiffe://plant.test/line/*\"]\n";

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(DELEGATES).await
    }

    async fn with(config: &str) -> Self {
        Self::set_up(|_| config.to_owned(), AgentParts::default()).await
    }

    /// With what is to be added to the configuration, given a folder.
    pub(crate) async fn set_up(config: impl FnOnce(&Path) -> String, parts: AgentParts) -> Self {
        let server = FakeServer::start().await;
        let workload = sleeper();
        let (mine, program) = traits_of(&workload.0);
        let wire = |id: &str, path: &str| wire_entry(id, path, &[&mine, &program]);
        let mut privileged = [wire("c", "/line/admin"), wire("d", "/line/downstream")];
        privileged[0].admin = true;
        privileged[1].downstream = true;
        let [admin, downstream] = privileged;
        // An older one with the same hint, which is not the delegate's: in its answers hints may be there more than once.
        let (mut own, mut other) = (wire("b", "/line/w"), wire("e", "/secret/x"));
        (own.hint, other.hint) = ("proxy".to_owned(), "proxy".to_owned());
        own.created_at = 5;
        server.script().entries = vec![
            wire_entry("a", "/mesh", &[&mine]),
            own,
            admin,
            downstream,
            other,
            wire_entry("f", "/line/pod", &["k8s:pod:x"]),
            // Nothing is said of these, and whoever has them is an administrator, or signs, all the same.
            wire("g", "/line/admin"),
            wire("h", "/line/downstream"),
        ];
        let (dir, tree) = (tempfile::tempdir().unwrap(), TaskTree::new());
        let config = load(dir.path(), &server, &config(dir.path()));
        let handle = Agent::start(config, parts, &tree.handle()).await.unwrap();
        let world = Self {
            server,
            dir,
            tree,
            handle,
            workload,
        };
        world.bounded("the agent is ready", world.handle.ready()).await;
        world
    }

    /// Waits, and says how everything stands when it takes too long.
    pub(crate) async fn bounded<T>(&self, what: &str, waiting: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(60), waiting)
            .await
            .unwrap_or_else(|_| {
                let health = self.handle.health.borrow().clone();
                let calls = self.server.script().calls.clone();
                panic!(
                    "never happened: {what}; {health:?}; {:?}; the server was asked {calls:?}",
                    self.tree
                )
            })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.workload.pid()
    }

    /// On the delegates' own socket, and on the admin socket.
    async fn clients(&self) -> [DelegatedIdentityClient<Channel>; 2] {
        [
            DelegatedIdentityClient::new(channel(self.handle.delegate_socket().unwrap()).await),
            DelegatedIdentityClient::new(channel(self.handle.admin_socket()).await),
        ]
    }

    async fn client(&self) -> DelegatedIdentityClient<Channel> {
        let [own, _] = self.clients().await;
        own
    }

    /// The selectors of the program, as a delegate would name them.
    fn named(&self) -> Vec<types::Selector> {
        let (mine, program) = traits_of(&self.workload.0);
        named(&[&mine, &program])
    }

    pub(crate) async fn stop(self) {
        self.tree
            .join_with_deadline(Duration::from_secs(60))
            .await
            .unwrap();
        drop(self.dir);
    }

    /// What was written down of what was handed out, when it has stopped.
    pub(crate) async fn hand_outs(self) -> Vec<serde_json::Value> {
        self.tree
            .join_with_deadline(Duration::from_secs(60))
            .await
            .unwrap();
        crate::handouts::tests::lines(&self.dir.path().join("data"))
    }

    /// What its journal has of denials, when it has stopped: of which service, to which process.
    pub(crate) async fn denials(self) -> Vec<(String, u64)> {
        self.tree
            .join_with_deadline(Duration::from_secs(60))
            .await
            .unwrap();
        let text = std::fs::read_to_string(self.dir.path().join("data/journal.log")).unwrap();
        let lines = text
            .lines()
            .filter_map(|line| line.find('{').map(|at| &line[at..]));
        let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let denied = lines.filter(|line| line["type"] == "svid.denied");
        let told = denied.map(|line| {
            let to = line["detail"]["to"]["pid"].as_u64().unwrap();
            (line["detail"]["by"].as_str().unwrap().to_owned(), to)
        });
        let mut told: Vec<_> = told.collect();
        // Of more than one there is a record of how many.
        told.dedup();
        told
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's own files")]
fn load(dir: &Path, server: &FakeServer, more: &str) -> AgentConfig {
    // Keys come before tables.
    let (keys, tables) = more.split_at(more.find('[').unwrap_or(more.len()));
    let bundle = dir.join("bundle.pem");
    std::fs::write(&bundle, server.ca().bundle().to_pem()).unwrap();
    let text = format!(
        "trust_domain = \"plant.test\"\nserver = [\"{}\"]\ndata_dir = \"{dir}/data\"\ntrust_bundle = \"{}\"\n\
         socket = \"{dir}/public/api.sock\"\nadmin_socket = \"{dir}/private/admin.sock\"\n\
         delegate_socket = \"{dir}/delegate/api.sock\"\n{keys}\
         [attestation]\nmethod = \"join_token\"\ntoken = \"t\"\n[sync]\ninterval = \"100ms\"\n{tables}",
        server.address,
        bundle.display(),
        dir = dir.display(),
    );
    let file = dir.join("agent.toml");
    std::fs::write(&file, text).unwrap();
    AgentConfig::load(&file).unwrap()
}

pub(crate) fn sleeper() -> Sleeper {
    Sleeper(Command::new("sleep").arg("600").spawn().unwrap())
}

/// User and program.
pub(crate) fn traits_of(child: &Child) -> (String, String) {
    let program = std::fs::read_link(format!("/proc/{}/exe", child.id())).unwrap();
    (
        format!("unix:uid:{}", nix::unistd::geteuid()),
        format!("unix:path:{}", program.display()),
    )
}

fn named(texts: &[&str]) -> Vec<types::Selector> {
    let parsed = texts.iter().map(|text| Selector::parse(text).unwrap());
    parsed
        .map(|selector| types::Selector {
            r#type: selector.kind().to_owned(),
            value: selector.value().to_owned(),
        })
        .collect()
}

pub(crate) async fn channel(path: &Path) -> Channel {
    let path = path.to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://agent")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// Calls a method with an empty message: the error, unless it is answered or keeps silent.
pub(crate) async fn call(channel: &Channel, path: &str) -> Option<Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let codec = landfast_proto::ExactCodec::<(), ()>::default();
    let path = http::uri::PathAndQuery::try_from(path.to_owned()).unwrap();
    let mut request = Request::new(());
    let yes = tonic::metadata::MetadataValue::from_static("true");
    request.metadata_mut().insert("broker.spiffe.io", yes);
    let answered = client.server_streaming(request, path, codec);
    answered.await.err()
}

fn of_pid(pid: i32) -> pb::SubscribeToX509sviDsRequest {
    pb::SubscribeToX509sviDsRequest {
        selectors: Vec::new(),
        pid,
    }
}

fn of_selectors(selectors: Vec<types::Selector>) -> pb::SubscribeToX509sviDsRequest {
    pb::SubscribeToX509sviDsRequest { selectors, pid: 0 }
}

fn tokens_for(selectors: Vec<types::Selector>, pid: i32) -> pb::FetchJwtsviDsRequest {
    let audience = vec!["receiver".to_owned()];
    pb::FetchJwtsviDsRequest {
        audience,
        selectors,
        pid,
    }
}

pub(crate) async fn next<M>(stream: &mut Streaming<M>) -> Result<M, Status> {
    let next = tokio::time::timeout(Duration::from_secs(60), stream.message()).await;
    next.expect("neither a message nor an end")
        .map(|message| message.expect("it ended without a reason"))
}

/// The error with which a stream ends; messages before it are skipped.
pub(crate) async fn end<M>(stream: &mut Streaming<M>) -> Status {
    loop {
        if let Err(status) = next(stream).await {
            return status;
        }
    }
}

fn paths(answer: &pb::SubscribeToX509sviDsResponse) -> Vec<String> {
    let ids = answer
        .x509_svids
        .iter()
        .map(|svid| svid.x509_svid.as_ref().unwrap().id.as_ref().unwrap());
    ids.map(|id| id.path.clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delegate_gets_what_its_list_names_and_nothing_privileged() {
    let world = World::new().await;
    for mut client in world.clients().await {
        for asked in [of_pid(world.pid()), of_selectors(world.named())] {
            let mut stream = client.subscribe_to_x509svi_ds(asked).await.unwrap().into_inner();
            let answer = next(&mut stream).await.unwrap();
            // Not its own, the administrator's, the downstream one or the one that its list does not name.
            assert_eq!(paths(&answer), ["/line/w"]);
            let with_key = &answer.x509_svids[0];
            let svid = with_key.x509_svid.as_ref().unwrap();
            assert!(svid.expires_at > 0 && !svid.cert_chain.is_empty());
            let key = PrivateKey::from_pkcs8_der(with_key.x509_svid_key.to_vec()).unwrap();
            let leaf = landfast_identity::Certificate::from_der(&svid.cert_chain[0]).unwrap();
            assert_eq!(leaf.public_key().spki_der(), key.public_key().spki_der());
        }
        for asked in [tokens_for(Vec::new(), world.pid()), tokens_for(world.named(), 0)] {
            let answer = client.fetch_jwtsvi_ds(asked).await.unwrap().into_inner();
            assert_eq!(answer.svids.len(), 1);
            let svid = &answer.svids[0];
            assert_eq!(svid.id.as_ref().unwrap().path, "/line/w");
            assert!(svid.issued_at > 0 && svid.expires_at > svid.issued_at && !svid.token.is_empty());
        }
        // Selectors are the delegate's word; they too give only what its list names.
        let mut stream = client
            .subscribe_to_x509svi_ds(of_selectors(named(&["k8s:pod:x"])))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(paths(&next(&mut stream).await.unwrap()), ["/line/pod"]);
        let own = named(&[&format!("unix:uid:{}", nix::unistd::geteuid())]);
        let nothing = client
            .fetch_jwtsvi_ds(tokens_for(own.clone(), 0))
            .await
            .unwrap_err();
        assert_eq!(nothing.code(), Code::PermissionDenied);
        let mut stream = client
            .subscribe_to_x509svi_ds(of_selectors(own))
            .await
            .unwrap()
            .into_inner();
        assert!(paths(&next(&mut stream).await.unwrap()).is_empty());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_delegate_gets_is_written_down_with_whose_it_is() {
    let world = World::new().await;
    let (pid, mut client) = (world.pid(), world.client().await);
    let mut stream = client
        .subscribe_to_x509svi_ds(of_pid(pid))
        .await
        .unwrap()
        .into_inner();
    let svid = next(&mut stream)
        .await
        .unwrap()
        .x509_svids
        .remove(0)
        .x509_svid
        .unwrap();
    let mut bundles = client
        .subscribe_to_x509_bundles(pb::SubscribeToX509BundlesRequest {})
        .await
        .unwrap()
        .into_inner();
    next(&mut bundles).await.unwrap();
    client.fetch_jwtsvi_ds(tokens_for(Vec::new(), pid)).await.unwrap();
    let pod = client
        .subscribe_to_x509svi_ds(of_selectors(named(&["k8s:pod:x"])))
        .await;
    next(&mut pod.unwrap().into_inner()).await.unwrap();
    // Refused.
    let own = named(&[&format!("unix:uid:{}", nix::unistd::geteuid())]);
    client.fetch_jwtsvi_ds(tokens_for(own, 0)).await.unwrap_err();
    let lines = world.hand_outs().await;
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["x509", "jwt", "x509"]);
    for line in &lines {
        assert_eq!(line["by"], "delegated-identity");
        assert_eq!(line["to"]["pid"], std::process::id());
    }
    let leaf = landfast_identity::Certificate::from_der(&svid.cert_chain[0]).unwrap();
    assert_eq!(lines[0]["serial"], leaf.serial_hex());
    assert_eq!(
        (&lines[0]["of"]["pid"], &lines[1]["of"]["pid"]),
        (&pid.into(), &pid.into())
    );
    assert_eq!(lines[2]["of"], serde_json::json!({"selectors": ["k8s:pod:x"]}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_and_trust_domains_are_named_as_spires_agent_names_them() {
    let world = World::new().await;
    let theirs = landfast_identity::TrustDomain::parse("theirs.test").unwrap();
    let ca = crate::testing::Ca::of(&theirs, "theirs");
    let federated = crate::testing::fake_server::wire_bundle(&ca, false);
    {
        let mut script = world.server.script();
        script.federated.insert(theirs.as_str().to_owned(), federated);
        script.entries[1].federates_with = vec![theirs.as_str().to_owned(), "unknown.test".to_owned()];
        script.entries[1].revision_number += 1;
    }
    let mut client = world.client().await;
    let both = ["spiffe://plant.test", "spiffe://theirs.test"];
    let mut x509 = client
        .subscribe_to_x509_bundles(pb::SubscribeToX509BundlesRequest {})
        .await
        .unwrap()
        .into_inner();
    let mut jwt = client
        .subscribe_to_jwt_bundles(pb::SubscribeToJwtBundlesRequest {})
        .await
        .unwrap()
        .into_inner();
    let x509 = loop {
        let message = next(&mut x509).await.unwrap().ca_certificates;
        if message.len() == 2 {
            break message;
        }
    };
    let jwt = loop {
        let message = next(&mut jwt).await.unwrap().bundles;
        if message.len() == 2 {
            break message;
        }
    };
    for name in both {
        assert!(!x509[name].is_empty(), "{name}");
        assert!(jwt[name].starts_with(b"{\"keys\":["), "{:?}", jwt[name]);
    }
    assert_eq!(x509[both[1]], ca.certificate.as_der());
    let mut stream = client
        .subscribe_to_x509svi_ds(of_pid(world.pid()))
        .await
        .unwrap()
        .into_inner();
    let answer = loop {
        let answer = next(&mut stream).await.unwrap();
        if !answer.federates_with.is_empty() {
            break answer;
        }
    };
    assert_eq!(answer.federates_with, [both[1]]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_request_and_what_is_nobodys_to_ask_for_is_refused() {
    let world = World::new().await;
    let own = i32::try_from(std::process::id()).unwrap();
    let mut dead = sleeper();
    dead.0.kill().unwrap();
    dead.0.wait().unwrap();
    let dead = i32::try_from(dead.0.id()).unwrap();
    let malformed = vec![types::Selector::default()];
    let many = named(&["k8s:pod:x"; MAX_SELECTORS + 1]);
    for mut client in world.clients().await {
        for (selectors, pid, code) in [
            (Vec::new(), 0, Code::InvalidArgument),
            (world.named(), world.pid(), Code::InvalidArgument),
            (Vec::new(), -1, Code::InvalidArgument),
            (malformed.clone(), 0, Code::InvalidArgument),
            (many.clone(), 0, Code::InvalidArgument),
            (Vec::new(), 1, Code::PermissionDenied),
            (Vec::new(), own, Code::PermissionDenied),
            (Vec::new(), dead, Code::NotFound),
        ] {
            let asked = pb::SubscribeToX509sviDsRequest {
                selectors: selectors.clone(),
                pid,
            };
            let refused = client.subscribe_to_x509svi_ds(asked).await.unwrap_err();
            assert_eq!(refused.code(), code, "{pid}: {refused}");
            let refused = client
                .fetch_jwtsvi_ds(tokens_for(selectors, pid))
                .await
                .unwrap_err();
            assert_eq!(refused.code(), code, "{pid}: {refused}");
        }
        let no_audience = pb::FetchJwtsviDsRequest {
            pid: world.pid(),
            ..Default::default()
        };
        let refused = client.fetch_jwtsvi_ds(no_audience).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::InvalidArgument, "audience must be specified")
        );
        let too_long = pb::FetchJwtsviDsRequest {
            pid: world.pid(),
            audience: vec!["x".repeat(3000)],
            ..Default::default()
        };
        let refused = client.fetch_jwtsvi_ds(too_long).await.unwrap_err();
        let expected = landfast_identity::jwt::check_audience(&["x".repeat(3000)]).unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::InvalidArgument, expected.to_string().as_str())
        );
    }
    // Of whom it was denied to.
    let denied = world.denials().await;
    let me = u64::from(std::process::id());
    assert_eq!(denied, [(Way::DelegatedIdentity.as_str().to_owned(), me)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_delegate_gets_nothing_and_learns_of_no_process() {
    let other = "[[authorized_delegates]]\ndelegate = \"spiffe://plant.test/mesh/*\"\nmay_have = [\"spiffe://plant.test/line/*\"]\n";
    for config in ["", other] {
        let world = World::with(config).await;
        for mut client in world.clients().await {
            for pid in [world.pid(), i32::MAX] {
                let refused = client.subscribe_to_x509svi_ds(of_pid(pid)).await.unwrap_err();
                assert_eq!(refused.code(), Code::PermissionDenied);
                let refused = client
                    .fetch_jwtsvi_ds(tokens_for(Vec::new(), pid))
                    .await
                    .unwrap_err();
                assert_eq!(refused.code(), Code::PermissionDenied);
            }
            let refused = client
                .subscribe_to_x509_bundles(pb::SubscribeToX509BundlesRequest {})
                .await
                .unwrap_err();
            assert_eq!(refused.code(), Code::PermissionDenied);
            let refused = client
                .subscribe_to_jwt_bundles(pb::SubscribeToJwtBundlesRequest {})
                .await
                .unwrap_err();
            assert!(
                refused
                    .message()
                    .starts_with("caller not configured as an authorized delegate"),
                "{refused}"
            );
        }
        world.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_the_delegates_own_entry_is_deleted() {
    let world = World::new().await;
    let mut streams = Vec::new();
    let mut bundles = Vec::new();
    for mut client in world.clients().await {
        for asked in [of_pid(world.pid()), of_selectors(world.named())] {
            let mut stream = client.subscribe_to_x509svi_ds(asked).await.unwrap().into_inner();
            next(&mut stream).await.unwrap();
            streams.push(stream);
        }
        let mut stream = client
            .subscribe_to_x509_bundles(pb::SubscribeToX509BundlesRequest {})
            .await
            .unwrap()
            .into_inner();
        next(&mut stream).await.unwrap();
        bundles.push(stream);
    }
    world.server.script().entries.remove(0);
    for stream in &mut streams {
        assert_eq!(end(stream).await.code(), Code::PermissionDenied);
    }
    for stream in &mut bundles {
        assert_eq!(end(stream).await.code(), Code::PermissionDenied);
    }
    let refused = world
        .client()
        .await
        .subscribe_to_x509svi_ds(of_pid(world.pid()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_goes_or_becomes_privileged_is_taken_away_and_the_stream_goes_on() {
    let world = World::new().await;
    let mut client = world.client().await;
    let mut stream = client
        .subscribe_to_x509svi_ds(of_pid(world.pid()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(paths(&next(&mut stream).await.unwrap()), ["/line/w"]);
    let privileged = |yes: bool| {
        let entry = &mut world.server.script().entries[1];
        entry.admin = yes;
        entry.revision_number += 1;
    };
    privileged(true);
    assert!(paths(&next(&mut stream).await.unwrap()).is_empty());
    let refused = client
        .fetch_jwtsvi_ds(tokens_for(Vec::new(), world.pid()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    privileged(false);
    assert_eq!(paths(&next(&mut stream).await.unwrap()), ["/line/w"]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_about_a_process_ends_with_it() {
    let mut world = World::new().await;
    let mut streams = Vec::new();
    for mut client in world.clients().await {
        let mut stream = client
            .subscribe_to_x509svi_ds(of_pid(world.pid()))
            .await
            .unwrap()
            .into_inner();
        next(&mut stream).await.unwrap();
        streams.push(stream);
    }
    world.workload.0.kill().unwrap();
    for stream in &mut streams {
        let ended = end(stream).await;
        assert_eq!(ended.code(), Code::NotFound, "{ended}");
    }
    // Not reaped: its number is taken, and yet it is no process.
    let gone = world
        .client()
        .await
        .fetch_jwtsvi_ds(tokens_for(Vec::new(), world.pid()))
        .await
        .unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn delegates_have_limits_and_leave_the_operator_room() {
    let limits = format!("{DELEGATES}[limits]\nstreams_per_process = 3\n");
    let world = World::with(&limits).await;
    let [mut own, mut admin] = world.clients().await;
    let mut open = Vec::new();
    for _ in 0..3 {
        open.push(own.subscribe_to_x509svi_ds(of_pid(world.pid())).await.unwrap());
    }
    let refused = own
        .subscribe_to_x509svi_ds(of_pid(world.pid()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    for _ in 0..MAX_ON_ADMIN_SOCKET {
        // Each its own connection: there is room for eight streams on one, and for sixteen connections.
        let mut client = DelegatedIdentityClient::new(channel(world.handle.admin_socket()).await);
        open.push(client.subscribe_to_x509svi_ds(of_pid(world.pid())).await.unwrap());
    }
    let refused = admin
        .subscribe_to_x509svi_ds(of_pid(world.pid()))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let operator = channel(world.handle.admin_socket()).await;
    let mut operator = admin_api::agent_admin_client::AgentAdminClient::new(operator);
    operator.get_status(admin_api::GetStatusRequest {}).await.unwrap();
    drop(open);
    world.stop().await;
}

struct Always(SelectorSet);

#[async_trait::async_trait]
impl Attestor for Always {
    async fn attest(
        &self,
        _: &Arc<landfast_uds::PinnedProcess>,
    ) -> Result<landfast_workload_api::Attested, landfast_workload_api::AttestError> {
        Ok(landfast_workload_api::Attested::complete(self.0.clone()))
    }
}

/// An office that attests everybody as a delegate, and whose server never answers.
fn office() -> (Arc<Office>, Arc<AgentSource>, Arc<dyn Attestor>, impl Sized) {
    let views = Views::new(&td());
    let entries = [
        entry("a", "/mesh", &["unix:uid:1"]),
        entry("b", "/line/w", &["k8s:pod:x"]),
    ];
    let snapshot = Snapshot {
        entries: Arc::new(crate::entry::EntryIndex::new(entries.map(Arc::new))),
        synced_at: Some(NOON),
        round_over: true,
        ..Snapshot::default()
    };
    views.publish(Arc::new(snapshot), &crate::keeper::state::Reach::All, Some(NOON));
    let status = tokio::sync::watch::Sender::new(crate::link::status::LinkStatus::new());
    let link = tokio::sync::watch::Sender::new(None);
    let source = Arc::new(AgentSource {
        views: views.clone(),
        link: crate::link::LinkHandle::fixed(status.subscribe(), link.subscribe()),
        tokens: crate::jwt::JwtCache::new(StoppedClock::at(NOON)).0,
        budget: crate::jwt::budget::Budget::default(),
        wits: crate::wit::Wits::new(StoppedClock::at(NOON), landfast_identity::KeyType::default()).0,
        clock: StoppedClock::at(NOON),
        ready: tokio::sync::watch::channel(true).1,
        hand_outs: crate::handouts::tests::nowhere(),
        journal: crate::journal::tests::desk(),
    });
    let delegates = Delegates::new(vec![rights::Delegate {
        delegate: spiffe_id("/mesh").into(),
        may_have: vec![spiffe_id("/line/w").into()],
    }]);
    let mine = selectors(&["unix:uid:1"]);
    let attestor: Arc<dyn Attestor> = Arc::new(Always(mine));
    let office = Office::new(
        delegates,
        (Way::DelegatedIdentity, NO_DELEGATE),
        views,
        Arc::clone(&source),
        StoppedClock::at(NOON),
        Arc::clone(&attestor),
    );
    (office, source, attestor, (status, link))
}

/// It is root's, so an entry for root alone would fit.
#[tokio::test]
async fn a_thread_of_the_kernel_is_nobodys_to_ask_for() {
    let (mut office, _source, _attestor, _link) = office();
    let program = sleeper();
    office.pinned(program.pid()).unwrap();
    Arc::get_mut(&mut office).unwrap().runs_a_program = |_| Ok(false);
    let refused = office.pinned(program.pid()).err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(
        refusal::tests::info(&refused).unwrap().reason,
        "WORKLOAD_NOT_ENTITLED"
    );
}

/// Else the selectors in a request would choose who pays, or that nobody does.
#[tokio::test(start_paused = true)]
async fn new_tokens_are_charged_to_the_delegate_whoever_it_asks_for() {
    let (office, source, attestor, _link) = office();
    let mine = selectors(&["unix:uid:1"]);
    let desk = Desk::new(attestor, Limits::default(), Arc::new(Gauges::unpublished()));
    let own = i32::try_from(std::process::id()).unwrap();
    let caller = desk.admit(&Pins::default().open(own).unwrap()).unwrap();
    let asker = Asker::attested(caller);
    for n in 0..200 {
        let whose = Whose::Selectors(selectors(&["k8s:pod:x", &format!("unix:uid:{}", 1000 + n)]));
        let audience = [n.to_string()];
        let asked = office.tokens(&asker, &whose, &audience, |all| all);
        assert!(
            Box::pin(asked).now_or_never().is_none(),
            "it waits for the server"
        );
    }
    assert!(!source.budget.take(&mine), "the delegate has used up its own");
    assert!(source.budget.take(&selectors(&["unix:uid:1000"])));
}

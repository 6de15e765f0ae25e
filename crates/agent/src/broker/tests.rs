//! What brokers ask for, and what they get, over TLS on a real socket.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_identity::{BundleSet, PrivateKey, TrustDomain, X509Svid};
use landfast_lifecycle::{SharedClock, SimClock};
use landfast_proto::google::rpc::ErrorInfo;
use landfast_tls::{BundleStore, Expect, IdentityStore};
use pb::api_client::ApiClient;
use prost::Message as _;
use tonic::Code;
use tonic::codegen::InterceptedService;
use tonic::transport::{Channel, Endpoint};

use super::*;
use crate::agent::AgentParts;
use crate::delegate::refusal::tests::info;
use crate::delegate::tests::{Sleeper, World, end, next, sleeper, traits_of};
use crate::testing::fake_server::{wire_bundle, wire_entry};
use crate::testing::{Ca, answered, id, real_clock, td};

/// This process is `/mesh`, and the program beside it `/line/w` among others; see [`World`].
pub(crate) const BROKERS: &str = "[[authorized_brokers]]\nbroker = \"spiffe://plant.test/mesh\"\nmay_have = [\"spiffe://plant.test/line/*\"]\n";

pub(crate) async fn world(brokers: &str) -> World {
    world_at(brokers, real_clock()).await
}

async fn world_at(brokers: &str, clock: SharedClock) -> World {
    let parts = AgentParts {
        clock,
        ..AgentParts::default()
    };
    let config =
        |dir: &std::path::Path| format!("broker_socket = \"{}/broker/api.sock\"\n{brokers}", dir.display());
    World::set_up(config, parts).await
}

/// An SVID of the agent's trust domain.
pub(crate) fn svid(world: &World, path: &str) -> Arc<X509Svid> {
    of(world.server.ca(), path, Duration::from_secs(3600))
}

fn of(ca: &Ca, path: &str, lasts: Duration) -> Arc<X509Svid> {
    let now = real_clock().now().unwrap();
    let id = SpiffeId::from_parts(ca.bundle().trust_domain(), path).unwrap();
    ca.svid(
        &id,
        now.saturating_sub(Duration::from_secs(600)),
        now.saturating_add(lasts),
    )
}

pub(crate) async fn channel_of(world: &World, svid: Arc<X509Svid>) -> Channel {
    connect(world, Some(svid)).await.unwrap()
}

#[track_caller]
fn connect(
    world: &World,
    svid: Option<Arc<X509Svid>>,
) -> impl Future<Output = Result<Channel, tonic::transport::Error>> {
    answered("a connection", connecting(world, svid))
}

async fn connecting(world: &World, svid: Option<Arc<X509Svid>>) -> Result<Channel, tonic::transport::Error> {
    let bundles = BundleStore::new(BundleSet::from_iter([world.server.ca().bundle()]));
    let identity = svid.map(|svid| {
        let store = IdentityStore::new();
        store.set(svid);
        store
    });
    let agent = Expect::TrustDomain(td());
    let config = landfast_tls::client_config(agent, bundles, identity, real_clock()).unwrap();
    let path = world.handle.broker_socket().unwrap().to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let (path, config) = (path.clone(), Arc::clone(&config));
        async move {
            let socket = tokio::net::UnixStream::connect(path).await?;
            let name = rustls::pki_types::ServerName::try_from("agent").unwrap();
            let stream = tokio_rustls::TlsConnector::from(config).connect(name, socket);
            Ok::<_, std::io::Error>(TokioIo::new(stream.await?))
        }
    });
    Endpoint::from_static("http://agent")
        .connect_with_connector(connector)
        .await
}

type Header = fn(Request<()>) -> Result<Request<()>, Status>;
type Client = ApiClient<InterceptedService<Channel, Header>>;

fn with_header(mut request: Request<()>) -> Result<Request<()>, Status> {
    let yes = tonic::metadata::MetadataValue::from_static("true");
    request.metadata_mut().insert("broker.spiffe.io", yes);
    Ok(request)
}

fn client(channel: Channel) -> Client {
    ApiClient::with_interceptor(channel, with_header as Header)
}

/// As `/mesh`.
async fn broker(world: &World) -> Client {
    client(channel_of(world, svid(world, "/mesh")).await)
}

fn any(type_url: &str, value: Vec<u8>) -> Option<pb::WorkloadReference> {
    let type_url = type_url.to_owned();
    Some(pb::WorkloadReference {
        reference: Some(prost_types::Any { type_url, value }),
    })
}

fn process(pid: i32) -> Option<pb::WorkloadReference> {
    let value = pb::WorkloadPidReference { pid }.encode_to_vec();
    any("type.googleapis.com/spiffe.broker.WorkloadPIDReference", value)
}

fn tokens(reference: Option<pb::WorkloadReference>, only: &str) -> pb::FetchJwtsvidRequest {
    pb::FetchJwtsvidRequest {
        reference,
        audience: vec!["receiver".to_owned()],
        spiffe_id: only.to_owned(),
    }
}

#[track_caller]
fn svids(
    client: &mut Client,
    pid: i32,
) -> impl Future<Output = Result<tonic::Streaming<pb::SubscribeToX509svidResponse>, Status>> {
    let asked = pb::SubscribeToX509svidRequest {
        reference: process(pid),
    };
    let asking = client.subscribe_to_x509svid(asked);
    let asking = answered("SubscribeToX509SVID", asking);
    async { asking.await.map(Response::into_inner) }
}

/// The refusals of all four methods.
#[track_caller]
fn refusals(
    client: &mut Client,
    reference: Option<pb::WorkloadReference>,
) -> impl Future<Output = [Status; 4]> {
    answered("all four methods", all_refused(client, reference))
}

async fn all_refused(client: &mut Client, reference: Option<pb::WorkloadReference>) -> [Status; 4] {
    [
        client
            .subscribe_to_x509svid(pb::SubscribeToX509svidRequest {
                reference: reference.clone(),
            })
            .await
            .unwrap_err(),
        client
            .subscribe_to_x509_bundles(pb::SubscribeToX509BundlesRequest {
                reference: reference.clone(),
            })
            .await
            .unwrap_err(),
        client
            .subscribe_to_jwt_bundles(pb::SubscribeToJwtBundlesRequest {
                reference: reference.clone(),
            })
            .await
            .unwrap_err(),
        client.fetch_jwtsvid(tokens(reference, "")).await.unwrap_err(),
    ]
}

fn reason(status: &Status) -> (Code, Option<String>) {
    let reason = info(status).map(|ErrorInfo { reason, domain, .. }| {
        assert_eq!(domain, "spiffe.io");
        reason
    });
    (status.code(), reason)
}

fn because(code: Code, reason: &str) -> (Code, Option<String>) {
    (code, Some(reason.to_owned()))
}

fn ids(answer: &pb::SubscribeToX509svidResponse) -> Vec<&str> {
    answer.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

const LINE_W: &str = "spiffe://plant.test/line/w";
const NOT_ENTITLED: &str = "WORKLOAD_NOT_ENTITLED";
const NOT_FOUND: &str = "WORKLOAD_NOT_FOUND";
const INVALID: &str = "WORKLOAD_REFERENCE_INVALID";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_broker_gets_is_written_down_with_whose_it_is() {
    let world = world(BROKERS).await;
    let (pid, mut client) = (world.pid(), broker(&world).await);
    let mut stream = svids(&mut client, pid).await.unwrap();
    let answer = next(&mut stream).await.unwrap();
    client.fetch_jwtsvid(tokens(process(pid), "")).await.unwrap();
    // Refused.
    refusals(&mut client, process(i32::MAX)).await;
    let lines = world.hand_outs().await;
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["x509", "jwt"]);
    for line in &lines {
        assert_eq!((&line["by"], &line["id"]), (&"broker".into(), &LINE_W.into()));
        assert_eq!(
            (&line["of"]["pid"], &line["to"]["pid"]),
            (&pid.into(), &std::process::id().into())
        );
    }
    let leaf = landfast_identity::Certificate::from_der(&answer.svids[0].x509_svid).unwrap();
    assert_eq!(lines[0]["serial"], leaf.serial_hex());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_gets_what_its_list_names_and_nothing_privileged() {
    let world = world(BROKERS).await;
    let mut client = broker(&world).await;
    let mut stream = svids(&mut client, world.pid()).await.unwrap();
    let answer = next(&mut stream).await.unwrap();
    // Not the broker's own, the administrator's, the downstream one or the one that its list does not name.
    assert_eq!(ids(&answer), [LINE_W]);
    let svid = &answer.svids[0];
    let key = PrivateKey::from_pkcs8_der(svid.x509_svid_key.to_vec()).unwrap();
    let leaf = landfast_identity::Certificate::from_der(&svid.x509_svid).unwrap();
    assert_eq!(leaf.public_key().spki_der(), key.public_key().spki_der());
    assert_eq!(svid.bundle, world.server.ca().certificate.as_der());
    let answer = client.fetch_jwtsvid(tokens(process(world.pid()), "")).await;
    let answer = answer.unwrap().into_inner();
    assert_eq!(answer.svids.len(), 1);
    assert_eq!(answer.svids[0].spiffe_id, LINE_W);
    let token = landfast_identity::jwt::parse_unverified(&answer.svids[0].svid).unwrap();
    assert_eq!(token.id().to_string(), LINE_W);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bundles_are_those_that_the_workloads_granted_identities_federate_with() {
    let world = world(BROKERS).await;
    {
        let mut script = world.server.script();
        for (name, entry) in [("theirs.test", 1), ("secret.test", 4)] {
            let ca = Ca::of(&TrustDomain::parse(name).unwrap(), name);
            script.federated.insert(name.to_owned(), wire_bundle(&ca, false));
            script.entries[entry].federates_with = vec![name.to_owned()];
            script.entries[entry].revision_number += 1;
        }
    }
    let mut client = broker(&world).await;
    let reference = || process(world.pid());
    let (own, theirs) = ("spiffe://plant.test", "spiffe://theirs.test");
    let asked = pb::SubscribeToX509BundlesRequest {
        reference: reference(),
    };
    let mut x509 = client
        .subscribe_to_x509_bundles(asked)
        .await
        .unwrap()
        .into_inner();
    let asked = pb::SubscribeToJwtBundlesRequest {
        reference: reference(),
    };
    let mut jwt = client.subscribe_to_jwt_bundles(asked).await.unwrap().into_inner();
    let x509 = loop {
        let message = next(&mut x509).await.unwrap().bundles;
        if message.len() > 1 {
            break message;
        }
    };
    let jwt = loop {
        let message = next(&mut jwt).await.unwrap().bundles;
        if message.len() > 1 {
            break message;
        }
    };
    let mut stream = svids(&mut client, world.pid()).await.unwrap();
    let with_svid = next(&mut stream).await.unwrap().federated_bundles;
    assert_eq!(with_svid.keys().collect::<Vec<_>>(), [theirs]);
    for bundles in [&x509, &jwt] {
        let mut names: Vec<_> = bundles.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, [own, theirs]);
    }
    assert_eq!(x509[own], world.server.ca().certificate.as_der());
    assert!(jwt[own].starts_with(b"{\"keys\":["));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_names_an_identity_gets_that_one_or_a_refusal() {
    let world = world(BROKERS).await;
    let (mine, program) = traits_of(&world.workload.0);
    let mut second = wire_entry("i", "/line/v", &[&mine, &program]);
    second.hint = "second".to_owned();
    world.server.script().entries.push(second);
    let mut client = broker(&world).await;
    let mut stream = svids(&mut client, world.pid()).await.unwrap();
    while next(&mut stream).await.unwrap().svids.len() < 2 {}
    let reference = || process(world.pid());
    let both = client.fetch_jwtsvid(tokens(reference(), "")).await.unwrap();
    assert_eq!(both.into_inner().svids.len(), 2);
    let (line_v, other) = ("spiffe://plant.test/line/v", "spiffe://plant.test/line/x");
    for only in [LINE_W, line_v] {
        let answer = client.fetch_jwtsvid(tokens(reference(), only)).await;
        let answer = answer.unwrap().into_inner().svids;
        assert_eq!(answer.len(), 1, "{only}");
        assert_eq!(answer[0].spiffe_id, only);
        assert_eq!(answer[0].hint == "second", only == line_v);
    }
    // Of nobody, not on the list, privileged, the broker's own, of another trust domain.
    for only in [
        other,
        "spiffe://plant.test/secret/x",
        "spiffe://plant.test/line/admin",
        "spiffe://plant.test/line/downstream",
        "spiffe://plant.test/mesh",
        "spiffe://theirs.test/line/w",
    ] {
        let refused = client.fetch_jwtsvid(tokens(reference(), only)).await.unwrap_err();
        assert_eq!(
            reason(&refused),
            because(Code::PermissionDenied, NOT_ENTITLED),
            "{only}"
        );
    }
    let refused = client.fetch_jwtsvid(tokens(reference(), "line/w")).await;
    assert_eq!(reason(&refused.unwrap_err()), (Code::InvalidArgument, None));
    let mut no_audience = tokens(reference(), "");
    no_audience.audience.clear();
    let refused = client.fetch_jwtsvid(no_audience).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.message(), "audience must be specified");
    assert_eq!(reason(&refused), (Code::InvalidArgument, None));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_is_the_oldest_identitys_in_svids_and_in_tokens() {
    let world = world(BROKERS).await;
    let (mine, program) = traits_of(&world.workload.0);
    for (name, path, created_at) in [("i", "/line/young", 9), ("j", "/line/old", 3)] {
        let mut entry = wire_entry(name, path, &[&mine, &program]);
        (entry.hint, entry.created_at) = ("main".to_owned(), created_at);
        world.server.script().entries.push(entry);
    }
    let mut client = broker(&world).await;
    let old = "spiffe://plant.test/line/old";
    let mut stream = svids(&mut client, world.pid()).await.unwrap();
    let given = loop {
        let answer = next(&mut stream).await.unwrap();
        if answer.svids.len() > 1 {
            break answer;
        }
    };
    let sorted = |mut ids: Vec<String>| {
        ids.sort();
        ids
    };
    let expected = sorted(vec![LINE_W.to_owned(), old.to_owned()]);
    let of_svids = given.svids.into_iter().map(|svid| svid.spiffe_id).collect();
    assert_eq!(sorted(of_svids), expected);
    let given = client
        .fetch_jwtsvid(tokens(process(world.pid()), ""))
        .await
        .unwrap();
    let of_tokens = given.into_inner().svids.into_iter().map(|svid| svid.spiffe_id);
    assert_eq!(sorted(of_tokens.collect()), expected);
    let young = tokens(process(world.pid()), "spiffe://plant.test/line/young");
    let refused = client.fetch_jwtsvid(young).await.unwrap_err();
    assert_eq!(reason(&refused), because(Code::PermissionDenied, NOT_ENTITLED));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_refers_to_nothing_that_can_be_asked_for_is_refused_with_its_reason() {
    let world = world(BROKERS).await;
    let mut client = broker(&world).await;
    let own = i32::try_from(std::process::id()).unwrap();
    let mut dead = sleeper();
    dead.0.kill().unwrap();
    dead.0.wait().unwrap();
    let zombie = {
        let mut zombie = sleeper();
        zombie.0.kill().unwrap();
        zombie
    };
    let kubernetes = any(
        "type.googleapis.com/spiffe.broker.KubernetesObjectReference",
        Vec::new(),
    );
    for (reference, expected) in [
        (None, because(Code::InvalidArgument, INVALID)),
        (kubernetes, because(Code::InvalidArgument, INVALID)),
        (process(0), because(Code::InvalidArgument, INVALID)),
        (process(-1), because(Code::InvalidArgument, INVALID)),
        (process(dead.pid()), because(Code::NotFound, NOT_FOUND)),
        (process(zombie.pid()), because(Code::NotFound, NOT_FOUND)),
        (process(i32::MAX), because(Code::NotFound, NOT_FOUND)),
        // The system; this process, which is the agent too.
        (process(1), because(Code::PermissionDenied, NOT_ENTITLED)),
        (process(own), because(Code::PermissionDenied, NOT_ENTITLED)),
    ] {
        for refused in refusals(&mut client, reference.clone()).await {
            assert_eq!(reason(&refused), expected, "{reference:?}: {refused}");
        }
    }
    // Of this user, and of no program that an entry names.
    let cat = std::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn();
    let unentitled = Sleeper(cat.unwrap());
    let pid = unentitled.pid();
    for refused in refusals(&mut client, process(pid)).await {
        assert_eq!(reason(&refused), because(Code::PermissionDenied, NOT_ENTITLED));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_broker_gets_nothing_and_learns_of_no_process() {
    let another = BROKERS.replace("/mesh", "/mesh/*");
    let world = world(&another).await;
    let mut client = broker(&world).await;
    for pid in [world.pid(), i32::MAX, 1, 0] {
        for refused in refusals(&mut client, process(pid)).await {
            assert_eq!(reason(&refused), (Code::PermissionDenied, None), "{pid}");
            assert!(refused.message().starts_with("caller not configured as a broker"));
        }
    }
    let denied = world.denials().await;
    let me = u64::from(std::process::id());
    assert_eq!(denied, [("broker".to_owned(), me)]);
}

/// The control is that `/mesh` is served, in the other tests and here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_svid_and_a_process_that_are_not_the_same_broker_are_refused() {
    let list = BROKERS.replace("/mesh\"", "/*\"");
    let world = world(&list).await;
    svids(&mut broker(&world).await, world.pid()).await.unwrap();
    // Somebody else's key, and one that belongs to a listed identity which this process has no entry for.
    for stolen in ["/elsewhere", "/line/w"] {
        let mut client = client(channel_of(&world, svid(&world, stolen)).await);
        for refused in refusals(&mut client, process(world.pid())).await {
            assert_eq!(reason(&refused), (Code::PermissionDenied, None), "{stolen}");
            assert!(
                refused.message().contains("the identity that it showed"),
                "{refused}"
            );
        }
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_shows_no_good_svid_does_not_come_in() {
    let world = world(BROKERS).await;
    svids(&mut broker(&world).await, world.pid()).await.unwrap();
    let impostor = Ca::new("impostor");
    let now = real_clock().now().unwrap();
    let [from, to] = [600, 60].map(|ago| now.saturating_sub(Duration::from_secs(ago)));
    let over = world.server.ca().svid(&id("/mesh"), from, to);
    let foreign = Ca::of(&TrustDomain::parse("theirs.test").unwrap(), "theirs");
    for bad in [
        None,
        Some(of(&impostor, "/mesh", Duration::from_secs(3600))),
        Some(of(&foreign, "/mesh", Duration::from_secs(3600))),
        Some(over),
    ] {
        // With TLS 1.3 a client learns of it only after its own part is done.
        let Ok(channel) = connect(&world, bad).await else {
            continue;
        };
        for refused in refusals(&mut client(channel), process(world.pid())).await {
            assert!(refused.details().is_empty() && refused.code() != Code::PermissionDenied);
            assert!(
                std::error::Error::source(&refused).is_some(),
                "an answer: {refused}"
            );
        }
    }
    // Nor does who speaks no TLS at all.
    let plain = crate::delegate::tests::channel(world.handle.broker_socket().unwrap());
    if let Ok(channel) = tokio::time::timeout(Duration::from_secs(1), plain).await {
        let status = crate::delegate::tests::call(&channel, "/spiffe.broker.API/FetchJWTSVID").await;
        assert!(std::error::Error::source(&status.unwrap()).is_some());
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_without_the_security_header_are_refused_on_every_method() {
    let world = world(BROKERS).await;
    let no_header: Header = Ok;
    let false_header: Header = |mut request| {
        let no = tonic::metadata::MetadataValue::from_static("TRUE");
        request.metadata_mut().insert("broker.spiffe.io", no);
        Ok(request)
    };
    let twice: Header = |request| {
        let mut request = with_header(request)?;
        let yes = tonic::metadata::MetadataValue::from_static("true");
        request.metadata_mut().append("broker.spiffe.io", yes);
        Ok(request)
    };
    let workload_apis: Header = |mut request| {
        let yes = tonic::metadata::MetadataValue::from_static("true");
        request.metadata_mut().insert("workload.spiffe.io", yes);
        Ok(request)
    };
    let channel = channel_of(&world, svid(&world, "/mesh")).await;
    for header in [no_header, false_header, twice, workload_apis] {
        let mut client = ApiClient::with_interceptor(channel.clone(), header);
        for refused in refusals(&mut client, process(world.pid())).await {
            assert_eq!(reason(&refused), (Code::InvalidArgument, None));
            assert_eq!(refused.message(), "security header missing from request");
        }
    }
    svids(&mut client(channel), world.pid()).await.unwrap();
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_stream_about_a_workload_ends_with_it_and_the_connection_goes_on() {
    let mut world = world(BROKERS).await;
    let other = sleeper();
    let mut client = broker(&world).await;
    let reference = process(world.pid());
    let mut x509 = svids(&mut client, world.pid()).await.unwrap();
    let asked = pb::SubscribeToX509BundlesRequest {
        reference: reference.clone(),
    };
    let mut bundles = client
        .subscribe_to_x509_bundles(asked)
        .await
        .unwrap()
        .into_inner();
    let asked = pb::SubscribeToJwtBundlesRequest { reference };
    let mut jwt = client.subscribe_to_jwt_bundles(asked).await.unwrap().into_inner();
    let mut others = svids(&mut client, other.pid()).await.unwrap();
    next(&mut others).await.unwrap();
    world.workload.0.kill().unwrap();
    let ends = [end(&mut x509).await, end(&mut bundles).await, end(&mut jwt).await];
    for ended in &ends {
        assert_eq!(reason(ended), because(Code::NotFound, NOT_FOUND));
        assert_eq!(info(ended).unwrap().metadata["pid"], world.pid().to_string());
    }
    // Not reaped: its number is taken, and yet it is no process.
    for refused in refusals(&mut client, process(world.pid())).await {
        assert_eq!(reason(&refused), because(Code::NotFound, NOT_FOUND));
    }
    // What is open about another goes on, and is told of changes.
    let script = &world.server;
    script.script().entries[1].federates_with = vec!["theirs.test".to_owned()];
    let ca = Ca::of(&TrustDomain::parse("theirs.test").unwrap(), "theirs");
    let federated = wire_bundle(&ca, false);
    script
        .script()
        .federated
        .insert("theirs.test".to_owned(), federated);
    script.script().entries[1].revision_number += 1;
    while next(&mut others).await.unwrap().federated_bundles.is_empty() {}
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_when_the_right_ends_whosever_it_is() {
    let world = world(BROKERS).await;
    let mut client = broker(&world).await;
    let mut stream = svids(&mut client, world.pid()).await.unwrap();
    next(&mut stream).await.unwrap();
    // The workload's.
    let privileged = |yes: bool| {
        let entry = &mut world.server.script().entries[1];
        entry.admin = yes;
        entry.revision_number += 1;
    };
    privileged(true);
    let ended = end(&mut stream).await;
    assert_eq!(reason(&ended), because(Code::PermissionDenied, NOT_ENTITLED));
    for refused in refusals(&mut client, process(world.pid())).await {
        assert_eq!(reason(&refused), because(Code::PermissionDenied, NOT_ENTITLED));
    }
    privileged(false);
    let again = async {
        loop {
            match svids(&mut client, world.pid()).await {
                Ok(stream) => break stream,
                Err(refused) => assert_eq!(refused.code(), Code::PermissionDenied, "{refused}"),
            }
        }
    };
    let mut stream = world.bounded("it is entitled again", again).await;
    next(&mut stream).await.unwrap();
    // The broker's, whose SVID is as good as before.
    world.server.script().entries.remove(0);
    assert_eq!(reason(&end(&mut stream).await), (Code::PermissionDenied, None));
    for refused in refusals(&mut client, process(world.pid())).await {
        assert_eq!(reason(&refused), (Code::PermissionDenied, None));
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_whose_svid_has_ended_gets_nothing_more_until_it_shows_another() {
    let clock = SimClock::new(real_clock().now().unwrap());
    let world = world_at(BROKERS, Arc::new(clock.clone())).await;
    let short = of(world.server.ca(), "/mesh", Duration::from_secs(600));
    let mut client_ = client(channel_of(&world, Arc::clone(&short)).await);
    let mut stream = svids(&mut client_, world.pid()).await.unwrap();
    next(&mut stream).await.unwrap();
    clock.step(700);
    for refused in refusals(&mut client_, process(world.pid())).await {
        assert_eq!(reason(&refused), (Code::Unauthenticated, None), "{refused}");
    }
    // With the next change.
    world.server.script().entries[1].hint = "another".to_owned();
    world.server.script().entries[1].revision_number += 1;
    assert_eq!(end(&mut stream).await.code(), Code::Unauthenticated);
    if let Ok(channel) = connect(&world, Some(short)).await {
        svids(&mut client(channel), world.pid()).await.unwrap_err();
    }
    svids(&mut broker(&world).await, world.pid()).await.unwrap();
    world.stop().await;
}

/// Nothing happens but that the time comes: the stream and the connection end all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_stream_ends_with_the_svid_that_was_shown() {
    let world = world(BROKERS).await;
    let short = of(world.server.ca(), "/mesh", Duration::from_secs(5));
    let channel = channel_of(&world, short).await;
    let mut client_ = client(channel);
    let mut stream = svids(&mut client_, world.pid()).await.unwrap();
    assert_eq!(end(&mut stream).await.code(), Code::Unauthenticated);
    // No answer, but another connection, which does not come to be.
    let closed = async {
        loop {
            let refused = svids(&mut client_, world.pid()).await.unwrap_err();
            if refused.code() != Code::Unauthenticated {
                return refused;
            }
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(60), closed)
        .await
        .unwrap();
    assert!(std::error::Error::source(&closed).is_some(), "{closed}");
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_was_shown_is_over_when_it_ends_or_its_authority_goes() {
    let now = real_clock().now().unwrap();
    let (clock, ca) = (Arc::new(SimClock::new(now)), Ca::new("one"));
    let chain = |svid: &X509Svid| {
        let each = svid.chain().iter();
        each.map(|each| each.as_der().to_vec().into()).collect::<Vec<_>>()
    };
    let shown = |bundles: &BundleStore| {
        let svid = of(&ca, "/mesh", Duration::from_secs(3600));
        Shown::new(chain(&svid), bundles.clone(), clock.clone()).unwrap()
    };
    let bundles = BundleStore::new(BundleSet::from_iter([ca.bundle()]));
    let one = shown(&bundles);
    assert_eq!(*one.id(), id("/mesh"));
    let an_hour = tokio::time::timeout(Duration::from_secs(3590), one.over()).await;
    assert!(an_hour.is_err(), "it is good for an hour");
    tokio::time::timeout(Duration::from_secs(60), one.over())
        .await
        .unwrap();
    clock.step(-3600);
    let two = shown(&bundles);
    let good = tokio::time::timeout(Duration::from_secs(120), two.over()).await;
    assert!(good.is_err(), "the control");
    bundles.store(BundleSet::default());
    // Looked at once a minute.
    tokio::time::timeout(Duration::from_secs(61), two.over())
        .await
        .unwrap();
    assert!(Shown::new(Vec::new(), bundles, clock.clone()).is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_has_a_limit_of_streams_and_gets_room_back() {
    let world = world(BROKERS).await;
    let mut client = broker(&world).await;
    let most = quota::MAX_STREAMS as usize;
    // So many of one process are another limit.
    let sleepers: Vec<_> = (0..most.div_ceil(60)).map(|_| sleeper()).collect();
    let mut open = Vec::new();
    for nth in 0..most {
        let pid = sleepers[nth % sleepers.len()].pid();
        open.push(svids(&mut client, pid).await.unwrap());
    }
    // On another connection too: it is the broker's.
    let mut another = broker(&world).await;
    for client in [&mut client, &mut another] {
        let refused = svids(client, world.pid()).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::ResourceExhausted, "limit streams_per_broker reached")
        );
        // What is no stream has its own.
        client
            .fetch_jwtsvid(tokens(process(world.pid()), ""))
            .await
            .unwrap();
    }
    drop(open.pop());
    let mut tries = 0;
    while let Err(refused) = svids(&mut another, world.pid()).await {
        assert_eq!(refused.code(), Code::ResourceExhausted);
        tries += 1;
        assert!(tries < 10_000, "it does not get its place back");
    }
    world.stop().await;
}

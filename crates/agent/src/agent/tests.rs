//! The agent whole: sockets, a workload, the admin socket, against a scripted server.

mod ban;
mod damage;
mod handouts;
mod time;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use hyper_util::rt::TokioIo;
use landfast_daemon::{Metrics, TaskTree};
use landfast_lifecycle::SystemClock;
use landfast_proto::landfast::agent::v1 as api;
use landfast_proto::landfast::agent::v1::agent_admin_client::AgentAdminClient;
use landfast_proto::spire::agent::debug::v1 as debug_api;
use landfast_proto::spire::api::agent::logger::v1 as logger_api;
use landfast_workload_api::client::WorkloadClient;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

use super::*;
use crate::config::{Evidence, TokenSource};
use crate::link::revision::Revision;
use crate::testing::fake_server::{FakeServer, wire_entry};
use crate::testing::{Ca, td, until};

struct World {
    server: FakeServer,
    dir: tempfile::TempDir,
    tree: TaskTree,
}

impl World {
    async fn new() -> Self {
        let server = FakeServer::start().await;
        let mine = format!("unix:uid:{}", nix::unistd::geteuid());
        server.script().entries = vec![
            wire_entry("a", "/collector", &[&mine]),
            wire_entry("b", "/other", &["unix:uid:4242424"]),
        ];
        Self {
            server,
            dir: tempfile::tempdir().unwrap(),
            tree: TaskTree::new(),
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test's own file")]
    fn config(&self) -> AgentConfig {
        let dir = self.dir.path();
        let bundle = dir.join("bundle.pem");
        std::fs::write(&bundle, self.server.ca().bundle().to_pem()).unwrap();
        let text = format!(
            "trust_domain = \"plant.test\"\nserver = [\"{}\"]\ndata_dir = \"{dir}/data\"\ntrust_bundle = \"{}\"\n\
             socket = \"{dir}/public/api.sock\"\nadmin_socket = \"{dir}/private/admin.sock\"\n\
             [attestation]\nmethod = \"join_token\"\ntoken = \"t\"\n[sync]\ninterval = \"100ms\"\n",
            self.server.address,
            bundle.display(),
            dir = dir.display(),
        );
        let file = dir.join("agent.toml");
        std::fs::write(&file, text).unwrap();
        AgentConfig::load(&file).unwrap()
    }

    async fn start(&self) -> AgentHandle {
        Agent::start(self.config(), AgentParts::default(), &self.tree.handle())
            .await
            .unwrap()
    }

    async fn start_with_http(&self) -> AgentHandle {
        let config = AgentConfig {
            http_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            ..self.config()
        };
        let parts = AgentParts {
            metrics: Some(Metrics::install()),
            ..AgentParts::default()
        };
        Agent::start(config, parts, &self.tree.handle()).await.unwrap()
    }

    async fn refused(&self, config: AgentConfig) -> String {
        let error = Agent::start(config, AgentParts::default(), &self.tree.handle())
            .await
            .err()
            .expect("it must not start");
        landfast_daemon::error_chain(&error)
    }

    /// The server and the disk stay.
    async fn stop_agent(&mut self) {
        let tree = std::mem::replace(&mut self.tree, TaskTree::new());
        tree.join_with_deadline(Duration::from_secs(60)).await.unwrap();
    }

    async fn stop(self) {
        self.tree
            .join_with_deadline(Duration::from_secs(60))
            .await
            .unwrap();
    }
}

fn read_state(config: &AgentConfig) -> Result<NodeState, AgentError> {
    NodeState::read(config, &AgentParts::default().disk, |_| None)
}

async fn admin(handle: &AgentHandle) -> AgentAdminClient<Channel> {
    let path = handle.admin_socket().to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    AgentAdminClient::new(
        Endpoint::from_static("http://admin")
            .connect_with_connector(connector)
            .await
            .unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_gets_its_identities_and_the_operator_sees_them() {
    let world = World::new().await;
    let handle = world.start().await;
    handle.ready().await;
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    let fetched = client.fetch_x509().await.unwrap();
    let ids: Vec<_> = fetched.svids.iter().map(|svid| svid.id().to_string()).collect();
    assert_eq!(ids, ["spiffe://plant.test/collector"]);
    let tokens = client.fetch_jwt(&["receiver".to_owned()], None).await.unwrap();
    assert_eq!(tokens.len(), 1);
    client.fetch_jwt(&["receiver".to_owned()], None).await.unwrap();
    assert_eq!(
        world.server.calls("NewJWTSVID"),
        1,
        "the second came from the cache"
    );

    let mut admin = admin(&handle).await;
    let status = admin
        .get_status(api::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (status.state.as_str(), status.trust_domain.as_str()),
        ("serving", "plant.test")
    );
    assert_eq!(
        status.agent_id,
        "spiffe://plant.test/spire/agent/join_token/node-1"
    );
    assert!(
        status.server_reachable && status.last_sync > 0 && status.agent_svid_not_after > status.last_sync
    );
    assert_eq!(status.server_address, world.server.address.to_string());
    assert_eq!(status.identities.len(), 2);
    assert!(
        status
            .identities
            .iter()
            .all(|identity| identity.not_after > 0 && identity.renew_at > 0)
    );
    assert_eq!((status.connections, status.processes), (1, 1));

    let pid = std::process::id().cast_signed();
    let why = admin.why(api::WhyRequest { pid }).await.unwrap().into_inner();
    assert_eq!(why.matches.len(), 1);
    assert!(why.advice.contains("gets it now"), "{}", why.advice);
    assert_eq!(why.executable, std::env::current_exe().unwrap().to_str().unwrap());
    let channel = delegate::tests::channel(handle.admin_socket()).await;
    let mut debug = debug_api::debug_client::DebugClient::new(channel.clone());
    let info = debug
        .get_info(debug_api::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    let ids = info
        .svid_chain
        .iter()
        .map(|one| one.id.as_ref().unwrap().path.as_str());
    assert_eq!(
        ids.collect::<Vec<_>>(),
        ["/spire/agent/join_token/node-1", ""],
        "and what signed it"
    );
    assert!(info.svid_chain.iter().all(|one| one.expires_at > 0));
    assert_eq!(
        (info.cached_x509_svids_count, info.cached_jwt_svids_count),
        (2, 1)
    );
    assert!(info.last_sync_success >= status.last_sync && info.uptime >= 0);
    let mut logger = logger_api::logger_client::LoggerClient::new(channel);
    let here = logger
        .get_logger(logger_api::GetLoggerRequest {})
        .await
        .unwrap_err();
    assert_eq!(
        here.code(),
        tonic::Code::FailedPrecondition,
        "a test logs nothing"
    );
    let wrong = logger
        .set_log_level(logger_api::SetLogLevelRequest { new_level: 0 })
        .await;
    assert_eq!(wrong.unwrap_err().code(), tonic::Code::InvalidArgument);

    let nobody = admin.why(api::WhyRequest { pid: 0 }).await.unwrap_err();
    assert_eq!(nobody.code(), tonic::Code::InvalidArgument);
    let gone = admin.why(api::WhyRequest { pid: i32::MAX }).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_clients_of_the_admin_socket_do_not_keep_the_operator_out() {
    let world = World::new().await;
    let mut config = world.config();
    config.limits.handshake_timeout = Duration::from_millis(100);
    let handle = Agent::start(config, AgentParts::default(), &world.tree.handle())
        .await
        .unwrap();
    let mut silent = Vec::new();
    for _ in 0..admin_server::MAX_CONNECTIONS {
        let client = tokio::net::UnixStream::connect(handle.admin_socket()).await;
        silent.push(client.unwrap());
    }
    let status = async {
        let status = admin(&handle).await.get_status(api::GetStatusRequest {}).await;
        status.unwrap().into_inner()
    };
    let status = tokio::time::timeout(Duration::from_secs(60), status).await;
    let status = status.expect("all places are taken for good");
    assert_eq!(status.descriptors_wanted, 2 * 8192 + 256);
    assert!(status.descriptor_limit > 0);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sockets_open_at_once_while_the_server_is_away() {
    let world = World::new().await;
    world.server.stop();
    let handle = world.start().await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(handle.socket()), 0o777);
    assert_eq!(mode(handle.admin_socket()), 0o600);
    let mut admin = admin(&handle).await;
    let status = admin
        .get_status(api::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.last_sync, 0);
    assert!(
        matches!(status.state.as_str(), "starting" | "attesting"),
        "{}",
        status.state
    );
    assert!(!handle.health.borrow().ready);
    world.stop().await;
}

/// Status line and body of a GET.
async fn get(handle: &AgentHandle, path: &str) -> (String, String) {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let mut stream = tokio::net::TcpStream::connect(handle.http_address().unwrap())
        .await
        .unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// What gRPC health says on the Workload API's socket.
async fn grpc_health(handle: &AgentHandle) -> ServingStatus {
    let path = handle.socket().to_owned();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move { tokio::net::UnixStream::connect(path).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://health")
        .connect_with_connector(connector)
        .await
        .unwrap();
    let request = HealthCheckRequest {
        service: String::new(),
    };
    let answer = HealthClient::new(channel).check(request).await.unwrap();
    answer.into_inner().status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_doors_tell_how_the_agent_stands_over_its_life() {
    let world = World::new().await;
    world.server.script().refuse_attestation = Some(tonic::Status::unavailable("not now"));
    let handle = world.start_with_http().await;
    let first = |(status, body): (String, String)| {
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        assert!(
            body.starts_with("not ready: no round of synchronisation"),
            "{body}"
        );
    };
    assert_eq!(
        get(&handle, "/live").await,
        ("HTTP/1.1 200 OK".to_owned(), "live\n".to_owned())
    );
    first(get(&handle, "/ready").await);
    assert_eq!(grpc_health(&handle).await, ServingStatus::NotServing);

    world.server.script().refuse_attestation = None;
    handle.ready().await;
    assert_eq!(
        get(&handle, "/ready").await,
        ("HTTP/1.1 200 OK".to_owned(), "ready\n".to_owned())
    );
    while grpc_health(&handle).await != ServingStatus::Serving {
        tokio::task::yield_now().await;
    }

    world.server.script().deny = Some(4);
    let health = handle.health.clone();
    until("it is unready", || !health.borrow().ready).await;
    let (status, body) = get(&handle, "/ready?format=json").await;
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert_eq!(
        body,
        "{\"ready\":false,\"reason\":\"the server has banned this node\"}\n"
    );
    while grpc_health(&handle).await != ServingStatus::NotServing {
        tokio::task::yield_now().await;
    }
    assert_eq!(get(&handle, "/live").await.1, "live\n", "a banned node lives");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ban_makes_the_agent_unready_and_it_lives_on() {
    let world = World::new().await;
    let handle = world.start().await;
    handle.ready().await;
    world.server.script().deny = Some(4);
    let health = handle.health.clone();
    until("it is unready", || !health.borrow().ready).await;
    assert!(health.borrow().reason.contains("banned"));
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    assert!(client.fetch_x509().await.is_err());
    // It serves nothing first; it says what it is once its keys are destroyed as well.
    let mut admin = admin(&handle).await;
    let asked = async {
        loop {
            let status = admin
                .get_status(api::GetStatusRequest {})
                .await
                .unwrap()
                .into_inner();
            if status.state == "banned" {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let status = tokio::time::timeout(Duration::from_secs(60), asked)
        .await
        .expect("it says so");
    assert_eq!((status.state.as_str(), status.identities.len()), ("banned", 0));
    assert!(
        !world
            .dir
            .path()
            .join("data")
            .join(crate::persist::IDENTITY)
            .exists()
    );
    world.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's own damage")]
async fn what_is_wrong_on_this_machine_is_found_before_anything_starts() {
    let world = World::new().await;
    let missing = AgentConfig {
        trust_bundle: "/nowhere/bundle".into(),
        ..world.config()
    };
    assert!(world.refused(missing).await.contains("/nowhere/bundle"));
    let no_token = Evidence::JoinToken(TokenSource::File("/nowhere/token".into()));
    let no_token = AgentConfig {
        attestation: no_token,
        ..world.config()
    };
    assert!(world.refused(no_token).await.contains("/nowhere/token"));
    let data = world.dir.path().join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::set_permissions(&data, std::fs::Permissions::from_mode(0o700)).unwrap();
    let identity = data.join(crate::persist::IDENTITY);
    std::fs::write(&identity, b"").unwrap();
    std::fs::set_permissions(&identity, std::fs::Permissions::from_mode(0o600)).unwrap();
    let damaged = world.refused(world.config()).await;
    assert!(
        damaged.contains(crate::persist::IDENTITY) && damaged.contains("it is empty"),
        "{damaged}"
    );
    assert!(identity.exists(), "left for the operator");
    assert!(
        !world.dir.path().join("public/api.sock").exists(),
        "no socket was opened"
    );
    assert_eq!(world.server.calls("AttestAgent"), 0);
    world.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
async fn a_replaced_bootstrap_bundle_counts_more_than_the_one_kept() {
    let world = World::new().await;
    let config = world.config();
    let state = read_state(&config).unwrap();
    let newer = Ca::new("two").bundle();
    state.files.save_bundle(&newer, &state.bootstrap).unwrap();
    drop(state);
    let state = read_state(&config).unwrap();
    assert!(state.bundle.content_eq(&newer), "what the server gave last");
    drop(state);
    let mended = Ca::new("three").bundle();
    std::fs::write(&config.trust_bundle, mended.to_pem()).unwrap();
    assert!(
        read_state(&config).unwrap().bundle.content_eq(&mended),
        "what the operator gave since"
    );
    assert_eq!(config.trust_domain, td());
    world.stop().await;
}

/// What the kernel says of this process that its user does not.
fn own_hash() -> String {
    let program = std::fs::read("/proc/self/exe").unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &program);
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("unix:sha256:{hex}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_workload_gets_an_identity_by_hash_that_is_registered_later() {
    let world = World::new().await;
    world.server.script().entries.remove(0);
    let handle = world.start().await;
    handle.ready().await;
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(tonic::Code::PermissionDenied));
    world.server.script().entries = vec![wire_entry("h", "/by-hash", &[&own_hash()])];
    // On the same connection.
    let served = async {
        loop {
            match client.fetch_x509().await {
                Ok(fetched) => return fetched,
                Err(_not_yet) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    let fetched = tokio::time::timeout(Duration::from_secs(60), served).await;
    let fetched = fetched.expect("it is served by its hash");
    assert_eq!(fetched.svids[0].id().path(), "/by-hash");
    drop(client);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_stream_gets_an_identity_by_hash_that_is_registered_later() {
    use futures_util::StreamExt as _;
    let world = World::new().await;
    let handle = world.start().await;
    handle.ready().await;
    let mut client = WorkloadClient::connect(handle.socket().to_str().unwrap())
        .await
        .unwrap();
    let mut stream = client.x509_svids().await.unwrap();
    assert_eq!(stream.next().await.unwrap().unwrap().svids.len(), 1);
    let by_hash = wire_entry("h", "/by-hash", &[&own_hash()]);
    world.server.script().entries.push(by_hash);
    let both = async { while stream.next().await.unwrap().unwrap().svids.len() < 2 {} };
    let both = tokio::time::timeout(Duration::from_secs(60), both).await;
    both.expect("it is served by its hash too");
    drop((stream, client));
    world.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
async fn a_damaged_note_of_the_newest_revision_does_not_keep_the_agent_from_starting() {
    let world = World::new().await;
    let config = world.config();
    let state = read_state(&config).unwrap();
    let seen = Revision { epoch: 7, number: 50 };
    state.files.save_revision(seen, &state.bootstrap).unwrap();
    drop(state);
    assert_eq!(read_state(&config).unwrap().newest, Some(seen));
    std::fs::write(config.data_dir.join(crate::persist::REVISION), b"{").unwrap();
    let state = read_state(&config).unwrap();
    assert_eq!(state.newest, None);
    state.files.save_revision(seen, &state.bootstrap).unwrap();
    assert_eq!(
        state.files.revision(&state.bootstrap).unwrap(),
        Some(seen),
        "mended"
    );
    world.stop().await;
}

/// A bit that the disk has turned makes another key of it, or no bundle at all.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's own files")]
async fn a_damaged_bundle_gives_way_to_the_one_the_node_was_set_up_with() {
    let world = World::new().await;
    let config = world.config();
    let state = read_state(&config).unwrap();
    let (begun, newer) = (state.bundle.clone(), Ca::new("newer").bundle());
    state.files.save_bundle(&newer, &state.bootstrap).unwrap();
    drop(state);
    let has = |bundle: &landfast_identity::Bundle| {
        let state = read_state(&config).unwrap();
        state.bundle.x509_authorities() == bundle.x509_authorities()
    };
    assert!(has(&newer), "the positive control");
    let file = config.data_dir.join(crate::persist::BUNDLE);
    let good = std::fs::read_to_string(&file).unwrap();
    for harmed in ["{".to_owned(), good.replacen("EC", "Ec", 1), String::new()] {
        std::fs::write(&file, &harmed).unwrap();
        assert!(has(&begun), "{harmed}");
    }
    let state = read_state(&config).unwrap();
    state.files.save_bundle(&newer, &state.bootstrap).unwrap();
    drop(state);
    assert!(has(&newer), "mended");
    world.stop().await;
}

//! What is damaged, wrong or taken is refused by name, and nothing is overwritten.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_identity::{Bundle, BundleSet, SpiffeId, TrustDomain, UnixTime};
use landfast_lifecycle::Clock;
use landfast_testkit::{Plant, eventually, wire};
use landfast_tls::{BundleStore, Expect, client_config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

fn spoil(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..] {
        *byte = !*byte;
    }
    write(path, &bytes);
    bytes
}

fn write(path: &Path, bytes: &[u8]) {
    std::io::Write::write_all(&mut fs::File::create(path).unwrap(), bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_or_missing_database_is_refused_by_name_and_left_as_it_is() {
    let mut plant = Plant::new("").await;
    plant.stop_server().await;
    let database = plant.server_data().join("landfast.db");
    let intact = fs::read(&database).unwrap();
    let spoiled = spoil(&database);
    let error = plant.start_server().await.unwrap_err();
    assert!(error.contains("landfast.db"), "{error}");
    assert_eq!(fs::read(&database).unwrap(), spoiled);
    fs::remove_file(&database).unwrap();
    let error = plant.start_server().await.unwrap_err();
    assert!(error.contains("landfast.db"), "{error}");
    assert!(!database.exists(), "a new database was begun");
    // The control: the right file again.
    write(&database, &intact);
    plant.start_server().await.unwrap();
    plant.tear_down([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_key_of_the_server_is_refused_by_name() {
    let mut plant = Plant::new("").await;
    plant.stop_server().await;
    let keys = plant.server_data().join("keys");
    let mut named = 0;
    for file in fs::read_dir(&keys).unwrap() {
        let path = file.unwrap().path();
        let intact = fs::read(&path).unwrap();
        if intact.is_empty() {
            continue;
        }
        spoil(&path);
        let error = plant.start_server().await.unwrap_err();
        assert!(
            error.contains(path.file_name().unwrap().to_str().unwrap()),
            "{error}"
        );
        named += 1;
        write(&path, &intact);
    }
    assert!(named >= 2, "X.509 and JWT");
    plant.start_server().await.unwrap();
    plant.tear_down([]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_identity_of_a_node_is_refused_by_name_only_where_nothing_else_says_which_node_it_is() {
    let plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    agent.stop().await;
    let file = agent.data().join("node-identity.json");
    spoil(&file);
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    eventually("what it held", async || client.fetch_x509().await).await;
    agent.stop().await;
    let spoiled = b"no identity".to_vec();
    write(&file, &spoiled);
    fs::remove_dir_all(agent.data().join("cache")).unwrap();
    // One that was not registered yet is none.
    let _unregistered = fs::remove_file(agent.data().join("device-key.json"));
    let error = agent.start().await.unwrap_err();
    assert!(error.contains("node-identity.json"), "{error}");
    assert_eq!(fs::read(&file).unwrap(), spoiled);
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_of_somebody_else_keeps_the_agent_from_attesting_anywhere() {
    let plant = Plant::new("").await;
    let other = Plant::new("").await;
    let token = plant.token().await;
    let bundle = other.path().join("bundle.pem");
    let mut agent = plant.agent_with(
        "node",
        &format!("trust_bundle = \"{}\"", bundle.display()),
        &token,
    );
    plant.entry(&agent, "/line4/collector", 3600).await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    assert_eq!(
        client.fetch_x509().await.unwrap_err().code(),
        Some(Code::Unavailable)
    );
    agent.stop().await;
    // The token was never shown: with the right bundle it still works.
    let mut right = plant.agent_with("right", "", &token);
    right.start().await.unwrap();
    let mut client = right.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    other.tear_down([]).await;
    plant.tear_down([agent, right]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_addresses_are_passed_over() {
    let plant = Plant::new("").await;
    let token = plant.token().await;
    let list = format!("server = [\"127.0.0.1:1\", \"[::1]:1\", \"{}\"]", plant.address());
    let mut agent = plant.agent_with("node", &list, &token);
    plant.entry(&agent, "/line4/collector", 3600).await;
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_path_that_is_taken_is_not_taken_over() {
    let plant = Plant::new("").await;
    let token = plant.token().await;
    let mut agent = plant.agent_with("node", "", &token);
    let socket = plant.path().join("node/api.sock");
    write(&socket, b"precious");
    let error = agent.start().await.unwrap_err();
    assert!(error.contains("api.sock"), "{error}");
    assert_eq!(fs::read(&socket).unwrap(), b"precious");
    plant.tear_down([agent]).await;
}

/// A clock that stands in 1970.
#[derive(Debug)]
struct DeadBattery;

impl Clock for DeadBattery {
    fn now(&self) -> Option<UnixTime> {
        Some(UnixTime::from_secs(5))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_before_every_certificate_costs_nothing_since_the_server_says_what_time_it_is() {
    let plant = Plant::new("").await;
    let token = plant.token().await;
    let mut agent = plant.agent_with("node", "", &token);
    plant.entry(&agent, "/line4/collector", 3600).await;
    let parts = AgentParts {
        clock: Arc::new(DeadBattery),
        ..AgentParts::default()
    };
    agent.start_with(parts).await.unwrap();
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    agent.stop().await;
    // The clock is right again: nothing was lost.
    agent.start().await.unwrap();
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    plant.tear_down([agent]).await;
}

/// T-21, below every library: a path without its slash (CVE-2026-33186) on the port that strangers reach.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_without_its_slash_reaches_no_method_of_the_server() {
    let plant = Plant::new("").await;
    let pem = fs::read_to_string(plant.path().join("bundle.pem")).unwrap();
    let domain = TrustDomain::parse(landfast_testkit::TRUST_DOMAIN).unwrap();
    let bundle = Bundle::from_pem(domain.clone(), &pem).unwrap();
    let config = client_config(
        Expect::Exactly(SpiffeId::server(&domain)),
        BundleStore::new(BundleSet::from_iter([bundle])),
        None,
        Arc::new(landfast_lifecycle::SystemClock),
    )
    .unwrap();
    let ask = async |path: &str| {
        let tcp = tokio::net::TcpStream::connect(plant.address()).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("landfast.invalid").unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::clone(&config));
        let mut stream = connector.connect(name, tcp).await.unwrap();
        let request = [wire::preface(), wire::request(1, &wire::call(path))].concat();
        stream.write_all(&request).await.unwrap();
        let mut heard = Vec::new();
        let end = tokio::time::Instant::now() + Duration::from_millis(1500);
        while let Ok(Ok(1..)) = tokio::time::timeout_at(end, stream.read_buf(&mut heard)).await {}
        heard
    };
    // A bundle says whose it is, in plain bytes.
    let has_bundle = |heard: &[u8]| heard.windows(10).any(|window| window == b"plant.test");
    assert!(has_bundle(
        &ask("/spire.api.server.bundle.v1.Bundle/GetBundle").await
    ));
    for path in [
        "spire.api.server.bundle.v1.Bundle/GetBundle",
        "spire.api.server.agent.v1.Agent/ListAgents",
        "x/spire.api.server.bundle.v1.Bundle/GetBundle",
    ] {
        let heard = ask(path).await;
        assert!(!heard.is_empty(), "{path}: it was answered");
        assert!(!has_bundle(&heard), "{path}");
    }
    plant.tear_down([]).await;
}

//! Writes what this version stores and says into a folder, for `tests/compat`: `cargo run -p landfast-testkit --example compat -- FOLDER COMMIT`.
//!
//! Invariant: all of it is of the real server and the real agents of this build, running as they always do; keys are made for it and serve nothing else.

#![expect(clippy::unwrap_used, reason = "whoever runs it sees the panic")]

mod conversations;

use std::fs;
use std::path::{Path, PathBuf};

use clap::Parser as _;
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::landfast::chain::v1::{GetStepsRequest, chain_client::ChainClient};
use landfast_proto::landfast::entry::v1::{EntryPolicy, EntryPolicyMask, JwtOffline};
use landfast_proto::spire::api::server::bundle::v1::{self as bundle, bundle_client::BundleClient};
use landfast_proto::spire::api::server::localauthority::v1::{
    PrepareX509AuthorityRequest, local_authority_client::LocalAuthorityClient,
};
use landfast_proto::spire::api::types;
use landfast_server::backup::backup;
use landfast_server::{CommandLine, ServerConfig, Verb};
use landfast_testkit::{NodeAgent, Plant, eventually, stored};
use serde_json::json;

const SERVER: &str = "[reserve]\nlongest = \"4h\"\nlongest_token = \"8h\"\n[root_key]";
/// Of those who run tests: root, and the first users of most systems.
const USERS: [&str; 3] = ["0", "1000", "1001"];

#[tokio::main]
async fn main() {
    let mut args = std::env::args_os().skip(1);
    let out = PathBuf::from(args.next().expect("a folder that is not there yet"));
    let commit = args.next().expect("the commit").into_string().unwrap();
    fs::create_dir_all(out.join("steps")).unwrap();
    fs::create_dir_all(out.join("spoken")).unwrap();
    let mut plant = Plant::new(SERVER).await;
    let mut node = node(&plant).await;
    let mut banned = plant.agent("banned", "").await;
    eventually("the other node", async || match plant.count_agents().await {
        2 => Ok(()),
        found => Err(found),
    })
    .await;
    plant.ban(&banned).await;
    eventually("the mark of the ban", async || match banned.data().join("banned").exists() {
        true => Ok(()),
        false => Err("none"),
    })
    .await;
    conversations::record(&plant, &node, &out).await;
    steps(&plant, &out).await;
    back_up(&plant, &out);
    let at = SystemClock.now().unwrap().as_secs();
    node.stop().await;
    assert!(node.data().join("cache/tokens").exists(), "written at the end, if not before");
    banned.stop().await;
    let new = token_is_kept(&mut plant).await;
    let agents = [("node", &node), ("banned", &banned), ("new", &new)];
    let made = json!({
        "version": env!("CARGO_PKG_VERSION"), "commit": commit, "at": at, "trust_domain": landfast_testkit::TRUST_DOMAIN,
        "agents": agents.iter().map(|(name, agent)| (*name, agent.id.clone())).collect::<std::collections::BTreeMap<_, _>>(),
        "users": USERS, "path": "/line4/collector", "rungs": 12, "nodes": 3,
    });
    for (name, agent) in agents {
        stored::copy(agent.data(), &out.join(name));
        configuration(&plant, &plant.path().join(name).join("agent.toml"), &out.join(format!("{name}.toml")));
    }
    stored::copy(&plant.server_data(), &out.join("server"));
    configuration(&plant, &plant.path().join("server.toml"), &out.join("server.toml"));
    examples(&out);
    fs::copy(plant.path().join("bundle.pem"), out.join("bundle.pem")).unwrap();
    put(&out.join("made.json"), format!("{made:#}\n").as_bytes());
}

/// A node with everything that is stored: SVIDs, a reserve, tokens, a federated bundle, a device key, a pinned root key.
async fn node(plant: &Plant) -> NodeAgent {
    federate(plant).await;
    let node = plant.agent("node", "").await;
    for user in USERS {
        let entry = plant
            .entry_with(&node, "/line4/collector", |entry| {
                entry.x509_svid_ttl = 3600;
                entry.hint = format!("of {user}");
                entry.federates_with = vec!["other.test".to_owned()];
                entry.selectors[0].value = format!("uid:{user}");
            })
            .await;
        ask_for_reserve(plant, entry).await;
    }
    let mut client = node.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let audience = ["receiver".to_owned(), "another".to_owned()];
    eventually("a token", async || client.fetch_jwt(&audience, None).await).await;
    eventually("the pinned root key", async || {
        let chain = node.status().await.bundle_chain;
        chain.contains("pinned at step").then_some(()).ok_or(chain)
    })
    .await;
    let request = PrepareX509AuthorityRequest {};
    LocalAuthorityClient::new(plant.admin().await).prepare_x509_authority(request).await.unwrap();
    eventually("all of it on disk", async || {
        let status = node.status().await;
        let files = fs::read_dir(node.data().join("cache")).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        let count = |kind: &str| names.iter().filter(|name| name.starts_with(kind)).count();
        let there = count("svid-") == 3
            && count("rung-") == 12
            && status.device_key.starts_with("registered")
            && status.bundle_chain.contains("pinned at step");
        there.then_some(()).ok_or((names, status.device_key, status.bundle_chain))
    })
    .await;
    node
}

async fn ask_for_reserve(plant: &Plant, entry_id: String) {
    let policy = EntryPolicy {
        entry_id,
        offline_reserve_seconds: 2 * 3600,
        jwt_offline: vec![JwtOffline {
            audience: "receiver".to_owned(),
            seconds: 8 * 3600,
        }],
        description: "line 4".to_owned(),
        ..Default::default()
    };
    let mask = EntryPolicyMask {
        offline_reserve_seconds: true,
        jwt_offline: true,
        description: true,
        ..Default::default()
    };
    plant.set_policy(policy, mask).await;
}

/// Another trust domain, which has our certificate: what matters is that it is stored.
async fn federate(plant: &Plant) {
    let own = plant.handle().bundle();
    let asn1 = own.x509_authorities()[0].certificate.as_der().to_vec();
    let request = bundle::BatchSetFederatedBundleRequest {
        bundle: vec![types::Bundle {
            trust_domain: "other.test".to_owned(),
            x509_authorities: vec![types::X509Certificate {
                asn1: asn1.into(),
                tainted: false,
            }],
            sequence_number: 7,
            ..Default::default()
        }],
        output_mask: None,
    };
    let set = BundleClient::new(plant.admin().await).batch_set_federated_bundle(request).await;
    let result = set.unwrap().into_inner().results.remove(0);
    assert_eq!(result.status.map(|status| status.code), Some(0));
}

async fn steps(plant: &Plant, out: &Path) {
    let steps = eventually("the step of the authority that was prepared", async || {
        let request = GetStepsRequest { epoch: 1, sequence: 0 };
        let steps = ChainClient::new(plant.admin().await).get_steps(request).await;
        let steps = steps.unwrap().into_inner().steps;
        if steps.len() > 1 { Ok(steps) } else { Err(steps.len()) }
    })
    .await;
    for (number, step) in (1..).zip(steps) {
        put(&out.join(format!("steps/{number}.step")), &step);
    }
}

fn back_up(plant: &Plant, out: &Path) {
    let config = ServerConfig::load(&plant.path().join("server.toml")).unwrap();
    let run = |words: &[&str]| {
        let words = ["landfast-server", "backup"].iter().chain(words);
        let Verb::Backup(args) = CommandLine::try_parse_from(words).unwrap().verb else {
            panic!("another command");
        };
        backup(&args, Some(&config), &mut |_, _| ()).unwrap()
    };
    let (key, file) = (out.join("backup.key"), out.join("server.backup"));
    let recipient = run(&["key", "--out", key.to_str().unwrap()]);
    let said = run(&["--out", file.to_str().unwrap(), "--recipient", &recipient]);
    put(&out.join("backup.txt"), said.as_bytes());
}

/// A node whose server is away at its first start: it has a key and a token, and no identity yet.
async fn token_is_kept(plant: &mut Plant) -> NodeAgent {
    let token = plant.token().await;
    plant.stop_server().await;
    let mut new = plant.agent_with("new", "", &token);
    new.start().await.unwrap();
    eventually("its key", async || match new.data().join("node-key-pending.json").exists() {
        true => Ok(()),
        false => Err("none"),
    })
    .await;
    new.stop().await;
    new
}

/// The examples with every key that they have switched on.
fn examples(out: &Path) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    fs::create_dir_all(out.join("config")).unwrap();
    for name in ["agent.toml", "server.toml"] {
        let text = fs::read_to_string(examples.join(name)).unwrap();
        // The server's example has `#key` where there is a key, the agent's `# key = `: of these, those that hold without others.
        let on = |line: &str| match line.strip_prefix('#') {
            Some(key) if name == "server.toml" && !key.starts_with(' ') => key.to_owned(),
            Some(key) if name == "agent.toml" && PLAIN.iter().any(|plain| key.trim().starts_with(plain)) => key.trim().to_owned(),
            _ => line.to_owned(),
        };
        let lines = text.lines().map(|line| on(line) + "\n");
        put(&out.join("config").join(name), lines.collect::<String>().as_bytes());
    }
}

/// Keys of the agent that may stand beside each other.
const PLAIN: [&str; 18] = [
    "socket = ", "cache = ", "admin_socket = ", "interval = ", "backstop = ", "keep_alive = ", "retry_max = ", "skew = ", "connections_",
    "streams_", "handshake_timeout = ", "max_message = ", "enabled = ", "default_", "disable_spiffe", "max_hash_size = ", "hash_rate = ", "level = ",
];

fn configuration(plant: &Plant, from: &Path, to: &Path) {
    let text = fs::read_to_string(from).unwrap();
    let text = text.replace(&plant.path().display().to_string(), "@DIR@");
    let address = plant.address();
    put(to, text.replace(&address, "127.0.0.1:@PORT@").as_bytes());
}

fn put(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

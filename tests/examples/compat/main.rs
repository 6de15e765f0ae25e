//! Records what this version stores and says, for every version after it: `make compat-record`.
//!
//! Invariant: all of it is of the real server and real agents of this build, at a time of their own; what is recorded once is never written again.

#![expect(clippy::unwrap_used, reason = "whoever runs it sees the panic")]
#![expect(clippy::print_stdout, reason = "it is a command")]

mod listen;
mod scene;

use std::fs;
use std::path::Path;

use clap::Parser as _;
use landfast_identity::UnixTime;
use landfast_lifecycle::{Clock as _, SimClock};
use landfast_proto::landfast::chain::v1::{GetStepsRequest, chain_client::ChainClient};
use landfast_server::backup::backup;
use landfast_server::{CommandLine, ServerConfig, Verb};
use landfast_testkit::stored::{Stored, copy, recorded, server_at};
use landfast_testkit::{NodeAgent, Plant, TRUST_DOMAIN, eventually, spoken};
use serde_json::json;

/// 2027-01-15T08:00:00Z: no machine's time.
const BEGIN: UnixTime = UnixTime::from_secs(1_800_000_000);
const SERVER: &str = "[reserve]\nlongest = \"4h\"\nlongest_token = \"8h\"\n[root_key]";

#[tokio::main]
async fn main() {
    let version = env!("CARGO_PKG_VERSION");
    let target = recorded().join(version);
    if target.exists() {
        println!("error: {version} is recorded already, in {}", target.display());
        println!(
            "hint: what a release has stored never changes; before it is released, remove the folder and say why in the commit"
        );
        std::process::exit(1);
    }
    let whole = tempfile::tempdir().unwrap();
    record(whole.path(), version).await;
    copy(whole.path(), &target);
    println!("recorded in {}", target.display());
}

async fn record(out: &Path, version: &str) {
    let clock = SimClock::new(BEGIN);
    let dir = tempfile::tempdir().unwrap();
    let mut plant = Plant::new_in(dir, SERVER, server_at(&clock)).await;
    let mut node = scene::node(&plant, &clock).await;
    spoken::write(&out.join("node.json"), &scene::talk(&plant, &clock, out).await);
    let mut banned = scene::banned(&plant, &clock).await;
    steps(&plant, out).await;
    // The tokens are written at the end, if not before.
    node.stop().await;
    banned.stop().await;
    assert!(node.data().join("cache/tokens").exists());
    spoken::write(&out.join("operators.json"), &scene::operators(&plant).await);
    back_up(&plant, out);
    let at = clock.now().unwrap().as_secs();
    let new = token_is_kept(&mut plant, &clock).await;
    let agents = [("node", &node), ("banned", &banned), ("new", &new)];
    for (name, agent) in agents {
        copy(agent.data(), &out.join(name));
        let config = agent.data().with_file_name("agent.toml");
        configuration(&plant, &config, &out.join(format!("{name}.toml")));
    }
    copy(&plant.server_data(), &out.join("server"));
    configuration(
        &plant,
        &plant.path().join("server.toml"),
        &out.join("server.toml"),
    );
    fs::copy(plant.path().join("bundle.pem"), out.join("bundle.pem")).unwrap();
    hand_outs(&out.join("node/handouts.log"));
    let ids = agents.map(|(name, agent)| (name.to_owned(), json!(agent.id)));
    let mut expected = json!({
        "version": version, "at": at, "trust_domain": TRUST_DOMAIN, "path": scene::PATH, "users": scene::USERS,
        "nodes": 4, "agents": serde_json::Map::from_iter(ids),
    });
    put(&out.join("expected.json"), format!("{expected:#}\n").as_bytes());
    let seen = Stored::open(out).seen().await;
    assert_eq!(seen["kept"], json!({ "x509": 3, "jwt": 4 }));
    expected["seen"] = seen;
    put(&out.join("expected.json"), format!("{expected:#}\n").as_bytes());
}

async fn steps(plant: &Plant, out: &Path) {
    let steps = eventually("the step of the authority that was prepared", async || {
        let request = GetStepsRequest {
            epoch: 1,
            sequence: 0,
        };
        let steps = ChainClient::new(plant.admin().await).get_steps(request).await;
        let steps = steps.unwrap().into_inner().steps;
        if steps.len() > 1 {
            Ok(steps)
        } else {
            Err(steps.len())
        }
    })
    .await;
    fs::create_dir(out.join("steps")).unwrap();
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
    put(
        &out.join("backup.txt"),
        said.replace(file.to_str().unwrap(), "server.backup").as_bytes(),
    );
}

/// A node whose server is away at its first start: it has a key and a token, and no identity yet.
async fn token_is_kept(plant: &mut Plant, clock: &SimClock) -> NodeAgent {
    let token = plant.token().await;
    plant.stop_server().await;
    let mut new = plant.agent_with("new", "", &token);
    new.start_with(scene::first_boot(clock)).await.unwrap();
    eventually("its key", async || {
        match new.data().join("node-key-pending.json").exists() {
            true => Ok(()),
            false => Err("none"),
        }
    })
    .await;
    new.stop().await;
    new
}

/// The program that was given them lies elsewhere on each machine.
fn hand_outs(log: &Path) {
    let own = std::env::current_exe().unwrap();
    let text = fs::read_to_string(log).unwrap();
    put(
        log,
        text.replace(own.to_str().unwrap(), "/usr/bin/collector")
            .as_bytes(),
    );
}

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

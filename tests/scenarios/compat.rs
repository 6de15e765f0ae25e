//! What every version before has stored is still read, and what it has said is still understood: `tests/compat` has a folder of each. Nothing here asks the machine what time it is.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_identity::chain::{SignedStep, Walked, Walker};
use landfast_identity::{TrustDomain, UnixTime};
use landfast_lifecycle::SimClock;
use landfast_testkit::front::{connect, identity};
use landfast_testkit::spoken::{self, has_all_of, says_all_of};
use landfast_testkit::stored::{Stored, agent_at, server_at};
use landfast_testkit::{NodeAgent, Plant, eventually};
use serde_json::Value;

const MINUTE: Duration = Duration::from_secs(60);

/// With everything that was stored, and the present server's start.
async fn started(stored: &Stored) -> Plant {
    let mut plant = stored.plant();
    let started = plant.start_server_with(server_at(&stored.clock(MINUTE))).await;
    started.unwrap_or_else(|why| panic!("{}: {why}", stored.dir().display()));
    plant
}

fn text<'a>(stored: &'a Stored, name: &str) -> &'a str {
    stored.expected[name].as_str().unwrap()
}

fn nodes(stored: &Stored) -> i32 {
    stored.expected["nodes"].as_i64().unwrap().try_into().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_reads_all_that_an_older_one_has_stored_and_nothing_else() {
    for stored in Stored::all() {
        let seen = stored.seen().await;
        assert_eq!(
            says(&seen),
            says(&stored.expected["seen"]),
            "{}",
            stored.dir().display()
        );
    }
}

/// Readable when it differs.
fn says(value: &Value) -> String {
    format!("{value:#}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_gives_without_a_server_what_an_older_one_has_stored() {
    for stored in Stored::all() {
        let plant = stored.empty_plant();
        let mut node = stored.agent(&plant, "node");
        node.start_with(agent_at(&stored.clock(MINUTE))).await.unwrap();
        let mut client = node.client().await;
        let fetched = client.fetch_x509().await;
        let own = nix::unistd::geteuid().to_string();
        let users = stored.expected["users"].as_array().unwrap();
        // There are entries for those who usually run tests.
        if users.iter().any(|user| *user == own.as_str()) {
            let context = fetched.unwrap();
            assert_eq!(context.svids[0].id().path(), text(&stored, "path"));
            let other = TrustDomain::parse("other.test").unwrap();
            assert!(context.bundles.get(&other).is_some(), "the federated bundle");
            let token = client.fetch_jwt(&["receiver".to_owned()], None).await.unwrap();
            assert_eq!(token[0].id.path(), text(&stored, "path"));
        } else {
            assert_eq!(fetched.unwrap_err().code(), Some(tonic::Code::PermissionDenied));
        }
        plant.tear_down([node]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_clock_begins_in_1970_has_the_time_of_an_older_one() {
    for stored in Stored::all() {
        let plant = stored.empty_plant();
        let mut node = stored.agent(&plant, "node");
        let parts = AgentParts {
            clock: Arc::new(SimClock::new(UnixTime::from_secs(7))),
            ..agent_at(&stored.clock(MINUTE))
        };
        node.start_with(parts).await.unwrap();
        let time = node.status().await.time.unwrap();
        assert!(time.estimated, "{time:?}");
        // It was written a little before the rest.
        let at = stored.expected["at"].as_i64().unwrap();
        assert!(time.now > at - 600, "{time:?}");
        plant.tear_down([node]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_answers_with_all_that_an_older_one_has_stored() {
    for stored in Stored::all() {
        let plant = started(&stored).await;
        let admin = plant.admin().await;
        for then in spoken::read(&stored.dir().join("operators.json")) {
            let now = then.again(&admin, 1).await;
            assert_eq!(now.code, then.code, "{}", then.method);
            let all = says_all_of(&now.responses[0], &then.responses[0]);
            assert!(
                all,
                "{}: {:?}, and then {:?}",
                then.method, now.responses, then.responses
            );
        }
        plant.tear_down([]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_plant_of_an_older_version_goes_on() {
    for stored in Stored::all() {
        let plant = started(&stored).await;
        assert_eq!(plant.count_agents().await, nodes(&stored));
        let clock = stored.clock(MINUTE);
        let mut agents = Vec::new();
        for name in ["node", "banned", "new"] {
            let mut agent = stored.agent(&plant, name);
            agent.start_with(agent_at(&clock)).await.unwrap();
            agents.push(agent);
        }
        let [node, banned, new] = &agents[..] else {
            panic!("three")
        };
        let key = device_key(node);
        eventually("a node in step", async || {
            let status = node.status().await;
            let there = status.standing == "connected" && status.device_key.starts_with("registered");
            there
                .then_some(())
                .ok_or((status.standing_text, status.last_error, status.device_key))
        })
        .await;
        assert_eq!(device_key(node), key, "the one that the server knows");
        let added = plant.entry(node, "/line5/added-now", 3600).await;
        eventually("a new entry", async || {
            let status = node.status().await;
            let mut held = status.identities.iter().filter(|held| !held.serial.is_empty());
            held.any(|held| held.entry_id == added)
                .then_some(())
                .ok_or(status)
        })
        .await;
        // It has nothing left to prove what it was with.
        eventually("the refusal", async || match banned.status().await.last_error {
            error if error.contains("refused the join token") => Ok(()),
            error => Err(error),
        })
        .await;
        eventually(
            "the token that was never used, with the key of then",
            async || match new.status().await {
                status if status.agent_id == new.id => Ok(()),
                status => Err(status.last_error),
            },
        )
        .await;
        assert_eq!(plant.count_agents().await, nodes(&stored) + 1);
        plant.tear_down(agents).await;
    }
}

fn device_key(node: &NodeAgent) -> String {
    fs::read_to_string(node.data().join("device-key.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_an_older_version_is_put_back() {
    for stored in Stored::all() {
        let mut plant = stored.empty_plant();
        let file = stored.dir().join("server.backup");
        // A clone gives it to everybody, and whoever puts a backup back refuses such a key.
        let key = plant.path().join("backup.key");
        fs::copy(stored.dir().join("backup.key"), &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        let said = fs::read_to_string(stored.dir().join("backup.txt")).unwrap();
        let mut lines = said.lines();
        let fingerprint = lines.find_map(|line| line.trim().strip_prefix("fingerprint "));
        let words = [
            "--identity-file",
            key.to_str().unwrap(),
            "--trust",
            fingerprint.unwrap(),
            "--accept-rollback",
        ];
        let said = super::backup::put_back(&plant, &file, &words).await.unwrap();
        assert!(said.contains("WHAT WAS DECIDED SINCE"), "{said}");
        plant
            .start_server_with(server_at(&stored.clock(MINUTE)))
            .await
            .unwrap();
        assert_eq!(plant.count_agents().await, nodes(&stored));
        plant.tear_down([]).await;
    }
}

#[test]
fn the_steps_of_an_older_version_are_walked() {
    for stored in Stored::all() {
        let domain = TrustDomain::parse(text(&stored, "trust_domain")).unwrap();
        let path = |number: usize| stored.dir().join(format!("steps/{number}.step"));
        let mut steps = (1..).map_while(|number| fs::read(path(number)).ok());
        let first = SignedStep::from_bytes(&steps.next().unwrap()).unwrap();
        let mut walker = Walker::begin(domain, &first).unwrap();
        let mut walked = 0;
        for bytes in steps {
            walked += 1;
            let step = SignedStep::from_bytes(&bytes).unwrap();
            assert_eq!(walker.walk(&step).unwrap(), Walked::Onward);
            assert_eq!(step.to_bytes(), bytes, "what was signed is kept as it is");
        }
        assert!(walked > 0, "there is one step alone");
    }
}

/// Every conversation of a release: of agents with their server, and of operators.
fn conversations(stored: &Stored) -> Vec<spoken::Spoken> {
    let files = ["node.json", "operators.json"].map(|name| stored.dir().join(name));
    files.iter().flat_map(|file| spoken::read(file)).collect()
}

/// A field whose number or type is another now would be lost, or come back as another.
#[test]
fn every_message_that_was_ever_recorded_is_read_whole() {
    for stored in Stored::all() {
        for call in conversations(&stored) {
            let method = spoken::method(&call.method);
            let requests = call.requests.iter().map(|bytes| (&method.request, bytes));
            let responses = call.responses.iter().map(|bytes| (&method.response, bytes));
            for (kind, bytes) in requests.chain(responses) {
                let again = (kind.again)(bytes).unwrap_or_else(|why| panic!("{}: {why}", call.method));
                assert_eq!(
                    again,
                    bytes.to_vec(),
                    "{}: part of it is not understood",
                    call.method
                );
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_older_agent_asks_is_answered_with_all_that_it_was_answered_then() {
    for stored in Stored::all() {
        let plant = started(&stored).await;
        let clock = stored.clock(MINUTE);
        let (address, bundle) = (plant.address(), plant.handle().bundle());
        let speaker = identity(&stored.dir().join("speaker.json"));
        let node = connect(&address, &bundle, speaker, &clock).await.unwrap();
        let anybody = connect(&address, &bundle, None, &clock).await.unwrap();
        // What ends the SVID that the others are asked with comes last.
        let calls = spoken::read(&stored.dir().join("node.json"));
        let is_last = |call: &&spoken::Spoken| {
            call.method.ends_with("/AttestAgent") || call.method.ends_with("/RenewAgent")
        };
        let (last, first): (Vec<_>, Vec<_>) = calls.iter().partition(is_last);
        for then in first.into_iter().chain(last.into_iter().rev()) {
            let channel = if then.by == "node" { &node } else { &anybody };
            let sure = then.sure();
            let now = then.again(channel, sure.len()).await;
            assert_eq!(now.code, then.code, "{}", then.method);
            assert_eq!(now.responses.len(), sure.len(), "{}", then.method);
            for (now, old) in now.responses.iter().zip(sure) {
                assert!(has_all_of(now, old), "{}: {now:?}, and then {old:?}", then.method);
            }
            for name in then.answered_with.keys() {
                assert!(now.answered_with.contains_key(name), "{}: {name}", then.method);
            }
        }
        plant.tear_down([]).await;
    }
}

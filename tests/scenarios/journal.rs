//! AT-20: what happened on a node while its server was away is in the ledger afterwards, in order and whole; and a server whose ledger was put back is
//! found by its nodes.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use landfast_audit::verify::{DirSource, Kind, VerifierKey, read, verify};
use landfast_testkit::{NodeAgent, Plant, eventually};
use serde_json::Value;

/// What the ledger has of nodes, as far as a checkpoint names it.
fn forwarded(plant: &Plant) -> Vec<Value> {
    let mut records = Vec::new();
    let ended = read(
        &DirSource::new(&plant.server_data().join("ledger")),
        0,
        &mut |_, record| {
            let record: Value = serde_json::from_slice(record).unwrap();
            if record["type"].as_str().unwrap().starts_with("agent.") {
                records.push(record);
            }
            true
        },
    );
    // Its files may move on meanwhile.
    if ended.is_err() {
        records.clear();
    }
    records
}

fn of_type<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["type"] == kind).collect()
}

/// The number after the last: each number before has a record, or is counted by one.
fn whole(records: &[Value]) -> u64 {
    let mut next = 0;
    for record in records {
        let detail = &record["detail"];
        assert_eq!(detail["seq"], next, "{record}");
        next = detail["last"].as_u64().unwrap_or(next) + 1;
    }
    next
}

async fn holds(agent: &NodeAgent, count: usize) {
    eventually("the SVIDs at the agent", async || match agent.status().await {
        status
            if status
                .identities
                .iter()
                .filter(|held| !held.serial.is_empty())
                .count()
                == count =>
        {
            Ok(())
        }
        status => Err(status.identities.len()),
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_20_what_happened_while_the_server_was_away_is_in_its_ledger_in_order_and_whole() {
    let mut plant = Plant::new("").await;
    let mut agent = plant.agent("node", "").await;
    for number in 0..10 {
        plant.entry(&agent, &format!("/line4/{number}"), 3600).await;
    }
    holds(&agent, 10).await;
    plant.stop_server().await;
    // One that starts without its server is on an island at once.
    agent.stop().await;
    agent.start().await.unwrap();
    eventually("an island", async || match agent.status().await.standing {
        standing if standing == "islanded" => Ok(()),
        standing => Err(standing),
    })
    .await;
    // Ten allows, ten denials.
    let mut client = agent.client().await;
    assert_eq!(client.fetch_x509().await.unwrap().svids.len(), 10);
    let nobodys = landfast_identity::SpiffeId::parse("spiffe://plant.test/nobodys").unwrap();
    for _ in 0..10 {
        let denied = client.fetch_jwt(&["receiver".to_owned()], Some(&nobodys)).await;
        assert_eq!(denied.unwrap_err().code(), Some(tonic::Code::PermissionDenied));
    }
    drop(client);
    // And what is held survives the agent.
    agent.stop().await;
    agent.start().await.unwrap();
    plant.start_server().await.unwrap();
    let records = eventually("the end of the island in the ledger", async || {
        let records = forwarded(&plant);
        match of_type(&records, "agent.island-ended").len() {
            1 => Ok(records),
            _ => Err(records.len()),
        }
    })
    .await;
    whole(&records);
    let allowed = of_type(&records, "agent.handed-out");
    let mut subjects: Vec<_> = allowed
        .iter()
        .map(|record| record["subject"].as_str().unwrap())
        .collect();
    subjects.sort_unstable();
    let expected: Vec<_> = (0..10)
        .map(|number| format!("spiffe://plant.test/line4/{number}"))
        .collect();
    assert_eq!(subjects, expected);
    let denied = of_type(&records, "agent.denied");
    let repeated = |record: &&&Value| record["detail"]["repeated"].as_u64().unwrap_or(1);
    assert_eq!(denied.iter().map(|record| repeated(&record)).sum::<u64>(), 10);
    let me = u64::from(std::process::id());
    for record in allowed.iter().chain(&denied) {
        assert_eq!(record["actor"]["id"], agent.id.as_str());
        assert_eq!(record["detail"]["to_pid"], me);
    }
    assert!(
        allowed
            .iter()
            .all(|record| record["detail"]["standing"] == "islanded")
    );
    let began = records
        .iter()
        .position(|record| record["type"] == "agent.island-began");
    let first = records
        .iter()
        .position(|record| record["type"] == "agent.handed-out");
    assert!(began < first, "an island begins before what is given on it");
    assert_eq!(of_type(&records, "agent.started").len(), 3);
    assert!(of_type(&records, "agent.journal-hole").is_empty());

    // Nothing is there twice, whoever starts again.
    agent.stop().await;
    plant.stop_server().await;
    plant.start_server().await.unwrap();
    agent.start().await.unwrap();
    let records = eventually("the fourth start in the ledger", async || {
        let records = forwarded(&plant);
        match of_type(&records, "agent.started").len() {
            4 => Ok(records),
            found => Err(found),
        }
    })
    .await;
    whole(&records);
    eventually("nothing that waits", async || {
        match agent.status().await.journal {
            journal if journal.starts_with("all ") => Ok(()),
            journal => Err(journal),
        }
    })
    .await;
    plant.tear_down([agent]).await;
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).unwrap();
    for found in fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        match found.file_type().unwrap().is_dir() {
            true => copy(&found.path(), &to.join(found.file_name())),
            false => drop(fs::copy(found.path(), to.join(found.file_name())).unwrap()),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_whose_ledger_was_put_back_is_found_and_named_by_its_nodes() {
    let mut plant = Plant::new("").await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let first = eventually("a ledger that was seen", async || {
        match agent.status().await.ledger_seen {
            seen if seen.is_empty() => Err(seen),
            seen => Ok(seen),
        }
    })
    .await;
    plant.stop_server().await;
    let (ledger, old) = (plant.server_data().join("ledger"), plant.path().join("old"));
    copy(&ledger, &old);
    // Twice: what was put back has fewer records then, whatever the second in which they begin.
    plant.start_server().await.unwrap();
    plant.stop_server().await;
    plant.start_server().await.unwrap();
    eventually("more of it", async || match agent.status().await.ledger_seen {
        seen if seen == first => Err(seen),
        seen => Ok(seen),
    })
    .await;
    assert!(!agent.status().await.ledger_fork);
    plant.stop_server().await;
    fs::remove_dir_all(&ledger).unwrap();
    copy(&old, &ledger);
    plant.start_server().await.unwrap();
    let status = eventually("the fork", async || match agent.status().await {
        status if status.ledger_fork => Ok(status),
        status => Err(status.ledger_seen),
    })
    .await;
    let key = fs::read_to_string(ledger.join("verifier-key")).unwrap();
    let name = key.split('+').next().unwrap();
    assert!(
        status.ledger_seen.contains(&format!("FORK: {name}")),
        "{}",
        status.ledger_seen
    );
    assert_eq!(status.state, "serving", "nothing that is served depends on it");
    let fork = eventually("the record of it", async || {
        let records = forwarded(&plant);
        let found = of_type(&records, "agent.ledger-fork")
            .first()
            .map(|record| Value::clone(record));
        found.ok_or(records.len())
    })
    .await;
    assert_eq!(fork["actor"]["id"], agent.id.as_str());
    // Both checkpoints are in it: with the key they prove it to anybody.
    let verifier = VerifierKey::parse(&key).unwrap();
    let seen = verifier
        .checkpoint(fork["detail"]["seen"].as_str().unwrap().as_bytes())
        .unwrap();
    let shown = verifier
        .checkpoint(fork["detail"]["shown"].as_str().unwrap().as_bytes())
        .unwrap();
    assert_ne!(seen, shown);
    // By itself it looks whole: only a checkpoint that was kept elsewhere shows it.
    plant.stop_server().await;
    let report = verify(&DirSource::new(&ledger), &verifier, &[]);
    assert!(report.is_good(), "{:?}", report.findings);
    let kept = fork["detail"]["seen"].as_str().unwrap().as_bytes().to_vec();
    let report = verify(
        &DirSource::new(&ledger),
        &verifier,
        &[("a node's".to_owned(), kept)],
    );
    let kinds: Vec<_> = report.findings.iter().map(|found| found.kind).collect();
    assert!(
        matches!(kinds[..], [Kind::Fork | Kind::Truncation]),
        "{:?}",
        report.findings
    );
    plant.start_server().await.unwrap();
    plant.tear_down([agent]).await;
}

//! What operators and nodes do is in the ledger of a whole server, with who did it.

use serde_json::Value;

use super::returning::first_person;
use super::*;
use crate::ledger::tests::{read, report};

#[tokio::test]
async fn changes_are_recorded_with_who_made_them() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_owned();
    let rig = Rig::with(move |config| config.data_dir = Some(dir)).await;
    let node = rig.node().await;
    let made = rig.entry(&node.id, "/line/4", |_| ()).await;
    let mut entries = EntryClient::new(rig.admin().await);
    let ids = vec![made.id.clone()];
    let deleted = entries
        .batch_delete_entry(entry::BatchDeleteEntryRequest { ids })
        .await;
    deleted.unwrap();
    let mut agents = AgentClient::new(rig.admin().await);
    let id = Some(wire(&node.id));
    agents
        .ban_agent(agent::BanAgentRequest { id: id.clone() })
        .await
        .unwrap();
    agents
        .delete_agent(agent::DeleteAgentRequest { id })
        .await
        .unwrap();
    drop((entries, agents));
    let agent = node.id.to_string();
    drop(node);
    rig.tear_down().await;

    let dir = data.path().join("ledger");
    assert!(report(&dir).is_good());
    let records = read(&dir);
    let types: Vec<_> = records
        .iter()
        .filter_map(|record| record["type"].as_str())
        .collect();
    let changes: Vec<_> = types
        .iter()
        .filter(|kind| !kind.starts_with("svid.") && !kind.starts_with("authority."))
        .collect();
    assert_eq!(
        changes,
        [
            &"log.started",
            &"token.made",
            &"node.attested",
            &"entry.created",
            &"entry.deleted",
            &"node.banned",
            &"node.evicted",
            &"log.stopped"
        ]
    );
    let of = |kind: &str| records.iter().find(|record| record["type"] == kind).unwrap();
    let uid = Value::from(rustix::process::geteuid().as_raw());
    for kind in [
        "token.made",
        "entry.created",
        "entry.deleted",
        "node.banned",
        "node.evicted",
    ] {
        assert_eq!(of(kind)["actor"]["how"]["uid"], uid, "{kind}");
        assert!(of(kind)["actor"]["how"]["pid"].is_number(), "{kind}");
    }
    assert_eq!(of("node.attested")["actor"]["how"]["attestation"], "join_token");
    for kind in ["node.attested", "node.banned", "node.evicted"] {
        assert_eq!(of(kind)["subject"], agent, "{kind}");
    }
    let created = of("entry.created");
    assert_eq!(created["subject"], format!("spiffe://{}/line/4", td()));
    assert_eq!(created["detail"]["entry"], made.id);
    assert_eq!(created["detail"]["selectors"][0], "unix:uid:1000");
    assert_eq!(of("entry.deleted")["detail"]["entry"], made.id);
}

/// By a reference, never by a name; and a change of persons is one of the changes.
#[tokio::test]
async fn what_a_person_does_is_recorded_as_the_persons_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_owned();
    let rig = Rig::with(move |config| config.data_dir = Some(dir)).await;
    let node = rig.node().await;
    let anna = rig.tls(Some(rig.mint("/operations/anna").await)).await.unwrap();
    let person = first_person(&rig, "/operations/anna").await;
    let mut request = tonic::Request::new(agent::BanAgentRequest {
        id: Some(wire(&node.id)),
    });
    let why = landfast_proto::Reason::parse("stolen from the cabinet").unwrap();
    let why = why.to_metadata().parse().unwrap();
    request.metadata_mut().insert(landfast_proto::REASON, why);
    AgentClient::new(anna).ban_agent(request).await.unwrap();
    drop(node);
    rig.tear_down().await;

    let dir = data.path().join("ledger");
    assert!(report(&dir).is_good());
    let records = read(&dir);
    let of = |kind: &str| records.iter().find(|record| record["type"] == kind).unwrap();
    let added = of("person.changed");
    assert_eq!(added["subject"], person);
    assert_eq!(added["detail"]["alone"], true, "there was no second one");
    let banned = of("node.banned");
    assert_eq!(banned["actor"]["class"], "person");
    assert_eq!(banned["actor"]["id"], person);
    assert_eq!(
        banned["actor"]["how"]["id"],
        format!("spiffe://{}/operations/anna", td())
    );
    assert_eq!(banned["reason"], "stolen from the cabinet");
    assert!(records.iter().all(|record| !record.to_string().contains("Anna")));
}

#[tokio::test]
async fn who_is_refused_before_anybody_knows_who_it_is_has_one_record_a_minute() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_owned();
    let rig = Rig::with(move |config| config.data_dir = Some(dir)).await;
    let key = PrivateKey::generate().unwrap();
    for _ in 0..3 {
        let refused = rig
            .attest("join_token", b"guessed-by-somebody".to_vec(), &key)
            .await;
        refused.unwrap_err();
    }
    rig.tear_down().await;
    let records = read(&data.path().join("ledger"));
    let failed = records
        .iter()
        .filter(|record| record["type"] == "attestation.failed");
    let failed: Vec<_> = failed.collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["detail"]["times"], 3);
    assert_eq!(failed[0]["actor"]["how"]["address"], "127.0.0.1");
    assert_eq!(failed[0]["actor"]["class"], "unknown");
    assert_eq!(failed[0]["decision"], "deny");
    assert!(failed[0]["reason"].is_string());
    assert!(
        records
            .iter()
            .all(|record| !record.to_string().contains("guessed-by"))
    );
}

//! What a server does by itself.

use super::*;

#[tokio::test]
async fn a_database_that_was_put_back_is_recorded_when_it_is_noticed_and_at_each_start() {
    let rig = DiskRig::new();
    let core = rig.open().await;
    let deleted = entry(&core, draft("/spire/agent/x", "/deleted")).await;
    drop(core);
    let snapshot = tempfile::tempdir().unwrap();
    std::fs::copy(rig.database(), snapshot.path().join("db")).unwrap();
    let core = rig.open().await;
    core.registry.delete_entry(&deleted.id).await.unwrap();
    let sequence = core.datastore.journal().await.unwrap().sequence;
    let mark = crate::quarantine::state::Mark::new(core.registry.revision(), sequence);
    core.quarantine.keep(mark).await;
    drop(core);
    std::fs::copy(snapshot.path().join("db"), rig.database()).unwrap();
    drop(rig.open().await);
    drop(rig.open().await);
    let records = read(&rig.dir.path().join("ledger"));
    for kind in ["quarantine.began", "quarantine.holds"] {
        let found = of_type(&records, kind);
        assert_eq!(found.len(), 1, "{kind}");
        assert_eq!(found[0]["detail"]["cause"], "put-back");
        assert_eq!(found[0]["category"], "backup-restore");
        assert_eq!(found[0]["actor"]["class"], "server");
    }
    let made = of_type(&records, "authority.prepared");
    assert_eq!(made[0]["detail"]["key_event"], "generating");
    assert_eq!(made[0]["actor"]["class"], "server");
}

#[tokio::test]
async fn of_the_same_moment_the_later_record_has_the_later_time_and_a_clock_that_was_set_shows() {
    let faulty = Faulty::new();
    let at = |seconds: u64, kind: &'static str| Record {
        time: Some(START.saturating_add(Duration::from_secs(seconds))),
        kind,
        ..record()
    };
    for (seconds, kind) in [
        (100, "test.happened"),
        (98, "test.happened"),
        (50, "agent.started"),
        (101, "test.happened"),
        (97, "test.happened"),
    ] {
        faulty.ledger.append(vec![at(seconds, kind)]).await.unwrap();
    }
    let records = faulty.end();
    let times: Vec<_> = records
        .iter()
        .filter(|record| matches!(record["type"].as_str(), Some("test.happened" | "agent.started")))
        .map(|record| record["time"].as_str().unwrap().to_owned())
        .collect();
    let expected =
        [100, 100, 50, 101, 97].map(|seconds| START.saturating_add(Duration::from_secs(seconds)).to_string());
    assert_eq!(times, expected);
}

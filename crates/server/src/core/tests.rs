//! A data directory over its life.

use landfast_daemon::error_chain;
use landfast_identity::{BundleSet, verify_x509_svid};

use super::fixture::{DAY, DiskRig, Rig, START, agent, draft, entry, id, key, me};
use super::*;
use crate::registry::{AgentStanding, EntryFilter};

#[tokio::test(start_paused = true)]
async fn everything_is_there_after_a_restart() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let made = entry(&core, draft("/spire/agent/join_token/t", "/w")).await;
    core.registry
        .create_join_token(Some("t".into()), DAY, Some(id("/gateway")), START)
        .await
        .unwrap();
    core.registry
        .redeem_join_token("t", [1; 32], START)
        .await
        .unwrap();
    let mut node = agent("/spire/agent/join_token/t", "0a", &["k:1"]);
    node.key_hash = [1; 32];
    core.registry.upsert_agent_on_attest(node.clone()).await.unwrap();
    let issued = core.issuer.x509_for_entry(&me(), &made, &key()).await.unwrap();
    let before = (core.registry.revision(), core.authorities.bundle());
    drop(core);
    let core = disk.open().await;
    assert_eq!((core.registry.revision(), core.authorities.bundle()), before);
    assert_eq!(core.registry.entry(&made.id), Some(made));
    assert_eq!(*core.registry.agent(&node.id).unwrap(), node);
    assert_eq!(core.registry.authorized_entries(&node.id).len(), 2);
    assert_eq!(
        core.registry.standing(&node.id, "0a", START).await,
        AgentStanding::Active
    );
    assert_eq!(
        core.issuer.records(&id("/w")).await.unwrap()[0].serial,
        issued.serial_hex()
    );
    assert!(
        !core
            .registry
            .redeem_join_token("t", [1; 32], START)
            .await
            .unwrap()
            .first
    );
    assert!(
        core.registry
            .redeem_join_token("t", [2; 32], START)
            .await
            .is_err()
    );
}

#[tokio::test(start_paused = true)]
async fn a_directory_is_open_once() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let second = disk.try_open().await.unwrap_err();
    assert!(
        matches!(
            second,
            CoreError::Store {
                source: StoreError::InUse { .. }
            }
        ),
        "{second:?}"
    );
    // Whoever still holds a part of it holds the directory.
    let registry = Arc::clone(&core.registry);
    drop(core);
    assert!(disk.try_open().await.is_err());
    drop(registry);
    disk.open().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_gone_is_not_begun_anew() {
    for also_gone in [None, Some(MARKER), Some(KEYS)] {
        let disk = DiskRig::new();
        entry(&disk.open().await, draft("/spire/agent/x", "/w")).await;
        let saved = std::fs::read(disk.database()).unwrap();
        std::fs::remove_file(disk.database()).unwrap();
        match also_gone {
            Some(KEYS) => std::fs::remove_dir_all(disk.keys()).unwrap(),
            Some(file) => std::fs::remove_file(disk.dir.path().join(file)).unwrap(),
            None => {}
        }
        let refused = error_chain(&disk.try_open().await.unwrap_err());
        assert!(refused.contains(disk.database().to_str().unwrap()), "{refused}");
        assert!(refused.contains("restore it from a backup"), "{refused}");
        assert!(!disk.database().exists());
        if also_gone != Some(KEYS) {
            write(&disk.database(), &saved);
            assert_eq!(
                disk.open().await.registry.count_entries(&EntryFilter::default()),
                1,
                "a restored file is welcome"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_damaged_database_is_named() {
    let disk = DiskRig::new();
    entry(&disk.open().await, draft("/spire/agent/x", "/w")).await;
    let good = std::fs::read(disk.database()).unwrap();
    let name = disk.database();
    let mut flipped = good.clone();
    flipped[4096..8192].iter_mut().for_each(|b| *b ^= 0x5a);
    for bad in [
        b"not a database at all, but long enough to be looked at".to_vec(),
        good[..good.len() / 2].to_vec(),
        flipped,
    ] {
        write(&name, &bad);
        let refused = error_chain(&disk.try_open().await.unwrap_err());
        assert!(
            refused.contains(name.to_str().unwrap()) && refused.contains("restore"),
            "{refused}"
        );
        assert_eq!(
            std::fs::read(&name).unwrap(),
            bad,
            "it is left as it is, for whoever looks into it"
        );
    }
    write(&name, &good);
    let sql = rusqlite::Connection::open(&name).unwrap();
    sql.execute_batch("UPDATE authorities SET certificate = x'3000' WHERE kind = 'x509'")
        .unwrap();
    drop(sql);
    let refused = error_chain(&disk.try_open().await.unwrap_err());
    assert!(
        refused.contains(name.to_str().unwrap()) && refused.contains("restore"),
        "{refused}"
    );
}

#[tokio::test(start_paused = true)]
async fn another_trust_domain_does_not_open_this_directory() {
    let disk = DiskRig::new();
    drop(disk.open().await);
    let params = CoreParams {
        trust_domain: TrustDomain::parse("other.example").unwrap(),
        ..disk.params()
    };
    let refused = error_chain(&Core::open(params).await.unwrap_err());
    assert!(
        refused.contains("plant.example") && refused.contains("other.example"),
        "{refused}"
    );
    disk.open().await;
}

/// In real time: paused time runs ahead while the writer's thread works.
#[tokio::test]
async fn maintenance_rotates_by_itself() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let mut bundles = core.authorities.bundle_updates();
    bundles.mark_unchanged();
    disk.clock.step(15 * 86_400);
    let work = core.maintenance();
    let seen = async {
        while core.authorities.bundle().x509_authorities().len() != 2 {
            bundles.changed().await.unwrap();
        }
    };
    tokio::select! {
        () = work => panic!("maintenance ended"),
        done = tokio::time::timeout(Duration::from_secs(60), seen) => done.unwrap(),
    }
}

/// Maintenance for so many minutes, a look a minute.
async fn minutes(work: &mut maintenance::Maintenance, count: u32) {
    for _ in 0..count {
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(work.round().await.is_continue());
    }
}

#[tokio::test(start_paused = true)]
async fn a_leap_of_the_clock_that_is_mended_in_time_loses_nothing() {
    let rig = Rig::new().await;
    let mut work = rig.core.rounds();
    minutes(&mut work, 31).await;
    let mut short = draft("/spire/agent/x", "/w");
    short.expires_at = Some(START.saturating_add(DAY));
    let entry = entry(&rig.core, short).await;
    rig.core
        .registry
        .create_join_token(Some("t".into()), 2 * DAY, None, rig.now())
        .await
        .unwrap();
    let issued = rig
        .core
        .issuer
        .x509_for_entry(&me(), &entry, &key())
        .await
        .unwrap();
    let authority = rig.core.authorities.active_x509().unwrap().id.clone();
    for days in [2, 16, 26, 40, 100] {
        rig.clock.step(days * 86_400);
        minutes(&mut work, 29).await;
        rig.clock.step(-days * 86_400);
        minutes(&mut work, 1).await;
        assert_eq!(rig.core.authorities.active_x509().unwrap().id, authority);
        assert_eq!(rig.core.registry.entry(&entry.id), Some(Arc::clone(&entry)));
        assert_eq!(rig.core.issuer.records(&id("/w")).await.unwrap().len(), 1);
        let bundles = BundleSet::from_iter([(*rig.core.authorities.bundle()).clone()]);
        let leaf = issued.chain[0].as_der();
        verify_x509_svid(&[leaf], &bundles, issued.chain[0].not_before()).unwrap();
        rig.core.issuer.server_svid(&key()).await.unwrap();
        minutes(&mut work, 31).await;
    }
    rig.core
        .registry
        .redeem_join_token("t", [1; 32], rig.now())
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leap_that_holds_is_followed_after_half_an_hour() {
    let rig = Rig::new().await;
    let mut work = rig.core.rounds();
    minutes(&mut work, 31).await;
    let mut short = draft("/spire/agent/x", "/w");
    short.expires_at = Some(START.saturating_add(DAY));
    let entry = entry(&rig.core, short).await;
    let first = rig.core.authorities.active_x509().unwrap().id.clone();
    rig.step(40 * DAY);
    minutes(&mut work, 1).await;
    assert_ne!(
        rig.core.authorities.active_x509().unwrap().id,
        first,
        "somebody signs at once"
    );
    rig.core.issuer.server_svid(&key()).await.unwrap();
    minutes(&mut work, 29).await;
    assert!(rig.core.registry.entry(&entry.id).is_some());
    assert_eq!(rig.core.authorities.bundle().x509_authorities().len(), 2);
    minutes(&mut work, 1).await;
    assert!(rig.core.registry.entry(&entry.id).is_none(), "pruned");
    assert_eq!(rig.core.authorities.bundle().x509_authorities().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_starts_with_a_wrong_clock_loses_nothing() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let mut short = draft("/spire/agent/x", "/w");
    short.expires_at = Some(START.saturating_add(DAY));
    let entry = entry(&core, short).await;
    let first = core.authorities.active_x509().unwrap().id.clone();
    drop(core);
    disk.clock.step(40 * 86_400);
    let core = disk.open().await;
    core.issuer.server_svid(&key()).await.unwrap();
    let mut work = core.rounds();
    minutes(&mut work, 29).await;
    disk.clock.step(-40 * 86_400);
    minutes(&mut work, 31).await;
    assert_eq!(core.authorities.active_x509().unwrap().id, first);
    assert!(core.registry.entry(&entry.id).is_some());
    core.issuer.server_svid(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_evicted_or_banned_counts_no_more_among_the_skewed() {
    let rig = Rig::new().await;
    let mut said = tonic::metadata::MetadataMap::new();
    said.insert(landfast_proto::speaks::SPEAKS, "landfast/99.0.0".parse().unwrap());
    let nodes = ["/spire/agent/x/1", "/spire/agent/x/2", "/spire/agent/x/3"];
    for (node, serial) in nodes.iter().zip(["0a", "0b", "0c"]) {
        let record = agent(node, serial, &["x:node:1"]);
        rig.core.registry.upsert_agent_on_attest(record).await.unwrap();
        rig.core.peers.note(&id(node), &said, None);
    }
    let known = || nodes.map(|node| rig.core.peers.get(&id(node)).is_some());
    let mut work = rig.core.rounds();
    assert!(work.round().await.is_continue());
    assert_eq!(known(), [true; 3]);
    rig.core.registry.delete_agent(&id(nodes[0])).await.unwrap();
    rig.core.registry.ban_agent(&id(nodes[1])).await.unwrap();
    assert!(work.round().await.is_continue());
    assert_eq!(known(), [false, false, true]);
}

#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

//! A registry that goes back, and what is still done then.

use std::fs;
use std::path::Path;

use landfast_identity::chain::{ChainError, SignedStep, Walked, Walker};
use landfast_identity::{SpiffeId, VerifiedPeer};
use landfast_lifecycle::Clock as _;
use landfast_proto::landfast::entry::v1 as entry_pb;
use landfast_proto::landfast::sync::v1::{HeldEntry, SubscribeRequest};

use super::*;
use crate::authority::{Kind, Order};
use crate::chain::{Chain, RootKeyConfig};
use crate::core::Core;
use crate::core::fixture::{DiskRig, START, agent, copy, draft, entry, id, key, me, td};
use crate::datastore::StepPlace;
use crate::issuance::{IssueError, Requester};
use crate::registry::{Entry, Revision};

const NODE: &str = "/spire/agent/x/1";

fn mark(core: &Core) -> Mark {
    Mark::new(core.registry.revision(), core.authorities.bundle().sequence())
}

/// Puts a copy in the place of all that there is.
fn put_back(snapshot: &Path, disk: &DiskRig) {
    for found in fs::read_dir(disk.dir.path()).unwrap() {
        let path = found.unwrap().path();
        match path.is_dir() {
            true => fs::remove_dir_all(path).unwrap(),
            false => fs::remove_file(path).unwrap(),
        }
    }
    copy(snapshot, disk.dir.path());
}

async fn end(core: &Core, accept_rollback: bool) -> Result<usize, EndError> {
    let order = End {
        by: "me",
        reason: "I have looked",
        accept_rollback,
    };
    core.quarantine
        .end(&order, &core.registry, &core.authorities)
        .await
}

/// A node that has attested; what it shows.
async fn enrolled(core: &Core, path: &str) -> VerifiedPeer {
    let who = Requester::attestation("x");
    let issued = core.issuer.agent_svid(&who, &id(path), &key()).await.unwrap();
    let record = agent(path, &issued.serial_hex(), &["x:node:1"]);
    core.registry.upsert_agent_on_attest(record).await.unwrap();
    VerifiedPeer {
        id: issued.id.clone(),
        serial_hex: issued.serial_hex(),
        not_after: issued.not_after,
        leaf: issued.chain[0].clone(),
    }
}

fn is_held(outcome: &Result<impl Sized, IssueError>) -> bool {
    matches!(outcome, Err(IssueError::Quarantine { .. }))
}

#[tokio::test(start_paused = true)]
async fn a_database_that_was_put_back_is_noticed_and_nothing_is_signed_until_somebody_has_looked() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let kept = entry(&core, draft(NODE, "/kept")).await;
    let deleted = entry(&core, draft(NODE, "/deleted")).await;
    drop(core);
    let snapshot = tempfile::tempdir().unwrap();
    fs::copy(disk.database(), snapshot.path().join("db")).unwrap();
    let core = disk.open().await;
    core.registry.delete_entry(&deleted.id).await.unwrap();
    let newest = mark(&core);
    core.quarantine.keep(newest).await;
    drop(core);
    fs::copy(snapshot.path().join("db"), disk.database()).unwrap();

    let core = disk.open().await;
    let told = core.authorities.current().unwrap_err().to_string();
    assert!(
        told.contains("was put back without landfast-server restore"),
        "{told}"
    );
    assert!(is_held(&core.issuer.x509_for_entry(&me(), &kept, &key()).await));
    let audience = ["a".to_owned()];
    assert!(is_held(&core.issuer.jwt_for_entry(&me(), &kept, &audience).await));
    assert!(is_held(&core.issuer.agent_svid(&me(), &id(NODE), &key()).await));
    // Its own handshakes go on: operators and nodes have to reach it.
    core.issuer.server_svid(&key()).await.unwrap();
    core.quarantine.keep(mark(&core)).await;
    drop(core);

    // A restart changes nothing, nor does what was noted meanwhile.
    let core = disk.open().await;
    assert!(core.quarantine.holds());
    assert!(matches!(end(&core, false).await, Err(EndError::NotKnown)));
    assert!(core.quarantine.holds());
    end(&core, true).await.unwrap();
    core.authorities.current().unwrap();
    core.issuer.x509_for_entry(&me(), &kept, &key()).await.unwrap();
    // Whoever has seen the registry of before takes this for newer.
    let now = mark(&core);
    assert!(
        now.epoch > newest.epoch && now.sequence > newest.sequence,
        "{now:?}"
    );
    assert!(matches!(end(&core, true).await, Err(EndError::None)));
    drop(core);
    let core = disk.open().await;
    assert!(!core.quarantine.holds());
    assert_eq!(mark(&core).epoch, now.epoch);
}

#[tokio::test(start_paused = true)]
async fn an_svid_of_ours_without_a_record_shows_that_the_disk_was_put_back() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let old = enrolled(&core, NODE).await;
    core.quarantine.keep(mark(&core)).await;
    drop(core);
    let snapshot = tempfile::tempdir().unwrap();
    copy(disk.dir.path(), snapshot.path());
    disk.clock.step(3600);
    let core = disk.open().await;
    let lost = enrolled(&core, "/spire/agent/x/2").await;
    core.quarantine.look(&old, &core.registry).await;
    core.quarantine.look(&lost, &core.registry).await;
    assert!(!core.quarantine.holds(), "the control: both are recorded");
    drop(core);
    put_back(snapshot.path(), &disk);

    let core = disk.open().await;
    assert!(!core.quarantine.holds(), "nothing on the disk says so");
    core.quarantine.look(&old, &core.registry).await;
    assert!(!core.quarantine.holds());
    // Signed elsewhere: a server below this one keeps records of its own.
    let mut elsewhere = lost.clone();
    elsewhere.leaf = crate::core::fixture::Rig::new()
        .await
        .core
        .issuer
        .agent_svid(&me(), &id(NODE), &key())
        .await
        .unwrap()
        .chain[0]
        .clone();
    elsewhere.serial_hex = "0e".to_owned();
    core.quarantine.look(&elsewhere, &core.registry).await;
    assert!(!core.quarantine.holds());
    core.quarantine.look(&lost, &core.registry).await;
    let told = core.authorities.current().unwrap_err().to_string();
    assert!(
        told.contains(lost.id.as_str()) && told.contains(&lost.serial_hex),
        "{told}"
    );
    let epoch = core.registry.revision().epoch;
    end(&core, true).await.unwrap();
    assert!(core.registry.revision().epoch > epoch);
    // What was issued until then is accepted as lost, also after a restart.
    core.quarantine.look(&lost, &core.registry).await;
    assert!(!core.quarantine.holds());
    drop(core);
    let core = disk.open().await;
    core.quarantine.look(&lost, &core.registry).await;
    assert!(!core.quarantine.holds());
    // A node that was renewed meanwhile may show it; one that it had before may not.
    let node = core.registry.agent(&id(NODE)).unwrap();
    assert!(node.may_have_renewed(lost.leaf.not_before()));
    assert!(
        !node.may_have_renewed(
            old.leaf
                .not_before()
                .saturating_sub(std::time::Duration::from_secs(1))
        )
    );
}

/// A rotation lay in what was lost: nodes stand on a step that was made anew otherwise.
#[tokio::test(start_paused = true)]
async fn a_chain_that_was_put_back_and_forked_is_left_for_the_epoch_of_the_end() {
    let (disk, root) = (DiskRig::new(), tempfile::tempdir().unwrap());
    let chain = |core: &Core| {
        let config = RootKeyConfig::File(root.path().join("root.key"));
        let parts = (Arc::clone(&core.authorities), Arc::clone(&core.registry));
        Chain::new(
            &config,
            parts,
            Arc::clone(&core.datastore),
            Arc::new(disk.clock.clone()),
        )
    };
    let prepare = async |core: &Core| {
        let before = core.authorities.bundle().sequence();
        let order = Order::Prepare(Kind::Jwt);
        core.authorities
            .order(&order, disk.clock.now().unwrap())
            .await
            .unwrap();
        assert!(core.authorities.bundle().sequence() > before);
        chain(core).make().await.unwrap();
        core.datastore.newest_step().await.unwrap().unwrap()
    };
    let core = disk.open().await;
    chain(&core).make().await.unwrap();
    let first = core.datastore.newest_step().await.unwrap().unwrap();
    core.quarantine.keep(mark(&core)).await;
    drop(core);
    let snapshot = tempfile::tempdir().unwrap();
    copy(disk.dir.path(), snapshot.path());
    disk.clock.step(3600);
    let core = disk.open().await;
    let lost = enrolled(&core, NODE).await;
    let step = prepare(&core).await;
    let mut node = Walker::begin(td(), &first).unwrap();
    assert_eq!(node.walk(&step).unwrap(), Walked::Onward);
    drop(core);
    put_back(snapshot.path(), &disk);

    let core = disk.open().await;
    let other = prepare(&core).await;
    assert!(matches!(node.walk(&other), Err(ChainError::Forked { .. })));
    core.quarantine.look(&lost, &core.registry).await;
    assert!(core.quarantine.holds());
    drop(chain(&core).make().await);
    let newest = core.datastore.newest_step().await.unwrap().unwrap();
    assert_eq!(newest, other, "in quarantine nothing is signed");
    end(&core, true).await.unwrap();
    chain(&core).make().await.unwrap();
    // As a node asks that has met the fork.
    let beyond = StepPlace {
        epoch: node.position().epoch + 1,
        sequence: 0,
    };
    let (steps, more) = chain(&core).steps(beyond, usize::MAX).await.unwrap();
    let [last] = &steps[..] else {
        panic!("{}", steps.len())
    };
    let last = SignedStep::from_bytes(last).unwrap();
    assert_eq!(node.walk(&last).unwrap(), Walked::NewEpoch);
    assert!(!more && last.step().bundle.content_eq(&core.authorities.bundle()));
}

/// Restored by a program of before there was a quarantine, say.
#[tokio::test(start_paused = true)]
async fn what_was_lost_before_anything_was_noted_alarms_nobody() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    drop(core);
    let snapshot = tempfile::tempdir().unwrap();
    copy(disk.dir.path(), snapshot.path());
    let core = disk.open().await;
    let lost = enrolled(&core, NODE).await;
    drop(core);
    put_back(snapshot.path(), &disk);
    for _ in 0..2 {
        let core = disk.open().await;
        core.quarantine.look(&lost, &core.registry).await;
        assert!(!core.quarantine.holds());
    }
}

#[tokio::test(start_paused = true)]
async fn what_one_node_says_of_newer_things_stops_no_plant_and_what_three_say_does() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let nodes: Vec<String> = (0..5).map(|n| format!("/spire/agent/x/{n}")).collect();
    for (node, serial) in nodes.iter().zip(["0a", "0b", "0c", "0d", "0e"]) {
        core.registry
            .upsert_agent_on_attest(agent(node, serial, &["x:node:1"]))
            .await
            .unwrap();
    }
    let seen = Revision {
        number: 9999,
        ..core.registry.revision()
    };
    for node in [0, 0, 0, 1, 1] {
        let node = id(&nodes[node]);
        core.quarantine.claim(&node, seen, &core.registry).await;
        assert!(!core.quarantine.holds());
    }
    core.quarantine.claim(&id(&nodes[2]), seen, &core.registry).await;
    let told = core.authorities.current().unwrap_err().to_string();
    assert!(
        nodes[..3].iter().all(|node| told.contains(node.as_str())),
        "{told}"
    );
}

#[tokio::test(start_paused = true)]
async fn of_a_plant_with_one_node_its_word_counts() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    enrolled(&core, NODE).await;
    let seen = Revision {
        number: 9999,
        ..core.registry.revision()
    };
    core.quarantine.claim(&id(NODE), seen, &core.registry).await;
    assert!(core.quarantine.holds());
    // In memory nothing can go back.
    let rig = crate::core::fixture::Rig::new().await;
    rig.core
        .quarantine
        .claim(&id(NODE), seen, &rig.core.registry)
        .await;
    assert!(!rig.core.quarantine.holds());
}

#[tokio::test(start_paused = true)]
async fn while_its_file_cannot_be_written_it_holds_and_does_not_end() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    enrolled(&core, NODE).await;
    // No file takes the place of a directory.
    let file = disk.dir.path().join(FILE);
    fs::create_dir(&file).unwrap();
    let seen = Revision {
        number: 9999,
        ..core.registry.revision()
    };
    core.quarantine.claim(&id(NODE), seen, &core.registry).await;
    assert!(core.quarantine.holds());
    assert!(matches!(end(&core, true).await, Err(EndError::Store(_))));
    assert!(core.quarantine.holds());
    fs::remove_dir(&file).unwrap();
    core.quarantine.keep(mark(&core)).await;
    drop(core);
    let core = disk.open().await;
    assert!(core.quarantine.holds(), "it was written as soon as that could be");
    end(&core, true).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_that_cannot_be_read_holds() {
    let disk = DiskRig::new();
    drop(disk.open().await);
    replace(
        &DirFiles::new(File::open(disk.dir.path()).unwrap().into()),
        FILE,
        b"{\"causes\":",
    )
    .unwrap();
    let core = disk.open().await;
    let told = core.authorities.current().unwrap_err().to_string();
    assert!(told.contains("quarantine.json"), "{told}");
    end(&core, true).await.unwrap();
    drop(core);
    assert!(!disk.open().await.quarantine.holds());
}

fn said(newest: Revision, held: &[(&Entry, u64)]) -> SubscribeRequest {
    SubscribeRequest {
        newest: Some(entry_pb::Revision {
            epoch: newest.epoch,
            number: newest.number,
        }),
        entries: held
            .iter()
            .map(|(entry, version)| HeldEntry {
                id: entry.id.clone(),
                version: *version,
            })
            .collect(),
        bundles: Vec::new(),
    }
}

/// What operators are shown: kind and object.
fn found(core: &Core) -> Vec<(&'static str, String)> {
    let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
    let found = report.findings.into_iter();
    found
        .map(|finding| (finding.kind.as_str(), finding.object))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_node_has_seen_taken_away_is_shown_until_it_is_taken_away_again() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    enrolled(&core, NODE).await;
    let [same, gone, changed] = [
        entry(&core, draft(NODE, "/same")).await,
        entry(&core, draft(NODE, "/gone")).await,
        entry(&core, draft(NODE, "/changed")).await,
    ];
    let now = core.registry.revision();
    let newer = Revision {
        number: now.number + 5,
        ..now
    };
    // As it was told them.
    let wire = |number: u64| now.epoch.wrapping_shl(32) + number;
    let version = |entry: &Entry| wire(core.registry.version_of(&entry.id).unwrap());
    core.quarantine.claim(&id(NODE), newer, &core.registry).await;
    // The operator's, meanwhile.
    entry(&core, draft(NODE, "/new")).await;
    let hear = |newest, held: &[(&Entry, u64)]| {
        let node: SpiffeId = id(NODE);
        let view = core.registry.view(&node);
        core.quarantine.heard(&node, &said(newest, held), &view);
    };
    // It has seen no more than there is; it has forgotten what it held.
    hear(now, &[(&same, version(&same))]);
    hear(newer, &[]);
    assert_eq!(found(&core), []);
    hear(newer, &[(&same, version(&same)), (&changed, wire(newer.number))]);
    let expected = [
        ("entry-deleted", gone.id.clone()),
        ("entry-changed", changed.id.clone()),
    ];
    assert_eq!(found(&core), expected);
    assert!(matches!(
        end(&core, false).await,
        Err(EndError::ComesBack { count: 2 })
    ));
    core.registry.delete_entry(&gone.id).await.unwrap();
    core.registry.delete_entry(&changed.id).await.unwrap();
    assert_eq!(found(&core), []);
    // A node may have seen less than there was.
    assert!(matches!(end(&core, false).await, Err(EndError::NotKnown)));
    assert_eq!(end(&core, true).await.unwrap(), 0);
    let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
    assert_eq!(
        (report.ended[0].by.as_str(), report.ended[0].reason.as_str()),
        ("me", "I have looked")
    );
}

#[tokio::test(start_paused = true)]
async fn evidence_is_bounded() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let peer = enrolled(&core, NODE).await;
    let seen = Revision {
        number: 9999,
        ..core.registry.revision()
    };
    core.quarantine.claim(&id(NODE), seen, &core.registry).await;
    for n in 0..state::MAX_FINDINGS + 10 {
        let stranger = VerifiedPeer {
            id: id(&format!("/spire/agent/x/new-{n}")),
            ..peer.clone()
        };
        core.quarantine.saw(&stranger, None);
    }
    assert_eq!(found(&core).len(), state::MAX_FINDINGS);
    // A workload is no node.
    assert!(START < peer.not_after);
}

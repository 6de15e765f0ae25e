//! The whole machine goes back: what a root key has signed proves it, also where it leads nowhere; and nothing else does.

use super::*;

pub(super) struct Snapshot(TempDir);

impl Snapshot {
    /// Of a machine that stands still.
    pub(super) fn of(plant: &Plant) -> Self {
        let snapshot = tempfile::tempdir().unwrap();
        copy(plant.site.disk.dir.path(), snapshot.path());
        Self(snapshot)
    }

    pub(super) async fn put_back(&self, plant: &Plant) -> Core {
        fs::remove_dir_all(plant.site.disk.dir.path()).unwrap();
        copy(self.0.path(), plant.site.disk.dir.path());
        let core = plant.site.disk.open().await;
        assert!(!core.quarantine.holds());
        core
    }
}

fn gone(core: &Core) -> usize {
    let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
    let mut kinds = report.findings.iter().map(|finding| finding.kind.as_str());
    kinds.by_ref().filter(|kind| *kind == "authority-gone").count()
}

/// Whoever stands on a step that was lost is led on by the next.
fn leads_on(from: &SignedStep, to: &SignedStep) {
    let mut awake = Walker::begin(td(), from).unwrap();
    assert_eq!(awake.walk(to).unwrap(), Walked::NewEpoch);
}

#[tokio::test(start_paused = true)]
async fn a_change_of_root_keys_that_was_lost_with_the_machine_is_proof_though_nobody_has_agreed() {
    let mut plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    drop(core);
    let snapshot = Snapshot::of(&plant);
    let core = plant.site.disk.open().await;
    let (new, thief) = (
        RootPrivateKey::generate().unwrap(),
        RootPrivateKey::generate().unwrap(),
    );
    let changed = plant.change_to(&core, &new).await;
    drop(core);
    for offline in [false, true] {
        plant.offline = offline;
        let core = snapshot.put_back(&plant).await;
        let (chain, node) = (plant.chain(&core), id(NODE));
        let show = |step: &SignedStep| chain.take(&core.quarantine, &node, vec![step.clone()]);
        let strangers = forge(&first, &[&thief], |step| {
            step.root_keys = vec![thief.public_key()]
        });
        assert!(show(&strangers).await.is_err());
        assert!(!show(&first).await.unwrap());
        assert!(!core.quarantine.holds(), "anybody can show these");
        assert!(matches!(show(&changed).await, Err(MakeError::NotAgreed { .. })));
        assert!(core.quarantine.holds());
        end(&core).await;
        assert!(matches!(chain.make().await, Err(MakeError::NotAgreed { .. })));
        // No dead end: there is a next step, and it is later than what was lost.
        let mut next = chain.outlook(vec![new.public_key()]).await.unwrap().next.unwrap();
        next.sign(&new).unwrap();
        chain.import(next).await.unwrap();
        leads_on(&changed, &newest(&core).await);
        is_walked_from(&plant, &core, &first).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_fork_is_proof_though_our_own_side_of_it_is_the_longer_one() {
    let plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    drop(core);
    let snapshot = Snapshot::of(&plant);
    let core = plant.site.disk.open().await;
    let lost = plant.step(&core).await;
    drop(core);
    let core = snapshot.put_back(&plant).await;
    let (second, third) = (plant.step(&core).await, plant.step(&core).await);
    let thief = RootPrivateKey::generate().unwrap();
    let strangers = forge(&first, &[&thief], |_| {});
    for old in [
        vec![&first],
        vec![&second],
        vec![&first, &second, &third],
        vec![&strangers],
        vec![&third, &first],
    ] {
        assert!(!plant.show(&core, &old).await.unwrap());
        assert!(!core.quarantine.holds(), "true and known, or a stranger's");
    }
    assert!(!plant.show(&core, &[&first, &lost]).await.unwrap());
    assert!(core.quarantine.holds());
    assert_eq!(gone(&core), 0, "what was made on our side was never revoked");
    end(&core).await;
    plant.chain(&core).make().await.unwrap();
    leads_on(&lost, &newest(&core).await);
    assert!(!plant.show(&core, &[&first, &lost]).await.unwrap());
    assert!(!core.quarantine.holds(), "it is of an epoch that is over");
}

#[tokio::test(start_paused = true)]
async fn a_fork_is_proof_though_root_keys_were_changed_after_it() {
    let plant = Plant::new();
    let (core, _, _) = plant.begin().await;
    drop(core);
    let snapshot = Snapshot::of(&plant);
    let core = plant.site.disk.open().await;
    let (old, new) = (plant.own(), RootPrivateKey::generate().unwrap());
    let changed = plant.change_to(&core, &new).await;
    plant.put(&new);
    let last = plant.step(&core).await;
    drop(core);
    plant.put(&old);
    let core = snapshot.put_back(&plant).await;
    plant.step(&core).await;
    assert!(plant.show(&core, &[&last]).await.is_err());
    assert!(!core.quarantine.holds(), "nobody here knows who has signed that");
    assert!(plant.show(&core, &[&changed, &last]).await.is_err());
    assert!(core.quarantine.holds());
}

/// It was stolen: that is why it was replaced.
#[tokio::test(start_paused = true)]
async fn a_root_key_that_was_replaced_proves_nothing() {
    let plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    let (old, new) = (plant.own(), RootPrivateKey::generate().unwrap());
    let changed = plant.change_to(&core, &new).await;
    plant.put(&new);
    let last = plant.step(&core).await;
    let in_our_place = forge(&first, &[&old], |_| {});
    let after = forge(&last, &[&old], |_| {});
    assert!(
        !plant
            .show(&core, &[&first, &changed, &in_our_place])
            .await
            .unwrap()
    );
    assert!(plant.show(&core, &[&in_our_place, &after]).await.is_err());
    assert!(!core.quarantine.holds());
}

#[tokio::test(start_paused = true)]
async fn where_no_step_is_known_our_own_root_key_proves_and_others_claim_nothing() {
    let plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    drop(core);
    let database = rusqlite::Connection::open(plant.site.disk.database()).unwrap();
    database.execute("DELETE FROM chain_steps", []).unwrap();
    drop(database);
    let snapshot = Snapshot::of(&plant);
    let core = snapshot.put_back(&plant).await;
    let chain = plant.chain(&core);
    let thief = RootPrivateKey::generate().unwrap();
    let strangers = forge(&first, &[&thief], |step| {
        (step.sequence, step.previous) = (1, None);
        step.root_keys = vec![thief.public_key()];
    });
    let refused = chain.take(&core.quarantine, &id(NODE), vec![strangers]).await;
    assert!(matches!(refused, Err(MakeError::NotOurs)), "{refused:?}");
    assert!(!core.quarantine.holds());
    chain.make().await.unwrap();
    assert_eq!(newest(&core).await.step().root_keys, [plant.own().public_key()]);
    drop((chain, core));
    let core = snapshot.put_back(&plant).await;
    assert!(plant.show(&core, &[&first]).await.unwrap());
    assert!(core.quarantine.holds());
}

/// Restored by a clock that was behind: nodes have seen a later epoch than it began.
#[tokio::test(start_paused = true)]
async fn a_restoration_that_began_no_later_epoch_than_nodes_have_seen_is_followed_by_another() {
    let plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    plant.site.disk.clock.step(7200);
    let now = plant.site.disk.clock.now().unwrap().as_secs().unsigned_abs();
    let later = forge(&first, &[&plant.own()], |step| step.epoch = now - 3600);
    assert!(later.step().epoch > core.registry.revision().epoch);
    assert!(plant.show(&core, &[&later]).await.unwrap());
    end(&core).await;
    plant.chain(&core).make().await.unwrap();
    assert!(core.registry.revision().epoch > later.step().epoch);
    leads_on(&later, &newest(&core).await);
}

/// Adopted before that was noticed: nothing but the chain says so.
#[tokio::test(start_paused = true)]
async fn the_end_begins_an_epoch_after_that_of_the_chain_whatever_the_clock_shows() {
    let plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    let now = plant.site.disk.clock.now().unwrap().as_secs().unsigned_abs();
    let later = forge(&first, &[&plant.own()], |step| step.epoch = now + 3600);
    let added = core
        .datastore
        .append_step(Some(first.digest()), Arc::new(later.clone()));
    assert!(added.await.unwrap());
    end(&core).await;
    assert!(core.registry.revision().epoch > later.step().epoch);
    plant.chain(&core).make().await.unwrap();
    leads_on(&later, &newest(&core).await);
}

/// Who follows the bundle over HTTPS knows no epochs.
#[tokio::test(start_paused = true)]
async fn after_a_proof_over_a_gap_the_bundle_is_newer_than_what_was_lost() {
    let plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    drop(core);
    let snapshot = Snapshot::of(&plant);
    let core = snapshot.put_back(&plant).await;
    let lost = forge(&first, &[&plant.own()], |step| {
        step.sequence += 10;
        step.previous = Some([7; 32]);
        step.bundle = step.bundle.clone().with_sequence(5_000_000);
    });
    assert!(!plant.show(&core, &[&lost]).await.unwrap());
    assert!(core.quarantine.holds());
    drop(core);
    // It is kept.
    let core = plant.site.disk.open().await;
    end(&core).await;
    assert!(core.authorities.bundle().sequence() > 5_000_000);
}

//! Files that are carried to a safe and back, and others' claims while an operator decides. T-46d.

use super::rollback::Snapshot;
use super::*;

/// Something to sign.
async fn change(plant: &Plant, core: &Core) {
    let now = plant.site.disk.clock.now().unwrap();
    let order = Order::Prepare(Kind::Jwt);
    core.authorities.order(&order, now).await.unwrap();
}

/// What an operator carries away, and has signed.
async fn signed(plant: &Plant, core: &Core) -> SignedStep {
    let outlook = plant.chain(core).outlook(Vec::new()).await.unwrap();
    let mut next = outlook.next.unwrap();
    next.sign(&plant.own()).unwrap();
    next
}

async fn is_nobodys(plant: &Plant, core: &Core, steps: &[&SignedStep]) {
    let before = newest(core).await;
    let refused = plant.show(core, steps).await;
    assert!(matches!(refused, Err(MakeError::Outdated)), "{refused:?}");
    assert!(!core.quarantine.holds());
    assert_eq!(newest(core).await.digest(), before.digest());
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_signed_elsewhere_is_nobodys_to_show_until_it_is_imported() {
    let mut plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    plant.offline = true;
    change(&plant, &core).await;
    let lies_about = signed(&plant, &core).await;
    assert_eq!(
        signed(&plant, &core).await.digest(),
        plant
            .chain(&core)
            .outlook(Vec::new())
            .await
            .unwrap()
            .next
            .map_or([0; 32], |next| next.digest()),
        "within a second it is the same; after a restart of the server another"
    );
    change(&plant, &core).await;
    let refused = plant.chain(&core).import(lies_about.clone()).await;
    assert!(matches!(refused, Err(MakeError::Outdated)), "{refused:?}");
    is_nobodys(&plant, &core, &[&lies_about]).await;
    let next = signed(&plant, &core).await;
    is_nobodys(&plant, &core, &[&first, &next]).await;
    plant.chain(&core).import(next.clone()).await.unwrap();
    assert!(!plant.show(&core, &[&first, &next]).await.unwrap());
    assert!(!core.quarantine.holds());
    // It has the place of another that was imported.
    is_nobodys(&plant, &core, &[&first, &lies_about]).await;
    drop(core);
    let core = plant.site.disk.open().await;
    is_nobodys(&plant, &core, &[&lies_about]).await;
    // Signed later, by somebody who has the root key and no server's file: that is proof, and it is not of this server.
    let other = forge(&next, &[&plant.own()], |_| {});
    assert!(plant.show(&core, &[&other]).await.unwrap());
    assert!(core.quarantine.holds());
}

#[tokio::test(start_paused = true)]
async fn a_step_that_was_imported_and_lost_is_proof_and_taken_all_the_same() {
    let mut plant = Plant::new();
    let (core, backup, _) = plant.begin().await;
    plant.offline = true;
    drop(core);
    let snapshot = Snapshot::of(&plant);
    let core = plant.site.disk.open().await;
    change(&plant, &core).await;
    let lost = signed(&plant, &core).await;
    plant.chain(&core).import(lost.clone()).await.unwrap();
    drop(core);
    // The database alone went back: what is noted beside it stays.
    let core = plant.restore_on_nothing(&backup).await;
    assert!(plant.show(&core, &[&lost]).await.unwrap());
    drop(core);
    let core = snapshot.put_back(&plant).await;
    assert!(plant.show(&core, &[&lost]).await.unwrap());
    assert!(core.quarantine.holds());
}

/// The machine went back to between a ceremony's two halves.
#[tokio::test(start_paused = true)]
async fn what_was_made_after_a_step_that_was_given_out_proves_that_it_had_come_back() {
    let mut plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    plant.offline = true;
    change(&plant, &core).await;
    let given = signed(&plant, &core).await;
    drop(core);
    let snapshot = Snapshot::of(&plant);
    let core = plant.site.disk.open().await;
    plant.chain(&core).import(given.clone()).await.unwrap();
    change(&plant, &core).await;
    let after = signed(&plant, &core).await;
    plant.chain(&core).import(after.clone()).await.unwrap();
    drop(core);
    let core = snapshot.put_back(&plant).await;
    is_nobodys(&plant, &core, &[&first, &given]).await;
    assert!(plant.show(&core, &[&first, &given, &after]).await.unwrap());
    assert!(core.quarantine.holds());
    assert_eq!(newest(&core).await.digest(), after.digest());
}

/// Who has a root key that was replaced, and one node, names as many keys as he likes, and is there first.
#[tokio::test(start_paused = true)]
async fn a_thief_who_claims_first_keeps_the_right_root_key_from_nobody() {
    let mut plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    let (old, new) = (plant.own(), RootPrivateKey::generate().unwrap());
    let changed = plant.change_to(&core, &new).await;
    plant.offline = true;
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    let chain = plant.chain(&core);
    for _ in 0..10 {
        let thief = RootPrivateKey::generate().unwrap();
        let his = forge(&first, &[&old, &thief], |step| {
            step.root_keys = vec![thief.public_key()];
        });
        let refused = chain.take(&core.quarantine, &id(NODE), vec![his]).await;
        assert!(matches!(refused, Err(MakeError::NotAgreed { .. })));
    }
    let honest = id("/spire/agent/x/honest");
    let shown = chain.take(&core.quarantine, &honest, vec![changed.clone()]).await;
    assert!(matches!(shown, Err(MakeError::NotAgreed { .. })));
    end(&core).await;
    let mut next = chain.outlook(vec![new.public_key()]).await.unwrap().next.unwrap();
    assert_eq!(next.step().previous, Some(changed.digest()));
    next.sign(&new).unwrap();
    chain.import(next).await.unwrap();
    is_walked_from(&plant, &core, &first).await;
}

#[tokio::test(start_paused = true)]
async fn until_a_node_has_shown_its_steps_the_root_key_is_asked_for() {
    let plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    let second = plant.step(&core).await;
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    let caution = || {
        let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
        report.caution().is_some()
    };
    assert!(caution());
    let chain = plant.chain(&core);
    chain.make().await.unwrap_err();
    for nothing in [
        vec![],
        vec![forge(&first, &[&RootPrivateKey::generate().unwrap()], |_| {})],
    ] {
        drop(chain.take(&core.quarantine, &id(NODE), nothing).await);
        assert!(caution(), "that says nothing of root keys");
    }
    assert!(
        chain
            .take(&core.quarantine, &id(NODE), vec![second])
            .await
            .unwrap()
    );
    assert!(!caution());
    let old = chain
        .take(&core.quarantine, &id("/spire/agent/x/2"), vec![first])
        .await;
    assert!(!old.unwrap());
    let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
    assert_eq!(report.nodes_shown, 1, "who has slept since does not know");
    end(&core).await;
    assert!(!caution());
}

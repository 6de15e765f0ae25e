//! Chains over a whole core: what is signed, by whom, and when nothing is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use landfast_identity::Bundle;
use landfast_identity::chain::{Position, RootPrivateKey};
use tempfile::TempDir;

use super::asked::AT_ONCE;
use super::*;
use crate::authority::Trust;
use crate::core::Core;
use crate::core::fixture::{DAY, DiskRig, Rig, START, td};

mod troubles;

/// Whose authorities change at least once in ten days.
async fn rig() -> Rig {
    Rig::with(|params| params.ttls.ca = 2 * DAY).await
}

fn chain_of(core: &Core, clock: SharedClock, config: &RootKeyConfig) -> Chain {
    let parts = (Arc::clone(&core.authorities), Arc::clone(&core.registry));
    Chain::new(config, parts, Arc::clone(&core.datastore), clock)
}

fn chain(rig: &Rig, config: &RootKeyConfig) -> Chain {
    chain_of(&rig.core, Arc::new(rig.clock.clone()), config)
}

fn file(dir: &TempDir) -> RootKeyConfig {
    RootKeyConfig::File(dir.path().join("root.key"))
}

#[expect(clippy::disallowed_methods, reason = "a test puts a key in its place")]
fn put(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Goes on by rotations of the authorities until this time has gone by.
async fn rotate(rig: &Rig, time: Duration) {
    for _ in 0..time.as_secs() / 7200 {
        rig.step(Duration::from_secs(7200));
        rig.core.authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    }
}

async fn all(chain: &Chain) -> Vec<SignedStep> {
    let place = StepPlace {
        epoch: 1,
        sequence: 0,
    };
    let (steps, _) = chain.steps(place, BYTES).await.unwrap();
    steps
        .iter()
        .map(|step| SignedStep::from_bytes(step).unwrap())
        .collect()
}

fn trusts(chain: &SignedStep, bundle: &Bundle) -> bool {
    chain.step().bundle.x509_authorities() == bundle.x509_authorities()
        && chain.step().bundle.jwt_authorities() == bundle.jwt_authorities()
}

#[tokio::test]
async fn each_change_of_the_authorities_is_a_step_and_nothing_else_is() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let chain = chain(&rig, &file(&dir));
    chain.make().await.unwrap();
    let first = chain.newest().await.unwrap();
    assert!(trusts(&first, &rig.core.authorities.bundle()));
    assert_eq!((first.step().sequence, first.step().previous), (1, None));
    assert_eq!(first.step().epoch, rig.core.registry.revision().epoch);
    chain.make().await.unwrap();
    assert_eq!(
        chain.newest().await.as_ref(),
        Some(&first),
        "there was nothing new"
    );
    let mut walker = Walker::begin(td(), &first).unwrap();
    let before = rig.core.authorities.bundle();
    for _ in 0..20 {
        rotate(&rig, DAY).await;
        chain.make().await.unwrap();
    }
    let now = rig.core.authorities.bundle();
    let gone = |authority| now.x509_authorities().iter().all(|known| known != authority);
    assert!(
        before.x509_authorities().iter().all(gone),
        "nobody from before is left"
    );
    let steps = all(&chain).await;
    assert!(steps.len() > 10, "{}", steps.len());
    for step in &steps[1..] {
        assert_eq!(walker.walk(step).unwrap(), Walked::Onward);
    }
    assert!(trusts(steps.last().unwrap(), &now));
    assert_eq!(steps.last().unwrap().step().bundle.sequence(), now.sequence());
}

#[tokio::test]
async fn the_key_is_made_once_and_never_again() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let path = dir.path().join("root.key");
    let chain = chain(&rig, &file(&dir));
    chain.make().await.unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    let key = RootPrivateKey::from_pem(&text).unwrap();
    let newest = chain.newest().await;
    assert_eq!(newest.as_ref().unwrap().step().root_keys, [key.public_key()]);
    std::fs::remove_file(&path).unwrap();
    rotate(&rig, 10 * DAY).await;
    assert!(matches!(chain.make().await, Err(MakeError::Missing { .. })));
    assert!(!path.exists(), "nodes know the old one");
    put(&path, &RootPrivateKey::generate().unwrap().to_pem(), 0o600);
    assert!(matches!(chain.make().await, Err(MakeError::OtherKey { .. })));
    put(&path, &text, 0o644);
    assert!(
        matches!(chain.make().await, Err(MakeError::Store { .. })),
        "others can read it"
    );
    put(&path, "nothing", 0o600);
    assert!(matches!(chain.make().await, Err(MakeError::Damaged { .. })));
    assert_eq!(chain.newest().await, newest, "none of that has signed anything");
    put(&path, &text, 0o600);
    chain.make().await.unwrap();
    assert_ne!(chain.newest().await, newest);
}

#[tokio::test]
async fn without_a_root_key_nothing_is_signed_and_one_that_is_switched_off_is_told() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let off = chain(&rig, &RootKeyConfig::None);
    off.make().await.unwrap();
    assert_eq!(off.newest().await, None);
    assert!(matches!(off.outlook(Vec::new()).await, Err(MakeError::Off)));
    chain(&rig, &file(&dir)).make().await.unwrap();
    assert!(matches!(off.make().await, Err(MakeError::SwitchedOff)));
    let step = off.newest().await.unwrap();
    assert!(matches!(off.import(step).await, Err(MakeError::Off)));
}

#[tokio::test]
async fn of_two_servers_one_makes_the_step() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let (one, other) = (chain(&rig, &file(&dir)), chain(&rig, &file(&dir)));
    for _ in 0..4 {
        let (a, b) = tokio::join!(one.make(), other.make());
        for made in [a, b] {
            assert!(matches!(made, Ok(()) | Err(MakeError::Outdated)), "{made:?}");
        }
        other.make().await.unwrap();
        rotate(&rig, 10 * DAY).await;
    }
    let steps = all(&one).await;
    let mut walker = Walker::begin(td(), &steps[0]).unwrap();
    for step in &steps[1..] {
        walker.walk(step).unwrap();
    }
}

/// As after `landfast-server restore`.
#[tokio::test]
async fn a_registry_that_was_restored_begins_an_epoch_that_nodes_from_before_can_walk_to() {
    let (rig, dir) = (DiskRig::new(), tempfile::tempdir().unwrap());
    let clock = || Arc::new(rig.clock.clone());
    let core = rig.open().await;
    chain_of(&core, clock(), &file(&dir)).make().await.unwrap();
    let first = core.datastore.newest_step().await.unwrap().unwrap();
    drop(core);
    let sql = "UPDATE state SET epoch = epoch + 1, bundle_sequence = bundle_sequence + 1000";
    rusqlite::Connection::open(rig.database())
        .unwrap()
        .execute(sql, [])
        .unwrap();
    let core = rig.open().await;
    let chain = chain_of(&core, clock(), &file(&dir));
    chain.make().await.unwrap();
    let mut at = Walker::begin(td(), &first).unwrap().position().clone();
    // A node that has seen a step which the backup does not hold.
    (at.sequence, at.digest) = (40, [1; 32]);
    let (steps, _) = chain
        .steps(
            StepPlace {
                epoch: at.epoch,
                sequence: 40,
            },
            BYTES,
        )
        .await
        .unwrap();
    let mut walker = Walker::resume(td(), at);
    let steps: Vec<_> = steps
        .iter()
        .map(|step| SignedStep::from_bytes(step).unwrap())
        .collect();
    assert_eq!(steps.len(), 1);
    assert_eq!(walker.walk(&steps[0]).unwrap(), Walked::NewEpoch);
}

#[tokio::test]
async fn a_root_key_elsewhere_signs_what_is_carried_to_it() {
    let rig = rig().await;
    let chain = chain(&rig, &RootKeyConfig::Offline);
    let (key, thief) = (
        RootPrivateKey::generate().unwrap(),
        RootPrivateKey::generate().unwrap(),
    );
    assert!(matches!(chain.make().await, Err(MakeError::Unsigned)));
    assert!(
        chain.outlook(Vec::new()).await.unwrap().next.is_none(),
        "nobody has said who signs"
    );
    let mut step = chain.outlook(vec![key.public_key()]).await.unwrap().next.unwrap();
    let refused = chain.import(step.clone()).await;
    assert!(
        matches!(refused, Err(MakeError::Chain { .. })),
        "nobody has signed it"
    );
    let mut stolen = step.clone();
    stolen.sign(&thief).unwrap();
    assert!(matches!(chain.import(stolen).await, Err(MakeError::Chain { .. })));
    step.sign(&key).unwrap();
    let place = chain.import(step.clone()).await.unwrap();
    assert_eq!(chain.import(step.clone()).await.unwrap(), place, "twice is once");
    chain.make().await.unwrap();
    rotate(&rig, 10 * DAY).await;
    assert!(matches!(chain.make().await, Err(MakeError::Unsigned)));
    let mut next = chain.outlook(Vec::new()).await.unwrap().next.unwrap();
    next.sign(&key).unwrap();
    rotate(&rig, 10 * DAY).await;
    let refused = chain.import(next).await;
    assert!(
        matches!(refused, Err(MakeError::Outdated)),
        "the authorities have changed since"
    );
    let mut next = chain.outlook(Vec::new()).await.unwrap().next.unwrap();
    // What it says is not for whoever signs it to change.
    let mut other = next.step().clone();
    other.bundle = step.step().bundle.clone();
    let mut other = SignedStep::unsigned(&other).unwrap();
    other.sign(&key).unwrap();
    assert!(matches!(chain.import(other).await, Err(MakeError::Outdated)));
    next.sign(&key).unwrap();
    chain.import(next).await.unwrap();
    chain.make().await.unwrap();
}

#[tokio::test]
async fn root_keys_are_replaced_by_the_old_and_the_new_together() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let chain = chain(&rig, &file(&dir));
    chain.make().await.unwrap();
    let first = chain.newest().await.unwrap();
    let new = RootPrivateKey::generate().unwrap();
    let mut change = chain.outlook(vec![new.public_key()]).await.unwrap().next.unwrap();
    assert!(
        matches!(chain.import(change.clone()).await, Err(MakeError::Chain { .. })),
        "our own key alone does not do"
    );
    change.sign(&new).unwrap();
    chain.import(change).await.unwrap();
    let changed = chain.newest().await.unwrap();
    let mut walker = Walker::begin(td(), &first).unwrap();
    assert_eq!(walker.walk(&changed).unwrap(), Walked::Onward);
    assert!(matches!(chain.make().await, Err(MakeError::OtherKey { .. })));
    put(&dir.path().join("root.key"), &new.to_pem(), 0o600);
    rotate(&rig, 10 * DAY).await;
    chain.make().await.unwrap();
    walker.walk(&chain.newest().await.unwrap()).unwrap();
}

#[tokio::test]
async fn a_long_chain_is_shown_in_answers_of_bounded_size() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let chain = chain(&rig, &file(&dir));
    chain.make().await.unwrap();
    let text = std::fs::read_to_string(dir.path().join("root.key")).unwrap();
    let key = RootPrivateKey::from_pem(&text).unwrap();
    let first = chain.newest().await.unwrap();
    let mut last = first.clone();
    for _ in 0..600 {
        let step = Step {
            sequence: last.step().sequence + 1,
            previous: Some(last.digest()),
            time: START,
            ..last.step().clone()
        };
        let mut next = SignedStep::unsigned(&step).unwrap();
        next.sign(&key).unwrap();
        let added = chain
            .datastore
            .append_step(Some(last.digest()), Arc::new(next.clone()))
            .await;
        assert!(added.unwrap());
        last = next;
    }
    chain.make().await.unwrap();
    let mut walker = Walker::begin(td(), &first).unwrap();
    let (mut answers, mut more) = (0, true);
    while more {
        let Position { epoch, sequence, .. } = *walker.position();
        let (steps, further) = chain
            .steps(StepPlace { epoch, sequence }, 64 * 1024)
            .await
            .unwrap();
        let bytes: usize = steps.iter().map(Vec::len).sum();
        assert!(steps.len() <= AT_ONCE && bytes <= 64 * 1024 + 4096, "{bytes}");
        for step in steps {
            walker.walk(&SignedStep::from_bytes(&step).unwrap()).unwrap();
        }
        (answers, more) = (answers + 1, further);
    }
    assert!(answers > 3);
    assert_eq!(walker.position().digest, last.digest());
    let (newest, more) = chain
        .steps(
            StepPlace {
                epoch: 0,
                sequence: 0,
            },
            BYTES,
        )
        .await
        .unwrap();
    assert_eq!((newest, more), (vec![last.to_bytes()], false));
    // Two at least, however large they are: whoever asks stands on the first of them.
    let (two, more) = chain
        .steps(
            StepPlace {
                epoch: 1,
                sequence: 0,
            },
            1,
        )
        .await
        .unwrap();
    assert_eq!((two.len(), more), (2, true));
}

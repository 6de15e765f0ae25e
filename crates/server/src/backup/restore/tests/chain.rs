//! The bundle chain over a restoration: what nodes have walked since is had again, from the old data or from a node that shows it, and nobody else's steps are.

use std::sync::Arc;

use landfast_identity::TrustDomain;
use landfast_identity::chain::{RootPrivateKey, SignedStep, Step, Walked, Walker};
use landfast_lifecycle::Clock as _;
use tempfile::TempDir;

use super::*;
use crate::authority::{Kind, Order};
use crate::chain::{Chain, MakeError, Prepared, RootKeyConfig};
use crate::core::fixture::{copy, td};
use crate::datastore::StepPlace;
use crate::quarantine::End;

mod ceremony;
mod rollback;

/// A site with a root key.
struct Plant {
    site: Site,
    root: TempDir,
    offline: bool,
}

impl Plant {
    fn new() -> Self {
        Self {
            site: Site::new(),
            root: tempfile::tempdir().unwrap(),
            offline: false,
        }
    }

    fn chain(&self, core: &Core) -> Chain {
        let config = match self.offline {
            true => RootKeyConfig::Offline,
            false => RootKeyConfig::File(self.root.path().join("root.key")),
        };
        let parts = (Arc::clone(&core.authorities), Arc::clone(&core.registry));
        let clock = Arc::new(self.site.disk.clock.clone());
        let prepared = Prepared::open(self.site.disk.dir.path()).unwrap();
        Chain::new(&config, parts, Arc::clone(&core.datastore), clock).noting(prepared)
    }

    fn own(&self) -> RootPrivateKey {
        RootPrivateKey::from_pem(&fs::read_to_string(self.root.path().join("root.key")).unwrap()).unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test puts a key in its place")]
    fn put(&self, key: &RootPrivateKey) {
        fs::write(self.root.path().join("root.key"), key.to_pem()).unwrap();
    }

    async fn order(&self, core: &Core, order: Order) -> SignedStep {
        let now = self.site.disk.clock.now().unwrap();
        core.authorities.order(&order, now).await.unwrap();
        self.chain(core).make().await.unwrap();
        newest(core).await
    }

    async fn step(&self, core: &Core) -> SignedStep {
        self.order(core, Order::Prepare(Kind::Jwt)).await
    }

    /// By the procedure.
    async fn change_to(&self, core: &Core, new: &RootPrivateKey) -> SignedStep {
        let chain = self.chain(core);
        let next = chain.outlook(vec![new.public_key()]).await.unwrap().next;
        let mut next = next.unwrap();
        next.sign(new).unwrap();
        if self.offline {
            next.sign(&self.own()).unwrap();
        }
        chain.import(next).await.unwrap();
        newest(core).await
    }

    /// A backup, and whoever slept since.
    async fn begin(&self) -> (Core, PathBuf, SignedStep) {
        let core = self.site.disk.open().await;
        self.site.populate(&core).await;
        self.chain(&core).make().await.unwrap();
        let backup = self.site.backup("1", Some(&self.site.recipient()));
        let first = newest(&core).await;
        (core, backup, first)
    }

    /// On an empty machine, but for its keys.
    async fn restore_on_nothing(&self, backup: &Path) -> Core {
        for name in ["landfast.db", "landfast.db-wal", "landfast.db-shm"] {
            drop(fs::remove_file(self.site.disk.dir.path().join(name)));
        }
        let choice = Choice {
            accept_rollback: false,
            ..self.site.identity()
        };
        let restored = self.site.restore(backup, &choice).await.unwrap();
        assert!(restored.undone.quarantine);
        self.site.disk.open().await
    }

    async fn show(&self, core: &Core, steps: &[&SignedStep]) -> Result<bool, MakeError> {
        let steps = steps.iter().map(|step| (*step).clone()).collect();
        self.chain(core).take(&core.quarantine, &id(NODE), steps).await
    }
}

async fn newest(core: &Core) -> SignedStep {
    core.datastore.newest_step().await.unwrap().unwrap()
}

async fn end(core: &Core) {
    let order = End {
        by: "me",
        reason: "looked",
        accept_rollback: true,
    };
    let ended = core.quarantine.end(&order, &core.registry, &core.authorities);
    ended.await.unwrap();
}

/// Whoever sleeps since this step comes to the end of the chain, which says what the authorities are.
async fn is_walked_from(plant: &Plant, core: &Core, slept: &SignedStep) {
    let mut walker = Walker::begin(td(), slept).unwrap();
    let (steps, more) = plant
        .chain(core)
        .steps(StepPlace::of(slept), usize::MAX)
        .await
        .unwrap();
    assert!(!more);
    for step in steps {
        walker.walk(&SignedStep::from_bytes(&step).unwrap()).unwrap();
    }
    let last = newest(core).await;
    assert_eq!(walker.position().digest, last.digest());
    assert_eq!(last.step().epoch, core.registry.revision().epoch);
    let (said, own) = (&last.step().bundle, core.authorities.bundle());
    assert_eq!(said.x509_authorities(), own.x509_authorities());
    assert_eq!(said.jwt_authorities(), own.jwt_authorities());
}

/// The next of this one, as its holder would have it.
fn forge(after: &SignedStep, signers: &[&RootPrivateKey], change: impl FnOnce(&mut Step)) -> SignedStep {
    let mut step = Step {
        sequence: after.step().sequence + 1,
        previous: Some(after.digest()),
        ..after.step().clone()
    };
    change(&mut step);
    let mut signed = SignedStep::unsigned(&step).unwrap();
    signers.iter().for_each(|key| signed.sign(key).unwrap());
    signed
}

#[tokio::test(start_paused = true)]
async fn the_chain_of_the_old_data_goes_on_also_over_a_change_of_root_keys() {
    let plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    plant.step(&core).await;
    let new = RootPrivateKey::generate().unwrap();
    let changed = plant.change_to(&core, &new).await;
    drop(core);
    plant.put(&new);
    plant.site.restore(&backup, &plant.site.identity()).await.unwrap();
    let core = plant.site.disk.open().await;
    assert_eq!(newest(&core).await.digest(), changed.digest());
    plant.chain(&core).make().await.unwrap();
    let last = newest(&core).await;
    assert_eq!(last.step().sequence, changed.step().sequence + 1);
    let mut awake = Walker::begin(td(), &changed).unwrap();
    assert_eq!(awake.walk(&last).unwrap(), Walked::NewEpoch);
    is_walked_from(&plant, &core, &first).await;
}

#[tokio::test(start_paused = true)]
async fn a_node_shows_what_was_lost_and_the_chain_goes_on_after_it() {
    let plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    let (second, third) = (plant.step(&core).await, plant.step(&core).await);
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    assert!(plant.chain(&core).make().await.is_err());
    assert_eq!(
        newest(&core).await.digest(),
        first.digest(),
        "in quarantine nothing is signed"
    );
    // Nobody who has not the root key adds anything, nor brings anything back.
    let (own, thief) = (plant.own(), RootPrivateKey::generate().unwrap());
    let elsewhere = |step: &mut Step| {
        let other = TrustDomain::parse("other.example").unwrap();
        let bundle = landfast_identity::Bundle::new(other)
            .with_x509_authorities(step.bundle.x509_authorities().to_vec())
            .unwrap();
        step.bundle = bundle.with_sequence(step.bundle.sequence());
    };
    for wrong in [
        forge(&first, &[&thief], |_| {}),
        forge(&first, &[], |_| {}),
        forge(&first, &[&own], elsewhere),
        forge(&first, &[&own], |step| {
            step.bundle = step.bundle.clone().with_sequence(0)
        }),
        forge(&third, &[&thief], |_| {}),
        forge(&first, &[&own], |step| step.epoch += 1_000_000_000),
        forge(&first, &[&own], |step| step.sequence = u64::MAX - 1),
    ] {
        let refused = plant.show(&core, &[&wrong]).await;
        assert!(refused.is_err(), "{wrong:?}: {refused:?}");
        assert!(plant.show(&core, &[&second, &wrong]).await.is_err(), "{wrong:?}");
    }
    assert!(!plant.show(&core, &[]).await.unwrap());
    assert!(!plant.show(&core, &[&first]).await.unwrap());
    // It proves something and leads nowhere.
    assert!(!plant.show(&core, &[&third]).await.unwrap());
    assert_eq!(newest(&core).await.digest(), first.digest());

    assert!(plant.show(&core, &[&first, &second, &third]).await.unwrap());
    assert_eq!(newest(&core).await.digest(), third.digest());
    for known in [vec![&first, &second, &third], vec![&second]] {
        assert!(!plant.show(&core, &known).await.unwrap(), "it is older");
    }
    end(&core).await;
    plant.chain(&core).make().await.unwrap();
    let last = newest(&core).await;
    assert_eq!(last.step().previous, Some(third.digest()));
    assert_eq!(last.step().sequence, third.step().sequence + 1);
    for slept in [first, second, third] {
        is_walked_from(&plant, &core, &slept).await;
    }
}

/// The old root key was stolen, replaced and destroyed.
#[tokio::test(start_paused = true)]
async fn a_change_of_root_keys_that_was_lost_is_healed_by_the_new_key_and_a_node() {
    let plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    let (old, new) = (plant.own(), RootPrivateKey::generate().unwrap());
    let changed = plant.change_to(&core, &new).await;
    plant.put(&new);
    let last = plant.step(&core).await;
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    assert!(matches!(
        plant.chain(&core).make().await,
        Err(MakeError::OtherKey { .. })
    ));
    // Whoever has the old one, and a node, names himself.
    let thief = RootPrivateKey::generate().unwrap();
    let own_change = forge(&first, &[&old, &thief], |step| {
        step.root_keys = vec![thief.public_key()];
    });
    let refused = plant.show(&core, &[&own_change]).await;
    assert!(matches!(refused, Err(MakeError::NotAgreed { .. })), "{refused:?}");
    // As well as he can: the server's own key beside his.
    let beside = forge(&first, &[&old, &thief], |step| {
        step.root_keys = vec![thief.public_key(), new.public_key()];
    });
    assert!(plant.show(&core, &[&beside]).await.is_err());
    assert_eq!(newest(&core).await.digest(), first.digest());

    assert!(plant.show(&core, &[&changed, &last]).await.unwrap());
    end(&core).await;
    plant.chain(&core).make().await.unwrap();
    assert!(newest(&core).await.is_signed_by(new.public_key()));
    is_walked_from(&plant, &core, &first).await;
}

/// The old key lies in its place still: it signs nothing once a node has shown that it was replaced.
#[tokio::test(start_paused = true)]
async fn with_the_old_root_key_in_place_nothing_is_signed_until_somebody_has_decided() {
    let plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    let (old, new) = (plant.own(), RootPrivateKey::generate().unwrap());
    let changed = plant.change_to(&core, &new).await;
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    let chain = plant.chain(&core);
    let node = id(NODE);
    let show = || chain.take(&core.quarantine, &node, vec![changed.clone()]);
    assert!(matches!(show().await, Err(MakeError::NotAgreed { .. })));
    end(&core).await;
    let made = chain.make().await;
    let Err(MakeError::NotAgreed { keys }) = made else {
        panic!("{made:?}")
    };
    assert_eq!(keys, new.public_key().to_string());
    assert_eq!(newest(&core).await.digest(), first.digest());
    plant.put(&new);
    assert!(show().await.unwrap());
    chain.make().await.unwrap();
    is_walked_from(&plant, &core, &first).await;
    assert!(!newest(&core).await.is_signed_by(old.public_key()));
}

#[tokio::test(start_paused = true)]
async fn with_a_root_key_in_a_safe_whoever_names_the_new_one_agrees_to_it() {
    let mut plant = Plant::new();
    let (core, backup, first) = plant.begin().await;
    let (old, new) = (plant.own(), RootPrivateKey::generate().unwrap());
    let changed = plant.change_to(&core, &new).await;
    plant.offline = true;
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    let chain = plant.chain(&core);
    let shown = chain
        .take(&core.quarantine, &id(NODE), vec![changed.clone()])
        .await;
    assert!(matches!(shown, Err(MakeError::NotAgreed { .. })));
    end(&core).await;
    assert!(matches!(chain.make().await, Err(MakeError::NotAgreed { .. })));
    let mut next = chain.outlook(vec![new.public_key()]).await.unwrap().next.unwrap();
    assert_eq!(next.step().previous, Some(changed.digest()));
    assert_eq!(
        newest(&core).await.digest(),
        first.digest(),
        "nothing is changed yet"
    );
    let mut by_old = next.clone();
    by_old.sign(&old).unwrap();
    assert!(chain.import(by_old).await.is_err());
    next.sign(&new).unwrap();
    chain.import(next).await.unwrap();
    chain.make().await.unwrap();
    is_walked_from(&plant, &core, &first).await;
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_was_tainted_or_revoked_since_is_named_and_none_is_taken() {
    let plant = Plant::new();
    let core = plant.site.disk.open().await;
    plant.site.populate(&core).await;
    let bundle = core.authorities.bundle();
    let id_of = |at: usize| core.authorities.bundle().jwt_authorities()[at].key_id.clone();
    let stolen = bundle.jwt_authorities()[0].key_id.clone();
    plant.step(&core).await;
    let other = (0..2).map(id_of).find(|id| *id != stolen).unwrap();
    let backup = plant.site.backup("1", Some(&plant.site.recipient()));
    let first = newest(&core).await;
    let second = plant.order(&core, Order::ActivateUnheard(Kind::Jwt, other)).await;
    let third = plant.order(&core, Order::Taint(Kind::Jwt, stolen.clone())).await;
    let fourth = plant.step(&core).await;
    let made_since = fourth.step().bundle.jwt_authorities().len();
    assert_eq!(made_since, 3);
    drop(core);
    let core = plant.restore_on_nothing(&backup).await;
    let found = || {
        let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
        let found = report.findings.iter();
        found
            .map(|finding| (finding.kind.as_str(), finding.object.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(found(), []);
    let steps = [&first, &second, &third, &fourth];
    let steps: Vec<_> = steps.into_iter().filter(|step| *step != &first).collect();
    assert!(plant.show(&core, &steps).await.unwrap());
    let expected = [("authority-gone", stolen.clone())];
    assert_eq!(found(), expected);
    assert_eq!(
        core.authorities.bundle().jwt_authorities().len(),
        2,
        "what this server cannot sign with, taint or revoke it does not publish"
    );
    drop(core);
    let core = plant.site.disk.open().await;
    let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
    assert_eq!(report.comes_back(), 1, "it is said once, and kept");
}

/// The whole machine goes back: what a root key has signed in this very epoch is proof of it.
#[tokio::test(start_paused = true)]
async fn a_step_of_this_epoch_that_is_not_known_puts_the_server_in_quarantine() {
    let plant = Plant::new();
    let (core, _, first) = plant.begin().await;
    drop(core);
    let snapshot = tempfile::tempdir().unwrap();
    copy(plant.site.disk.dir.path(), snapshot.path());
    let core = plant.site.disk.open().await;
    let (second, third) = (plant.step(&core).await, plant.step(&core).await);
    let own = plant.own();
    drop(core);
    for (shown, adopted) in [(vec![&second], true), (vec![&third], false)] {
        fs::remove_dir_all(plant.site.disk.dir.path()).unwrap();
        copy(snapshot.path(), plant.site.disk.dir.path());
        let core = plant.site.disk.open().await;
        let strangers = forge(&first, &[&RootPrivateKey::generate().unwrap()], |_| {});
        assert!(plant.show(&core, &[&strangers]).await.is_err());
        // Of before a restoration, say: it may be taken, and says nothing of this registry.
        assert!(!core.quarantine.holds());
        assert_eq!(plant.show(&core, &shown).await.unwrap(), adopted);
        assert!(core.quarantine.holds());
        end(&core).await;
        plant.chain(&core).make().await.unwrap();
        let last = newest(&core).await;
        assert!(last.is_signed_by(own.public_key()));
        let mut awake = Walker::begin(td(), &third).unwrap();
        assert_eq!(awake.walk(&last).unwrap(), Walked::NewEpoch);
    }
}

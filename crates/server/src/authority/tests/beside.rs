//! Two servers on one PostgreSQL below one parent: what one takes over from above, the other lives with, and nothing is undone by an older look.

mod apart;

use std::sync::Mutex;

use super::below::{Parent, root};
use super::*;
use crate::authority::above::root_id;
use crate::datastore::postgres::tests::cluster::Cluster;

/// The parent, as the first server sees it: an answer may be on its way for so long that the other one has looked meanwhile.
#[derive(Debug)]
struct Slow {
    parent: Arc<Parent>,
    late: Mutex<Option<(Seen, Arc<Authorities>)>>,
}

#[async_trait::async_trait]
impl Upstream for Slow {
    async fn sign(&self, wish: &Wish<'_>) -> Result<Signed, UpstreamError> {
        self.parent.sign(wish).await
    }

    async fn look(&self, now: UnixTime) -> Result<Seen, UpstreamError> {
        let late = self.late.lock().unwrap().take();
        let Some((answer, other)) = late else {
            return self.parent.look(now).await;
        };
        other.look_as_kept().await.unwrap();
        Ok(answer)
    }

    async fn publish(&self, key: &landfast_identity::JwtAuthority) -> Result<(), UpstreamError> {
        self.parent.publish(key).await
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        "a slow parent".to_owned()
    }
}

struct Pair {
    slow: Arc<Slow>,
    cluster: Cluster,
    /// Of the first one.
    clock: SimClock,
    clocks: [SimClock; 2],
    parent: Arc<Parent>,
    a: Core,
    b: Core,
}

async fn core(cluster: &Cluster, server: &str, clock: &SimClock, upstream: Arc<dyn Upstream>) -> Core {
    let params = CoreParams::in_memory(td(), Arc::new(clock.clone()));
    let datastore = Arc::new(cluster.open(server).await);
    let keys = Arc::new(MemoryKeys::default());
    Core::assemble_below(params, datastore, keys, Some(upstream))
        .await
        .unwrap()
}

impl Pair {
    async fn new() -> Self {
        Self::apart(0).await
    }

    /// The clock of the second one is so many seconds behind. It has to wait until its JWT key is known: the clock brings that.
    async fn apart(behind: i64) -> Self {
        let (cluster, clock, parent) = (Cluster::start(), SimClock::new(START), Parent::new());
        let clocks = [clock.clone(), SimClock::new(START)];
        clocks[1].step(-behind);
        let slow = Arc::new(Slow {
            parent: Arc::clone(&parent),
            late: Mutex::default(),
        });
        let a = core(&cluster, "a", &clock, Arc::<Slow>::clone(&slow)).await;
        a.authorities.look_as_kept().await.unwrap();
        let opening = core(&cluster, "b", &clocks[1], Arc::<Parent>::clone(&parent));
        let passing = async {
            loop {
                tokio::time::sleep(Duration::from_millis(100)).await;
                clocks.iter().for_each(|clock| clock.pass(3));
            }
        };
        let b = tokio::select! {
            core = opening => core,
            () = passing => panic!("time does not end"),
        };
        b.authorities.look_as_kept().await.unwrap();
        let pair = Self {
            slow,
            cluster,
            clock,
            clocks,
            parent,
            a,
            b,
        };
        pair.follow().await;
        pair
    }

    fn both(&self) -> [&Core; 2] {
        [&self.a, &self.b]
    }

    async fn follow(&self) {
        for core in self.both() {
            core.authorities.follow_journal().await.unwrap();
        }
    }

    /// A look, a rotation if one is due, and what the other makes of it.
    async fn turn(&self, core: &Core) {
        core.authorities.look_as_kept().await.unwrap();
        self.tick(core).await;
    }

    fn pass(&self, seconds: i64) {
        self.clocks.iter().for_each(|clock| clock.pass(seconds));
    }

    async fn tick(&self, core: &Core) {
        let now = core.authorities.clock.now().unwrap();
        core.authorities.tick(now, Trust::Doubtful).await.unwrap();
        self.follow().await;
    }

    async fn verifies(&self, signer: &Core, at: &Core) -> bool {
        let Ok(issued) = signer.issuer.server_svid(&key()).await else {
            return false;
        };
        let ders: Vec<&[u8]> = issued.chain.iter().map(Certificate::as_der).collect();
        let bundles = BundleSet::from_iter([(*at.authorities.bundle()).clone()]);
        verify_x509_svid(&ders, &bundles, self.clock.now().unwrap()).is_ok()
    }

    async fn all_is_well(&self) {
        assert_eq!(self.a.authorities.bundle(), self.b.authorities.bundle());
        for signer in self.both() {
            for at in self.both() {
                assert!(self.verifies(signer, at).await);
            }
        }
    }

    fn stored(&self, what: &str) -> String {
        self.cluster.sql(what)
    }
}

/// The key identifier of the root that it signs under.
async fn root_of(core: &Core) -> String {
    let standing = core.authorities.standing(Kind::X509).await.unwrap();
    standing.active.unwrap().descent.unwrap().root
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_below_one_parent_have_one_root_and_publish_a_key_each() {
    let pair = Pair::new().await;
    pair.all_is_well().await;
    let bundle = pair.a.authorities.bundle();
    assert_eq!(
        bundle.x509_authorities().len(),
        1,
        "the root, and no intermediate"
    );
    assert_eq!(bundle.jwt_authorities().len(), 2);
    let known = pair.parent.change(|state| state.jwt.len());
    assert_eq!(known, 2, "each has published its own");
    assert_eq!(
        pair.stored("SELECT count(*) FROM upstream_authorities WHERE kind = 'x509'"),
        "1"
    );
    // What comes back from above is what is there: nothing changes any more.
    let sequence = pair.stored("SELECT bundle_sequence FROM state");
    for _ in 0..2 {
        for core in pair.both() {
            core.authorities.look_as_kept().await.unwrap();
        }
    }
    let settled = pair.stored("SELECT bundle_sequence FROM state");
    for core in pair.both() {
        core.authorities.look_as_kept().await.unwrap();
    }
    assert_eq!(
        pair.stored("SELECT bundle_sequence FROM state"),
        settled,
        "since {sequence}"
    );
    pair.follow().await;
    pair.all_is_well().await;
    // Each rotates by itself, under a root that everybody knows: at once.
    for core in pair.both() {
        let (before, now) = (
            core.authorities.active_x509().unwrap().id.clone(),
            pair.clock.now().unwrap(),
        );
        let next = core
            .authorities
            .order(&Order::Prepare(Kind::X509), now)
            .await
            .unwrap();
        let activate = Order::Activate(Kind::X509, next.id);
        core.authorities.order(&activate, now).await.unwrap();
        pair.follow().await;
        assert_ne!(core.authorities.active_x509().unwrap().id, before);
        pair.all_is_well().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_that_is_tainted_above_is_passed_on_when_both_stand_elsewhere() {
    let pair = Pair::new().await;
    let old = root_of(&pair.a).await;
    pair.parent.change(|state| {
        state.roots[0].0.tainted = true;
        state.roots.push(root());
    });
    let tainted = || {
        let bundle = pair.a.authorities.bundle();
        let mut roots = bundle.x509_authorities().iter();
        roots.any(|root| root_id(&root.certificate) == old && root.tainted)
    };
    pair.turn(&pair.a).await;
    assert_eq!(
        root_of(&pair.a).await,
        old,
        "the new root is not known by everybody yet"
    );
    pair.pass(31);
    pair.turn(&pair.a).await;
    pair.turn(&pair.a).await;
    assert!(root_of(&pair.a).await != old && root_of(&pair.b).await == old);
    assert!(!tainted(), "the other one signs under it");
    pair.all_is_well().await;
    // The root of its next one is known by now, so it need not wait.
    pair.turn(&pair.b).await;
    assert_ne!(root_of(&pair.b).await, old);
    pair.turn(&pair.a).await;
    assert!(tainted());
    pair.all_is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_reach_the_parent_keeps_a_revoked_root_for_a_while_and_then_signs_no_more() {
    let pair = Pair::new().await;
    let old = root_of(&pair.b).await;
    pair.parent.change(|state| state.roots = vec![root()]);
    pair.turn(&pair.a).await;
    pair.pass(31);
    pair.turn(&pair.a).await;
    pair.turn(&pair.a).await;
    assert!(root_of(&pair.a).await != old && root_of(&pair.b).await == old);
    pair.all_is_well().await;
    pair.a.authorities.lend_no_longer();
    pair.turn(&pair.a).await;
    let bundle = pair.a.authorities.bundle();
    assert!(
        bundle
            .x509_authorities()
            .iter()
            .all(|root| root_id(&root.certificate) != old)
    );
    assert!(
        pair.b.authorities.active_x509().is_none(),
        "what nothing verifies is not signed"
    );
    assert!(pair.verifies(&pair.a, &pair.b).await);
    // When it can, it has another at once.
    pair.turn(&pair.b).await;
    assert_ne!(root_of(&pair.b).await, old);
    pair.all_is_well().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_the_other_server_has_overtaken_is_not_taken_for_the_later_one() {
    let pair = Pair::new().await;
    let roots = || -> Vec<_> {
        let bundle = pair.b.authorities.bundle();
        bundle
            .x509_authorities()
            .iter()
            .map(|root| root.certificate.clone())
            .collect()
    };
    let first = roots();
    // Added above, and taken back at once for another.
    let (mistaken, right) = (root(), root());
    let mut answer = pair.parent.look(START).await.unwrap();
    answer.roots.push(mistaken.0.clone());
    let meant = right.0.certificate.clone();
    pair.parent.change(|state| state.roots.push(right));
    *pair.slow.late.lock().unwrap() = Some((answer, Arc::clone(&pair.b.authorities)));
    pair.a.authorities.look_as_kept().await.unwrap();
    pair.follow().await;
    assert_eq!(roots(), [first, vec![meant]].concat());
    assert_eq!(pair.a.authorities.bundle(), pair.b.authorities.bundle());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_jwt_key_of_the_other_server_that_was_revoked_does_not_come_back_from_above() {
    let pair = Pair::new().await;
    let now = pair.clock.now().unwrap();
    let old = pair.b.authorities.active_jwt().unwrap().id.clone();
    let next = pair
        .b
        .authorities
        .order(&Order::Prepare(Kind::Jwt), now)
        .await
        .unwrap();
    pair.pass(31);
    let now = pair.clock.now().unwrap();
    let activate = Order::Activate(Kind::Jwt, next.id);
    pair.b.authorities.order(&activate, now).await.unwrap();
    for order in [
        Order::Taint(Kind::Jwt, old.clone()),
        Order::Revoke(Kind::Jwt, old.clone()),
    ] {
        pair.a.authorities.order(&order, now).await.unwrap();
    }
    for core in [&pair.a, &pair.b, &pair.a] {
        pair.turn(core).await;
        let bundle = core.authorities.bundle();
        assert!(bundle.jwt_authorities().iter().all(|key| key.key_id != old));
    }
    assert!(
        pair.parent
            .change(|state| state.jwt.iter().any(|key| key.key_id == old))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_operator_taints_no_root_that_the_other_server_signs_under() {
    let pair = Pair::new().await;
    let old = root_of(&pair.a).await;
    pair.parent.change(|state| state.roots.push(root()));
    pair.turn(&pair.a).await;
    let rotate = async |core: &Core| {
        let now = pair.clock.now().unwrap();
        let next = core
            .authorities
            .order(&Order::Prepare(Kind::X509), now)
            .await
            .unwrap();
        pair.pass(31);
        let activate = Order::Activate(Kind::X509, next.id);
        let now = pair.clock.now().unwrap();
        core.authorities.order(&activate, now).await.unwrap();
        pair.follow().await;
    };
    rotate(&pair.a).await;
    let taint = async || pair.a.authorities.order_above(UpstreamOrder::Taint, &old).await;
    let refused = taint().await;
    assert!(
        matches!(refused, Err(UpstreamOrderError::SignsElsewhere)),
        "{refused:?}"
    );
    rotate(&pair.b).await;
    taint().await.unwrap();
    pair.follow().await;
    pair.all_is_well().await;
    let bundle = pair.b.authorities.bundle();
    let tainted = bundle
        .x509_authorities()
        .iter()
        .filter(|root| root.tainted)
        .count();
    assert_eq!(tainted, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_an_upstream_leaves_alone_what_the_other_one_has() {
    let pair = Pair::new().await;
    let before = pair.a.authorities.bundle();
    let params = CoreParams::in_memory(td(), Arc::new(pair.clock.clone()));
    let Pair { a, b, cluster, .. } = pair;
    let keys = a.authorities.keys.clone();
    drop(a);
    let alone = Core::assemble(params, Arc::new(cluster.open("a").await), keys)
        .await
        .unwrap();
    let journal = alone.authorities.datastore.journal().await.unwrap();
    let known = journal.above.clone();
    assert!(!known.roots.is_empty() && !known.jwt.is_empty());
    let left = alone.authorities.leave_above(journal, START).await.unwrap();
    assert_eq!(left.above, known);
    b.authorities.follow_journal().await.unwrap();
    assert_eq!(
        b.authorities.bundle().x509_authorities(),
        before.x509_authorities()
    );
}

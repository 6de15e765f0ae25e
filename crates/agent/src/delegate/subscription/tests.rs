//! A delegate that cannot be attested for a while.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use landfast_identity::Bundle;
use landfast_uds::{PinnedProcess, Pins};
use landfast_workload_api::{AttestError, Attested, Attestor, Desk, Gauges, Limits, Way};
use tokio_util::sync::CancellationToken;

use super::super::rights::{Delegate, Delegates};
use super::*;
use crate::entry::EntryIndex;
use crate::jwt::{JwtCache, budget::Budget};
use crate::keeper::state::Reach;
use crate::keeper::views::Views;
use crate::link::{LinkHandle, status::LinkStatus};
use crate::source::AgentSource;
use crate::testing::{Ca, NOON, StoppedClock, entry, id, selectors, td};

/// Finds the same each time, or fails as it is told. What it finds is outdated as soon as the test says so.
#[derive(Default)]
struct Attestations {
    fails: AtomicBool,
    leaves_out: AtomicBool,
    looks: AtomicU32,
    outdated: Mutex<CancellationToken>,
}

impl Attestations {
    fn outdate(&self) {
        std::mem::take(&mut *self.outdated.lock().unwrap()).cancel();
    }
}

#[async_trait::async_trait]
impl Attestor for Attestations {
    async fn attest(&self, _: &Arc<PinnedProcess>) -> Result<Attested, AttestError> {
        self.looks.fetch_add(1, Ordering::SeqCst);
        if self.fails.load(Ordering::SeqCst) {
            return Err(AttestError {
                reason: "the name service is away".to_owned(),
            });
        }
        Ok(Attested {
            outdated: self.outdated.lock().unwrap().clone(),
            incomplete: self.leaves_out.load(Ordering::SeqCst),
            ..Attested::complete(selectors(&["unix:uid:1"]))
        })
    }
}

struct World {
    views: Views,
    office: Arc<Office>,
    attestations: Arc<Attestations>,
    desk: Desk,
}

impl World {
    fn new() -> Self {
        let views = Views::new(&td());
        let status = watch::Sender::new(LinkStatus::new());
        let link = watch::Sender::new(None);
        let source = Arc::new(AgentSource {
            views: views.clone(),
            link: LinkHandle::fixed(status.subscribe(), link.subscribe()),
            tokens: JwtCache::new(StoppedClock::at(NOON)).0,
            wits: crate::wit::Wits::new(StoppedClock::at(NOON), landfast_identity::KeyType::default()).0,
            budget: Budget::default(),
            clock: StoppedClock::at(NOON),
            ready: watch::channel(true).1,
            hand_outs: crate::handouts::tests::nowhere(),
            journal: crate::journal::tests::desk(),
        });
        let delegates = Delegates::new(vec![Delegate {
            delegate: id("/mesh").into(),
            may_have: vec![id("/line/w").into()],
        }]);
        let attestations = Arc::new(Attestations::default());
        let office = Office::new(
            delegates,
            (Way::DelegatedIdentity, "no delegate"),
            views.clone(),
            source,
            StoppedClock::at(NOON),
            Arc::clone(&attestations) as Arc<dyn Attestor>,
        );
        let attestor = Arc::clone(&attestations) as Arc<dyn Attestor>;
        Self {
            views,
            office,
            attestations,
            desk: Desk::new(attestor, Limits::default(), Arc::new(Gauges::unpublished())),
        }
    }

    /// The entries, and a bundle that is another each time.
    fn publish(&self, entries: &[Entry]) {
        self.publish_also(entries, |_| {});
    }

    fn publish_also(&self, entries: &[Entry], also: impl FnOnce(&mut Snapshot)) {
        let bundle: Bundle = Ca::new("another").bundle();
        let mut snapshot = Snapshot {
            entries: Arc::new(EntryIndex::new(entries.iter().cloned().map(Arc::new))),
            bundle: Some(Arc::new(bundle)),
            synced_at: Some(NOON),
            round_over: true,
            ..Snapshot::default()
        };
        also(&mut snapshot);
        self.views.publish(Arc::new(snapshot), &Reach::All, Some(NOON));
    }

    fn stream(
        &self,
    ) -> Subscription<landfast_proto::spire::api::agent::delegatedidentity::v1::SubscribeToX509BundlesResponse>
    {
        self.stream_about(Whose::Nobody)
    }

    fn stream_about(
        &self,
        whose: Whose,
    ) -> Subscription<landfast_proto::spire::api::agent::delegatedidentity::v1::SubscribeToX509BundlesResponse>
    {
        Subscription::new(
            Arc::clone(&self.office),
            Asker::attested(this_process(&self.desk)),
            whose,
            super::super::wire::x509_bundles,
        )
    }
}

fn this_process(desk: &Desk) -> Caller {
    let own = i32::try_from(std::process::id()).unwrap();
    desk.admit(&Pins::default().open(own).unwrap()).unwrap()
}

/// Of the delegate, and of whom it asks about.
#[tokio::test(start_paused = true)]
async fn a_look_that_left_something_out_is_repeated_though_nothing_is_published() {
    for of_the_delegate in [true, false] {
        let world = World::new();
        world.publish(&[entry("a", "/mesh", &["unix:uid:1"])]);
        let other = Arc::new(Attestations::default());
        let attestor = Arc::clone(&other) as Arc<dyn Attestor>;
        let desk = Desk::new(attestor, Limits::default(), Arc::new(Gauges::unpublished()));
        let looked_at = if of_the_delegate {
            &world.attestations
        } else {
            &other
        };
        looked_at.leaves_out.store(true, Ordering::SeqCst);
        let stream = world.stream_about(Whose::Process(this_process(&desk)));
        let (first, stream) = stream.next().await.unwrap();
        first.unwrap();
        let looks = || looked_at.looks.load(Ordering::SeqCst);
        assert_eq!(looks(), 1);
        let nothing = tokio::time::timeout(std::time::Duration::from_secs(100), stream.next()).await;
        assert!(nothing.is_err(), "nothing new");
        assert_eq!(looks(), 4, "each half a minute");
    }
}

#[tokio::test]
async fn a_delegate_that_cannot_be_looked_at_for_a_while_keeps_its_stream() {
    let world = World::new();
    let mesh = [entry("a", "/mesh", &["unix:uid:1"])];
    world.publish(&mesh);
    let (first, stream) = world.stream().next().await.unwrap();
    let first = first.unwrap();
    world.attestations.fails.store(true, Ordering::SeqCst);
    world.attestations.outdate();
    world.publish(&mesh);
    let looks = world.attestations.looks.load(Ordering::SeqCst);
    let (second, stream) = stream.next().await.unwrap();
    assert!(second.unwrap() != first, "what is new comes");
    assert!(world.attestations.looks.load(Ordering::SeqCst) > looks);
    // What it had is no right for ever: its entry is gone.
    world.publish(&[]);
    let (ended, stream) = stream.next().await.unwrap();
    assert_eq!(ended.unwrap_err().code(), Code::PermissionDenied);
    assert!(stream.next().await.is_none());
}

#[tokio::test]
async fn one_that_was_never_looked_at_has_no_stream() {
    let world = World::new();
    world.publish(&[entry("a", "/mesh", &["unix:uid:1"])]);
    world.attestations.fails.store(true, Ordering::SeqCst);
    let (refused, _) = world.stream().next().await.unwrap();
    assert_eq!(refused.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn it_is_looked_at_again_before_anything_new_comes() {
    let seen = Seen::default();
    let found = selectors(&["unix:uid:1"]);
    assert_eq!(seen.or_last(Ok(found.clone())).unwrap(), found);
    let away = || Err(Status::unavailable("away"));
    assert_eq!(seen.or_last(away()).unwrap(), found);
    seen.look_again(None).await;
    seen.or_last(Ok(found.clone())).unwrap();
    let hour = tokio::time::timeout(std::time::Duration::from_secs(3600), seen.look_again(None));
    assert!(hour.await.is_err(), "nothing was missed");
    let refused = seen.or_last(Err(Status::permission_denied("another program")));
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
}

#[tokio::test]
async fn what_is_not_fetched_ahead_is_fetched_for_a_delegate_that_asks_for_svids() {
    let world = World::new();
    let on_demand = |name: &str, path: &str| Entry {
        on_demand: true,
        ..entry(name, path, &["unix:uid:7"])
    };
    let mesh = entry("m", "/mesh", &["unix:uid:1"]);
    // Another's is not its to ask for.
    world.publish(&[mesh, on_demand("w", "/line/w"), on_demand("x", "/line/x")]);
    let whose = || Whose::Selectors(selectors(&["unix:uid:7"]));
    let (_, _bundles) = world.stream_about(whose()).first().await.unwrap();
    let asked = || futures_util::FutureExt::now_or_never(world.views.asked_for());
    assert!(asked().is_none(), "bundles need none");
    let asker = Asker::attested(this_process(&world.desk));
    let office = Arc::clone(&world.office);
    let svids = Subscription::new(office, asker, whose(), super::super::wire::x509_svids);
    let mut first = Box::pin(svids.first());
    let asked = tokio::select! {
        biased;
        first = &mut first => panic!("a part would look like the whole: {:?}", first.map(|(list, _)| list.x509_svids.len())),
        asked = world.views.asked_for() => asked,
    };
    assert_eq!(asked, ["w".into()].into());
}

#[tokio::test(start_paused = true)]
async fn a_delegate_waits_for_what_it_asked_for_and_is_then_given_what_there_is() {
    for comes in [true, false] {
        let world = World::new();
        let on_demand = Entry {
            on_demand: true,
            ..entry("w", "/line/w", &["unix:uid:7"])
        };
        let list = [entry("m", "/mesh", &["unix:uid:1"]), on_demand];
        world.publish(&list);
        let asker = Asker::attested(this_process(&world.desk));
        let whose = Whose::Selectors(selectors(&["unix:uid:7"]));
        let office = Arc::clone(&world.office);
        let svids = Subscription::new(office, asker, whose, super::super::wire::x509_svids);
        let mut first = Box::pin(svids.first());
        tokio::select! {
            biased;
            _ = &mut first => panic!("a part would look like the whole"),
            _ = world.views.asked_for() => {}
        }
        // What else changes meanwhile is no reason to give less than there is to come.
        let since =
            |time| move |snapshot: &mut Snapshot| snapshot.wanted = Arc::new([("w".into(), time)].into());
        world.publish_also(&list, since(NOON));
        let waits = tokio::time::timeout(std::time::Duration::from_secs(4), &mut first).await;
        assert!(waits.is_err());
        world.publish_also(&list, |snapshot| {
            since(crate::testing::at(if comes { 0 } else { -5 }))(snapshot);
            if comes {
                let svid = Ca::new("one").svid(&id("/line/w"), NOON, crate::testing::at(60));
                let held = crate::keeper::state::Held::new(svid, 0, NOON);
                snapshot.held = Arc::new([("w".into(), Arc::new(held))].into());
            }
        });
        let (list, _) = first.await.unwrap();
        assert_eq!(list.x509_svids.len(), usize::from(comes));
    }
}

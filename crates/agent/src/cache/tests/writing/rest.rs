//! What a start did not read of the reserve is not lost: it is read before anything is written.

use super::*;
use crate::cache::tests::rungs::reserved;
use crate::keeper::{Keeper, KeeperHandle};

/// A start over a cache that another run has filled with 144 rungs, and the keeper that it speaks to.
fn restarted(
    world: World,
    keeper: impl FnOnce(&Views, &SharedClock, &Arc<Snapshot>) -> KeeperHandle,
) -> Started {
    restarted_over(world, Script::default(), Arc::default(), keeper)
}

/// The same over such a disk, whose next reading panics when it is to.
fn restarted_over(
    world: World,
    script: Script,
    panics: Arc<AtomicBool>,
    keeper: impl FnOnce(&Views, &SharedClock, &Arc<Snapshot>) -> KeeperHandle,
) -> Started {
    let snapshot = reserved(&world.ca, &["a", "b"], 144);
    world.open().0.write(&image(&snapshot), PLAIN).unwrap();
    let open = move |dir: &Path| {
        Store::open_with(dir, |files| {
            let files = FaultyFiles::new(files, script.clone());
            wear::NoRoomForTokens(files, Arc::default(), Arc::clone(&panics))
        })
    };
    let (shelf, found) = Shelf::open_at(world.place(), Some(&node()), Some(at(4200)), Arc::new(open));
    let read = found.image.unwrap().snapshot;
    assert!(read.reading && shelf.has_rest());
    let views = Views::new(&td());
    views.publish(Arc::clone(&read), &Reach::All, Some(at(4200)));
    let status = watch::Sender::new(LinkStatus {
        agent_id: Some(node()),
        ..LinkStatus::new()
    });
    let clock: SharedClock = Arc::new(SimClock::new(at(4200)));
    let stop = CancellationToken::new();
    let writer = Writer {
        shelf,
        keeper: keeper(&views, &clock, &read),
        views: views.clone(),
        link: LinkHandle::fixed(status.subscribe(), watch::channel(None).1),
        tokens: JwtCache::new(Arc::clone(&clock)).0,
        clock,
        bootstrap: "operator's".to_owned(),
        state: watch::Sender::new(CacheState::default()),
        doomed: false,
    };
    Started {
        world,
        views,
        status,
        stop,
        writer,
        filled: snapshot,
    }
}

struct Started {
    world: World,
    views: Views,
    status: watch::Sender<LinkStatus>,
    stop: CancellationToken,
    writer: Writer,
    filled: Snapshot,
}

fn on_disk(world: &World) -> usize {
    let image = world.open().1.image.unwrap();
    image
        .snapshot
        .rungs
        .values()
        .map(|ladder| ladder.rungs().len())
        .sum()
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's tasks are joined by the test")]
async fn the_rest_comes_to_the_keeper_and_stays_on_disk() {
    let stop = CancellationToken::new();
    let mut running = None;
    let started = restarted(World::new(), |views, clock, read| {
        let (keeper, handle) = Keeper::restored(views.clone(), Arc::clone(clock), Some(read));
        running = Some(tokio::spawn(keeper.run(stop.clone())));
        handle
    });
    let mut published = started.views.published();
    let task = tokio::spawn(started.writer.run(started.stop.clone()));
    while started.views.snapshot().reading {
        published.changed().await.unwrap();
    }
    let count = |snapshot: &Snapshot| {
        snapshot
            .rungs
            .values()
            .map(|ladder| ladder.rungs().len())
            .sum::<usize>()
    };
    assert_eq!(count(&started.views.snapshot()), 144);
    // In step again, with an index for what is new.
    started.status.send_modify(|status| {
        status.phase = Phase::Serving;
        status.last_sync = Some(at(4205));
    });
    tokio::time::sleep(Duration::from_secs(60)).await;
    started.stop.cancel();
    task.await.unwrap().unwrap();
    stop.cancel();
    running.unwrap().await.unwrap().unwrap();
    assert_eq!(on_disk(&started.world), 144);
    assert_eq!(count(&started.filled), 144);
}

/// The keeper has ended, or ends just then: nobody takes it.
#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's tasks are joined by the test")]
async fn a_stop_before_the_rest_was_taken_leaves_it_on_disk() {
    let started = restarted(World::new(), |views, clock, _| {
        Keeper::new(views.clone(), Arc::clone(clock)).1
    });
    started.status.send_modify(|status| {
        status.phase = Phase::Serving;
        status.last_sync = Some(at(4205));
    });
    let task = tokio::spawn(started.writer.run(started.stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    started.stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(on_disk(&started.world), 144);
}

#[tokio::test(start_paused = true)]
#[expect(clippy::disallowed_methods, reason = "a test's tasks are joined by the test")]
async fn a_fault_in_the_reading_costs_nothing_that_the_start_had_read() {
    let (stop, panics) = (CancellationToken::new(), Arc::new(AtomicBool::new(false)));
    let mut running = None;
    let faults = Arc::clone(&panics);
    let started = restarted_over(World::new(), Script::default(), faults, |views, clock, read| {
        let (keeper, handle) = Keeper::restored(views.clone(), Arc::clone(clock), Some(read));
        running = Some(tokio::spawn(keeper.run(stop.clone())));
        handle
    });
    let had = started.views.snapshot().rungs["a"].rungs().len();
    panics.store(true, Ordering::SeqCst);
    let mut published = started.views.published();
    let task = tokio::spawn(started.writer.run(started.stop.clone()));
    while started.views.snapshot().reading {
        published.changed().await.unwrap();
    }
    let left = started.views.snapshot().rungs.get("a").cloned();
    assert_eq!(left.map(|ladder| ladder.rungs().len()), Some(had));
    started.stop.cancel();
    task.await.unwrap().unwrap();
    assert_eq!(on_disk(&started.world), 144, "on an island nothing is written");
    stop.cancel();
    running.unwrap().await.unwrap().unwrap();
}

/// All but this entry is gone.
fn only_b(_: &Ca, before: Snapshot) -> Snapshot {
    Snapshot {
        entries: Arc::new(EntryIndex::new(before.entries.get("b").cloned())),
        held: Arc::new([("b".into(), before.held["b"].clone())].into_iter().collect()),
        rungs: Arc::default(),
        ..before
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_before_all_is_read_does_not_come_back_after_a_stop() {
    let found = found_after(only_b, true, |_| true).await;
    assert_eq!(found.held.keys().map(|id| &**id).collect::<Vec<_>>(), ["b"]);
    assert!(found.rungs.values().all(|ladder| ladder.rungs().is_empty()));
}

/// While the reading hangs at its first file, `change` comes. `stops`: the agent is stopped then; else power fails once `written`. What a start then
/// finds.
#[expect(clippy::disallowed_methods, reason = "a test's tasks are joined by the test")]
async fn found_after(
    change: impl FnOnce(&Ca, Snapshot) -> Snapshot,
    stops: bool,
    written: impl Fn(&World) -> bool,
) -> Arc<Snapshot> {
    let script = Script::default();
    let started = restarted_over(World::new(), script.clone(), Arc::default(), |views, clock, _| {
        Keeper::new(views.clone(), Arc::clone(clock)).1
    });
    script.hang(Verb::Read);
    started.status.send_modify(|status| {
        status.phase = Phase::Serving;
        status.last_sync = Some(at(4205));
    });
    let mut task = tokio::spawn(started.writer.run(started.stop.clone()));
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    let before = Snapshot::clone(&started.views.snapshot());
    let after = change(&started.world.ca, before);
    started
        .views
        .publish(Arc::new(after), &Reach::All, Some(at(4205)));
    if stops {
        started.stop.cancel();
    }
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
    script.mend();
    if stops {
        (&mut task).await.unwrap().unwrap();
    } else {
        until("it is on disk", || written(&started.world)).await;
        task.abort();
    }
    started.world.beside().image.unwrap().snapshot
}

#[tokio::test(start_paused = true)]
async fn what_is_gone_is_off_the_disk_when_power_fails_before_all_is_read() {
    let keys = |world: &World| {
        let names = std::fs::read_dir(world.place().dir).unwrap();
        let names = names.map(|name| name.unwrap().file_name().into_string().unwrap());
        let of_key = |name: &String| name.starts_with("rung-") || name.starts_with("svid-");
        names.filter(of_key).count()
    };
    let found = found_after(only_b, false, |world| keys(world) == 1).await;
    let held = found.held.keys().map(|id| &**id).collect::<Vec<_>>();
    assert_eq!((held, found.rungs.len()), (vec!["b"], 0));
}

/// `stops`: see [`found_after`].
async fn trusts_less_during_the_reading(stops: bool) {
    let tainted = |ca: &Ca, before: Snapshot| Snapshot {
        bundle: Some(Arc::new(ca.tainted(8))),
        rungs: Arc::default(),
        ..before
    };
    let taints = |found: &Snapshot| found.bundle.as_ref().unwrap().x509_authorities()[0].tainted;
    // The third and fourth that are written: the newer one may be damaged.
    let index = |world: &World| std::fs::read(world.place().dir.join("index.a")).unwrap();
    let first = std::cell::OnceCell::new();
    let written = |world: &World| index(world) != *first.get_or_init(|| index(world));
    let found = found_after(tainted, stops, written).await;
    assert!(taints(&found));
    assert!(
        State::restored(&found).snapshot().rungs.is_empty(),
        "none is served"
    );
    let left: usize = found.rungs.values().map(|ladder| ladder.rungs().len()).sum();
    assert_eq!(left, 144, "what was not read is not lost");
}

#[tokio::test(start_paused = true)]
async fn what_is_trusted_no_longer_is_on_disk_when_power_fails_before_all_is_read() {
    trusts_less_during_the_reading(false).await;
}

#[tokio::test(start_paused = true)]
async fn and_when_the_agent_stops_before() {
    trusts_less_during_the_reading(true).await;
}

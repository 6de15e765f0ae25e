//! What is kept, when, and what people are told.

use std::path::Path;

use landfast_lifecycle::{SimBoot, SimClock, TimeRecord};
use landfast_store::{Store, faulty};

use super::*;
use crate::testing::{NOON, at, td};

const SKEW: Duration = Duration::from_secs(300);

struct Rig {
    wall: SimClock,
    ear: Ear,
    keeper: Timekeeper,
    files: Arc<NodeFiles>,
}

fn files(dir: &Path) -> Arc<NodeFiles> {
    Arc::new(NodeFiles::open(dir, &td()).unwrap())
}

impl Rig {
    fn new(dir: &Path, record: Option<&TimeRecord>) -> Self {
        Self::over(files(dir), record)
    }

    fn over(files: Arc<NodeFiles>, record: Option<&TimeRecord>) -> Self {
        let wall = SimClock::new(NOON);
        let boot = Arc::new(SimBoot::new("boot", Duration::ZERO));
        let clock = GuardedClock::new(Arc::new(wall.clone()), boot, at(-86_400), SKEW, record);
        let (keeper, ear) = Timekeeper::new(clock, SKEW, Arc::clone(&files));
        Self {
            wall,
            ear,
            keeper,
            files,
        }
    }
}

/// Over simulated time the disk's thread is real: it is given its turn.
async fn minutes(minutes: u64) {
    for _ in 0..minutes {
        tokio::time::sleep(Duration::from_secs(60)).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
fn run(keeper: Timekeeper, stop: &CancellationToken) -> tokio::task::JoinHandle<Result<(), Infallible>> {
    tokio::spawn(keeper.run(stop.clone()))
}

#[tokio::test(start_paused = true)]
async fn it_is_written_when_a_server_has_said_it_every_ten_minutes_and_at_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), None);
    let stop = CancellationToken::new();
    let running = run(rig.keeper, &stop);
    let kept = || rig.files.times().unwrap();
    let estimate = || {
        let kept = kept().unwrap();
        kept.candidate
            .map_or(kept.estimate, |candidate| candidate.said)
            .time
    };
    assert_eq!(kept(), None);
    rig.ear.hear(at(3), Heard::Answer);
    minutes(1).await;
    assert_eq!(estimate(), at(3), "at once: the power may fail");
    // Nor with every word of the server.
    rig.ear.hear(at(64), Heard::Answer);
    minutes(5).await;
    assert_eq!(estimate(), at(3));
    minutes(5).await;
    assert_eq!(estimate(), at(603));
    minutes(3).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    assert_eq!(estimate(), at(843));
}

#[tokio::test(start_paused = true)]
async fn neither_a_wall_clock_nor_what_is_valid_by_it_is_ever_kept() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), None);
    rig.ear.hear(NOON, Heard::Answer);
    rig.wall.step(400 * 86_400);
    let stop = CancellationToken::new();
    let running = run(rig.keeper, &stop);
    minutes(25).await;
    stop.cancel();
    running.await.unwrap().unwrap();
    let kept = rig.files.times().unwrap().unwrap();
    assert_eq!(
        (kept.floor, kept.candidate.unwrap().said.time),
        (at(-86_400), at(1500))
    );
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let script = faulty::Script::default();
    let store = Store::open_with(dir.path(), |files| {
        faulty::FaultyFiles::new(files, script.clone())
    });
    let rig = Rig::over(Arc::new(NodeFiles::over(store.unwrap(), &td())), None);
    script.break_down(faulty::Verb::Write, std::io::ErrorKind::StorageFull);
    let stop = CancellationToken::new();
    let running = run(rig.keeper, &stop);
    rig.ear.hear(at(3), Heard::Answer);
    minutes(11).await;
    let told = || wire(&rig.ear.clock.report()).complaint;
    assert!(told().contains("make room"), "{}", told());
    script.mend();
    // Not ten minutes later: the power may fail.
    minutes(1).await;
    assert!(rig.files.times().unwrap().is_some());
    assert_eq!(told(), "");
    stop.cancel();
    running.await.unwrap().unwrap();
}

/// A node that is on its own may have nothing else to write for days.
#[tokio::test(start_paused = true)]
async fn a_disk_that_takes_nothing_is_known_from_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let script = faulty::Script::default();
    let store = Store::open_with(dir.path(), |files| {
        faulty::FaultyFiles::new(files, script.clone())
    });
    let files = Arc::new(NodeFiles::over(store.unwrap(), &td()));
    let record = Rig::over(Arc::clone(&files), None).ear.clock.record();
    files.save_times(&record).unwrap();
    let rig = Rig::over(files, Some(&record));
    script.break_down(faulty::Verb::Write, std::io::ErrorKind::StorageFull);
    let stop = CancellationToken::new();
    let running = run(rig.keeper, &stop);
    let told = || wire(&rig.ear.clock.report()).complaint;
    crate::testing::until("it is told", || told().contains("make room")).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn people_are_told_what_is_wrong_and_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let rig = Rig::new(dir.path(), None);
    let clock = &rig.ear.clock;
    let told = || wire(&clock.report());
    assert_eq!((told().complaint.as_str(), told().clock_wrong_by), ("", 0));
    rig.ear.hear(NOON, Heard::Answer);
    rig.wall.step(60 * 3600);
    assert_eq!(told().clock_wrong_by, 216_000);
    assert!(
        !told().estimated
            && told()
                .complaint
                .starts_with("the clock is wrong by 2 d 12 h: it is ahead")
    );
    rig.wall.step(-62 * 3600);
    assert_eq!((told().clock_wrong_by, told().now), (-7200, NOON.as_secs()));
    assert!(told().estimated);
    assert!(
        told()
            .complaint
            .starts_with("time: estimated, for the clock is wrong by 2 h 0 min or more: it is behind"),
        "{}",
        told().complaint
    );
    rig.wall.step(2 * 3600);
    assert_eq!(told().complaint, "");
    rig.ear.hear(at(86_400), Heard::Answer);
    assert!(
        told()
            .complaint
            .contains("the server's clock has leapt by 1 d 0 h")
    );
    rig.ear.hear(at(-90_000), Heard::Answer);
    assert!(
        told().complaint.contains("remove time.json"),
        "{}",
        told().complaint
    );
    rig.ear.hear(NOON, Heard::Answer);
    assert_eq!(told().complaint, "");
    rig.wall.set_absent(true);
    assert!(told().estimated && told().complaint.contains("no time of day"));
}

//! The clocks that gateways have (reliability rig 5.3), over simulated time.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::boot::SimBoot;
use crate::clock::SimClock;

const NOON: UnixTime = UnixTime::from_secs(1_800_000_000);
const SKEW: Duration = Duration::from_secs(300);
const MINUTE: Duration = Duration::from_secs(60);

fn at(offset: i64) -> UnixTime {
    UnixTime::from_secs(NOON.as_secs() + offset)
}

struct Machine {
    wall: SimClock,
    clock: GuardedClock,
}

impl Machine {
    /// Synchronised at noon, then the server is away.
    fn new() -> Self {
        let wall = SimClock::new(NOON);
        let clock = guarded(&wall, None);
        assert!(matches!(clock.hear(NOON, Heard::Answer), Verdict::Adopted(_)));
        Self { wall, clock }
    }

    fn now(&self) -> i64 {
        self.clock.now().unwrap().as_secs() - NOON.as_secs()
    }
}

fn guarded(wall: &SimClock, record: Option<&TimeRecord>) -> GuardedClock {
    let boot = Arc::new(SimBoot::new("one", Duration::from_secs(7)));
    GuardedClock::new(Arc::new(wall.clone()), boot, at(-86_400 * 30), SKEW, record)
}

async fn pass(by: Duration) {
    tokio::time::sleep(by).await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_right_is_the_clock() {
    let machine = Machine::new();
    pass(MINUTE * 60 * 24 * 30).await;
    assert_eq!(machine.now(), 86_400 * 30);
    assert_eq!(machine.clock.report().judged.wrong, None);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_stepped_back_two_hours_each_minute_takes_no_time_away() {
    let machine = Machine::new();
    let mut last = machine.now();
    for minute in 1..=600 {
        pass(MINUTE).await;
        machine.wall.step(-7200);
        let now = machine.now();
        assert!(now > last, "minute {minute}: {last}, {now}");
        last = now;
    }
    assert_eq!(last, 36_000);
    let report = machine.clock.report();
    assert!(report.judged.estimated);
    assert_eq!(
        report.judged.wrong,
        Some(crate::Wrong::Behind(Duration::from_secs(600 * 7200)))
    );
}

/// A clock that stands still.
#[derive(Debug)]
struct Frozen(SimClock, AtomicBool);

impl Clock for Frozen {
    fn now(&self) -> Option<UnixTime> {
        match self.1.load(Ordering::SeqCst) {
            true => Some(NOON),
            false => self.0.now(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_stands_still_is_noticed_after_the_skew() {
    let frozen = Arc::new(Frozen(SimClock::new(NOON), AtomicBool::new(true)));
    let wall: SharedClock = frozen.clone();
    let boot = Arc::new(SimBoot::new("one", Duration::ZERO));
    let clock = GuardedClock::new(wall, boot, at(-1), SKEW, None);
    clock.hear(NOON, Heard::Answer);
    pass(SKEW).await;
    assert_eq!(clock.now(), Some(NOON), "as far as the skew");
    pass(Duration::from_secs(1)).await;
    assert_eq!(clock.now(), Some(at(301)));
    pass(MINUTE * 600).await;
    assert_eq!(clock.now(), Some(at(36_301)));
    frozen.1.store(false, Ordering::SeqCst);
    assert_eq!(clock.now(), Some(at(36_301)), "the same, by itself again");
    assert!(!clock.report().judged.estimated);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_60_hours_ahead_for_five_minutes_leaves_nothing_behind() {
    let machine = Machine::new();
    for tens in 1..=6 {
        pass(MINUTE * 10).await;
        assert_eq!(machine.now(), 600 * tens);
    }
    let before = machine.clock.report();
    machine.wall.step(60 * 3600);
    assert_eq!(machine.now(), 61 * 3600, "the wall clock counts");
    assert_eq!(
        machine.clock.report().judged.wrong,
        Some(crate::Wrong::Ahead(Duration::from_secs(60 * 3600)))
    );
    pass(MINUTE * 5).await;
    machine.wall.step(-60 * 3600);
    assert_eq!(machine.now(), 3600 + 300);
    let after = machine.clock.report();
    assert_eq!((after.floor, before.floor), (at(-86_400 * 30), at(-86_400 * 30)));
    assert_eq!(after.estimate, before.estimate.saturating_add(MINUTE * 5));
    assert_eq!(machine.clock.report().judged.wrong, None);
}

#[tokio::test(start_paused = true)]
async fn a_start_at_1970_goes_on_from_what_was_kept() {
    let machine = Machine::new();
    pass(MINUTE * 90).await;
    let kept = machine.clock.record();
    let wall = SimClock::new(UnixTime::EPOCH);
    let boot = Arc::new(SimBoot::new("two", Duration::from_secs(12)));
    let clock = GuardedClock::new(Arc::new(wall.clone()), boot, at(-86_400), SKEW, Some(&kept));
    pass(MINUTE).await;
    assert_eq!(clock.now(), Some(at(5400 + 60)));
    // Time is set: it was off for three days.
    wall.step(NOON.as_secs() + 3 * 86_400);
    assert_eq!(clock.now(), Some(at(3 * 86_400 + 60)));
    assert_eq!(clock.report().judged.wrong, None);
    wall.set_absent(true);
    assert_eq!(clock.now(), Some(at(5400 + 60)), "none is as good as a wrong one");
}

/// G-09: the floor is known as exactly as the skew allows servers and clocks to differ.
#[tokio::test(start_paused = true)]
async fn in_ten_thousand_tries_no_clock_goes_below_the_floor() {
    let machine = Machine::new();
    // Confirmed.
    for tens in 1..=6 {
        pass(MINUTE * 10).await;
        machine.clock.hear(at(600 * tens), Heard::Answer);
    }
    let floor = machine.clock.floor();
    assert_eq!(floor, at(3600));
    for step in 0..10_000_i64 {
        machine.wall.step((step * 7_919) % 100_003 - 50_000 - step);
        assert!(
            machine.clock.now().unwrap().saturating_add(SKEW) >= floor,
            "{step}"
        );
    }
    assert_eq!(machine.clock.floor(), floor);
}

#[tokio::test(start_paused = true)]
async fn what_the_time_is_worth_is_said_with_it() {
    let wall = SimClock::new(NOON);
    let clock = guarded(&wall, None);
    assert_eq!(clock.stamp(), (NOON, Quality::Unconfirmed));
    clock.hear(NOON, Heard::Answer);
    assert_eq!(
        clock.stamp(),
        (NOON, Quality::Unconfirmed),
        "it has not stayed so"
    );
    for minute in 1..=70 {
        pass(MINUTE).await;
        clock.hear(at(minute * 60), Heard::Answer);
    }
    assert_eq!(clock.stamp(), (at(4200), Quality::Confirmed));
    wall.step(60 * 3600);
    assert_eq!(clock.stamp().1, Quality::Doubted);
    wall.step(-60 * 3600 * 2);
    assert_eq!(clock.stamp(), (at(4200), Quality::Estimated));
    wall.step(60 * 3600);
    clock.hear(at(4200 + 86_400), Heard::Answer);
    assert_eq!(
        clock.stamp(),
        (at(4200), Quality::Doubted),
        "a server is a day ahead"
    );
}

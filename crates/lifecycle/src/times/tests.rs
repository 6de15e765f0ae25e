//! Floor and estimate, alone and over everything that clocks and servers do.

use super::*;

const BUILT: UnixTime = UnixTime::from_secs(1_000_000);
const SKEW: Duration = Duration::from_secs(300);
const HOUR: u64 = 3600;
const DAY: i64 = 86_400;

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn after(offset: i64) -> UnixTime {
    UnixTime::from_secs(BUILT.as_secs() + offset)
}

fn boot(id: &str, elapsed: u64) -> Begin {
    Begin {
        built: BUILT,
        skew: SKEW,
        boot_id: id.to_owned(),
        elapsed: secs(elapsed),
    }
}

fn mark(time: UnixTime, at: u64) -> Mark {
    Mark { time, at: secs(at) }
}

fn new() -> Times {
    Times::begin(boot("a", 0), None)
}

/// One that was told the time at `at`, in agreement with what it knew and with its clock.
fn told(at: i64) -> Times {
    let record = TimeRecord {
        floor: after(at),
        estimate: mark(after(at), 5),
        boot_id: "before".to_owned(),
        told: true,
        witness: false,
        anchor: mark(after(at), 5),
        candidate: None,
    };
    let mut times = Times::begin(boot("a", 0), Some(&record));
    let clock = Some(after(at));
    assert_eq!(
        times.hear(after(at), Heard::Answer, clock, secs(0)),
        Verdict::Agreed
    );
    times
}

#[test]
fn a_new_node_knows_the_build_date_and_what_has_gone_by_since_it_began() {
    // The machine may have been on for longer than the program is old.
    let times = Times::begin(boot("a", 30 * 86_400), None);
    assert_eq!((times.floor(), times.estimate(secs(30 * 86_400))), (BUILT, BUILT));
    assert_eq!(times.estimate(secs(30 * 86_400 + 60)), after(60));
    assert_eq!(times.floor(), BUILT, "time that goes by does not raise the floor");
}

#[test]
fn the_wall_clock_counts_unless_it_lies_more_than_the_skew_below_the_estimate() {
    let times = told(DAY);
    for (wall, now, estimated) in [
        (after(DAY + 1001), after(DAY + 1001), false),
        (after(400 * DAY), after(400 * DAY), false),
        (after(DAY + 700), after(DAY + 700), false),
        (after(DAY + 699), after(DAY + 1000), true),
        (UnixTime::EPOCH, after(DAY + 1000), true),
    ] {
        let judged = times.judge(Some(wall), secs(1000));
        assert_eq!((judged.now, judged.estimated), (now, estimated), "{wall}");
    }
    let blind = times.judge(None, secs(1000));
    assert_eq!((blind.now, blind.wrong), (after(DAY + 1000), Some(Wrong::Absent)));
}

#[test]
fn within_the_skew_the_wall_clock_counts_for_the_server_may_be_ahead() {
    let mut times = told(DAY);
    times.hear(after(DAY + 200), Heard::Answer, None, secs(0));
    assert_eq!(times.floor(), after(DAY + 200));
    let judged = times.judge(Some(after(DAY)), secs(0));
    assert_eq!(
        (judged.now, judged.estimated, judged.wrong),
        (after(DAY), false, None)
    );
}

#[test]
fn how_wrong_the_clock_is_is_said_where_it_can_be_known() {
    let times = told(DAY);
    let wrong = |wall| times.judge(Some(after(wall)), secs(0)).wrong;
    assert_eq!(wrong(DAY), None);
    assert_eq!(wrong(DAY + 300), None);
    assert_eq!(wrong(DAY + 301), Some(Wrong::Ahead(secs(301))));
    assert_eq!(wrong(DAY - 7200), Some(Wrong::Behind(secs(7200))));
    // Nobody has said how long the machine was off.
    let again = Times::begin(boot("b", 0), Some(&times.record(secs(0))));
    assert_eq!(again.judge(Some(after(400 * DAY)), secs(0)).wrong, None);
}

#[test]
fn what_a_server_says_raises_the_floor_and_sets_the_estimate() {
    let mut times = told(DAY);
    assert_eq!(
        times.hear(after(DAY + 610), Heard::Answer, None, secs(600)),
        Verdict::Agreed
    );
    assert_eq!(
        (times.floor(), times.estimate(secs(600))),
        (after(DAY + 610), after(DAY + 610))
    );
    // The boot clock ran fast.
    assert_eq!(
        times.hear(after(DAY + 1500), Heard::Answer, None, secs(1600)),
        Verdict::Agreed
    );
    assert_eq!(
        (times.floor(), times.estimate(secs(1600))),
        (after(DAY + 1500), after(DAY + 1500))
    );
}

#[test]
fn a_message_that_was_under_way_for_long_takes_nothing_from_the_estimate() {
    let mut times = told(DAY);
    times.hear(after(DAY + 10), Heard::Message, None, secs(8 * HOUR));
    assert_eq!(times.estimate(secs(8 * HOUR)), after(DAY + 8 * 3600));
    assert_eq!(times.floor(), after(DAY));
}

#[test]
fn a_server_that_is_behind_the_floor_is_not_believed() {
    let mut times = told(DAY);
    assert_eq!(
        times.hear(after(-2 * DAY), Heard::Answer, None, secs(10)),
        Verdict::BelowFloor(secs(3 * 86_400))
    );
    assert_eq!(
        (times.floor(), times.estimate(secs(10))),
        (after(DAY), after(DAY + 10))
    );
    // Two servers are never quite at one.
    assert_eq!(
        times.hear(after(DAY - 5), Heard::Answer, None, secs(10)),
        Verdict::Agreed
    );
    assert_eq!(times.floor(), after(DAY), "it never goes back");
}

/// T-28, G-08: off for a year, and no clock.
#[test]
fn the_first_time_of_a_boot_counts_at_once_and_the_floor_follows_in_an_hour() {
    let mut times = Times::begin(boot("b", 30), Some(&told(DAY).record(secs(0))));
    let year = 365 * DAY;
    let leap = times.hear(after(year), Heard::Answer, None, secs(30));
    assert!(matches!(leap, Verdict::Adopted(_)), "{leap:?}");
    let judged = times.judge(Some(UnixTime::EPOCH), secs(40));
    assert_eq!((judged.now, judged.estimated), (after(year + 10), true));
    assert_eq!(times.floor(), after(DAY));
    assert!(times.can_go_back(None, secs(40)));
    let said = |past: u64| after(year + i64::try_from(past).unwrap());
    for past in [600, 1200, 1800, HOUR - 1] {
        times.hear(said(past), Heard::Answer, None, secs(30 + past));
        assert_eq!(times.floor(), after(DAY), "not yet");
    }
    times.hear(said(HOUR), Heard::Answer, None, secs(30 + HOUR));
    assert_eq!(times.floor(), said(HOUR));
    assert!(!times.can_go_back(None, secs(30 + HOUR)));
}

/// A server whose clock is years ahead at the first contact: its mistake lasts as long as the mistake does.
#[test]
fn a_first_time_that_was_wrong_is_taken_back() {
    let mut times = Times::begin(boot("b", 0), Some(&told(DAY).record(secs(0))));
    times.hear(after(3000 * DAY), Heard::Answer, None, secs(0));
    times.hear(after(3000 * DAY + 1800), Heard::Answer, None, secs(1800));
    assert_eq!(times.floor(), after(DAY));
    let truth = after(2 * DAY);
    let back = times.hear(truth, Heard::Answer, None, secs(1800));
    assert_eq!(back, Verdict::Adopted(secs(86_400 - 1800)));
    assert_eq!(
        (times.floor(), times.estimate(secs(1800))),
        (after(DAY), truth),
        "an hour again"
    );
    for past in [600, 1200, 1800, 3600] {
        times.hear(
            after(2 * DAY + past),
            Heard::Answer,
            None,
            secs(1800 + past.unsigned_abs()),
        );
    }
    assert_eq!(times.floor(), after(2 * DAY + 3600));
}

#[test]
fn a_server_that_leaps_ahead_is_not_believed_for_an_hour() {
    let mut times = told(DAY);
    let ahead = |past: u64| after(61 * DAY + i64::try_from(past).unwrap());
    let sixty_days = Verdict::Doubted(secs(60 * 86_400));
    assert_eq!(times.hear(ahead(0), Heard::Answer, None, secs(0)), sixty_days);
    assert_eq!(times.doubted(None, secs(60)), Some(secs(60 * 86_400)));
    assert_eq!(
        times.hear(ahead(1800), Heard::Answer, None, secs(1800)),
        sixty_days
    );
    // It is mended, and forgotten; wrong again, the hour begins anew.
    assert_eq!(
        times.hear(after(DAY + 1800), Heard::Answer, None, secs(1800)),
        Verdict::Agreed
    );
    assert_eq!(
        (times.floor(), times.doubted(None, secs(1800))),
        (after(DAY + 1800), None)
    );
    assert_eq!(
        times.hear(ahead(1900), Heard::Answer, None, secs(1900)),
        sixty_days
    );
    for past in [2500, 3100, 3700] {
        assert_eq!(
            times.hear(ahead(past), Heard::Answer, None, secs(past)),
            sixty_days
        );
    }
    assert_eq!(
        times.hear(ahead(1900 + HOUR - 1), Heard::Answer, None, secs(1900 + HOUR - 1)),
        sixty_days
    );
    // A clock that wanders is none that has stayed.
    assert_eq!(
        times.hear(ahead(1900 + HOUR + 3600), Heard::Answer, None, secs(1900 + HOUR)),
        Verdict::Doubted(secs(60 * 86_400 + 3600))
    );
    let end = 1900 + 2 * HOUR;
    for past in [600, 1200, 1800] {
        let now = 1900 + HOUR + past;
        times.hear(ahead(now + 3600), Heard::Answer, None, secs(now));
    }
    assert!(matches!(
        times.hear(ahead(end + 3600), Heard::Answer, None, secs(end)),
        Verdict::Adopted(_)
    ));
    assert_eq!(times.floor(), ahead(end + 3600));
}

#[test]
fn a_restart_within_one_boot_goes_on_and_another_boot_begins_where_the_last_was_seen() {
    let times = told(DAY);
    let kept = times.record(secs(600));
    let same = Times::begin(boot("a", 1000), Some(&kept));
    assert_eq!(same.estimate(secs(1000)), after(DAY + 1000));
    assert!(
        same.judge(Some(after(9 * DAY)), secs(1000)).wrong.is_some(),
        "a server has said so in this boot"
    );
    // Another machine may have been on for long: the file was moved.
    let other = Times::begin(boot("b", 9_000_000), Some(&kept));
    assert_eq!(other.estimate(secs(9_000_000)), after(DAY + 600));
    let nameless = Times::begin(
        boot("", 9_000_000),
        Some(&TimeRecord {
            boot_id: String::new(),
            ..kept.clone()
        }),
    );
    assert_eq!(nameless.estimate(secs(9_000_000)), after(DAY + 600));
    let back = Times::begin(boot("a", 1), Some(&kept));
    assert_eq!(
        back.estimate(secs(1)),
        after(DAY + 600),
        "a snapshot of a machine"
    );
    let newer = Times::begin(
        Begin {
            built: after(2 * DAY),
            ..boot("b", 0)
        },
        Some(&kept),
    );
    assert_eq!(
        (newer.floor(), newer.estimate(secs(0))),
        (after(2 * DAY), after(2 * DAY))
    );
}

#[test]
fn who_is_restarted_within_the_hour_waits_for_the_rest_of_it() {
    let mut times = Times::begin(boot("a", 0), None);
    times.hear(after(100 * DAY), Heard::Answer, None, secs(0));
    let kept = times.record(secs(1000));
    let hear_often = |mut times: Times, from: u64, to: u64| {
        for elapsed in (from..to).step_by(600) {
            let said = times.estimate(secs(elapsed));
            times.hear(said, Heard::Answer, None, secs(elapsed));
        }
        times
    };
    let hear = |mut times: Times, elapsed: u64| {
        let said = times.estimate(secs(elapsed));
        times.hear(said, Heard::Answer, None, secs(elapsed));
        times.floor() > BUILT
    };
    let same = || hear_often(Times::begin(boot("a", 1000), Some(&kept)), 1000, HOUR - 1);
    assert!(!hear(same(), HOUR - 1) && hear(same(), HOUR));
    let other = || hear_often(Times::begin(boot("b", 50), Some(&kept)), 50, 49 + HOUR);
    assert!(!hear(other(), 49 + HOUR) && hear(other(), 50 + HOUR));
}

mod always;
mod hostile;
mod node;

//! What holds whatever clocks, servers and people do.

use proptest::prelude::*;

use super::node::Node;
use super::*;

#[derive(Clone, Debug)]
enum Thing {
    /// Time goes by, and the wall clock shows what it likes.
    Passes(u64, i64),
    /// A server says what it likes, so far from the estimate.
    Said(i64, bool, Option<i64>),
    /// The agent starts anew, in this boot or another.
    Restart(bool),
}

fn thing() -> impl Strategy<Value = Thing> {
    let offset = prop_oneof![-400i64..400, -10_000_000i64..10_000_000];
    prop_oneof![
        (0u64..7200, -40_000_000_000i64..40_000_000_000).prop_map(|(by, wall)| Thing::Passes(by, wall)),
        (
            offset,
            any::<bool>(),
            proptest::option::of(-10_000_000i64..10_000_000)
        )
            .prop_map(|(by, answer, wall)| Thing::Said(by, answer, wall)),
        any::<bool>().prop_map(Thing::Restart),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_floor_is_the_build_date_or_what_a_server_said_and_nothing_below_it_counts(
        things in proptest::collection::vec(thing(), 1..60),
    ) {
        let (mut times, mut elapsed, mut boots, mut said) = (new(), 0u64, 0u32, vec![BUILT]);
        for thing in things {
            let before = (times.floor(), times.estimate(secs(elapsed)));
            let least = times.least(secs(elapsed));
            match thing {
                Thing::Passes(by, wall) => {
                    elapsed += by;
                    let judged = times.judge(Some(UnixTime::from_secs(wall)), secs(elapsed));
                    prop_assert!(judged.now.saturating_add(SKEW) >= times.estimate(secs(elapsed)));
                    // No wall clock changes anything that lasts.
                    prop_assert_eq!(before.0, times.floor());
                    prop_assert_eq!(before.1.saturating_add(secs(by)), times.estimate(secs(elapsed)));
                }
                Thing::Said(by, answer, wall) => {
                    let time = UnixTime::from_secs(before.1.as_secs() + by);
                    said.push(time);
                    let heard = if answer { Heard::Answer } else { Heard::Message };
                    let wall = wall.map(after);
                    let judged = times.judge(wall, secs(elapsed));
                    let verdict = times.hear(time, heard, wall, secs(elapsed));
                    if let Verdict::Doubted(_) | Verdict::BelowFloor(_) = verdict {
                        prop_assert_eq!(before.0, times.floor());
                        prop_assert_eq!(least, times.least(secs(elapsed)));
                        let after = times.judge(wall, secs(elapsed));
                        prop_assert_eq!((judged.now, judged.estimated), (after.now, after.estimated));
                    }
                    let tolerance = (SKEW + secs(elapsed) / 2000) * 2;
                    let kept = times.least(secs(elapsed)).saturating_add(tolerance) >= least;
                    prop_assert!(kept || matches!(verdict, Verdict::Adopted(_)), "taken back");
                }
                Thing::Restart(same) => {
                    let record = times.record(secs(elapsed));
                    if !same {
                        (boots, elapsed) = (boots + 1, 0);
                    }
                    times = Times::begin(boot(&format!("boot {boots}"), elapsed), Some(&record));
                    prop_assert_eq!(before, (times.floor(), times.estimate(secs(elapsed))));
                }
            }
            prop_assert!(times.floor() >= before.0, "it went back");
            prop_assert!(said.contains(&times.floor()), "nobody said it");
            prop_assert!(times.estimate(secs(elapsed)) >= times.floor());
        }
    }

    /// Whoever speaks, and however often: in an hour the floor gains no more than the skew on the boot clock, but for a leap that stayed so
    /// for an hour; nor does the estimate lose more.
    #[test]
    fn the_floor_rises_with_the_boot_clock(
        steps in proptest::collection::vec(
            (0u64..900, -400i64..301, any::<bool>(), proptest::option::of(-400i64..400)),
            1..300,
        ),
    ) {
        let (mut times, mut elapsed) = (told(DAY), 0u64);
        let (mut leapt, mut doubted_since) = (Duration::ZERO, None);
        for (by, offset, answer, clock) in steps {
            elapsed += by;
            let wall = clock.map(|ahead| after(DAY + i64::try_from(elapsed).unwrap() + ahead));
            let estimate = times.estimate(secs(elapsed)).as_secs();
            let heard = if answer { Heard::Answer } else { Heard::Message };
            match times.hear(UnixTime::from_secs(estimate + offset), heard, wall, secs(elapsed)) {
                Verdict::Doubted(_) | Verdict::BelowFloor(_) if times.candidate.is_some() => {
                    doubted_since.get_or_insert(elapsed);
                }
                Verdict::Adopted(leap) => {
                    let since = doubted_since.take();
                    prop_assert!(since.is_some_and(|since| secs(elapsed - since) >= CONFIRMED_AFTER));
                    // Back or forth.
                    leapt += leap;
                }
                _ => {
                    if times.candidate.is_none() {
                        doubted_since = None;
                    }
                }
            }
            let walked = (SKEW + secs(elapsed) / 2000) * u32::try_from(2 + elapsed / HOUR).unwrap();
            let most = secs(elapsed) + walked + leapt;
            prop_assert!(times.floor() <= after(DAY).saturating_add(most));
            let least = times.least(secs(elapsed)).saturating_add(walked + leapt);
            prop_assert!(least >= after(DAY).saturating_add(secs(elapsed)));
        }
    }

    #[test]
    fn no_numbers_make_it_panic(floor: i64, estimate: i64, at: u64, elapsed: u64, said: i64, wall: Option<i64>, same: bool) {
        let record = TimeRecord {
            floor: UnixTime::from_secs(floor),
            estimate: mark(UnixTime::from_secs(estimate), at),
            boot_id: "a".to_owned(),
            told: same,
            witness: same,
            anchor: mark(UnixTime::from_secs(estimate), elapsed),
            candidate: Some(Candidate {
                said: mark(UnixTime::from_secs(floor), at),
                hour: Hour { since: secs(elapsed), last: secs(at), voices: u32::MAX },
                counts: same,
            }),
        };
        let mut times = Times::begin(boot(if same { "a" } else { "b" }, elapsed), Some(&record));
        times.hear(UnixTime::from_secs(said), Heard::Answer, wall.map(UnixTime::from_secs), secs(at));
        times.hear(UnixTime::from_secs(said), Heard::Message, None, secs(elapsed));
        let judged = times.judge(wall.map(UnixTime::from_secs), secs(at));
        prop_assert!(judged.now.saturating_add(SKEW) >= times.floor());
        let _record = times.record(secs(elapsed));
    }

    #[test]
    fn a_clock_that_is_right_counts_whenever_the_last_server_was_right(
        // A boot clock that is fast overrules it when that has made up the skew: nobody can tell which of both is right.
        slow in 0i64..50,
        turns in proptest::collection::vec(turn(), 1..12),
    ) {
        let mut node = Node::right();
        node.slow = slow;
        for (turn, ahead) in turns {
            // NTP keeps it so.
            node.set_clock(Some(ahead));
            match turn {
                Turn::Pass(by) => node.pass(by),
                Turn::Off(by) => {
                    node.off(by);
                    node.set_clock(Some(ahead));
                }
                Turn::Wrong(by, long) => {
                    let witness = node.times.witness;
                    for past in (0..long).step_by(600) {
                        node.hear(by);
                        prop_assert!(node.floor_ahead() <= 60, "{past}: {node:?}");
                        prop_assert!(past >= 3600 || !witness || !node.judge().estimated, "{past}: {node:?}");
                        node.pass(600);
                        node.set_clock(Some(ahead));
                    }
                    node.hear(0);
                }
                Turn::Right(long) => node.listen(0, long),
            }
            prop_assert!(!node.judge().estimated && node.floor_ahead() <= 60, "{node:?}");
        }
    }

    #[test]
    fn a_clock_that_is_wrong_is_overruled_within_a_day_and_no_doubt_lasts_for_ever(
        slow in -100i64..100,
        turns in proptest::collection::vec((turn(), proptest::option::of(-400 * DAY..400 * DAY)), 0..12),
        clock in proptest::option::of(-400 * DAY..60),
        end in prop_oneof![Just(0), -DAY..400 * DAY],
    ) {
        let mut node = Node::right();
        node.slow = slow;
        for ((turn, _), clock) in turns {
            node.set_clock(clock);
            match turn {
                Turn::Pass(by) => node.pass(by),
                Turn::Off(by) => node.off(by),
                Turn::Right(long) => node.listen(0, long),
                // A machine that is paused.
                Turn::Wrong(by, _) if end == 0 => node.truth += by.abs(),
                Turn::Wrong(by, long) => node.listen(by, long),
            }
        }
        node.set_clock(clock);
        node.listen(end, DAY + 600);
        let (verdict, clock) = (node.hear(end), node.wall());
        if end == 0 {
            prop_assert!(node.error().abs() <= 300 && (-300..=0).contains(&node.floor_ahead()), "{node:?}");
        }
        // Below the floor nobody is believed, however long.
        if !matches!(verdict, Verdict::BelowFloor(_)) {
            prop_assert_eq!(node.times.doubted(clock, node.elapsed()), None);
            prop_assert!((end..=end + 300).contains(&node.floor_ahead()), "{verdict:?} {node:?}");
        }
    }
}

#[derive(Clone, Debug)]
enum Turn {
    Pass(i64),
    Off(i64),
    /// Servers say so much more or less, for less than a day, and then they are right.
    Wrong(i64, i64),
    Right(i64),
}

/// And how far a clock that is right is ahead.
fn turn() -> impl Strategy<Value = (Turn, i64)> {
    let wrong = prop_oneof![DAY..4000 * DAY, -4000 * DAY..-DAY];
    let turn = prop_oneof![
        (1..30 * DAY).prop_map(Turn::Pass),
        (1..60 * DAY).prop_map(Turn::Off),
        (wrong, 1..DAY).prop_map(|(by, long)| Turn::Wrong(by, long)),
        (1..DAY).prop_map(Turn::Right),
    ];
    (turn, -100i64..100)
}

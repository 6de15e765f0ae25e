use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> UnixTime {
    UnixTime::from_secs(1_800_000_000 + seconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn rung(begins: UnixTime, life: Duration) -> Window {
    Window {
        begins,
        ends: begins.saturating_add(life),
    }
}

/// Asks for all that is missing, and has it. Answers how many that were.
fn fill(now: UnixTime, reserve: Duration, life: Duration, rungs: &mut Vec<Window>) -> usize {
    let missing = missing(now, reserve, life, rungs).begins;
    rungs.extend(missing.iter().map(|begins| rung(*begins, life)));
    rungs.sort();
    rungs.retain(|rung| rung.ends > now);
    missing.len()
}

#[test]
fn a_new_reserve_begins_now_and_has_a_rung_for_each_half_of_a_life() {
    let asked = missing(at(0), secs(72 * 3600), secs(3600), &[]);
    assert_eq!(asked.begins.len(), 144);
    assert_eq!(asked.begins[..3], [at(0), at(1800), at(3600)]);
    // The last one is still valid when the reserve is over.
    assert_eq!(asked.begins.last(), Some(&at(72 * 3600 - 1800)));
    assert_eq!(asked.next, at(1800), "one a step");
}

#[test]
fn a_reserve_shorter_than_a_life_is_a_rung_or_two() {
    let few = |reserve| missing(at(0), secs(reserve), secs(3600), &[]).begins;
    assert_eq!(few(60), [at(0)]);
    assert_eq!(few(3600), [at(0), at(1800)]);
}

#[test]
fn what_is_far_too_much_stays_within_bounds() {
    let asked = missing(at(0), secs(u64::MAX / 4), secs(1), &[]);
    assert_eq!(asked.begins.len(), MOST as usize);
    let mut rungs = Vec::new();
    fill(at(0), secs(u64::MAX / 4), secs(10), &mut rungs);
    assert_eq!(
        (rungs.len(), fill(at(4), secs(u64::MAX / 4), secs(10), &mut rungs)),
        (512, 0)
    );
    assert_eq!(missing(at(0), secs(10), secs(0), &[]).begins.len(), 10);
}

#[test]
fn a_rung_takes_its_turn_when_what_is_served_is_due_and_nobody_renews_it() {
    let served = Served {
        window: Window {
            begins: at(-60),
            ends: at(3600),
        },
        due: at(1700),
    };
    let rungs = [
        rung(at(0), secs(3600)),
        rung(at(1800), secs(3600)),
        rung(at(3600), secs(3600)),
    ];
    let who = |now, alone| successor(at(now), Some(served), alone, &rungs);
    assert_eq!(who(1750, true), None, "the one of now does not last longer");
    assert_eq!(who(1800, true), Some(1));
    assert_eq!(who(1800, false), None, "the server renews it");
    assert_eq!(who(3300, false), Some(1), "the server is there, and does not");
    assert_eq!(who(3600, false), Some(2));
    assert_eq!(who(-61, true), None, "no rung begins before its time");
    assert_eq!(
        successor(at(1), None, false, &rungs),
        Some(0),
        "there is nothing else"
    );
    assert_eq!(
        successor(at(7200), Some(served), true, &rungs),
        None,
        "all are spent"
    );
    // A clock that was ahead: what is served is of later.
    let later = Served {
        window: rungs[2],
        due: at(5000),
    };
    assert_eq!(successor(at(10), Some(later), true, &rungs), Some(0));
    assert_eq!(next_turn(at(0), Some(served), true, &rungs), Some(at(1700)));
    assert_eq!(next_turn(at(1700), Some(served), true, &rungs), Some(at(1800)));
    assert_eq!(next_turn(at(4000), None, true, &rungs), None);
}

#[test]
fn what_is_covered_ends_at_the_first_gap() {
    let hour = secs(3600);
    let rungs = [rung(at(0), hour), rung(at(1800), hour), rung(at(5401), hour)];
    assert_eq!(covered_until(at(0), None, &rungs), Some(at(5400)));
    assert_eq!(
        covered_until(at(0), Some(rung(at(0), secs(5401))), &rungs),
        Some(at(9001))
    );
    assert_eq!(covered_until(at(9001), None, &rungs), None);
    assert_eq!(covered_until(at(-1), None, &rungs), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Whenever the server goes away, and however irregularly the node was in contact until then.
    #[test]
    fn a_node_that_is_cut_off_has_something_valid_for_all_of_its_reserve(
        life in 2_u64..20_000,
        share in 1_u64..60,
        waits in prop::collection::vec(0_u64..30_000, 1..12),
    ) {
        let (life, reserve) = (secs(life), secs((life * share / 4).max(1)));
        let (mut now, mut rungs) = (at(0), Vec::new());
        for wait in waits {
            now = now.saturating_add(secs(wait));
            fill(now, reserve, life, &mut rungs);
            let asked = missing(now, reserve, life, &rungs);
            prop_assert!(asked.begins.is_empty() && asked.next > now);
            let most = reserve.as_secs().div_ceil(step(life).as_secs()) + 2;
            prop_assert!(rungs.len() as u64 <= most, "{} of {most}", rungs.len());
        }
        let end = now.saturating_add(reserve);
        prop_assert!(covered_until(now, None, &rungs).unwrap() >= end);
        // One after the other, each begun before the one before it ends.
        let mut moment = now;
        while moment < end {
            let current = turn(moment, &rungs);
            prop_assert!(current.is_some());
            let current = rungs[current.unwrap()];
            prop_assert!(current.holds(moment));
            let last = rungs.last().unwrap();
            let next = rungs.iter().find(|rung| rung.begins > moment);
            prop_assert!(current == *last || next.unwrap().begins < current.ends);
            moment = next.map_or(end, |next| next.begins);
        }
    }

    /// While connected, the far end asks for as many as time passes, whenever it is looked at.
    #[test]
    fn topping_up_is_one_rung_a_step(life in 60_u64..20_000, share in 4_u64..40, every in 1_u64..4) {
        let (life, reserve) = (secs(life), secs(life * share / 4));
        let mut rungs = Vec::new();
        let first = fill(at(0), reserve, life, &mut rungs);
        let steps = 20;
        let mut more = 0;
        let mut now = at(0);
        while now < at(0).saturating_add(step(life) * steps) {
            now = now.saturating_add(step(life) / u32::try_from(every).unwrap());
            more += fill(now, reserve, life, &mut rungs);
        }
        prop_assert!(more as u64 <= u64::from(steps) + 2, "{more} after {first}");
    }

    /// Random rungs, a random clock: whatever is whose turn is valid then.
    #[test]
    fn nobody_has_a_turn_before_it_begins_or_after_it_ends(
        begins in prop::collection::vec((-5000_i64..5000, 1_u64..4000), 0..20),
        now in -6000_i64..6000,
        alone: bool,
    ) {
        let mut rungs: Vec<_> = begins.iter().map(|(begin, life)| rung(at(*begin), secs(*life))).collect();
        rungs.sort();
        if let Some(chosen) = successor(at(now), None, alone, &rungs) {
            prop_assert!(rungs[chosen].holds(at(now)));
        } else {
            prop_assert!(rungs.iter().all(|rung| !rung.holds(at(now))));
        }
        let next = next_turn(at(now), None, alone, &rungs);
        prop_assert!(next.is_none_or(|next| next > at(now)));
    }
}

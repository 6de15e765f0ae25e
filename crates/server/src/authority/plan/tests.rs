use std::collections::BTreeMap;
use std::time::Duration;

use landfast_identity::PrivateKey;
use proptest::prelude::*;

use super::*;
use crate::core::fixture::{DAY, START};

const KINDS: [Kind; 2] = [Kind::X509, Kind::Jwt];

fn made(kind: Kind, now: UnixTime, life: Duration, name: usize) -> AuthorityRow {
    AuthorityRow {
        id: format!("{}-{name}", kind.as_str()),
        kind,
        slot: Slot::Prepared,
        key_name: String::new(),
        certificate: None,
        descent: None,
        public_key: PrivateKey::generate().unwrap().public_key(),
        created_at: now,
        activated_at: None,
        not_before: now,
        not_after: now.saturating_add(life),
        last_svid_ends: None,
        tainted: false,
    }
}

/// Does what is due at `now`, as the task around the plan does.
fn settle(rows: &mut Vec<AuthorityRow>, now: UnixTime, life: Duration) -> Vec<String> {
    settle_by(rows, now, life, Trust::Steady)
}

fn settle_by(rows: &mut Vec<AuthorityRow>, now: UnixTime, life: Duration, trust: Trust) -> Vec<String> {
    let mut done = Vec::new();
    // A server that could not trust its clock for long has all the old ones to forget at once.
    let enough = 12 + rows.len();
    while let Some(step) = next(rows, &KINDS, (now, trust), Duration::ZERO) {
        done.push(step.to_string());
        match step {
            Step::Prepare(kind) => rows.push(made(
                kind,
                now,
                life,
                rows.len() + usize::try_from(now.as_secs()).unwrap(),
            )),
            Step::Activate(kind) => activate(rows, kind, now),
            Step::Resume(id) => resume(rows, &id, now),
            Step::Retire(id) => retire(rows, &id),
            Step::Forget(id) => rows.retain(|row| row.id != id),
        }
        for row in rows.iter_mut().filter(|row| row.slot == Slot::Active) {
            row.last_svid_ends = row.last_svid_ends.max(Some(now));
        }
        assert!(done.len() <= enough, "the plan never rests: {done:?}");
    }
    done
}

fn at(days: u64) -> UnixTime {
    START.saturating_add(days.try_into().map_or(DAY, |d: u32| d * DAY))
}

#[test]
fn an_authority_is_prepared_at_half_and_activated_at_the_last_sixth() {
    let mut rows = Vec::new();
    let life = 30 * DAY;
    assert_eq!(
        settle(&mut rows, START, life),
        ["prepare x509", "activate x509", "prepare jwt", "activate jwt"]
    );
    let second = Duration::from_secs(1);
    assert!(settle(&mut rows, at(15).saturating_sub(second), life).is_empty());
    assert_eq!(settle(&mut rows, at(15), life), ["prepare x509", "prepare jwt"]);
    assert!(settle(&mut rows, at(25).saturating_sub(second), life).is_empty());
    for row in &mut rows {
        row.last_svid_ends = Some(at(25));
    }
    assert_eq!(settle(&mut rows, at(25), life), ["activate x509", "activate jwt"]);
    assert_eq!(rows.iter().filter(|row| row.slot == Slot::Old).count(), 2);
}

#[test]
fn an_old_authority_stays_a_day_after_its_last_svid() {
    let mut rows = Vec::new();
    let life = 30 * DAY;
    for day in [0, 15, 25] {
        settle(&mut rows, at(day), life);
        rows.iter_mut().for_each(|row| row.last_svid_ends = Some(at(40)));
    }
    let old = rows.iter_mut().find(|row| row.slot == Slot::Old).unwrap();
    old.last_svid_ends = Some(at(30));
    let id = old.id.clone();
    let mut seen = settle(&mut rows, at(31), life);
    assert!(!seen.contains(&format!("forget {id}")), "{seen:?}");
    seen = settle(&mut rows, at(31).saturating_add(Duration::from_secs(1)), life);
    assert_eq!(seen, [format!("forget {id}")]);
}

#[test]
fn a_server_that_slept_through_the_preparation_lets_the_new_one_become_known_first() {
    let mut rows = Vec::new();
    let life = 30 * DAY;
    settle(&mut rows, START, life);
    assert_eq!(settle(&mut rows, at(28), life), ["prepare x509", "prepare jwt"]);
    let ten = at(28).saturating_add(Duration::from_secs(600));
    assert!(settle(&mut rows, ten.saturating_sub(Duration::from_secs(1)), life).is_empty());
    rows.iter_mut().for_each(|row| row.last_svid_ends = Some(at(30)));
    assert_eq!(settle(&mut rows, ten, life), ["activate x509", "activate jwt"]);
}

#[test]
fn after_a_long_sleep_everything_that_has_expired_is_replaced_at_once() {
    let mut rows = Vec::new();
    let life = 30 * DAY;
    settle(&mut rows, START, life);
    settle(&mut rows, at(15), life);
    let did = settle(&mut rows, at(300), life);
    for kind in KINDS {
        let active: Vec<_> = rows
            .iter()
            .filter(|r| r.kind == kind && r.slot == Slot::Active)
            .collect();
        assert_eq!(active.len(), 1);
        assert!(active[0].not_after > at(300), "{did:?}");
    }
}

#[test]
fn long_lives_are_not_prepared_months_ahead() {
    let mut rows = Vec::new();
    let life = 3650 * DAY;
    settle(&mut rows, START, life);
    assert!(settle(&mut rows, at(3619), life).is_empty());
    assert_eq!(settle(&mut rows, at(3620), life).len(), 2);
    assert!(settle(&mut rows, at(3642), life).is_empty());
    rows.iter_mut()
        .for_each(|row| row.last_svid_ends = Some(at(3650)));
    assert_eq!(settle(&mut rows, at(3643), life).len(), 2);
}

#[test]
fn by_a_doubtful_clock_nobody_is_forgotten_and_a_valid_authority_stays() {
    let mut rows = Vec::new();
    let life = 30 * DAY;
    settle(&mut rows, START, life);
    assert_eq!(
        settle_by(&mut rows, at(27), life, Trust::Doubtful),
        ["prepare x509", "prepare jwt"]
    );
    assert!(settle_by(&mut rows, at(29), life, Trust::Doubtful).is_empty());
    rows.iter_mut().for_each(|row| row.last_svid_ends = Some(at(30)));
    assert_eq!(settle(&mut rows, at(29), life), ["activate x509", "activate jwt"]);
    assert!(settle_by(&mut rows, at(40), life, Trust::Doubtful).is_empty());
    assert_eq!(rows.iter().filter(|row| row.slot == Slot::Old).count(), 2);
    assert_eq!(settle(&mut rows, at(40), life).len(), 2, "both are forgotten");
}

#[test]
fn a_server_that_was_off_for_long_signs_at_once_and_forgets_later() {
    let life = 30 * DAY;
    for prepared in [false, true] {
        let mut rows = Vec::new();
        settle(&mut rows, START, life);
        if prepared {
            settle(&mut rows, at(15), life);
        }
        let before: Vec<_> = rows.iter().map(|row| row.id.clone()).collect();
        settle_by(&mut rows, at(80), life, Trust::Doubtful);
        for kind in KINDS {
            assert!(
                rows.iter()
                    .any(|row| { row.kind == kind && row.slot == Slot::Active && row.not_after == at(110) })
            );
        }
        assert!(before.iter().all(|id| rows.iter().any(|row| row.id == *id)));
        settle(&mut rows, at(82), life);
        assert_eq!(rows.len(), 2, "{rows:?}");
    }
}

/// A leap of the clock forward and back, from every part of a rotation: all are there, and one that was known before signs.
#[test]
fn what_a_leap_has_done_is_undone() {
    let life = 30 * DAY;
    for day in 1..60 {
        for leap in [1, 3, 10, 20, 40, 80, 400] {
            let mut rows = Vec::new();
            for day in 0..=day {
                settle(&mut rows, at(day), life);
            }
            let before = rows.clone();
            settle_by(&mut rows, at(day + leap), life, Trust::Doubtful);
            let did = settle_by(&mut rows, at(day), life, Trust::Doubtful);
            let place = format!("day {day}, leap of {leap} days, then {did:?}");
            let known = |id: &str| before.iter().any(|row| row.id == id);
            assert!(
                before.iter().all(|row| rows.iter().any(|now| now.id == row.id)),
                "{place}"
            );
            for kind in KINDS {
                let mut active = rows
                    .iter()
                    .filter(|row| row.kind == kind && row.slot == Slot::Active);
                let row = active.next().unwrap();
                assert!(known(&row.id), "{place}");
                assert!(row.not_before <= at(day) && at(day) < row.not_after, "{place}");
                assert!(active.next().is_none(), "{place}");
            }
        }
    }
}

#[test]
fn a_successor_made_by_a_clock_that_was_ahead_is_not_waited_for() {
    let mut rows = Vec::new();
    let life = 30 * DAY;
    settle(&mut rows, START, life);
    let ahead = at(29).saturating_add(DAY - Duration::from_secs(1));
    assert_eq!(settle_by(&mut rows, ahead, life, Trust::Doubtful).len(), 2);
    assert!(settle(&mut rows, at(1), life).is_empty());
    let did = settle(&mut rows, at(15), life);
    assert!(
        did[0].starts_with("retire x509-") && did[1] == "prepare x509",
        "{did:?}"
    );
    settle(&mut rows, at(25), life);
    for row in rows.iter().filter(|row| row.slot == Slot::Active) {
        assert_eq!(row.not_before, at(15));
    }
}

#[test]
fn a_clock_that_is_behind_all_authorities_changes_nothing() {
    let mut rows = Vec::new();
    let life = 30 * DAY;
    for day in [5, 20] {
        settle(&mut rows, at(day), life);
    }
    let before = rows.len();
    assert!(settle(&mut rows, at(4), life).is_empty());
    assert!(settle(&mut rows, UnixTime::EPOCH, life).is_empty());
    assert_eq!(rows.len(), before);
}

proptest! {
    /// Whatever the server sleeps through: there is one active authority of each kind, it is not expired, it was in the bundle before
    /// it signed unless there was no other, and nobody is dropped while an SVID of theirs may be valid.
    #[test]
    fn nothing_that_may_be_verified_is_ever_forgotten(naps in prop::collection::vec((1u64..20_000, any::<bool>()), 1..60), life_days in 2u32..90) {
        let life = life_days * DAY;
        let mut rows = Vec::new();
        let mut now = START;
        let mut ends: BTreeMap<String, UnixTime> = BTreeMap::new();
        for (minutes, doubt) in naps {
            let before: Vec<_> = rows.iter().map(|r: &AuthorityRow| (r.id.clone(), r.not_after)).collect();
            settle_by(&mut rows, now, life, if doubt { Trust::Doubtful } else { Trust::Steady });
            for kind in KINDS {
                let active: Vec<_> = rows.iter().filter(|r| r.kind == kind && r.slot == Slot::Active).collect();
                prop_assert_eq!(active.len(), 1);
                prop_assert!(active[0].not_after > now);
                prop_assert!(rows.iter().filter(|r| r.kind == kind && r.slot == Slot::Prepared).count() <= 1);
                let known = before.iter().any(|(id, _)| *id == active[0].id);
                let other = before.iter().any(|(id, end)| id.starts_with(kind.as_str()) && *end > now);
                prop_assert!(known || !other, "somebody unknown signs although another could");
            }
            for (id, end) in &ends {
                prop_assert!(*end <= now || rows.iter().any(|r| r.id == *id), "{} was forgotten too early", id);
            }
            for row in rows.iter_mut().filter(|r| r.slot == Slot::Active) {
                let end = now.saturating_add(7 * DAY).min(row.not_after);
                row.last_svid_ends = Some(end);
                ends.insert(row.id.clone(), end);
            }
            now = now.saturating_add(Duration::from_secs(minutes * 60));
        }
    }
}

#[test]
fn only_authorities_of_the_kinds_that_are_wanted_are_made_and_all_go_by_the_same_plan() {
    let mut rows = Vec::new();
    assert_eq!(
        next(&rows, &KINDS, (at(0), Trust::Steady), Duration::ZERO),
        Some(Step::Prepare(Kind::X509))
    );
    settle(&mut rows, at(0), 30 * DAY);
    assert_eq!(next(&rows, &KINDS, (at(0), Trust::Steady), Duration::ZERO), None);
    let wanted = next(&rows, &Kind::ALL, (at(0), Trust::Steady), Duration::ZERO);
    assert_eq!(wanted, Some(Step::Prepare(Kind::Wit)));
    rows.push(made(Kind::Wit, at(0), 30 * DAY, 99));
    let wanted = next(&rows, &Kind::ALL, (at(0), Trust::Steady), Duration::ZERO);
    assert_eq!(wanted, Some(Step::Activate(Kind::Wit)));
    activate(&mut rows, Kind::Wit, at(0));
    assert_eq!(
        next(&rows, &Kind::ALL, (at(0), Trust::Steady), Duration::ZERO),
        None
    );
    let half = at(16);
    settle(&mut rows, half, 30 * DAY);
    let wanted = next(&rows, &Kind::ALL, (half, Trust::Steady), Duration::ZERO);
    assert_eq!(wanted, Some(Step::Prepare(Kind::Wit)));
}

/// The longest reserve that fits, with lives that the caps would cut: what is signed last ends before its authority, and the next one has been known
/// for a whole reserve before it signs.
#[test]
fn a_reserve_moves_a_rotation_ahead_of_the_caps() {
    let svid = DAY / 24;
    for longest in [3 * DAY, 9 * DAY, 40 * DAY] {
        for more in [0, 10, 400] {
            let life = 6 * (longest + svid) + more * DAY;
            let due = Due::of(Kind::X509, life, longest);
            assert_eq!(due.activate, life / 6);
            assert!(due.activate >= longest + svid && due.prepare <= life / 2);
            assert!(due.prepare >= due.activate + longest);
            let tokens = Due::of(Kind::Jwt, life, longest);
            let none = Due::of(Kind::X509, life, Duration::ZERO);
            for usual in [tokens, none] {
                assert_eq!(usual.prepare, (life / 2).min(PREPARE_CAP));
                assert_eq!(usual.activate, (life / 6).min(ACTIVATE_CAP));
            }
        }
    }
}

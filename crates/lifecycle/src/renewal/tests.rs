//! Renewal over every clock that a gateway has shown.

use proptest::prelude::*;

use super::*;

fn at(secs: i64) -> UnixTime {
    UnixTime::from_secs(secs)
}

#[test]
fn half_life_is_the_middle_of_the_range() {
    let dues: Vec<i64> = (0u32..2000)
        .map(|n| renewal_due(at(0), at(1000), &n.to_be_bytes()).as_secs())
        .collect();
    assert!(dues.iter().all(|d| (400..=600).contains(d)));
    let mean = dues.iter().sum::<i64>() / 2000;
    assert!((490..=510).contains(&mean), "{mean}");
    assert!(dues.iter().any(|d| *d < 420) && dues.iter().any(|d| *d > 580));
}

/// One-hour SVIDs of one batch: renewed over twelve minutes, in each of them about as many.
#[test]
fn what_was_issued_together_is_not_renewed_together() {
    let mut minutes = [0; 12];
    for serial in 0..6000_u32 {
        let due = renewal_due(
            at(0),
            at(3600),
            format!("{:032x}", serial.wrapping_mul(2_654_435_761)).as_bytes(),
        );
        let minute = (due.as_secs() - 24 * 60) / 60;
        minutes[usize::try_from(minute.min(11)).unwrap()] += 1;
    }
    assert!(
        minutes.iter().all(|among| (400..600).contains(among)),
        "{minutes:?}"
    );
}

#[test]
fn the_bounds_of_validity_are_included() {
    assert_eq!(validity(None, at(10), at(20)), Validity::UnknownTime);
    assert_eq!(validity(Some(at(9)), at(10), at(20)), Validity::NotYet);
    assert_eq!(validity(Some(at(10)), at(10), at(20)), Validity::Valid);
    assert_eq!(validity(Some(at(20)), at(10), at(20)), Validity::Valid);
    assert_eq!(validity(Some(at(21)), at(10), at(20)), Validity::Expired);
}

#[test]
fn a_clock_at_1970_or_none_keeps_the_credential() {
    let plan = RenewalPlan::new(at(1_700_000_000), at(1_700_003_600), b"s");
    let kept = Action::Retain {
        ask_again: Duration::from_secs(60),
    };
    assert_eq!(plan.decide(Some(UnixTime::EPOCH), Duration::ZERO), kept);
    assert_eq!(plan.decide(None, Duration::ZERO), kept);
}

#[test]
fn a_failed_renewal_holds_back_but_never_gives_up() {
    let plan = RenewalPlan::new(at(0), at(1000), b"s");
    assert_eq!(plan.decide(Some(at(700)), Duration::ZERO), Action::Renew);
    let held = plan.decide(Some(at(700)), Duration::from_secs(7));
    assert_eq!(
        held,
        Action::Retain {
            ask_again: Duration::from_secs(7)
        }
    );
    assert_eq!(
        plan.decide(Some(at(1001)), Duration::from_secs(7)),
        Action::Replace
    );
}

proptest! {
    #[test]
    fn the_due_time_is_stable_and_inside_the_life(start in -1_000_000i64..4_000_000_000, life in 0u32.., seed: Vec<u8>) {
        let (start, end) = (at(start), at(start + i64::from(life)));
        let due = renewal_due(start, end, &seed);
        prop_assert_eq!(due, renewal_due(start, end, &seed));
        let (life, used) = (f64::from(life), due.since(start).as_secs() as f64);
        prop_assert!(due >= start && due <= end);
        prop_assert!(used >= life * 0.4 - 1.0 && used <= life * 0.6 + 1.0);
    }

    #[test]
    fn no_times_make_it_panic(a: i64, b: i64, now: Option<i64>, hold in 0u64..) {
        let plan = RenewalPlan::new(at(a), at(b), &[]);
        let _action = plan.decide(now.map(at), Duration::from_secs(hold));
    }

    #[test]
    fn whatever_the_clock_does_the_next_look_is_within_a_minute_and_only_expiry_replaces(
        life in 60i64..10_000_000, now in -10_000_000i64..20_000_000, hold in 0u64..1_000_000,
    ) {
        let plan = RenewalPlan::new(at(0), at(life), b"serial");
        match plan.decide(Some(at(now)), Duration::from_secs(hold)) {
            Action::Retain { ask_again } => prop_assert!(ask_again <= Duration::from_secs(60) && !ask_again.is_zero() && now <= life),
            Action::Renew => prop_assert!(at(now) >= plan.due() && now <= life && hold == 0),
            Action::Replace => prop_assert!(now > life),
        }
    }
}

//! Recovery as tables, and at random against what must never happen.

use proptest::prelude::*;

use super::*;

const NOON: i64 = 1_800_000_000;
const DAY: u64 = 86_400;
const MONTH: Duration = Duration::from_secs(30 * DAY);
const KEY: KeyName = [1; 32];
const OTHER: KeyName = [2; 32];

fn at(secs: u64) -> UnixTime {
    UnixTime::from_secs(NOON + i64::try_from(secs).unwrap())
}

fn claim(counter: u64, key: u8, secs: u64) -> Claim {
    Claim {
        counter,
        key: [key; 32],
        address: format!("192.0.2.{key}"),
        at: at(secs),
    }
}

fn offer(name: KeyName, secs: u64) -> Offer {
    Offer {
        spki: name.to_vec(),
        name,
        address: "192.0.2.9".into(),
        at: at(secs),
        denied: false,
    }
}

/// Enrolled at noon, with a device key a minute later.
fn node() -> Recovery {
    let mut node = Recovery {
        enrolled_at: Some(at(0)),
        heard_at: Some(at(0)),
        ..Recovery::default()
    };
    assert_eq!(node.register(offer(KEY, 60)), Entered::Registered { new: true });
    node
}

const ACCEPTED: Verdict = Verdict::Accepted { again: false };
const AGAIN: Verdict = Verdict::Accepted { again: true };
const NEWLY_HELD: Verdict = Verdict::Held { new: true };
const HELD: Verdict = Verdict::Held { new: false };
const NEWLY_LOCKED: Verdict = Verdict::Locked { new: true };
const LOCKED: Verdict = Verdict::Locked { new: false };

#[test]
fn a_node_comes_back_by_itself_for_thirty_days_and_then_with_a_person() {
    let mut lone = node();
    assert_eq!(lone.claim(&KEY, claim(1, 10, 60 + 30 * DAY), MONTH), ACCEPTED);
    // Heard then: the silence begins anew.
    assert_eq!(lone.claim(&KEY, claim(2, 11, 60 + 60 * DAY), MONTH), ACCEPTED);
    let late = claim(3, 12, 61 + 90 * DAY);
    assert_eq!(lone.claim(&KEY, late.clone(), MONTH), NEWLY_HELD);
    assert_eq!(lone.claim(&KEY, claim(3, 12, 91 * DAY), MONTH), HELD);
    assert_eq!(
        lone.questions(),
        [Question::Recovery {
            claim: late,
            decision: Decision::Waiting
        }]
    );
    assert!(
        !lone.decide(&[13; 32], Answer::Approve, at(92 * DAY)),
        "of another key"
    );
    assert!(lone.decide(&[12; 32], Answer::Approve, at(92 * DAY)));
    assert_eq!(lone.claim(&KEY, claim(3, 12, 93 * DAY), MONTH), ACCEPTED);
    assert_eq!(
        lone.claim(&KEY, claim(3, 12, 93 * DAY), MONTH),
        AGAIN,
        "an answer that was lost"
    );
    assert!(lone.questions().is_empty());
    assert!(
        !lone.decide(&[12; 32], Answer::Deny, at(94 * DAY)),
        "there is nothing to decide"
    );
}

/// The registry goes back to this.
fn gone_back(node: Recovery) -> Recovery {
    Recovery {
        heard_at: None,
        doubted: true,
        ..node
    }
}

#[test]
fn where_decisions_may_be_forgotten_a_renewal_is_no_persons_word() {
    let mut node = gone_back(node());
    assert_eq!(node.claim(&KEY, claim(1, 10, 100), MONTH), NEWLY_HELD);
    node.hear(at(200));
    assert_eq!(node.claim(&KEY, claim(1, 10, 300), MONTH), HELD);
    assert_eq!(node.claim(&KEY, claim(9, 11, 300), MONTH), NEWLY_HELD);
    assert!(node.decide(&[11; 32], Answer::Deny, at(400)));
    assert_eq!(
        node.claim(&KEY, claim(10, 12, 500), MONTH),
        NEWLY_HELD,
        "nor is a denial one"
    );
    assert!(node.decide(&[12; 32], Answer::Approve, at(600)));
    assert_eq!(node.claim(&KEY, claim(10, 12, 700), MONTH), ACCEPTED);
    assert_eq!(
        node.claim(&KEY, claim(11, 13, 800), MONTH),
        ACCEPTED,
        "from then on as ever"
    );
}

#[test]
fn nor_is_what_was_approved_before_it_went_back() {
    let mut approved = node();
    assert_eq!(approved.claim(&KEY, claim(1, 10, 60), Duration::ZERO), NEWLY_HELD);
    assert!(approved.decide(&[10; 32], Answer::Approve, at(70)));
    let mut node = gone_back(approved);
    assert_eq!(node.claim(&KEY, claim(1, 10, 80), MONTH), NEWLY_HELD);
    // Two claims, of which a person had chosen one: perhaps he has thought better of it.
    let mut chosen = self::node();
    assert_eq!(chosen.claim(&KEY, claim(1, 10, 60), MONTH), ACCEPTED);
    assert_eq!(chosen.claim(&KEY, claim(1, 11, 60), MONTH), NEWLY_LOCKED);
    assert!(chosen.decide(&[10; 32], Answer::Approve, at(70)));
    let mut before = chosen.clone();
    assert_eq!(
        before.register(offer(OTHER, 80)),
        Entered::Registered { new: true }
    );
    let mut node = gone_back(chosen);
    assert_eq!(node.register(offer(OTHER, 80)), Entered::Held { new: true });
    assert!(node.decide(&OTHER, Answer::Approve, at(90)));
    assert_eq!(node.claim(&OTHER, claim(1, 12, 100), MONTH), ACCEPTED);
    // Within the first hour, too.
    let enrolled = Recovery {
        enrolled_at: Some(at(0)),
        ..Recovery::default()
    };
    assert_eq!(
        gone_back(enrolled).register(offer(KEY, 60)),
        Entered::Held { new: true }
    );
}

#[test]
fn with_none_automatic_a_person_decides_each() {
    let mut node = node();
    assert_eq!(node.claim(&KEY, claim(1, 10, 60), Duration::ZERO), NEWLY_HELD);
    assert!(node.decide(&[10; 32], Answer::Deny, at(70)));
    assert_eq!(
        node.claim(&KEY, claim(1, 10, 80), Duration::ZERO),
        Verdict::Denied
    );
    // A person may think better of it.
    assert!(node.decide(&[10; 32], Answer::Approve, at(90)));
    assert_eq!(node.claim(&KEY, claim(1, 10, 100), Duration::ZERO), ACCEPTED);
}

#[test]
fn an_old_counter_with_another_key_locks_recovery_for_both() {
    for (first, second) in [
        (claim(5, 10, 100), claim(5, 11, 200)),
        (claim(5, 10, 100), claim(4, 11, 200)),
    ] {
        let mut node = node();
        assert_eq!(node.claim(&KEY, first.clone(), MONTH), ACCEPTED);
        assert_eq!(node.claim(&KEY, second.clone(), MONTH), NEWLY_LOCKED);
        for anybody in [&first, &second, &claim(6, 10, 300), &claim(99, 11, 300)] {
            assert_eq!(node.claim(&KEY, anybody.clone(), MONTH), LOCKED);
        }
        let asked = Question::Conflict {
            first: first.clone(),
            rival: second.clone(),
        };
        assert_eq!(node.questions(), [asked]);
    }
}

#[test]
fn two_that_wait_for_a_person_lock_it_too() {
    let mut node = node();
    let late = 60 * DAY;
    assert_eq!(node.claim(&KEY, claim(1, 10, late), MONTH), NEWLY_HELD);
    assert_eq!(node.claim(&KEY, claim(1, 11, late), MONTH), NEWLY_LOCKED);
    // Nor is an approval of the one a way in for the other.
    let mut node = self::node();
    assert_eq!(node.claim(&KEY, claim(1, 10, late), MONTH), NEWLY_HELD);
    assert!(node.decide(&[10; 32], Answer::Approve, at(late)));
    assert_eq!(node.claim(&KEY, claim(1, 11, late), MONTH), NEWLY_LOCKED);
}

#[test]
fn whom_a_person_chooses_comes_in_alone_and_makes_another_key() {
    let mut node = node();
    node.claim(&KEY, claim(5, 10, 100), MONTH);
    node.claim(&KEY, claim(5, 11, 200), MONTH);
    assert!(node.decide(&[11; 32], Answer::Approve, at(300)));
    assert_eq!(
        node.register(offer(OTHER, 310)),
        Entered::Held { new: true },
        "it has not come yet"
    );
    let mut other = node.clone();
    // Whatever the counter of the one that was not chosen.
    assert_eq!(other.claim(&KEY, claim(7, 10, 320), MONTH), NEWLY_LOCKED);
    assert_eq!(node.claim(&KEY, claim(5, 11, 400), MONTH), ACCEPTED);
    assert_eq!(node.register(offer(KEY, 410)), Entered::MakeAnother);
    assert_eq!(
        node.register(offer(OTHER, 420)),
        Entered::Registered { new: true }
    );
    assert_eq!(node.claim(&KEY, claim(9, 10, 500), MONTH), Verdict::Unknown);
    assert_eq!(node.claim(&OTHER, claim(6, 12, 500), MONTH), ACCEPTED);
}

#[test]
fn who_was_in_already_and_is_chosen_makes_another_key_at_once() {
    let mut node = node();
    node.claim(&KEY, claim(5, 10, 100), MONTH);
    node.claim(&KEY, claim(5, 11, 200), MONTH);
    assert!(node.decide(&[10; 32], Answer::Approve, at(300)));
    assert_eq!(node.claim(&KEY, claim(5, 11, 301), MONTH), NEWLY_LOCKED);
    assert!(node.decide(&[10; 32], Answer::Approve, at(302)));
    assert_eq!(node.register(offer(KEY, 310)), Entered::MakeAnother);
    assert_eq!(
        node.register(offer(OTHER, 310)),
        Entered::Registered { new: true }
    );
}

/// Else whoever has the copied key keeps the node from ever getting rid of it.
#[test]
fn who_claims_after_the_choice_does_not_keep_the_chosen_one_from_another_key() {
    let mut node = node();
    node.claim(&KEY, claim(5, 10, 100), MONTH);
    node.claim(&KEY, claim(5, 11, 200), MONTH);
    assert!(node.decide(&[10; 32], Answer::Approve, at(300)));
    assert_eq!(node.claim(&KEY, claim(6, 12, 301), MONTH), NEWLY_LOCKED);
    let mut other = node.clone();
    assert_eq!(
        node.register(offer(OTHER, 310)),
        Entered::Registered { new: true }
    );
    assert_eq!(node.claim(&KEY, claim(7, 12, 320), MONTH), Verdict::Unknown);
    assert!(node.questions().is_empty());
    // Whom a person has thought better of is not chosen any more, and who is now has not come yet.
    assert!(other.decide(&[12; 32], Answer::Approve, at(305)));
    assert_eq!(other.register(offer(OTHER, 310)), Entered::Held { new: true });
}

#[test]
fn who_refuses_one_of_two_has_the_device_key_forgotten() {
    for refused in [[10; 32], [11; 32]] {
        let mut node = node();
        node.claim(&KEY, claim(5, 10, 100), MONTH);
        node.claim(&KEY, claim(5, 11, 200), MONTH);
        assert!(node.decide(&refused, Answer::Deny, at(300)));
        for party in [claim(5, 10, 400), claim(6, 11, 400)] {
            assert_eq!(node.claim(&KEY, party, MONTH), Verdict::Unknown);
        }
        // Within the hour of its enrolment, too.
        assert_eq!(node.register(offer(OTHER, 500)), Entered::Held { new: true });
    }
}

#[test]
fn a_disk_that_went_back_is_no_lost_answer() {
    let mut node = node();
    node.claim(&KEY, claim(1, 10, 100), MONTH);
    node.hear(at(2000));
    assert_eq!(node.claim(&KEY, claim(1, 10, 3000), MONTH), NEWLY_HELD);
    // Nor is one that is asked for a month later.
    let mut node = self::node();
    node.claim(&KEY, claim(1, 10, 100), MONTH);
    assert_eq!(node.claim(&KEY, claim(1, 10, 100 + 30 * DAY), MONTH), AGAIN);
    assert_eq!(node.claim(&KEY, claim(1, 10, 101 + 30 * DAY), MONTH), NEWLY_HELD);
}

#[test]
fn a_key_is_registered_once_and_within_an_hour() {
    let mut early = Recovery {
        enrolled_at: Some(at(0)),
        ..Recovery::default()
    };
    let mut late = early.clone();
    let mut old = Recovery::default();
    assert_eq!(
        early.register(offer(KEY, 3599)),
        Entered::Registered { new: true }
    );
    assert_eq!(
        early.register(offer(KEY, 9 * DAY)),
        Entered::Registered { new: false }
    );
    assert_eq!(early.register(offer(OTHER, 3599)), Entered::Held { new: true });
    assert_eq!(early.claim(&OTHER, claim(1, 1, 3600), MONTH), Verdict::Unknown);
    assert_eq!(late.register(offer(KEY, 3600)), Entered::Held { new: true });
    assert_eq!(
        old.register(offer(KEY, 0)),
        Entered::Held { new: true },
        "from before"
    );
    for node in [&mut early, &mut late, &mut old] {
        let name = node.offer.as_ref().unwrap().name;
        assert!(matches!(node.questions()[..], [Question::Registration(_)]));
        assert_eq!(node.register(offer(name, 4000)), Entered::Held { new: false });
        assert!(node.decide(&name, Answer::Deny, at(4000)));
        assert_eq!(node.register(offer(name, 4100)), Entered::Denied);
        assert!(node.decide(&name, Answer::Approve, at(4200)));
        assert_eq!(
            node.register(offer(name, 4300)),
            Entered::Registered { new: false }
        );
        assert_eq!(node.claim(&name, claim(1, 1, 4400), MONTH), ACCEPTED);
        assert!(node.questions().is_empty());
    }
}

#[derive(Clone, Debug)]
enum Happens {
    Claim { counter: u64, key: u8 },
    Decide { key: u8, approve: bool },
    Heard,
    Register { key: u8 },
    Passes { days: u64 },
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => (0..6_u64, 1..5_u8).prop_map(|(counter, key)| Happens::Claim { counter, key }),
        2 => (1..8_u8, any::<bool>()).prop_map(|(key, approve)| Happens::Decide { key, approve }),
        1 => Just(Happens::Heard),
        1 => (5..8_u8).prop_map(|key| Happens::Register { key }),
        2 => (0..40_u64).prop_map(|days| Happens::Passes { days }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever happens in whatever order: a counter lets in one key unless a person chose another, silence has a person decide, and a lock holds
    /// until one has.
    #[test]
    fn nobody_comes_in_by_a_used_counter_after_silence_or_while_locked(steps in prop::collection::vec(happens(), 1..40)) {
        let mut node = node();
        let mut now = 60;
        let mut newest: Option<(u64, u8)> = None;
        let mut chosen: Vec<u8> = Vec::new();
        for step in steps {
            let before = node.clone();
            let device = before.key.as_ref().map(|key| key.name);
            match step {
                Happens::Claim { counter, key } => {
                    let proved = device.unwrap_or(KEY);
                    let verdict = node.claim(&proved, claim(counter, key, now), MONTH);
                    if matches!(verdict, Verdict::Accepted { .. }) {
                        prop_assert!(before.rival.is_none(), "locked");
                        let silent = before.heard_at.is_none_or(|heard| at(now).since(heard) > MONTH);
                        prop_assert!(!silent || chosen.contains(&key), "after silence");
                        let used = newest.is_some_and(|(n, k)| counter < n || (counter == n && key != k));
                        prop_assert!(!used || chosen.contains(&key), "{counter} was used");
                        newest = Some((counter, key));
                    }
                    prop_assert_eq!(node.rival.is_some(), matches!(verdict, Verdict::Locked { .. }));
                }
                Happens::Decide { key, approve } => {
                    let answer = if approve { Answer::Approve } else { Answer::Deny };
                    if node.decide(&[key; 32], answer, at(now)) && approve {
                        chosen.push(key);
                    }
                }
                Happens::Heard => node.hear(at(now)),
                Happens::Register { key } => {
                    node.register(offer([key; 32], now));
                    let free = before.replace || before.key.is_none();
                    prop_assert!(free || node.key == before.key, "replaced without a person");
                }
                Happens::Passes { days } => now += days * DAY,
            }
            if node.key != before.key {
                newest = None;
                chosen.clear();
            }
        }
    }
}

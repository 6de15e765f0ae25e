//! The sums, and what passes them.

use proptest::prelude::*;

use super::*;
use crate::core::fixture::{START, draft};
use crate::registry::JwtOffline;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

fn rules() -> Rules {
    Rules {
        limits: ReserveLimits {
            longest: 3 * DAY,
            longest_token: 8 * HOUR,
        },
        ca: 30 * DAY,
        x509: HOUR,
    }
}

fn entry(ttl: Option<Duration>) -> Entry {
    let mut draft = draft("/spire/agent/x", "/w");
    draft.x509_svid_ttl = ttl;
    draft.into_entry("e".into(), START)
}

fn policy(reserve: Duration) -> EntryPolicy {
    EntryPolicy {
        reserve,
        ..EntryPolicy::defaults("e")
    }
}

fn token(audience: &str, ttl: Duration) -> JwtOffline {
    JwtOffline {
        audience: audience.into(),
        ttl,
    }
}

fn with_tokens(jwt_offline: Vec<JwtOffline>) -> EntryPolicy {
    EntryPolicy {
        jwt_offline,
        ..policy(Duration::ZERO)
    }
}

#[test]
fn a_reserve_takes_one_rung_a_step_and_one() {
    assert_eq!(rungs(Duration::ZERO, HOUR), 0);
    assert_eq!(rungs(HOUR, HOUR), 3);
    assert_eq!(rungs(72 * HOUR, HOUR), 145);
    assert_eq!(rungs(Duration::from_secs(1), HOUR), 2);
    assert_eq!(
        rungs(Duration::from_secs(10), Duration::from_secs(1)),
        11,
        "no step is nothing"
    );
}

#[test]
fn authorities_live_six_times_as_long_as_what_they_sign_last() {
    let limits = |hours: u32, token: u32| ReserveLimits {
        longest: hours * HOUR,
        longest_token: token * HOUR,
    };
    assert_eq!(
        limits(0, 0).fit(DAY, 23 * HOUR),
        Ok(()),
        "nobody asks for anything"
    );
    assert_eq!(limits(3, 4).fit(DAY, HOUR), Ok(()));
    let sum = limits(4, 0).fit(DAY, HOUR).unwrap_err();
    assert_eq!(
        sum.to_string(),
        "6 x (reserve 14400 s + TTL 3600 s) is 108000 s, longer than authorities live, which is ttl.ca = 86400 s"
    );
    let sum = limits(0, 5).fit(DAY, HOUR).unwrap_err();
    assert!(sum.to_string().contains("108000 s"), "{sum}");
}

#[test]
fn what_passes_a_bound_is_refused_with_the_sum() {
    let rules = rules();
    let check = |policy: &EntryPolicy, ttl| rules.check(policy, &entry(ttl)).err();
    assert_eq!(check(&policy(3 * DAY), None), None);
    assert_eq!(
        check(&policy(3 * DAY + HOUR), None),
        Some(ReserveError::TooLong {
            asked: 262_800,
            longest: 259_200
        })
    );
    let short = Some(Duration::from_secs(600));
    assert_eq!(
        check(&policy(3 * DAY), short),
        Some(ReserveError::TooManyRungs {
            asked: 259_200,
            ttl: 600,
            rungs: 865
        })
    );
    // 511 steps and one.
    assert_eq!(check(&policy(Duration::from_secs(511 * 300)), short), None);
    assert!(check(&policy(Duration::from_secs(511 * 300 + 1)), short).is_some());
    // The entry's own TTL is part of the sum.
    assert!(matches!(
        check(&policy(3 * DAY), Some(3 * DAY)),
        Some(ReserveError::AuthorityTooShort {
            needed: 3_110_400,
            ..
        })
    ));
    let none = Rules {
        limits: ReserveLimits::default(),
        ..rules
    };
    assert_eq!(
        none.check(&policy(HOUR), &entry(None)),
        Err(ReserveError::NoReserve)
    );
    let tokens = with_tokens(vec![token("a", HOUR)]);
    assert_eq!(none.check(&tokens, &entry(None)), Err(ReserveError::NoTokens));
    assert_eq!(check(&tokens, None), None);
    let long = with_tokens(vec![token("a", 8 * HOUR + Duration::from_secs(1))]);
    assert!(matches!(
        check(&long, None),
        Some(ReserveError::TokenTooLong { .. })
    ));
}

#[test]
fn who_could_make_others_has_nothing_ahead() {
    let rules = rules();
    let both = EntryPolicy {
        jwt_offline: vec![token("a", HOUR)],
        ..policy(DAY)
    };
    let privileged = EntryPolicy {
        privileged: true,
        ..both.clone()
    };
    assert_eq!(
        rules.check(&privileged, &entry(None)),
        Err(ReserveError::Privileged)
    );
    assert_eq!(
        rules.reserve_of(Some(&privileged), &entry(None)),
        Err(ReserveError::Privileged)
    );
    assert_eq!(
        rules.token_of(Some(&privileged), &entry(None), "a"),
        Err(ReserveError::Privileged)
    );
    for powerful in [
        Entry {
            admin: true,
            ..entry(None)
        },
        Entry {
            downstream: true,
            ..entry(None)
        },
    ] {
        let refused = Err(ReserveError::Powerful);
        assert_eq!(rules.check(&both, &powerful), refused);
        assert_eq!(rules.check(&policy(Duration::ZERO), &powerful), Ok(()));
        assert_eq!(
            rules.reserve_of(Some(&both), &powerful),
            Err(ReserveError::Powerful)
        );
        assert_eq!(
            rules.token_of(Some(&both), &powerful, "a"),
            Err(ReserveError::Powerful)
        );
    }
    assert_eq!(rules.reserve_of(Some(&both), &entry(None)), Ok(DAY));
    assert_eq!(rules.token_of(Some(&both), &entry(None), "a"), Ok(HOUR));
}

#[test]
fn what_was_allowed_once_is_cut_to_what_is_allowed_now() {
    let mut rules = rules();
    let stored = EntryPolicy {
        jwt_offline: vec![token("a", 8 * HOUR)],
        ..policy(3 * DAY)
    };
    let found = |rules: &Rules, ttl| rules.reserve_of(Some(&stored), &entry(ttl));
    assert_eq!(found(&rules, None), Ok(3 * DAY));
    assert_eq!(
        found(&rules, Some(Duration::from_secs(60))),
        Ok(Duration::from_secs(511 * 30)),
        "the entry's TTL was changed"
    );
    rules.limits.longest = DAY;
    rules.limits.longest_token = 2 * HOUR;
    assert_eq!(found(&rules, None), Ok(DAY));
    let token = |audience| rules.token_of(Some(&stored), &entry(None), audience);
    assert_eq!(token("a"), Ok(2 * HOUR));
    assert_eq!(token("b"), Err(ReserveError::NotDeclared));
    assert_eq!(
        rules.token_of(None, &entry(None), "a"),
        Err(ReserveError::NotDeclared)
    );
    assert_eq!(
        rules.reserve_of(None, &entry(None)),
        Err(ReserveError::NotAskedFor)
    );
    let defaults = policy(Duration::ZERO);
    assert_eq!(
        rules.reserve_of(Some(&defaults), &entry(None)),
        Err(ReserveError::NotAskedFor)
    );
    rules.limits = ReserveLimits::default();
    assert_eq!(found(&rules, None), Err(ReserveError::NoReserve));
    assert_eq!(
        rules.token_of(Some(&stored), &entry(None), "a"),
        Err(ReserveError::NoTokens)
    );
}

#[test]
fn audiences_are_few_and_each_is_one() {
    let check = |tokens: Vec<JwtOffline>| with_tokens(tokens).check();
    let many = |count: usize| (0..count).map(|n| token(&n.to_string(), HOUR)).collect();
    assert_eq!(check(many(MAX_AUDIENCES)), Ok(()));
    assert_eq!(
        check(many(MAX_AUDIENCES + 1)),
        Err(ReserveError::TooManyAudiences)
    );
    for bad in ["", "a\nb", "\u{1b}[2J", &"x".repeat(513)] {
        assert_eq!(
            check(vec![token(bad, HOUR)]),
            Err(ReserveError::Audience),
            "{bad}"
        );
    }
    assert_eq!(check(vec![token(&"x".repeat(512), HOUR)]), Ok(()));
    let twice = check(vec![token("a", HOUR), token("a", DAY)]);
    assert!(matches!(twice, Err(ReserveError::AudienceTwice { .. })));
    for bad in [Duration::ZERO, DAY + Duration::from_secs(1)] {
        assert_eq!(check(vec![token("a", bad)]), Err(ReserveError::TokenLife));
    }
}

#[test]
fn a_node_has_room_for_sixty_four_mebibytes() {
    let rules = rules();
    let (entry, policy) = (entry(None), policy(3 * DAY));
    let node = |count: usize| rules.check_node(std::iter::repeat_n((&entry, &policy), count));
    // 145 x 1,536 bytes each.
    assert_eq!(node(301), Ok(()));
    assert_eq!(node(302), Err(ReserveError::NodeFull { rungs: 43_790 }));
    let text = node(302).unwrap_err().to_string();
    assert!(text.contains("64 MiB") && text.contains("43790"), "{text}");
}

proptest! {
    /// Whatever passes when it is set is signed for whole: the last rung may begin at the end of the reserve.
    #[test]
    fn what_is_allowed_is_not_cut(ttl in 1u64..1_000_000, reserve in 1u64..10_000_000, longest in 0u64..10_000_000, ca in 60u64..100_000_000) {
        let rules = Rules {
            limits: ReserveLimits { longest: Duration::from_secs(longest), longest_token: Duration::ZERO },
            ca: Duration::from_secs(ca),
            x509: Duration::from_secs(ttl),
        };
        let (entry, policy) = (entry(None), policy(Duration::from_secs(reserve)));
        if rules.check(&policy, &entry).is_ok() {
            prop_assert!(rungs(policy.reserve, rules.x509) <= MAX_RUNGS);
            prop_assert!(reserve <= longest && 6 * (reserve + ttl) <= ca);
            prop_assert_eq!(rules.reserve_of(Some(&policy), &entry), Ok(policy.reserve));
        }
    }
}

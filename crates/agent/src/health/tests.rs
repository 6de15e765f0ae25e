//! When an agent is ready, as a table.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::keeper::state::{Action, Event, Issued, State, Synced};
use crate::testing::{Ca, at, entry, id};

/// A node whose own SVID is valid from -100 to 1000 around noon.
fn status() -> LinkStatus {
    LinkStatus {
        agent_not_before: Some(at(-100)),
        agent_not_after: Some(at(1000)),
        ..LinkStatus::new()
    }
}

/// One workload, with an SVID valid from -100 to 2000.
fn synchronised() -> Snapshot {
    let ca = Ca::new("one");
    let mut state = State::default();
    let synced = Synced {
        entries: vec![Arc::new(entry("a", "/a", &["unix:uid:1"]))],
        bundle: Arc::new(ca.bundle()),
        federated: BTreeMap::new(),
    };
    let issued = Issued {
        entry_id: "a".into(),
        revision: 0,
        outcome: Ok(ca.svid(&id("/a"), at(-100), at(2000))),
    };
    let events = [
        Event::Synced(synced),
        Event::Issued(vec![issued]),
        Event::RoundOver,
    ];
    let actions = events.into_iter().flat_map(|event| state.step(at(0), event));
    let published = actions.filter_map(|action| match action {
        Action::Publish(snapshot, _) => Some(snapshot),
        _ => None,
    });
    Snapshot::clone(&published.last().unwrap())
}

#[test]
fn ready_is_who_has_something_to_give() {
    let held = synchronised();
    let unsynchronised = Snapshot::default();
    let half = Snapshot {
        round_over: false,
        ..held.clone()
    };
    let banned = Snapshot {
        banned: true,
        ..held.clone()
    };
    let failing = LinkStatus {
        last_error: "connection refused".to_owned(),
        ..status()
    };
    for (case, snapshot, status, now, reason) in [
        ("all is well", &held, status(), Some(at(0)), None),
        ("the server is away", &held, failing.clone(), Some(at(0)), None),
        (
            "its own SVID is over, a workload's is not",
            &held,
            failing.clone(),
            Some(at(1500)),
            None,
        ),
        (
            "its own SVID is valid, no workload has any",
            &Snapshot {
                held: Arc::default(),
                ..held.clone()
            },
            status(),
            Some(at(0)),
            None,
        ),
        (
            "all is over",
            &held,
            failing.clone(),
            Some(at(2000)),
            Some(
                "no SVID is valid at this time, neither the node's own nor any that it serves: connection refused",
            ),
        ),
        (
            "the clock fell back",
            &held,
            status(),
            Some(at(-101)),
            Some("no SVID is valid at this time, neither the node's own nor any that it serves"),
        ),
        (
            "no time",
            &held,
            status(),
            None,
            Some("the clock shows no time, so nothing can be shown to be valid"),
        ),
        (
            "nothing yet",
            &unsynchronised,
            status(),
            Some(at(0)),
            Some("no round of synchronisation with the server has succeeded yet"),
        ),
        (
            "nothing yet, and why",
            &unsynchronised,
            failing.clone(),
            Some(at(0)),
            Some("no round of synchronisation with the server has succeeded yet: connection refused"),
        ),
        (
            "half a round",
            &half,
            status(),
            Some(at(0)),
            Some("no round of synchronisation with the server has succeeded yet"),
        ),
        (
            "banned",
            &banned,
            status(),
            Some(at(0)),
            Some("the server has banned this node"),
        ),
    ] {
        assert_eq!(obstacle(snapshot, &status, now).as_deref(), reason, "{case}");
    }
}

#[test]
fn a_disk_that_fails_is_told_and_leaves_the_agent_ready() {
    let (snapshot, connected) = (synchronised(), standing(Standing::Connected));
    let failing = LinkStatus {
        disk: "make room".to_owned(),
        ..status()
    };
    let cache = CacheState::default();
    let of = |status: &LinkStatus, now| state(&snapshot, status, &connected, &cache, Some(now));
    assert_eq!(of(&failing, at(0)), Health::ready_but("make room"));
    assert_eq!(of(&status(), at(0)), Health::ready());
    assert!(!of(&failing, at(3000)).ready, "nothing is valid");
    let unsaved = CacheState {
        complaint: "the cache is full".to_owned(),
        ..cache.clone()
    };
    let both = state(&snapshot, &failing, &connected, &unsaved, Some(at(0)));
    assert_eq!(both, Health::ready_but("make room; the cache is full"));
}

fn standing(standing: Standing) -> Report {
    Report {
        reserve: Default::default(),
        standing,
        text: standing.as_str().to_owned(),
        first_ends: None,
        valid_until: None,
    }
}

#[test]
fn an_island_that_serves_is_ready_and_says_so_and_an_exhausted_one_is_not() {
    let (snapshot, cache) = (synchronised(), CacheState::default());
    let of = |standing: Report| state(&snapshot, &status(), &standing, &cache, Some(at(0)));
    assert_eq!(of(standing(Standing::Islanded)), Health::ready_but("islanded"));
    assert_eq!(of(standing(Standing::Degraded)), Health::ready_but("degraded"));
    assert_eq!(of(standing(Standing::Exhausted)), Health::not_ready("exhausted"));
    assert_eq!(of(standing(Standing::Connected)), Health::ready());
}

/// What `/ready` says of a clock.
#[test]
fn a_clock_that_is_wrong_is_told_beside_what_else_there_is_and_makes_nobody_unready() {
    let wrong = "the clock is wrong";
    assert_eq!(with_time(Health::ready(), wrong), Health::ready_but(wrong));
    let both = with_time(Health::not_ready("no SVID is valid"), wrong);
    assert_eq!(both, Health::not_ready("no SVID is valid; the clock is wrong"));
    assert_eq!(with_time(Health::ready(), ""), Health::ready());
}

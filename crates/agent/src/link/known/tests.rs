//! What a step changes, and which steps change nothing.

use super::*;
use crate::link::revision::Revision;
use crate::testing::fake_server::push::{current, gone, put};
use crate::testing::fake_server::{wire_bundle, wire_entry};
use crate::testing::{Ca, td};

fn empty() -> Step {
    Step {
        revision: Revision { epoch: 1, number: 1 },
        put: Vec::new(),
        gone: Vec::new(),
        bundles: Vec::new(),
        bundles_gone: Vec::new(),
    }
}

fn entry(name: &str) -> types::Entry {
    wire_entry(name, &format!("/{name}"), &["unix:uid:1"])
}

/// After a first step with the bundle and these entries.
fn known(ca: &Ca, entries: &[&str]) -> Known {
    let mut known = Known::new(Duration::ZERO);
    let first = Step {
        put: entries.iter().map(|name| put(entry(name))).collect(),
        bundles: vec![current(wire_bundle(ca, false))],
        ..empty()
    };
    known.apply(first, &td()).unwrap();
    known
}

fn names(entries: &[Arc<Entry>]) -> Vec<&str> {
    entries.iter().map(|entry| &*entry.id).collect()
}

fn holds(known: &Known) -> Vec<String> {
    let mut held: Vec<_> = known.held().0.into_iter().map(|held| held.id).collect();
    held.sort();
    held
}

#[test]
fn a_step_says_what_is_different_and_what_it_does_not_name_stays() {
    let ca = Ca::new("one");
    let mut known = known(&ca, &["a", "b", "c"]);
    let changed = types::Entry {
        hint: "main".to_owned(),
        revision_number: 1,
        ..entry("b")
    };
    let step = Step {
        put: vec![put(entry("a")), put(changed), put(entry("d"))],
        gone: vec![gone("c"), gone("never there")],
        ..empty()
    };
    let pushed = known.apply(step, &td()).unwrap();
    assert_eq!(names(&pushed.put), ["b", "d"], "a is as it was");
    assert_eq!(pushed.gone, ["c".into()]);
    assert!(pushed.bundle.is_none() && pushed.federated.is_none());
    assert_eq!(holds(&known), ["a", "b", "d"]);
    let versions: BTreeMap<_, _> = known
        .held()
        .0
        .into_iter()
        .map(|held| (held.id, held.version))
        .collect();
    assert_eq!((versions["a"], versions["b"]), (1, 2));
}

#[test]
fn another_policy_of_the_same_entry_touches_nobody() {
    let ca = Ca::new("one");
    let mut known = known(&ca, &["a"]);
    let mut same = put(entry("a"));
    same.version = 99;
    let step = Step {
        put: vec![same],
        ..empty()
    };
    let pushed = known.apply(step, &td()).unwrap();
    assert!(pushed.put.is_empty() && pushed.gone.is_empty());
    assert_eq!(known.held().0[0].version, 99);
}

#[test]
fn an_entry_that_cannot_be_used_any_more_is_gone_and_costs_no_other() {
    let ca = Ca::new("one");
    let mut known = known(&ca, &["a", "b"]);
    let foreign = types::Entry {
        spiffe_id: Some(types::Spiffeid {
            trust_domain: "other.test".to_owned(),
            path: "/a".to_owned(),
        }),
        revision_number: 1,
        ..entry("a")
    };
    let step = Step {
        put: vec![put(foreign), put(entry("c"))],
        ..empty()
    };
    let pushed = known.apply(step, &td()).unwrap();
    assert_eq!(names(&pushed.put), ["c"]);
    assert_eq!(pushed.gone, ["a".into()]);
    assert_eq!(holds(&known), ["a", "b", "c"], "it is not sent again and again");
}

#[test]
fn a_step_that_is_wrong_anywhere_changes_nothing() {
    let ca = Ca::new("one");
    let other = Ca::of(&TrustDomain::parse("other.test").unwrap(), "o");
    let no_authority = types::Bundle {
        x509_authorities: Vec::new(),
        ..wire_bundle(&ca, false)
    };
    let broken = types::Bundle {
        x509_authorities: vec![types::X509Certificate {
            asn1: vec![0; 9].into(),
            tainted: false,
        }],
        ..wire_bundle(&ca, false)
    };
    let nobodys = types::Bundle {
        trust_domain: "no domain".to_owned(),
        ..wire_bundle(&ca, false)
    };
    let twice = || vec![current(wire_bundle(&other, false)); 2];
    let mut nothing = put(entry("x"));
    nothing.entry = None;
    let bad = [
        (
            "an entry twice",
            Step {
                put: vec![put(entry("x")), put(entry("x"))],
                ..empty()
            },
        ),
        (
            "put and gone",
            Step {
                put: vec![put(entry("a"))],
                gone: vec![gone("a")],
                ..empty()
            },
        ),
        (
            "gone twice",
            Step {
                gone: vec![gone("a"), gone("a")],
                ..empty()
            },
        ),
        (
            "no entry",
            Step {
                put: vec![nothing],
                ..empty()
            },
        ),
        (
            "no authority",
            Step {
                bundles: vec![current(no_authority)],
                ..empty()
            },
        ),
        (
            "a broken bundle",
            Step {
                bundles: vec![current(broken)],
                ..empty()
            },
        ),
        (
            "nobody's bundle",
            Step {
                bundles: vec![current(nobodys)],
                ..empty()
            },
        ),
        (
            "a bundle twice",
            Step {
                bundles: twice(),
                ..empty()
            },
        ),
        (
            "our bundle gone",
            Step {
                bundles_gone: vec![td().to_string()],
                ..empty()
            },
        ),
        (
            "nobody's bundle gone",
            Step {
                bundles_gone: vec!["no domain".to_owned()],
                ..empty()
            },
        ),
    ];
    let mut known = known(&ca, &["a"]);
    for (what, mut step) in bad {
        // Each has something good as well.
        step.put.push(put(entry("good")));
        let refused = known.apply(step, &td());
        assert!(matches!(refused, Err(LinkError::Protocol { .. })), "{what}");
        assert_eq!(holds(&known), ["a"], "{what}");
        assert!(known.federated.is_empty(), "{what}");
    }
}

#[test]
fn a_node_has_no_more_entries_and_bundles_than_it_can() {
    let ca = Ca::new("one");
    let mut known = known(&ca, &["a"]);
    let many = |from: usize, to: usize| Step {
        put: (from..to).map(|n| put(entry(&format!("n{n}")))).collect(),
        ..empty()
    };
    known.apply(many(0, MAX_ENTRIES - 1), &td()).unwrap();
    assert!(known.apply(many(MAX_ENTRIES, MAX_ENTRIES + 1), &td()).is_err());
    let exchange = Step {
        gone: vec![gone("a")],
        ..many(MAX_ENTRIES, MAX_ENTRIES + 1)
    };
    known.apply(exchange, &td()).unwrap();
    assert_eq!(known.entries.len(), MAX_ENTRIES);
    let bundles = |from: usize, to: usize| Step {
        bundles: (from..to)
            .map(|n| {
                current(types::Bundle {
                    trust_domain: format!("n{n}.test"),
                    ..Default::default()
                })
            })
            .collect(),
        ..empty()
    };
    known.apply(bundles(0, MAX_BUNDLES), &td()).unwrap();
    assert!(known.apply(bundles(MAX_BUNDLES, MAX_BUNDLES + 1), &td()).is_err());
}

#[test]
fn the_first_step_holds_the_trust_domains_own_bundle() {
    let ca = Ca::new("one");
    let mut known = Known::new(Duration::ZERO);
    let without = Step {
        put: vec![put(entry("a"))],
        ..empty()
    };
    assert!(known.apply(without, &td()).is_err());
    assert!(known.held().0.is_empty() && known.own_bundle().is_none());
    let with = Step {
        bundles: vec![current(wire_bundle(&ca, false))],
        ..empty()
    };
    assert!(known.apply(with, &td()).unwrap().bundle.is_some());
}

#[test]
fn bundles_of_others_come_and_go_and_a_broken_one_leaves_the_last_good_one() {
    let ca = Ca::new("one");
    let name = TrustDomain::parse("other.test").unwrap();
    let other = Ca::of(&name, "o");
    let mut known = known(&ca, &["a"]);
    let step = Step {
        bundles: vec![current(wire_bundle(&other, false))],
        ..empty()
    };
    let pushed = known.apply(step, &td()).unwrap();
    assert!(pushed.bundle.is_none());
    assert!(pushed.federated.unwrap().contains_key(&name));
    let mut broken = wire_bundle(&other, false);
    broken.sequence_number = 2;
    broken.x509_authorities[0].asn1 = vec![0; 9].into();
    let step = Step {
        bundles: vec![current(broken)],
        put: vec![put(entry("b"))],
        ..empty()
    };
    let pushed = known.apply(step, &td()).unwrap();
    assert_eq!(names(&pushed.put), ["b"]);
    assert!(pushed.federated.is_none());
    let digest = |known: &Known| {
        let bundles = known.held().1.into_iter();
        let found = bundles.map(|held| (held.trust_domain, held.digest));
        found.collect::<BTreeMap<_, _>>().remove("other.test")
    };
    assert_eq!(
        digest(&known).unwrap(),
        "other.test 1",
        "the broken one is asked for again"
    );
    let step = Step {
        bundles_gone: vec!["other.test".to_owned(), "never.there".to_owned()],
        ..empty()
    };
    assert!(known.apply(step, &td()).unwrap().federated.unwrap().is_empty());
    assert_eq!(digest(&known), None);
}

#[test]
fn a_short_answer_agrees_when_it_names_what_is_held_and_nothing_else() {
    let ca = Ca::new("one");
    let known = known(&ca, &["a", "b"]);
    let seen = |names: &[(&str, i64)], sequence| Seen {
        entries: names
            .iter()
            .map(|(id, revision)| sync::EntrySeen {
                id: (*id).to_owned(),
                revision: *revision,
                created_at: 0,
            })
            .collect(),
        sequence,
    };
    assert!(known.agrees_with(&seen(&[("b", 0), ("a", 0)], 1)));
    for (what, seen) in [
        ("one less", seen(&[("a", 0)], 1)),
        ("one more", seen(&[("a", 0), ("b", 0), ("c", 0)], 1)),
        ("another", seen(&[("a", 0), ("c", 0)], 1)),
        ("one twice", seen(&[("a", 0), ("a", 0)], 1)),
        ("another revision", seen(&[("a", 0), ("b", 1)], 1)),
        ("another bundle", seen(&[("a", 0), ("b", 0)], 2)),
    ] {
        assert!(!known.agrees_with(&seen), "{what}");
    }
}

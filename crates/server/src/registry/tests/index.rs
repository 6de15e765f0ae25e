use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use landfast_identity::{SelectorSet, SpiffeId, UnixTime};
use proptest::prelude::*;

use crate::core::fixture::{START, agent, draft, id, sel};
use crate::datastore::{Change, Committed, Snapshot};
use crate::registry::index::Index;
use crate::registry::{Entry, EntryPolicy, Versioned};

/// As the text says, by looking at everything, again and again until nothing new comes.
fn by_the_text(entries: &[Entry], agent: &SpiffeId, attested: &SelectorSet) -> BTreeSet<String> {
    let server = id("/spire/server");
    let live: Vec<_> = entries
        .iter()
        .filter(|e| e.expires_at.is_none_or(|end| START < end))
        .collect();
    let mut parents = HashSet::from([agent.clone()]);
    for alias in live
        .iter()
        .filter(|e| e.parent_id == server && e.selectors.is_subset_of(attested))
    {
        parents.insert(alias.spiffe_id.clone());
    }
    loop {
        let granted: Vec<_> = live
            .iter()
            .filter(|e| e.parent_id != server && parents.contains(&e.parent_id))
            .collect();
        let before = parents.len();
        parents.extend(granted.iter().map(|e| e.spiffe_id.clone()));
        if parents.len() == before {
            return granted.iter().map(|e| e.id.clone()).collect();
        }
    }
}

fn versioned(entry: &Entry, revision: u64) -> Versioned {
    Versioned {
        entry: Arc::new(entry.clone()),
        revision,
        policy: None,
    }
}

const PARENTS: [&str; 6] = [
    "/spire/server",
    "/spire/agent/t/a",
    "/spire/agent/t/b",
    "/w0",
    "/w1",
    "/w2",
];

#[derive(Clone, Debug)]
enum Op {
    Put {
        slot: u8,
        parent: usize,
        subject: u8,
        selectors: Vec<u8>,
        expired: bool,
    },
    Remove {
        slot: u8,
    },
    Policy {
        slot: u8,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let put = (
        0u8..12,
        0usize..6,
        0u8..4,
        prop::collection::vec(0u8..4, 1..3),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(slot, parent, subject, selectors, expired)| Op::Put {
            slot,
            parent,
            subject,
            selectors,
            expired,
        });
    let remove = (0u8..12).prop_map(|slot| Op::Remove { slot });
    let policy = (0u8..12).prop_map(|slot| Op::Policy { slot });
    prop_oneof![4 => put, 1 => remove, 1 => policy]
}

fn made(slot: u8, parent: usize, subject: u8, selectors: &[u8], expired: bool) -> Entry {
    let mut made = draft(PARENTS[parent], &format!("/w{subject}")).into_entry(format!("e{slot:02}"), START);
    made.selectors = selectors
        .iter()
        .map(|n| landfast_identity::Selector::new("k", &n.to_string()).unwrap())
        .collect();
    made.expires_at = expired.then_some(START);
    made
}

proptest! {
    #[test]
    fn the_index_answers_as_the_text_says(
        ops in prop::collection::vec(op(), 0..40),
        attested in prop::collection::vec(0u8..4, 0..4),
        cut in 0usize..40,
    ) {
        let attested: SelectorSet =
            attested.iter().map(|n| landfast_identity::Selector::new("k", &n.to_string()).unwrap()).collect();
        let mut a = agent("/spire/agent/t/a", "0a", &[]);
        a.selectors = attested.clone();
        let agents = vec![Arc::new(a.clone())];
        let mut present: Vec<Entry> = Vec::new();
        let mut index = Index::build(id("/spire/server"), Snapshot { agents: agents.clone(), ..Snapshot::default() });
        let mut versions = BTreeMap::new();
        for (revision, op) in ops.into_iter().enumerate() {
            let change = match op {
                Op::Put { slot, parent, subject, selectors, expired } => {
                    let entry = made(slot, parent, subject, &selectors, expired);
                    present.retain(|e| e.id != entry.id);
                    present.push(entry.clone());
                    versions.insert(entry.id.clone(), revision as u64 + 1);
                    Change::PutEntry(Arc::new(entry))
                }
                Op::Policy { slot } => {
                    // The datastore sees to it that there is an entry; the index need not believe it.
                    let entry_id = format!("e{slot:02}");
                    if present.iter().any(|e| e.id == entry_id) {
                        versions.insert(entry_id.clone(), revision as u64 + 1);
                    }
                    Change::PutPolicy(Arc::new(EntryPolicy { revision: revision as u64 + 1, ..EntryPolicy::defaults(&entry_id) }))
                }
                Op::Remove { slot } => {
                    present.retain(|e| e.id != format!("e{slot:02}"));
                    Change::RemoveEntry(format!("e{slot:02}"))
                }
            };
            index.apply(&Committed { revision: revision as u64 + 1, change });
            if revision == cut {
                // A restart in between: what is read back answers like what was built up.
                let snapshot =
                    Snapshot { revision: index.revision, entries: present.iter().map(|e| versioned(e, versions[&e.id])).collect(), agents: agents.clone(), ..Snapshot::default() };
                index = Index::build(id("/spire/server"), snapshot);
            }
            let granted = index.authorized(&a.id, Some(START));
            prop_assert!(granted.iter().all(|e| e.version() == versions[&e.entry.id]));
            let answer: Vec<_> = granted.iter().map(|e| e.entry.id.clone()).collect();
            prop_assert!(answer.is_sorted());
            prop_assert_eq!(answer.into_iter().collect::<BTreeSet<_>>(), by_the_text(&present, &a.id, &attested));
            for subject in 0..4 {
                let who = id(&format!("/w{subject}"));
                let found: BTreeSet<_> = index.of_id(&who).map(|e| e.entry.id.clone()).collect();
                let expected = present.iter().filter(|e| e.spiffe_id == who).map(|e| e.id.clone()).collect();
                prop_assert_eq!(found, expected);
            }
        }
        for entry in present {
            index.apply(&Committed { revision: 99, change: Change::RemoveEntry(entry.id) });
        }
        prop_assert!(index.is_bare(), "nothing is left behind");
    }
}

#[test]
fn a_circle_of_entries_ends() {
    let circle = [("/w0", "/w1"), ("/w1", "/w0"), ("/spire/agent/t/a", "/w0")];
    let entries = circle.iter().zip(0u8..).map(|((parent, subject), n)| {
        let mut entry = draft(parent, subject).into_entry(format!("e{n}"), START);
        entry.selectors = sel(&["k:1"]);
        entry
    });
    let snapshot = Snapshot {
        entries: entries.map(|entry| versioned(&entry, 1)).collect(),
        agents: vec![Arc::new(agent("/spire/agent/t/a", "0a", &[]))],
        ..Snapshot::default()
    };
    let index = Index::build(id("/spire/server"), snapshot);
    assert_eq!(index.authorized(&id("/spire/agent/t/a"), Some(START)).len(), 3);
}

/// No entry may have the server's ID; one that has it all the same, put there past the registry, opens nothing.
#[test]
fn what_hangs_under_the_server_is_never_granted() {
    let entries = [
        ("/spire/agent/t/a", "/spire/server"),
        ("/spire/server", "/alias"),
        ("/spire/server", "/other"),
    ];
    let entries = entries
        .iter()
        .zip(0u8..)
        .map(|((parent, subject), n)| draft(parent, subject).into_entry(format!("e{n}"), START));
    let snapshot = Snapshot {
        entries: entries.map(|entry| versioned(&entry, 1)).collect(),
        agents: vec![Arc::new(agent("/spire/agent/t/a", "0a", &[]))],
        ..Snapshot::default()
    };
    let index = Index::build(id("/spire/server"), snapshot);
    assert_eq!(index.authorized(&id("/spire/agent/t/a"), Some(START)).len(), 1);
}

#[test]
fn nobody_but_an_attested_agent_is_granted_anything() {
    let entry = draft("/spire/agent/t/a", "/w").into_entry("e".into(), START);
    let banned = agent("/spire/agent/t/a", "", &[]);
    for agents in [vec![], vec![Arc::new(banned)]] {
        let snapshot = Snapshot {
            entries: vec![versioned(&entry, 1)],
            agents,
            ..Snapshot::default()
        };
        let index = Index::build(id("/spire/server"), snapshot);
        assert!(index.authorized(&id("/spire/agent/t/a"), Some(START)).is_empty());
    }
}

#[test]
fn an_answer_costs_what_it_holds_not_what_there_is() {
    let mut entries: Vec<_> = (0..5000)
        .map(|n| {
            draft(&format!("/spire/agent/t/other{n}"), &format!("/x{n}")).into_entry(format!("o{n}"), START)
        })
        .collect();
    entries.extend((0..5000).map(|n| {
        let mut alias = draft("/spire/server", &format!("/alias{n}")).into_entry(format!("a{n}"), START);
        alias.selectors = sel(&["k:all", &format!("k:{n}")]);
        alias
    }));
    entries.push(draft("/alias7", "/w").into_entry("mine".into(), START));
    let agents = vec![Arc::new(agent("/spire/agent/t/a", "0a", &["k:all", "k:7"]))];
    let entries = entries.iter().map(|entry| versioned(entry, 1)).collect();
    let index = Index::build(
        id("/spire/server"),
        Snapshot {
            entries,
            agents,
            ..Snapshot::default()
        },
    );
    let who = agent("/spire/agent/t/a", "0a", &["k:all", "k:7"]);
    assert!(index.aliases_seen(&who.selectors) <= 16);
    assert_eq!(index.authorized(&who.id, Some(UnixTime::EPOCH)).len(), 1);
}

/// Of ten thousand aliases, each for a site and a role that a hundred others have too, a node finds its own without a look at theirs.
#[test]
fn aliases_whose_selectors_are_all_common_are_found_at_once() {
    let alias = |site: usize, role: usize| {
        let mut alias = draft("/spire/server", &format!("/alias/{site}/{role}"))
            .into_entry(format!("a{site:02}{role:02}"), START);
        alias.selectors = sel(&[&format!("k:site:{site:02}"), &format!("k:role:{role:02}")]);
        versioned(&alias, 1)
    };
    let entries = (0..10_000).map(|n| alias(n / 100, n % 100));
    let mut index = Index::build(
        id("/spire/server"),
        Snapshot {
            entries: entries.collect(),
            ..Snapshot::default()
        },
    );
    let attested = sel(&["k:site:42", "k:role:17", "k:other", "j:1"]);
    assert!(
        index.aliases_seen(&attested) <= 30,
        "{}",
        index.aliases_seen(&attested)
    );
    for n in 0..10_000 {
        let id = format!("a{n:04}");
        index.apply(&Committed {
            revision: 1,
            change: Change::RemoveEntry(id),
        });
    }
    assert!(index.is_bare());
}

/// What an agent may have hangs in chains under its ID, under an alias and under one another; beside it there is a plant.
#[test]
fn what_is_looked_at_grows_with_the_answer_also_through_aliases_and_nested_parents() {
    let plant = (0..20_000).map(|n| match n % 4 {
        0 => alias_of(n, &["k:site:1", &format!("k:n:{n}")]),
        1 => draft("/spire/agent/t/other", &format!("/x{n}")).into_entry(format!("p{n}"), START),
        2 => draft(&format!("/x{}", n - 1), &format!("/y{n}")).into_entry(format!("p{n}"), START),
        _ => draft(&format!("/alias{}", n - 3), &format!("/z{n}")).into_entry(format!("p{n}"), START),
    });
    let mine = (0..60).map(|n| {
        let parent = match n % 20 {
            0 if n == 0 => "/spire/agent/t/a".to_owned(),
            0 => "/mine".to_owned(),
            _ => format!("/m{}", n - 1),
        };
        draft(&parent, &format!("/m{n}")).into_entry(format!("m{n}"), START)
    });
    let alias = Some(alias_of(77_777, &["k:site:1", "k:line:2"]));
    let alias = alias.map(|alias| Entry {
        spiffe_id: id("/mine"),
        ..alias
    });
    let entries: Vec<Entry> = plant.chain(mine).chain(alias).collect();
    let who = agent("/spire/agent/t/a", "0a", &["k:site:1", "k:line:2", "k:serial:5"]);
    let index = Index::build(
        id("/spire/server"),
        Snapshot {
            entries: entries.iter().map(|entry| versioned(entry, 1)).collect(),
            agents: vec![Arc::new(who.clone())],
            ..Snapshot::default()
        },
    );
    let granted = index.authorized(&who.id, None);
    assert_eq!(granted.len(), 60);
    let seen = index.authorized_seen(&who.id);
    assert!(seen <= 2 * 60 + 20, "{seen} looked at for 60");
}

fn alias_of(n: usize, selectors: &[&str]) -> Entry {
    let mut alias = draft("/spire/server", &format!("/alias{n}")).into_entry(format!("a{n}"), START);
    alias.selectors = sel(selectors);
    alias
}

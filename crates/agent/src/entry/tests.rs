//! Receipt rules, and the index against a scan.

use landfast_proto::spire::api::types;
use proptest::prelude::*;

use super::*;
use crate::testing::fake_server::wire_entry;
use crate::testing::{NOON, at, entry, selectors, td};

fn good() -> types::Entry {
    wire_entry("e1", "/collector", &["unix:uid:1000"])
}

fn parse(change: impl FnOnce(&mut types::Entry)) -> Result<Option<Entry>, EntryRefusal> {
    let mut wire = good();
    change(&mut wire);
    Entry::parse(&wire, &td())
}

#[test]
fn a_whole_entry_is_taken_over() {
    let parsed = parse(|wire| {
        wire.hint = "h".to_owned();
        wire.federates_with = vec![
            "b.test".to_owned(),
            "spiffe://a.test".to_owned(),
            "b.test".to_owned(),
        ];
        wire.expires_at = 7;
        wire.revision_number = 3;
        wire.created_at = 2;
    });
    let parsed = parsed.unwrap().unwrap();
    assert_eq!(parsed.spiffe_id.as_str(), "spiffe://plant.test/collector");
    assert_eq!(parsed.selectors, selectors(&["unix:uid:1000"]));
    let names: Vec<_> = parsed.federates_with.iter().map(TrustDomain::as_str).collect();
    assert_eq!(names, ["a.test", "b.test"]);
    assert_eq!(parsed.expires_at, Some(UnixTime::from_secs(7)));
    assert_eq!(
        (parsed.revision, parsed.created_at, parsed.hint.as_str()),
        (3, 2, "h")
    );
}

#[test]
fn an_entry_says_whether_its_svid_is_fetched_ahead() {
    let with = |attributes: Option<bool>| {
        let attributes = attributes.map(|on_demand| types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: on_demand,
            jwt_svid_include_jti: !on_demand,
        });
        let parsed = parse(|wire| wire.additional_attributes = attributes);
        parsed.unwrap().unwrap().on_demand
    };
    assert!(with(Some(true)) && !with(Some(false)) && !with(None));
}

#[test]
fn an_entry_that_breaks_a_rule_is_refused() {
    let long = "x".repeat(256);
    assert_eq!(parse(|wire| wire.id.clear()), Err(EntryRefusal::Id));
    assert_eq!(parse(|wire| wire.id = long.clone()), Err(EntryRefusal::Id));
    assert!(matches!(
        parse(|wire| wire.spiffe_id = None),
        Err(EntryRefusal::SpiffeId(_))
    ));
    let path = |path: &str| {
        let path = path.to_owned();
        parse(move |wire| wire.spiffe_id.as_mut().unwrap().path = path)
    };
    for bad in ["", "/", "/a/", "/spire/server", "/spire/agent/x/y", "/a b"] {
        assert!(matches!(path(bad), Err(EntryRefusal::SpiffeId(_))), "{bad}");
    }
    let foreign = parse(|wire| wire.spiffe_id.as_mut().unwrap().trust_domain = "other.test".to_owned());
    assert!(matches!(foreign, Err(EntryRefusal::SpiffeId(_))));
    assert!(matches!(
        parse(|wire| wire.selectors.clear()),
        Err(EntryRefusal::Selectors(_))
    ));
    assert!(matches!(
        parse(|wire| wire.selectors[0].value.clear()),
        Err(EntryRefusal::Selectors(_))
    ));
    assert!(matches!(
        parse(|wire| wire.selectors[0].r#type = "a:b".to_owned()),
        Err(EntryRefusal::Selectors(_))
    ));
    let many = parse(|wire| wire.selectors = vec![wire.selectors[0].clone(); 257]);
    assert!(matches!(many, Err(EntryRefusal::Selectors(_))));
    let federated = parse(|wire| wire.federates_with = vec!["Not A Domain".to_owned()]);
    assert!(matches!(federated, Err(EntryRefusal::FederatesWith(_))));
    assert!(matches!(
        parse(|wire| wire.hint = "h".repeat(1025)),
        Err(EntryRefusal::Hint(_))
    ));
}

#[test]
fn an_entry_for_a_store_is_not_for_workloads() {
    assert_eq!(parse(|wire| wire.store_svid = true), Ok(None));
}

fn index(entries: Vec<Entry>) -> EntryIndex {
    EntryIndex::new(entries.into_iter().map(Arc::new))
}

fn found(index: &EntryIndex, list: &[&str]) -> Vec<String> {
    index
        .matching(&selectors(list), NOON)
        .iter()
        .map(|entry| entry.id.to_string())
        .collect()
}

#[test]
fn every_selector_of_an_entry_must_be_the_workloads() {
    let index = index(vec![entry("a", "/a", &["unix:uid:1", "unix:gid:2"])]);
    assert_eq!(
        found(&index, &["unix:uid:1", "unix:gid:2", "unix:path:/x"]),
        ["a"]
    );
    assert!(found(&index, &["unix:uid:1"]).is_empty());
    assert!(found(&index, &["unix:gid:2", "unix:uid:2"]).is_empty());
    assert!(found(&index, &[]).is_empty());
}

#[test]
fn entries_come_by_their_ids_however_old_they_are() {
    let mut list = vec![
        entry("c", "/c", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
        entry("a", "/a", &["unix:uid:1"]),
    ];
    list[0].created_at = 5;
    list[1].created_at = 9;
    list[2].created_at = 9;
    assert_eq!(found(&index(list), &["unix:uid:1"]), ["a", "b", "c"]);
}

#[test]
fn of_entries_with_the_same_hint_only_the_oldest_is_served() {
    let mut list = vec![
        entry("a", "/a", &["unix:uid:1"]),
        entry("b", "/b", &["unix:uid:1"]),
        entry("c", "/c", &["unix:uid:1"]),
    ];
    (list[0].hint, list[1].hint) = ("same".to_owned(), "same".to_owned());
    (list[0].created_at, list[1].created_at) = (7, 3);
    // Who may have them is one thing, what an answer can name another.
    assert_eq!(found(&index(list.clone()), &["unix:uid:1"]), ["a", "b", "c"]);
    let kept = |list: &[Entry]| {
        let kept = one_for_each_hint(list.iter().cloned().map(Arc::new).collect());
        kept.iter().map(|entry| entry.id.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(kept(&list), ["b", "c"]);
    list[0].created_at = 3;
    assert_eq!(kept(&list), ["a", "c"], "of two as old the lower ID");
    // No hint is not a hint that can be doubled.
    list[0].hint.clear();
    list[1].hint.clear();
    assert_eq!(kept(&list), ["a", "b", "c"]);
}

#[test]
fn an_id_is_privileged_when_any_entry_of_it_is() {
    let mut list = vec![
        entry("a", "/ops", &["unix:uid:0"]),
        entry("b", "/ops", &["unix:uid:1"]),
        entry("c", "/line", &["unix:uid:1"]),
    ];
    assert!(!index(list.clone()).is_privileged(&list[1].spiffe_id));
    list[0].privileged = true;
    let index = index(list.clone());
    assert!(index.is_privileged(&list[1].spiffe_id) && !index.is_privileged(&list[2].spiffe_id));
}

#[test]
fn an_entry_that_is_over_matches_nobody() {
    let mut over = entry("a", "/a", &["unix:uid:1"]);
    over.expires_at = Some(NOON);
    assert!(found(&index(vec![over.clone()]), &["unix:uid:1"]).is_empty());
    over.expires_at = Some(at(1));
    assert_eq!(found(&index(vec![over]), &["unix:uid:1"]), ["a"]);
}

#[test]
fn hashing_is_wanted_only_when_an_entry_names_a_hash() {
    assert!(!index(vec![entry("a", "/a", &["unix:uid:1", "docker:sha256:abc"])]).uses_hashes());
    assert!(index(vec![entry("a", "/a", &["unix:uid:1", "unix:sha256:abc"])]).uses_hashes());
}

proptest! {
    #[test]
    fn the_index_finds_what_a_scan_finds(
        sets in prop::collection::vec(prop::collection::btree_set(0_u8..8, 1..4), 0..12),
        workload in prop::collection::btree_set(0_u8..8, 0..6),
    ) {
        let name = |value: &u8| format!("k:{value}");
        let set = |values: &std::collections::BTreeSet<u8>| -> SelectorSet {
            values.iter().map(|value| Selector::parse(&name(value)).unwrap()).collect()
        };
        let entries: Vec<Entry> = sets.iter().enumerate().map(|(n, values)| {
            Entry { selectors: set(values), ..entry(&format!("{n:02}"), "/a", &["k:0"]) }
        }).collect();
        let workload = set(&workload);
        let scan: Vec<_> = entries.iter().filter(|e| e.selectors.is_subset_of(&workload)).map(|e| e.id.to_string()).collect();
        let index = index(entries);
        let by_index: Vec<_> = index.matching(&workload, NOON).iter().map(|e| e.id.to_string()).collect();
        prop_assert_eq!(scan, by_index);
    }
}

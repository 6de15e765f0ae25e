//! What is made of entries that somebody else has written.

use super::*;

fn entry(id: &str, spiffe_id: &str, parent: &str) -> types::Entry {
    types::Entry {
        id: id.to_owned(),
        spiffe_id: Some(wire::id(&SpiffeId::parse(spiffe_id).unwrap())),
        parent_id: Some(wire::id(&SpiffeId::parse(parent).unwrap())),
        selectors: vec![selector("unix", "uid:1")],
        ..Default::default()
    }
}

fn selector(kind: &str, value: &str) -> types::Selector {
    types::Selector {
        r#type: kind.to_owned(),
        value: value.to_owned(),
    }
}

fn planned(entries: Vec<types::Entry>, map: &[(&str, &str)]) -> Vec<Item> {
    let id = |text: &str| SpiffeId::parse(text).unwrap();
    let map: Vec<_> = map.iter().map(|(old, new)| (id(old), id(new))).collect();
    let read = entries.into_iter().map(|entry| {
        Ok(Read {
            entry,
            unknown: Vec::new(),
        })
    });
    plan(read.collect(), &map, &TrustDomain::parse("a.test").unwrap())
}

#[test]
fn parents_are_mapped_and_foreign_ones_refused() {
    let items = planned(
        vec![
            entry(
                "1",
                "spiffe://a.test/x",
                "spiffe://a.test/spire/agent/join_token/t",
            ),
            entry("2", "spiffe://a.test/x", "spiffe://b.test/n"),
            entry("3", "spiffe://b.test/x", "spiffe://a.test/n"),
            entry("4", "spiffe://a.test/x", "spiffe://b.test/m"),
        ],
        &[
            ("spiffe://a.test/spire/agent/join_token/t", "spiffe://a.test/n"),
            ("spiffe://b.test/m", "spiffe://a.test/m"),
        ],
    );
    assert_eq!(
        wire::id_text(items[0].entry.as_ref().unwrap().parent_id.as_ref()),
        "spiffe://a.test/n"
    );
    let waits: Vec<bool> = items.iter().map(|item| item.fate == Fate::Waits).collect();
    assert_eq!(waits, [true, false, false, true]);
    let Fate::Refused { why, hint } = &items[2].fate else {
        panic!()
    };
    assert!(
        why.contains("spiffe://b.test/x") && why.contains("a.test") && hint.contains("trust domain"),
        "{why} {hint}"
    );
    let mistyped = [(
        SpiffeId::parse("spiffe://a.test/typo").unwrap(),
        SpiffeId::parse("spiffe://a.test/n").unwrap(),
    )];
    assert!(unused_maps(&items, &mistyped)[0].contains("spiffe://a.test/typo"));
}

#[test]
fn the_alias_of_a_join_token_is_left_out_and_told() {
    let token = "spiffe://a.test/spire/agent/join_token/t";
    let mut alias = entry("1", "spiffe://a.test/node", token);
    alias.selectors = vec![selector("spiffe_id", token)];
    let mut other = alias.clone();
    other.selectors.push(selector("unix", "uid:1"));
    let items = planned(vec![alias, other], &[]);
    assert!(matches!(items[0].fate, Fate::LeftOut { .. }));
    assert_eq!(items[1].fate, Fate::Waits);
}

#[test]
fn a_dry_run_judges_as_the_server_does() {
    let mut there = entry("1", "spiffe://a.test/x", "spiffe://a.test/n");
    there.revision_number = 7;
    let mut longer = entry("9", "spiffe://a.test/x", "spiffe://a.test/n");
    longer.x509_svid_ttl = 60;
    let mut far = entry("5", "spiffe://a.test/far", "spiffe://a.test/n");
    far.federates_with = vec!["b.test".to_owned()];
    let mut items = planned(
        vec![
            entry("1", "spiffe://a.test/x", "spiffe://a.test/n"),
            longer,
            entry("1", "spiffe://a.test/y", "spiffe://a.test/n"),
            far,
            entry("4", "spiffe://a.test/z", "spiffe://a.test/n"),
            entry("", "spiffe://a.test/z", "spiffe://a.test/n"),
        ],
        &[],
    );
    let mut existing = Existing::of(vec![there]);
    items
        .iter_mut()
        .for_each(|item| existing.judge(item, &BTreeSet::new()));
    let there = |id: &str, differs| Fate::There {
        id: id.to_owned(),
        differs,
    };
    assert_eq!(items[0].fate, there("1", false));
    assert_eq!(items[1].fate, there("1", true));
    assert!(matches!(&items[2].fate, Fate::Refused { why, .. } if why.contains("is another")));
    assert!(
        matches!(&items[3].fate, Fate::Refused { hint, .. } if hint.contains("landfast bundle set --trust-domain b.test"))
    );
    assert_eq!(items[4].fate, Fate::Created { id: "4".to_owned() });
    assert_eq!(items[5].fate, there("4", false));
}

#[test]
fn entries_that_give_power_are_refused_by_name() {
    let mut admin = entry("1", "spiffe://a.test/x", "spiffe://a.test/n");
    admin.admin = true;
    let mut below = entry("2", "spiffe://a.test/y", "spiffe://a.test/n");
    below.downstream = true;
    let plain = entry("3", "spiffe://a.test/z", "spiffe://a.test/n");
    let mut items = planned(vec![admin, below, plain], &[]);
    items.iter_mut().for_each(Item::refuse_power);
    for (item, word) in items.iter().zip(["(admin)", "(downstream)"]) {
        let Fate::Refused { why, hint } = &item.fate else {
            panic!("{:?} is let in", item.fate)
        };
        assert!(
            why.contains(word) && hint.contains("--allow-privileged"),
            "{why} {hint}"
        );
    }
    assert_eq!((&items[2].fate, items[2].power()), (&Fate::Waits, None));
}

#[test]
fn no_answer_is_a_refusal() {
    let mut items = planned(vec![entry("1", "spiffe://a.test/x", "spiffe://a.test/n")], &[]);
    items[0].answered(None, &BTreeSet::new());
    assert!(matches!(items[0].fate, Fate::Refused { .. }));
}

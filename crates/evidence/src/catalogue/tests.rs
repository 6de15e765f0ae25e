//! What the catalogues count, and what they must not.

use super::*;

/// What nothing of Landfast records yet: a clause that rests on these alone is not evidenced.
const OF_OTHERS: [&str; 13] = [
    "archive",
    "backup",
    "break-glass",
    "case",
    "drill",
    "log.archived",
    "log.exported",
    "material.read",
    "permit",
    "recovery",
    "request",
    "restore",
    "review",
];

#[test]
fn every_type_that_is_counted_is_one_that_is_recorded() {
    let formats = concat!(
        include_str!("../../../../docs/formats/ledger.md"),
        include_str!("../../../../docs/formats/journal.md")
    );
    for (name, _) in BUILT_IN {
        let catalogue = Catalogue::built_in(name).unwrap();
        for wanted in catalogue.clauses.iter().flat_map(|clause| &clause.records) {
            let kind = wanted.kind.as_str();
            let of_a_node = kind.strip_prefix("agent.").unwrap_or(kind);
            let is_there = [kind, of_a_node]
                .iter()
                .any(|kind| formats.contains(&format!("`{kind}`")) || formats.contains(&format!("`{kind}.")));
            let of_others = OF_OTHERS
                .iter()
                .any(|other| kind == *other || kind.starts_with(&format!("{other}.")));
            assert!(is_there || of_others, "{name}: nothing is of type {kind}");
        }
    }
}

#[test]
fn every_catalogue_is_one_and_none_judges() {
    for (name, text) in BUILT_IN {
        let catalogue = Catalogue::built_in(name).unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert!(catalogue.clauses.len() >= 5, "{name}");
        assert!(!text.to_lowercase().contains(FORBIDDEN), "{name}");
        let mut ids: Vec<_> = catalogue.clauses.iter().map(|clause| &clause.id).collect();
        let all = ids.len();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all, "{name}: a clause stands twice");
        for clause in &catalogue.clauses {
            assert_eq!(
                clause.records.is_empty(),
                clause.shows.is_empty(),
                "{name}: {}",
                clause.id
            );
            assert!(
                clause.aid.is_empty() || clause.records.is_empty(),
                "{name}: {}",
                clause.id
            );
        }
    }
    assert!(matches!(
        Catalogue::built_in("x"),
        Err(CatalogueError::Unknown { .. })
    ));
}

fn evidenced(name: &str, id: &str, lines: &[&str]) -> u64 {
    let at = Ref { ledger: 1, record: 0 };
    let records = lines.iter().enumerate().map(|(seq, line)| {
        let line = format!("{{\"seq\":{seq},{line}}}");
        Record::parse(at, &line).unwrap_or_else(|| panic!("{line}"))
    });
    let head = crate::Head {
        origin: String::new(),
        key_id: String::new(),
        size: lines.len() as u64,
        root: String::new(),
        first: 0,
        end: lines.len() as u64,
        missing: Vec::new(),
        pruned: 0,
    };
    let evidence = Evidence::new(vec![head], records.collect(), crate::Period::default());
    let mapping = Catalogue::built_in(name).unwrap().map(&evidence);
    let clause = mapping.clauses.into_iter().find(|clause| clause.id == id);
    clause.unwrap_or_else(|| panic!("{name}: no {id}")).count
}

#[test]
fn what_a_self_test_undoes_shows_nothing_of_how_a_plant_is_run() {
    let by = |reason: &str| format!(r#""type":"node.evicted","reason":"{reason}""#);
    for (name, id) in [
        ("readiness", "I3"),
        ("nis2", "21(2)(b)"),
        ("iec-62443", "SR 2.6"),
        ("nist", "IR-4"),
        ("owasp-nhi", "NHI1"),
    ] {
        assert_eq!(evidenced(name, id, &[&by("selftest")]), 0, "{name} {id}");
        // Whoever gives another reason means it.
        for meant in ["selftests", "after a selftest"] {
            assert_eq!(evidenced(name, id, &[&by(meant)]), 1, "{name} {id}");
        }
    }
    let done = r#""type":"selftest.done","result":"done","reason":"selftest""#;
    assert_eq!(evidenced("monitoring", "M7", &[done]), 1);
}

#[test]
fn a_self_test_shows_that_controls_hold_only_when_all_was_refused() {
    // One of eight was let through: seven good tries, and a run that failed.
    let mut run = vec![r#""type":"selftest.tried","decision":"deny","result":"done""#; 7];
    run.push(r#""type":"selftest.tried","decision":"allow","result":"failed""#);
    run.push(r#""type":"selftest.done","result":"failed""#);
    let clauses = [
        ("nis2", "21(2)(f)"),
        ("nis2", "21(2)(e)"),
        ("cir-2024-2690", "7.1"),
        ("cir-2024-2690", "3.5.5"),
        ("monitoring", "M7"),
        ("readiness", "I7"),
        ("iec-62443", "SR 6.2"),
        ("owasp-nhi", "NHI10"),
    ];
    for (name, id) in clauses {
        assert_eq!(evidenced(name, id, &run), 0, "{name} {id}");
        assert_eq!(
            evidenced(name, id, &[r#""type":"selftest.done","result":"done""#]),
            1,
            "{name} {id}"
        );
    }
}

#[test]
fn a_record_shows_what_it_is_about_and_nothing_beside() {
    let added = r#""type":"person.changed","detail":{"action":"grant","alone":true}"#;
    assert_eq!(
        evidenced("nis2", "20(1)", &[added]),
        0,
        "who manages is not known"
    );
    let proposed = r#""type":"person.proposed","detail":{"action":"grant","alone":false}"#;
    let agreed = r#""type":"person.changed","detail":{"action":"confirm","alone":false}"#;
    let withdrawn = r#""type":"person.changed","detail":{"action":"withdraw","alone":false}"#;
    for (name, id) in [("iec-62443", "SR 2.1 RE4"), ("readiness", "I2"), ("nist", "AC-5")] {
        assert_eq!(
            evidenced(name, id, &[added, proposed, withdrawn]),
            0,
            "{name} {id}"
        );
        assert_eq!(evidenced(name, id, &[agreed]), 1, "{name} {id}");
    }
    let closed = r#""type":"log.gap","detail":{"refused":3,"since":"x"}"#;
    assert_eq!(evidenced("nist", "SC-24", &[closed]), 1);
    for went_on in ["lost", "late", "written_after", "uncounted"] {
        let line = format!(r#""type":"log.gap","detail":{{"refused":3,"{went_on}":1}}"#);
        assert_eq!(evidenced("nist", "SC-24", &[&line]), 0, "{went_on}");
    }
    let ended = r#""type":"quarantine.ended""#;
    assert_eq!(
        evidenced("resilience", "R3", &[ended]),
        0,
        "an accident is no exercise"
    );
    assert_eq!(evidenced("cir-2024-2690", "4.2.6", &[ended]), 0);
    let denied = |reason: &str| format!(r#""type":"svid.denied","reason":"{reason}""#);
    let in_use = denied("the key already belongs to another identity: make a new one for spiffe://a/b");
    assert_eq!(evidenced("owasp-nhi", "NHI9", &[&in_use]), 1);
    assert_eq!(evidenced("owasp-nhi", "NHI9", &[&denied("no entry")]), 0);
    for id in ["23(4)(a)", "23(4)(b)", "23(4)(c)", "23(4)(d)", "23(4)(e)"] {
        assert_eq!(
            evidenced("nis2", id, &[&in_use, r#""type":"node.banned""#]),
            0,
            "{id}: nobody was told"
        );
    }
}

#[test]
fn the_points_of_9_2_are_those_of_the_annex() {
    let all = Catalogue::built_in("cir-2024-2690").unwrap();
    let of: Vec<_> = all
        .clauses
        .iter()
        .map(|clause| clause.id.as_str())
        .filter(|id| id.starts_with("9.2"))
        .collect();
    let numerals = [
        "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii",
    ];
    let mut expected = vec!["9.2(a)".to_owned(), "9.2(b)".to_owned()];
    expected.extend(numerals.map(|numeral| format!("9.2(c)({numeral})")));
    assert_eq!(of, expected);
}

#[test]
fn a_catalogue_that_judges_is_refused() {
    let text = format!("title = \"x\"\n[[clause]]\nid = \"1\"\nasks = \"to be {FORBIDDEN}\"\n");
    assert!(matches!(
        Catalogue::parse(&text),
        Err(CatalogueError::Word { .. })
    ));
    assert!(matches!(
        Catalogue::parse("title = 1"),
        Err(CatalogueError::Toml { .. })
    ));
}

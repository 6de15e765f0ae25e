//! The acceptance tests of evidence: AT-07, AT-12, AT-30, AT-33, and what packs and answers promise.

mod answers;
mod clocks;
mod edges;
mod packs;
mod rig;
mod standing;

use self::rig::{Rig, at, change, changed, jo, parts, story};
use crate::{BUILT_IN, Catalogue, GapKind, Opening, Quality, gaps, verify_pack};

/// The record that the first finding about one names.
fn named(pack: &[u8], rig: &Rig) -> Vec<u64> {
    let report = verify_pack(pack, &[rig.key()], &[]);
    assert!(!report.is_good());
    let mut named: Vec<u64> = report
        .findings
        .iter()
        .filter_map(|finding| finding.record)
        .collect();
    named.sort_unstable();
    named.dedup();
    named
}

#[test]
fn at_07_each_of_five_tamperings_with_a_pack_is_found_and_named_by_its_record() {
    let rig = Rig::new(&story());
    let pack = rig.pack("notification");
    let good = verify_pack(&pack, &[rig.key()], &[]);
    assert!(good.is_good() && good.authoritative, "{:?}", good.findings);
    let place = |lines: &[String], seq: u64| {
        let wanted = format!("\"seq\":{seq},");
        lines
            .iter()
            .position(|line| line.contains(&wanted))
            .expect("it is there")
    };
    let records = "ledger-1/records.jsonl";
    let flipped = changed(&pack, records, |lines| {
        let at = place(lines, 400);
        lines[at] = lines[at].replacen("plc-7", "plc-8", 1);
    });
    assert_eq!(named(&flipped, &rig)[0], 400, "one byte");
    let deleted = changed(&pack, records, |lines| drop(lines.remove(place(lines, 401))));
    assert_eq!(named(&deleted, &rig), [401], "deleted");
    let last = {
        let files = rig::unpacked(&pack);
        let (_, bytes) = files.iter().find(|(name, _)| name == records).unwrap();
        let line = String::from_utf8(bytes.clone())
            .unwrap()
            .lines()
            .last()
            .unwrap()
            .to_owned();
        serde_json::from_str::<serde_json::Value>(&line).unwrap()["seq"]
            .as_u64()
            .unwrap()
    };
    let cut = changed(&pack, records, |lines| lines.truncate(lines.len() - 3));
    assert_eq!(named(&cut, &rig), [last - 2, last - 1, last], "truncated");
    let moved = changed(&pack, records, |lines| {
        let at = place(lines, 402);
        lines.swap(at, at + 1);
    });
    assert_eq!(named(&moved, &rig)[0], 402, "re-ordered");
    let rolled = changed(&pack, records, |lines| {
        let at = place(lines, 404);
        let record: serde_json::Value = serde_json::from_str(&lines[at]).unwrap();
        lines[at] = lines[at].replace(record["time"].as_str().unwrap(), "2026-11-23T08:00:00Z");
    });
    assert_eq!(named(&rolled, &rig)[0], 404, "the clock rolled back");
}

#[test]
fn at_07_each_of_five_tamperings_with_a_ledger_is_found_and_named_by_its_record() {
    let first = |rig: &Rig| rig.ledger().findings.first().and_then(|finding| finding.record);
    let rig = Rig::new(&story());
    rig.tamper(|records| records[44][100] ^= 1);
    assert_eq!(first(&rig), Some(300), "one byte");
    let rig = Rig::new(&story());
    rig.tamper(|records| drop(records.remove(44)));
    assert_eq!(first(&rig), Some(300), "deleted");
    let rig = Rig::new(&story());
    rig.tamper(|records| records.swap(44, 45));
    assert_eq!(first(&rig), Some(300), "re-ordered");
    // The tail, by who has the key: against a checkpoint that somebody kept.
    let der = landfast_audit::CheckpointKey::generate().unwrap();
    let (whole, cut) = (Rig::under(&der, &story()), Rig::under(&der, &story()[..990]));
    assert!(cut.ledger().findings.is_empty());
    let kept = vec![(
        "kept".to_owned(),
        std::fs::read(whole.path("checkpoint")).unwrap(),
    )];
    let opening = Opening {
        key: Some(&cut.key),
        checkpoints: &kept,
        archives: &[],
    };
    let ledger = crate::Ledger::open(&cut.path(""), &opening).unwrap();
    assert_eq!(ledger.findings[0].record, Some(990), "truncated");
    // A clock that was rolled back shows in the numbers, also when the log itself is whole.
    let mut records = story();
    records[500].time = Some(at(0));
    let rig = Rig::new(&records);
    assert!(rig.ledger().findings.is_empty());
    let evidence = rig.evidence();
    let found = gaps(&evidence)
        .into_iter()
        .find(|gap| gap.kind == GapKind::ClockWentBack)
        .expect("it is found");
    assert_eq!(found.records[0].record, 500, "the clock rolled back");
}

#[test]
fn at_12_without_the_records_of_the_exercise_its_claims_are_not_evidenced() {
    let tested = Rig::new(&story());
    let without: Vec<_> = story()
        .into_iter()
        .filter(|record| !record.kind.starts_with("selftest"))
        .collect();
    let untested = Rig::new(&without);
    for (name, claim) in [
        ("monitoring", "M7"),
        ("readiness", "I7"),
        ("cir-2024-2690", "7.1"),
        ("nis2", "21(2)(f)"),
    ] {
        let status = |rig: &Rig| {
            let mapping = Catalogue::built_in(name).unwrap().map(&rig.evidence());
            let clause = mapping.clauses.into_iter().find(|clause| clause.id == claim);
            clause.expect("the claim is there").status
        };
        assert_eq!(status(&tested), "evidenced by 1 record", "{name}");
        assert_eq!(status(&untested), "not evidenced", "{name}");
    }
    // And none of the other claims gains by it.
    let all = |rig: &Rig| {
        Catalogue::built_in("resilience")
            .unwrap()
            .map(&rig.evidence())
            .evidenced
    };
    assert_eq!(all(&tested), all(&untested));
}

#[test]
fn at_30_two_percent_of_the_records_removed_lower_the_score_and_the_interval_is_named() {
    let rig = Rig::new(&story());
    let quality = |rig: &Rig| {
        let evidence = rig.evidence();
        let gaps = gaps(&evidence);
        (Quality::of(&evidence, &gaps), gaps)
    };
    let (before, _) = quality(&rig);
    assert_eq!((before.missing, before.expected), (0, 1000));
    // 20 of 1000.
    rig.tamper(|records| drop(records.drain(44..64)));
    let (after, found) = quality(&rig);
    assert_eq!(after.missing, 20);
    assert!(
        after.score + 30 <= before.score,
        "{} and {}: {}",
        before.score,
        after.score,
        after.sum()
    );
    let interval = found
        .iter()
        .find(|gap| gap.kind == GapKind::Missing)
        .expect("it is named");
    assert_eq!(
        interval.records.iter().map(|at| at.record).collect::<Vec<_>>(),
        [300, 319]
    );
    // Record 299 is the SVID of 13:53, 320 that of 14:14.
    assert_eq!(
        interval.from.as_deref(),
        Some(at(60 + 292 * 60).to_string().as_str())
    );
    assert_eq!(
        interval.to.as_deref(),
        Some(at(60 + 313 * 60).to_string().as_str())
    );
    assert!(interval.what.contains("300 to 319"), "{}", interval.what);
    // A pack of it says so, and does not pass for a whole one.
    let pack = rig.pack("final");
    let report = verify_pack(&pack, &[rig.key()], &[]);
    assert_eq!((report.is_good(), report.missing), (false, 20));
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert_eq!(report.findings[0].record, Some(300));
    assert!(
        report.findings[0].what.contains("as the pack itself says"),
        "{:?}",
        report.findings
    );
}

#[test]
fn at_33_every_clause_is_printed_with_its_records_or_as_not_evidenced() {
    let rig = Rig::new(&story());
    let evidence = rig.evidence();
    for (name, _) in BUILT_IN {
        let catalogue = Catalogue::built_in(name).unwrap();
        let mapping = catalogue.map(&evidence);
        assert_eq!(mapping.clauses.len(), catalogue.clauses.len(), "{name}");
        for clause in &mapping.clauses {
            let count = clause.count;
            let expected = match count {
                0 => "not evidenced".to_owned(),
                1 => "evidenced by 1 record".to_owned(),
                _ => format!("evidenced by {count} records"),
            };
            assert_eq!(clause.status, expected, "{name} {}", clause.id);
            assert_eq!(clause.records.is_empty(), count == 0);
        }
    }
    let nis2 = Catalogue::built_in("nis2").unwrap().map(&evidence);
    let count = |id: &str| {
        nis2.clauses
            .iter()
            .find(|clause| clause.id == id)
            .map(|clause| clause.count)
    };
    assert_eq!(count("21(2)(j)"), Some(901), "900 SVIDs and an attestation");
    assert_eq!(count("21(2)(g)"), Some(0), "nothing shows training");
    assert_eq!(count("21(2)(d)"), Some(0), "there is no third party");
    let articles = [
        "20(1)", "21(2)(a)", "21(2)(b)", "21(2)(c)", "21(2)(d)", "21(2)(e)", "21(2)(f)", "21(2)(g)",
        "21(2)(h)", "21(2)(i)", "21(2)(j)", "23(4)(a)", "23(4)(b)", "23(4)(c)", "23(4)(d)", "23(4)(e)",
    ];
    for article in articles {
        assert!(count(article).is_some(), "{article}");
    }
}

/// In pieces, so that it stands nowhere.
const FORBIDDEN: &str = concat!("compl", "iant");

#[test]
fn nothing_that_is_printed_judges() {
    let mut records = story();
    records.push(change(90_000, "log.gap", jo()));
    let rig = Rig::new(&records);
    for stage in crate::STAGES {
        for (name, bytes) in rig::unpacked(&rig.pack(stage)) {
            let text = String::from_utf8_lossy(&bytes).to_lowercase();
            assert!(!text.contains(FORBIDDEN), "{stage}: {name}");
        }
    }
    let evidence = rig.evidence();
    let gaps = gaps(&evidence);
    assert!(!serde_json::to_string(&gaps).unwrap().contains(FORBIDDEN));
    let quality = Quality::of(&evidence, &gaps);
    for (name, _) in BUILT_IN {
        let mapping = Catalogue::built_in(name).unwrap().map(&evidence);
        let page = crate::catalogue_page(&mapping, "", &quality);
        assert!(!page.to_lowercase().contains(FORBIDDEN), "{name}");
    }
    assert_eq!(parts("final").stage, "final");
}

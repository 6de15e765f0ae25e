//! Where a pack begins and ends: what shows it, what nodes have sent late, and what is in an archive.

use landfast_audit::verify::DirSource;
use landfast_audit::{Actor, ActorClass, Category, Record, archive, prune};

use super::rig::{NODE, PLC, Rig, at, changed, entry, issued, jo, period, record, story, with_manifest};
use crate::{Asked, GapKind, LedgerError, Ledgers, Parts, gaps, pack, verify_pack, who};

fn server() -> Actor {
    Actor::new(ActorClass::Server, None)
}

/// What a node did then, and the server heard later.
fn heard(happened: i64, received: i64) -> Record {
    let node = Actor::new(ActorClass::Node, Some(NODE.to_owned()));
    record(happened, Category::AccessControl, "agent.handed-out", node)
        .about(PLC)
        .with("received", at(received))
}

fn packed(rig: &Rig, from: i64, to: i64) -> Vec<u8> {
    let to = if to == 0 {
        String::new()
    } else {
        at(to).to_string()
    };
    let period = period(&at(from).to_string(), &to);
    let parts = Parts {
        stage: "final",
        case: None,
        period,
    };
    pack(&rig.ledgers(), &parts).unwrap().bytes
}

fn log(records: impl IntoIterator<Item = Record>) -> Rig {
    let begun = record(0, Category::AuditLog, "log.started", server());
    Rig::new(&std::iter::once(begun).chain(records).collect::<Vec<_>>())
}

#[test]
fn a_ledger_may_be_longer_than_what_fits() {
    let mut records = vec![entry(20, "e-plc", PLC, jo())];
    records.extend((0..2500).map(|n| issued(100 + n * 60, "e-plc", PLC, n)));
    let rig = log(records);
    let all = rig.ledgers().evidence(&period("", ""));
    assert!(matches!(all, Err(LedgerError::TooMany)), "the control");
    // What comes after an hour, and before it, is none of its business.
    for from in [0, 30 * 3600] {
        let hour = period(&at(from).to_string(), &at(from + 3600).to_string());
        let evidence = rig.ledgers().evidence(&hour).unwrap();
        assert!(evidence.records.len() <= 63, "{}", evidence.records.len());
        let report = verify_pack(&packed(&rig, from, from + 3600), &[rig.key()], &[]);
        assert!(report.is_good() && report.to_the_end, "{:?}", report.findings);
    }
    // And one thing at one moment is asked of all of it.
    let asked = Asked {
        target: PLC,
        at: &at(90_000).to_string(),
    };
    let answer = who(&rig.ledgers().evidence_for(&asked).unwrap(), &asked);
    assert_eq!(
        (answer.entitled.len(), answer.credentials.len(), answer.looked_at),
        (1, 60, 2502)
    );
}

#[test]
fn what_nodes_have_sent_late_is_where_it_came_in() {
    let day = 86_400;
    // The server was away on the second day; the node was not.
    let mut records = vec![entry(20, "e-plc", PLC, jo()), issued(100, "e-plc", PLC, 1)];
    records.push(record(2 * day, Category::AuditLog, "log.started", server()));
    records.extend((0..5).map(|n| heard(day + n * 60, 2 * day + 5)));
    records.push(issued(2 * day + 60, "e-plc", PLC, 2));
    let rig = log(records);
    for (from, to) in [
        (0, day),
        (0, 2 * day),
        (2 * day, 3 * day),
        (2 * day, 0),
        (100, 2 * day + 5),
    ] {
        let report = verify_pack(&packed(&rig, from, to), &[rig.key()], &[]);
        assert!(report.is_good(), "{from} {to}: {:?}", report.findings);
    }
    // Whoever asks for the day of the outage is told that there is more.
    let evidence = rig
        .ledgers()
        .evidence(&period(&at(0).to_string(), &at(2 * day).to_string()));
    assert_eq!(
        evidence.unwrap().came_later,
        Some((5, at(2 * day + 5).to_string()))
    );
    let later = rig.ledgers().evidence(&period(&at(0).to_string(), "")).unwrap();
    assert_eq!(later.came_later, None);
    // It is no clock that went back.
    assert!(gaps(&later).iter().all(|gap| gap.kind != GapKind::ClockWentBack));
}

#[test]
fn a_pack_cannot_begin_behind_a_record_without_a_time_or_one_of_before() {
    let timeless = |n: i64| Record {
        time: None,
        ..issued(n, "e-plc", PLC, n)
    };
    let mut records = vec![
        entry(20, "e-plc", PLC, jo()),
        issued(100, "e-plc", PLC, 1),
        timeless(2),
        timeless(3),
    ];
    records.extend((0..4).map(|n| issued(1000 + n, "e-plc", PLC, n)));
    records.push(timeless(7));
    // Set back to before the period, and right again.
    records.push(entry(90, "e-other", PLC, jo()));
    records.extend((0..4).map(|n| issued(1010 + n, "e-plc", PLC, n)));
    records.push(issued(5000, "e-plc", PLC, 9));
    let rig = log(records);
    let made = packed(&rig, 1000, 2000);
    let good = verify_pack(&made, &[rig.key()], &[]);
    assert!(good.is_good() && good.to_the_end, "{:?}", good.findings);
    let cut = |first: u64| {
        let shorter = changed(&made, "ledger-1/records.jsonl", |_| {});
        let shorter = with_manifest(&shorter, |manifest| {
            manifest["ledgers"][0]["first"] = first.into()
        });
        let report = verify_pack(&shorter, &[rig.key()], &[]);
        let about = report
            .findings
            .iter()
            .filter(|finding| finding.file.ends_with("records.jsonl"));
        about.map(|finding| finding.what.clone()).collect::<Vec<_>>()
    };
    // Records 5 to 8 are of the period, 9 has no time, 10 is of before.
    for first in [6, 9, 10, 11] {
        assert!(
            cut(first).iter().any(|what| what.contains("it is of the period")),
            "{first}: {:?}",
            cut(first)
        );
    }
    let ends = |end: u64| {
        let shorter = with_manifest(&made, |manifest| manifest["ledgers"][0]["end"] = end.into());
        verify_pack(&shorter, &[rig.key()], &[]).findings
    };
    // Nor can it end before one without a time, or one that claims to be older.
    for end in [9, 10] {
        let found = ends(end);
        assert!(
            found
                .iter()
                .any(|finding| finding.what.contains("has no time, and the pack ends")),
            "{end}: {found:?}"
        );
    }
}

#[test]
fn the_record_before_a_period_may_have_no_time_when_one_before_it_has() {
    let timeless = Record {
        time: None,
        ..issued(1, "e-plc", PLC, 1)
    };
    let rig = log([
        entry(20, "e-plc", PLC, jo()),
        issued(100, "e-plc", PLC, 1),
        timeless,
        issued(1000, "e-plc", PLC, 2),
    ]);
    let made = packed(&rig, 1000, 0);
    let good = verify_pack(&made, &[rig.key()], &[]);
    assert!(good.is_good(), "{:?}", good.findings);
    // Without the one that has a time nobody knows what the other stands for.
    let alone = changed(&made, "ledger-1/records.jsonl", |lines| {
        lines.retain(|line| !line.contains("\"seq\":2,"))
    });
    let alone = changed(&alone, "ledger-1/proofs.jsonl", |lines| {
        lines.retain(|line| !line.contains("\"seq\":2,"))
    });
    let report = verify_pack(&alone, &[rig.key()], &[]);
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
    assert_eq!(report.findings[0].record, Some(2));
}

#[test]
fn a_pack_of_an_older_state_does_not_pass_for_all_of_it() {
    let der = landfast_audit::CheckpointKey::generate().unwrap();
    let (now, then) = (Rig::under(&der, &story()), Rig::under(&der, &story()[..950]));
    let kept = |rig: &Rig| ("kept".to_owned(), std::fs::read(rig.path("checkpoint")).unwrap());
    let made = then.pack("final");
    // It says where it ends: nothing shows that the log had reached the end of the period.
    let alone = verify_pack(&made, &[then.key()], &[]);
    assert!(alone.is_good() && !alone.to_the_end, "{:?}", alone.findings);
    assert!(
        alone.notes[0].contains("ends at record 949, 2026-11-23T23:01:"),
        "{:?}",
        alone.notes
    );
    let younger = verify_pack(&made, &[then.key()], &[kept(&now)]);
    assert!(!younger.is_good());
    assert!(
        younger.findings[0].what.contains("made of an older state"),
        "{:?}",
        younger.findings
    );
    assert!(
        verify_pack(&made, &[then.key()], &[kept(&then)]).is_good(),
        "its own"
    );
    // One of before has to be led on from, and the pack must have been made with it.
    let without = verify_pack(&now.pack("final"), &[now.key()], &[kept(&then)]);
    assert!(
        without.findings[0].what.contains("no proof in the pack"),
        "{:?}",
        without.findings
    );
    let with = Ledgers::new(vec![now.ledger_with(&[kept(&then)], &[])]).unwrap();
    let with = pack(&with, &super::parts("final")).unwrap().bytes;
    let report = verify_pack(&with, &[now.key()], &[kept(&then), kept(&now)]);
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!(report.continues, 2);
    // Another story under the same key.
    let mut other = story();
    other[500].reason = Some("another".to_owned());
    let fork = Rig::under(&der, &other[..950]);
    let forked = verify_pack(&with, &[now.key()], &[kept(&fork)]);
    assert!(
        forked.findings[0].what.contains("two stories are told"),
        "{:?}",
        forked.findings
    );
    let same = Rig::under(&der, &other);
    let forked = verify_pack(&with, &[now.key()], &[kept(&same)]);
    assert!(
        forked.findings[0].what.contains("two stories are told"),
        "{:?}",
        forked.findings
    );
    let foreign = verify_pack(&made, &[then.key()], &[kept(&Rig::new(&story()))]);
    assert!(
        foreign.findings[0].what.contains("of no log in this pack"),
        "{:?}",
        foreign.findings
    );
}

#[test]
fn a_log_that_was_pruned_says_so_in_every_answer_and_its_archive_fills_it_up() {
    let mut records = story();
    records.push(record(60_000, Category::AuditLog, "log.pruned", server()).with("first_record", 256_u64));
    records.push(record(60_001, Category::AuditLog, "log.stopped", server()));
    let rig = Rig::new(&records);
    let whole = rig.pack("final");
    let old = rig.dir.path().join("archive");
    archive(&DirSource::new(&rig.path("")), &old, &rig.key()).unwrap();
    prune(&rig.path(""), &old, &rig.key(), 256).unwrap();
    let evidence = rig.evidence();
    assert_eq!(
        (evidence.ledgers[0].pruned, evidence.missing(), evidence.pruned()),
        (256, 0, 256)
    );
    let found = gaps(&evidence);
    assert!(found.iter().any(|gap| gap.kind == GapKind::Pruned), "{found:?}");
    assert!(found.iter().all(|gap| gap.kind != GapKind::Missing), "{found:?}");
    let asked = Asked {
        target: PLC,
        at: "2026-11-23T20:00:00Z",
    };
    // The entry's own records are in the archive; that something was signed by it is not.
    let answer = who(&rig.ledgers().evidence_for(&asked).unwrap(), &asked);
    assert_eq!((answer.entitled.len(), answer.pruned), (1, 256));
    assert!(
        answer.entitled[0].rule.contains("older than these records"),
        "{:?}",
        answer.entitled
    );
    assert!(
        answer.answer.contains("256 records were taken to an archive"),
        "{}",
        answer.answer
    );
    // Its packs verify, with and without a beginning, and say it too.
    for from in ["", "2026-11-23T12:00:00Z", "2026-11-23T20:00:00Z"] {
        let parts = Parts {
            period: period(from, ""),
            ..super::parts("final")
        };
        let made = pack(&rig.ledgers(), &parts).unwrap().bytes;
        let report = verify_pack(&made, &[rig.key()], &[]);
        assert!(report.is_good(), "{from}: {:?}", report.findings);
        assert!(
            report.notes.iter().any(|note| note.contains("are in an archive")),
            "{:?}",
            report.notes
        );
    }
    // Nobody prunes a log by writing it into a manifest.
    for first in [300, 512] {
        let claimed = with_manifest(&whole, |manifest| {
            manifest["ledgers"][0]["pruned"] = first.into();
            manifest["ledgers"][0]["first"] = first.into();
        });
        let report = verify_pack(&claimed, &[rig.key()], &[]);
        let found = report
            .findings
            .iter()
            .any(|finding| finding.what.contains("no record of the log says so"));
        assert!(found, "{:?}", report.findings);
    }
    let both = Ledgers::new(vec![rig.ledger_with(&[], &[old])]).unwrap();
    let evidence = both.evidence(&period("", "")).unwrap();
    assert_eq!((evidence.pruned(), evidence.records.len()), (0, 1002));
    assert_eq!(
        pack(&both, &super::parts("final")).unwrap().bytes,
        whole,
        "the same pack"
    );
}

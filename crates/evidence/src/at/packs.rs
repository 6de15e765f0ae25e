//! Packs: made the same again, verified by the key alone, and what somebody who makes one up cannot do.

use crate::{LedgerError, Ledgers, PackError, Parts, Period, pack, verify_pack};
use landfast_audit::verify::VerifierKey;
use landfast_audit::{Actor, ActorClass};

use super::rig::{Rig, change, changed, jo, packed, parts, story, unpacked, with_manifest};

#[test]
fn the_same_records_make_the_same_pack_and_the_kept_key_makes_it_count() {
    let rig = Rig::new(&story());
    let made = rig.pack("final");
    assert!(made == rig.pack("final"), "made twice");
    let own = verify_pack(&made, &[], &[]);
    assert!(own.is_good() && !own.authoritative, "{:?}", own.findings);
    let kept = verify_pack(&made, &[rig.key()], &[]);
    assert!(kept.is_good() && kept.authoritative, "{:?}", kept.findings);
    // What still stood from before is with it: four records and the node's; the log's start; one on each side is of the period's neighbours.
    assert!(kept.proven > 600 && kept.missing == 0, "{kept:?}");
    assert!(kept.score.is_some());
}

#[test]
fn a_pack_of_another_log_is_not_taken_for_this_one() {
    let (rig, other) = (Rig::new(&story()), Rig::new(&story()));
    let made = other.pack("final");
    let report = verify_pack(&made, &[rig.key()], &[]);
    assert!(!report.is_good() && !report.authoritative);
    // Who makes it up under the name of the log has not its key.
    let forged_key = |line: &str| {
        let (name, rest) = line.split_once('+').unwrap();
        let _ = name;
        format!("{}+{rest}", rig.key().name())
    };
    let line = String::from_utf8(
        unpacked(&made)
            .into_iter()
            .find(|(name, _)| name.ends_with("verifier-key"))
            .unwrap()
            .1,
    )
    .unwrap();
    assert!(VerifierKey::parse(&forged_key(&line)).is_err());
    let mut files = unpacked(&made);
    for (name, bytes) in &mut files {
        if name.ends_with("manifest.json") || name == "report.json" {
            *bytes = String::from_utf8(bytes.clone())
                .unwrap()
                .replace(other.key().name(), rig.key().name())
                .into_bytes();
        }
    }
    let report = verify_pack(&packed(&files), &[rig.key()], &[]);
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| finding.file.as_str())
        .collect();
    assert!(
        found.contains(&"ledger-1/checkpoint") || found.contains(&"ledger-1/verifier-key"),
        "{:?}",
        report.findings
    );
}

#[test]
fn a_report_that_does_not_follow_from_the_records_is_found() {
    let rig = Rig::new(&story());
    let made = rig.pack("notification");
    for (file, from, to) in [
        ("report.json", "\"signed\": ", "\"signed\": 1"),
        ("report.html", "Open questions", "No questions"),
        ("manifest.json", "line-4-intruder", "line-5"),
        ("README.txt", "verifier key that you were given", "key in it"),
    ] {
        let told = changed(&made, file, |lines| {
            let at = lines
                .iter()
                .position(|line| line.contains(from))
                .expect("it is there");
            lines[at] = lines[at].replacen(from, to, 1);
        });
        let report = verify_pack(&told, &[rig.key()], &[]);
        let found = report
            .findings
            .iter()
            .find(|finding| finding.file.starts_with("report.") || finding.file == file);
        let found = found.unwrap_or_else(|| panic!("{file}: {:?}", report.findings));
        assert!(found.what.contains("it does not follow from th"), "{found:?}");
    }
}

#[test]
fn a_pack_that_was_made_shorter_shows_its_edges() {
    let rig = Rig::new(&story());
    let made = rig.pack("notification");
    let manifest = |change: &dyn Fn(&mut serde_json::Value)| {
        verify_pack(&with_manifest(&made, change), &[rig.key()], &[])
    };
    assert!(manifest(&|_| {}).is_good());
    let named = |report: crate::PackReport| -> Vec<u64> {
        report
            .findings
            .iter()
            .filter_map(|finding| finding.record)
            .collect()
    };
    let first = manifest(&|value| {
        value["ledgers"][0]["first"] = (value["ledgers"][0]["first"].as_u64().unwrap() + 1).into()
    });
    assert!(!named(first).is_empty(), "it begins one later");
    let end = manifest(&|value| {
        value["ledgers"][0]["end"] = (value["ledgers"][0]["end"].as_u64().unwrap() - 1).into()
    });
    assert!(!named(end).is_empty(), "it ends one earlier");
    let size = manifest(&|value| value["ledgers"][0]["size"] = 2000.into());
    assert!(!size.is_good());
}

#[test]
fn what_is_no_pack_is_said_to_be_none() {
    assert!(!verify_pack(b"PK", &[], &[]).is_good());
    assert!(!verify_pack(&packed(&[]), &[], &[]).is_good());
    let rig = Rig::new(&story());
    let mut files = unpacked(&rig.pack("final"));
    files.push(("../evil".to_owned(), Vec::new()));
    let refused = verify_pack(&packed(&files), &[], &[]);
    assert_eq!(refused.findings[0].what, "a file that no pack has");
    for leave_out in [
        "README.txt",
        "manifest.json",
        "report.json",
        "report.html",
        "ledger-1/checkpoint",
        "ledger-1/verifier-key",
        "ledger-1/records.jsonl",
        "ledger-1/proofs.jsonl",
    ] {
        let files: Vec<_> = unpacked(&rig.pack("final"))
            .into_iter()
            .filter(|(name, _)| name != leave_out)
            .collect();
        let report = verify_pack(&packed(&files), &[rig.key()], &[]);
        assert!(
            report.findings.iter().any(|finding| finding.file == leave_out),
            "{leave_out}: {:?}",
            report.findings
        );
    }
}

#[test]
fn what_a_record_holds_is_text_on_the_page() {
    let mut records = story();
    records.push(
        change(50_000, "node.banned", jo())
            .about("<img src=x onerror=alert(1)>")
            .because("\"><script>alert(1)</script>\u{202e}"),
    );
    let rig = Rig::new(&records);
    let page = unpacked(&rig.pack("final"))
        .into_iter()
        .find(|(name, _)| name == "report.html")
        .unwrap()
        .1;
    let page = String::from_utf8(page).unwrap();
    assert!(page.contains("&lt;img src=x"));
    for bad in ["<img", "<script", "\u{202e}", "http:", "https:", "url(", "src=\""] {
        assert!(!page.contains(bad), "{bad}");
    }
}

#[test]
fn an_empty_period_makes_no_pack() {
    let rig = Rig::new(&story());
    let period = Period {
        from: Some("2027-01".to_owned()),
        to: None,
    };
    let nothing = pack(
        &rig.ledgers(),
        &Parts {
            period,
            ..parts("final")
        },
    );
    assert!(matches!(nothing, Err(PackError::Nothing { .. })));
    let unknown = pack(&rig.ledgers(), &parts("later"));
    assert!(matches!(unknown, Err(PackError::Stage { .. })));
}

#[test]
fn packs_of_two_servers_join_them() {
    let (one, other) = (Rig::new(&story()), Rig::new(&story()));
    let both = Ledgers::new(vec![one.ledger(), other.ledger()]).unwrap();
    let made = pack(&both, &parts("final")).unwrap();
    assert_eq!(made.report.ledgers.len(), 2);
    let report = verify_pack(&made.bytes, &[one.key(), other.key()], &[]);
    assert!(report.is_good() && report.authoritative, "{:?}", report.findings);
    // With the key of one, the other is only what the pack says of itself, and that is told.
    let half = verify_pack(&made.bytes, &[one.key()], &[]);
    assert!(!half.authoritative && !half.is_good());
}

#[test]
fn a_log_that_was_left_out_is_missed_by_its_key() {
    let (one, other) = (Rig::new(&story()), Rig::new(&story()));
    let made = one.pack("final");
    assert!(verify_pack(&made, &[one.key()], &[]).is_good());
    let half = verify_pack(&made, &[one.key(), other.key()], &[]);
    assert_eq!(half.findings.len(), 1, "{:?}", half.findings);
    assert!(
        half.findings[0].what.contains(other.key().name()),
        "{:?}",
        half.findings
    );
}

#[test]
fn no_log_counts_twice() {
    let rig = Rig::new(&story());
    let twice = Ledgers::new(vec![rig.ledger(), rig.ledger()]);
    assert!(matches!(twice, Err(LedgerError::Twice { .. })));
    let made = with_manifest(&rig.pack("final"), |manifest| {
        let head = manifest["ledgers"][0].clone();
        manifest["ledgers"].as_array_mut().unwrap().push(head);
    });
    let report = verify_pack(&made, &[rig.key()], &[]);
    assert!(
        report.findings[0].what.contains("a log twice"),
        "{:?}",
        report.findings
    );
}

#[test]
fn a_manifest_that_names_what_cannot_be_is_no_manifest() {
    let rig = Rig::new(&story());
    let made = rig.pack("final");
    let found = |change: &dyn Fn(&mut serde_json::Value)| {
        let report = verify_pack(&with_manifest(&made, change), &[rig.key()], &[]);
        let found = report.findings.into_iter().map(|finding| finding.what);
        found.collect::<Vec<_>>().join("\n")
    };
    // A blank sorts before every T, so the whole day would not be of the period.
    let blank = found(&|manifest| manifest["period"]["to"] = "2026-11-23 23:59:59Z".into());
    assert!(blank.contains("its period is none"), "{blank}");
    let turned = found(&|manifest| manifest["period"]["to"] = "2026-11-23".into());
    assert!(turned.contains("its period is none"), "{turned}");
    // What is there is not missing, nor is what is not of the period, nor what cannot be.
    for (first, last) in [(400, 409), (3, 9), (5, 2), (u64::MAX, u64::MAX), (0, u64::MAX)] {
        let claimed = found(&|manifest| {
            manifest["ledgers"][0]["missing"] = serde_json::json!([{ "first": first, "last": last }]);
        });
        assert!(
            claimed.contains("a report would say that something is gone"),
            "{first}: {claimed}"
        );
    }
}

#[test]
fn rubbish_is_not_read_to_its_end() {
    let rig = Rig::new(&story());
    let rubbish = changed(&rig.pack("final"), "ledger-1/records.jsonl", |lines| {
        lines.clear();
        lines.extend(vec!["x".to_owned(); 100_000]);
    });
    let report = verify_pack(&rubbish, &[rig.key()], &[]);
    assert_eq!(report.findings.len(), 1001);
    assert!(
        report.findings[1000].what.contains("there is more"),
        "{:?}",
        report.findings[1000]
    );
    let proofs = changed(&rig.pack("final"), "ledger-1/proofs.jsonl", |lines| {
        lines.clear();
        lines.extend(vec!["{}".to_owned(); 100_000]);
    });
    assert_eq!(verify_pack(&proofs, &[rig.key()], &[]).findings.len(), 1001);
}

#[test]
fn a_record_with_the_highest_number_is_one_more_that_was_put_in() {
    let rig = Rig::new(&story());
    let put_in = changed(&rig.pack("final"), "ledger-1/records.jsonl", |lines| {
        lines.push(format!("{{\"seq\":{},\"type\":\"a.b\"}}", u64::MAX));
        lines.push("x".to_owned());
    });
    assert!(!verify_pack(&put_in, &[rig.key()], &[]).is_good());
}

#[test]
fn the_name_of_a_case_does_not_judge() {
    let rig = Rig::new(&story());
    let case = format!("we are {}", crate::catalogue::FORBIDDEN.to_uppercase());
    let judged = Parts {
        case: Some(&case),
        ..parts("final")
    };
    assert!(matches!(pack(&rig.ledgers(), &judged), Err(PackError::Case)));
}

#[test]
fn what_a_server_does_by_itself_is_no_change_by_an_operator() {
    let server = Actor::new(ActorClass::Server, None);
    let rig = Rig::new(&[
        change(50_000, "authority.prepared", server.clone()),
        change(50_001, "authority.activated", server),
        change(50_002, "token.made", jo()),
    ]);
    let files = unpacked(&rig.pack("notification"));
    let (_, report) = files.iter().find(|(name, _)| name == "report.json").unwrap();
    let report: serde_json::Value = serde_json::from_slice(report).unwrap();
    assert_eq!(report["numbers"]["changes"], 1, "{report}");
}

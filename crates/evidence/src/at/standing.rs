//! What stands and what does not any more: old entries, sponsors, approvals, gaps of the log.

use landfast_audit::{Actor, ActorClass, Category, Record};

use super::rig::{JO, NODE, PLC, Rig, at, change, entry, issued, jo, period, record};
use crate::{Asked, By, Evidence, GapKind, Quality, by, gaps, who};

fn entitled(evidence: &Evidence, target: &str, seconds: i64) -> Vec<String> {
    let asked = Asked {
        target,
        at: &at(seconds).to_string(),
    };
    who(evidence, &asked)
        .entitled
        .into_iter()
        .map(|one| one.rule)
        .collect()
}

fn kinds(records: &[Record]) -> Vec<GapKind> {
    gaps(&Rig::new(records).evidence())
        .iter()
        .map(|gap| gap.kind)
        .collect()
}

#[test]
fn an_entry_that_is_older_than_the_ledger_is_named_also_when_nothing_is_valid() {
    let rig = Rig::new(&[
        issued(100, "e-old", PLC, 1),
        change(200, "policy.changed", jo())
            .with("entry", "e-described")
            .with("class", "workload"),
        issued(300, "e-described", "spiffe://plant.test/hmi", 2),
        change(9000, "entry.deleted", jo()).with("entry", "e-described"),
    ]);
    let evidence = rig.evidence();
    // Its SVID has ended long ago; whoever asks can have another.
    let old = entitled(&evidence, PLC, 8000);
    assert!(
        old.len() == 1 && old[0].contains("older than these records") && old[0].contains("record 0"),
        "{old:?}"
    );
    assert_eq!(entitled(&evidence, PLC, 50).len(), 1, "nobody knows since when");
    // A policy does not say for whom; what was signed does.
    assert_eq!(entitled(&evidence, "hmi", 250).len(), 1);
    assert_eq!(entitled(&evidence, "hmi", 9000).len(), 0);
    assert!(gaps(&evidence).iter().any(|gap| gap.kind == GapKind::RuleUnknown));
}

#[test]
fn who_answers_for_a_third_party_takes_its_entitlement_along() {
    let of = |action: &str| {
        change(0, "person.changed", jo())
            .about("p-sponsor")
            .with("action", action)
    };
    let later = |seconds: i64, record: Record| Record {
        time: Some(at(seconds)),
        ..record
    };
    let party = |seconds: i64, sponsor: &str| {
        change(seconds, "policy.changed", jo())
            .with("entry", "e-vendor")
            .with("class", "third-party")
            .with("sponsor", sponsor)
            .with("contract", "A 1")
    };
    for gone in [
        of("forget"),
        of("deactivate"),
        of("withdraw").with("deactivate", true),
    ] {
        let evidence = Rig::new(&[
            entry(10, "e-vendor", "spiffe://plant.test/acme", jo()),
            party(20, "p-sponsor"),
            later(90, of("withdraw")),
            later(100, gone),
            later(200, of("grant").with("activate", true)),
            later(300, of("forget")),
            // Not for whom it was given again.
            party(400, "p-sponsor"),
            party(500, JO),
        ])
        .evidence();
        let count = |seconds: i64| entitled(&evidence, "acme", seconds).len();
        let counts = [15, 95, 100, 200, 300, 400, 500].map(count);
        assert_eq!(counts, [1, 1, 0, 1, 0, 0, 1]);
    }
}

#[test]
fn what_is_over_does_not_stand() {
    let evidence = Rig::new(&[
        entry(10, "e-1", PLC, jo()),
        entry(20, "e-2", PLC, jo()).with("expires_at", at(100)),
        entry(30, "e-3", PLC, jo()),
        change(40, "entry.deleted", jo()).with("entry", "e-3"),
        entry(50, "e-4", PLC, jo()).with("expires_at", at(5000)),
        issued(200, "e-1", PLC, 1),
    ])
    .evidence();
    let stood: By = by(&evidence, PLC);
    let stands: Vec<bool> = stood.entitled.iter().map(|one| one.stands).collect();
    assert_eq!(stands, [true, false, false, true]);
    assert!(
        stood
            .answer
            .starts_with("2 standing entitlements (2 more that are over)"),
        "{}",
        stood.answer
    );
    assert!(
        stood.entitled[1].rule.starts_with("entitlement that is over"),
        "{:?}",
        stood.entitled[1]
    );
}

#[test]
fn a_return_that_a_person_has_allowed_is_reviewed_and_the_next_is_not() {
    let came = |seconds: i64, returned: bool| {
        let node = Actor::new(ActorClass::Node, Some(NODE.to_owned()));
        let came = record(seconds, Category::AccessControl, "node.attested", node).about(NODE);
        if returned {
            came.with("returned", true)
        } else {
            came
        }
    };
    let said = |seconds: i64, kind: &'static str| change(seconds, kind, jo()).about(NODE).because("new disk");
    let open = |records: &[Record]| kinds(records).contains(&GapKind::UnreviewedRecovery);
    // A person says yes, and then it comes back.
    assert!(!open(&[
        came(10, false),
        said(20, "node.approved"),
        came(30, true)
    ]));
    assert!(
        open(&[
            came(10, false),
            said(20, "node.approved"),
            came(30, true),
            came(40, true)
        ]),
        "the yes was for one"
    );
    assert!(
        open(&[said(5, "node.approved"), came(10, false), came(30, true)]),
        "the yes was for the first"
    );
    assert!(open(&[
        came(10, false),
        said(20, "node.approved"),
        said(25, "node.banned"),
        came(30, true)
    ]));
    assert!(open(&[came(10, false), came(30, true)]));
    assert!(
        !open(&[came(10, false), came(30, true), said(40, "node.banned")]),
        "and looked at since"
    );
    let under = Record {
        approval: Some("a-request".to_owned()),
        ..came(40, true)
    };
    assert!(!open(&[came(10, false), under]), "the record names the approval");
}

#[test]
fn what_went_on_without_a_record_costs_more_than_what_did_not_happen() {
    let gap = |detail: &[(&'static str, u64)]| {
        let server = Actor::new(ActorClass::Server, None);
        let gap = record(100, Category::AuditLog, "log.gap", server).with("since", at(50));
        detail
            .iter()
            .fold(gap, |gap, (name, count)| gap.with(name, *count))
    };
    let found = |record: Record| {
        let evidence = Rig::new(&[record]).evidence();
        let all = gaps(&evidence);
        let quality = Quality::of(&evidence, &all);
        let taken = |kind| {
            quality
                .deductions
                .iter()
                .find(|taken| taken.kind == kind)
                .map(|taken| taken.points)
        };
        let one = all
            .iter()
            .find(|gap| [GapKind::LogGap, GapKind::Unrecorded].contains(&gap.kind))
            .unwrap();
        (one.kind, one.count, taken(one.kind), one.what.clone())
    };
    let (kind, count, points, _) = found(gap(&[("refused", 3)]));
    assert_eq!((kind, count, points), (GapKind::LogGap, 3, Some(10)));
    let (kind, count, points, what) = found(gap(&[("refused", 3), ("lost", 7), ("late", 1)]));
    assert_eq!((kind, count, points), (GapKind::Unrecorded, 10, Some(20)));
    assert!(what.contains("7 records of what went on are LOST"), "{what}");
    let (kind, ..) = found(gap(&[]).with("uncounted", true));
    assert_eq!(kind, GapKind::Unrecorded);
}

#[test]
fn a_report_counts_what_it_leaves_out_and_names_each_who_asked() {
    let other = |seconds: i64, number: i64| Record {
        actor: Actor::new(ActorClass::Node, Some("spiffe://plant.test/other".to_owned())),
        ..issued(seconds, "e-plc", PLC, number)
    };
    let mut records = vec![entry(10, "e-plc", PLC, jo())];
    records.extend((0..70).map(|n| issued(100 + n, "e-plc", PLC, n)));
    records.push(other(300, 100));
    records.extend((0..150).map(|n| Record {
        actor: Actor::new(ActorClass::Node, Some(format!("spiffe://plant.test/n{n}"))),
        ..issued(400 + n, "e-plc", PLC, 200 + n)
    }));
    let evidence = Rig::new(&records).evidence();
    let report = crate::Report::build(&evidence, "final", None).unwrap();
    let identity = &report.identities[0];
    assert_eq!(
        (identity.serials.len() as u64, identity.serials_left_out),
        (50, 171)
    );
    assert_eq!((identity.asked_by.len(), identity.asked_by_others), (100, 52));
    let by_other = report.timeline.iter().find(|event| event.by.ends_with("/other"));
    assert_eq!(by_other.expect("it is a line of its own").records[0].record, 71);
    let page = crate::page::report_page(&report);
    assert!(page.contains("171 before them") && page.contains("by others in 52 more records"));
}

#[test]
fn a_period_of_another_form_is_refused_when_it_is_asked_for() {
    let rig = Rig::new(&[entry(10, "e-plc", PLC, jo())]);
    for (from, to) in [("2026-11-27 10:00", ""), ("2026-11-27", "2026-11-26")] {
        let refused = rig.ledgers().evidence(&period(from, to));
        assert!(
            matches!(refused, Err(crate::LedgerError::Period { .. })),
            "{from} {to}"
        );
    }
}

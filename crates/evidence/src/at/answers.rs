//! Who and by: never blank, each with its rule and its records. Gaps: each with its records and what to do.

use crate::{Asked, Evidence, Ledgers, Period, Who, by, gaps, who};
use landfast_audit::{Actor, ActorClass, Category, TimeQuality};

use super::rig::{JO, NODE, PLC, Rig, at, change, entry, issued, jo, record, story};

fn ask(evidence: &Evidence, target: &str, at: &str) -> Who {
    who(evidence, &Asked { target, at })
}

#[test]
fn who_had_access_is_told_with_the_rule_and_its_record() {
    let rig = Rig::new(&story());
    let evidence = rig.evidence();
    for target in [PLC, "plc-7", "e-plc", "spiffe://plant.test/line4/*"] {
        let answer = ask(&evidence, target, "2026-11-23T12:00:30Z");
        assert_eq!(answer.entitled.len(), 1, "{target}");
        let rule = &answer.entitled[0];
        assert!(
            rule.rule.starts_with("standing entitlement, by entry e-plc"),
            "{}",
            rule.rule
        );
        assert!(
            rule.rule.contains("unix:uid:1001") && rule.rule.contains(JO),
            "{}",
            rule.rule
        );
        assert_eq!(
            rule.records.iter().map(|at| at.record).collect::<Vec<_>>(),
            [2, 3]
        );
        // An hour of SVIDs, a minute apart.
        assert_eq!(answer.credentials.len(), 60, "{target}");
        assert!(
            answer
                .credentials
                .iter()
                .all(|one| one.under.contains("by entry e-plc (record 2 to 3")),
            "{:?}",
            answer.credentials[0]
        );
    }
}

#[test]
fn what_a_node_has_handed_out_is_in_the_answer() {
    let mut records = story();
    let node = Actor::new(ActorClass::Node, Some(NODE.to_owned()));
    records.push(record(3600, Category::AccessControl, "agent.handed-out", node).about(PLC));
    let answer = ask(&Rig::new(&records).evidence(), PLC, "2026-11-24T12:00:00Z");
    assert_eq!(answer.handed_out.len(), 1);
}

#[test]
fn an_answer_is_never_blank() {
    let mut records = story();
    records.insert(5, issued(50, "e-older", "spiffe://plant.test/old", 1));
    let evidence = Rig::new(&records).evidence();
    let nobody = ask(&evidence, "plc-9", "2026-11-23T12:00:00Z");
    assert!(
        nobody
            .answer
            .starts_with("nobody: none of 1001 records gives plc-9"),
        "{}",
        nobody.answer
    );
    let older = ask(&evidence, "old", "2026-11-23T08:30:00Z");
    assert!(
        older.credentials[0]
            .under
            .contains("of which these records do not tell"),
        "{:?}",
        older.credentials
    );
    let nothing = by(&evidence, "p-nobody");
    assert!(
        nothing.answer.starts_with("nothing: none of"),
        "{}",
        nothing.answer
    );
    let early = ask(&evidence, PLC, "2026-11-23T07:00:00Z");
    assert!(
        early.answer.starts_with("nobody"),
        "before the entry was made: {}",
        early.answer
    );
}

#[test]
fn an_entry_that_was_deleted_or_is_over_entitles_nobody_any_more() {
    let mut records = story();
    records.truncate(5);
    records.push(entry(50, "e-short", "spiffe://plant.test/short", jo()).with("expires_at", at(100)));
    records.push(change(60, "entry.deleted", jo()).with("entry", "e-plc"));
    let evidence = Rig::new(&records).evidence();
    let entitled =
        |target: &str, seconds: i64| ask(&evidence, target, &at(seconds).to_string()).entitled.len();
    assert_eq!(
        (entitled(PLC, 55), entitled(PLC, 60), entitled(PLC, 1000)),
        (1, 0, 0)
    );
    assert_eq!((entitled("short", 99), entitled("short", 100)), (1, 0));
    assert_eq!(
        ask(&evidence, PLC, &at(55).to_string()).entitled[0].until,
        Some(at(60).to_string())
    );
}

#[test]
fn what_a_person_and_a_node_did_is_told() {
    let evidence = Rig::new(&story()).evidence();
    let jo = by(&evidence, JO);
    let told: Vec<u64> = jo.lines.iter().map(|line| line.record.record).collect();
    assert_eq!(told, [1, 2, 3, 5, 6, 999], "what was done to and by the person");
    assert_eq!(by(&evidence, "uid:1000").lines.len(), 5);
    let node = by(&evidence, NODE);
    assert_eq!((node.credentials.len(), node.lines.len()), (900, 94));
}

#[test]
fn each_gap_names_its_records_and_what_to_do() {
    let mut records = story();
    records.truncate(60);
    let unknown = || Actor::new(ActorClass::Unknown, None).known_by("uid", 7_u64);
    let server = || Actor::new(ActorClass::Server, None);
    records.push(entry(5000, "e-spire", "spiffe://plant.test/spire", unknown()));
    records.push(
        change(5010, "policy.changed", jo())
            .because("x")
            .with("entry", "e-vendor")
            .with("class", "third-party"),
    );
    records.push(
        record(
            5020,
            Category::AccessControl,
            "node.attested",
            Actor::new(ActorClass::Node, None).known_by("attestation", "d"),
        )
        .about(NODE)
        .with("returned", true),
    );
    records.push(issued(5030, "e-older", "spiffe://plant.test/old", 9));
    records.push(record(5040, Category::AuditLog, "log.started", server()).with("cut_bytes", 9_u64));
    records.push(
        record(5050, Category::AuditLog, "log.gap", server())
            .with("refused", 3_u64)
            .with("since", at(5045)),
    );
    records.push(record(5055, Category::AuditLog, "agent.ledger-fork", server()));
    let mut doubted = issued(5060, "e-plc", PLC, 77);
    doubted.time_quality = TimeQuality::Doubted;
    records.push(doubted);
    let evidence = Rig::new(&records).evidence();
    let found = gaps(&evidence);
    let of = |kind: &str| -> Vec<u64> {
        let gap = found
            .iter()
            .find(|gap| gap.kind.as_str() == kind)
            .unwrap_or_else(|| panic!("{kind}: {found:?}"));
        assert!(!gap.next.is_empty() && !gap.what.is_empty());
        gap.records.iter().map(|at| at.record).collect()
    };
    assert_eq!(of("no-class"), [60]);
    assert_eq!(of("no-sponsor"), [61]);
    assert_eq!(of("unreviewed-recovery"), [62]);
    assert_eq!(of("rule-unknown"), [63]);
    assert_eq!(of("start-without-stop"), [0, 64]);
    assert_eq!(of("log-gap"), [65]);
    assert_eq!(of("ledger-contradicted"), [66]);
    assert_eq!(of("time"), [67]);
    assert_eq!(of("alone"), [1]);
    assert_eq!(of("unattributed"), [1, 60]);
    assert!(!found.iter().any(|gap| gap.kind.as_str() == "missing"));
}

#[test]
fn what_a_person_has_looked_at_is_no_gap_any_more() {
    let returned = record(
        50,
        Category::AccessControl,
        "node.attested",
        Actor::new(ActorClass::Node, None),
    )
    .about(NODE)
    .with("returned", true);
    let mut records = vec![entry(20, "e-plc", PLC, jo()), returned];
    let kinds = |records: &[landfast_audit::Record]| -> Vec<&'static str> {
        gaps(&Rig::new(records).evidence())
            .iter()
            .map(|gap| gap.kind.as_str())
            .collect()
    };
    let open = kinds(&records);
    assert!(
        open.contains(&"unreviewed-recovery") && open.contains(&"no-class"),
        "{open:?}"
    );
    records.push(change(60, "node.approved", jo()).about(NODE).because("new disk"));
    records.push(
        change(61, "policy.changed", jo())
            .because("ours")
            .with("entry", "e-plc"),
    );
    let closed = kinds(&records);
    assert!(
        !closed.contains(&"unreviewed-recovery") && !closed.contains(&"no-class"),
        "{closed:?}"
    );
}

#[test]
fn several_ledgers_are_joined_by_time() {
    let (one, other) = (
        Rig::new(&story()),
        Rig::new(&[entry(25, "e-hmi", "spiffe://plant.test/line4/hmi", jo())]),
    );
    let joined = Ledgers::new(vec![one.ledger(), other.ledger()])
        .unwrap()
        .evidence(&Period::default())
        .unwrap();
    let order: Vec<String> = joined
        .records
        .iter()
        .take(5)
        .map(|record| record.at.to_string())
        .collect();
    assert_eq!(order, ["0", "1", "2", "3", "2:0"]);
    let answer = ask(&joined, "spiffe://plant.test/line4/*", "2026-11-23T09:00:00Z");
    assert_eq!(answer.entitled.len(), 2);
}

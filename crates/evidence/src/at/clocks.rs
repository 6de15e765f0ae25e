//! Clocks that are wrong: what was first is told by the numbers.

use landfast_audit::{Actor, ActorClass, Category, Record};

use super::rig::{PLC, Rig, at, change, entry, issued, jo, record};
use crate::{Asked, GapKind, Ledgers, Who, gaps, who};

const YEARS: i64 = 4 * 365 * 86_400;

fn ask(rig: &Rig, seconds: i64) -> Who {
    let asked = Asked {
        target: PLC,
        at: &at(seconds).to_string(),
    };
    let all = who(&rig.evidence(), &asked);
    // What is kept of a long ledger gives the same answer.
    let kept = who(&rig.ledgers().evidence_for(&asked).unwrap(), &asked);
    let json = |answer: &Who| serde_json::to_value(answer).unwrap();
    assert_eq!(json(&all), json(&kept));
    all
}

#[test]
fn an_entry_that_was_made_while_the_clock_was_ahead_entitles_from_when_it_was_right_again() {
    let rig = Rig::new(&[
        entry(YEARS, "e-plc", PLC, jo()),
        issued(YEARS, "e-plc", PLC, 1),
        issued(100, "e-plc", PLC, 2),
        issued(200, "e-plc", PLC, 3),
    ]);
    let answer = ask(&rig, 150);
    assert_eq!(answer.entitled.len(), 1, "{}", answer.answer);
    assert_eq!(answer.entitled[0].from, Some(at(100).to_string()));
    assert_eq!(answer.clock_went_back.len(), 1);
    assert_eq!(answer.clock_went_back[0].record, 2);
    assert_eq!(ask(&rig, 50).entitled.len(), 0);
}

#[test]
fn an_entry_that_was_deleted_after_the_clock_had_gone_back_is_deleted() {
    let rig = Rig::new(&[
        entry(1000, "e-plc", PLC, jo()),
        change(500, "entry.deleted", jo()).with("entry", "e-plc"),
        issued(2000, "e-other", "spiffe://plant.test/x", 1),
    ]);
    for seconds in [600, 1000, 3000] {
        assert_eq!(ask(&rig, seconds).entitled.len(), 0, "{seconds}");
    }
    let answer = ask(&rig, 3000);
    assert_eq!(answer.clock_went_back.len(), 1, "and the clock is named");
}

#[test]
fn a_clock_that_began_in_1970_long_after_takes_nothing_from_what_had_been() {
    let rig = Rig::new(&[
        entry(100, "e-plc", PLC, jo()),
        change(1000, "entry.deleted", jo()).with("entry", "e-plc"),
        record(
            -10 * YEARS,
            Category::AuditLog,
            "log.started",
            Actor::new(ActorClass::Server, None),
        ),
        issued(2000, "e-other", "spiffe://plant.test/x", 1),
    ]);
    for (seconds, entitled) in [(500, 1), (999, 1), (1000, 0), (3000, 0)] {
        assert_eq!(ask(&rig, seconds).entitled.len(), entitled, "{seconds}");
    }
}

#[test]
fn entries_of_two_servers_are_joined_by_time() {
    let one = Rig::new(&[entry(100, "e-plc", PLC, jo())]);
    let other = Rig::new(&[change(200, "entry.deleted", jo()).with("entry", "e-plc")]);
    for all in [
        vec![one.ledger(), other.ledger()],
        vec![other.ledger(), one.ledger()],
    ] {
        let ledgers = Ledgers::new(all).unwrap();
        let entitled = |seconds: i64| {
            let asked = Asked {
                target: PLC,
                at: &at(seconds).to_string(),
            };
            who(&ledgers.evidence_for(&asked).unwrap(), &asked).entitled.len()
        };
        assert_eq!((entitled(99), entitled(150), entitled(200)), (0, 1, 0));
    }
}

#[test]
fn what_is_written_behind_a_gap_or_comes_from_a_node_is_no_clock_that_went_back() {
    let server = || Actor::new(ActorClass::Server, None);
    let node = Actor::new(ActorClass::Node, Some("spiffe://plant.test/n".to_owned()));
    let mut records = vec![
        issued(100, "e-plc", PLC, 1),
        record(200, Category::AuditLog, "log.gap", server()).with("written_after", 2_u64),
        issued(150, "e-plc", PLC, 2),
        issued(160, "e-plc", PLC, 3),
        record(10, Category::System, "agent.started", node).with("received", at(205)),
        issued(210, "e-plc", PLC, 4),
    ];
    let back = |records: &[Record]| -> Vec<u64> {
        let found = gaps(&Rig::new(records).evidence());
        let gap = found.into_iter().find(|gap| gap.kind == GapKind::ClockWentBack);
        gap.map(|gap| gap.records.iter().map(|at| at.record).collect())
            .unwrap_or_default()
    };
    assert_eq!(back(&records), [0_u64; 0]);
    records.push(issued(209, "e-plc", PLC, 5));
    assert_eq!(back(&records), [6]);
}

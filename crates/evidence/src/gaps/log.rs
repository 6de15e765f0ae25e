//! Gaps of the log itself: what is missing, what could not be written, and what others hold against it.

use super::{Gap, GapKind, gap};
use crate::evidence::Evidence;
use crate::period::Span;
use crate::record::{Record, Ref};

pub(super) fn missing(evidence: &Evidence) -> Vec<Gap> {
    let mut all = Vec::new();
    for (index, head) in evidence.ledgers.iter().enumerate() {
        for span in &head.missing {
            let (from, to) = evidence.around(index + 1, *span);
            let time = |time: Option<&str>, or: &str| time.unwrap_or(or).to_owned();
            let of = |record| Ref {
                ledger: index + 1,
                record,
            };
            let names = match span.first == span.last {
                true => format!("record {}", of(span.first)),
                false => format!("records {} to {}", of(span.first), of(span.last)),
            };
            all.push(Gap {
                kind: GapKind::Missing,
                what: format!(
                    "{names} of {} are not there as they were signed: nothing is known of what happened between {} and {}",
                    head.origin,
                    time(from, "the beginning"),
                    time(to, "the end")
                ),
                next: "find the records in a copy of the ledger, by landfast audit verify DIR --key KEY on each; \
                       until then treat the interval as unknown, and ask who could write to the directory",
                records: [span.first, span.last].map(of).into(),
                count: span.count(),
                from: from.map(str::to_owned),
                to: to.map(str::to_owned),
            });
        }
    }
    all
}

/// Records that lie in an archive which was not given.
pub(super) fn pruned(evidence: &Evidence) -> Vec<Gap> {
    let heads = evidence.ledgers.iter().enumerate();
    let pruned = heads.filter(|(_, head)| head.pruned > 0);
    pruned
        .map(|(index, head)| {
            let ledger = index + 1;
            let at = |record| Ref { ledger, record };
            let span = Span {
                first: 0,
                last: head.pruned - 1,
            };
            let (_, to) = evidence.around(ledger, span);
            Gap {
                kind: GapKind::Pruned,
                what: format!(
                    "records {} to {} of {} were taken to an archive, as the log itself says: what they tell of entries, persons and nodes is not taken into account",
                    at(0),
                    at(span.last),
                    head.origin
                ),
                next: "give the archive too: --archive DIR; landfast audit verify DIR --archive DIR verifies both as one",
                records: vec![at(0), at(span.last)],
                count: span.count(),
                from: None,
                to: to.map(str::to_owned),
            }
        })
        .collect()
}

/// A clock that was set back, or a record that claims so.
pub(super) fn clock_went_back(evidence: &Evidence) -> Option<Gap> {
    let mut back = evidence.went_back();
    back.retain(|record| evidence.is_within(record));
    gap(
        GapKind::ClockWentBack,
        "find out who set the clock, or what did; the order of the numbers is that of the events, the times around are not",
        "before which the clock had gone back",
        &back,
    )
}

/// What nodes and their journals have against it (`docs/formats/journal.md`).
const CONTRADICTED: [&str; 5] = [
    "agent.ledger-fork",
    "agent.ledger-unwitnessed",
    "agent.journal-hole",
    "agent.journal-broken",
    "agent.journal-gap",
];

pub(super) fn of_the_log(evidence: &Evidence) -> Vec<Gap> {
    let mut all = Vec::new();
    let told = evidence
        .within()
        .filter(|record| CONTRADICTED.contains(&record.kind.as_str()));
    let told: Vec<&Record> = told.collect();
    all.extend(gap(
        GapKind::LedgerContradicted,
        "compare what the node has seen with this ledger, or the node's journal with what was forwarded: docs/operations.md, \"A node says FORK\"",
        "by which a node has seen another ledger, or its journal has a hole, was changed, or is only counted",
        &told,
    ));
    let gaps = evidence.within().filter(|record| record.kind == "log.gap");
    all.extend(gaps.map(could_not_write));
    let mut of_logs: Vec<&Record> = evidence
        .records
        .iter()
        .filter(|record| is_start_or_stop(record))
        .collect();
    of_logs.sort_by_key(|record| record.at);
    let mut before: Option<&Record> = None;
    for record in of_logs {
        let same = before.filter(|before| before.at.ledger == record.at.ledger);
        let is_start = record.kind == "log.started" && evidence.is_within(record);
        if is_start && let Some(start) = same.filter(|before| before.kind == "log.started") {
            let cut = match record.counts("cut_bytes") {
                0 => String::new(),
                bytes => format!("; {bytes} bytes that were being written are gone"),
            };
            all.push(Gap {
                kind: GapKind::StartWithoutStop,
                what: format!(
                    "record {}: the server began again without having ended (it had begun with record {}): it was killed, or the power went{cut}",
                    record.at, start.at
                ),
                next: "find out what ended it: the machine's log of that time; what was acknowledged is there",
                records: vec![start.at, record.at],
                count: 1,
                from: start.time.clone(),
                to: record.time.clone(),
            });
        }
        before = Some(record);
    }
    all
}

/// A time in which the ledger could not be written: what came of what happened then.
fn could_not_write(record: &Record) -> Gap {
    let lost = record.counts("lost");
    let is_unrecorded = lost > 0 || record.is("uncounted");
    let next = match is_unrecorded {
        true => {
            "compare with what the server's database has of what was signed then (its table issued, until that expires) and with the nodes' journals; \
             treat the interval as one of which not all is known"
        }
        false => {
            "find out why the ledger could not be written (the server's log of that time); what found no room did not happen, \
             unless an entry is marked as availability first"
        }
    };
    Gap {
        kind: match is_unrecorded {
            true => GapKind::Unrecorded,
            false => GapKind::LogGap,
        },
        what: format!("record {}: {}", record.at, record.sentence()),
        next,
        records: vec![record.at],
        count: record.counts("refused").saturating_add(lost),
        from: record.says("since").map(str::to_owned),
        to: record.time.clone(),
    }
}

fn is_start_or_stop(record: &Record) -> bool {
    matches!(record.kind.as_str(), "log.started" | "log.stopped")
}

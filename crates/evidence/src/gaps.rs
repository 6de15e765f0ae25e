//! What the records do not show, and what lowers their worth. Invariant: each gap names its records, or the interval where there are none, and what to do.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::evidence::Evidence;
use crate::record::{Record, Ref};
use crate::rules::rules;
use crate::tally::{counted, numbers};

/// Something that is not shown, or by fewer, or less surely than it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Which kind: a word.
    pub kind: &'static str,
    /// What is wrong.
    pub what: String,
    /// What to do next.
    pub next: &'static str,
    /// The records, at most a thousand of them.
    pub records: Vec<Ref>,
    /// How many there are: records, or those that are missing.
    pub count: u64,
    /// From when on; none: unknown.
    pub from: Option<String>,
    /// Until when; none: unknown.
    pub to: Option<String>,
}

/// A gap of single records: its kind, what to do next, what they are, and which.
type Plain<'a> = (&'static str, &'static str, &'a str, &'a dyn Fn(&&Record) -> bool);

/// All of them, the gravest kinds first.
#[must_use]
pub fn gaps(evidence: &Evidence) -> Vec<Gap> {
    let mut all = missing(evidence);
    all.extend(clock_went_back(evidence));
    all.extend(of_the_log(evidence));
    let of_changes = |record: &&Record| is_change(record);
    let kinds: [Plain<'_>; 6] = [
        (
            "time",
            "find out what was wrong with the clock: landfast agent status, and the server's log of that time",
            "with a time that is doubted, reckoned or none",
            &|record| matches!(record.time_quality.as_str(), "doubted" | "estimated" | "none"),
        ),
        (
            "alone",
            "have a second person look at each, and add persons until two can confirm: landfast person list",
            "about who may do what, with which fewer than two persons have agreed",
            &|record| record.is("alone"),
        ),
        (
            "unattributed",
            "find out who it was (uid and pid are in the record), and make the login a person's: landfast person add",
            "by somebody of whom no person and no identity is known",
            &|record| of_changes(record) && !record.actor.is_attributed(),
        ),
        (
            "no-reason",
            "ask who did it, note the answer in the case, and use --reason from now on",
            "by operators, without a reason",
            &|record| of_changes(record) && record.actor.class != "server" && record.reason.is_none(),
        ),
        (
            "failed-selftest",
            "look at what was let in, mend it, and run landfast selftest again",
            "of a self-test in which something was let in that must not be",
            &|record| record.is_kind("selftest") && record.result == "failed",
        ),
        (
            "unconfirmed-time",
            "nothing for these; give the server an authenticated time source, and compare with a log that has one",
            "with the time of the machine's clock, which nobody has confirmed",
            &|record| record.time_quality == "unconfirmed",
        ),
    ];
    for (kind, next, what, fits) in kinds {
        let records: Vec<&Record> = evidence.within().filter(fits).collect();
        all.extend(gap(kind, next, what, &records));
    }
    all.extend(of_entries(evidence));
    all.extend(came_back(evidence));
    all.extend(older_rules(evidence));
    all.sort_by_key(|gap| ORDER.iter().position(|kind| *kind == gap.kind));
    all
}

/// An order of somebody who operates.
pub(crate) fn is_change(record: &Record) -> bool {
    let kinds = [
        "entry",
        "policy",
        "person",
        "bundle",
        "federation",
        "authority",
        "quarantine",
        "token",
        "root",
    ];
    let of_nodes = ["node.approved", "node.refused", "node.banned", "node.evicted"];
    let is_one = kinds.iter().any(|kind| record.is_kind(kind)) || of_nodes.contains(&record.kind.as_str());
    is_one && record.kind != "authority.issued"
}

fn gap(kind: &'static str, next: &'static str, what: &str, records: &[&Record]) -> Option<Gap> {
    let refs: Vec<Ref> = records.iter().map(|record| record.at).collect();
    let first = records.iter().find_map(|record| record.time.clone());
    let last = records.iter().rev().find_map(|record| record.time.clone());
    (!records.is_empty()).then(|| Gap {
        kind,
        what: format!(
            "{} {what}: {}",
            counted(refs.len() as u64, "record"),
            numbers(&refs)
        ),
        next,
        count: refs.len() as u64,
        records: refs.into_iter().take(MOST_REFS).collect(),
        from: first,
        to: last,
    })
}

fn missing(evidence: &Evidence) -> Vec<Gap> {
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
                kind: "missing",
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

/// A clock that was set back, or a record that claims so.
fn clock_went_back(evidence: &Evidence) -> Option<Gap> {
    let mut of_logs: Vec<&Record> = evidence.within().collect();
    of_logs.sort_by_key(|record| record.at);
    let back = of_logs.windows(2).filter(|pair| {
        let follows = pair[0].at.ledger == pair[1].at.ledger && pair[0].at.record + 1 == pair[1].at.record;
        follows && matches!((&pair[0].time, &pair[1].time), (Some(before), Some(after)) if after < before)
    });
    let back: Vec<&Record> = back.map(|pair| pair[1]).collect();
    gap(
        "clock-went-back",
        "find out who set the clock, or what did; the order of the numbers is that of the events, the times around are not",
        "before which the clock had gone back",
        &back,
    )
}

/// What nodes and their journals have against it (`docs/formats/journal.md`).
const CONTRADICTED: [&str; 4] = [
    "agent.ledger-fork",
    "agent.journal-hole",
    "agent.journal-broken",
    "agent.journal-gap",
];

fn of_the_log(evidence: &Evidence) -> Vec<Gap> {
    let mut all = Vec::new();
    let told = evidence
        .within()
        .filter(|record| CONTRADICTED.contains(&record.kind.as_str()));
    let told: Vec<&Record> = told.collect();
    all.extend(gap(
        "ledger-contradicted",
        "compare what the node has seen with this ledger, or the node's journal with what was forwarded: docs/operations.md, \"A node says FORK\"",
        "by which a node has seen another ledger, or its journal has a hole, was changed, or is only counted",
        &told,
    ));
    let gaps = evidence.within().filter(|record| record.kind.ends_with(".gap"));
    all.extend(gaps.map(|record| Gap {
        kind: "log-gap",
        what: format!("record {}: {}", record.at, record.sentence()),
        next: "find out why the ledger could not be written (the server's log of that time); what found no room did not happen, \
               unless an entry is marked as availability first",
        records: vec![record.at],
        count: record.counts("refused"),
        from: record.says("since").map(str::to_owned),
        to: record.time.clone(),
    }));
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
                kind: "start-without-stop",
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

fn is_start_or_stop(record: &Record) -> bool {
    matches!(record.kind.as_str(), "log.started" | "log.stopped")
}

/// Entries about which nobody has said what they are, and third parties that nobody answers for.
fn of_entries(evidence: &Evidence) -> Vec<Gap> {
    let rules = rules(evidence);
    let living = rules
        .values()
        .filter_map(|rule| rule.last())
        .filter(|version| !version.is_deleted);
    let (mut no_class, mut no_sponsor) = (BTreeSet::new(), BTreeSet::new());
    for version in living {
        let is_third_party = version.class.as_deref() == Some("third-party");
        let has_all = version.sponsor.is_some() && version.contract.is_some();
        if is_third_party && !has_all {
            no_sponsor.extend(version.records.last());
        } else if !version.has_policy && version.class.as_deref().unwrap_or("workload") == "workload" {
            no_class.extend(version.records.last());
        }
    }
    let of = |wanted: &BTreeSet<Ref>| -> Vec<&Record> {
        evidence
            .records
            .iter()
            .filter(|record| wanted.contains(&record.at))
            .collect()
    };
    let no_class = gap(
        "no-class",
        "say what each is: landfast entry policy set ID --description TEXT for a workload of yours, --third-party --sponsor --contract for a supplier's",
        "of entries that have class workload because nobody has said what they are (made by SPIRE's tools, mostly)",
        &of(&no_class),
    );
    let no_sponsor = gap(
        "no-sponsor",
        "name who answers for it: landfast entry policy set ID --third-party --sponsor PERSON --contract TEXT",
        "of entries of third parties without a sponsor or a contract",
        &of(&no_sponsor),
    );
    no_class.into_iter().chain(no_sponsor).collect()
}

/// Nodes that came back by themselves, and that no person has looked at since.
fn came_back(evidence: &Evidence) -> Option<Gap> {
    let mut open: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    for record in &evidence.records {
        let Some(node) = record.subject.as_deref() else {
            continue;
        };
        match record.kind.as_str() {
            "node.attested" if record.is("returned") && evidence.is_within(record) => {
                open.entry(node).or_default().push(record);
            }
            "node.approved" | "node.refused" | "node.banned" | "node.evicted" | "recovery.reviewed" => {
                open.remove(node);
            }
            _ => {}
        }
    }
    let mut records: Vec<&Record> = open.into_values().flatten().collect();
    records.sort_by_key(|record| record.at);
    gap(
        "unreviewed-recovery",
        "look at each node and why it lost its SVID: landfast agent show ID; then approve, ban or note it in the case",
        "of nodes that came back by their device key, at which no person has looked since",
        &records,
    )
}

/// What was signed by a rule of which no record tells.
fn older_rules(evidence: &Evidence) -> Option<Gap> {
    let rules = rules(evidence);
    let unknown = evidence.within().filter(|record| {
        let entry = record.says("entry").filter(|_| record.is_issuance());
        entry.is_some_and(|entry| !rules.contains_key(entry))
    });
    gap(
        "rule-unknown",
        "the entry is older than these records, or its record is missing: landfast entry show ID says what it is today",
        "of something that was signed by an entry of which no record tells",
        &unknown.collect::<Vec<_>>(),
    )
}

const ORDER: [&str; 14] = [
    "missing",
    "log-gap",
    "failed-selftest",
    "clock-went-back",
    "time",
    "no-sponsor",
    "unreviewed-recovery",
    "alone",
    "unattributed",
    "start-without-stop",
    "no-class",
    "rule-unknown",
    "no-reason",
    "unconfirmed-time",
];
const MOST_REFS: usize = 1000;

//! What the records do not show, and what lowers their worth. Invariant: each gap names its records, or the interval where there are none, and what to do.

mod entries;
mod kind;
mod log;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::record::{Record, Ref};
use crate::tally::{counted, numbers};
pub use kind::GapKind;

/// Something that is not shown, or by fewer, or less surely than it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// Which kind.
    pub kind: GapKind,
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
type Plain<'a> = (GapKind, &'static str, &'a str, &'a dyn Fn(&&Record) -> bool);

/// All of them, the gravest kinds first.
#[must_use]
pub fn gaps(evidence: &Evidence) -> Vec<Gap> {
    let mut all = log::missing(evidence);
    all.extend(log::pruned(evidence));
    all.extend(log::clock_went_back(evidence));
    all.extend(log::of_the_log(evidence));
    let of_changes = |record: &&Record| is_change(record);
    let kinds: [Plain<'_>; 7] = [
        (
            GapKind::Time,
            "find out what was wrong with the clock: landfast agent status, and the server's log of that time",
            "with a time that is doubted, reckoned or none",
            &|record| matches!(record.time_quality.as_str(), "doubted" | "estimated" | "none"),
        ),
        (
            GapKind::Alone,
            "have a second person look at each, and add persons until two can confirm: landfast person list",
            "about who may do what, with which fewer than two persons have agreed",
            &|record| record.is("alone"),
        ),
        (
            GapKind::Unattributed,
            "find out who it was (uid and pid are in the record), and make the login a person's: landfast person add",
            "by somebody of whom no person and no identity is known",
            &|record| of_changes(record) && !record.actor.is_attributed(),
        ),
        (
            GapKind::NoReason,
            "ask who did it, note the answer in the case, and use --reason from now on",
            "by operators, without a reason",
            &|record| of_changes(record) && record.actor.class != "server" && record.reason.is_none(),
        ),
        (
            GapKind::FailedSelftest,
            "look at what was let in, mend it, and run landfast selftest again",
            "of a self-test in which something was let in that must not be",
            &|record| record.kind == "selftest.tried" && record.decision == "allow",
        ),
        (
            GapKind::UntriedSelftest,
            "look at why it could not be tried, and run landfast selftest again",
            "of what a self-test could not try",
            &|record| record.kind == "selftest.tried" && record.decision == "none",
        ),
        (
            GapKind::UnconfirmedTime,
            "nothing for these; give the server an authenticated time source, and compare with a log that has one",
            "with the time of the machine's clock, which nobody has confirmed",
            &|record| record.time_quality == "unconfirmed",
        ),
    ];
    for (kind, next, what, fits) in kinds {
        let records: Vec<&Record> = evidence.within().filter(fits).collect();
        all.extend(gap(kind, next, what, &records));
    }
    all.extend(entries::of_entries(evidence));
    all.extend(entries::came_back(evidence));
    all.extend(entries::older_rules(evidence));
    all.sort_by_key(|gap| gap.kind);
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

fn gap(kind: GapKind, next: &'static str, what: &str, records: &[&Record]) -> Option<Gap> {
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

const MOST_REFS: usize = 1000;

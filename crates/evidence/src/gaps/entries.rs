//! Gaps of entries and nodes: what nobody has described, what nobody answers for, and what nobody has looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::{Gap, GapKind, gap};
use crate::evidence::Evidence;
use crate::record::{Record, Ref};
use crate::rules::{Rule, rules};

/// Entries about which nobody has said what they are, and third parties that nobody answers for.
pub(super) fn of_entries(evidence: &Evidence) -> Vec<Gap> {
    let rules = rules(evidence);
    let living = rules
        .values()
        .filter_map(|rule| rule.last())
        .filter(|version| !version.is_deleted && !version.is_unanswered && !version.is_inferred);
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
        GapKind::NoClass,
        "say what each is: landfast entry policy set ID --description TEXT for a workload of yours, --third-party --sponsor --contract for a supplier's",
        "of entries that have class workload because nobody has said what they are (made by SPIRE's tools, mostly)",
        &of(&no_class),
    );
    let no_sponsor = gap(
        GapKind::NoSponsor,
        "name who answers for it: landfast entry policy set ID --third-party --sponsor PERSON --contract TEXT",
        "of entries of third parties without a sponsor or a contract",
        &of(&no_sponsor),
    );
    no_class.into_iter().chain(no_sponsor).collect()
}

/// Nodes that came back by themselves: no person had said since they came before that they may, and none has looked since.
pub(super) fn came_back(evidence: &Evidence) -> Option<Gap> {
    let mut open: BTreeMap<&str, Vec<&Record>> = BTreeMap::new();
    let mut approved: BTreeSet<&str> = BTreeSet::new();
    for record in &evidence.records {
        let Some(node) = record.subject.as_deref() else {
            continue;
        };
        match record.kind.as_str() {
            "node.attested" => {
                // A person's yes is for the next time, and for no other.
                let was_approved = approved.remove(node) || record.approval.is_some();
                if record.is("returned") && !was_approved && evidence.is_within(record) {
                    open.entry(node).or_default().push(record);
                }
            }
            "node.approved" => {
                open.remove(node);
                approved.insert(node);
            }
            "node.refused" | "node.banned" | "node.evicted" | "recovery.reviewed" => {
                open.remove(node);
                approved.remove(node);
            }
            _ => {}
        }
    }
    let mut records: Vec<&Record> = open.into_values().flatten().collect();
    records.sort_by_key(|record| record.at);
    gap(
        GapKind::UnreviewedRecovery,
        "look at each node and why it lost its SVID: landfast agent show ID; then approve, ban or note it in the case",
        "of nodes that came back by their device key, which no person had allowed, and at which none has looked since",
        &records,
    )
}

/// What was signed by a rule of which no record tells.
pub(super) fn older_rules(evidence: &Evidence) -> Option<Gap> {
    let rules = rules(evidence);
    let unknown = evidence.within().filter(|record| {
        let entry = record.says("entry").filter(|_| record.is_issuance());
        entry.is_some_and(|entry| rules.get(entry).is_none_or(Rule::is_older))
    });
    gap(
        GapKind::RuleUnknown,
        "the entry is older than these records, or its record is missing: landfast entry show ID says what it is today",
        "of something that was signed by an entry of which no record tells",
        &unknown.collect::<Vec<_>>(),
    )
}

//! The parts of a report. Invariant: each line has its records, and what is left out is counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;

use crate::answer::{Entitlement, entitlement, is_decision};
use crate::evidence::Evidence;
use crate::gaps::is_change;
use crate::record::{Record, Ref};
use crate::rules::rules;
use crate::tally::counted;

/// How much there is of what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Numbers {
    /// Records of the period that are there.
    pub records: u64,
    /// Something that was signed.
    pub signed: u64,
    /// Something that was refused.
    pub refused: u64,
    /// What operators changed.
    pub changes: u64,
    /// Identities of workloads and servers.
    pub identities: u64,
    /// Nodes that did or suffered something.
    pub nodes: u64,
    /// Persons who did something.
    pub persons: u64,
    /// The first record that has a time.
    pub first: Option<String>,
    /// The last record that has a time.
    pub last: Option<String>,
}

/// An identity in the period.
#[derive(Clone, Debug, Serialize)]
pub struct Identity {
    /// Its SPIFFE ID.
    pub id: String,
    /// How many were signed for it.
    pub signed: u64,
    /// How many of them without an entry: to a node or a server as what it is, or by an operator's order.
    pub without_entry: u64,
    /// How many were refused to it.
    pub refused: u64,
    /// Their numbers, at most fifty, the last ones.
    pub serials: Vec<String>,
    /// How many more there are, before these: the records have them.
    pub serials_left_out: u64,
    /// Who asked for them, at most a hundred.
    pub asked_by: BTreeSet<String>,
    /// How many records are of others who asked.
    pub asked_by_others: u64,
    /// By which rules.
    pub entitled: Vec<Entitlement>,
    /// When the last of them ends.
    pub valid_until: Option<String>,
    /// Its first record.
    pub first: Ref,
    /// Its last record.
    pub last: Ref,
}

/// A decision of a person, or what stands in its place.
#[derive(Clone, Debug, Serialize)]
pub struct Approval {
    /// When.
    pub time: Option<String>,
    /// What.
    pub what: String,
    /// By whom.
    pub by: String,
    /// Whether fewer than two persons have agreed.
    pub alone: bool,
    /// The persons who have, where the record names them.
    pub agreed: Vec<String>,
    /// The approval, where it has a name.
    pub approval: Option<String>,
    /// Its record.
    pub record: Ref,
}

/// A line of the timeline.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// When; of several, the first.
    pub time: Option<String>,
    /// How sure that is.
    pub time_quality: String,
    /// What happened.
    pub what: String,
    /// By whom.
    pub by: String,
    /// Its type.
    pub kind: String,
    /// Its record; of several, the first and the last.
    pub records: Vec<Ref>,
}

impl Numbers {
    pub(super) fn of(evidence: &Evidence) -> Self {
        let mut numbers = Self::default();
        let (mut identities, mut nodes, mut persons) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for record in evidence.within() {
            numbers.records += 1;
            numbers.signed += u64::from(record.is_issuance());
            numbers.refused += u64::from(record.decision == "deny");
            // What a server or a node does by itself is nobody's order.
            let by_itself = ["server", "node"].contains(&record.actor.class.as_str());
            numbers.changes += u64::from(is_change(record) && !by_itself);
            if record.is_kind("svid") || record.is_issuance() {
                identities.extend(record.subject.as_deref());
            }
            if record.is_kind("node") {
                nodes.extend(record.subject.as_deref());
            }
            match record.actor.class.as_str() {
                "node" => nodes.extend(record.actor.id.as_deref()),
                "person" => persons.extend(record.actor.id.as_deref()),
                _ => {}
            }
            if numbers.first.is_none() {
                numbers.first.clone_from(&record.time);
            }
            if record.time.is_some() {
                numbers.last.clone_from(&record.time);
            }
        }
        (numbers.identities, numbers.nodes, numbers.persons) =
            (identities.len() as u64, nodes.len() as u64, persons.len() as u64);
        numbers
    }
}

pub(super) fn identities(evidence: &Evidence) -> Vec<Identity> {
    let mut found: BTreeMap<&str, Identity> = BTreeMap::new();
    for record in evidence.within() {
        let Some(id) = record.subject.as_deref() else {
            continue;
        };
        let concerns = record.is_issuance() || record.is_kind("svid") || record.is_kind("entry");
        if !concerns {
            continue;
        }
        let identity = found.entry(id).or_insert_with(|| Identity {
            id: id.to_owned(),
            signed: 0,
            without_entry: 0,
            refused: 0,
            serials: Vec::new(),
            serials_left_out: 0,
            asked_by: BTreeSet::new(),
            asked_by_others: 0,
            entitled: Vec::new(),
            valid_until: None,
            first: record.at,
            last: record.at,
        });
        identity.last = record.at;
        if record.is_issuance() {
            identity.signed += 1;
            identity.without_entry += u64::from(record.says("entry").is_none());
            identity.serials.extend(record.says("serial").map(str::to_owned));
            let ends = record.says("not_after").map(str::to_owned);
            identity.valid_until = identity.valid_until.take().max(ends);
        } else {
            identity.refused += u64::from(record.decision == "deny");
        }
        if !record.is_kind("entry") {
            let name = record.actor.name();
            if identity.asked_by.len() < MOST_ASKERS || identity.asked_by.contains(&name) {
                identity.asked_by.insert(name);
            } else {
                identity.asked_by_others += 1;
            }
        }
    }
    let at_last = evidence.at_last();
    for rule in rules(evidence).values() {
        let Some(version) = rule.last() else { continue };
        let identity = version.subject.as_deref().and_then(|id| found.get_mut(id));
        if let Some(identity) = identity {
            let stands = version.stands(at_last);
            identity
                .entitled
                .push(entitlement(rule, version, version.ends(), stands));
        }
    }
    let mut all: Vec<Identity> = found.into_values().collect();
    for identity in &mut all {
        let more = identity.serials.len().saturating_sub(MOST_SERIALS);
        identity.serials.drain(..more);
        identity.serials_left_out = more as u64;
    }
    all
}

pub(super) fn approvals(evidence: &Evidence) -> Vec<Approval> {
    let decided = evidence.within().filter(|record| {
        let by_person = record.actor.class == "person" && is_change(record);
        // What a server or a node has refused by itself is no person's decision.
        let is_refusal = record.kind.ends_with(".denied") && record.approval.is_none();
        by_person || record.is_kind("person") || is_decision(record) && !is_refusal
    });
    let decided = decided.map(|record| Approval {
        time: record.time.clone(),
        what: record.sentence(),
        by: record.actor.name(),
        alone: record.is("alone"),
        agreed: texts(record, "agreed"),
        approval: record.approval.clone(),
        record: record.at,
    });
    decided.collect()
}

pub(super) fn timeline(evidence: &Evidence) -> Vec<Event> {
    // Who asked is part of it: what somebody else had signed for the same identity is a line of its own.
    let mut folded: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    let mut events: Vec<Event> = Vec::new();
    let mut counts: Vec<u64> = Vec::new();
    for record in evidence.within() {
        let is_plain = record.is_issuance() && record.approval.is_none();
        let key = is_plain.then(|| {
            let subject = record.subject.clone().unwrap_or_default();
            (record.kind.clone(), subject, record.actor.name())
        });
        if let Some(at) = key.as_ref().and_then(|key| folded.get(key)) {
            counts[*at] += 1;
            events[*at].records.truncate(1);
            events[*at].records.push(record.at);
            continue;
        }
        if let Some(key) = key {
            folded.insert(key, events.len());
        }
        events.push(event(record));
        counts.push(1);
    }
    for (event, count) in events.iter_mut().zip(counts) {
        if count > 1 {
            event.what = format!(
                "{}, and {} more for the same, asked for by the same, until the last record named",
                event.what,
                counted(count - 1, "signature")
            );
        }
    }
    events
}

/// A list of texts of `detail`; of one that is a text, that.
fn texts(record: &Record, name: &str) -> Vec<String> {
    match record.detail.get(name) {
        Some(Value::String(text)) => vec![text.clone()],
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        _ => Vec::new(),
    }
}

fn event(record: &Record) -> Event {
    Event {
        time: record.time.clone(),
        time_quality: record.time_quality.clone(),
        what: record.sentence(),
        by: record.actor.name(),
        kind: record.kind.clone(),
        records: vec![record.at],
    }
}

const MOST_SERIALS: usize = 50;
const MOST_ASKERS: usize = 100;

//! Who had access to something, and what somebody had. Invariant: never blank: what is given has a rule or an approval beside it, and when nobody had
//! anything the answer says so, and how many records it was asked of.

use serde::Serialize;

use crate::evidence::Evidence;
use crate::record::{Record, Ref};
use crate::rules::{Rule, Version, rules};
use crate::tally::{counted, numbers};

/// Who had access, at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Who {
    /// What was asked for.
    pub target: String,
    /// When.
    pub at: String,
    /// The answer in a sentence.
    pub answer: String,
    /// Who was entitled then, and by which rule.
    pub entitled: Vec<Entitlement>,
    /// What was valid then.
    pub credentials: Vec<Credential>,
    /// What was handed out to a workload until then, of those.
    pub handed_out: Vec<Line>,
    /// What was decided about it.
    pub decided: Vec<Line>,
    /// Records that were looked at, and those that are missing.
    pub looked_at: u64,
    /// Records that are missing: the answer may be longer.
    pub missing: u64,
}

/// What somebody had and did, in a period.
#[derive(Clone, Debug, Serialize)]
pub struct By {
    /// Of whom.
    pub identity: String,
    /// The answer in a sentence.
    pub answer: String,
    /// What it is entitled to, as it was at the end.
    pub entitled: Vec<Entitlement>,
    /// What was signed for it, or what it asked for.
    pub credentials: Vec<Credential>,
    /// Everything else that was done to it or by it.
    pub lines: Vec<Line>,
    /// Records that were looked at.
    pub looked_at: u64,
    /// Records that are missing: the answer may be longer.
    pub missing: u64,
}

/// A standing entitlement.
#[derive(Clone, Debug, Serialize)]
pub struct Entitlement {
    /// To be whom.
    pub identity: String,
    /// By which rule.
    pub rule: String,
    /// `workload` or `third-party`.
    pub class: String,
    /// Who answers for it, of a third party.
    pub sponsor: Option<String>,
    /// Under which contract.
    pub contract: Option<String>,
    /// From when on.
    pub from: Option<String>,
    /// Until when; none: it stands still.
    pub until: Option<String>,
    /// The records it follows from.
    pub records: Vec<Ref>,
}

/// Something that was signed.
#[derive(Clone, Debug, Serialize)]
pub struct Credential {
    /// For whom.
    pub identity: String,
    /// What.
    pub kind: String,
    /// Its number.
    pub serial: String,
    /// From when on it holds.
    pub not_before: String,
    /// When it ends.
    pub not_after: String,
    /// Who asked for it.
    pub asked_by: String,
    /// By whose leave.
    pub under: String,
    /// Its record.
    pub record: Ref,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Line {
    /// When.
    pub time: Option<String>,
    /// What.
    pub what: String,
    /// By whom.
    pub by: String,
    /// Its record.
    pub record: Ref,
}

/// Who had access to `target` at this moment. A target is a SPIFFE ID, one and `/*`, an entry's ID, the last part of a path (`plc-7`), or what
/// records name as a target.
#[must_use]
pub fn who(evidence: &Evidence, target: &str, at: &str) -> Who {
    let rules = rules(evidence);
    let entitled = rules.values().filter_map(|rule| {
        let version = rule.at(at)?;
        let fits = rule.entry == target || version.subject.as_deref().is_some_and(|id| is(id, target));
        fits.then(|| entitlement(rule, version, rule.until(at)))
    });
    let entitled: Vec<_> = entitled.collect();
    let was_valid = |record: &&Record| {
        let (begins, ends) = (record.says("not_before"), record.says("not_after"));
        begins.is_some_and(|begins| begins <= at) && ends.is_some_and(|ends| at < ends)
    };
    let signed = evidence
        .records
        .iter()
        .filter(|record| record.is_issuance() && is_about(record, target));
    let signed: Vec<&Record> = signed.filter(was_valid).collect();
    let credentials: Vec<_> = signed.iter().map(|record| credential(record, &rules)).collect();
    let until = |record: &&Record| record.time.as_deref().is_none_or(|time| time <= at);
    let handed_out = evidence
        .records
        .iter()
        .filter(|record| is_hand_out(record) && is_about(record, target));
    let handed_out = handed_out.filter(until).filter(|record| {
        let serial = record.says("serial");
        serial.is_none() || signed.iter().any(|signed| signed.says("serial") == serial)
    });
    let decided = evidence
        .records
        .iter()
        .filter(|record| is_decision(record) && is_about(record, target));
    let decided: Vec<_> = decided.filter(until).map(line).collect();
    let looked_at = evidence.records.len() as u64;
    let answer = match (entitled.len(), credentials.len()) {
        (0, 0) => format!(
            "nobody: none of {} gives {target} to anybody at {at}, and nothing that was signed for it was valid then",
            counted(looked_at, "record")
        ),
        (rules, valid) => format!(
            "{} and {} that was or were valid",
            counted(rules as u64, "standing entitlement"),
            counted(valid as u64, "signed document")
        ),
    };
    Who {
        target: target.to_owned(),
        at: at.to_owned(),
        answer,
        entitled,
        credentials,
        handed_out: handed_out.map(line).collect(),
        decided,
        looked_at,
        missing: evidence.missing(),
    }
}

/// What this one had and did: a SPIFFE ID, one and `/*`, a person's reference, or a login (`uid:1000`).
#[must_use]
pub fn by(evidence: &Evidence, identity: &str) -> By {
    let rules = rules(evidence);
    let entitled = rules.values().filter_map(|rule| {
        let version = rule.last()?;
        let fits = version.subject.as_deref().is_some_and(|id| is(id, identity));
        let until = if version.is_deleted {
            version.from.clone()
        } else {
            version.expires_at.clone()
        };
        fits.then(|| entitlement(rule, version, until))
    });
    let entitled: Vec<_> = entitled.collect();
    let about = |record: &&Record| is_about(record, identity) || is_actor(record, identity);
    let all: Vec<&Record> = evidence.within().filter(about).collect();
    let signed = all.iter().filter(|record| record.is_issuance());
    let credentials: Vec<_> = signed.map(|record| credential(record, &rules)).collect();
    let lines = all
        .iter()
        .filter(|record| !record.is_issuance())
        .map(|record| line(record));
    let lines: Vec<_> = lines.collect();
    let looked_at = evidence.within().count() as u64;
    let answer = match entitled.len() + credentials.len() + lines.len() {
        0 => format!(
            "nothing: none of {} is about {identity} or by it, and no entry gives it",
            counted(looked_at, "record")
        ),
        _ => format!(
            "{}, {}, {}",
            counted(entitled.len() as u64, "standing entitlement"),
            counted(credentials.len() as u64, "signed document"),
            counted(lines.len() as u64, "other record")
        ),
    };
    By {
        identity: identity.to_owned(),
        answer,
        entitled,
        credentials,
        lines,
        looked_at,
        missing: evidence.missing(),
    }
}

pub(crate) fn entitlement(rule: &Rule, version: &Version, until: Option<String>) -> Entitlement {
    let powers = match version.powers.is_empty() {
        true => String::new(),
        false => format!(" ({})", version.powers.join(", ")),
    };
    let what = format!(
        "standing entitlement, by entry {}{powers}: whoever is {}; record {}, last by {}",
        rule.entry,
        version.selectors,
        numbers(&version.records),
        version.by
    );
    Entitlement {
        identity: version
            .subject
            .clone()
            .unwrap_or_else(|| "an identity that no record tells".to_owned()),
        rule: what,
        class: version.class.clone().unwrap_or_else(|| "workload".to_owned()),
        sponsor: version.sponsor.clone(),
        contract: version.contract.clone(),
        from: version.from.clone(),
        until,
        records: version.records.clone(),
    }
}

fn credential(record: &Record, rules: &std::collections::BTreeMap<String, Rule>) -> Credential {
    let said = |name: &str| record.says(name).unwrap_or("unknown").to_owned();
    Credential {
        identity: record
            .subject
            .clone()
            .unwrap_or_else(|| "nobody named".to_owned()),
        kind: if record.kind == "rung.issued" {
            "x509, ahead".to_owned()
        } else {
            said("kind")
        },
        serial: said("serial"),
        not_before: said("not_before"),
        not_after: said("not_after"),
        asked_by: record.actor.name(),
        under: under(record, rules),
        record: record.at,
    }
}

/// By whose leave something was signed.
fn under(record: &Record, rules: &std::collections::BTreeMap<String, Rule>) -> String {
    if let Some(approval) = &record.approval {
        return format!("approval {approval}");
    }
    let Some(entry) = record.says("entry") else {
        return match record.actor.class.as_str() {
            "node" | "server" => "standing entitlement, as the node that it is".to_owned(),
            _ => format!("order of {}", record.actor.name()),
        };
    };
    let version = rules.get(entry).and_then(|rule| rule.at(record.when()));
    match version {
        Some(version) => format!(
            "standing entitlement, by entry {entry} (record {}, last by {})",
            numbers(&version.records),
            version.by
        ),
        None => format!(
            "standing entitlement, by entry {entry}, of which these records do not tell: it is older than they are"
        ),
    }
}

fn line(record: &Record) -> Line {
    Line {
        time: record.time.clone(),
        what: record.sentence(),
        by: record.actor.name(),
        record: record.at,
    }
}

/// What an agent gave to a workload, out of its journal (`docs/formats/journal.md`).
pub(crate) fn is_hand_out(record: &Record) -> bool {
    record.kind == "agent.handed-out"
}

/// What somebody has decided, beside what was signed.
pub(crate) fn is_decision(record: &Record) -> bool {
    record.approval.is_some()
        || matches!(
            record.kind.as_str(),
            "svid.denied"
                | "agent.denied"
                | "node.approved"
                | "node.refused"
                | "node.banned"
                | "node.evicted"
        )
}

fn is_about(record: &Record, target: &str) -> bool {
    let fits = |text: &Option<String>| text.as_deref().is_some_and(|id| is(id, target));
    fits(&record.subject) || fits(&record.target) || record.says("entry") == Some(target)
}

fn is_actor(record: &Record, identity: &str) -> bool {
    let login = identity
        .split_once(':')
        .is_some_and(|(by, value)| match record.actor.how.get(by) {
            Some(serde_json::Value::String(text)) => text == value,
            Some(serde_json::Value::Number(number)) => number.to_string() == value,
            _ => false,
        });
    login || record.actor.id.as_deref().is_some_and(|id| is(id, identity))
}

/// Whether an ID is the one that is asked for: itself, below it with `/*`, or its last part.
fn is(id: &str, wanted: &str) -> bool {
    match wanted.strip_suffix("/*") {
        Some(above) => id.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        None if wanted.contains('/') => id == wanted,
        None => id == wanted || id.starts_with("spiffe://") && id.rsplit('/').next() == Some(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_whole_or_below_or_the_last_part_and_never_a_piece() {
        let id = "spiffe://plant.example/line4/plc-7";
        for wanted in [
            id,
            "spiffe://plant.example/line4/*",
            "spiffe://plant.example/*",
            "plc-7",
        ] {
            assert!(is(id, wanted), "{wanted}");
        }
        for wanted in [
            "plc",
            "7",
            "line4",
            "spiffe://plant.example/line4",
            "spiffe://plant.example/line/*",
            "/plc-7",
            "",
        ] {
            assert!(!is(id, wanted), "{wanted}");
        }
    }
}

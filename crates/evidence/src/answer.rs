//! Who had access to something, and what somebody had. Invariant: never blank: what is given has a rule or an approval beside it, and when nobody had
//! anything the answer says so, and how many records it was asked of.

mod fits;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::record::{Record, Ref};
use crate::rules::{Rule, Version, rules};
use crate::tally::{counted, numbers};
pub use fits::Asked;
pub(crate) use fits::is_decision;
use fits::{is, is_about, is_actor, is_hand_out, was_valid};

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
    /// Records that are in an archive and were not looked at: the answer may be longer.
    pub pruned: u64,
    /// Records before which the clock had gone back: times around them are not sure.
    pub clock_went_back: Vec<Ref>,
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
    /// Records that are in an archive and were not looked at: the answer may be longer.
    pub pruned: u64,
    /// Records before which the clock had gone back: times around them are not sure.
    pub clock_went_back: Vec<Ref>,
}

/// An entitlement by an entry.
#[derive(Clone, Debug, Serialize)]
pub struct Entitlement {
    /// Whether it stands, or is over: deleted, expired, or nobody answers for it any more.
    pub stands: bool,
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

/// Who had access to something at this moment.
#[must_use]
pub fn who(evidence: &Evidence, asked: &Asked<'_>) -> Who {
    let (target, at) = (asked.target, asked.at);
    let rules = rules(evidence);
    let entitled = rules.values().filter_map(|rule| {
        let version = rule.at(at)?;
        let fits = rule.entry == target || version.subject.as_deref().is_some_and(|id| is(id, target));
        fits.then(|| entitlement(rule, version, rule.until(at), true))
    });
    let entitled: Vec<_> = entitled.collect();
    let about = || evidence.records.iter().filter(|record| is_about(record, target));
    let signed = about().filter(|record| record.is_issuance() && was_valid(record, at));
    let signed: Vec<&Record> = signed.collect();
    let credentials: Vec<_> = signed.iter().map(|record| credential(record, &rules)).collect();
    let until = |record: &&Record| record.time.as_deref().is_none_or(|time| time <= at);
    let handed_out = about().filter(|record| is_hand_out(record) && until(record));
    let handed_out = handed_out.filter(|record| {
        let serial = record.says("serial");
        serial.is_none() || signed.iter().any(|signed| signed.says("serial") == serial)
    });
    let decided = about().filter(|record| is_decision(record) && until(record));
    let looked_at = evidence.looked_at;
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
    let went_back = evidence.went_back();
    Who {
        target: target.to_owned(),
        at: at.to_owned(),
        answer: qualified(answer, evidence),
        entitled,
        credentials,
        handed_out: handed_out.map(line).collect(),
        decided: decided.map(line).collect(),
        looked_at,
        missing: evidence.missing(),
        pruned: evidence.pruned(),
        clock_went_back: went_back.iter().map(|record| record.at).take(MOST_REFS).collect(),
    }
}

/// What this one had and did: a SPIFFE ID, one and `/*`, a person's reference, or a login (`uid:1000`, `ssh:SHA256:…`).
#[must_use]
pub fn by(evidence: &Evidence, identity: &str) -> By {
    let rules = rules(evidence);
    let at_last = evidence.at_last();
    let entitled = rules.values().filter_map(|rule| {
        let version = rule.last()?;
        let fits = version.subject.as_deref().is_some_and(|id| is(id, identity));
        fits.then(|| entitlement(rule, version, version.ends(), version.stands(at_last)))
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
    let stand = entitled.iter().filter(|one| one.stands).count();
    let over = match entitled.len() - stand {
        0 => String::new(),
        over => format!(" ({over} more that are over)"),
    };
    let answer = match entitled.len() + credentials.len() + lines.len() {
        0 => format!(
            "nothing: none of {} is about {identity} or by it, and no entry gives it",
            counted(looked_at, "record")
        ),
        _ => format!(
            "{}{over}, {}, {}",
            counted(stand as u64, "standing entitlement"),
            counted(credentials.len() as u64, "signed document"),
            counted(lines.len() as u64, "other record")
        ),
    };
    let went_back = evidence.went_back();
    By {
        identity: identity.to_owned(),
        answer: qualified(answer, evidence),
        entitled,
        credentials,
        lines,
        looked_at,
        missing: evidence.missing(),
        pruned: evidence.pruned(),
        clock_went_back: went_back.iter().map(|record| record.at).take(MOST_REFS).collect(),
    }
}

/// An answer with what it could not take into account.
fn qualified(answer: String, evidence: &Evidence) -> String {
    match evidence.pruned() {
        0 => answer,
        pruned => format!(
            "{answer}; {} were taken to an archive and not looked at: give it with --archive",
            counted(pruned, "record")
        ),
    }
}

pub(crate) fn entitlement(
    rule: &Rule,
    version: &Version,
    until: Option<String>,
    stands: bool,
) -> Entitlement {
    let powers = match version.powers.is_empty() {
        true => String::new(),
        false => format!(" ({})", version.powers.join(", ")),
    };
    let how = match (stands, version.is_unanswered) {
        (true, _) => "standing entitlement",
        (false, true) => "entitlement that nobody answers for any more",
        (false, false) => "entitlement that is over",
    };
    let what = match version.is_inferred {
        true => format!(
            "{how}, by entry {}, which is older than these records: something was signed by it, record {}",
            rule.entry,
            numbers(&version.records)
        ),
        false => format!(
            "{how}, by entry {}{powers}: whoever is {}; record {}, last by {}",
            rule.entry,
            version.selectors,
            numbers(&version.records),
            version.by
        ),
    };
    Entitlement {
        stands,
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

fn credential(record: &Record, rules: &BTreeMap<String, Rule>) -> Credential {
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
fn under(record: &Record, rules: &BTreeMap<String, Rule>) -> String {
    if let Some(approval) = &record.approval {
        return format!("approval {approval}");
    }
    let Some(entry) = record.says("entry") else {
        return match record.actor.class.as_str() {
            "node" | "server" => "standing entitlement, as the node that it is".to_owned(),
            _ => format!("order of {}", record.actor.name()),
        };
    };
    let rule = rules.get(entry);
    let at = record.placed().unwrap_or(UNKNOWN);
    let version = rule.and_then(|rule| rule.by_number(record.at).or_else(|| rule.at(at)));
    match version.filter(|version| !version.is_inferred) {
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

/// Before every time.
const UNKNOWN: &str = "";
const MOST_REFS: usize = 1000;

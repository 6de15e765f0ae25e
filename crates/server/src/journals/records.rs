//! A node's record as one of the ledger. Invariant: a node says what it likes, as itself: it is the actor, whatever the record says, and each text is
//! bounded and escaped by the ledger.

use landfast_audit::{Actor, ActorClass, Category, Decision, Outcome, Record, TimeQuality, Value};
use landfast_identity::{SpiffeId, UnixTime};
use serde_json::{Map, Value as Json};

use super::line::{GAP, Line};
use super::step::{Known, Told};
use crate::random;

/// Of which node and journal, and when it came.
pub(super) struct From<'a> {
    pub(super) node: &'a SpiffeId,
    pub(super) attestation: &'a str,
    pub(super) journal: &'a str,
    pub(super) acknowledged_by: &'a str,
    pub(super) received: Option<UnixTime>,
}

impl From<'_> {
    fn new_record(&self, category: Category, kind: &'static str) -> Record {
        let actor = Actor::new(ActorClass::Node, Some(self.node.to_string()));
        let actor = match self.attestation {
            "" => actor,
            attestation => actor.known_by("attestation", attestation),
        };
        Record::new(category, kind, actor).with("journal", self.journal)
    }

    /// Of what this server has noticed.
    fn noticed(&self, kind: &'static str) -> Record {
        crate::ledger::at(self.received, self.new_record(Category::AuditLog, kind))
    }

    pub(super) fn record(&self, told: Told) -> Record {
        match told {
            Told::Line { line, from } => self.line(line, from),
            Told::Other {
                before: Known { journal, next, .. },
            } => self
                .noticed(OTHER)
                .with("before", journal)
                .with("before_next", next),
            Told::Hole { from, to } => {
                let hole = self.noticed(HOLE).with("from", from).with("to", to);
                match self.acknowledged_by {
                    "" => hole,
                    ledger => hole.with("acknowledged_by", ledger),
                }
            }
            Told::Broken { at } => Record {
                result: Outcome::Refused,
                ..self.noticed(BROKEN).with("at", at)
            },
        }
    }

    fn line(&self, line: Line, from: u64) -> Record {
        let known = KINDS.iter().find(|(inner, ..)| *inner == line.kind);
        let (_, kind, category) = *known.unwrap_or(&("", "agent.other", Category::System));
        let mut record = self.new_record(category, kind);
        record.time = line.time.as_deref().and_then(parse);
        record.time_quality = match (record.time, line.quality.as_str()) {
            (None, _) => TimeQuality::None,
            (_, "confirmed") => TimeQuality::Confirmed,
            (_, "doubted") => TimeQuality::Doubted,
            (_, "estimated") => TimeQuality::Estimated,
            _ => TimeQuality::Unconfirmed,
        };
        if let Some(received) = self.received {
            record = record.with("received", received);
        }
        let mut detail = line.detail;
        match kind {
            "agent.handed-out" => record.decision = Decision::Allow,
            "agent.denied" => {
                record.decision = Decision::Deny;
                record.result = Outcome::Refused;
                record.reason = Some("no entry of the node is for this process".to_owned());
            }
            "agent.ledger-fork" | "agent.ledger-unwitnessed" => record.result = Outcome::Failed,
            _ => {}
        }
        if kind == "agent.handed-out"
            && let Some(Json::String(id)) = detail.remove("id")
        {
            record.subject = Some(id);
        }
        if let Some(counts) = line.counts {
            let counts = counts.iter().map(|(kind, number)| format!("{kind} {number}"));
            record = record
                .with("counted", line.last - from + 1)
                .with("counts", counts.collect::<Vec<_>>())
                .with("last", line.last);
        }
        if known.is_none() {
            record = record.with("kind", line.kind);
        }
        let mut rest = Map::new();
        let mut record = with_detail(record, "", detail, &mut rest);
        if !rest.is_empty() {
            record = record.with("more", Json::Object(rest).to_string());
        }
        record.with("chain", random::hex(&line.chain)).with("seq", from)
    }
}

/// Names that a later version gives are left over: they go together into one text.
fn with_detail(
    mut record: Record,
    of: &str,
    detail: Map<String, Json>,
    rest: &mut Map<String, Json>,
) -> Record {
    for (name, value) in detail {
        if let (Json::Object(members), "to" | "of", "") = (&value, name.as_str(), of) {
            record = with_detail(record, &format!("{name}_"), members.clone(), rest);
            continue;
        }
        let full = format!("{of}{name}");
        let known = NAMES.iter().find(|known| **known == full);
        match (known, in_ledger(&value)) {
            (Some(known), Some(value)) => record = record.with(known, value),
            _ => drop(rest.insert(full, value)),
        }
    }
    record
}

fn in_ledger(value: &Json) -> Option<Value> {
    Some(match value {
        Json::String(text) => Value::Text(text.clone()),
        Json::Bool(flag) => Value::Flag(*flag),
        Json::Number(number) => match number.as_u64() {
            Some(number) => Value::Number(number),
            None => Value::Text(number.to_string()),
        },
        Json::Array(texts) => {
            let texts: Option<Vec<_>> = texts.iter().map(|text| Some(text.as_str()?.to_owned())).collect();
            Value::List(texts?)
        }
        Json::Null | Json::Object(_) => return None,
    })
}

/// As this program writes it: `2026-11-26T08:00:00Z`.
fn parse(time: &str) -> Option<UnixTime> {
    let number = |from: usize, to: usize| time.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    // Days since 1970, of a year that begins in March.
    let (of, month) = match month {
        1..=2 => (year - 1, month + 9),
        _ => (year, month - 3),
    };
    let leaps = of / 4 - of / 100 + of / 400;
    let days = of * 365 + leaps + (month * 153 + 2) / 5 + day - 1 - 719_468;
    let parsed = UnixTime::from_secs(days * 86_400 + hour * 3600 + minute * 60 + second);
    // Whatever else it is, it was not written so.
    (parsed.to_string() == time).then_some(parsed)
}

pub(super) const OTHER: &str = "agent.journal-other";
pub(super) const HOLE: &str = "agent.journal-hole";
pub(super) const BROKEN: &str = "agent.journal-broken";

/// What a journal says, what the ledger calls it, and where it belongs.
const KINDS: [(&str, &str, Category); 18] = [
    ("svid.handed-out", "agent.handed-out", Category::AccessControl),
    ("svid.denied", "agent.denied", Category::AccessControl),
    ("agent.started", "agent.started", Category::System),
    ("agent.stopped", "agent.stopped", Category::System),
    ("island.began", "agent.island-began", Category::System),
    ("island.exhausted", "agent.island-exhausted", Category::System),
    ("island.ended", "agent.island-ended", Category::System),
    ("clock.wrong", "agent.clock-wrong", Category::System),
    ("clock.right", "agent.clock-right", Category::System),
    ("clock.stepped", "agent.clock-stepped", Category::System),
    ("quarantine.began", "agent.quarantine-began", Category::System),
    ("quarantine.over", "agent.quarantine-over", Category::System),
    ("node.banned", "agent.banned", Category::AccessControl),
    ("ledger.new", "agent.ledger-new", Category::AuditLog),
    ("ledger.fork", "agent.ledger-fork", Category::AuditLog),
    (
        "ledger.unwitnessed",
        "agent.ledger-unwitnessed",
        Category::AuditLog,
    ),
    ("journal.begun", "agent.journal-begun", Category::AuditLog),
    (GAP, "agent.journal-gap", Category::AuditLog),
];

/// Members that records of a journal have.
const NAMES: [&str; 45] = [
    "acknowledged",
    "acknowledged_by",
    "audience",
    "before",
    "before_next",
    "beside",
    "by",
    "by_seconds",
    "cut",
    "entry",
    "id",
    "jti",
    "key",
    "kind",
    "ledger",
    "lost",
    "not_after",
    "not_before",
    "of_gid",
    "of_path",
    "of_pid",
    "of_selectors",
    "of_sha256",
    "of_uid",
    "origin",
    "repeated",
    "reserve",
    "seconds",
    "seen",
    "serial",
    "shown",
    "size",
    "standing",
    "taken_over",
    "time",
    "to_gid",
    "to_path",
    "to_pid",
    "to_selectors",
    "to_sha256",
    "to_uid",
    "version",
    "what",
    "why",
    "wrong",
];

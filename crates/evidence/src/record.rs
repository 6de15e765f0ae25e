//! A record as it is read back. Invariant: `line` is what was hashed; the other fields say what is in it and nothing more.

mod words;

use serde::Serialize;
use serde_json::{Map, Value};

/// Where a record is: in which of the ledgers that are looked at, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Ref {
    /// Which ledger, from 1 on, in the order in which they were given.
    pub ledger: usize,
    /// The record's number.
    pub record: u64,
}

impl std::fmt::Display for Ref {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.ledger {
            1 => write!(f, "{}", self.record),
            ledger => write!(f, "{ledger}:{}", self.record),
        }
    }
}

/// One record.
#[derive(Clone, Debug)]
pub struct Record {
    /// Where it is.
    pub at: Ref,
    /// Its bytes.
    pub line: String,
    /// When, RFC 3339 in UTC; `None`: the clock showed none.
    pub time: Option<String>,
    /// How sure that is.
    pub time_quality: String,
    /// What happened.
    pub kind: String,
    /// Who did it.
    pub actor: Actor,
    /// To whom or what.
    pub subject: Option<String>,
    /// What may be reached by it.
    pub target: Option<String>,
    /// `allow`, `deny` or `none`.
    pub decision: String,
    /// Why.
    pub reason: Option<String>,
    /// The approval it happened under.
    pub approval: Option<String>,
    /// What came of it.
    pub result: String,
    /// What its type says more.
    pub detail: Map<String, Value>,
}

/// Who did something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Actor {
    /// What they are.
    pub class: String,
    /// Who, where that is known.
    pub id: Option<String>,
    /// By what they are known.
    pub how: Map<String, Value>,
}

impl Record {
    /// From a line; `None` when it is none.
    #[must_use]
    pub fn parse(at: Ref, line: &str) -> Option<Self> {
        let Value::Object(mut members) = serde_json::from_str(line).ok()? else {
            return None;
        };
        let actor = match members.remove("actor") {
            Some(Value::Object(mut actor)) => Actor {
                class: text(&mut actor, "class").unwrap_or_default(),
                id: text(&mut actor, "id"),
                how: table(&mut actor, "how"),
            },
            _ => Actor::default(),
        };
        let sequence = members.get("seq").and_then(Value::as_u64)?;
        Some(Self {
            at: Ref {
                record: sequence,
                ..at
            },
            line: line.to_owned(),
            time: text(&mut members, "time"),
            time_quality: text(&mut members, "time_quality").unwrap_or_default(),
            kind: text(&mut members, "type")?,
            actor,
            subject: text(&mut members, "subject"),
            target: text(&mut members, "target"),
            decision: text(&mut members, "decision").unwrap_or_default(),
            reason: text(&mut members, "reason"),
            approval: text(&mut members, "approval"),
            result: text(&mut members, "result").unwrap_or_default(),
            detail: table(&mut members, "detail"),
        })
    }

    /// A text of `detail`.
    #[must_use]
    pub fn says(&self, name: &str) -> Option<&str> {
        self.detail.get(name).and_then(Value::as_str)
    }

    /// A number of `detail`.
    #[must_use]
    pub fn counts(&self, name: &str) -> u64 {
        self.detail.get(name).and_then(Value::as_u64).unwrap_or(0)
    }

    /// Whether `detail` says so.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.detail.get(name).and_then(Value::as_bool) == Some(true)
    }

    /// Whether it is of this type, or of one that begins with it and a dot.
    #[must_use]
    pub fn is_kind(&self, wanted: &str) -> bool {
        let rest = self.kind.strip_prefix(wanted);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }

    /// Whether something was signed.
    #[must_use]
    pub fn is_issuance(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "svid.issued" | "rung.issued" | "authority.issued"
        )
    }

    /// When it came to the server, of what a node has sent out of its journal.
    #[must_use]
    pub fn received(&self) -> Option<&str> {
        self.says("received").filter(|_| self.kind.starts_with("agent."))
    }

    /// When the server wrote it, by its clock: by that a record stands in its log, and is of a period or not. The time of what a node has sent is the
    /// node's, and may be long before.
    #[must_use]
    pub fn placed(&self) -> Option<&str> {
        self.received().or(self.time.as_deref())
    }

    /// The record before which the log was pruned, where this one says so.
    pub(crate) fn pruned_before(&self) -> u64 {
        match self.kind.as_str() {
            "log.pruned" | "log.started" => self.counts("first_record"),
            _ => 0,
        }
    }

    /// Its time, or words for want of one.
    #[must_use]
    pub fn when(&self) -> &str {
        self.time.as_deref().unwrap_or("(no time)")
    }
}

impl Actor {
    /// Whether somebody can be named.
    #[must_use]
    pub fn is_attributed(&self) -> bool {
        self.class != "unknown"
            && (self.id.is_some() || self.class == "server" || self.how.contains_key("attestation"))
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Option<String> {
    match members.remove(name) {
        Some(Value::String(text)) => Some(text),
        _ => None,
    }
}

fn table(members: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match members.remove(name) {
        Some(Value::Object(table)) => table,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: Ref = Ref { ledger: 2, record: 7 };

    #[test]
    fn a_record_is_where_it_says_it_is_and_what_it_does_not_say_is_not_made_up() {
        let line = r#"{"actor":{"class":"node","id":"spiffe://a/n"},"seq":9,"type":"svid.issued","v":1}"#;
        let record = Record::parse(HERE, line).unwrap();
        assert_eq!(record.at.to_string(), "2:9");
        assert_eq!(
            (record.time, record.subject, record.decision.as_str()),
            (None, None, "")
        );
        assert!(Record::parse(HERE, r#"{"type":"a.b"}"#).is_none());
        assert!(Record::parse(HERE, "[]").is_none());
    }

    #[test]
    fn who_is_not_named_is_not_attributed() {
        let actor = |class: &str, id: Option<&str>| Actor {
            class: class.to_owned(),
            id: id.map(str::to_owned),
            how: Map::new(),
        };
        assert!(actor("person", Some("p-1")).is_attributed());
        assert!(actor("server", None).is_attributed());
        assert!(!actor("unknown", Some("x")).is_attributed());
        assert!(!actor("workload", None).is_attributed());
    }
}

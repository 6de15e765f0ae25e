//! Which records concern what is asked for. Invariant: an ID fits whole, below a whole step of its path, or by its last one: never by a piece.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::record::Record;

/// A question about one thing at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// A SPIFFE ID, one and `/*`, an entry's ID, the last part of a path (`plc-7`), or what records name as a target.
    pub target: &'a str,
    /// When: a time, or its beginning.
    pub at: &'a str,
}

impl Asked<'_> {
    /// Whether a record has to be looked at: by its type, and by whether what is asked for is in its text at all.
    pub(crate) fn may_need(&self, kind: &str, text: &str) -> bool {
        if is_rule(kind) {
            return true;
        }
        let looked_for = self.target.strip_suffix("/*").unwrap_or(self.target);
        // What is written with an escape in a record is not found by its text.
        let is_plain = looked_for
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\');
        !is_plain || text.contains(looked_for)
    }

    /// Whether the answer needs it. `entries`: those of which something was kept that was signed, which tells of an entry that is older than the records.
    pub(crate) fn needs(&self, record: &Record, entries: &mut BTreeSet<String>) -> bool {
        if is_rule(&record.kind) {
            return true;
        }
        if !is_about(record, self.target) {
            return false;
        }
        if record.is_issuance() {
            let is_first = record
                .says("entry")
                .is_some_and(|entry| entries.insert(entry.to_owned()));
            return is_first || was_valid(record, self.at);
        }
        is_decision(record)
            || is_hand_out(record) && record.says("not_after").is_none_or(|ends| self.at < ends)
    }
}

/// What rules follow from, and how far they can be believed.
fn is_rule(kind: &str) -> bool {
    let kind = kind.split_once('.').map_or(kind, |(kind, _)| kind);
    ["entry", "policy", "person", "log"].contains(&kind)
}

pub(super) fn was_valid(record: &Record, at: &str) -> bool {
    let (begins, ends) = (record.says("not_before"), record.says("not_after"));
    begins.is_some_and(|begins| begins <= at) && ends.is_some_and(|ends| at < ends)
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
                | "operator.denied"
                | "call.denied"
                | "node.approved"
                | "node.refused"
                | "node.banned"
                | "node.evicted"
        )
}

pub(super) fn is_about(record: &Record, target: &str) -> bool {
    let fits = |text: &Option<String>| text.as_deref().is_some_and(|id| is(id, target));
    fits(&record.subject) || fits(&record.target) || record.says("entry") == Some(target)
}

/// Whether somebody did it: by their own name, by the login they came with, or by what a process is known by (`uid:1000`, which is found behind `sudo` too).
pub(super) fn is_actor(record: &Record, identity: &str) -> bool {
    let how = |name: &str| record.actor.how.get(name);
    let has = |name: &str, value: &str| match how(name) {
        Some(Value::String(text)) => text == value,
        Some(Value::Number(number)) => number.to_string() == value,
        _ => false,
    };
    let by_process = identity
        .split_once(':')
        .is_some_and(|(by, value)| has(by, value) || by == "uid" && has("loginuid", value));
    let named = [record.actor.id.as_deref(), text(how("login")), text(how("id"))];
    by_process || named.into_iter().flatten().any(|id| is(id, identity))
}

fn text(value: Option<&Value>) -> Option<&str> {
    value.and_then(Value::as_str)
}

/// Whether an ID is the one that is asked for: itself, below it with `/*`, or its last part.
pub(super) fn is(id: &str, wanted: &str) -> bool {
    match wanted.strip_suffix("/*") {
        Some(above) => id.strip_prefix(above).is_some_and(|rest| rest.starts_with('/')),
        None if wanted.contains('/') => id == wanted,
        None => id == wanted || id.starts_with("spiffe://") && id.rsplit('/').next() == Some(wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ref;

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

    #[test]
    fn whoever_did_something_is_found_by_every_way_they_came() {
        let by = |how: &str| {
            let line = format!(
                r#"{{"actor":{{"class":"person","id":"p-1","how":{how}}},"seq":0,"type":"node.banned"}}"#
            );
            Record::parse(Ref { ledger: 1, record: 0 }, &line).unwrap()
        };
        // By sudo: the process is root's, and who sat there is told beside it.
        let sudo = by(r#"{"uid":0,"loginuid":1000,"login":"uid:1000"}"#);
        for identity in ["p-1", "uid:1000", "loginuid:1000", "uid:0"] {
            assert!(is_actor(&sudo, identity), "{identity}");
        }
        for identity in ["p-2", "uid:100", "uid:10000", "login:uid", "1000"] {
            assert!(!is_actor(&sudo, identity), "{identity}");
        }
        let key = by(r#"{"login":"ssh:SHA256:ab/c+d"}"#);
        assert!(is_actor(&key, "ssh:SHA256:ab/c+d") && !is_actor(&key, "ssh:SHA256:ab"));
        let provider = by(r#"{"login":"oidc:https://id.example/realm"}"#);
        assert!(is_actor(&provider, "oidc:https://id.example/realm"));
        let certificate = by(r#"{"id":"spiffe://plant.example/ops/p-1"}"#);
        assert!(is_actor(&certificate, "spiffe://plant.example/ops/p-1"));
        assert!(is_actor(&certificate, "spiffe://plant.example/ops/*"));
    }

    #[test]
    fn what_is_kept_of_a_long_ledger_is_what_the_answer_is_made_of() {
        let asked = Asked {
            target: "plc-7",
            at: "2026-11-27T12:00:00Z",
        };
        let parse = |line: &str| Record::parse(Ref { ledger: 1, record: 0 }, line).unwrap();
        let issued = |id: &str, from: &str, to: &str| {
            parse(&format!(
                r#"{{"seq":0,"type":"svid.issued","subject":"spiffe://a/{id}","detail":{{"entry":"e","not_before":"{from}","not_after":"{to}"}}}}"#
            ))
        };
        let mut entries = BTreeSet::new();
        let before = issued("plc-7", "2026-11-26T12:00:00Z", "2026-11-26T13:00:00Z");
        assert!(asked.needs(&before, &mut entries), "the first tells of its entry");
        assert!(!asked.needs(&before, &mut entries));
        let valid = issued("plc-7", "2026-11-27T11:00:00Z", "2026-11-27T13:00:00Z");
        assert!(asked.needs(&valid, &mut entries));
        let other = issued("plc-8", "2026-11-27T11:00:00Z", "2026-11-27T13:00:00Z");
        assert!(!asked.needs(&other, &mut entries) && !asked.may_need("svid.issued", &other.line));
        assert!(asked.may_need("svid.issued", &valid.line) && asked.may_need("entry.created", "{}"));
    }
}

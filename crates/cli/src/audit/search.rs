//! Records by who, what and when. Invariant: what is printed for programs is the record, byte for byte.

use std::collections::VecDeque;

use landfast_audit::verify::{Source, read};
use serde_json::Value;

use super::place::Where;
use crate::cli::Globals;
use crate::failure::Failure;
use crate::{output, wire};

#[derive(clap::Args, Debug, Default)]
pub(crate) struct Filter {
    /// Only of this type, or of all types that begin with it and a dot (`svid`).
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Only what this one did: an ID, a class (`person`, `node`, …), or `uid:1000`.
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// Only what was done to this one: a SPIFFE ID.
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// Only from then on: a time in UTC (2026-11-26T08:00:00Z, or its beginning), or a duration before now (2h).
    #[arg(long, value_name = "WHEN", value_parser = wire::moment)]
    since: Option<String>,
    /// Only before then; records without a time are never left out by these two.
    #[arg(long, value_name = "WHEN", value_parser = wire::moment)]
    until: Option<String>,
}

impl Filter {
    fn fits(&self, record: &Value) -> bool {
        let text = |name: &str| record.get(name).and_then(Value::as_str);
        let kind = text("type").unwrap_or_default();
        let is_kind = |wanted: &str| {
            kind == wanted
                || kind
                    .strip_prefix(wanted)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        let time = text("time");
        self.kind.as_deref().is_none_or(is_kind)
            && self
                .actor
                .as_deref()
                .is_none_or(|wanted| is_actor(&record["actor"], wanted))
            && self
                .subject
                .as_deref()
                .is_none_or(|wanted| text("subject") == Some(wanted))
            && self
                .since
                .as_deref()
                .is_none_or(|since| time.is_none_or(|time| time >= since))
            && self
                .until
                .as_deref()
                .is_none_or(|until| time.is_none_or(|time| time < until))
    }
}

fn is_actor(actor: &Value, wanted: &str) -> bool {
    let is = |name: &str| actor.get(name).and_then(Value::as_str) == Some(wanted);
    let known_by = wanted
        .split_once(':')
        .is_some_and(|(by, value)| match &actor["how"][by] {
            Value::String(text) => text == value,
            Value::Number(number) => number.to_string() == value,
            _ => false,
        });
    is("id") || is("class") || known_by
}

pub(super) fn search(place: &Where, filter: &Filter, globals: &Globals) -> Result<(), Failure> {
    let mut found = Vec::new();
    each(&*place.open()?, 0, |record, _| {
        if filter.fits(&record) {
            found.push(record);
        }
        Ok(true)
    })?;
    show(found, globals)
}

pub(super) fn tail(place: &Where, lines: u64, globals: &Globals) -> Result<(), Failure> {
    let source = place.open()?;
    let size = read(&*source, u64::MAX, &mut |_, _| false).map_err(failure)?;
    let mut found = VecDeque::new();
    each(&*source, size.saturating_sub(lines), |record, _| {
        found.push_back(record);
        Ok(true)
    })?;
    show(found.into(), globals)
}

pub(super) fn export(place: &Where, filter: &Filter) -> Result<(), Failure> {
    each(&*place.open()?, 0, |record, line| match filter.fits(&record) {
        true => output::write(&format!("{line}\n")),
        false => Ok(true),
    })
}

/// Until it says no.
fn each(
    source: &dyn Source,
    from: u64,
    mut each: impl FnMut(Value, &str) -> Result<bool, Failure>,
) -> Result<(), Failure> {
    let (mut outcome, mut unreadable) = (Ok(true), 0_u64);
    let ended = read(source, from, &mut |_, bytes| {
        let line = std::str::from_utf8(bytes).unwrap_or_default();
        match serde_json::from_str::<Value>(line) {
            Ok(record) => outcome = each(record, line),
            Err(_) => unreadable += 1,
        }
        matches!(outcome, Ok(true))
    });
    outcome?;
    if unreadable > 0 {
        output::complain(&format!(
            "{unreadable} records cannot be read: landfast audit verify says which"
        ));
    }
    ended.map(drop).map_err(failure)
}

fn failure(error: landfast_audit::verify::ReadError) -> Failure {
    Failure::failed(
        error,
        "landfast audit verify DIR|URL --key KEY says what is wrong with a ledger",
    )
}

fn show(records: Vec<Value>, globals: &Globals) -> Result<(), Failure> {
    if globals.json() {
        return output::print_json(&Value::from(records));
    }
    let columns = &["RECORD", "TIME", "TYPE", "ACTOR", "SUBJECT", "DECISION", "MORE"];
    output::print(&output::table(columns, records.iter().map(row)))
}

fn row(record: &Value) -> Vec<String> {
    let text = |name: &str| shown(&record[name]);
    let actor = &record["actor"];
    let who = match (&actor["id"], &actor["how"]["uid"]) {
        (Value::String(id), _) => id.clone(),
        (_, Value::Number(uid)) => format!("uid {uid}"),
        _ => shown(&actor["class"]),
    };
    let time = match record["time_quality"].as_str() {
        Some("unconfirmed" | "confirmed") | None => text("time"),
        Some(quality) => format!("{} ({quality})", text("time")),
    };
    let mut more: Vec<_> = ["reason", "approval", "target"]
        .iter()
        .filter(|name| record.get(**name).is_some())
        .map(|name| format!("{name}: {}", text(name)))
        .collect();
    if let Some(detail) = record["detail"].as_object() {
        more.extend(
            detail
                .iter()
                .map(|(name, value)| format!("{name} {}", shown(value))),
        );
    }
    vec![
        text("seq"),
        time,
        text("type"),
        who,
        text("subject"),
        text("decision"),
        more.join("; "),
    ]
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(all) => all.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn records_are_chosen_by_who_what_and_when() {
        let record = json!({
            "type": "svid.issued", "time": "2026-11-26T08:00:00Z", "subject": "spiffe://a/b",
            "actor": {"class": "node", "id": "spiffe://a/n", "how": {"uid": 7, "attestation": "x509pop"}},
        });
        let fits = |change: &dyn Fn(&mut Filter)| {
            let mut filter = Filter::default();
            change(&mut filter);
            filter.fits(&record)
        };
        let some = |text: &str| Some(text.to_owned());
        for kind in ["svid.issued", "svid"] {
            assert!(fits(&|filter| filter.kind = some(kind)));
        }
        for kind in ["svid.", "svi", "rung.issued"] {
            assert!(!fits(&|filter| filter.kind = some(kind)), "{kind}");
        }
        for actor in ["spiffe://a/n", "node", "uid:7", "attestation:x509pop"] {
            assert!(fits(&|filter| filter.actor = some(actor)), "{actor}");
        }
        for actor in ["spiffe://a/b", "uid:70", "7", "person"] {
            assert!(!fits(&|filter| filter.actor = some(actor)), "{actor}");
        }
        assert!(fits(&|filter| filter.subject = some("spiffe://a/b")));
        assert!(!fits(&|filter| filter.subject = some("spiffe://a/bc")));
        assert!(fits(&|filter| filter.since = some("2026-11-26")));
        assert!(!fits(&|filter| filter.since = some("2026-11-26T08:00:01Z")));
        assert!(fits(&|filter| filter.until = some("2026-11-26T08:00:01Z")));
        assert!(!fits(&|filter| filter.until = some("2026-11-26T08:00:00Z")));
        let without_time = json!({"type": "svid.issued", "actor": {}});
        assert!(
            Filter {
                since: some("2026"),
                ..Filter::default()
            }
            .fits(&without_time)
        );
    }

    #[test]
    fn a_row_says_who_what_and_why() {
        let record = json!({
            "seq": 4, "type": "svid.denied", "time": "t", "time_quality": "doubted", "subject": "s", "decision": "deny", "reason": "no",
            "actor": {"class": "unknown", "how": {"uid": 7}}, "detail": {"entry": "e", "names": ["a", "b"]},
        });
        let expected = [
            "4",
            "t (doubted)",
            "svid.denied",
            "uid 7",
            "s",
            "deny",
            "reason: no; entry e; names a b",
        ];
        assert_eq!(row(&record), expected);
    }
}

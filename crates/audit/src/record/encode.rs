//! A record as bytes. Invariant: the same record has the same bytes, and they fit; whatever is cut for it, each member stays, and numbers and short texts
//! stay whole: by those it is found again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{MAX_RECORD_BYTES, Record, Value};

/// How much of what is written.
#[derive(Clone, Copy)]
struct Limits {
    /// Characters of a text,
    text: usize,
    /// and its bytes as they are written.
    bytes: usize,
    /// Elements of a list.
    many: usize,
}

pub(super) fn encode(record: &Record, sequence: u64) -> Vec<u8> {
    let mut written = Vec::new();
    for (is_cut, limits) in [WHOLE, SHORTER, SHORTEST].into_iter().enumerate() {
        written = write(record, sequence, limits, is_cut > 0);
        if written.len() <= MAX_RECORD_BYTES {
            break;
        }
    }
    written
}

const WHOLE: Limits = Limits {
    text: 1024,
    bytes: usize::MAX,
    many: 64,
};
const SHORTER: Limits = Limits {
    text: 1024,
    bytes: 384,
    many: 6,
};
/// Some 180 bytes a member with its name, and no record has seventy: their names are this program's.
const SHORTEST: Limits = Limits {
    text: 1024,
    bytes: 128,
    many: 1,
};

fn write(record: &Record, sequence: u64, limits: Limits, is_cut: bool) -> Vec<u8> {
    let mut out = String::with_capacity(640);
    out.push_str("{\"actor\":{\"class\":");
    text(&mut out, record.actor.class.word(), limits);
    if !record.actor.how.is_empty() {
        out.push_str(",\"how\":");
        table(&mut out, &record.actor.how, limits);
    }
    optional(&mut out, "id", record.actor.id.as_deref(), limits);
    out.push('}');
    optional(&mut out, "approval", record.approval.as_deref(), limits);
    optional(&mut out, "category", Some(record.category.word()), limits);
    if is_cut {
        out.push_str(",\"cut\":true");
    }
    optional(&mut out, "decision", Some(record.decision.word()), limits);
    if !record.detail.is_empty() {
        out.push_str(",\"detail\":");
        table(&mut out, &record.detail, limits);
    }
    optional(&mut out, "reason", record.reason.as_deref(), limits);
    optional(&mut out, "result", Some(record.result.word()), limits);
    out.push_str(",\"seq\":");
    number(&mut out, sequence);
    optional(&mut out, "subject", record.subject.as_deref(), limits);
    optional(&mut out, "target", record.target.as_deref(), limits);
    let time = record.time.map(|time| time.to_string());
    optional(&mut out, "time", time.as_deref(), limits);
    optional(&mut out, "time_quality", Some(record.time_quality.word()), limits);
    optional(&mut out, "type", Some(record.kind), limits);
    out.push_str(",\"v\":1}");
    out.into_bytes()
}

fn optional(out: &mut String, name: &str, value: Option<&str>, limits: Limits) {
    if let Some(value) = value {
        out.push(',');
        text(out, name, limits);
        out.push(':');
        text(out, value, limits);
    }
}

fn table(out: &mut String, members: &BTreeMap<&'static str, Value>, limits: Limits) {
    out.push('{');
    for (index, (name, value)) in members.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        text(out, name, limits);
        out.push(':');
        match value {
            Value::Text(value) => text(out, value, limits),
            Value::Number(value) => number(out, *value),
            Value::Flag(value) => out.push_str(if *value { "true" } else { "false" }),
            Value::Time(value) => text(out, &value.to_string(), limits),
            Value::List(list) => {
                out.push('[');
                for (index, value) in list.iter().take(limits.many).enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    text(out, value, limits);
                }
                if list.len() > limits.many {
                    out.push_str(",\"\u{2026}\"");
                }
                out.push(']');
            }
        }
    }
    out.push('}');
}

fn number(out: &mut String, number: u64) {
    let _to_a_string = write!(out, "{number}");
}

/// One that is long ends in an ellipsis.
fn text(out: &mut String, value: &str, limits: Limits) {
    out.push('"');
    let begins = out.len();
    for (count, c) in value.chars().enumerate() {
        if count == limits.text || out.len() - begins >= limits.bytes {
            out.push('\u{2026}');
            break;
        }
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if is_unseen(c) => {
                let _to_a_string = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// What moves a cursor, ends a line, hides, or turns the direction of writing. All of them have four hexadecimal digits.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}')
}

/// Lower-case digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        let _to_a_string = write!(out, "{byte:02x}");
        out
    })
}

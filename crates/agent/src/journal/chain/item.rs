//! One line of a journal: a record, or a count. Invariant: what is read is what was written, and no longer than a server takes.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde_json::{Map, Value, json};

use super::Hash;
use crate::journal::event::{Class, GAP, class_of};

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Item {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) prev: Hash,
    pub(super) chain: Hash,
    pub(super) body: Body,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Body {
    /// Without its line end.
    Record { class: Class, line: Box<[u8]> },
    /// How many of which type.
    Gap(BTreeMap<String, u64>),
}

impl Item {
    /// The line that is to be the next, after this hash.
    pub(super) fn read(line: &[u8], next: u64, head: Hash) -> Result<Self, &'static str> {
        if line.len() > LONGEST_LINE {
            return Err("it is longer than a server takes");
        }
        let members: Map<String, Value> = serde_json::from_slice(line).map_err(|_cause| "it is no record")?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let first = members.get("seq").and_then(Value::as_u64);
        let first = first.filter(|first| *first == next);
        let first = first.ok_or("it is not the next record")?;
        let prev = text("prev").and_then(unhex).filter(|prev| *prev == head);
        let prev = prev.ok_or("it does not follow from the record before")?;
        let kind = text("type").ok_or("it has no type")?;
        if kind != GAP {
            return Ok(Self {
                first,
                last: first,
                prev,
                chain: sha256(line),
                body: Body::Record {
                    class: class_of(kind),
                    line: line.into(),
                },
            });
        }
        let last = members.get("last").and_then(Value::as_u64);
        let chain = text("chain").and_then(unhex);
        let counts = members.get("counts").and_then(Value::as_object);
        let (Some(last), Some(chain), Some(counts)) = (last, chain, counts) else {
            return Err("it is a count of nothing");
        };
        let counts: Option<BTreeMap<_, _>> = counts
            .iter()
            .map(|(kind, number)| Some((kind.clone(), number.as_u64()?)))
            .collect();
        let counts = counts.ok_or("it is a count of nothing")?;
        let sum = counts.values().try_fold(0_u64, |sum, one| sum.checked_add(*one));
        if last < first || sum != (last - first).checked_add(1) {
            return Err("it does not count what it stands for");
        }
        Ok(Self {
            first,
            last,
            prev,
            chain,
            body: Body::Gap(counts),
        })
    }

    /// `None`: a count.
    pub(super) fn class(&self) -> Option<Class> {
        match &self.body {
            Body::Record { class, .. } => Some(*class),
            Body::Gap(_) => None,
        }
    }

    pub(super) fn line(&self) -> Vec<u8> {
        match &self.body {
            Body::Record { line, .. } => line.to_vec(),
            Body::Gap(counts) => json!({
                "v": VERSION, "seq": self.first, "last": self.last, "prev": hex(&self.prev), "chain": hex(&self.chain), "type": GAP, "counts": counts,
            })
            .to_string()
            .into_bytes(),
        }
    }

    /// About what it takes.
    pub(super) fn size(&self) -> usize {
        match &self.body {
            Body::Record { line, .. } => line.len() + 1,
            Body::Gap(counts) => GAP_SIZE + counts.len() * 32,
        }
    }

    /// The count in its place.
    pub(super) fn given_up(self) -> Self {
        let Body::Record { line, .. } = &self.body else {
            return self;
        };
        let members: Option<Map<String, Value>> = serde_json::from_slice(line).ok();
        let kind = members.as_ref().and_then(|line| line.get("type")?.as_str());
        let kind = kind.unwrap_or_default().to_owned();
        Self {
            body: Body::Gap(BTreeMap::from([(kind, 1)])),
            ..self
        }
    }

    /// One count for two that follow each other.
    pub(super) fn and(self, next: Self) -> Self {
        let counts_of = |body| match body {
            Body::Gap(counts) => counts,
            Body::Record { .. } => BTreeMap::new(),
        };
        let mut counts = counts_of(self.body);
        for (kind, number) in counts_of(next.body) {
            *counts.entry(kind).or_default() += number;
        }
        Self {
            first: self.first,
            last: next.last,
            prev: self.prev,
            chain: next.chain,
            body: Body::Gap(counts),
        }
    }
}

/// Texts and lists that somebody else chose are cut: a record is at most [`LONGEST_LINE`].
pub(super) fn bound(members: &mut Map<String, Value>) {
    members.values_mut().for_each(|value| cut(value, LONGEST_TEXT));
    if Value::Object(members.clone()).to_string().len() > LONGEST_LINE - LINE_ROOM {
        members.values_mut().for_each(|value| cut(value, SHORT_TEXT));
    }
    if Value::Object(members.clone()).to_string().len() > LONGEST_LINE - LINE_ROOM {
        members.clear();
        members.insert("cut".to_owned(), true.into());
    }
}

fn cut(value: &mut Value, longest: usize) {
    match value {
        Value::String(text) => {
            if let Some((end, _)) = text.char_indices().nth(longest) {
                text.truncate(end);
                text.push('…');
            }
        }
        Value::Array(values) => {
            values.truncate(MOST_OF_A_LIST);
            values.iter_mut().for_each(|value| cut(value, longest));
        }
        Value::Object(members) => members.values_mut().for_each(|value| cut(value, longest)),
        _ => {}
    }
}

pub(super) fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _never_fails = write!(text, "{byte:02x}");
        text
    })
}

pub(crate) fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    // A number may have a sign, a hash has not.
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, place) in hash.iter_mut().zip(0..) {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(hash)
}

pub(super) const VERSION: u64 = 1;
/// Of a count, its types aside.
const GAP_SIZE: usize = 240;
/// A server takes no longer ones.
pub(super) const LONGEST_LINE: usize = 4096;
/// For what stands around the members.
const LINE_ROOM: usize = 512;
/// In characters.
const LONGEST_TEXT: usize = 1000;
const SHORT_TEXT: usize = 64;
const MOST_OF_A_LIST: usize = 16;

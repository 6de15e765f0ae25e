//! The journal itself: numbered records, each with the hash of the one before, and counts where records were given up.
//!
//! Invariant: the numbers have no hole: what the items hold and what they count is, from the first on, as many as there are numbers. Nothing is taken
//! out before a server has acknowledged it, but the lowest class when there is no room, and then it is counted. Pure.

mod item;

use std::collections::{BTreeMap, VecDeque};

use landfast_identity::UnixTime;
use serde_json::{Map, Value, json};

use super::event::{BEGUN, Class, Event, class_of};
use item::{Body, Item, LONGEST_LINE, VERSION, bound, sha256};
pub(crate) use item::{hex, unhex};

pub(super) type Hash = [u8; 32];

/// When something was, and how sure that is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) time: UnixTime,
    pub(super) quality: &'static str,
}

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    /// 32 hexadecimal digits. Another journal has another name.
    pub(super) id: String,
    /// The ledger that has all before the first item; empty: none.
    pub(super) acknowledged_by: String,
    /// The number and hash before the first item.
    base: (u64, Hash),
    items: VecDeque<Item>,
    bytes: usize,
    limit: usize,
    /// Numbers below it are on disk: what counts them grows no more, or all would have to be written again.
    written: u64,
}

/// Why lines are no journal.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub(super) struct Damage {
    pub(super) line: usize,
    pub(super) what: &'static str,
}

/// What an answer of a server meant.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// So many items are not needed any more.
    Dropped(usize),
    /// It has records under this name that this journal has not, as when the disk was put back.
    Contradicts,
}

impl Journal {
    /// One that holds nothing, of at most about `limit` bytes.
    pub(super) fn new(id: String, limit: usize) -> Self {
        Self {
            id,
            acknowledged_by: String::new(),
            base: (0, [0; 32]),
            items: VecDeque::new(),
            bytes: 0,
            limit,
            written: 0,
        }
    }

    /// All of it is on disk.
    pub(super) fn is_written(&mut self) {
        self.written = self.next();
    }

    /// About the bytes of what is held.
    pub(super) fn size(&self) -> usize {
        self.bytes
    }

    /// The number of the next record.
    pub(super) fn next(&self) -> u64 {
        self.items.back().map_or(self.base.0, |item| item.last + 1)
    }

    fn head(&self) -> Hash {
        self.items.back().map_or(self.base.1, |item| item.chain)
    }

    /// Numbers that no server has acknowledged.
    pub(super) fn waiting(&self) -> u64 {
        self.next() - self.base.0
    }

    /// Of those, how many are only counted.
    pub(super) fn counted(&self) -> u64 {
        let gaps = self.items.iter().filter(|item| item.class().is_none());
        gaps.map(|item| item.last - item.first + 1).sum()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Adds a record.
    pub(super) fn add(&mut self, event: &Event, at: Moment) {
        let (seq, prev) = (self.next(), self.head());
        let mut members = event.members.clone();
        bound(&mut members);
        let mut line = json!({"v": VERSION, "seq": seq, "prev": hex(&prev), "time": at.time.to_string(), "quality": at.quality, "type": event.kind});
        if let (Value::Object(line), false) = (&mut line, members.is_empty()) {
            line.insert("detail".to_owned(), Value::Object(members));
        }
        let line = line.to_string().into_bytes().into_boxed_slice();
        self.push(Item {
            first: seq,
            last: seq,
            prev,
            chain: sha256(&line),
            body: Body::Record {
                class: class_of(event.kind),
                line,
            },
        });
    }

    /// Counts something that is not written down.
    pub(super) fn count(&mut self, kind: &str, number: u64) {
        if number == 0 {
            return;
        }
        let (first, prev) = (self.next(), self.head());
        let item = Item {
            first,
            last: first + number - 1,
            prev,
            chain: prev,
            body: Body::Gap(BTreeMap::from([(kind.to_owned(), number)])),
        };
        match self.items.pop_back() {
            Some(gap) if gap.class().is_none() && gap.first >= self.written => {
                self.bytes -= gap.size();
                self.push(gap.and(item));
            }
            Some(record) => {
                self.items.push_back(record);
                self.push(item);
            }
            None => self.push(item),
        }
    }

    fn push(&mut self, item: Item) {
        self.bytes += item.size();
        self.items.push_back(item);
    }

    /// Whether there is more than there is room for.
    pub(super) fn is_full(&self) -> bool {
        self.bytes > self.limit
    }

    /// Gives up the oldest of the lowest class, and then of the next, until an eighth is free: so that the next does not have it all written again.
    pub(super) fn make_room(&mut self) {
        let enough = self.limit - self.limit / 8;
        for class in Class::ALL {
            if self.bytes <= enough {
                return;
            }
            let mut kept: VecDeque<Item> = VecDeque::with_capacity(self.items.len());
            for item in std::mem::take(&mut self.items) {
                let goes = self.bytes > enough && item.class() == Some(class);
                let item = match goes {
                    true => {
                        self.bytes -= item.size();
                        let gap = item.given_up();
                        self.bytes += gap.size();
                        gap
                    }
                    false => item,
                };
                match kept.pop_back() {
                    Some(before) if before.class().is_none() && item.class().is_none() => {
                        self.bytes -= before.size() + item.size();
                        let both = before.and(item);
                        self.bytes += both.size();
                        kept.push_back(both);
                    }
                    Some(before) => kept.extend([before, item]),
                    None => kept.push_back(item),
                }
            }
            self.items = kept;
        }
    }

    /// The oldest lines, within both bounds, but one at least when there is any.
    pub(super) fn batch(&self, most: usize, most_bytes: usize) -> Vec<Vec<u8>> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        for item in self.items.iter().take(most) {
            let line = item.line();
            bytes += line.len();
            if bytes > most_bytes && !batch.is_empty() {
                break;
            }
            batch.push(line);
        }
        batch
    }

    /// A server has all below `next` in its ledger, the last with this hash.
    pub(super) fn acknowledge(&mut self, next: u64, chain: &[u8], ledger: &str) -> Answered {
        if next > self.next() {
            return Answered::Contradicts;
        }
        if next <= self.base.0 {
            // An answer from before, or of a server that knows less: it will say what it misses.
            return Answered::Dropped(0);
        }
        let mut dropped = 0;
        let covered = self.items.iter().take_while(|item| item.last < next).count();
        if let Some(last) = covered.checked_sub(1).and_then(|last| self.items.get(last))
            && last.last + 1 == next
            && last.chain != chain
        {
            return Answered::Contradicts;
        }
        for _ in 0..covered {
            if let Some(item) = self.items.pop_front() {
                self.bytes -= item.size();
                self.base = (item.last + 1, item.chain);
                dropped += 1;
            }
        }
        ledger.clone_into(&mut self.acknowledged_by);
        Answered::Dropped(dropped)
    }

    /// The same records under another name, numbered from 0 on; the first says why, and what the name was.
    pub(super) fn anew(&self, id: String, why: &str, at: Moment) -> Self {
        let mut new = Self::new(id, self.limit);
        let begun = Event::new(BEGUN)
            .with("why", why)
            .with("before", self.id.clone())
            .with("before_next", self.next())
            .with("acknowledged", self.base.0)
            .with("acknowledged_by", self.acknowledged_by.clone())
            .with("taken_over", self.waiting());
        new.add(&begun, at);
        for item in &self.items {
            match &item.body {
                Body::Gap(counts) => {
                    for (kind, number) in counts {
                        new.count(kind, *number);
                    }
                }
                Body::Record { class, line } => new.take_over(*class, line),
            }
        }
        new
    }

    fn take_over(&mut self, class: Class, line: &[u8]) {
        let (seq, prev) = (self.next(), self.head());
        let Ok(Value::Object(mut members)) = serde_json::from_slice(line) else {
            return;
        };
        members.insert("seq".to_owned(), seq.into());
        members.insert("prev".to_owned(), hex(&prev).into());
        let kind = members.get("type").and_then(Value::as_str).unwrap_or_default();
        let kind = kind.to_owned();
        let line = Value::Object(members).to_string().into_bytes().into_boxed_slice();
        // Its number may have more digits than before.
        if line.len() > LONGEST_LINE {
            return self.count(&kind, 1);
        }
        self.push(Item {
            first: seq,
            last: seq,
            prev,
            chain: sha256(&line),
            body: Body::Record { class, line },
        });
    }

    /// The whole file.
    pub(super) fn file(&self) -> Vec<u8> {
        let head = json!({"v": VERSION, "journal": self.id, "next": self.base.0, "prev": hex(&self.base.1), "acknowledged_by": self.acknowledged_by});
        let mut bytes = format!("{head}\n").into_bytes();
        for item in &self.items {
            bytes.extend_from_slice(&item.line());
            bytes.push(b'\n');
        }
        bytes
    }

    /// What to add to the file, of everything from this number on; `None` when what is in the file has changed.
    pub(super) fn lines_from(&self, first: u64) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for item in self.items.iter().filter(|item| item.last >= first) {
            if item.first < first {
                return None;
            }
            bytes.extend_from_slice(&item.line());
            bytes.push(b'\n');
        }
        Some(bytes)
    }

    /// What was written, as far as it is whole; and what is wrong with the rest. A line that was being written when the power went is not.
    pub(super) fn parse(bytes: &[u8], limit: usize) -> (Option<Self>, Option<Damage>) {
        let mut lines = bytes.split_inclusive(|byte| *byte == b'\n').enumerate();
        let head = lines.next().and_then(|(_, line)| parse_head(line, limit));
        let Some(mut journal) = head else {
            let what = "it does not say which journal it is";
            return (None, Some(Damage { line: 1, what }));
        };
        let last = bytes.ends_with(b"\n");
        for (number, line) in lines {
            let is_torn = !line.ends_with(b"\n") && !last;
            match Item::read(
                line.strip_suffix(b"\n").unwrap_or(line),
                journal.next(),
                journal.head(),
            ) {
                Ok(item) => journal.push(item),
                Err(_) if is_torn => break,
                // A line that ends a torn one, as the next batch began.
                Err(what) => {
                    let line = number + 1;
                    return (Some(journal), Some(Damage { line, what }));
                }
            }
        }
        (Some(journal), None)
    }
}

fn parse_head(line: &[u8], limit: usize) -> Option<Journal> {
    let members: Map<String, Value> = serde_json::from_slice(line).ok()?;
    let text = |name: &str| members.get(name)?.as_str();
    let is_id = |id: &&str| id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let known = members.get("v")?.as_u64() == Some(VERSION);
    let base = (members.get("next")?.as_u64()?, unhex(text("prev")?)?);
    let id = text("journal").filter(is_id)?.to_owned();
    known.then(|| Journal {
        acknowledged_by: text("acknowledged_by").unwrap_or_default().to_owned(),
        base,
        ..Journal::new(id, limit)
    })
}

#[cfg(test)]
mod tests;

//! What comes behind a cursor. Invariant: a bounded number of records, each as it was recorded but for control characters, which no record should have.

use std::io;

use landfast_audit::verify::{DirSource, ReadError, Source as _, read};
use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::json;

use super::cursor::Cursor;
use crate::random;

/// Messages that are delivered together.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// The ledger.
    pub(super) origin: String,
    /// Records that its checkpoint names.
    pub(super) size: u64,
    pub(super) messages: Vec<Message>,
    /// Where the cursor is when they are taken.
    pub(super) next: u64,
    /// SHA-256 of the last record, in hexadecimal; empty of a gap.
    pub(super) last: String,
    /// So many records were there and are not any more.
    pub(super) gap: Option<u64>,
}

/// A record, or what stands for some.
#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) sequence: Option<u64>,
    pub(super) kind: String,
    pub(super) time: Option<String>,
    pub(super) severity: Severity,
    /// JSON, without an end of line.
    pub(super) line: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Severity {
    Error,
    Warning,
    Information,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum BatchError {
    #[error("its checkpoint cannot be read")]
    Checkpoint(#[source] io::Error),
    #[error("its checkpoint is none")]
    NoCheckpoint,
    #[error("its records cannot be read")]
    Records(#[from] ReadError),
}

impl Batch {
    /// Of about so many bytes at most, and one record at least when there is one. Blocks on the disk.
    pub(super) fn after(source: &DirSource, cursor: &Cursor, most: usize) -> Result<Self, BatchError> {
        let (origin, size) = head(source)?;
        let mut batch = Self {
            next: match origin == cursor.origin && cursor.next <= size && goes_on(source, cursor) {
                true => cursor.next,
                // Another ledger, or one that was put back to an older state: nobody knows from where on it is another.
                false => 0,
            },
            origin,
            size,
            messages: Vec::new(),
            last: cursor.last.clone(),
            gap: None,
        };
        if batch.next == size {
            return Ok(batch);
        }
        if let Some(first) = first_present(source, batch.next, size).map_err(BatchError::Checkpoint)? {
            let count = first - batch.next;
            batch.messages.push(Message::gap(batch.next, count));
            (batch.next, batch.gap) = (first, Some(count));
            batch.last.clear();
            return Ok(batch);
        }
        let mut bytes = 0;
        read(source, batch.next, &mut |sequence, record| {
            if sequence >= size {
                return false;
            }
            bytes += record.len();
            batch.last = hash(record);
            batch.messages.push(Message::of(sequence, record));
            batch.next = sequence + 1;
            batch.messages.len() < MOST_RECORDS && bytes < most
        })?;
        Ok(batch)
    }
}

fn head(source: &DirSource) -> Result<(String, u64), BatchError> {
    let text = source
        .read("checkpoint", MAX_CHECKPOINT_BYTES)
        .map_err(BatchError::Checkpoint)?
        .ok_or(BatchError::NoCheckpoint)?;
    let text = String::from_utf8_lossy(&text);
    let mut lines = text.lines();
    let origin = lines.next().filter(|origin| !origin.is_empty());
    let size = lines.next().and_then(|size| size.parse().ok());
    match (origin, size) {
        (Some(origin), Some(size)) => Ok((origin.to_owned(), size)),
        _ => Err(BatchError::NoCheckpoint),
    }
}

/// Whether the record before the cursor is the one that was taken. One that cannot be read, as where it was pruned, is not known to be another.
fn goes_on(source: &DirSource, cursor: &Cursor) -> bool {
    let (Some(before), false) = (cursor.next.checked_sub(1), cursor.last.is_empty()) else {
        return true;
    };
    let mut is_it = true;
    let read = read(source, before, &mut |sequence, record| {
        is_it = sequence != before || hash(record) == cursor.last;
        false
    });
    read.is_err() || is_it
}

fn hash(record: &[u8]) -> String {
    random::hex(digest(&SHA256, record).as_ref())
}

/// The first record that is still there, when the one at `next` was removed. Only a full bundle can have been: what is removed is a beginning.
fn first_present(source: &DirSource, next: u64, size: u64) -> io::Result<Option<u64>> {
    let full = size / WIDTH;
    let is_there = |index: u64| source.exists(&entries(index));
    let mut absent = next / WIDTH;
    if absent >= full || is_there(absent)? {
        return Ok(None);
    }
    // The bundle behind the last full one is never removed.
    let mut present = full;
    while present - absent > 1 {
        let middle = absent + (present - absent) / 2;
        match is_there(middle)? {
            true => present = middle,
            false => absent = middle,
        }
    }
    Ok(Some(present * WIDTH))
}

/// See `docs/formats/ledger.md`, Files.
fn entries(index: u64) -> String {
    let (mut path, mut rest) = (format!("{:03}", index % 1000), index / 1000);
    while rest > 0 {
        path = format!("x{:03}/{path}", rest % 1000);
        rest /= 1000;
    }
    format!("tile/entries/{path}")
}

trait Exists {
    fn exists(&self, path: &str) -> io::Result<bool>;
}

impl Exists for DirSource {
    /// One that cannot be read is there.
    fn exists(&self, path: &str) -> io::Result<bool> {
        match self.read(path, 0) {
            Ok(found) => Ok(found.is_some()),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(true),
            Err(error) => Err(error),
        }
    }
}

/// What is read of a record to say how grave it is.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Seen {
    #[serde(rename = "type")]
    kind: String,
    time: Option<String>,
    decision: String,
    result: String,
}

impl Message {
    fn of(sequence: u64, record: &[u8]) -> Self {
        let seen: Seen = serde_json::from_slice(record).unwrap_or_default();
        let severity = match (seen.result.as_str(), seen.decision.as_str()) {
            ("failed", _) => Severity::Error,
            ("refused", _) | (_, "deny") => Severity::Warning,
            _ => Severity::Information,
        };
        Self {
            sequence: Some(sequence),
            kind: seen.kind,
            time: seen.time,
            severity,
            line: on_one_line(&String::from_utf8_lossy(record)),
        }
    }

    /// In the place of records that nobody will get any more.
    fn gap(first: u64, count: u64) -> Self {
        let kind = "forward.gap".to_owned();
        let line = json!({
            "category": "audit-log", "detail": { "count": count, "first": first }, "result": "failed", "type": kind, "v": 1,
        });
        Self {
            sequence: None,
            kind,
            time: None,
            severity: Severity::Error,
            line: line.to_string(),
        }
    }
}

/// Records have no control characters; a file that was changed may.
fn on_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() {
            true => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => out.push(c),
        }
    }
    out
}

/// In a bundle.
const WIDTH: u64 = 256;
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;
/// In a batch.
const MOST_RECORDS: usize = 4096;

//! What was seen of ledgers, as it is kept (`docs/formats/journal.md`). Invariant: bounded; a file that is not what was written is damaged, whatever it
//! says: a number that is wrong would make a liar of an honest server.

use landfast_proto::landfast::ledger::v1 as pb;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Report;
use crate::journal::hex;

/// The last good checkpoint of each ledger, the one shown last at the end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seen {
    /// At most [`MOST`]: none is forgotten for another.
    ledgers: Vec<Head>,
    /// At most [`MOST_FORKS`].
    forks: Vec<Fork>,
}

/// A checkpoint that was verified.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Head {
    pub(super) size: u64,
    /// Hexadecimal.
    pub(super) root: String,
    pub(super) note: String,
    #[serde(rename = "verifier_key")]
    pub(super) key: String,
}

impl Head {
    pub(super) fn origin(&self) -> &str {
        self.note.lines().next().unwrap_or_default()
    }
}

/// A ledger that has contradicted itself, with both checkpoints: they prove it to anybody.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fork {
    pub(super) origin: String,
    pub(super) what: String,
    pub(super) seen: String,
    pub(super) shown: String,
    pub(super) time: String,
}

impl Fork {
    pub(super) fn new(kept: &Head, what: &str, shown: &str) -> Self {
        Self {
            origin: kept.origin().to_owned(),
            what: what.chars().take(LONGEST_WHAT).collect(),
            seen: kept.note.clone(),
            shown: shown.to_owned(),
            time: String::new(),
        }
    }

    pub(super) fn at(self, time: String) -> Self {
        Self { time, ..self }
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    seen: Seen,
    /// Of `seen` as it stands there.
    digest: String,
}

impl Seen {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        let file: File = serde_json::from_slice(bytes).map_err(|_cause| "the file is damaged")?;
        match file {
            File { version, .. } if version != VERSION => Err("the file is of another version"),
            File { digest, seen, .. } if digest == seen.digest() => Ok(seen),
            _ => Err("the digest of the file is of something else"),
        }
    }

    pub(super) fn file(&self) -> Vec<u8> {
        let file = File {
            version: VERSION,
            seen: self.clone(),
            digest: self.digest(),
        };
        serde_json::to_vec(&file).unwrap_or_default()
    }

    fn digest(&self) -> String {
        let text = serde_json::to_vec(self).unwrap_or_default();
        hex(digest(&SHA256, &text).as_ref())
    }

    pub(super) fn of(&self, origin: &str) -> Option<&Head> {
        self.ledgers.iter().find(|head| head.origin() == origin)
    }

    pub(super) fn last(&self) -> Option<&Head> {
        self.ledgers.last()
    }

    pub(super) fn sizes(&self) -> Vec<pb::Seen> {
        let sizes = self.ledgers.iter().map(|head| pb::Seen {
            origin: head.origin().to_owned(),
            size: head.size,
        });
        sizes.collect()
    }

    /// Another ledger cannot be kept.
    pub(super) fn is_full(&self) -> bool {
        self.ledgers.len() >= MOST
    }

    /// In the place of what was kept of the same ledger. One that is new when it [is full](Self::is_full) is not kept.
    pub(super) fn keep(&mut self, head: Head) {
        self.ledgers.retain(|kept| kept.origin() != head.origin());
        if !self.is_full() {
            self.ledgers.push(head);
        }
    }

    /// Whether it is new: the same contradiction is told once.
    pub(super) fn accuse(&mut self, fork: Fork) -> bool {
        let same =
            |known: &Fork| known.origin == fork.origin && known.what == fork.what && known.seen == fork.seen;
        if self.forks.iter().any(same) {
            return false;
        }
        if self.forks.len() >= MOST_FORKS {
            self.forks.remove(0);
        }
        self.forks.push(fork);
        true
    }

    pub(super) fn report(&self) -> Report {
        let last = self
            .last()
            .map(|head| format!("{} at {} records", head.origin(), head.size));
        let text = last.unwrap_or_default();
        match self.forks.last() {
            None => Report {
                text,
                ..Report::default()
            },
            Some(fork) => Report {
                text: format!(
                    "FORK: {} contradicts what this node saw of it ({}, at {}); keep its directory as evidence, and see docs/operations.md; last good: {text}",
                    fork.origin, fork.what, fork.time
                ),
                fork: true,
                ..Report::default()
            },
        }
    }
}

const VERSION: u32 = 1;
/// Servers that share a database have one each.
pub(super) const MOST: usize = 16;
const MOST_FORKS: usize = 8;
/// Of what a fork is, in characters: it may quote what was shown.
const LONGEST_WHAT: usize = 300;

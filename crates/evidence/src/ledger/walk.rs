//! Every record of a ledger that counts, one after the other. Invariant: nothing is kept of a record that nobody asks for, so a ledger may be of any length.

use std::borrow::Cow;
use std::collections::BTreeSet;

use landfast_audit::verify::{ReadError, read};
use serde::Deserialize;

use super::Ledger;
use super::files::Pinned;
use crate::period::Span;
use crate::record::{Record, Ref};

/// What says where a record belongs; the rest is passed over.
#[derive(Deserialize)]
pub(super) struct Placed<'a> {
    pub(super) seq: u64,
    #[serde(borrow, rename = "type")]
    pub(super) kind: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    detail: Option<Detail<'a>>,
}

#[derive(Deserialize)]
struct Detail<'a> {
    #[serde(borrow, default)]
    received: Option<Cow<'a, str>>,
    #[serde(default)]
    first_record: Option<u64>,
}

impl<'a> Placed<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let plain = serde_json::from_str::<Self>(text);
        plain
            .ok()
            .or_else(|| Self::of(&Record::parse(Ref { ledger: 1, record: 0 }, text)?))
    }

    /// Of one with members that have other forms than they should.
    fn of(record: &Record) -> Option<Self> {
        let detail = Detail {
            received: record.says("received").map(|text| Cow::Owned(text.to_owned())),
            first_record: Some(record.counts("first_record")),
        };
        Some(Self {
            seq: record.at.record,
            kind: Cow::Owned(record.kind.clone()),
            time: record.time.clone().map(Cow::Owned),
            detail: Some(detail),
        })
    }
}

impl Placed<'_> {
    /// As [`Record::placed`](crate::Record::placed).
    pub(super) fn placed(&self) -> Option<&str> {
        self.received().or(self.time.as_deref())
    }

    pub(super) fn received(&self) -> Option<&str> {
        let received = self.detail.as_ref().and_then(|detail| detail.received.as_deref());
        received.filter(|_| self.kind.starts_with("agent."))
    }

    pub(super) fn pruned_before(&self) -> u64 {
        let says = matches!(&*self.kind, "log.pruned" | "log.started");
        let detail = self.detail.as_ref().filter(|_| says);
        detail.and_then(|detail| detail.first_record).unwrap_or(0)
    }
}

impl Ledger {
    /// Gives each record that counts, until `each` says that it is enough. Reads on behind what is damaged. Gives what was not there.
    pub(super) fn walk(&self, each: &mut dyn FnMut(&Placed<'_>, &str) -> bool) -> Vec<Span> {
        let pinned = Pinned {
            files: &self.source,
            checkpoint: &self.checkpoint,
        };
        let is_whole = self.findings.is_empty();
        let (mut absent, mut expected, mut proven) = (Vec::new(), 0, BTreeSet::new());
        let (mut next, mut enough) = (0, false);
        while next < self.head.size && !enough {
            let mut seen = next;
            let ended = read(&pinned, next, &mut |place, line| {
                seen = place + 1;
                let text = std::str::from_utf8(line).unwrap_or_default();
                let Some(found) = Placed::parse(text) else {
                    return true;
                };
                // Behind a record that was taken out the others are not at their places, and are what they were.
                let counts = match is_whole {
                    true => found.seq == place,
                    false => self.is_proven(line, found.seq) && proven.insert(found.seq),
                };
                if counts {
                    if is_whole {
                        Span::add(&mut absent, expected, place);
                        expected = place + 1;
                    }
                    enough = !each(&found, text);
                }
                !enough
            });
            next = match ended {
                Ok(_) | Err(ReadError::Checkpoint(_)) => self.head.size,
                Err(ReadError::Malformed(begins)) => begins + BUNDLE,
                // The first bundle of which nothing was given.
                Err(ReadError::Missing(_)) => (seen.div_ceil(BUNDLE) + 1) * BUNDLE,
            };
        }
        match is_whole {
            true => {
                Span::add(&mut absent, expected, self.head.size);
                absent
            }
            false => Span::between(proven.into_iter(), 0, self.head.size),
        }
    }
}

const BUNDLE: u64 = 256;

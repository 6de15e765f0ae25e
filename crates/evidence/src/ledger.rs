//! Ledgers as directories. Invariant: a record that is given away was proven to be in the tree that the key has signed, or the whole tree was verified.

mod error;
mod files;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use landfast_audit::Prover;
use landfast_audit::verify::{
    Finding, ReadError, SignedHead, Source, VerifierKey, read, verify, verify_inclusion,
};

use crate::evidence::{Evidence, Head, Period, Span};
use crate::record::{Record, Ref};
pub use error::LedgerError;
use files::{Cached, Pinned};

/// One ledger, verified.
pub struct Ledger {
    directory: PathBuf,
    source: Cached,
    /// The verifier key, as a line.
    pub key_line: String,
    key: VerifierKey,
    /// Whether the key is one that somebody kept, or the one that lies in the directory.
    pub key_was_kept: bool,
    /// The checkpoint, as it is signed.
    pub checkpoint: Vec<u8>,
    head: SignedHead,
    /// What is not as it was signed.
    pub findings: Vec<Finding>,
    /// Record before which the clock had gone back, the first, and how many times it did.
    pub went_back: Option<(u64, u64)>,
}

/// Several ledgers, joined by time.
pub struct Ledgers {
    all: Vec<Ledger>,
}

impl Ledger {
    /// Opens and verifies it. Without a kept key the one that lies in the directory is taken, which whoever changed the records can have changed too.
    ///
    /// # Errors
    /// There is no key, or no checkpoint that it has signed. A ledger whose records were changed opens: its findings say so.
    pub fn open(
        directory: &Path,
        kept: Option<&str>,
        checkpoints: &[(String, Vec<u8>)],
    ) -> Result<Self, LedgerError> {
        let source = Cached::new(directory);
        let bytes = |name: &str| source.read(name, SMALL_FILE).ok().flatten();
        let key_line = match kept {
            Some(line) => line.trim().to_owned(),
            None => {
                let line = bytes("verifier-key").and_then(|bytes| String::from_utf8(bytes).ok());
                let line = line.ok_or_else(|| LedgerError::NoKey {
                    directory: directory.to_owned(),
                })?;
                line.trim().to_owned()
            }
        };
        let key = VerifierKey::parse(&key_line).map_err(|error| LedgerError::Key {
            directory: directory.to_owned(),
            what: error.to_string(),
        })?;
        let unbelieved = |what: String| LedgerError::Checkpoint {
            directory: directory.to_owned(),
            what,
        };
        let checkpoint = bytes("checkpoint").ok_or_else(|| unbelieved("there is none".to_owned()))?;
        let head = key
            .checkpoint(&checkpoint)
            .map_err(|error| unbelieved(error.to_string()))?;
        // The server may sign the next checkpoint meanwhile: what is verified is what this one names.
        let pinned = Pinned {
            files: &source,
            checkpoint: &checkpoint,
        };
        let report = verify(&pinned, &key, checkpoints);
        Ok(Self {
            directory: directory.to_owned(),
            source,
            key_line,
            key,
            key_was_kept: kept.is_some(),
            checkpoint,
            head,
            findings: report.findings,
            went_back: report
                .first_time_went_back
                .map(|first| (first, report.time_went_back)),
        })
    }

    /// The name of the log.
    #[must_use]
    pub fn origin(&self) -> &str {
        self.key.name()
    }

    /// Where it was read.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The hashes that lead from this record to the root.
    ///
    /// # Errors
    /// A file of hashes is missing or was changed.
    pub(crate) fn proof(&self, record: u64) -> Result<Vec<[u8; 32]>, LedgerError> {
        let (source, size): (&dyn Source, u64) = (&self.source, self.head.size);
        let proof = Prover::new(source, size, size).and_then(|prover| prover.inclusion(record));
        proof.map_err(|source| LedgerError::Proof {
            directory: self.directory.clone(),
            record,
            source,
        })
    }

    fn is_proven(&self, line: &[u8], record: u64) -> bool {
        let head = (self.head.size, &self.head.root);
        self.proof(record)
            .is_ok_and(|proof| verify_inclusion(line, record, head, &proof))
    }

    /// One record, where it is there and proven.
    pub(crate) fn one(&self, ledger: usize, number: u64) -> Option<Record> {
        let mut found = None;
        let pinned = Pinned {
            files: &self.source,
            checkpoint: &self.checkpoint,
        };
        let ended = read(&pinned, number, &mut |place, line| {
            let text = std::str::from_utf8(line).unwrap_or_default();
            let record = Record::parse(
                Ref {
                    ledger,
                    record: place,
                },
                text,
            );
            found = record.filter(|record| record.at.record == number && self.is_proven(line, number));
            false
        });
        ended.ok().and(found)
    }

    /// Every record that counts, and the numbers of those that are missing. Reads on behind what is damaged.
    fn records(&self, ledger: usize, each: &mut dyn FnMut(Record) -> bool) -> Vec<Span> {
        let pinned = Pinned {
            files: &self.source,
            checkpoint: &self.checkpoint,
        };
        let is_whole = self.findings.is_empty();
        let (mut proven, mut next, mut enough) = (BTreeSet::new(), 0, false);
        while next < self.head.size && !enough {
            let mut seen = next;
            let ended = read(&pinned, next, &mut |place, line| {
                seen = place + 1;
                let text = std::str::from_utf8(line).unwrap_or_default();
                let found = Record::parse(
                    Ref {
                        ledger,
                        record: place,
                    },
                    text,
                );
                // Behind a record that was taken out the others are not at their places, and are what they were.
                let counts = |record: &Record| {
                    let own = record.at.record;
                    is_whole && own == place || !is_whole && self.is_proven(line, own)
                };
                if let Some(record) = found.filter(counts)
                    && (is_whole || proven.insert(record.at.record))
                {
                    enough = !each(record);
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
            true => Vec::new(),
            false => Span::between(proven.into_iter(), 0, self.head.size),
        }
    }
}

impl Ledgers {
    /// These together, in this order.
    #[must_use]
    pub fn new(all: Vec<Ledger>) -> Self {
        Self { all }
    }

    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Ledger] {
        &self.all
    }

    /// What they say about a period: everything within it, and of what was before what still stands (entries, policies, persons, the log itself).
    ///
    /// # Errors
    /// That is more than fits.
    pub fn evidence(&self, period: &Period) -> Result<Evidence, LedgerError> {
        let (mut records, mut ledgers) = (Vec::new(), Vec::new());
        for (index, ledger) in self.all.iter().enumerate() {
            let mut of_this: Vec<Record> = Vec::new();
            let (mut first, mut end, mut last_time) = (None, 0, None);
            let missing = ledger.records(index + 1, &mut |record| {
                // What has no time is where the record before it is.
                last_time = record.time.clone().or_else(|| last_time.take());
                let is_within = match &last_time {
                    Some(time) => period.has(Some(time)),
                    None => period.from.is_none(),
                };
                if is_within {
                    let number = record.at.record;
                    first = Some(first.unwrap_or(number).min(number));
                    end = end.max(number + 1);
                }
                // Between two of the period everything counts: a clock may have been set.
                if is_within || first.is_some() || stands(&record) {
                    of_this.push(record);
                }
                of_this.len() <= MOST_RECORDS
            });
            if of_this.len() > MOST_RECORDS {
                return Err(LedgerError::TooMany);
            }
            let (first, end) = widened(first, end, &of_this, &missing, ledger.head.size, period);
            of_this.retain(|record| {
                let number = record.at.record;
                (first..end).contains(&number) || number < first && stands(record)
            });
            of_this.sort_by_key(|record| record.at);
            let there = of_this.iter().map(|record| record.at.record);
            let there = there.filter(|record| (first..end).contains(record));
            ledgers.push(Head {
                origin: ledger.origin().to_owned(),
                key_id: ledger.key.id(),
                size: ledger.head.size,
                root: ledger
                    .head
                    .root
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect(),
                first,
                end,
                missing: Span::between(there, first, end),
            });
            records.extend(of_this);
        }
        Ok(Evidence::new(ledgers, records, period.clone()))
    }
}

/// The range of numbers that a period covers: with what is missing at either end, as nobody can say when that was.
fn widened(
    first: Option<u64>,
    end: u64,
    records: &[Record],
    missing: &[Span],
    size: u64,
    period: &Period,
) -> (u64, u64) {
    let (mut first, mut end) = match first {
        Some(first) => (first, end),
        // Nothing in the period: the place where it would be.
        None => {
            let before = records
                .iter()
                .filter(|record| period.is_before(record.time.as_deref()));
            let place = before
                .map(|record| record.at.record + 1)
                .max()
                .unwrap_or(0)
                .min(size);
            (place, place)
        }
    };
    for span in missing.iter().rev() {
        if span.first < first && span.last + 1 >= first {
            first = span.first;
        }
    }
    for span in missing {
        if (span.first..=span.last).contains(&end) {
            end = span.last + 1;
        }
    }
    (first, end)
}

/// Whether a record counts for what comes after it.
pub(crate) fn stands(record: &Record) -> bool {
    let kinds = ["entry", "policy", "person", "node", "log", "recovery"];
    kinds.iter().any(|kind| record.is_kind(kind))
}

const BUNDLE: u64 = 256;
const SMALL_FILE: u64 = 64 * 1024;
/// Records in memory at once: some kilobytes each.
pub(crate) const MOST_RECORDS: usize = 1_000_000;

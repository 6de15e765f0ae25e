//! Ledgers as directories. Invariant: a record that is given away was proven to be in the tree that the key has signed, or the whole tree was verified.

mod error;
mod files;
mod joined;
mod walk;

use std::path::{Path, PathBuf};

use landfast_audit::Prover;
use landfast_audit::verify::{
    Finding, SignedHead, Source, VerifierKey, read, verify, verify_consistency, verify_inclusion,
};

use crate::record::{Record, Ref};
pub use error::LedgerError;
use files::{Cached, Pinned};
pub use joined::Ledgers;
pub(crate) use joined::stands;

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
    /// Checkpoints that somebody kept, and that this ledger is the continuation of.
    kept: Vec<SignedHead>,
    /// What is not as it was signed.
    pub findings: Vec<Finding>,
}

/// How one is opened.
#[derive(Clone, Debug, Default)]
pub struct Opening<'a> {
    /// A verifier key that somebody kept. Without one the key that lies in the directory is taken, which whoever changed the records can have changed too.
    pub key: Option<&'a str>,
    /// Checkpoints that somebody kept, each with a name for people.
    pub checkpoints: &'a [(String, Vec<u8>)],
    /// Archives of what was pruned from it.
    pub archives: &'a [PathBuf],
}

impl Ledger {
    /// Opens and verifies it.
    ///
    /// # Errors
    /// There is no key, or no checkpoint that it has signed. A ledger whose records were changed opens: its findings say so.
    pub fn open(directory: &Path, opening: &Opening<'_>) -> Result<Self, LedgerError> {
        let source = Cached::new(directory, opening.archives);
        let bytes = |name: &str| source.read(name, SMALL_FILE).ok().flatten();
        let key_line = match opening.key {
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
        let report = verify(&pinned, &key, opening.checkpoints);
        let kept = opening.checkpoints.iter();
        let kept = kept.filter_map(|(_, note)| key.checkpoint(note).ok());
        Ok(Self {
            directory: directory.to_owned(),
            kept: kept.collect(),
            source,
            key_line,
            key,
            key_was_kept: opening.key.is_some(),
            checkpoint,
            head,
            findings: report.findings,
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

    fn prover(&self) -> Result<Prover<'_>, landfast_audit::ProveError> {
        let source: &dyn Source = &self.source;
        Prover::new(source, self.head.size, self.head.size)
    }

    /// The hashes that lead from this record to the root.
    ///
    /// # Errors
    /// A file of hashes is missing or was changed.
    pub(crate) fn proof(&self, record: u64) -> Result<Vec<[u8; 32]>, LedgerError> {
        let proof = self.prover().and_then(|prover| prover.inclusion(record));
        proof.map_err(|source| LedgerError::Proof {
            directory: self.directory.clone(),
            record,
            source,
        })
    }

    /// Of each checkpoint that somebody kept, its size, and the hashes that lead from it to this one.
    pub(crate) fn continued(&self) -> Vec<(u64, Vec<[u8; 32]>)> {
        let head = (self.head.size, &self.head.root);
        let mut all = Vec::new();
        for kept in self.kept.iter().filter(|kept| kept.size <= self.head.size) {
            let proof = self.prover().and_then(|prover| prover.consistency(kept.size));
            let holds = |proof: &Vec<_>| verify_consistency((kept.size, &kept.root), head, proof);
            all.extend(proof.ok().filter(holds).map(|proof| (kept.size, proof)));
        }
        all.sort();
        all.dedup();
        all
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
            let at = Ref {
                ledger,
                record: place,
            };
            let record = Record::parse(at, text);
            found = record.filter(|record| record.at.record == number && self.is_proven(line, number));
            false
        });
        ended.ok().and(found)
    }
}

const SMALL_FILE: u64 = 64 * 1024;

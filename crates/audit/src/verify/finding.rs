//! What the verifier says. Invariant: a log without findings is exactly what its key has signed.

use std::collections::BTreeMap;

use serde::Serialize;

/// What was looked at, and what is wrong with it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// The name of the log.
    pub origin: String,
    /// The ID of its key.
    pub key_id: String,
    /// Records that the checkpoint names.
    pub records: u64,
    /// Its root, in hex.
    pub root: String,
    /// Records from the first on that are not here: they were pruned. What is left adds up to the checkpoint with the hashes that stayed of them.
    pub pruned: u64,
    /// What the log's own records say of that: from this record on it was whole, when its server last looked. Less than `pruned` is so until that server
    /// has looked again, or when somebody else took them.
    pub pruned_recorded: u64,
    /// Remembered checkpoints that end among those, where their hashes are gone too, so that nothing can be said of them without the archive.
    pub unseen: u64,
    /// Remembered checkpoints that this log is the continuation of.
    pub remembered: u64,
    /// The time of the first record that has one.
    pub first_time: Option<String>,
    /// The time of the last record that has one.
    pub last_time: Option<String>,
    /// How sure the times are: records of each quality.
    pub time_quality: BTreeMap<String, u64>,
    /// Records whose time is before that of the record before. No finding: clocks are set.
    pub time_went_back: u64,
    /// The first of them.
    pub first_time_went_back: Option<u64>,
    /// Findings, the most telling first; none is good.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Whether everything is as it was signed.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Something that is not as it was signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it looks like.
    pub kind: Kind,
    /// The first record it concerns, as far as that can be said.
    pub record: Option<u64>,
    /// A sentence.
    pub what: String,
}

/// What a finding looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Another key has signed the checkpoint, or it is of another log.
    ForeignKey,
    /// The checkpoint is missing, none, or not what was signed.
    Checkpoint,
    /// Two checkpoints of the same key contradict each other.
    Fork,
    /// The log ends before a checkpoint that is remembered.
    Truncation,
    /// Records have changed places.
    Reordering,
    /// A record is gone.
    Deletion,
    /// A record was put in.
    Insertion,
    /// A record is not what it was.
    Edit,
    /// Records and hashes agree with each other, and not with the checkpoint.
    Rewritten,
    /// A file is missing or cannot be read.
    Missing,
    /// A file of hashes is not what it was; the records are.
    Hashes,
    /// A record is none.
    Malformed,
    /// What was given as a remembered checkpoint is none of this log.
    Remembered,
}

impl Finding {
    pub(super) fn new(kind: Kind, record: Option<u64>, what: impl Into<String>) -> Self {
        Self {
            kind,
            record,
            what: what.into(),
        }
    }
}

//! What verifying a pack says. Invariant: a pack without findings is whole, and is what the key has signed.

use serde::Serialize;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PackReport {
    /// Whether each key is one that was given, and not only the one in the pack.
    pub authoritative: bool,
    /// The logs, with the IDs of their keys.
    pub logs: Vec<String>,
    /// `early-warning`, `notification` or `final`.
    pub stage: String,
    /// The case.
    pub case: Option<String>,
    /// What it is about.
    pub period: String,
    /// Records whose proof holds.
    pub proven: u64,
    /// Records of the period that are missing.
    pub missing: u64,
    /// Of the report, when it follows from the records.
    pub score: Option<u64>,
    /// Whether the end of the period was reached in each log. If not, the pack has all of it to the end of the log, and what came then may be of it.
    pub to_the_end: bool,
    /// Checkpoints that somebody kept, and that the logs are the continuation of, or that say nothing of the period.
    pub continues: u64,
    /// What is not wrong, and has to be known.
    pub notes: Vec<String>,
    /// What is wrong; none is good.
    pub findings: Vec<PackFinding>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PackFinding {
    /// In which file of the pack.
    pub file: String,
    /// The record it concerns.
    pub record: Option<u64>,
    /// A sentence.
    pub what: String,
}

impl PackFinding {
    pub(super) fn of_file(file: &str, what: String) -> Self {
        Self {
            file: file.to_owned(),
            record: None,
            what,
        }
    }

    pub(super) fn of_record(file: &str, record: u64, what: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            record: Some(record),
            what: what.into(),
        }
    }
}

impl PackReport {
    /// Whether everything is as it was signed, and all of it is there.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.findings.is_empty()
    }
}

//! Where in its history a database is. Invariant: what has lost something that is known does not count as what came after it.

use tokio_postgres::Row;

use super::row::get;
use crate::datastore::DatastoreError;

/// Where in its history a database is.
#[derive(Clone, Default, Debug)]
pub(super) struct Position {
    pub(super) epoch: i64,
    pub(super) revision: i64,
    pub(super) mark: String,
    /// The version of the journal of authorities, which has no revision: whoever lost a revocation is noticed by it.
    pub(super) journal: i64,
    pub(super) journal_mark: String,
}

/// The marks that a database has where somebody else stands: a longer history that has others is another history. `None` where it keeps none.
#[derive(Default, Debug)]
pub(super) struct Traces {
    pub(super) revision: Option<String>,
    pub(super) journal: Option<String>,
}

impl Position {
    /// Of a row of `state`.
    pub(super) fn of(state: &Row) -> Result<Self, DatastoreError> {
        Ok(Self {
            epoch: get(state, "epoch")?,
            revision: get(state, "newest")?,
            mark: get(state, "newest_mark")?,
            journal: get(state, "journal_version")?,
            journal_mark: get(state, "journal_mark")?,
        })
    }

    pub(super) fn number(&self) -> (i64, i64) {
        (self.epoch, self.revision)
    }

    /// The journal of this version was seen, in this epoch.
    pub(super) fn learn_journal(&mut self, version: i64, mark: &str) {
        if version > self.journal {
            self.journal = version;
            mark.clone_into(&mut self.journal_mark);
        }
    }

    /// Whether what there is now may have come after this. The traces are those of this position.
    pub(super) fn leads_to(&self, now: &Self, traces: &Traces) -> Result<(), DatastoreError> {
        let (known, found) = (self.number(), now.number());
        if found < known || (found == known && self.mark != now.mark) {
            return Err(self.went_back(now));
        }
        if now.epoch != self.epoch {
            // Somebody has said that it is to hold.
            return Ok(());
        }
        let is_other = |trace: &Option<String>, mark: &str| trace.as_ref().is_some_and(|found| found != mark);
        if is_other(&traces.revision, &self.mark) {
            return Err(self.went_back(now));
        }
        let same_journal = now.journal == self.journal;
        match now.journal < self.journal
            || (same_journal && now.journal_mark != self.journal_mark)
            || is_other(&traces.journal, &self.journal_mark)
        {
            true => Err(DatastoreError::JournalWentBack {
                known: self.journal.unsigned_abs(),
                found: now.journal.unsigned_abs(),
            }),
            false => Ok(()),
        }
    }

    pub(super) fn went_back(&self, to: &Self) -> DatastoreError {
        DatastoreError::WentBack {
            known: self.revision.unsigned_abs(),
            found: to.revision.unsigned_abs(),
        }
    }
}

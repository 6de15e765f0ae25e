//! Where in its history a database is. Invariant: what has lost something that is known does not count as what came after it.

use crate::datastore::DatastoreError;

/// Where in its history a database is.
#[derive(Clone, Default, Debug)]
pub(super) struct Position {
    pub(super) epoch: i64,
    pub(super) revision: i64,
    pub(super) mark: String,
    /// The version of the journal of authorities, which has no revision: whoever lost a revocation is noticed by it.
    pub(super) journal: i64,
}

impl Position {
    pub(super) fn number(&self) -> (i64, i64) {
        (self.epoch, self.revision)
    }

    /// Whether what there is now may have come after this.
    pub(super) fn leads_to(&self, now: &Self) -> Result<(), DatastoreError> {
        let (known, found) = (self.number(), now.number());
        let lost_authorities = now.epoch == self.epoch && now.journal < self.journal;
        match found < known || (found == known && self.mark != now.mark) || lost_authorities {
            true => Err(self.went_back(now)),
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

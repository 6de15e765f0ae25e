//! What was not signed because it must not be is recorded too. Invariant: who asked and why not; nobody waits for it.

use landfast_identity::SpiffeId;

use super::{IssueError, Issuer, Requester};
use crate::ledger;

impl Issuer {
    /// The same answer; a denial is in the ledger soon.
    pub(super) fn told<T>(
        &self,
        who: &Requester,
        (subject, entry): (&SpiffeId, Option<&str>),
        answer: Result<T, IssueError>,
    ) -> Result<T, IssueError> {
        if let Err(error) = &answer
            && let Some(record) = ledger::denied(self.clock.now(), who, subject, entry, error)
        {
            self.ledger.note(record);
        }
        answer
    }
}

//! Whether a write succeeds. Invariant: it leaves nothing behind but a commit.

use super::writer::Tx;
use crate::datastore::DatastoreError;

/// Takes some pages, gives them back, and changes a row into itself, so that the commit has something to write.
pub(super) fn run(tx: &Tx<'_>) -> Result<(), DatastoreError> {
    Ok(tx.conn().execute_batch(
        "SAVEPOINT probe;
         INSERT INTO join_tokens (hash, expires_at) VALUES (zeroblob(16384), 0);
         ROLLBACK TO probe;
         RELEASE probe;
         UPDATE state SET revision = revision;",
    )?)
}

//! What goes when nobody needs it, and whether a write succeeds. Invariant: a batch is as small as it was asked to be.

use super::row::limit;
use super::tx::Tx;
use super::{authorities, entries, records, tokens};
use crate::datastore::{DatastoreError, Prune};

pub(super) async fn run(tx: &mut Tx, what: Prune, most: usize) -> Result<usize, DatastoreError> {
    match what {
        Prune::Records { expired_before } => records::prune(tx, expired_before, most).await,
        Prune::Entries { now } => entries::prune(tx, now, most).await,
        Prune::Tokens { before } => tokens::prune(tx, before, most).await,
        Prune::Authorities { ended_before } => authorities::outlive(tx, ended_before, most).await,
        Prune::Tombstones { before } => {
            let most = limit(most);
            let buried = tx.execute(TOMBSTONES, &[&before.as_secs(), &most]).await?;
            let rest = most - i64::try_from(buried).unwrap_or(most);
            let passed = tx.execute(CHANGES, &[&rest]).await?;
            Ok(usize::try_from(buried + passed).unwrap_or(usize::MAX))
        }
    }
}

/// Takes room for a row, gives it back, and changes a row into itself, so that the commit has something to write.
pub(super) async fn probe(tx: &mut Tx) -> Result<(), DatastoreError> {
    tx.batch("SAVEPOINT probe").await?;
    let blank = [0_u8; 1024];
    tx.execute(
        "INSERT INTO join_tokens (hash, expires_at) VALUES ($1, 0)",
        &[&blank.as_slice()],
    )
    .await?;
    tx.batch("ROLLBACK TO SAVEPOINT probe; RELEASE SAVEPOINT probe")
        .await
}

const TOMBSTONES: &str = "DELETE FROM changes WHERE revision IN (SELECT revision FROM changes WHERE body IS NULL AND at < $1 \
    ORDER BY revision LIMIT $2)";
/// After an hour a server that has not read them reads everything anew. The last thousand stay: by them a server sees that the database is the
/// one it knows.
const CHANGES: &str = "DELETE FROM changes WHERE revision IN (SELECT c.revision FROM changes c, state s WHERE c.body IS NOT NULL \
    AND c.at < extract(epoch FROM now()) - 3600 AND c.revision < s.revision - 1000 ORDER BY c.revision LIMIT $1)";

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

/// Takes new room on the disk, gives it back, and changes a row into itself, so that the commit has something to write. A row more in a table
/// that is there would say nothing: it may find room in a page of before, on a disk that is full, and be refused the next time. Nor is a table
/// that is there emptied for it: whoever dumps the database would be in the way.
pub(super) async fn probe(tx: &mut Tx, pages: u32) -> Result<(), DatastoreError> {
    if let Some(room) = room(pages, tx.notifies()) {
        tx.batch(&room).await?;
    }
    tx.execute("UPDATE state SET revision = revision", &[]).await?;
    Ok(())
}

/// What takes it. Nothing where there is no NOTIFY: such databases restrict, or do not undo, a table that is made within a savepoint.
fn room(pages: u32, notifies: bool) -> Option<String> {
    let rows = pages * ROWS;
    notifies.then(|| {
        format!(
            "SAVEPOINT probe; CREATE UNLOGGED TABLE room (n BIGINT); INSERT INTO room SELECT generate_series(1, {rows}); \
             ROLLBACK TO SAVEPOINT probe; RELEASE SAVEPOINT probe"
        )
    })
}

/// What is asked for while nothing has failed.
pub(super) const LITTLE: u32 = 2;
/// What there has to be after the disk was full, before it counts as mended: on the last page of a disk one write fails and the next does not.
pub(super) const AMPLE: u32 = 128;
/// As many fit a page of 8 KiB.
const ROWS: u32 = 226;

/// The last thousand of all revisions stay: by them a server sees that the database is the one it knows.
const TOMBSTONES: &str = "DELETE FROM changes WHERE revision IN (SELECT c.revision FROM changes c, state s WHERE c.body IS NULL AND c.at < $1 \
    AND c.revision < s.revision - 1000 ORDER BY c.revision LIMIT $2)";
/// After an hour a server that has not read them reads everything anew.
const CHANGES: &str = "DELETE FROM changes WHERE revision IN (SELECT c.revision FROM changes c, state s WHERE c.body IS NOT NULL \
    AND c.at < extract(epoch FROM now()) - 3600 AND c.revision < s.revision - 1000 ORDER BY c.revision LIMIT $1)";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_table_is_made_where_it_might_stay() {
        assert!(room(LITTLE, true).is_some_and(|sql| sql.contains("CREATE UNLOGGED TABLE")));
        assert_eq!(room(LITTLE, false), None);
    }
}

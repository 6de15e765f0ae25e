//! Policies of entries in PostgreSQL. Invariant: a row is there only while its entry is; the schema sees to that.

use std::sync::Arc;

use landfast_identity::UnixTime;

use super::row::get;
use super::tx::Tx;
use super::{rungs, text};
use crate::datastore::Change;
use crate::registry::{EntryPolicy, PolicyPatch, RegistryError};

pub(super) async fn set(
    tx: &mut Tx,
    id: &str,
    patch: PolicyPatch,
    if_revision: Option<u64>,
    now: UnixTime,
) -> Result<Arc<EntryPolicy>, RegistryError> {
    let Some(row) = tx.opt(FIND, &[&id]).await? else {
        return Err(RegistryError::NoSuchEntry { id: id.to_owned() });
    };
    let old = match get::<Option<&str>>(&row, "body")? {
        Some(body) => text::read_policy(id, body)?,
        None => EntryPolicy::defaults(id),
    };
    if if_revision.is_some_and(|expected| expected != old.revision) {
        return Err(RegistryError::PolicyChanged {
            id: old.entry_id,
            found: old.revision,
        });
    }
    let revision = tx.next_revision();
    let policy = Arc::new(patch.apply(old, revision.unsigned_abs())?);
    let body = text::policy(&policy)?;
    tx.execute(PUT, &[&id, &body, &revision]).await?;
    if policy.reserve.is_zero() {
        // Its node destroys them when it hears of it.
        rungs::revoke_of_entry(tx, id, now).await?;
    }
    tx.changed(revision, Change::PutPolicy(Arc::clone(&policy)), None);
    Ok(policy)
}

const FIND: &str =
    "SELECT p.body FROM entries e LEFT JOIN entry_policies p ON p.entry_id = e.id WHERE e.id = $1";
const PUT: &str = "INSERT INTO entry_policies (entry_id, body, revision) VALUES ($1, $2, $3) \
    ON CONFLICT (entry_id) DO UPDATE SET body = excluded.body, revision = excluded.revision";

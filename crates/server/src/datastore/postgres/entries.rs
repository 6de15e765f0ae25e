//! Entries in PostgreSQL. Invariant: every change has a revision of its own, in the same transaction.

use std::sync::Arc;

use landfast_identity::{SpiffeId, TrustDomain, UnixTime};

use super::row::{get, limit};
use super::tx::Tx;
use super::{rungs, text};
use crate::datastore::sharing::Sharing;
use crate::datastore::{Change, DatastoreError};
use crate::registry::{Created, Entry, EntryDraft, EntryPatch, MargoPaths, RegistryError};
use crate::reserve::{ReserveError, is_powerful};

pub(super) async fn create(
    tx: &mut Tx,
    draft: EntryDraft,
    id: String,
    by: &str,
    now: UnixTime,
) -> Result<Created, RegistryError> {
    is_no_login(tx, &draft.spiffe_id).await?;
    let entry = draft.into_entry(id, now);
    if let Some(existing) = similar(tx, &entry).await? {
        return Ok(Created::Similar(Arc::new(existing)));
    }
    if find(tx, &entry.id).await?.is_some() {
        return Err(RegistryError::EntryIdTaken { id: entry.id });
    }
    lie_about(tx, &entry, now).await?;
    let entry = Arc::new(entry);
    put(tx, &entry, by).await?;
    Ok(Created::New(entry))
}

/// Whoever makes entries would be everybody.
async fn is_no_login(tx: &mut Tx, id: &SpiffeId) -> Result<(), RegistryError> {
    let sql = "SELECT reference FROM person_logins WHERE login = $1";
    match tx.opt(sql, &[&id.as_str()]).await? {
        Some(row) => Err(RegistryError::IsLogin {
            id: id.clone(),
            person: get(&row, "reference")?,
        }),
        None => Ok(()),
    }
}

/// Whoever makes what its entries hang under would be that person. A node's ID is nobody's to make by an entry. All entries are read for it: that
/// somebody is given an SPIFFE ID is seldom.
pub(super) async fn can_be_a_login(tx: &mut Tx, id: &SpiffeId) -> Result<(), RegistryError> {
    let sql = "SELECT parent_id FROM entries WHERE body::json ->> 'spiffe_id' = $1";
    for row in tx.rows(sql, &[&id.as_str()]).await? {
        let parent: &str = get(&row, "parent_id")?;
        if !SpiffeId::parse(parent).is_ok_and(|parent| parent.is_agent()) {
            let (id, parent) = (id.clone(), parent.to_owned());
            return Err(RegistryError::LoginBelow { id, parent });
        }
    }
    Ok(())
}

/// Rights go by the identity, and of one that has any none is to lie about.
async fn lie_about(tx: &mut Tx, entry: &Entry, now: UnixTime) -> Result<(), RegistryError> {
    if !is_powerful(entry) {
        return Ok(());
    }
    match rungs::last_of_id(tx, &entry.spiffe_id, now).await? {
        Some(until) => Err(ReserveError::Ahead { until }.into()),
        None => Ok(()),
    }
}

pub(super) async fn update(
    tx: &mut Tx,
    id: &str,
    patch: EntryPatch,
    margo: MargoPaths,
    now: UnixTime,
) -> Result<Arc<Entry>, RegistryError> {
    let Some(old) = find(tx, id).await? else {
        return Err(RegistryError::NoSuchEntry { id: id.to_owned() });
    };
    for subject in std::iter::once(&old.spiffe_id).chain(&patch.spiffe_id) {
        is_no_login(tx, subject).await?;
    }
    change(tx, id, patch, margo, now).await
}

async fn change(
    tx: &mut Tx,
    id: &str,
    patch: EntryPatch,
    margo: MargoPaths,
    now: UnixTime,
) -> Result<Arc<Entry>, RegistryError> {
    let row = tx
        .opt("SELECT body, created_by FROM entries WHERE id = $1", &[&id])
        .await?;
    let Some(row) = row else {
        return Err(RegistryError::NoSuchEntry { id: id.to_owned() });
    };
    let old = text::read_entry(get(&row, "body")?, &mut Sharing::none())?;
    let new = patch.apply(&old);
    let draft = EntryDraft::from_entry(new.clone());
    draft.validate(tx.trust_domain())?;
    margo.check_entry(&draft)?;
    if let Some(existing) = similar(tx, &new).await?.filter(|other| other.id != new.id) {
        return Err(RegistryError::Similar {
            existing: Arc::new(existing),
        });
    }
    if new.parent_id != old.parent_id || new.spiffe_id != old.spiffe_id {
        rungs::revoke_of_entry(tx, id, now).await?;
    }
    if new.spiffe_id != old.spiffe_id || !is_powerful(&old) {
        lie_about(tx, &new, now).await?;
    }
    let new = Arc::new(new);
    put(tx, &new, get(&row, "created_by")?).await?;
    Ok(new)
}

/// Removes an entry; `false` when there was none.
pub(super) async fn remove(tx: &mut Tx, id: &str, now: UnixTime) -> Result<bool, DatastoreError> {
    if tx.execute("DELETE FROM entries WHERE id = $1", &[&id]).await? == 0 {
        return Ok(false);
    }
    rungs::revoke_of_entry(tx, id, now).await?;
    tx.bury(now, Change::RemoveEntry(id.to_owned()));
    Ok(true)
}

pub(super) async fn prune(tx: &mut Tx, now: UnixTime, most: usize) -> Result<usize, DatastoreError> {
    let rows = tx
        .rows(
            "SELECT id FROM entries WHERE expires_at <= $1 LIMIT $2",
            &[&now.as_secs(), &limit(most)],
        )
        .await?;
    for row in &rows {
        remove(tx, get(row, "id")?, now).await?;
    }
    Ok(rows.len())
}

/// Drops one federation of an entry, one revision on.
pub(super) async fn dissociate(
    tx: &mut Tx,
    id: &str,
    from: &TrustDomain,
    now: UnixTime,
) -> Result<(), RegistryError> {
    let Some(old) = find(tx, id).await? else {
        return Ok(());
    };
    let left = old.federates_with.iter().filter(|td| *td != from);
    let patch = EntryPatch {
        federates_with: Some(left.cloned().collect()),
        ..EntryPatch::default()
    };
    // It takes away: never what would break a rule, also of a person's login.
    change(tx, id, patch, MargoPaths::Ordinary, now).await.map(|_| ())
}

async fn find(tx: &mut Tx, id: &str) -> Result<Option<Entry>, DatastoreError> {
    let row = tx.opt("SELECT body FROM entries WHERE id = $1", &[&id]).await?;
    row.map(|row| text::read_entry(get(&row, "body")?, &mut Sharing::none()))
        .transpose()
}

async fn similar(tx: &mut Tx, like: &Entry) -> Result<Option<Entry>, DatastoreError> {
    let likeness = text::likeness(like);
    let row = tx
        .opt("SELECT body FROM entries WHERE likeness = $1", &[&likeness])
        .await?;
    row.map(|row| text::read_entry(get(&row, "body")?, &mut Sharing::none()))
        .transpose()
}

async fn put(tx: &mut Tx, entry: &Arc<Entry>, by: &str) -> Result<(), RegistryError> {
    let revision = tx.next_revision();
    let (likeness, selectors, body) = (
        text::likeness(entry),
        text::selectors(&entry.selectors),
        text::entry(entry)?,
    );
    let expires_at = entry.expires_at.map(UnixTime::as_secs);
    tx.execute(
        PUT,
        &[
            &entry.id,
            &likeness,
            &entry.parent_id.as_str(),
            &selectors,
            &expires_at,
            &by,
            &body,
            &revision,
        ],
    )
    .await?;
    if entry.revision_number > 0 {
        tx.execute("DELETE FROM entry_federates WHERE entry_id = $1", &[&entry.id])
            .await?;
    }
    for td in &entry.federates_with {
        let known = tx
            .opt(
                "SELECT 1 FROM federated_bundles WHERE trust_domain = $1",
                &[&td.as_str()],
            )
            .await?;
        if known.is_none() {
            return Err(RegistryError::NoFederatedBundle {
                trust_domain: td.clone(),
            });
        }
        tx.execute(
            "INSERT INTO entry_federates (entry_id, trust_domain) VALUES ($1, $2)",
            &[&entry.id, &td.as_str()],
        )
        .await?;
    }
    tx.changed(revision, Change::PutEntry(Arc::clone(entry)), None);
    Ok(())
}

const PUT: &str = "INSERT INTO entries (id, likeness, parent_id, selectors, expires_at, created_by, body, revision) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (id) DO UPDATE SET likeness = excluded.likeness, \
    parent_id = excluded.parent_id, selectors = excluded.selectors, expires_at = excluded.expires_at, body = excluded.body, \
    revision = excluded.revision";

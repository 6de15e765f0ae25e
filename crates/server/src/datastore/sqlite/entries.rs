//! Entries in SQLite. Invariant: every change has a revision of its own, in the same transaction.

use std::sync::Arc;

use landfast_identity::{SpiffeId, TrustDomain, UnixTime};
use rusqlite::{OptionalExtension as _, Row, named_params, params};

use super::convert::{
    damage, damaged, domain, opt_time, secs, selectors, selectors_text, strings, strings_text, text, time,
    ttl,
};
use super::tombstones::bury;
use super::writer::Tx;
use super::{policies, rungs};
use crate::datastore::sharing::Sharing;
use crate::datastore::{Change, DatastoreError};
use crate::registry::{Created, Entry, EntryDraft, EntryPatch, MargoPaths, RegistryError, Versioned};
use crate::reserve::{ReserveError, is_powerful};

/// Row by row into what stays: nothing is held twice, and what entries share stands in memory once.
pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<Versioned>, DatastoreError> {
    let mut rows = tx.conn().prepare(&format!(
        "SELECT {COLUMNS}, e.revision, {}, \
         (SELECT group_concat(trust_domain, ' ' ORDER BY place) FROM entry_federates WHERE entry_id = e.id) AS federates \
         FROM entries e LEFT JOIN entry_policies p ON p.entry_id = e.id",
        policies::COLUMNS
    ))?;
    let mut sharing = Sharing::among(own_domain(tx)?);
    let entries = rows.query_map([], |row| {
        let mut entry = read(row, &mut sharing)?;
        if let Some(names) = row.get::<_, Option<String>>("federates")? {
            let names = names.split(' ').map(|name| sharing.domain(name));
            entry.federates_with = names
                .collect::<Result<_, _>>()
                .map_err(|e| damage("trust_domain", e))?;
        }
        let policy = policies::read(row, COUNT + 1, &entry.id)?.map(Arc::new);
        Ok(Versioned {
            entry: Arc::new(entry),
            revision: row.get::<_, i64>(COUNT)?.unsigned_abs(),
            policy,
        })
    })?;
    Ok(entries.collect::<Result<_, _>>()?)
}

pub(super) fn create(
    tx: &mut Tx<'_>,
    draft: EntryDraft,
    id: String,
    by: &str,
    now: UnixTime,
) -> Result<Created, RegistryError> {
    is_no_login(tx, &draft.spiffe_id)?;
    let entry = draft.into_entry(id, now);
    if let Some(existing) = similar(tx, &entry)? {
        return Ok(Created::Similar(Arc::new(existing)));
    }
    if find(tx, &entry.id)?.is_some() {
        return Err(RegistryError::EntryIdTaken { id: entry.id });
    }
    lie_about(tx, &entry, now)?;
    let entry = Arc::new(entry);
    put(tx, &entry, by)?;
    Ok(Created::New(entry))
}

/// Whoever makes entries would be everybody.
fn is_no_login(tx: &Tx<'_>, id: &SpiffeId) -> Result<(), RegistryError> {
    let mut holder = tx
        .conn()
        .prepare_cached("SELECT reference FROM person_logins WHERE login = ?1")
        .map_err(DatastoreError::from)?;
    let holder = holder
        .query_row(params![id.as_str()], |row| row.get(0))
        .optional();
    match holder.map_err(DatastoreError::from)? {
        Some(person) => Err(RegistryError::IsLogin {
            id: id.clone(),
            person,
        }),
        None => Ok(()),
    }
}

/// Whoever makes what its entries hang under would be that person. A node's ID is nobody's to make by an entry.
pub(super) fn can_be_a_login(tx: &Tx<'_>, id: &SpiffeId) -> Result<(), RegistryError> {
    let mut parents = tx
        .conn()
        .prepare_cached("SELECT parent_id FROM entries WHERE spiffe_id = ?1")
        .map_err(DatastoreError::from)?;
    let parents = parents.query_map(params![id.as_str()], |row| row.get::<_, String>(0));
    for parent in parents.map_err(DatastoreError::from)? {
        let parent = parent.map_err(DatastoreError::from)?;
        if !SpiffeId::parse(&parent).is_ok_and(|parent| parent.is_agent()) {
            let id = id.clone();
            return Err(RegistryError::LoginBelow { id, parent });
        }
    }
    Ok(())
}

/// Rights go by the identity, and of one that has any none is to lie about.
fn lie_about(tx: &Tx<'_>, entry: &Entry, now: UnixTime) -> Result<(), RegistryError> {
    match is_powerful(entry) {
        true => rungs::last_of_id(tx, &entry.spiffe_id, now)?
            .map_or(Ok(()), |until| Err(ReserveError::Ahead { until }.into())),
        false => Ok(()),
    }
}

pub(super) fn update(
    tx: &mut Tx<'_>,
    id: String,
    patch: EntryPatch,
    margo: MargoPaths,
    now: UnixTime,
) -> Result<Arc<Entry>, RegistryError> {
    let Some(old) = find(tx, &id)? else {
        return Err(RegistryError::NoSuchEntry { id });
    };
    for subject in std::iter::once(&old.spiffe_id).chain(&patch.spiffe_id) {
        is_no_login(tx, subject)?;
    }
    change(tx, &old, patch, margo, now)
}

fn change(
    tx: &mut Tx<'_>,
    old: &Entry,
    patch: EntryPatch,
    margo: MargoPaths,
    now: UnixTime,
) -> Result<Arc<Entry>, RegistryError> {
    let id = &old.id;
    let new = patch.apply(old);
    let draft = EntryDraft::from_entry(new.clone());
    draft.validate(&own_domain(tx)?)?;
    margo.check_entry(&draft)?;
    if let Some(existing) = similar(tx, &new)?.filter(|other| other.id != new.id) {
        return Err(RegistryError::Similar {
            existing: Arc::new(existing),
        });
    }
    let by: String = tx
        .conn()
        .prepare_cached("SELECT created_by FROM entries WHERE id = ?1")?
        .query_row(params![id], |row| row.get(0))?;
    if new.parent_id != old.parent_id || new.spiffe_id != old.spiffe_id {
        rungs::revoke_of_entry(tx, id, now)?;
    }
    if new.spiffe_id != old.spiffe_id || !is_powerful(old) {
        lie_about(tx, &new, now)?;
    }
    let new = Arc::new(new);
    put(tx, &new, &by)?;
    Ok(new)
}

pub(super) fn delete(tx: &mut Tx<'_>, id: &str, now: UnixTime) -> Result<bool, RegistryError> {
    Ok(remove(tx, id, now)?)
}

/// Removes an entry with its tombstone; `false` when there was none.
pub(super) fn remove(tx: &mut Tx<'_>, id: &str, now: UnixTime) -> Result<bool, DatastoreError> {
    if tx
        .conn()
        .prepare_cached("DELETE FROM entries WHERE id = ?1")?
        .execute(params![id])?
        == 0
    {
        return Ok(false);
    }
    rungs::revoke_of_entry(tx, id, now)?;
    bury(tx, "entry", id, now, Change::RemoveEntry(id.to_owned()))?;
    Ok(true)
}

pub(super) fn prune(tx: &mut Tx<'_>, now: UnixTime, limit: usize) -> Result<usize, DatastoreError> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let ids: Vec<String> = {
        let mut rows = tx
            .conn()
            .prepare_cached("SELECT id FROM entries WHERE expires_at <= ?1 LIMIT ?2")?;
        rows.query_map(params![now.as_secs(), limit], |row| row.get(0))?
            .collect::<Result<_, _>>()?
    };
    for id in &ids {
        remove(tx, id, now)?;
    }
    Ok(ids.len())
}

/// Drops one federation of an entry, one revision on.
pub(super) fn dissociate(
    tx: &mut Tx<'_>,
    id: &str,
    from: &TrustDomain,
    now: UnixTime,
) -> Result<(), RegistryError> {
    let Some(old) = find(tx, id)? else { return Ok(()) };
    let left = old
        .federates_with
        .iter()
        .filter(|td| *td != from)
        .cloned()
        .collect();
    let patch = EntryPatch {
        federates_with: Some(left),
        ..EntryPatch::default()
    };
    // It takes away: never what would break a rule, also of a person's login.
    change(tx, &old, patch, MargoPaths::Ordinary, now).map(|_| ())
}

pub(super) fn find(tx: &Tx<'_>, id: &str) -> Result<Option<Entry>, DatastoreError> {
    let mut row = tx
        .conn()
        .prepare_cached(&format!("SELECT {COLUMNS} FROM entries e WHERE id = ?1"))?;
    with_federations(tx, row.query_row(params![id], one).optional()?)
}

fn similar(tx: &Tx<'_>, like: &Entry) -> Result<Option<Entry>, DatastoreError> {
    let mut row = tx.conn().prepare_cached(&format!(
        "SELECT {COLUMNS} FROM entries e WHERE spiffe_id = ?1 AND parent_id = ?2 AND selectors = ?3"
    ))?;
    let same = params![
        like.spiffe_id.as_str(),
        like.parent_id.as_str(),
        selectors_text(&like.selectors)
    ];
    with_federations(tx, row.query_row(same, one).optional()?)
}

fn with_federations(tx: &Tx<'_>, entry: Option<Entry>) -> Result<Option<Entry>, DatastoreError> {
    let Some(mut entry) = entry else { return Ok(None) };
    let mut rows = tx
        .conn()
        .prepare_cached("SELECT trust_domain FROM entry_federates WHERE entry_id = ?1 ORDER BY place")?;
    for name in rows.query_map(params![entry.id], |row| row.get::<_, String>(0))? {
        entry.federates_with.push(domain(&name?)?);
    }
    Ok(Some(entry))
}

pub(super) fn put(tx: &mut Tx<'_>, entry: &Arc<Entry>, by: &str) -> Result<(), RegistryError> {
    let revision = tx.next_revision()?;
    tx.conn().prepare_cached(PUT)?.execute(named_params! {
        ":id": entry.id,
        ":spiffe_id": entry.spiffe_id.as_str(),
        ":parent_id": entry.parent_id.as_str(),
        ":selectors": selectors_text(&entry.selectors),
        ":x509_svid_ttl": secs(entry.x509_svid_ttl),
        ":jwt_svid_ttl": secs(entry.jwt_svid_ttl),
        ":admin": entry.admin,
        ":downstream": entry.downstream,
        ":expires_at": entry.expires_at.map(UnixTime::as_secs),
        ":dns_names": strings_text(&entry.dns_names),
        ":revision_number": entry.revision_number,
        ":store_svid": entry.store_svid,
        ":hint": entry.hint,
        ":created_at": entry.created_at.as_secs(),
        ":created_by": by,
        ":no_x509_prefetch": entry.disable_x509_svid_prefetch,
        ":include_jti": entry.jwt_svid_include_jti,
        ":revision": revision,
    })?;
    tx.conn()
        .prepare_cached("DELETE FROM entry_federates WHERE entry_id = ?1")?
        .execute(params![entry.id])?;
    for (place, td) in (0_i64..).zip(&entry.federates_with) {
        let known: bool = tx
            .conn()
            .prepare_cached("SELECT EXISTS (SELECT 1 FROM federated_bundles WHERE trust_domain = ?1)")?
            .query_row(params![td.as_str()], |row| row.get(0))?;
        if !known {
            return Err(RegistryError::NoFederatedBundle {
                trust_domain: td.clone(),
            });
        }
        tx.conn()
            .prepare_cached(
                "INSERT INTO entry_federates (entry_id, place, trust_domain) VALUES (?1, ?2, ?3)",
            )?
            .execute(params![entry.id, place, td.as_str()])?;
    }
    tx.changed(revision, Change::PutEntry(Arc::clone(entry)));
    Ok(())
}

pub(super) fn own_domain(tx: &Tx<'_>) -> Result<TrustDomain, DatastoreError> {
    let name: String = tx
        .conn()
        .prepare_cached("SELECT trust_domain FROM state")?
        .query_row([], |row| row.get(0))?;
    Ok(domain(&name)?)
}

fn one(row: &Row<'_>) -> Result<Entry, rusqlite::Error> {
    read(row, &mut Sharing::none())
}

/// By number, in the order of [`COLUMNS`]: SQLite looks for a name among all names, for each row anew.
fn read(row: &Row<'_>, sharing: &mut Sharing) -> Result<Entry, rusqlite::Error> {
    let subject = sharing.id(text(row, 1)?).map_err(|e| damaged(row, 1, e))?;
    let parent = sharing.common_id(text(row, 2)?).map_err(|e| damaged(row, 2, e))?;
    Ok(Entry {
        id: row.get(0)?,
        spiffe_id: subject,
        parent_id: parent,
        selectors: selectors(row, 3, sharing)?,
        x509_svid_ttl: ttl(row, 4)?,
        jwt_svid_ttl: ttl(row, 5)?,
        federates_with: Vec::new(),
        admin: row.get(6)?,
        downstream: row.get(7)?,
        expires_at: opt_time(row, 8)?,
        dns_names: strings(row, 9)?,
        revision_number: row.get(10)?,
        store_svid: row.get(11)?,
        hint: row.get(12)?,
        created_at: time(row, 13)?,
        disable_x509_svid_prefetch: row.get(14)?,
        jwt_svid_include_jti: row.get(15)?,
    })
}

const COLUMNS: &str = "e.id, e.spiffe_id, e.parent_id, e.selectors, e.x509_svid_ttl, e.jwt_svid_ttl, e.admin, e.downstream, e.expires_at, \
    e.dns_names, e.revision_number, e.store_svid, e.hint, e.created_at, e.no_x509_prefetch, e.include_jti";
const COUNT: usize = 16;

const PUT: &str = "INSERT INTO entries (id, spiffe_id, parent_id, selectors, x509_svid_ttl, jwt_svid_ttl, admin, downstream, expires_at, \
    dns_names, revision_number, store_svid, hint, created_at, created_by, no_x509_prefetch, include_jti, revision) \
    VALUES (:id, :spiffe_id, :parent_id, :selectors, :x509_svid_ttl, :jwt_svid_ttl, :admin, :downstream, :expires_at, \
    :dns_names, :revision_number, :store_svid, :hint, :created_at, :created_by, :no_x509_prefetch, :include_jti, :revision) \
    ON CONFLICT (id) DO UPDATE SET spiffe_id = excluded.spiffe_id, parent_id = excluded.parent_id, selectors = excluded.selectors, \
    x509_svid_ttl = excluded.x509_svid_ttl, jwt_svid_ttl = excluded.jwt_svid_ttl, admin = excluded.admin, \
    downstream = excluded.downstream, expires_at = excluded.expires_at, dns_names = excluded.dns_names, \
    revision_number = excluded.revision_number, store_svid = excluded.store_svid, hint = excluded.hint, \
    no_x509_prefetch = excluded.no_x509_prefetch, include_jti = excluded.include_jti, revision = excluded.revision";

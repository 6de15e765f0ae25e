//! Federated bundles in SQLite. Invariant: what is read back is what was stored, taints and expiry included.

use std::sync::Arc;

use landfast_identity::{Bundle, TrustDomain, UnixTime};
use rusqlite::{OptionalExtension as _, params};

use super::convert::{damage, domain};
use super::tombstones::bury;
use super::writer::Tx;
use super::{entries, relationships};
use crate::datastore::bundle_text::{self, encode};
use crate::datastore::{Change, DatastoreError};
use crate::registry::{BundleWrite, DeleteMode, RegistryError, Relationship, check_mode, check_newer};

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<Arc<Bundle>>, DatastoreError> {
    let mut rows = tx
        .conn()
        .prepare("SELECT trust_domain, body FROM federated_bundles")?;
    let texts = rows.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    texts
        .map(|row| {
            let (name, body) = row?;
            Ok(Arc::new(decode(domain(&name)?, &body)?))
        })
        .collect()
}

pub(super) fn set(
    tx: &mut Tx<'_>,
    bundle: Arc<Bundle>,
    mode: BundleWrite,
) -> Result<Arc<Bundle>, RegistryError> {
    let stored = find(tx, bundle.trust_domain())?;
    check_mode(mode, stored.is_some(), bundle.trust_domain())?;
    let bundle = match (mode, stored) {
        (BundleWrite::Update(parts), Some(stored)) => {
            let updated = parts.of(&bundle, &stored);
            Arc::new(updated.map_err(|source| RegistryError::BadBundle {
                source: Arc::new(source),
            })?)
        }
        _ => bundle,
    };
    let td = bundle.trust_domain();
    let revision = tx.next_revision()?;
    let body = encode(&bundle)?;
    tx.conn()
        .prepare_cached(
            "INSERT INTO federated_bundles (trust_domain, body, revision) VALUES (?1, ?2, ?3) \
             ON CONFLICT (trust_domain) DO UPDATE SET body = excluded.body, revision = excluded.revision",
        )?
        .execute(params![td.as_str(), body, revision])?;
    tx.changed(revision, Change::PutBundle(Arc::clone(&bundle)));
    Ok(bundle)
}

/// Compared and written in one transaction, so that what an operator sets meanwhile counts: a bundle, and another relationship or none.
pub(super) fn adopt(
    tx: &mut Tx<'_>,
    published: Arc<Bundle>,
    under: Option<&Relationship>,
) -> Result<bool, RegistryError> {
    let td = published.trust_domain();
    if under.is_some() && relationships::find(tx, td)?.as_ref() != under {
        return Err(RegistryError::RelationshipChanged {
            trust_domain: td.clone(),
        });
    }
    let newer = match find(tx, td)? {
        Some(stored) => check_newer(&stored, &published)?,
        None => true,
    };
    if newer {
        set(tx, published, BundleWrite::Set)?;
    }
    Ok(newer)
}

fn find(tx: &Tx<'_>, td: &TrustDomain) -> Result<Option<Bundle>, DatastoreError> {
    let mut row = tx
        .conn()
        .prepare_cached("SELECT body FROM federated_bundles WHERE trust_domain = ?1")?;
    let body: Option<String> = row.query_row(params![td.as_str()], |row| row.get(0)).optional()?;
    Ok(body.map(|body| decode(td.clone(), &body)).transpose()?)
}

pub(super) fn delete(
    tx: &mut Tx<'_>,
    td: &TrustDomain,
    mode: DeleteMode,
    now: UnixTime,
) -> Result<bool, RegistryError> {
    if !exists(tx, td)? {
        return Ok(false);
    }
    let users: Vec<String> = {
        let mut rows = tx
            .conn()
            .prepare_cached("SELECT entry_id FROM entry_federates WHERE trust_domain = ?1")?;
        rows.query_map(params![td.as_str()], |row| row.get(0))?
            .collect::<Result<_, _>>()?
    };
    if mode == DeleteMode::Restrict && !users.is_empty() {
        return Err(RegistryError::BundleInUse { entries: users.len() });
    }
    for id in &users {
        if mode == DeleteMode::Delete {
            entries::remove(tx, id, now)?;
        } else {
            entries::dissociate(tx, id, td, now)?;
        }
    }
    tx.conn()
        .prepare_cached("DELETE FROM federated_bundles WHERE trust_domain = ?1")?
        .execute(params![td.as_str()])?;
    bury(tx, "bundle", td.as_str(), now, Change::RemoveBundle(td.clone()))?;
    Ok(true)
}

fn exists(tx: &Tx<'_>, td: &TrustDomain) -> Result<bool, DatastoreError> {
    let mut row = tx
        .conn()
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM federated_bundles WHERE trust_domain = ?1)")?;
    Ok(row.query_row(params![td.as_str()], |row| row.get(0))?)
}

fn decode(td: TrustDomain, text: &str) -> Result<Bundle, rusqlite::Error> {
    bundle_text::decode(td, text).map_err(|e| damage("body", e))
}

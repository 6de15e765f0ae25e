//! Federation relationships in SQLite. Invariant: a relationship and the bundle it begins with are one commit.

use std::sync::Arc;

use landfast_identity::{Bundle, TrustDomain, UnixTime};
use rusqlite::{OptionalExtension as _, Row, params};

use super::bundles;
use super::convert::{damage, domain, opt_id};
use super::tombstones::bury;
use super::writer::Tx;
use crate::datastore::{Change, DatastoreError};
use crate::registry::{
    BundleWrite, EndpointUrl, MAX_RELATIONSHIPS, Profile, RegistryError, Relationship, RelationshipPatch,
};

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<Arc<Relationship>>, DatastoreError> {
    let mut rows = tx.conn().prepare("SELECT * FROM federation_relationships")?;
    let found = rows
        .query_map([], |row| read(row).map(Arc::new))?
        .collect::<Result<_, _>>()?;
    Ok(found)
}

pub(super) fn create(
    tx: &mut Tx<'_>,
    relationship: Arc<Relationship>,
    bundle: Option<Arc<Bundle>>,
) -> Result<(), RegistryError> {
    if find(tx, &relationship.trust_domain)?.is_some() {
        return Err(RegistryError::RelationshipExists {
            trust_domain: relationship.trust_domain.clone(),
        });
    }
    let count: i64 = tx
        .conn()
        .prepare_cached("SELECT count(*) FROM federation_relationships")?
        .query_row([], |row| row.get(0))?;
    if usize::try_from(count).unwrap_or(usize::MAX) >= MAX_RELATIONSHIPS {
        return Err(RegistryError::TooManyRelationships);
    }
    if let Some(bundle) = bundle {
        bundles::set(tx, bundle, BundleWrite::Set)?;
    }
    put(tx, relationship)
}

pub(super) fn update(
    tx: &mut Tx<'_>,
    td: &TrustDomain,
    patch: &RelationshipPatch,
) -> Result<Arc<Relationship>, RegistryError> {
    let Some(old) = find(tx, td)? else {
        return Err(RegistryError::NoSuchRelationship {
            trust_domain: td.clone(),
        });
    };
    if let Some(bundle) = &patch.bundle {
        bundles::set(tx, Arc::clone(bundle), BundleWrite::Set)?;
    }
    let new = Arc::new(patch.apply(&old));
    put(tx, Arc::clone(&new))?;
    Ok(new)
}

pub(super) fn delete(tx: &mut Tx<'_>, td: &TrustDomain, now: UnixTime) -> Result<bool, RegistryError> {
    let mut delete = tx
        .conn()
        .prepare_cached("DELETE FROM federation_relationships WHERE trust_domain = ?1")?;
    if delete.execute(params![td.as_str()])? == 0 {
        return Ok(false);
    }
    bury(
        tx,
        "relationship",
        td.as_str(),
        now,
        Change::RemoveRelationship(td.clone()),
    )?;
    Ok(true)
}

fn put(tx: &mut Tx<'_>, relationship: Arc<Relationship>) -> Result<(), RegistryError> {
    let revision = tx.next_revision()?;
    let endpoint_id = match &relationship.profile {
        Profile::Web => None,
        Profile::Spiffe { endpoint_id } => Some(endpoint_id.as_str()),
    };
    tx.conn()
        .prepare_cached(
            "INSERT INTO federation_relationships (trust_domain, url, endpoint_id, revision) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT (trust_domain) DO UPDATE SET url = excluded.url, endpoint_id = excluded.endpoint_id, \
             revision = excluded.revision",
        )?
        .execute(params![
            relationship.trust_domain.as_str(),
            relationship.url.as_str(),
            endpoint_id,
            revision
        ])?;
    tx.changed(revision, Change::PutRelationship(relationship));
    Ok(())
}

pub(super) fn find(tx: &Tx<'_>, td: &TrustDomain) -> Result<Option<Relationship>, DatastoreError> {
    let mut row = tx
        .conn()
        .prepare_cached("SELECT * FROM federation_relationships WHERE trust_domain = ?1")?;
    Ok(row.query_row(params![td.as_str()], read).optional()?)
}

fn read(row: &Row<'_>) -> Result<Relationship, rusqlite::Error> {
    let url: String = row.get("url")?;
    Ok(Relationship {
        trust_domain: domain(&row.get::<_, String>("trust_domain")?)?,
        url: EndpointUrl::parse(&url).map_err(|e| damage("url", e))?,
        profile: match opt_id(row, "endpoint_id")? {
            None => Profile::Web,
            Some(endpoint_id) => Profile::Spiffe { endpoint_id },
        },
    })
}

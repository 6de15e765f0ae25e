//! Federation relationships in PostgreSQL. Invariant: a relationship and the bundle it begins with are one commit.

use std::sync::Arc;

use landfast_identity::{Bundle, TrustDomain, UnixTime};

use super::row::get;
use super::tx::Tx;
use super::{bundles, text};
use crate::datastore::{Change, DatastoreError};
use crate::registry::{BundleWrite, MAX_RELATIONSHIPS, RegistryError, Relationship, RelationshipPatch};

pub(super) async fn create(
    tx: &mut Tx,
    relationship: Arc<Relationship>,
    bundle: Option<Arc<Bundle>>,
) -> Result<(), RegistryError> {
    if find(tx, &relationship.trust_domain).await?.is_some() {
        return Err(RegistryError::RelationshipExists {
            trust_domain: relationship.trust_domain.clone(),
        });
    }
    let row = tx
        .one("SELECT count(*) AS count FROM federation_relationships", &[])
        .await?;
    let count: i64 = get(&row, "count")?;
    if usize::try_from(count).unwrap_or(usize::MAX) >= MAX_RELATIONSHIPS {
        return Err(RegistryError::TooManyRelationships);
    }
    if let Some(bundle) = bundle {
        bundles::set(tx, bundle, BundleWrite::Set).await?;
    }
    put(tx, relationship).await
}

pub(super) async fn update(
    tx: &mut Tx,
    td: &TrustDomain,
    patch: &RelationshipPatch,
) -> Result<Arc<Relationship>, RegistryError> {
    let Some(old) = find(tx, td).await? else {
        return Err(RegistryError::NoSuchRelationship {
            trust_domain: td.clone(),
        });
    };
    if let Some(bundle) = &patch.bundle {
        bundles::set(tx, Arc::clone(bundle), BundleWrite::Set).await?;
    }
    let new = Arc::new(patch.apply(&old));
    put(tx, Arc::clone(&new)).await?;
    Ok(new)
}

pub(super) async fn delete(tx: &mut Tx, td: &TrustDomain, now: UnixTime) -> Result<bool, RegistryError> {
    let sql = "DELETE FROM federation_relationships WHERE trust_domain = $1";
    if tx.execute(sql, &[&td.as_str()]).await? == 0 {
        return Ok(false);
    }
    tx.bury(now, Change::RemoveRelationship(td.clone()));
    Ok(true)
}

async fn put(tx: &mut Tx, relationship: Arc<Relationship>) -> Result<(), RegistryError> {
    let revision = tx.next_revision();
    let body = text::relationship(&relationship)?;
    tx.execute(PUT, &[&relationship.trust_domain.as_str(), &body, &revision])
        .await?;
    tx.changed(revision, Change::PutRelationship(relationship), None);
    Ok(())
}

pub(super) async fn find(tx: &mut Tx, td: &TrustDomain) -> Result<Option<Relationship>, DatastoreError> {
    let sql = "SELECT body FROM federation_relationships WHERE trust_domain = $1";
    let row = tx.opt(sql, &[&td.as_str()]).await?;
    row.map(|row| text::read_relationship(get(&row, "body")?))
        .transpose()
}

const PUT: &str = "INSERT INTO federation_relationships (trust_domain, body, revision) VALUES ($1, $2, $3) \
    ON CONFLICT (trust_domain) DO UPDATE SET body = excluded.body, revision = excluded.revision";

//! Federated bundles in PostgreSQL. Invariant: what is compared and what is written are one transaction.

use std::sync::Arc;

use landfast_identity::{Bundle, TrustDomain, UnixTime};

use super::row::get;
use super::tx::Tx;
use super::{entries, relationships, text};
use crate::datastore::{Change, DatastoreError, bundle_text};
use crate::registry::{BundleWrite, DeleteMode, RegistryError, Relationship, check_mode, check_newer};

pub(super) async fn set(
    tx: &mut Tx,
    bundle: Arc<Bundle>,
    mode: BundleWrite,
) -> Result<Arc<Bundle>, RegistryError> {
    let stored = find(tx, bundle.trust_domain()).await?;
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
    let revision = tx.next_revision();
    let body = bundle_text::encode(&bundle)?;
    tx.execute(PUT, &[&bundle.trust_domain().as_str(), &body, &revision])
        .await?;
    tx.changed(revision, Change::PutBundle(Arc::clone(&bundle)), None);
    Ok(bundle)
}

/// What an operator sets meanwhile counts: a bundle, and another relationship or none.
pub(super) async fn adopt(
    tx: &mut Tx,
    published: Arc<Bundle>,
    under: Option<&Relationship>,
) -> Result<bool, RegistryError> {
    let td = published.trust_domain().clone();
    if under.is_some() && relationships::find(tx, &td).await?.as_ref() != under {
        return Err(RegistryError::RelationshipChanged { trust_domain: td });
    }
    let newer = match find(tx, &td).await? {
        Some(stored) => check_newer(&stored, &published)?,
        None => true,
    };
    if newer {
        set(tx, published, BundleWrite::Set).await?;
    }
    Ok(newer)
}

async fn find(tx: &mut Tx, td: &TrustDomain) -> Result<Option<Bundle>, DatastoreError> {
    let row = tx
        .opt(
            "SELECT body FROM federated_bundles WHERE trust_domain = $1",
            &[&td.as_str()],
        )
        .await?;
    row.map(|row| text::read_bundle(td.clone(), get(&row, "body")?))
        .transpose()
}

pub(super) async fn delete(
    tx: &mut Tx,
    td: &TrustDomain,
    mode: DeleteMode,
    now: UnixTime,
) -> Result<bool, RegistryError> {
    if find(tx, td).await?.is_none() {
        return Ok(false);
    }
    let users = tx
        .rows(
            "SELECT entry_id FROM entry_federates WHERE trust_domain = $1",
            &[&td.as_str()],
        )
        .await?;
    if mode == DeleteMode::Restrict && !users.is_empty() {
        return Err(RegistryError::BundleInUse { entries: users.len() });
    }
    for user in &users {
        let id = get(user, "entry_id")?;
        if mode == DeleteMode::Delete {
            entries::remove(tx, id, now).await?;
        } else {
            entries::dissociate(tx, id, td, now).await?;
        }
    }
    tx.execute(
        "DELETE FROM federated_bundles WHERE trust_domain = $1",
        &[&td.as_str()],
    )
    .await?;
    tx.bury(now, Change::RemoveBundle(td.clone()));
    Ok(true)
}

const PUT: &str = "INSERT INTO federated_bundles (trust_domain, body, revision) VALUES ($1, $2, $3) \
    ON CONFLICT (trust_domain) DO UPDATE SET body = excluded.body, revision = excluded.revision";

//! Federated bundles in SQLite. Invariant: what is read back is what was stored, taints and expiry included.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{
    Bundle, Certificate, JwtAuthority, PublicKey, TrustDomain, UnixTime, WitAuthority, X509Authority,
};
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use super::convert::{damage, domain};
use super::tombstones::bury;
use super::writer::Tx;
use super::{entries, relationships};
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
            entries::dissociate(tx, id, td)?;
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

#[derive(Serialize, Deserialize)]
struct Body {
    x509: Vec<X509>,
    jwt: Vec<TokenKey>,
    #[serde(default)]
    wit: Vec<TokenKey>,
    sequence: u64,
    refresh_hint: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct X509 {
    der: String,
    tainted: bool,
}

#[derive(Serialize, Deserialize)]
struct TokenKey {
    kid: String,
    spki: String,
    expires_at: Option<i64>,
    tainted: bool,
}

fn encode(bundle: &Bundle) -> Result<String, DatastoreError> {
    let x509 = bundle
        .x509_authorities()
        .iter()
        .map(|a| X509 {
            der: BASE64.encode(a.certificate.as_der()),
            tainted: a.tainted,
        })
        .collect();
    let jwt = bundle
        .jwt_authorities()
        .iter()
        .map(|a| TokenKey {
            kid: a.key_id.clone(),
            spki: BASE64.encode(a.public_key.spki_der()),
            expires_at: a.expires_at.map(UnixTime::as_secs),
            tainted: a.tainted,
        })
        .collect();
    let wit = bundle
        .wit_authorities()
        .iter()
        .map(|a| TokenKey {
            kid: a.key_id.clone(),
            spki: BASE64.encode(a.public_key.spki_der()),
            expires_at: a.expires_at.map(UnixTime::as_secs),
            tainted: a.tainted,
        })
        .collect();
    let refresh_hint = bundle.refresh_hint().map(|hint| hint.as_secs());
    let body = Body {
        x509,
        jwt,
        wit,
        sequence: bundle.sequence(),
        refresh_hint,
    };
    serde_json::to_string(&body).map_err(|source| DatastoreError::Failed {
        source: Arc::new(source),
    })
}

fn decode(td: TrustDomain, text: &str) -> Result<Bundle, rusqlite::Error> {
    let body: Body = serde_json::from_str(text).map_err(|e| damage("body", e))?;
    let bytes = |text: &str| BASE64.decode(text).map_err(|e| damage("body", e));
    let x509 = body.x509.iter().map(|a| {
        let certificate = Certificate::from_der(&bytes(&a.der)?).map_err(|e| damage("body", e))?;
        Ok(X509Authority {
            certificate,
            tainted: a.tainted,
        })
    });
    let jwt = body.jwt.iter().map(|a| {
        Ok(JwtAuthority {
            key_id: a.kid.clone(),
            public_key: PublicKey::from_spki_der(&bytes(&a.spki)?).map_err(|e| damage("body", e))?,
            expires_at: a.expires_at.map(UnixTime::from_secs),
            tainted: a.tainted,
        })
    });
    let wit = body.wit.iter().map(|a| {
        Ok(WitAuthority {
            key_id: a.kid.clone(),
            public_key: PublicKey::from_spki_der(&bytes(&a.spki)?).map_err(|e| damage("body", e))?,
            expires_at: a.expires_at.map(UnixTime::from_secs),
            tainted: a.tainted,
        })
    });
    let x509 = x509.collect::<Result<Vec<_>, rusqlite::Error>>()?;
    let jwt = jwt.collect::<Result<Vec<_>, rusqlite::Error>>()?;
    let wit = wit.collect::<Result<Vec<_>, rusqlite::Error>>()?;
    let bundle = Bundle::new(td)
        .with_x509_authorities(x509)
        .and_then(|bundle| bundle.with_jwt_authorities(jwt))
        .and_then(|bundle| bundle.with_wit_authorities(wit))
        .map_err(|e| damage("body", e))?;
    Ok(bundle
        .with_sequence(body.sequence)
        .with_refresh_hint(body.refresh_hint.map(Duration::from_secs)))
}

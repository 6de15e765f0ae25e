//! Appended authorities in PostgreSQL. Invariant: they change with the journal's version, and the sequence of the bundle in the same transaction.

use std::collections::BTreeSet;

use landfast_identity::{Certificate, JwtAuthority, PublicKey, UnixTime, X509Authority};
use tokio_postgres::Row;

use super::authorities::{journal, next_version};
use super::row::{damage, get, opt_time, time};
use super::tx::Tx;
use crate::authority::{AppendedKey, AppendedRow, Journal};
use crate::datastore::DatastoreError;

pub(super) async fn all(tx: &mut Tx) -> Result<Vec<AppendedRow>, DatastoreError> {
    let rows = tx
        .rows("SELECT * FROM appended_authorities ORDER BY added_at, kind, id", &[])
        .await?;
    rows.iter().map(read).collect()
}

/// `None` when the journal is no longer the one that `rows` was made from.
pub(super) async fn save(
    tx: &mut Tx,
    expected: u64,
    rows: &[AppendedRow],
) -> Result<Option<Journal>, DatastoreError> {
    let before = journal(tx).await?;
    if before.version != expected {
        return Ok(None);
    }
    let names = |rows: &[AppendedRow]| {
        rows.iter()
            .map(|row| (row.key.kind().as_str(), row.key.id()))
            .collect::<BTreeSet<_>>()
    };
    let (old, new) = (names(&before.appended), names(rows));
    for (kind, id) in old.difference(&new) {
        tx.execute(
            "DELETE FROM appended_authorities WHERE kind = $1 AND id = $2",
            &[kind, id],
        )
        .await?;
    }
    for row in rows.iter().filter(|row| !before.appended.contains(row)) {
        put(tx, row).await?;
    }
    next_version(tx, before.appended != rows).await?;
    journal(tx).await.map(Some)
}

async fn put(tx: &mut Tx, row: &AppendedRow) -> Result<(), DatastoreError> {
    let (body, expires_at) = match &row.key {
        AppendedKey::X509(x509) => (x509.certificate.as_der(), Some(x509.certificate.not_after())),
        AppendedKey::Jwt(jwt) => (jwt.public_key.spki_der(), jwt.expires_at),
    };
    tx.execute(
        PUT,
        &[
            &row.key.kind().as_str(),
            &row.key.id(),
            &body,
            &expires_at.map(UnixTime::as_secs),
            &row.key.tainted(),
            &row.revoked,
            &row.by,
            &row.at.as_secs(),
        ],
    )
    .await?;
    Ok(())
}

fn read(row: &Row) -> Result<AppendedRow, DatastoreError> {
    let kind: &str = get(row, "kind")?;
    let body: &[u8] = get(row, "body")?;
    let tainted = get(row, "tainted")?;
    let key = match kind {
        "x509" => AppendedKey::X509(X509Authority {
            certificate: Certificate::from_der(body).map_err(|e| damage("body", e))?,
            tainted,
        }),
        "jwt" => AppendedKey::Jwt(JwtAuthority {
            key_id: get(row, "id")?,
            public_key: PublicKey::from_spki_der(body).map_err(|e| damage("body", e))?,
            expires_at: opt_time(row, "expires_at")?,
            tainted,
        }),
        other => return Err(damage("kind", other)),
    };
    Ok(AppendedRow {
        key,
        by: get(row, "added_by")?,
        at: time(row, "added_at")?,
        revoked: get(row, "revoked")?,
    })
}

const PUT: &str = "INSERT INTO appended_authorities (kind, id, body, expires_at, tainted, revoked, added_by, added_at) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8) \
    ON CONFLICT (kind, id) DO UPDATE SET expires_at = excluded.expires_at, tainted = excluded.tainted, revoked = excluded.revoked";

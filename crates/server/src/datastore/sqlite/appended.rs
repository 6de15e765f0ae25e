//! Appended authorities in SQLite. Invariant: they change with the journal's version, and the sequence of the bundle in the same transaction.

use std::collections::BTreeSet;

use landfast_identity::{Certificate, JwtAuthority, PublicKey, UnixTime, X509Authority};
use rusqlite::{Row, named_params, params};

use super::authorities::{journal, next_version};
use super::convert::{damage, opt_time, time};
use super::writer::Tx;
use crate::authority::{AppendedKey, AppendedRow, Journal};
use crate::datastore::DatastoreError;

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<AppendedRow>, DatastoreError> {
    let mut rows = tx
        .conn()
        .prepare_cached("SELECT * FROM appended_authorities ORDER BY added_at, kind, id")?;
    Ok(rows.query_map([], read)?.collect::<Result<_, _>>()?)
}

/// `None` when the journal is no longer the one that `rows` was made from.
pub(super) fn save(
    tx: &Tx<'_>,
    expected: u64,
    rows: &[AppendedRow],
) -> Result<Option<Journal>, DatastoreError> {
    let before = journal(tx)?;
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
        tx.conn()
            .prepare_cached("DELETE FROM appended_authorities WHERE kind = ?1 AND id = ?2")?
            .execute(params![kind, id])?;
    }
    for row in rows.iter().filter(|row| !before.appended.contains(row)) {
        put(tx, row)?;
    }
    next_version(tx, before.appended != rows)?;
    journal(tx).map(Some)
}

fn put(tx: &Tx<'_>, row: &AppendedRow) -> Result<(), DatastoreError> {
    let (body, expires_at) = match &row.key {
        AppendedKey::X509(x509) => (x509.certificate.as_der(), Some(x509.certificate.not_after())),
        AppendedKey::Jwt(jwt) => (jwt.public_key.spki_der(), jwt.expires_at),
    };
    tx.conn().prepare_cached(PUT)?.execute(named_params! {
        ":kind": row.key.kind().as_str(),
        ":id": row.key.id(),
        ":body": body,
        ":expires_at": expires_at.map(UnixTime::as_secs),
        ":tainted": row.key.tainted(),
        ":revoked": row.revoked,
        ":added_by": row.by,
        ":added_at": row.at.as_secs(),
    })?;
    Ok(())
}

fn read(row: &Row<'_>) -> Result<AppendedRow, rusqlite::Error> {
    let kind: String = row.get("kind")?;
    let body: Vec<u8> = row.get("body")?;
    let tainted = row.get("tainted")?;
    let key = match kind.as_str() {
        "x509" => AppendedKey::X509(X509Authority {
            certificate: Certificate::from_der(&body).map_err(|e| damage("body", e))?,
            tainted,
        }),
        "jwt" => AppendedKey::Jwt(JwtAuthority {
            key_id: row.get("id")?,
            public_key: PublicKey::from_spki_der(&body).map_err(|e| damage("body", e))?,
            expires_at: opt_time(row, "expires_at")?,
            tainted,
        }),
        other => return Err(damage("kind", other)),
    };
    Ok(AppendedRow {
        key,
        by: row.get("added_by")?,
        at: time(row, "added_at")?,
        revoked: row.get("revoked")?,
    })
}

const PUT: &str = "INSERT INTO appended_authorities (kind, id, body, expires_at, tainted, revoked, added_by, added_at) \
    VALUES (:kind, :id, :body, :expires_at, :tainted, :revoked, :added_by, :added_at) \
    ON CONFLICT (kind, id) DO UPDATE SET expires_at = excluded.expires_at, tainted = excluded.tainted, revoked = excluded.revoked";

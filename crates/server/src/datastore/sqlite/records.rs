//! Issuance records in SQLite. Invariant: a key has one identity for as long as a record of it is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};
use rusqlite::{OptionalExtension as _, Row, params};

use super::convert::{damage, id, opt_hash, opt_time, time};
use super::rungs;
use super::writer::Tx;
use crate::datastore::{DatastoreError, Recorded};
use crate::issuance::{IssuanceRecord, SvidKind};
use crate::reserve::MOST_AHEAD;

pub(super) fn write(tx: &Tx<'_>, records: &[IssuanceRecord]) -> Result<Vec<Recorded>, DatastoreError> {
    let mut ahead = BTreeMap::new();
    let written = records
        .iter()
        .map(|record| write_one(tx, record, &mut ahead))
        .collect::<Result<Vec<_>, _>>()?;
    // Once for each authority and not for each record: a batch has hundreds, of one authority.
    let mut ends: BTreeMap<&str, UnixTime> = BTreeMap::new();
    for (record, _) in records
        .iter()
        .zip(&written)
        .filter(|(_, written)| matches!(written, Recorded::Yes))
    {
        let end = ends.entry(&record.authority_id).or_insert(record.not_after);
        *end = record.not_after.max(*end);
    }
    for (authority_id, end) in ends {
        note_last_end(tx, authority_id, end)?;
    }
    Ok(written)
}

/// An authority's key is kept until the last SVID it signed has ended.
fn note_last_end(tx: &Tx<'_>, authority_id: &str, end: UnixTime) -> Result<(), DatastoreError> {
    let known = tx
        .conn()
        .prepare_cached(
            "UPDATE authorities SET last_svid_ends = max(coalesce(last_svid_ends, ?2), ?2) WHERE id = ?1",
        )?
        .execute(params![authority_id, end.as_secs()])?;
    if known == 0 {
        // Forgotten since it signed: nobody would verify the SVID.
        return Err(DatastoreError::Failed {
            source: Arc::new(UnknownAuthority),
        });
    }
    Ok(())
}

/// `ahead`: how many rungs there are of an agent and an entry, as far as was looked.
fn write_one(
    tx: &Tx<'_>,
    record: &IssuanceRecord,
    ahead: &mut BTreeMap<(String, Option<String>), u64>,
) -> Result<Recorded, DatastoreError> {
    if record.is_rung && !rungs::may_be_recorded(tx, record)? {
        return Ok(Recorded::Gone);
    }
    if record.is_rung && has_certificate(tx, record)? {
        return Ok(Recorded::KeyUsed);
    }
    if record.is_rung {
        let whose = (record.requester.clone(), record.entry_id.clone());
        let count = match ahead.get(&whose) {
            Some(count) => *count,
            None => rungs::ahead(tx, record)?,
        };
        ahead.insert(whose, count + 1);
        if count >= MOST_AHEAD {
            return Ok(Recorded::Enough);
        }
    }
    if let Some(other) = owner_of_key(tx, record)? {
        return Ok(Recorded::KeyTaken(other));
    }
    if record.is_rung {
        rungs::replace(tx, record)?;
    }
    tx.conn().prepare_cached(INSERT)?.execute(params![
        kind_text(record.kind),
        record.spiffe_id.as_str(),
        record.serial,
        record.key_hash.as_ref().map(<[u8; 32]>::as_slice),
        record.authority_id,
        record.requester,
        record.attestation,
        record.entry_id,
        record.not_before.as_secs(),
        record.not_after.as_secs(),
        record.issued_at.as_secs(),
        record.kind == SvidKind::Wit,
        record.is_rung,
        record.revoked_at.map(UnixTime::as_secs),
    ])?;
    Ok(Recorded::Yes)
}

#[derive(Debug, thiserror::Error)]
#[error("the authority that signed is not in the journal")]
struct UnknownAuthority;

/// Another identity that has this key. An agent's key may become another agent's: a node whose answer was lost comes back with a new
/// token and the key it had.
///
/// What an administrator minted neither has a key nor is judged by one: he may have any certificate with any key anyway, and tools of SPIRE mint and
/// attest with the same.
///
/// One record of the key is enough to look at: by this very rule the others are of the same identity, or of agents like it. An identity
/// that keeps its key for thousands of SVIDs costs no more than one that does not.
fn owner_of_key(tx: &Tx<'_>, record: &IssuanceRecord) -> Result<Option<String>, DatastoreError> {
    let Some(key) = record.key_hash.as_ref().filter(|_| !record.is_minted()) else {
        return Ok(None);
    };
    let mut any = tx.conn().prepare_cached(
        "SELECT spiffe_id FROM issued WHERE key_hash = ?1 AND NOT (entry_id IS NULL AND \
         (requester LIKE 'local %' OR requester LIKE 'admin %')) LIMIT 1",
    )?;
    let owner: Option<String> = any
        .query_row(params![key.as_slice()], |row| row.get(0))
        .optional()?;
    let agents = format!("{}/spire/agent/", record.spiffe_id.trust_domain().id_string());
    let same_kind = |owner: &str| record.spiffe_id.is_agent() && owner.starts_with(&agents);
    Ok(owner.filter(|owner| owner != record.spiffe_id.as_str() && !same_kind(owner)))
}

/// Whether the key of this one has any.
fn has_certificate(tx: &Tx<'_>, record: &IssuanceRecord) -> Result<bool, DatastoreError> {
    let Some(key) = &record.key_hash else {
        return Ok(false);
    };
    let mut any = tx.conn().prepare_cached(
        "SELECT EXISTS (SELECT 1 FROM issued WHERE key_hash = ?1 AND NOT (entry_id IS NULL AND \
         (requester LIKE 'local %' OR requester LIKE 'admin %')))",
    )?;
    Ok(any.query_row(params![key.as_slice()], |row| row.get(0))?)
}

pub(super) fn of(tx: &Tx<'_>, id: &SpiffeId) -> Result<Vec<IssuanceRecord>, DatastoreError> {
    let mut rows = tx
        .conn()
        .prepare_cached("SELECT * FROM issued WHERE spiffe_id = ?1 ORDER BY number")?;
    Ok(rows
        .query_map(params![id.as_str()], read)?
        .collect::<Result<_, _>>()?)
}

pub(super) fn prune(tx: &Tx<'_>, expired_before: UnixTime, limit: usize) -> Result<usize, DatastoreError> {
    let mut delete = tx.conn().prepare_cached(
        "DELETE FROM issued WHERE number IN (SELECT number FROM issued WHERE not_after < ?1 LIMIT ?2)",
    )?;
    Ok(delete.execute(params![
        expired_before.as_secs(),
        i64::try_from(limit).unwrap_or(i64::MAX)
    ])?)
}

pub(super) fn read(row: &Row<'_>) -> Result<IssuanceRecord, rusqlite::Error> {
    let kind: String = row.get("kind")?;
    Ok(IssuanceRecord {
        kind: match (kind.as_str(), row.get("wit")?) {
            ("x509", false) => SvidKind::X509,
            ("jwt", false) => SvidKind::Jwt,
            ("jwt", true) => SvidKind::Wit,
            (other, _) => return Err(damage("kind", other)),
        },
        spiffe_id: id(row, "spiffe_id")?,
        serial: row.get("serial")?,
        key_hash: opt_hash(row, "key_hash")?,
        authority_id: row.get("authority_id")?,
        requester: row.get("requester")?,
        attestation: row.get("attestation")?,
        entry_id: row.get("entry_id")?,
        not_before: time(row, "not_before")?,
        not_after: time(row, "not_after")?,
        issued_at: time(row, "issued_at")?,
        is_rung: row.get("rung")?,
        revoked_at: opt_time(row, "revoked_at")?,
    })
}

const fn kind_text(kind: SvidKind) -> &'static str {
    match kind {
        SvidKind::X509 => "x509",
        SvidKind::Jwt | SvidKind::Wit => "jwt",
    }
}

const INSERT: &str = "INSERT INTO issued (kind, spiffe_id, serial, key_hash, authority_id, requester, attestation, entry_id, not_before, \
    not_after, issued_at, wit, rung, revoked_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)";

//! Issuance records in PostgreSQL. Invariant: a key has one identity for as long as a record of it is kept, whichever server signed.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfast_identity::{SpiffeId, UnixTime};
use tokio_postgres::Row;

use super::row::{damage, get, id, limit, opt_hash, opt_time, time};
use super::rungs;
use super::tx::Tx;
use crate::datastore::{DatastoreError, Recorded};
use crate::issuance::{IssuanceRecord, SvidKind};
use crate::reserve::MOST_AHEAD;

/// A few statements for all of them: each is a round trip.
pub(super) async fn write(tx: &mut Tx, records: &[IssuanceRecord]) -> Result<Vec<Recorded>, DatastoreError> {
    let owners = owners(tx, records).await?;
    let (agents, entries) = rungs::those_there(tx, records).await?;
    let mut ahead = rungs::ahead(tx, records).await?;
    let mut here: BTreeMap<[u8; 32], String> = BTreeMap::new();
    let mut written = Vec::with_capacity(records.len());
    let mut kept = Vec::with_capacity(records.len());
    for record in records {
        let is_there = |entry: &String| agents.contains(&record.requester) && entries.contains(entry);
        if record.is_rung && !record.entry_id.as_ref().is_some_and(is_there) {
            written.push(Recorded::Gone);
            continue;
        }
        let key = record.key_hash.filter(|_| !record.is_minted());
        let owner = key.and_then(|key| owners.get(&key).or_else(|| here.get(&key)));
        if record.is_rung && owner.is_some() {
            written.push(Recorded::KeyUsed);
            continue;
        }
        if record.is_rung {
            let whose = (record.requester.clone(), record.entry_id.clone());
            let count = ahead.entry(whose).or_default();
            if *count >= MOST_AHEAD {
                written.push(Recorded::Enough);
                continue;
            }
            *count += 1;
        }
        match owner.filter(|owner| !may_share(owner, &record.spiffe_id)) {
            Some(other) => written.push(Recorded::KeyTaken(other.clone())),
            None => {
                if let Some(key) = key {
                    here.entry(key).or_insert_with(|| record.spiffe_id.to_string());
                }
                written.push(Recorded::Yes);
                kept.push(record);
            }
        }
    }
    rungs::replace(tx, &kept).await?;
    insert(tx, &kept).await?;
    let mut ends: BTreeMap<&str, UnixTime> = BTreeMap::new();
    for record in kept {
        let end = ends.entry(&record.authority_id).or_insert(record.not_after);
        *end = record.not_after.max(*end);
    }
    for (authority_id, end) in ends {
        note_last_end(tx, authority_id, end).await?;
    }
    Ok(written)
}

/// Another identity that has a key, by the key: see the rule in SQLite's. One record of each is enough.
async fn owners(
    tx: &mut Tx,
    records: &[IssuanceRecord],
) -> Result<BTreeMap<[u8; 32], String>, DatastoreError> {
    let keys = records.iter().filter(|record| !record.is_minted());
    let keys: Vec<Vec<u8>> = keys.filter_map(|r| r.key_hash.map(|key| key.to_vec())).collect();
    let mut owners = BTreeMap::new();
    if keys.is_empty() {
        return Ok(owners);
    }
    for row in tx.rows(OWNERS, &[&keys]).await? {
        if let Some(key) = opt_hash(&row, "key_hash")? {
            owners.insert(key, get(&row, "spiffe_id")?);
        }
    }
    Ok(owners)
}

/// An agent's key may become another agent's: a node whose answer was lost comes back with a new token and the key it had.
fn may_share(owner: &str, id: &SpiffeId) -> bool {
    let agents = format!("{}/spire/agent/", id.trust_domain().id_string());
    owner == id.as_str() || (id.is_agent() && owner.starts_with(&agents))
}

pub(super) async fn insert(tx: &mut Tx, records: &[&IssuanceRecord]) -> Result<(), DatastoreError> {
    if records.is_empty() {
        return Ok(());
    }
    let texts = |of: fn(&IssuanceRecord) -> String| records.iter().map(|r| of(r)).collect::<Vec<_>>();
    let times =
        |of: fn(&IssuanceRecord) -> UnixTime| records.iter().map(|r| of(r).as_secs()).collect::<Vec<_>>();
    let kinds: Vec<_> = records.iter().map(|r| kind_text(r.kind)).collect();
    let keys: Vec<_> = records
        .iter()
        .map(|r| r.key_hash.map(|key| key.to_vec()))
        .collect();
    let entries: Vec<_> = records.iter().map(|r| r.entry_id.clone()).collect();
    let minted: Vec<_> = records.iter().map(|r| r.is_minted()).collect();
    let rungs: Vec<_> = records.iter().map(|r| r.is_rung).collect();
    let revoked: Vec<_> = records
        .iter()
        .map(|r| r.revoked_at.map(UnixTime::as_secs))
        .collect();
    tx.execute(
        INSERT,
        &[
            &kinds,
            &texts(|r| r.spiffe_id.to_string()),
            &texts(|r| r.serial.clone()),
            &keys,
            &texts(|r| r.authority_id.clone()),
            &texts(|r| r.requester.clone()),
            &texts(|r| r.attestation.clone()),
            &entries,
            &minted,
            &times(|r| r.not_before),
            &times(|r| r.not_after),
            &times(|r| r.issued_at),
            &rungs,
            &revoked,
        ],
    )
    .await?;
    Ok(())
}

/// An authority's key is kept until the last SVID it signed has ended.
async fn note_last_end(tx: &mut Tx, authority_id: &str, end: UnixTime) -> Result<(), DatastoreError> {
    let server = tx.server().to_owned();
    let known = tx
        .execute(LAST_END, &[&authority_id, &end.as_secs(), &server])
        .await?;
    if known == 0 {
        // Forgotten since it signed: nobody would verify the SVID.
        return Err(DatastoreError::Failed {
            source: Arc::new(UnknownAuthority),
        });
    }
    Ok(())
}

#[derive(Debug, thiserror::Error)]
#[error("the authority that signed is not in the journal")]
struct UnknownAuthority;

pub(super) async fn of(tx: &mut Tx, id: &SpiffeId) -> Result<Vec<IssuanceRecord>, DatastoreError> {
    let sql = "SELECT * FROM issued WHERE spiffe_id = $1 ORDER BY number";
    let rows = tx.rows(sql, &[&id.as_str()]).await?;
    rows.iter().map(read).collect()
}

pub(super) async fn prune(
    tx: &mut Tx,
    expired_before: UnixTime,
    most: usize,
) -> Result<usize, DatastoreError> {
    let sql = "DELETE FROM issued WHERE number IN (SELECT number FROM issued WHERE not_after < $1 LIMIT $2)";
    let gone = tx
        .execute(sql, &[&expired_before.as_secs(), &limit(most)])
        .await?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}

fn read(row: &Row) -> Result<IssuanceRecord, DatastoreError> {
    let kind: &str = get(row, "kind")?;
    Ok(IssuanceRecord {
        kind: match kind {
            "x509" => SvidKind::X509,
            "jwt" => SvidKind::Jwt,
            "wit" => SvidKind::Wit,
            other => return Err(damage("kind", other)),
        },
        spiffe_id: id(row, "spiffe_id")?,
        serial: get(row, "serial")?,
        key_hash: opt_hash(row, "key_hash")?,
        authority_id: get(row, "authority_id")?,
        requester: get(row, "requester")?,
        attestation: get(row, "attestation")?,
        entry_id: get(row, "entry_id")?,
        not_before: time(row, "not_before")?,
        not_after: time(row, "not_after")?,
        issued_at: time(row, "issued_at")?,
        is_rung: get(row, "rung")?,
        revoked_at: opt_time(row, "revoked_at")?,
    })
}

const fn kind_text(kind: SvidKind) -> &'static str {
    match kind {
        SvidKind::X509 => "x509",
        SvidKind::Jwt => "jwt",
        SvidKind::Wit => "wit",
    }
}

const OWNERS: &str = "SELECT k.key_hash, (SELECT i.spiffe_id FROM issued i WHERE i.key_hash = k.key_hash AND NOT i.minted LIMIT 1) \
    AS spiffe_id FROM unnest($1::bytea[]) AS k (key_hash) \
    WHERE EXISTS (SELECT 1 FROM issued i WHERE i.key_hash = k.key_hash AND NOT i.minted)";
const INSERT: &str = "INSERT INTO issued (kind, spiffe_id, serial, key_hash, authority_id, requester, attestation, entry_id, minted, \
    not_before, not_after, issued_at, rung, revoked_at) SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::text[], \
    $7::text[], $8::text[], $9::boolean[], $10::bigint[], $11::bigint[], $12::bigint[], $13::boolean[], $14::bigint[])";
const LAST_END: &str = "UPDATE authorities SET last_svid_ends = greatest(coalesce(last_svid_ends, $2), $2) WHERE id = $1 AND server = $3";

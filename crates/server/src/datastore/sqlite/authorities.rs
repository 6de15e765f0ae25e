//! The journal of authorities in SQLite. Invariant: the sequence of the bundle grows in the transaction that changes its content.

use std::collections::BTreeSet;

use landfast_identity::{Certificate, PublicKey, UnixTime, parse_chain_der};
use rusqlite::{Connection, Row, named_params, params};

use super::above;
use super::appended;
use super::convert::{damage, opt_time, time};
use super::writer::Tx;
use crate::authority::{Above, AuthorityRow, Descent, Journal, Kind, Slot};
use crate::datastore::DatastoreError;

pub(super) fn journal(tx: &Tx<'_>) -> Result<Journal, DatastoreError> {
    let (version, sequence): (i64, i64) = tx
        .conn()
        .prepare_cached("SELECT journal_version, bundle_sequence FROM state")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut rows = tx
        .conn()
        .prepare_cached("SELECT * FROM authorities ORDER BY created_at, place, id")?;
    let rows = rows.query_map([], read)?.collect::<Result<_, _>>()?;
    Ok(Journal {
        version: version.unsigned_abs(),
        sequence: sequence.unsigned_abs(),
        rows,
        others: Vec::new(),
        appended: appended::all(tx)?,
        above: above::all(tx)?,
    })
}

/// `None` when the journal is no longer the one that `rows` was made from.
pub(super) fn save(
    tx: &Tx<'_>,
    expected: u64,
    rows: &[AuthorityRow],
    above: Option<&Above>,
) -> Result<Option<Journal>, DatastoreError> {
    let before = journal(tx)?;
    if before.version != expected {
        return Ok(None);
    }
    let names = |rows: &[AuthorityRow]| rows.iter().map(|row| row.id.clone()).collect::<BTreeSet<_>>();
    let (old, new) = (names(&before.rows), names(rows));
    for gone in old.difference(&new) {
        tx.conn()
            .prepare_cached("DELETE FROM authorities WHERE id = ?1")?
            .execute(params![gone])?;
    }
    // Those that give way first: the index allows one a slot.
    let order = |slot| match slot {
        Slot::Old => 0,
        Slot::Active => 1,
        Slot::Prepared => 2,
    };
    let mut placed: Vec<_> = (0_i64..).zip(rows).collect();
    placed.sort_by_key(|(_, row)| order(row.slot));
    for (place, row) in placed {
        put(tx, place, row)?;
    }
    // Those that are in the bundle themselves.
    let seen = |rows: &[AuthorityRow]| {
        rows.iter()
            .filter(|row| row.descent.is_none())
            .map(|row| (row.id.clone(), row.tainted))
            .collect::<BTreeSet<_>>()
    };
    let above_changed = match above {
        Some(above) if *above != before.above => {
            above::replace(tx, above)?;
            true
        }
        _ => false,
    };
    next_version(tx, above_changed || seen(&before.rows) != seen(rows))?;
    journal(tx).map(Some)
}

/// The journal has changed, and the bundle with it or not.
pub(super) fn next_version(tx: &Tx<'_>, bundle_changed: bool) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached(
            "UPDATE state SET journal_version = journal_version + 1, bundle_sequence = bundle_sequence + ?1",
        )?
        .execute(params![i64::from(bundle_changed)])?;
    // Entries that are lost with a damaged log are missed and made again. Authorities would be begun anew, and every node is cut off.
    tx.settle();
    Ok(())
}

fn put(tx: &Tx<'_>, place: i64, row: &AuthorityRow) -> Result<(), DatastoreError> {
    tx.conn().prepare_cached(PUT)?.execute(named_params! {
        ":id": row.id,
        ":place": place,
        ":kind": if row.kind == Kind::X509 { "x509" } else { "jwt" },
        ":wit": row.kind == Kind::Wit,
        ":slot": row.slot.as_str(),
        ":key_name": row.key_name,
        ":certificate": row.certificate.as_ref().map(Certificate::as_der),
        ":public_key": row.public_key.spki_der(),
        ":created_at": row.created_at.as_secs(),
        ":activated_at": row.activated_at.map(UnixTime::as_secs),
        ":not_before": row.not_before.as_secs(),
        ":not_after": row.not_after.as_secs(),
        ":tainted": row.tainted,
        ":chain": row.descent.as_ref().map(chain_der),
        ":root": row.descent.as_ref().map(|descent| &descent.root),
    })?;
    Ok(())
}

fn chain_der(descent: &Descent) -> Vec<u8> {
    let ders = descent.chain.iter().flat_map(|link| link.as_der());
    ders.copied().collect()
}

fn descent(row: &Row<'_>) -> Result<Option<Descent>, rusqlite::Error> {
    let (chain, root): (Option<Vec<u8>>, Option<String>) = (row.get("chain")?, row.get("root")?);
    let Some(root) = root else { return Ok(None) };
    let chain = match chain.filter(|der| !der.is_empty()) {
        Some(der) => parse_chain_der(&der).map_err(|e| damage("chain", e))?,
        None => Vec::new(),
    };
    Ok(Some(Descent { chain, root }))
}

fn read(row: &Row<'_>) -> Result<AuthorityRow, rusqlite::Error> {
    let kind: String = row.get("kind")?;
    let slot: String = row.get("slot")?;
    let certificate: Option<Vec<u8>> = row.get("certificate")?;
    let public_key: Vec<u8> = row.get("public_key")?;
    Ok(AuthorityRow {
        id: row.get("id")?,
        kind: match (kind.as_str(), row.get("wit")?) {
            ("x509", false) => Kind::X509,
            ("jwt", false) => Kind::Jwt,
            ("jwt", true) => Kind::Wit,
            (other, _) => return Err(damage("kind", other)),
        },
        slot: match slot.as_str() {
            "prepared" => Slot::Prepared,
            "active" => Slot::Active,
            "old" => Slot::Old,
            other => return Err(damage("slot", other)),
        },
        key_name: row.get("key_name")?,
        certificate: certificate
            .map(|der| Certificate::from_der(&der).map_err(|e| damage("certificate", e)))
            .transpose()?,
        descent: descent(row)?,
        public_key: PublicKey::from_spki_der(&public_key).map_err(|e| damage("public_key", e))?,
        created_at: time(row, "created_at")?,
        activated_at: opt_time(row, "activated_at")?,
        not_before: time(row, "not_before")?,
        not_after: time(row, "not_after")?,
        last_svid_ends: opt_time(row, "last_svid_ends")?,
        tainted: row.get("tainted")?,
    })
}

/// Until their end, all of them: the registry has gone back, and what was signed since is not known.
pub(super) fn may_have_signed(conn: &Connection) -> Result<(), rusqlite::Error> {
    conn.execute("UPDATE authorities SET last_svid_ends = not_after", [])?;
    Ok(())
}

/// `last_svid_ends` is not here: records write it.
const PUT: &str = "INSERT INTO authorities (id, place, kind, wit, slot, key_name, certificate, public_key, created_at, activated_at, not_before, \
    not_after, tainted, chain, root) VALUES (:id, :place, :kind, :wit, :slot, :key_name, :certificate, :public_key, :created_at, :activated_at, :not_before, \
    :not_after, :tainted, :chain, :root) ON CONFLICT (id) DO UPDATE SET place = excluded.place, slot = excluded.slot, activated_at = excluded.activated_at, \
    tainted = excluded.tainted";

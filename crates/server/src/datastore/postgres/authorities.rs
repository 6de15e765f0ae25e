//! The journal of authorities in PostgreSQL. Invariant: a server changes rows of its own, and taints, revokes or outlives those of others; the
//! sequence of the bundle grows in the transaction that changes its content.

use std::collections::BTreeSet;

use landfast_identity::{Certificate, PublicKey, UnixTime, parse_chain_der};
use tokio_postgres::Row;

use super::row::{damage, get, limit, opt_time, time, unsigned};
use super::tx::Tx;
use super::{above, appended};
use crate::authority::{Above, AuthorityRow, Descent, Journal, Kind, OtherChange, Slot};
use crate::datastore::DatastoreError;

pub(super) async fn journal(tx: &mut Tx) -> Result<Journal, DatastoreError> {
    let state = tx
        .one("SELECT journal_version, bundle_sequence FROM state", &[])
        .await?;
    let mut journal = Journal {
        version: unsigned(&state, "journal_version")?,
        sequence: unsigned(&state, "bundle_sequence")?,
        ..Journal::default()
    };
    for row in tx
        .rows("SELECT * FROM authorities ORDER BY created_at, place, id", &[])
        .await?
    {
        let authority = read(&row)?;
        match get::<&str>(&row, "server")? == tx.server() {
            true => journal.rows.push(authority),
            false => journal.others.push(authority),
        }
    }
    journal.appended = appended::all(tx).await?;
    journal.above = above::all(tx).await?;
    Ok(journal)
}

/// `None` when the journal is no longer the one that `rows` was made from.
pub(super) async fn save(
    tx: &mut Tx,
    expected: u64,
    rows: &[AuthorityRow],
    above: Option<&Above>,
) -> Result<Option<Journal>, DatastoreError> {
    let before = journal(tx).await?;
    if before.version != expected {
        return Ok(None);
    }
    let names = |rows: &[AuthorityRow]| rows.iter().map(|row| row.id.clone()).collect::<BTreeSet<_>>();
    let (old, new) = (names(&before.rows), names(rows));
    for gone in old.difference(&new) {
        tx.execute("DELETE FROM authorities WHERE id = $1", &[gone])
            .await?;
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
        put(tx, place, row).await?;
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
            above::replace(tx, above).await?;
            true
        }
        _ => false,
    };
    next_version(tx, above_changed || seen(&before.rows) != seen(rows)).await?;
    journal(tx).await.map(Some)
}

/// Changes an authority of another server, which learns of it by the feed.
pub(super) async fn change_other(
    tx: &mut Tx,
    expected: u64,
    id: &str,
    change: OtherChange,
) -> Result<Option<Journal>, DatastoreError> {
    let before = journal(tx).await?;
    let Some(row) = before.others.iter().find(|row| row.id == id) else {
        return Ok(None);
    };
    if before.version != expected {
        return Ok(None);
    }
    match change {
        OtherChange::Taint => {
            tx.execute("UPDATE authorities SET tainted = TRUE WHERE id = $1", &[&id])
                .await?
        }
        OtherChange::Revoke => {
            tx.execute("DELETE FROM authorities WHERE id = $1", &[&id])
                .await?
        }
    };
    if change == OtherChange::Revoke && row.kind == Kind::Jwt && !before.above.is_empty() {
        // The upstream authority has it too, and would bring it back.
        let mut known = before.above.clone();
        known.revoke_jwt(row);
        above::replace(tx, &known).await?;
    }
    next_version(tx, true).await?;
    journal(tx).await.map(Some)
}

/// Forgets authorities of other servers that ended before this: whoever does not come back has nobody to do it.
pub(super) async fn outlive(tx: &mut Tx, before: UnixTime, most: usize) -> Result<usize, DatastoreError> {
    let server = tx.server().to_owned();
    let over = tx.rows(OVER, &[&server, &before.as_secs(), &limit(most)]).await?;
    for row in &over {
        let id: &str = get(row, "id")?;
        tx.execute("DELETE FROM authorities WHERE id = $1", &[&id])
            .await?;
        tracing::info!(
            authority = id,
            "an authority of another server has ended and was forgotten"
        );
    }
    if !over.is_empty() {
        next_version(tx, true).await?;
    }
    Ok(over.len())
}

/// The journal has changed, and the bundle with it or not.
pub(super) async fn next_version(tx: &mut Tx, bundle_changed: bool) -> Result<(), DatastoreError> {
    tx.execute(NEXT, &[&i64::from(bundle_changed)]).await?;
    tx.stir();
    Ok(())
}

pub(super) async fn put(tx: &mut Tx, place: i64, row: &AuthorityRow) -> Result<(), DatastoreError> {
    let server = tx.server().to_owned();
    let chain = row.descent.as_ref().map(|descent| {
        let ders = descent.chain.iter().flat_map(|link| link.as_der());
        ders.copied().collect::<Vec<u8>>()
    });
    tx.execute(
        PUT,
        &[
            &row.id,
            &server,
            &place,
            &row.kind.as_str(),
            &row.slot.as_str(),
            &row.key_name,
            &row.certificate.as_ref().map(Certificate::as_der),
            &chain,
            &row.descent.as_ref().map(|descent| descent.root.as_str()),
            &row.public_key.spki_der(),
            &row.created_at.as_secs(),
            &row.activated_at.map(UnixTime::as_secs),
            &row.not_before.as_secs(),
            &row.not_after.as_secs(),
            &row.tainted,
        ],
    )
    .await?;
    Ok(())
}

fn descent(row: &Row) -> Result<Option<Descent>, DatastoreError> {
    let (chain, root): (Option<&[u8]>, Option<String>) = (get(row, "chain")?, get(row, "root")?);
    let Some(root) = root else { return Ok(None) };
    let chain = match chain.filter(|der| !der.is_empty()) {
        Some(der) => parse_chain_der(der).map_err(|e| damage("chain", e))?,
        None => Vec::new(),
    };
    Ok(Some(Descent { chain, root }))
}

fn read(row: &Row) -> Result<AuthorityRow, DatastoreError> {
    let kind: &str = get(row, "kind")?;
    let slot: &str = get(row, "slot")?;
    let certificate: Option<&[u8]> = get(row, "certificate")?;
    Ok(AuthorityRow {
        id: get(row, "id")?,
        kind: Kind::ALL
            .into_iter()
            .find(|known| known.as_str() == kind)
            .ok_or_else(|| damage("kind", kind))?,
        slot: match slot {
            "prepared" => Slot::Prepared,
            "active" => Slot::Active,
            "old" => Slot::Old,
            other => return Err(damage("slot", other)),
        },
        key_name: get(row, "key_name")?,
        certificate: certificate
            .map(|der| Certificate::from_der(der).map_err(|e| damage("certificate", e)))
            .transpose()?,
        descent: descent(row)?,
        public_key: PublicKey::from_spki_der(get(row, "public_key")?).map_err(|e| damage("public_key", e))?,
        created_at: time(row, "created_at")?,
        activated_at: opt_time(row, "activated_at")?,
        not_before: time(row, "not_before")?,
        not_after: time(row, "not_after")?,
        last_svid_ends: opt_time(row, "last_svid_ends")?,
        tainted: get(row, "tainted")?,
    })
}

const NEXT: &str =
    "UPDATE state SET journal_version = journal_version + 1, bundle_sequence = bundle_sequence + $1";
const OVER: &str = "SELECT id FROM authorities WHERE server <> $1 AND not_after < $2 ORDER BY id LIMIT $3";
/// `last_svid_ends` is not here: records write it.
const PUT: &str = "INSERT INTO authorities (id, server, place, kind, slot, key_name, certificate, chain, root, public_key, created_at, activated_at, \
    not_before, not_after, tainted) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) \
    ON CONFLICT (id) DO UPDATE SET place = excluded.place, slot = excluded.slot, activated_at = excluded.activated_at, \
    tainted = excluded.tainted";

//! What the upstream authority believes, in SQLite. Invariant: it is replaced whole, with the journal that fits it.

use landfast_identity::{Certificate, JwtAuthority, PublicKey, UnixTime};
use rusqlite::{Row, named_params};

use super::convert::{damage, opt_time};
use super::writer::Tx;
use crate::authority::{Above, Neighbour, Root, RootTrust};
use crate::datastore::DatastoreError;
use crate::random;

pub(super) fn all(tx: &Tx<'_>) -> Result<Above, DatastoreError> {
    let of = |kind: &str| format!("SELECT * FROM upstream_authorities WHERE kind = '{kind}' ORDER BY place");
    let mut roots = tx.conn().prepare_cached(&of(X509))?;
    let roots = roots.query_map([], root)?.collect::<Result<_, _>>()?;
    let mut jwt = tx.conn().prepare_cached(&of(JWT))?;
    let jwt = jwt.query_map([], neighbour)?.collect::<Result<_, _>>()?;
    Ok(Above { roots, jwt })
}

pub(super) fn replace(tx: &Tx<'_>, above: &Above) -> Result<(), DatastoreError> {
    tx.conn()
        .prepare_cached("DELETE FROM upstream_authorities")?
        .execute([])?;
    let mut put = tx.conn().prepare_cached(PUT)?;
    for (place, root) in (0_i64..).zip(&above.roots) {
        put.execute(named_params! {
            ":kind": X509,
            ":id": random::hex(&root.certificate.fingerprint_sha256()),
            ":place": place,
            ":body": root.certificate.as_der(),
            ":expires_at": root.certificate.not_after().as_secs(),
            ":trust": root.trust.as_str(),
        })?;
    }
    for (place, known) in (0_i64..).zip(&above.jwt) {
        let trust = match (known.revoked, known.authority.tainted) {
            (true, _) => RootTrust::Revoked,
            (false, true) => RootTrust::Tainted,
            (false, false) => RootTrust::Trusted,
        };
        put.execute(named_params! {
            ":kind": JWT,
            ":id": known.authority.key_id,
            ":place": place,
            ":body": known.authority.public_key.spki_der(),
            ":expires_at": known.authority.expires_at.map(UnixTime::as_secs),
            ":trust": trust.as_str(),
        })?;
    }
    Ok(())
}

fn root(row: &Row<'_>) -> Result<Root, rusqlite::Error> {
    let body: Vec<u8> = row.get("body")?;
    Ok(Root {
        certificate: Certificate::from_der(&body).map_err(|e| damage("body", e))?,
        trust: trust(row)?,
    })
}

fn neighbour(row: &Row<'_>) -> Result<Neighbour, rusqlite::Error> {
    let body: Vec<u8> = row.get("body")?;
    let trust = trust(row)?;
    Ok(Neighbour {
        authority: JwtAuthority {
            key_id: row.get("id")?,
            public_key: PublicKey::from_spki_der(&body).map_err(|e| damage("body", e))?,
            expires_at: opt_time(row, "expires_at")?,
            tainted: trust != RootTrust::Trusted,
        },
        revoked: trust == RootTrust::Revoked,
    })
}

fn trust(row: &Row<'_>) -> Result<RootTrust, rusqlite::Error> {
    let text: String = row.get("trust")?;
    [RootTrust::Trusted, RootTrust::Tainted, RootTrust::Revoked]
        .into_iter()
        .find(|trust| trust.as_str() == text)
        .ok_or_else(|| damage("trust", text.as_str()))
}

const X509: &str = "x509";
const JWT: &str = "jwt";
const PUT: &str = "INSERT INTO upstream_authorities (kind, id, place, body, expires_at, trust) \
    VALUES (:kind, :id, :place, :body, :expires_at, :trust)";

//! What the upstream authority believes, in PostgreSQL. Invariant: it is replaced whole, with the journal that fits it.

use landfast_identity::{Certificate, JwtAuthority, PublicKey, UnixTime};
use tokio_postgres::Row;

use super::row::{damage, get, opt_time};
use super::tx::Tx;
use crate::authority::{Above, Neighbour, Root, RootTrust};
use crate::datastore::DatastoreError;
use crate::random;

pub(super) async fn all(tx: &mut Tx) -> Result<Above, DatastoreError> {
    let mut above = Above::default();
    for row in tx.rows("SELECT * FROM upstream_authorities ORDER BY place", &[]).await? {
        match get(&row, "kind")? {
            X509 => above.roots.push(root(&row)?),
            JWT => above.jwt.push(neighbour(&row)?),
            other => return Err(damage("kind", other)),
        }
    }
    Ok(above)
}

pub(super) async fn replace(tx: &mut Tx, above: &Above) -> Result<(), DatastoreError> {
    tx.execute("DELETE FROM upstream_authorities", &[]).await?;
    for (place, root) in (0_i64..).zip(&above.roots) {
        let id = random::hex(&root.certificate.fingerprint_sha256());
        let end = Some(root.certificate.not_after().as_secs());
        let body = root.certificate.as_der();
        tx.execute(PUT, &[&X509, &id, &place, &body, &end, &root.trust.as_str()])
            .await?;
    }
    for (place, known) in (0_i64..).zip(&above.jwt) {
        let trust = match (known.revoked, known.authority.tainted) {
            (true, _) => RootTrust::Revoked,
            (false, true) => RootTrust::Tainted,
            (false, false) => RootTrust::Trusted,
        };
        let body = known.authority.public_key.spki_der();
        let end = known.authority.expires_at.map(UnixTime::as_secs);
        let id = &known.authority.key_id;
        tx.execute(PUT, &[&JWT, id, &place, &body, &end, &trust.as_str()])
            .await?;
    }
    Ok(())
}

fn root(row: &Row) -> Result<Root, DatastoreError> {
    Ok(Root {
        certificate: Certificate::from_der(get(row, "body")?).map_err(|e| damage("body", e))?,
        trust: trust(row)?,
    })
}

fn neighbour(row: &Row) -> Result<Neighbour, DatastoreError> {
    let trust = trust(row)?;
    Ok(Neighbour {
        authority: JwtAuthority {
            key_id: get(row, "id")?,
            public_key: PublicKey::from_spki_der(get(row, "body")?).map_err(|e| damage("body", e))?,
            expires_at: opt_time(row, "expires_at")?,
            tainted: trust != RootTrust::Trusted,
        },
        revoked: trust == RootTrust::Revoked,
    })
}

fn trust(row: &Row) -> Result<RootTrust, DatastoreError> {
    let text: &str = get(row, "trust")?;
    [RootTrust::Trusted, RootTrust::Tainted, RootTrust::Revoked]
        .into_iter()
        .find(|trust| trust.as_str() == text)
        .ok_or_else(|| damage("trust", text))
}

const X509: &str = "x509";
const JWT: &str = "jwt";
const PUT: &str = "INSERT INTO upstream_authorities (kind, id, place, body, expires_at, trust) VALUES ($1, $2, $3, $4, $5, $6)";

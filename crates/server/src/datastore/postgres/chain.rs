//! Steps of the bundle chain in PostgreSQL. Invariant: each follows the one that was the newest when it was added, whichever server added it.

use std::sync::Arc;

use landfast_identity::chain::{SignedStep, StepDigest};
use tokio_postgres::Row;

use super::row::{damage, get, limit};
use super::tx::Tx;
use crate::datastore::{DatastoreError, StepPlace};

pub(super) async fn newest(tx: &mut Tx) -> Result<Option<SignedStep>, DatastoreError> {
    tx.opt(NEWEST, &[]).await?.as_ref().map(read).transpose()
}

/// The database counts the bytes: what is not shown does not leave it.
pub(super) async fn from(
    tx: &mut Tx,
    place: StepPlace,
    most: usize,
    bytes: usize,
) -> Result<Vec<Vec<u8>>, DatastoreError> {
    let (epoch, sequence) = place.columns();
    let rows = tx
        .rows(FROM, &[&epoch, &sequence, &limit(most), &limit(bytes)])
        .await?;
    rows.iter().map(|row| get(row, "signed")).collect()
}

pub(super) async fn append(
    tx: &mut Tx,
    after: Option<StepDigest>,
    steps: &[Arc<SignedStep>],
) -> Result<bool, DatastoreError> {
    if newest(tx).await?.map(|newest| newest.digest()) != after {
        return Ok(false);
    }
    for step in steps {
        put(tx, step).await?;
    }
    Ok(true)
}

pub(super) async fn put(tx: &mut Tx, step: &SignedStep) -> Result<(), DatastoreError> {
    let (epoch, sequence) = StepPlace::of(step).columns();
    let (digest, signed) = (step.digest(), step.to_bytes());
    tx.execute(PUT, &[&epoch, &sequence, &digest.as_slice(), &signed])
        .await?;
    Ok(())
}

fn read(row: &Row) -> Result<SignedStep, DatastoreError> {
    let step = SignedStep::from_bytes(get(row, "signed")?).map_err(|e| damage("signed", e))?;
    match get::<&[u8]>(row, "digest")? == step.digest() {
        true => Ok(step),
        false => Err(damage("digest", "it is not that of the step")),
    }
}

const NEWEST: &str = "SELECT digest, signed FROM chain_steps ORDER BY epoch DESC, sequence DESC LIMIT 1";
const FROM: &str = "SELECT c.signed FROM (SELECT epoch, sequence, row_number() OVER o AS place, sum(length(signed)) OVER o - length(signed) AS before \
     FROM (SELECT epoch, sequence, signed FROM chain_steps WHERE (epoch, sequence) >= ($1, $2) ORDER BY epoch, sequence LIMIT $3) f \
     WINDOW o AS (ORDER BY epoch, sequence)) s JOIN chain_steps c USING (epoch, sequence) WHERE s.place <= 3 OR s.before <= $4 \
     ORDER BY epoch, sequence";
const PUT: &str = "INSERT INTO chain_steps (epoch, sequence, digest, signed) VALUES ($1, $2, $3, $4)";

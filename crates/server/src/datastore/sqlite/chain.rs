//! Steps of the bundle chain in SQLite. Invariant: each follows the one that was the newest when it was added.

use std::sync::Arc;

use landfast_identity::chain::{SignedStep, StepDigest};
use rusqlite::{OptionalExtension as _, Row, params};

use super::convert::damage;
use super::writer::Tx;
use crate::datastore::{DatastoreError, StepPlace};

pub(super) fn newest(tx: &Tx<'_>) -> Result<Option<SignedStep>, DatastoreError> {
    let mut newest = tx.conn().prepare_cached(NEWEST)?;
    Ok(newest.query_row([], read).optional()?)
}

pub(super) fn from(
    tx: &Tx<'_>,
    place: StepPlace,
    limit: usize,
    bytes: usize,
) -> Result<Vec<Vec<u8>>, DatastoreError> {
    let mut steps = tx.conn().prepare_cached(FROM)?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let (epoch, sequence) = place.columns();
    let mut rows = steps.query(params![epoch, sequence, limit])?;
    let (mut steps, mut read) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let step: Vec<u8> = row.get(0)?;
        read += step.len();
        steps.push(step);
        if steps.len() > 2 && read > bytes {
            break;
        }
    }
    Ok(steps)
}

pub(super) fn append(
    tx: &Tx<'_>,
    after: Option<StepDigest>,
    steps: &[Arc<SignedStep>],
) -> Result<bool, DatastoreError> {
    if newest(tx)?.map(|newest| newest.digest()) != after {
        return Ok(false);
    }
    steps.iter().try_for_each(|step| put(tx, step))?;
    Ok(true)
}

fn put(tx: &Tx<'_>, step: &SignedStep) -> Result<(), DatastoreError> {
    let (epoch, sequence) = StepPlace::of(step).columns();
    let mut put = tx.conn().prepare_cached(PUT)?;
    put.execute(params![epoch, sequence, step.digest(), step.to_bytes()])?;
    Ok(())
}

pub(super) fn all(tx: &Tx<'_>) -> Result<Vec<SignedStep>, DatastoreError> {
    let mut steps = tx.conn().prepare_cached(ALL)?;
    let steps = steps.query_map([], read)?;
    Ok(steps.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> Result<SignedStep, rusqlite::Error> {
    let signed: Vec<u8> = row.get("signed")?;
    let step = SignedStep::from_bytes(&signed).map_err(|e| damage("signed", e))?;
    match row.get::<_, Vec<u8>>("digest")? == step.digest() {
        true => Ok(step),
        false => Err(damage("digest", "it is not that of the step")),
    }
}

const NEWEST: &str = "SELECT digest, signed FROM chain_steps ORDER BY epoch DESC, sequence DESC LIMIT 1";
const ALL: &str = "SELECT digest, signed FROM chain_steps ORDER BY epoch, sequence";
const FROM: &str =
    "SELECT signed FROM chain_steps WHERE (epoch, sequence) >= (?1, ?2) ORDER BY epoch, sequence LIMIT ?3";
const PUT: &str = "INSERT INTO chain_steps (epoch, sequence, digest, signed) VALUES (?1, ?2, ?3, ?4)";

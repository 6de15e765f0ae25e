//! The records of a log, one after the other. Invariant: it verifies nothing, and stops where something is missing.

use super::pruned::pruned;
use super::source::{MAX_FILE_BYTES, Source};
use super::whole::bundle::{file, path};

/// Why reading has stopped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// There is no checkpoint, so nobody knows how many there are.
    #[error("{0} is missing or none: give the directory that holds the checkpoint of a ledger")]
    Checkpoint(String),
    /// A file is missing or cannot be read.
    #[error("{0}")]
    Missing(String),
    /// A file is not made of records.
    #[error("the bundle of record {0} is not made of records: landfast audit verify says more")]
    Malformed(u64),
}

/// Gives each record that the checkpoint names, from this number on (of a pruned log: from the first that is there), until `each` says that it is enough. Gives how many there are.
///
/// # Errors
/// What cannot be read; the records before it were given.
pub fn read(
    source: &dyn Source,
    from: u64,
    each: &mut dyn FnMut(u64, &[u8]) -> bool,
) -> Result<u64, ReadError> {
    let no_checkpoint = || ReadError::Checkpoint(source.describe(CHECKPOINT));
    let checkpoint = source.read(CHECKPOINT, MAX_CHECKPOINT_BYTES).ok().flatten();
    let checkpoint = checkpoint.and_then(|bytes| String::from_utf8(bytes).ok());
    let size = checkpoint.and_then(|text| text.lines().nth(1)?.parse::<u64>().ok());
    let size = size.ok_or_else(no_checkpoint)?;
    let first = format!("tile/entries/{}", path(from / WIDTH));
    let from = match pruned(source) {
        // What is not here is in an archive.
        before if from < before && matches!(source.read(&first, MAX_FILE_BYTES), Ok(None)) => before,
        _ => from,
    };
    for index in from / WIDTH..size.div_ceil(WIDTH) {
        let (begins, mut missing) = (index * WIDTH, Vec::new());
        let width = WIDTH.min(size - begins);
        let name = format!("tile/entries/{}", path(index));
        let Some(bytes) = file(source, &name, width, begins, &mut missing) else {
            let what = missing.pop().map(|finding| finding.what).unwrap_or_default();
            return Err(ReadError::Missing(what));
        };
        let mut rest = &bytes[..];
        for sequence in begins..begins + width {
            let record = rest.split_first_chunk::<2>();
            let record =
                record.and_then(|(length, after)| after.split_at_checked(u16::from_be_bytes(*length).into()));
            let (record, after) = record.ok_or(ReadError::Malformed(begins))?;
            if sequence >= from && !each(sequence, record) {
                return Ok(size);
            }
            rest = after;
        }
    }
    Ok(size)
}

const CHECKPOINT: &str = "checkpoint";
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;
const WIDTH: u64 = 256;

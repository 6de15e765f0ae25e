//! `landfast audit archive` and `prune`: how long a ledger is kept where it is written. Invariant: nothing goes that an archive does not have, verified
//! just now.

use std::path::PathBuf;

use landfast_audit::verify::DirSource;
use landfast_audit::{ArchiveError, age, archive, prune};
use landfast_daemon::error_chain;
use serde_json::json;

use super::read_key;
use crate::cli::Globals;
use crate::failure::Failure;
use crate::{output, wire};

#[derive(clap::Args, Debug)]
pub(crate) struct ArchiveArgs {
    /// The directory of the ledger.
    dir: PathBuf,
    /// The directory of the archive, on another disk; made when it is not there.
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// The verifier key of the ledger, or a file with it.
    #[arg(long, value_name = "KEY|FILE")]
    key: String,
}

#[derive(clap::Args, Debug)]
pub(crate) struct PruneArgs {
    /// The directory of the ledger.
    dir: PathBuf,
    /// The directory of its archive, which stays.
    #[arg(long, value_name = "DIR")]
    archive: PathBuf,
    /// The verifier key of the ledger, or a file with it.
    #[arg(long, value_name = "KEY|FILE")]
    key: String,
    /// What is older goes: a duration before now (90d), or a time in UTC.
    #[arg(long, value_name = "WHEN", value_parser = wire::moment, required_unless_present = "before")]
    older_than: Option<String>,
    /// What comes before this record goes.
    #[arg(long, value_name = "RECORD", conflicts_with = "older_than")]
    before: Option<u64>,
}

pub(super) fn archived(args: &ArchiveArgs, globals: &Globals) -> Result<(), Failure> {
    let key = read_key(&args.key)?;
    let done = archive(&DirSource::new(&args.dir), &args.to, &key).map_err(failure)?;
    if globals.json() {
        return output::print_json(
            &json!({ "records": done.records, "files": done.files, "bytes": done.bytes }),
        );
    }
    output::print(&format!(
        "{} has {} records, verified; {} files of {} bytes are new",
        args.to.display(),
        done.records,
        done.files,
        done.bytes
    ))
}

pub(super) fn pruned(args: &PruneArgs, globals: &Globals) -> Result<(), Failure> {
    let key = read_key(&args.key)?;
    let before = match (args.before, &args.older_than) {
        (Some(before), _) => before,
        (None, Some(since)) => age(&DirSource::new(&args.dir), since).map_err(|error| {
            Failure::failed(error, "landfast audit verify says what is wrong with a ledger")
        })?,
        (None, None) => 0,
    };
    let done = prune(&args.dir, &args.archive, &key, before).map_err(failure)?;
    if globals.json() {
        return output::print_json(&json!({ "first_record": done.before, "files": done.files }));
    }
    output::print(&format!(
        "{} has its records from {} on; {} files went",
        args.dir.display(),
        done.before,
        done.files
    ))
}

fn failure(error: ArchiveError) -> Failure {
    let hint = match &error {
        ArchiveError::Behind { .. } => "landfast audit archive DIR --to ARCHIVE --key KEY",
        ArchiveError::Itself { .. } => {
            "landfast audit archive DIR --to ARCHIVE --key KEY, with another directory"
        }
        ArchiveError::NotGood { .. } => {
            "landfast audit verify DIR --archive ARCHIVE --key KEY names the record"
        }
        _ => "nothing was taken away that is not in the archive; mend it and ask again",
    };
    Failure::failed(error_chain(&error), hint)
}

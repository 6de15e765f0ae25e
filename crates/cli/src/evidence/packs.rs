//! Packs are made and verified. Invariant: a pack that does not hold ends with exit code 1, and each reason is named.

use std::path::{Path, PathBuf};

use landfast_evidence::{Parts, pack as make, verify_pack};
use landfast_store::{FreshFile, PublicFile, StoreError};
use serde_json::json;

use super::ledgers::{From, Opened, Within, came_later, failure, read_checkpoints, read_keys};
use super::{show, shown};
use crate::cli::Globals;
use crate::failure::{FAILED, Failure};
use crate::output;

#[derive(clap::Args, Debug)]
pub(crate) struct PackArgs {
    /// What the report is for: within 24 hours, within 72, within a month after that.
    #[arg(long, value_name = "STAGE", value_parser = landfast_evidence::STAGES)]
    stage: String,
    /// The name of the case, for its title.
    #[arg(long, value_name = "NAME")]
    case: Option<String>,
    /// The file to write; it must not be there.
    #[arg(short = 'o', long = "out", value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    within: Within,
    #[command(flatten)]
    from: From,
}

#[derive(clap::Args, Debug)]
pub(crate) struct VerifyArgs {
    /// The pack.
    pack: PathBuf,
    /// The verifier key of each log in it, or a file with it, from where you trust it. Without, the pack vouches for itself.
    #[arg(long, value_name = "KEY|FILE")]
    key: Vec<String>,
    /// A checkpoint that was kept of a log in it: the log of the pack has to be its continuation, and not from before it. Of an earlier one the pack must
    /// have been made with it too.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
}

pub(super) fn pack(args: &PackArgs, globals: &Globals) -> Result<u8, Failure> {
    if args.out.exists() {
        return Err(Failure::failed(
            format!("{} is there already", args.out.display()),
            "a pack is evidence: give another name, and keep the old one",
        ));
    }
    let opened = Opened::open(&args.from)?;
    let parts = Parts {
        stage: &args.stage,
        case: args.case.as_deref(),
        period: args.within.period(),
    };
    let made = make(&opened.ledgers, &parts).map_err(|error| match error {
        landfast_evidence::PackError::Ledger(error) => failure(&error),
        error @ landfast_evidence::PackError::Case => Failure::usage(error, "it is printed as it is given"),
        error => Failure::failed(
            landfast_daemon::error_chain(&error),
            "landfast evidence gaps says from when to when there are records",
        ),
    })?;
    came_later(&made.evidence);
    ends_before(&made.report);
    fresh(&args.out, &made.bytes)?;
    let report = &made.report;
    let value = json!({
        "file": args.out.display().to_string(), "bytes": made.bytes.len(), "stage": report.stage, "case": report.case,
        "numbers": report.numbers, "quality": report.quality, "questions": report.questions.len(), "ledgers": opened.json(),
    });
    show(globals, &value, || {
        shown::packed(&args.out.display().to_string(), made.bytes.len(), report)
    })?;
    Ok(opened.judged())
}

/// A period that goes on after the last record is not over, as far as the ledger tells.
fn ends_before(report: &landfast_evidence::Report) {
    let Some(to) = &report.period.to else { return };
    for head in report.ledgers.iter().filter(|head| head.end == head.size) {
        output::complain(&format!(
            "note: {} has {} records by now, none of them from {to} or later: what it gets until then is not in this pack",
            output::clean_line(&head.origin),
            head.size
        ));
    }
}

pub(super) fn verify(args: &VerifyArgs, globals: &Globals) -> Result<u8, Failure> {
    let keys: Vec<_> = read_keys(&args.key)?.into_iter().map(|(key, _)| key).collect();
    let bytes = read(&args.pack)?;
    let report = verify_pack(&bytes, &keys, &read_checkpoints(&args.checkpoint)?);
    let value = json!({ "good": report.is_good(), "report": report });
    show(globals, &value, || shown::verified(&report))?;
    Ok(if report.is_good() { 0 } else { FAILED })
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    let length = std::fs::metadata(file).map(|metadata| metadata.len());
    let cannot = |error: std::io::Error| {
        Failure::failed(
            format!("cannot read {}: {error}", file.display()),
            "give the zip file of landfast evidence pack",
        )
    };
    if length.map_err(cannot)? > MOST_BYTES {
        return Err(Failure::failed(
            format!("{} is longer than a pack is, {MOST_BYTES} bytes", file.display()),
            "give the zip file of landfast evidence pack",
        ));
    }
    std::fs::read(file).map_err(cannot)
}

/// Whole or not at all, in the place of what was there.
pub(super) fn write(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = PublicFile::open(file).and_then(|opened| opened.replace(bytes));
    written.map_err(|error| cannot_write(file, &error))
}

/// Whole or not at all, and never over another.
fn fresh(file: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let written = FreshFile::begin(file).and_then(|mut begun| {
        begun.write(bytes)?;
        begun.commit()
    });
    written.map_err(|error| cannot_write(file, &error))
}

fn cannot_write(file: &Path, error: &StoreError) -> Failure {
    Failure::failed(
        format!(
            "cannot write {}: {}",
            file.display(),
            landfast_daemon::error_chain(error)
        ),
        "is there room, and may you write there?",
    )
}

/// Packed.
const MOST_BYTES: u64 = 1 << 30;

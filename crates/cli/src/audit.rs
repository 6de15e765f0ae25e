//! `landfast audit`: a ledger, read from its files, here or on a web server. Invariant: `verify` believes the key that it was given, and nothing
//! beside the records.

mod http;
mod place;
mod proof;
mod retain;
mod search;

use std::path::{Path, PathBuf};

use landfast_audit::verify::{LayeredSource, Report, VerifierKey, verify};
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{FAILED, Failure};
use crate::{inspect, output};
use place::Where;

#[derive(clap::Subcommand, Debug)]
pub(crate) enum AuditCommand {
    /// Whether every record is as it was signed; names the first that is not. Exit code 1 when one is not [local file].
    Verify {
        #[command(flatten)]
        place: Where,
        /// The verifier key of the ledger, or a file with it, from where you trust it: not from the directory that is verified.
        #[arg(long, value_name = "KEY|FILE")]
        key: String,
        /// A checkpoint of this ledger that was kept: the ledger has to be its continuation. May be given often.
        #[arg(long, value_name = "FILE")]
        checkpoint: Vec<PathBuf>,
        /// The archive of what was pruned from it: then all of it is verified, together.
        #[arg(long, value_name = "DIR")]
        archive: Vec<PathBuf>,
    },
    /// Copy what is new of a ledger to an archive, verify all of the archive, and give it its checkpoint; beside a server that runs [local file].
    Archive(retain::ArchiveArgs),
    /// Take from a ledger what its archive has, after both were verified; beside a server that runs [local file].
    Prune(retain::PruneArgs),
    /// A proof that a record is in the ledger, or that the ledger goes on from a checkpoint that was kept: for who has not the ledger [local file].
    Prove {
        #[command(flatten)]
        place: Where,
        /// The verifier key of the ledger, or a file with it: nothing is printed that does not hold under it.
        #[arg(long, value_name = "KEY|FILE")]
        key: String,
        #[command(flatten)]
        what: proof::What,
    },
    /// The verifier key that lies in the directory of a ledger, to be kept elsewhere [local file].
    Key {
        /// The directory of the ledger.
        dir: PathBuf,
    },
    /// The records that fit; verifies nothing. What is younger than the last checkpoint (10 s) is not among them [local file].
    Search {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        filter: search::Filter,
    },
    /// The last records; verifies nothing [local file].
    Tail {
        #[command(flatten)]
        place: Where,
        /// So many.
        #[arg(short = 'n', long, default_value_t = 20, value_name = "COUNT")]
        lines: u64,
    },
    /// The records that fit, a line of JSON each, as they were recorded; verifies nothing [local file].
    Export {
        #[command(flatten)]
        place: Where,
        #[command(flatten)]
        filter: search::Filter,
    },
}

/// Reads block, also those from a web server: not in the threads of a runtime.
pub(crate) fn run(command: AuditCommand, globals: &Globals) -> Result<u8, Failure> {
    std::thread::scope(|scope| {
        let done = scope.spawn(|| run_blocking(command, globals)).join();
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn run_blocking(command: AuditCommand, globals: &Globals) -> Result<u8, Failure> {
    match command {
        AuditCommand::Verify {
            place,
            key,
            checkpoint,
            archive,
        } => verified((&place, &archive), &key, &checkpoint, globals),
        AuditCommand::Archive(args) => retain::archived(&args, globals).map(|()| 0),
        AuditCommand::Prune(args) => retain::pruned(&args, globals).map(|()| 0),
        AuditCommand::Prove { place, key, what } => {
            let key = read_key(&key)?;
            proof::prove(&place, &key, &what, globals).map(|()| 0)
        }
        AuditCommand::Key { dir } => show_key(&dir, globals).map(|()| 0),
        AuditCommand::Search { place, filter } => search::search(&place, &filter, globals).map(|()| 0),
        AuditCommand::Tail { place, lines } => search::tail(&place, lines, globals).map(|()| 0),
        AuditCommand::Export { place, filter } => search::export(&place, &filter).map(|()| 0),
    }
}

fn verified(
    (place, archives): (&Where, &[PathBuf]),
    key: &str,
    kept: &[PathBuf],
    globals: &Globals,
) -> Result<u8, Failure> {
    let key = read_key(key)?;
    let kept = kept.iter().map(|file| {
        let text = inspect::read_text(file)?;
        Ok((file.display().to_string(), text.into_bytes()))
    });
    let kept = kept.collect::<Result<Vec<_>, Failure>>()?;
    let source = LayeredSource::over(place.open()?, archives);
    let report = verify(&source, &key, &kept);
    let code = if report.is_good() { 0 } else { FAILED };
    match globals.json() {
        true => output::print_json(&json!({ "good": report.is_good(), "report": report }))?,
        false => output::print(&for_people(&report, kept.len()))?,
    }
    Ok(code)
}

fn read_key(given: &str) -> Result<VerifierKey, Failure> {
    read_key_line(given).map(|(key, _)| key)
}

/// The line itself, or a file that has it.
pub(crate) fn read_key_line(given: &str) -> Result<(VerifierKey, String), Failure> {
    let hint = "a verifier key is one line, name+ID+key: landfast audit key DIR shows the one of a ledger";
    let text = match VerifierKey::parse(given) {
        Ok(key) => return Ok((key, given.trim().to_owned())),
        Err(error) if given.contains('+') && !Path::new(given).exists() => {
            return Err(Failure::failed(error, hint));
        }
        Err(_) => inspect::read_text(Path::new(given))?,
    };
    let key =
        VerifierKey::parse(&text).map_err(|error| Failure::failed(format!("{given}: {error}"), hint))?;
    Ok((key, text.trim().to_owned()))
}

fn show_key(dir: &Path, globals: &Globals) -> Result<(), Failure> {
    let text = inspect::read_text(&dir.join("verifier-key"))?;
    let key = VerifierKey::parse(&text).map_err(|error| {
        let path = dir.join("verifier-key");
        Failure::failed(
            format!("{}: {error}", path.display()),
            "take it from the log of the server, which says it when the ledger is begun",
        )
    })?;
    match globals.json() {
        true => output::print_json(
            &json!({ "origin": key.name(), "key_id": key.id(), "verifier_key": text.trim() }),
        ),
        false => output::print(text.trim()),
    }
}

fn for_people(report: &Report, kept: usize) -> String {
    let or_none = |time: &Option<String>| time.clone().unwrap_or_else(|| "none".to_owned());
    let qualities = report.time_quality.iter();
    let qualities = qualities.map(|(quality, count)| format!("{count} {quality}"));
    let mut rows = vec![
        ("ledger", report.origin.clone()),
        ("key id", report.key_id.clone()),
        ("records", report.records.to_string()),
        ("root", report.root.clone()),
        ("first", or_none(&report.first_time)),
        ("last", or_none(&report.last_time)),
        ("times", output::lines(qualities, "none")),
    ];
    if let Some(first) = report.first_time_went_back {
        let what = format!("{} times, first at record {first}", report.time_went_back);
        rows.push(("went back", what));
    }
    if report.pruned > 0 {
        let what = format!(
            "the first {}: they are not here; --archive DIR verifies them too",
            report.pruned
        );
        rows.push(("pruned", what));
    }
    if report.pruned > report.pruned_recorded {
        let what = format!(
            "of these the ledger's own records name {}: its server has not looked since it was pruned, or somebody else took the rest",
            report.pruned_recorded
        );
        rows.push(("not recorded", what));
    }
    if report.unseen > 0 {
        let what = format!("{} kept checkpoints end in what was pruned", report.unseen);
        rows.push(("not compared", what));
    }
    if kept > 0 {
        rows.push((
            "continues",
            format!("{} of {kept} kept checkpoints", report.remembered),
        ));
    }
    let facts = output::facts(&rows);
    match report.is_good() {
        true if report.pruned > 0 => {
            format!("{facts}\n\ngood: every record that is here is as it was signed")
        }
        true => format!("{facts}\n\ngood: every record is as it was signed"),
        false => {
            let rows = report.findings.iter().map(|finding| {
                let record = finding
                    .record
                    .map_or_else(|| "-".to_owned(), |record| record.to_string());
                let kind = serde_json::to_value(finding.kind).unwrap_or_default();
                vec![
                    record,
                    kind.as_str().unwrap_or_default().to_owned(),
                    finding.what.clone(),
                ]
            });
            let table = output::table(&["RECORD", "FINDING", "WHAT"], rows);
            format!("{facts}\n\nNOT as it was signed:\n{table}")
        }
    }
}

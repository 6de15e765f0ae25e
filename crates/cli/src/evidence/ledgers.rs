//! Which ledgers are asked, and by which keys. Invariant: with kept keys no ledger is read by the key that lies beside it.

use std::path::{Path, PathBuf};

use landfast_audit::verify::VerifierKey;
use landfast_evidence::{Evidence, Ledger, Ledgers, Opening, Period};
use serde_json::{Value, json};

use crate::failure::{FAILED, Failure};
use crate::{audit, inspect, output, wire};

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Which records")]
pub(crate) struct From {
    /// The directory of a ledger, or of a copy; several are joined by time.
    #[arg(long, value_name = "DIR", default_value = "/var/lib/landfast-server/ledger")]
    ledger: Vec<PathBuf>,
    /// A verifier key that you kept, or a file with it; one for each ledger. Without, the key that lies in the directory is taken.
    #[arg(long, value_name = "KEY|FILE")]
    key: Vec<String>,
    /// A checkpoint that you kept: the ledger has to be its continuation.
    #[arg(long, value_name = "FILE")]
    checkpoint: Vec<PathBuf>,
    /// An archive of what was pruned from one of them; its checkpoint says of which.
    #[arg(long, value_name = "DIR")]
    archive: Vec<PathBuf>,
}

#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Which records")]
pub(crate) struct Within {
    /// From then on: a time in UTC (2026-11-26T08:00:00Z, or its beginning), or a duration before now (2h).
    #[arg(id = "since", long = "from", value_name = "WHEN", value_parser = wire::moment)]
    from: Option<String>,
    /// Before then.
    #[arg(id = "until", long = "to", value_name = "WHEN", value_parser = wire::moment)]
    to: Option<String>,
}

impl Within {
    pub(super) fn period(&self) -> Period {
        Period {
            from: self.from.clone(),
            to: self.to.clone(),
        }
    }
}

/// Ledgers that were verified.
pub(super) struct Opened {
    pub(super) ledgers: Ledgers,
}

impl Opened {
    pub(super) fn open(from: &From) -> Result<Self, Failure> {
        let keys = read_keys(&from.key)?;
        let checkpoints = read_checkpoints(&from.checkpoint)?;
        let mut archives = Vec::new();
        for archive in &from.archive {
            archives.push((origin(archive)?, archive.clone()));
        }
        let mut all: Vec<Ledger> = Vec::new();
        for directory in &from.ledger {
            let origin = origin(directory)?;
            let kept = keys.iter().find(|(key, _)| key.name() == origin);
            if kept.is_none() && !keys.is_empty() {
                return Err(Failure::failed(
                    format!(
                        "none of the keys that were given is of {}, whose log is called {origin}",
                        directory.display()
                    ),
                    "give the key of each ledger with --key; a log with another name has another key, and is another log",
                ));
            }
            // A checkpoint begins with the name of its log.
            let of_this = checkpoints.iter().filter(|(_, note)| {
                from.ledger.len() == 1 || note.starts_with(format!("{origin}\n").as_bytes())
            });
            let of_this: Vec<_> = of_this.cloned().collect();
            let archives = archives.iter().filter(|(of, _)| *of == origin);
            let archives: Vec<_> = archives.map(|(_, directory)| directory.clone()).collect();
            let opening = Opening {
                key: kept.map(|(_, line)| line.as_str()),
                checkpoints: &of_this,
                archives: &archives,
            };
            let ledger = Ledger::open(directory, &opening);
            all.push(ledger.map_err(|error| failure(&error))?);
        }
        if let Some((of, directory)) = archives
            .iter()
            .find(|(of, _)| all.iter().all(|one| one.origin() != of))
        {
            return Err(Failure::failed(
                format!(
                    "{} is an archive of {of}, which is none of the ledgers that were given",
                    directory.display()
                ),
                "give the ledger of each archive with --ledger; an archive alone is a ledger too",
            ));
        }
        let ledgers = Ledgers::new(all).map_err(|error| failure(&error))?;
        Ok(Self { ledgers })
    }

    pub(super) fn evidence(&self, within: &Within) -> Result<Evidence, Failure> {
        let evidence = self.ledgers.evidence(&within.period());
        let evidence = evidence.map_err(|error| failure(&error))?;
        came_later(&evidence);
        Ok(evidence)
    }

    pub(super) fn names(&self) -> String {
        let names: Vec<_> = self.ledgers.all().iter().map(Ledger::origin).collect();
        names.join(", ")
    }

    /// Says beside the answer what is wrong with the ledgers; gives the exit code.
    pub(super) fn judged(&self) -> u8 {
        let mut code = 0;
        for ledger in self.ledgers.all() {
            let directory = ledger.directory().display();
            if !ledger.key_was_kept {
                output::complain(&format!(
                    "note: {directory} was verified by the key that lies in it: give the one that you kept with --key, and it counts"
                ));
            }
            for finding in ledger.findings.iter().take(MOST_SHOWN) {
                let record = finding
                    .record
                    .map(|record| format!("record {record}: "))
                    .unwrap_or_default();
                output::complain(&format!(
                    "NOT as it was signed: {directory}: {record}{}",
                    output::clean_line(&finding.what)
                ));
                code = FAILED;
            }
            if ledger.findings.len() > MOST_SHOWN {
                output::complain(&format!(
                    "… and more: landfast audit verify {directory} --key KEY names all"
                ));
            }
        }
        code
    }

    pub(super) fn json(&self) -> Value {
        let ledgers = self.ledgers.all().iter().map(|ledger| {
            json!({
                "directory": ledger.directory().display().to_string(),
                "origin": ledger.origin(),
                "key_was_kept": ledger.key_was_kept,
                "findings": ledger.findings,
            })
        });
        Value::from(ledgers.collect::<Vec<_>>())
    }
}

/// A node that was cut off tells later: a period that ends before has none of it.
pub(super) fn came_later(evidence: &Evidence) {
    if let Some((count, last)) = &evidence.came_later {
        output::complain(&format!(
            "note: {count} records of nodes about this time came to the server after it, the last at {}: they are not of the period; a later --to has them",
            output::clean_line(last)
        ));
    }
}

/// The name of the log in a directory, as its checkpoint has it; nothing is believed by it.
fn origin(directory: &Path) -> Result<String, Failure> {
    let note = inspect::read_text(&directory.join("checkpoint"))?;
    Ok(note.lines().next().unwrap_or_default().to_owned())
}

/// Each with the name of its file.
pub(super) fn read_checkpoints(files: &[PathBuf]) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let read = files.iter().map(|file| {
        let text = inspect::read_text(file)?;
        Ok((file.display().to_string(), text.into_bytes()))
    });
    read.collect()
}

/// Each with its line.
pub(super) fn read_keys(given: &[String]) -> Result<Vec<(VerifierKey, String)>, Failure> {
    given.iter().map(|given| audit::read_key_line(given)).collect()
}

pub(super) fn failure(error: &landfast_evidence::LedgerError) -> Failure {
    let hint = "landfast audit verify DIR --key KEY says what is wrong with a ledger";
    Failure::failed(landfast_daemon::error_chain(error), hint)
}

const MOST_SHOWN: usize = 20;

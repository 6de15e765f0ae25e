//! Which ledgers are asked, and by which keys. Invariant: with kept keys no ledger is read by the key that lies beside it.

use std::path::PathBuf;

use landfast_audit::verify::VerifierKey;
use landfast_evidence::{Evidence, Ledger, Ledgers, Period};
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
    /// Everything.
    pub(super) fn until_now() -> Self {
        Self { from: None, to: None }
    }

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
        let mut checkpoints = Vec::new();
        for file in &from.checkpoint {
            checkpoints.push((file.display().to_string(), inspect::read_text(file)?.into_bytes()));
        }
        let mut all = Vec::new();
        for directory in &from.ledger {
            let note = inspect::read_text(&directory.join("checkpoint"))?;
            let origin = note.lines().next().unwrap_or_default();
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
            let ledger = Ledger::open(directory, kept.map(|(_, line)| line.as_str()), &of_this);
            all.push(ledger.map_err(|error| failure(&error))?);
        }
        Ok(Self {
            ledgers: Ledgers::new(all),
        })
    }

    pub(super) fn evidence(&self, within: &Within) -> Result<Evidence, Failure> {
        self.ledgers
            .evidence(&within.period())
            .map_err(|error| failure(&error))
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

/// Each with its line.
pub(super) fn read_keys(given: &[String]) -> Result<Vec<(VerifierKey, String)>, Failure> {
    given.iter().map(|given| audit::read_key_line(given)).collect()
}

pub(super) fn failure(error: &landfast_evidence::LedgerError) -> Failure {
    let hint = "landfast audit verify DIR --key KEY says what is wrong with a ledger";
    Failure::failed(landfast_daemon::error_chain(error), hint)
}

const MOST_SHOWN: usize = 20;

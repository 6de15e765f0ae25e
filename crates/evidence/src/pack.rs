//! A pack: one file that carries records, their proofs, and a report that follows from them.
//!
//! Invariant: the same records make the same pack; whoever has the key of the log can check all of it with nothing else.

mod archive;
mod check;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::catalogue;
use crate::evidence::{Evidence, Head};
use crate::ledger::{LedgerError, Ledgers};
use crate::page;
use crate::period::Period;
use crate::record::{Record, Ref};
use crate::report::Report;

pub use check::verify_pack;
pub use verdict::{PackFinding, PackReport};

/// What a pack is about.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// `early-warning`, `notification` or `final`.
    pub stage: &'a str,
    /// A name for the case.
    pub case: Option<&'a str>,
    /// From when to when.
    pub period: Period,
}

/// A pack that was made.
pub struct Packed {
    /// The zip file.
    pub bytes: Vec<u8>,
    /// Its report.
    pub report: Report,
    /// What it was made of, with what a pack does not hold: records of nodes that came later.
    pub evidence: Evidence,
}

/// Why there is no pack.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// No such stage.
    #[error("no stage {name}: there are early-warning, notification and final")]
    Stage {
        /// What was asked for.
        name: String,
    },
    /// Statements about the law are not ours to print.
    #[error("the name of the case uses a word that no report of ours prints: give it another name")]
    Case,
    /// More than a pack holds.
    #[error(
        "{records} records are more than a pack holds, {MOST_IN_A_PACK}: narrow the period, and make several"
    )]
    TooMany {
        /// So many.
        records: usize,
    },
    /// There is nothing to tell.
    #[error("the ledger has no record from {period}: look at the period, and which ledger it is")]
    Nothing {
        /// What was asked for.
        period: Period,
    },
    /// The archive cannot be written.
    #[error("the zip file cannot be made")]
    Zip(#[from] zip::result::ZipError),
    /// It cannot be written.
    #[error("the zip file cannot be made")]
    Io(#[from] std::io::Error),
    /// A part cannot be put into JSON.
    #[error("a part of the pack cannot be made")]
    Json(#[from] serde_json::Error),
}

/// What a pack says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Manifest {
    format: u64,
    made_by: String,
    stage: String,
    case: Option<String>,
    period: Period,
    ledgers: Vec<Head>,
}

/// The proof of one record; or, from a size, that the log goes on from there.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    seq: u64,
    proof: Vec<String>,
}

/// Makes one.
///
/// # Errors
/// The period is empty or too large, or a ledger cannot be read.
pub fn pack(ledgers: &Ledgers, parts: &Parts<'_>) -> Result<Packed, PackError> {
    if parts.case.is_some_and(catalogue::judges) {
        return Err(PackError::Case);
    }
    let evidence = ledgers.evidence(&parts.period)?;
    if evidence.expected() == 0 {
        return Err(PackError::Nothing {
            period: parts.period.clone(),
        });
    }
    if evidence.records.len() > MOST_IN_A_PACK {
        return Err(PackError::TooMany {
            records: evidence.records.len(),
        });
    }
    let edges = edges(ledgers, &evidence);
    let unknown = || PackError::Stage {
        name: parts.stage.to_owned(),
    };
    let report = Report::build(&evidence, parts.stage, parts.case).ok_or_else(unknown)?;
    let manifest = Manifest {
        format: 1,
        made_by: format!("landfast {}", env!("CARGO_PKG_VERSION")),
        stage: parts.stage.to_owned(),
        case: parts.case.map(str::to_owned),
        period: parts.period.clone(),
        ledgers: evidence.ledgers.clone(),
    };
    let mut files = vec![
        (README.to_owned(), READ_ME.as_bytes().to_vec()),
        (MANIFEST.to_owned(), pretty(&manifest)?),
        (REPORT_JSON.to_owned(), pretty(&report)?),
        (REPORT_HTML.to_owned(), page::report_page(&report).into_bytes()),
    ];
    for (index, ledger) in ledgers.all().iter().enumerate() {
        let number = index + 1;
        let mut of_this: Vec<_> = evidence
            .records
            .iter()
            .filter(|record| record.at.ledger == number)
            .collect();
        of_this.extend(edges.iter().filter(|record| record.at.ledger == number));
        of_this.sort_by_key(|record| record.at);
        let (mut lines, mut proofs) = (String::new(), String::new());
        for record in of_this {
            lines.push_str(&record.line);
            lines.push('\n');
            let proof = ledger.proof(record.at.record)?;
            proofs.push_str(&proof_line(record.at.record, &proof)?);
        }
        let at = |name: &str| format!("ledger-{number}/{name}");
        files.push((at(CHECKPOINT), ledger.checkpoint.clone()));
        files.push((at(KEY), format!("{}\n", ledger.key_line).into_bytes()));
        files.push((at(RECORDS), lines.into_bytes()));
        files.push((at(PROOFS), proofs.into_bytes()));
        let mut continues = String::new();
        for (size, proof) in ledger.continued() {
            continues.push_str(&proof_line(size, &proof)?);
        }
        if !continues.is_empty() {
            files.push((at(CONTINUES), continues.into_bytes()));
        }
    }
    let bytes = archive::write(&files)?;
    Ok(Packed {
        bytes,
        report,
        evidence,
    })
}

fn proof_line(seq: u64, proof: &[[u8; 32]]) -> Result<String, serde_json::Error> {
    let proof = proof.iter().map(archive::base64).collect();
    let line = serde_json::to_string(&Proof { seq, proof })?;
    Ok(format!("{line}\n"))
}

/// The records on both sides of the period, which show that it begins and ends where it says, and those that say that a log was pruned.
fn edges(ledgers: &Ledgers, evidence: &Evidence) -> Vec<Record> {
    let there: BTreeSet<Ref> = evidence.records.iter().map(|record| record.at).collect();
    let mut edges: BTreeMap<Ref, Record> = BTreeMap::new();
    for (index, (ledger, head)) in ledgers.all().iter().zip(&evidence.ledgers).enumerate() {
        let one = |number: u64| ledger.one(index + 1, number);
        // What has no time is where the record before it is: back to one that has.
        let before = (0..head.first).rev().take(MOST_TIMELESS);
        for number in before {
            let Some(record) = one(number) else { break };
            let has_time = record.placed().is_some();
            edges.insert(record.at, record);
            if has_time {
                break;
            }
        }
        let after = Some(head.end).filter(|end| *end < head.size);
        let pruned_by = evidence.pruned_by.iter().filter(|at| at.ledger == index + 1);
        let beside = after.into_iter().chain(pruned_by.map(|at| at.record));
        edges.extend(beside.filter_map(one).map(|record| (record.at, record)));
    }
    edges.retain(|at, _| !there.contains(at));
    edges.into_values().collect()
}

fn pretty(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = serde_json::to_vec_pretty(value)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The names of the stages.
pub const STAGES: [&str; 3] = ["early-warning", "notification", "final"];

const README: &str = "README.txt";
const MANIFEST: &str = "manifest.json";
const REPORT_JSON: &str = "report.json";
const REPORT_HTML: &str = "report.html";
const CHECKPOINT: &str = "checkpoint";
const KEY: &str = "verifier-key";
const RECORDS: &str = "records.jsonl";
const PROOFS: &str = "proofs.jsonl";
const CONTINUES: &str = "continues.jsonl";
const MOST_IN_A_PACK: usize = 200_000;
const MOST_LEDGERS: usize = 64;
/// Records without a time that are looked through for one that has it.
const MOST_TIMELESS: usize = 1000;
const READ_ME: &str = include_str!("../data/README.txt");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_are_those_of_the_templates() {
        let templates: Vec<_> = crate::report::STAGES.iter().map(|(name, _)| *name).collect();
        assert_eq!(templates, STAGES);
    }
}

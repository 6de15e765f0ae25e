//! Verifying a pack. Invariant: nothing is believed but the key, and what follows from it: checkpoint, proofs, records, and the report made again from them.

mod edges;
mod log;

use std::collections::{BTreeMap, BTreeSet};

use landfast_audit::verify::VerifierKey;

use super::archive;
use super::verdict::{PackFinding, PackReport};
use super::{MANIFEST, MOST_LEDGERS, Manifest, READ_ME, README, REPORT_HTML, REPORT_JSON};
use crate::evidence::Evidence;
use crate::page;
use crate::report::Report;

/// Looks at everything in a pack. `keys` are verifier keys that somebody kept; a log whose key is among them is judged by it, another one by the key in the
/// pack. `kept` are checkpoints that somebody kept, each with a name for people: the logs have to be their continuation.
#[must_use]
pub fn verify_pack(bytes: &[u8], keys: &[VerifierKey], kept: &[(String, Vec<u8>)]) -> PackReport {
    let mut report = PackReport::default();
    let files = match archive::read(bytes) {
        Ok(files) => files,
        Err(finding) => {
            report.findings.push(finding);
            return report;
        }
    };
    let mut check = Check {
        files: &files,
        keys,
        kept,
        report,
    };
    check.all();
    if check.is_full() {
        check.report.findings.push(PackFinding::of_file(
            "(the pack)",
            "there is more, which is not named: nothing of it can be believed".to_owned(),
        ));
    }
    check.report
}

struct Check<'a> {
    files: &'a BTreeMap<String, Vec<u8>>,
    keys: &'a [VerifierKey],
    kept: &'a [(String, Vec<u8>)],
    report: PackReport,
}

impl<'a> Check<'a> {
    fn all(&mut self) {
        let Some(manifest) = self.manifest() else { return };
        self.report.stage.clone_from(&manifest.stage);
        self.report.case.clone_from(&manifest.case);
        self.report.period = manifest.period.to_string();
        self.report.authoritative = true;
        self.report.to_the_end = true;
        let (mut records, mut ledgers) = (Vec::new(), Vec::new());
        for (index, claimed) in manifest.ledgers.iter().enumerate() {
            let (head, of_this) = self.ledger(index + 1, claimed, &manifest.period);
            records.extend(of_this);
            ledgers.push(head);
        }
        self.no_other_files(&manifest);
        self.each_was_asked_for(&manifest);
        let evidence = Evidence::new(ledgers, records, manifest.period.clone());
        self.report.missing = evidence.missing();
        self.made_again(&evidence, &manifest);
    }

    fn no_other_files(&mut self, manifest: &Manifest) {
        let numbers = self.files.keys().filter_map(|name| {
            let number = name.strip_prefix("ledger-")?.split('/').next()?;
            number.parse::<usize>().ok()
        });
        if numbers.max().unwrap_or(0) > manifest.ledgers.len() {
            self.found(
                MANIFEST,
                "the pack has files of a log that it does not name".to_owned(),
            );
        }
    }

    /// A log that was left out is not seen by what is there: whoever gives its key, or a checkpoint of it, waits for it.
    fn each_was_asked_for(&mut self, manifest: &Manifest) {
        let origins: BTreeSet<&str> = manifest.ledgers.iter().map(|head| head.origin.as_str()).collect();
        let left_out = self
            .keys
            .iter()
            .map(VerifierKey::name)
            .filter(|name| !origins.contains(name));
        let left_out: BTreeSet<&str> = left_out.collect();
        for name in left_out {
            self.found(
                MANIFEST,
                format!("the log {name}, whose key was given, is not in this pack"),
            );
        }
        let kept = self.kept;
        for (name, note) in kept {
            let origin = note.split(|byte| *byte == b'\n').next().unwrap_or_default();
            if !origins.contains(String::from_utf8_lossy(origin).as_ref()) {
                self.found(MANIFEST, format!("{name} is a checkpoint of no log in this pack"));
            }
        }
    }

    /// Enough is wrong; no more is looked for, whatever there is.
    fn is_full(&self) -> bool {
        self.report.findings.len() >= MOST_FINDINGS
    }

    fn found(&mut self, file: &str, what: String) {
        if !self.is_full() {
            self.report.findings.push(PackFinding::of_file(file, what));
        }
    }

    fn found_at(&mut self, file: &str, record: u64, what: impl Into<String>) {
        if !self.is_full() {
            let found = PackFinding::of_record(file, record, what);
            self.report.findings.push(found);
        }
    }

    fn text(&mut self, name: &str) -> Option<&'a str> {
        let Some(bytes) = self.files.get(name) else {
            self.found(name, "it is missing".to_owned());
            return None;
        };
        let text = std::str::from_utf8(bytes);
        if text.is_err() {
            self.found(name, "it is not text".to_owned());
        }
        text.ok()
    }

    fn manifest(&mut self) -> Option<Manifest> {
        let text = self.text(MANIFEST)?;
        let manifest: Manifest = match serde_json::from_str(text) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.found(MANIFEST, format!("it is no manifest: {error}"));
                return None;
            }
        };
        let mut origins = BTreeSet::new();
        let is_sane = manifest.format == 1
            && (1..=MOST_LEDGERS).contains(&manifest.ledgers.len())
            && manifest.ledgers.iter().all(|head| {
                head.first <= head.end && head.end <= head.size && origins.insert(head.origin.as_str())
            });
        if !is_sane {
            let what = "it is of another format, or says what cannot be: a log twice, or one that ends before it begins";
            self.found(MANIFEST, what.to_owned());
        }
        let trouble = manifest.period.trouble();
        let is_period = trouble.is_none();
        // What compares with no time would leave out what it likes.
        if let Some(what) = trouble {
            self.found(MANIFEST, format!("its period is none: {what}"));
        }
        (is_sane && is_period).then_some(manifest)
    }

    /// The report, from the records.
    fn made_again(&mut self, evidence: &Evidence, manifest: &Manifest) {
        let Some(report) = Report::build(evidence, &manifest.stage, manifest.case.as_deref()) else {
            self.found(MANIFEST, format!("no stage is called {}", manifest.stage));
            return;
        };
        let made_by = format!("landfast {}", env!("CARGO_PKG_VERSION"));
        let hint = match manifest.made_by == made_by {
            true => String::new(),
            false => format!(
                "; it was made by {}, and this is {made_by}: verify with that version before you conclude anything",
                manifest.made_by
            ),
        };
        let json = super::pretty(&report).unwrap_or_default();
        let page = page::report_page(&report).into_bytes();
        let read_me = READ_ME.as_bytes().to_vec();
        for (name, made, from) in [
            (REPORT_JSON, json, "the records"),
            (REPORT_HTML, page, "the records"),
            (README, read_me, "this program"),
        ] {
            match self.files.get(name) {
                None => self.found(name, "it is missing".to_owned()),
                Some(there) if *there != made => {
                    let what = format!(
                        "it does not follow from {from}: {}{hint}",
                        first_difference(there, &made)
                    );
                    self.found(name, what);
                }
                Some(_) => self.report.score = Some(report.quality.score),
            }
        }
    }
}

/// The first line that differs, for people.
fn first_difference(there: &[u8], made: &[u8]) -> String {
    let (there, made) = (String::from_utf8_lossy(there), String::from_utf8_lossy(made));
    let at = there
        .lines()
        .zip(made.lines())
        .position(|(one, other)| one != other);
    let at = at.unwrap_or_else(|| there.lines().count().min(made.lines().count()));
    let line = |text: &str| {
        let line: String = text
            .lines()
            .nth(at)
            .unwrap_or("(nothing)")
            .trim()
            .chars()
            .take(120)
            .collect();
        line
    };
    format!(
        "line {} says {}, and it should be {}",
        at + 1,
        line(&there),
        line(&made)
    )
}

const MOST_FINDINGS: usize = 1000;

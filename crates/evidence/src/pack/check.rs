//! Verifying a pack. Invariant: nothing is believed but the key, and what follows from it: checkpoint, proofs, records, and the report made again from them.

use std::collections::BTreeMap;

use landfast_audit::verify::{SignedHead, VerifierKey, verify_inclusion};

use super::archive;
use super::verdict::{PackFinding, PackReport};
use super::{
    CHECKPOINT, KEY, MANIFEST, MOST_LEDGERS, Manifest, PROOFS, Proof, RECORDS, REPORT_HTML, REPORT_JSON,
};
use crate::evidence::{Evidence, Head, Span};
use crate::ledger::stands;
use crate::page;
use crate::record::{Record, Ref};
use crate::report::Report;

/// Looks at everything in a pack. `keys` are verifier keys that somebody kept; a log whose key is among them is judged by it, another one by the key in the
/// pack.
#[must_use]
pub fn verify_pack(bytes: &[u8], keys: &[VerifierKey]) -> PackReport {
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
        report,
    };
    check.all();
    let mut report = check.report;
    report.findings.truncate(MOST_FINDINGS);
    report
}

struct Check<'a> {
    files: &'a BTreeMap<String, Vec<u8>>,
    keys: &'a [VerifierKey],
    report: PackReport,
}

impl Check<'_> {
    fn all(&mut self) {
        let Some(manifest) = self.manifest() else { return };
        self.report.stage.clone_from(&manifest.stage);
        self.report.case.clone_from(&manifest.case);
        self.report.period = manifest.period.to_string();
        self.report.authoritative = true;
        let mut records = Vec::new();
        for (index, head) in manifest.ledgers.iter().enumerate() {
            records.extend(self.ledger(index + 1, head, &manifest));
        }
        let extra = self.files.keys().filter_map(|name| {
            name.strip_prefix("ledger-")?
                .split('/')
                .next()?
                .parse::<usize>()
                .ok()
        });
        if extra.max().unwrap_or(0) > manifest.ledgers.len() {
            self.found(
                MANIFEST,
                "the pack has files of a log that it does not name".to_owned(),
            );
        }
        self.report.missing = manifest
            .ledgers
            .iter()
            .flat_map(|head| &head.missing)
            .map(Span::count)
            .sum();
        let evidence = Evidence::new(manifest.ledgers.clone(), records, manifest.period.clone());
        self.made_again(&evidence, &manifest);
    }

    fn found(&mut self, file: &str, what: String) {
        self.report.findings.push(PackFinding::of_file(file, what));
    }

    fn text(&mut self, name: &str) -> Option<String> {
        let Some(bytes) = self.files.get(name) else {
            self.found(name, "it is missing".to_owned());
            return None;
        };
        let text = String::from_utf8(bytes.clone());
        if text.is_err() {
            self.found(name, "it is not text".to_owned());
        }
        text.ok()
    }

    fn manifest(&mut self) -> Option<Manifest> {
        let text = self.text(MANIFEST)?;
        let manifest: Manifest = match serde_json::from_str(&text) {
            Ok(manifest) => manifest,
            Err(error) => {
                self.found(MANIFEST, format!("it is no manifest: {error}"));
                return None;
            }
        };
        let is_sane = manifest.format == 1
            && (1..=MOST_LEDGERS).contains(&manifest.ledgers.len())
            && manifest
                .ledgers
                .iter()
                .all(|head| head.first <= head.end && head.end <= head.size);
        if !is_sane {
            self.found(
                MANIFEST,
                "it is of another format, or says what cannot be".to_owned(),
            );
        }
        is_sane.then_some(manifest)
    }

    /// The records of one log that are proven and belong to the evidence.
    fn ledger(&mut self, number: usize, head: &Head, manifest: &Manifest) -> Vec<Record> {
        let at = |name: &str| format!("ledger-{number}/{name}");
        let Some(signed) = self.head(number, head) else {
            return Vec::new();
        };
        let (Some(lines), Some(proofs)) = (self.text(&at(RECORDS)), self.text(&at(PROOFS))) else {
            return Vec::new();
        };
        let mut by_number = BTreeMap::new();
        for line in proofs.lines() {
            match serde_json::from_str::<Proof>(line) {
                Ok(proof) => drop(by_number.insert(proof.seq, proof.proof)),
                Err(error) => self.found(&at(PROOFS), format!("a line is no proof: {error}")),
            }
        }
        let (mut records, mut last) = (Vec::new(), None);
        for line in lines.lines() {
            let file = at(RECORDS);
            let Some(record) = Record::parse(
                Ref {
                    ledger: number,
                    record: 0,
                },
                line,
            ) else {
                let next = last.map_or(head.first, |last| last + 1);
                self.report.findings.push(PackFinding::of_record(
                    &file,
                    next,
                    "the line at its place is no record",
                ));
                continue;
            };
            let seq = record.at.record;
            if last.is_some_and(|last| last >= seq) {
                let what = "it stands out of its order: records were moved, or it is there twice";
                self.report
                    .findings
                    .push(PackFinding::of_record(&file, seq, what));
            }
            last = Some(last.unwrap_or(seq).max(seq));
            let proof = by_number.remove(&seq);
            let proof = proof.and_then(|proof| {
                proof
                    .iter()
                    .map(|hash| archive::hash(hash))
                    .collect::<Option<Vec<_>>>()
            });
            let holds = proof.is_some_and(|proof| {
                verify_inclusion(line.as_bytes(), seq, (signed.size, &signed.root), &proof)
            });
            if !holds {
                let what =
                    "it is not what the log's key has signed: it was changed, put in, or its proof was";
                self.report
                    .findings
                    .push(PackFinding::of_record(&file, seq, what));
                continue;
            }
            self.report.proven += 1;
            records.push(record);
        }
        for seq in by_number.into_keys() {
            self.report.findings.push(PackFinding::of_record(
                &at(RECORDS),
                seq,
                "its proof is there, and the record was taken out",
            ));
        }
        records.sort_by_key(|record| record.at);
        records.dedup_by_key(|record| record.at);
        self.is_all_there(&at(RECORDS), head, manifest, &records);
        records.retain(|record| {
            (head.first..head.end).contains(&record.at.record)
                || record.at.record < head.first && stands(record)
        });
        records
    }

    /// The checkpoint of one log, by the key that was kept or by the pack's own.
    fn head(&mut self, number: usize, head: &Head) -> Option<SignedHead> {
        let at = |name: &str| format!("ledger-{number}/{name}");
        let (line, checkpoint) = (self.text(&at(KEY))?, self.text(&at(CHECKPOINT))?);
        let own = match VerifierKey::parse(&line) {
            Ok(key) => key,
            Err(error) => {
                self.found(&at(KEY), error.to_string());
                return None;
            }
        };
        // By the name that the log has in the manifest: not by what the pack's key says of itself.
        let kept = self.keys.iter().find(|key| key.name() == head.origin);
        if kept.is_some_and(|kept| *kept != own) {
            self.found(
                &at(KEY),
                "it is not the key that was kept for this log".to_owned(),
            );
        }
        if kept.is_none() && !self.keys.is_empty() {
            self.found(
                &at(KEY),
                format!("none of the keys that were given is of {}", head.origin),
            );
        }
        self.report.authoritative &= kept.is_some();
        let key = kept.unwrap_or(&own);
        self.report
            .logs
            .push(format!("{} (key {})", key.name(), key.id()));
        let signed = match key.checkpoint(checkpoint.as_bytes()) {
            Ok(signed) => signed,
            Err(error) => {
                self.found(&at(CHECKPOINT), error.to_string());
                return None;
            }
        };
        let root: String = signed.root.iter().map(|byte| format!("{byte:02x}")).collect();
        if (head.origin.as_str(), head.key_id.as_str(), head.size, &head.root)
            != (key.name(), key.id().as_str(), signed.size, &root)
        {
            self.found(
                MANIFEST,
                format!("what it says of log {number} is not what its checkpoint says"),
            );
        }
        Some(signed)
    }

    /// From the first to the last record of the period, and one on each side that is not of it.
    fn is_all_there(&mut self, file: &str, head: &Head, manifest: &Manifest, records: &[Record]) {
        let number_of = |record: &Record| record.at.record;
        let there = records
            .iter()
            .map(number_of)
            .filter(|number| (head.first..head.end).contains(number));
        let mut found = Vec::new();
        for span in Span::between(there, head.first, head.end) {
            let what = match head.missing.contains(&span) {
                true => format!(
                    "records {span} are missing, as the pack itself says: they were gone when it was made"
                ),
                false => format!(
                    "records {span} are missing, and the pack does not say so: they were taken out of it"
                ),
            };
            found.push((span.first, what));
        }
        let edge = |number: u64| records.iter().find(|record| record.at.record == number);
        let period = &manifest.period;
        if let Some(before) = head.first.checked_sub(1) {
            match edge(before) {
                Some(record) if period.from.is_none() || record.time.is_some() && !period.is_before(record.time.as_deref()) => {
                    found.push((before, "it is of the period, and the pack begins after it".to_owned()));
                }
                None => found.push((before, "the record before the period is not there, so nobody can see that the pack begins where it should".to_owned())),
                Some(_) => {}
            }
        }
        if head.end < head.size {
            match edge(head.end) {
                Some(record) if record.time.is_some() && !period.is_over(record.time.as_deref()) => {
                    found.push((head.end, "it is of the period, and the pack ends before it".to_owned()));
                }
                None => found.push((head.end, "the record after the period is not there, so nobody can see that the pack ends where it should".to_owned())),
                Some(_) => {}
            }
        }
        let found = found
            .into_iter()
            .map(|(record, what)| PackFinding::of_record(file, record, what));
        self.report.findings.extend(found);
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
        for (name, made) in [(REPORT_JSON, json), (REPORT_HTML, page)] {
            match self.files.get(name) {
                None => self.found(name, "it is missing".to_owned()),
                Some(there) if *there != made => {
                    let what = format!(
                        "it does not follow from the records: {}{hint}",
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
        "line {} says {}, and the records say {}",
        at + 1,
        line(&there),
        line(&made)
    )
}

const MOST_FINDINGS: usize = 1000;

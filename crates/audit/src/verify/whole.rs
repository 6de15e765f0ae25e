//! A log from its first record to its checkpoint. Invariant: each record counts for its place, and each hash was computed here.

pub(super) mod bundle;
mod compare;
mod upper;

use std::collections::BTreeMap;

use super::finding::{Finding, Kind, Report};
use super::merkle::{Peaks, root_of};
use super::note::{NoteError, SignedHead, VerifierKey};
use super::pruned::pruned;
use super::source::Source;
use bundle::Bundle;
use compare::{Numbers, compare};
use upper::Upper;

/// Looks at everything in a log. `remembered` are checkpoints of it that somebody has kept, each with a name for people.
pub fn verify(source: &dyn Source, key: &VerifierKey, remembered: &[(String, Vec<u8>)]) -> Report {
    let mut report = Report {
        origin: key.name().to_owned(),
        key_id: key.id(),
        ..Report::default()
    };
    let mut kept = believed(key, remembered, &mut report.findings);
    let Some(head) = head(source, key, &kept, &mut report.findings) else {
        return report;
    };
    report.records = head.size;
    report.root = hex(&head.root);
    kept.sort_by_key(|(_, kept)| kept.size);
    let mut walk = Walk::new(source, &head, &kept);
    walk.all(&mut report);
    walk.judge(&mut report);
    report
        .findings
        .sort_by_key(|finding| (finding.kind, finding.record));
    report.findings.truncate(MOST_FINDINGS);
    report
}

type Kept = Vec<(String, SignedHead)>;

fn believed(key: &VerifierKey, remembered: &[(String, Vec<u8>)], findings: &mut Vec<Finding>) -> Kept {
    let mut kept = Vec::new();
    for (name, note) in remembered {
        match key.checkpoint(note) {
            Ok(head) => kept.push((name.clone(), head)),
            Err(error) => findings.push(Finding::new(Kind::Remembered, None, format!("{name} is {error}"))),
        }
    }
    kept
}

/// What the records have to add up to: what the checkpoint says, or, when that is not believed, the newest that is remembered.
fn head(
    source: &dyn Source,
    key: &VerifierKey,
    kept: &Kept,
    findings: &mut Vec<Finding>,
) -> Option<SignedHead> {
    let path = source.describe(CHECKPOINT);
    let kind = match source.read(CHECKPOINT, MAX_CHECKPOINT_BYTES) {
        Ok(Some(note)) => match key.checkpoint(&note) {
            Ok(head) => return Some(head),
            Err(error) => {
                let foreign = matches!(error, NoteError::OtherKey { .. } | NoteError::OtherLog { .. });
                let kind = if foreign {
                    Kind::ForeignKey
                } else {
                    Kind::Checkpoint
                };
                (kind, format!("{path} is {error}"))
            }
        },
        Ok(None) => (Kind::Checkpoint, format!("{path} is missing")),
        Err(error) => (Kind::Checkpoint, format!("{path} cannot be read: {error}")),
    };
    findings.push(Finding::new(kind.0, None, kind.1));
    kept.iter()
        .max_by_key(|(_, kept)| kept.size)
        .map(|(_, kept)| kept.clone())
}

struct Walk<'a> {
    source: &'a dyn Source,
    head: &'a SignedHead,
    kept: &'a Kept,
    /// Over the records as they are.
    records: Peaks,
    /// Over the hashes in the tiles.
    tiles: Peaks,
    /// Bundles whose records are not those of their tile, with what they look like when the tile is right.
    unlike: Vec<(u64, Finding)>,
    /// What the numbers in the records say, of the first bundle where they are not their places.
    numbers: Option<Finding>,
    /// Remembered checkpoints that hold, and the first that does not.
    agreed: u64,
    forked: Option<(String, u64)>,
    last_time: Option<String>,
    /// A bundle is here: what is pruned is a beginning, so those behind it are here too.
    is_present: bool,
}

impl<'a> Walk<'a> {
    fn new(source: &'a dyn Source, head: &'a SignedHead, kept: &'a Kept) -> Self {
        Self {
            source,
            head,
            kept,
            records: Peaks::default(),
            tiles: Peaks::default(),
            unlike: Vec::new(),
            numbers: None,
            agreed: 0,
            forked: None,
            last_time: None,
            is_present: false,
        }
    }

    fn all(&mut self, report: &mut Report) {
        let mut upper = Upper::default();
        let bundles = self.head.size.div_ceil(WIDTH);
        let mut next = 0;
        // One that claims to be pruned to its end would say nothing of itself.
        let pruned = Some(pruned(self.source)).filter(|pruned| *pruned < self.head.size);
        let pruned = pruned.unwrap_or(0);
        self.remember(&[], report);
        while next < bundles {
            let end = bundles.min(next + AT_ONCE);
            for bundle in bundle::read_all(self.source, (self.head.size, pruned), next..end) {
                self.take(bundle, &mut upper, report);
            }
            next = end;
        }
        upper.finish(self.source, &mut report.findings);
    }

    fn take(&mut self, bundle: Bundle, upper: &mut Upper, report: &mut Report) {
        let begins = bundle.index * WIDTH;
        if report.findings.len() < MOST_FINDINGS {
            report.findings.extend(bundle.findings);
        }
        report.pruned_recorded = report.pruned_recorded.max(bundle.said);
        self.is_present |= bundle.records.is_some();
        if bundle.is_pruned {
            report.pruned += WIDTH;
            if self.is_present && report.findings.len() < MOST_FINDINGS {
                let what = format!(
                    "the records from {begins} on are missing, and some before them are here: only a beginning is ever pruned"
                );
                report
                    .findings
                    .push(Finding::new(Kind::Missing, Some(begins), what));
            }
        }
        if let Some(root) = bundle.above {
            return self.pass(begins, root, upper, report);
        }
        let (found, tile) = (bundle.records.as_deref(), bundle.tile.as_deref());
        if let (Some(found), Some(tile)) = (found, tile)
            && found != tile
            && self.unlike.len() < MOST_FINDINGS
        {
            let numbers = Numbers::new(begins, &bundle.numbers);
            self.unlike.push((begins, compare(begins, found, tile, &numbers)));
        }
        if self.numbers.is_none() {
            self.numbers = Numbers::new(begins, &bundle.numbers).finding();
        }
        times(&bundle.times, begins, &mut self.last_time, report);
        let nothing = [];
        // One that is missing is reported; what is there has to do for it, so that the rest can be looked at.
        let records = found.or(tile).unwrap_or(&nothing);
        let tiles = tile.or(found).unwrap_or(&nothing);
        self.remember(records, report);
        for (peaks, hashes) in [(&mut self.records, records), (&mut self.tiles, tiles)] {
            match hashes.len() as u64 == WIDTH {
                true => peaks.add_subtree(root_of(hashes), 8),
                false => hashes.iter().for_each(|hash| peaks.add(*hash)),
            }
        }
        if self.head.size - begins >= WIDTH {
            let roots = (root_of(records), root_of(tiles));
            upper.push(self.source, roots, &mut report.findings);
        }
    }

    /// Over a tile whose records are not here: only where it ends something can be compared.
    fn pass(&mut self, begins: u64, root: [u8; 32], upper: &mut Upper, report: &mut Report) {
        self.records.add_subtree(root, 8);
        self.tiles.add_subtree(root, 8);
        upper.push(self.source, (root, root), &mut report.findings);
        for (name, kept) in self.kept {
            if kept.size > begins && kept.size < begins + WIDTH {
                report.unseen += 1;
            } else if kept.size == begins + WIDTH && self.records.root() == kept.root {
                report.remembered += 1;
                self.agreed = kept.size;
            } else if kept.size == begins + WIDTH && self.forked.is_none() {
                self.forked = Some((name.clone(), kept.size));
            }
        }
    }

    /// Compares the remembered checkpoints that end within these records, which come next.
    fn remember(&mut self, records: &[[u8; 32]], report: &mut Report) {
        let (begins, ends) = (self.records.size(), self.records.size() + records.len() as u64);
        let within = |size: u64| size > begins && size <= ends || size == 0 && records.is_empty();
        for (name, kept) in self.kept.iter().filter(|(_, kept)| within(kept.size)) {
            let mut then = self.records.clone();
            let more = usize::try_from(kept.size - begins.min(kept.size)).unwrap_or(0);
            records[..more].iter().for_each(|hash| then.add(*hash));
            if then.root() == kept.root {
                report.remembered += 1;
                self.agreed = kept.size;
            } else if self.forked.is_none() {
                self.forked = Some((name.clone(), kept.size));
            }
        }
    }

    /// What it all means, now that it is known whether the records, or else the tiles, add up to what was signed.
    fn judge(&mut self, report: &mut Report) {
        let is_signed = |peaks: &Peaks| peaks.size() == self.head.size && peaks.root() == self.head.root;
        let (records, tiles) = (is_signed(&self.records), is_signed(&self.tiles));
        let missing = report
            .findings
            .iter()
            .any(|finding| finding.kind == Kind::Missing);
        let unlike = std::mem::take(&mut self.unlike);
        match (records, tiles) {
            (true, true) => {}
            (true, false) => report.findings.extend(unlike.iter().map(|(begins, _)| {
                let what = format!("the hashes of the records from {begins} on are not theirs; the records are those that were signed");
                Finding::new(Kind::Hashes, Some(*begins), what)
            })),
            (false, true) => report.findings.extend(unlike.into_iter().map(|(_, finding)| finding)),
            (false, false) if missing => report.findings.extend(unlike.into_iter().map(|(_, finding)| finding)),
            (false, false) => {
                let numbers = self.numbers.take();
                let is_plain = numbers.is_none() && unlike.is_empty();
                report.findings.extend(numbers);
                report.findings.extend(unlike.into_iter().map(|(_, finding)| finding));
                report.findings.extend(is_plain.then(|| self.rewritten()));
            }
        }
        let numbers = self.numbers.take().filter(|_| report.findings.is_empty());
        report.findings.extend(numbers);
        self.judge_remembered(records, report);
    }

    fn rewritten(&self) -> Finding {
        let (from, begins) = (
            self.agreed,
            "the records agree with their hashes, but do not add up to the checkpoint: one",
        );
        match from {
            0 => {
                let what = format!(
                    "{begins} was changed, and its hashes with it; a remembered checkpoint would tell from where on"
                );
                Finding::new(Kind::Rewritten, None, what)
            }
            _ => {
                let what = format!(
                    "{begins} at {from} or later was changed, and its hashes with it; those before {from} are as a remembered checkpoint has them"
                );
                Finding::new(Kind::Rewritten, Some(from), what)
            }
        }
    }

    fn judge_remembered(&mut self, is_signed: bool, report: &mut Report) {
        if let Some((name, size)) = self.forked.take().filter(|_| is_signed) {
            let what = format!(
                "{name} names {size} records that are not the first {size} of this log, and the same key has signed both: the log was forked at record {} or later",
                self.agreed
            );
            report
                .findings
                .push(Finding::new(Kind::Fork, Some(self.agreed), what));
        }
        let size = self.head.size;
        for (name, kept) in self.kept.iter().filter(|(_, kept)| kept.size > size) {
            let what = format!(
                "{name} names {} records, the checkpoint here only {size}: the records from {size} on are gone",
                kept.size
            );
            report
                .findings
                .push(Finding::new(Kind::Truncation, Some(size), what));
        }
    }
}

fn times(
    seen: &[(u64, Option<String>, String)],
    begins: u64,
    last: &mut Option<String>,
    report: &mut Report,
) {
    let mut qualities: BTreeMap<&str, u64> = BTreeMap::new();
    for (place, time, quality) in seen {
        *qualities.entry(quality).or_default() += 1;
        let Some(time) = time else { continue };
        report.first_time.get_or_insert_with(|| time.clone());
        // All have one form, in which the earlier is the smaller.
        if last.as_ref().is_some_and(|last| time < last) {
            report.time_went_back += 1;
            report.first_time_went_back.get_or_insert(begins + place);
        }
        last.replace(time.clone());
    }
    for (quality, count) in qualities {
        // A word that is made up for each record must not fill the memory.
        if report.time_quality.len() < 16 || report.time_quality.contains_key(quality) {
            *report.time_quality.entry(quality.to_owned()).or_default() += count;
        }
    }
    report.last_time.clone_from(last);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const CHECKPOINT: &str = "checkpoint";
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;
/// Hashes in a tile, records in a bundle.
const WIDTH: u64 = 256;
/// Bundles that are read before their order matters.
const AT_ONCE: u64 = 256;
/// More say nothing new.
const MOST_FINDINGS: usize = 100;

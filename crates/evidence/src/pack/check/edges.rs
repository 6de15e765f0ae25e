//! Whether a pack has all of its period. Invariant: a period begins and ends where a record on the other side says so by its time, and where the log ends, that is
//! said; a pack that was made of an older state of the log does not pass for one of all of it.

use std::collections::BTreeMap;

use landfast_audit::verify::{SignedHead, VerifierKey, verify_consistency};

use super::super::{CONTINUES, MANIFEST, Proof, archive};
use super::Check;
use crate::evidence::Head;
use crate::period::{Period, Span};
use crate::record::Record;

impl Check<'_> {
    /// From the first to the last record of the period, and one on each side that is not of it. Gives what is not there.
    pub(super) fn is_all_there(
        &mut self,
        file: &str,
        head: &Head,
        period: &Period,
        records: &[Record],
    ) -> Vec<Span> {
        let numbers = records.iter().map(|record| record.at.record);
        let there = numbers.filter(|number| (head.first..head.end).contains(number));
        let missing = Span::between(there, head.first, head.end);
        for span in &missing {
            let what = match head.missing.contains(span) {
                true => format!(
                    "records {span} are missing, as the pack itself says: they were gone when it was made"
                ),
                false => format!(
                    "records {span} are missing, and the pack does not say so: they were taken out of it"
                ),
            };
            self.found_at(file, span.first, what);
        }
        for claimed in head.missing.iter().filter(|claimed| !missing.contains(claimed)) {
            let what = format!(
                "it says that records {claimed} are missing: they are there, or not of the period, and a report would say that something is gone"
            );
            self.found(MANIFEST, what);
        }
        let by_number: BTreeMap<u64, &Record> =
            records.iter().map(|record| (record.at.record, record)).collect();
        self.is_pruned_as_it_says(head, records);
        self.begins(file, head, period, &by_number);
        self.ends(file, head, period, &by_number);
        missing
    }

    /// That earlier records are in an archive is said by a record of the log, or by nobody.
    fn is_pruned_as_it_says(&mut self, head: &Head, records: &[Record]) {
        if head.pruned == 0 {
            return;
        }
        let says = records.iter().any(|record| record.pruned_before() == head.pruned);
        if !says || head.pruned > head.first {
            let what = format!(
                "it says that the records before {} were taken to an archive, and no record of the log says so",
                head.pruned
            );
            self.found(MANIFEST, what);
            return;
        }
        let what = match head.first == head.pruned {
            true => "the period may begin in them, and",
            false => "what they tell of entries, persons and nodes is not in this pack:",
        };
        self.report.notes.push(format!(
            "the records before {} of {} are in an archive, as the log itself says: {what} a pack of both is made with --archive",
            head.pruned, head.origin
        ));
    }

    fn begins(&mut self, file: &str, head: &Head, period: &Period, records: &BTreeMap<u64, &Record>) {
        // Once the beginning was reached it was, whatever the clock showed then.
        for (number, record) in records.range(..head.first) {
            let is_before = record.placed().is_none_or(|time| period.is_before(time));
            if period.from.is_none() || !is_before {
                let what = "it is of the period, and the pack begins after it";
                self.found_at(file, *number, what);
            }
        }
        if head.first == 0 || head.pruned == head.first {
            return;
        }
        // What has no time is where the record before it is.
        let mut number = head.first - 1;
        loop {
            match records.get(&number) {
                None => {
                    let what = "the record before the period is not there, so nobody can see that the pack begins where it should";
                    self.found_at(file, number, what);
                    return;
                }
                Some(record) if record.placed().is_some() || number == 0 => return,
                Some(_) => number -= 1,
            }
        }
    }

    fn ends(&mut self, file: &str, head: &Head, period: &Period, records: &BTreeMap<u64, &Record>) {
        if head.end < head.size {
            match records.get(&head.end) {
                Some(record) if record.placed().is_some_and(|time| period.is_over(time)) => {}
                Some(_) => {
                    let what = "it is of the period, or has no time, and the pack ends before it";
                    self.found_at(file, head.end, what);
                }
                None => {
                    let what = "the record after the period is not there, so nobody can see that the pack ends where it should";
                    self.found_at(file, head.end, what);
                }
            }
            return;
        }
        // Nothing shows that the log had reached the end: a state of it from before something happened looks like this.
        self.report.to_the_end = false;
        let last = records
            .values()
            .next_back()
            .filter(|record| record.at.record + 1 == head.size);
        let time = last
            .and_then(|record| record.placed())
            .unwrap_or("at an unknown time");
        let until = match &period.to {
            Some(to) => format!("before the end of the period, {to}"),
            None => "and the period has no other end".to_owned(),
        };
        self.report.notes.push(format!(
            "{} ends at record {}, {time}, {until}: what it has by now is not in this pack, and a checkpoint that was kept later (--checkpoint) shows whether there was more then",
            head.origin,
            head.size.saturating_sub(1)
        ));
    }

    /// Whether the log of the pack is that of each checkpoint which was kept of it, and not from before it.
    pub(super) fn continues(
        &mut self,
        number: usize,
        key: &VerifierKey,
        (signed, head): (&SignedHead, &Head),
    ) {
        let kept = self.kept;
        let of_this = kept
            .iter()
            .filter(|(_, note)| note.starts_with(format!("{}\n", key.name()).as_bytes()));
        for (name, note) in of_this {
            let found = match key.checkpoint(note) {
                Ok(kept) => self.compared(number, name, &kept, (signed, head)),
                Err(error) => Some(format!("{name} is {error}")),
            };
            match found {
                Some(what) => self.found(MANIFEST, what),
                None => self.report.continues += 1,
            }
        }
    }

    /// What speaks against it; a kept checkpoint that says nothing of the period is a note.
    fn compared(
        &mut self,
        number: usize,
        name: &str,
        kept: &SignedHead,
        (signed, head): (&SignedHead, &Head),
    ) -> Option<String> {
        if kept.size > signed.size && head.end == head.size {
            return Some(format!(
                "{name} names {} records, and the log of the pack ends after {}: it was made of an older state, and what came then may be of the period",
                kept.size, signed.size
            ));
        }
        if kept.size > signed.size {
            self.report.notes.push(format!(
                "{name} is younger than the pack: that both are of one log is seen in the ledger (landfast audit verify --checkpoint), not here"
            ));
            return None;
        }
        let proof = match kept.size == signed.size {
            true => Some(Vec::new()),
            false => self.continuation(number, kept.size),
        };
        let Some(proof) = proof else {
            return Some(format!(
                "no proof in the pack leads on from {name}, of {} records: have the pack made with --checkpoint, or ask for one of the size that it names",
                kept.size
            ));
        };
        let goes_on = verify_consistency((kept.size, &kept.root), (signed.size, &signed.root), &proof);
        (!goes_on).then(|| {
            format!(
                "{name} names {} records that are not the first {} of the log in this pack, and the same key has signed both: two stories are told",
                kept.size, kept.size
            )
        })
    }

    fn continuation(&self, number: usize, size: u64) -> Option<Vec<[u8; 32]>> {
        let file = self.files.get(&format!("ledger-{number}/{CONTINUES}"))?;
        let lines = std::str::from_utf8(file).ok()?.lines();
        let mut proofs = lines.filter_map(|line| serde_json::from_str::<Proof>(line).ok());
        let proof = proofs.find(|proof| proof.seq == size)?;
        proof.proof.iter().map(|hash| archive::hash(hash)).collect()
    }
}

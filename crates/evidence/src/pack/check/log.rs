//! One log of a pack. Invariant: a record counts by its own proof; what is missing is found here, and not taken from what the pack says of itself.

use std::collections::BTreeMap;

use landfast_audit::verify::{SignedHead, VerifierKey, verify_inclusion};

use super::super::{CHECKPOINT, KEY, MANIFEST, MOST_IN_A_PACK, PROOFS, Proof, RECORDS, archive};
use super::Check;
use crate::evidence::Head;
use crate::ledger::stands;
use crate::period::Period;
use crate::record::{Record, Ref};

type Proofs = BTreeMap<u64, Vec<[u8; 32]>>;

impl Check<'_> {
    /// What one log really has of the period, and its records that are proven and belong to the evidence.
    pub(super) fn ledger(&mut self, number: usize, claimed: &Head, period: &Period) -> (Head, Vec<Record>) {
        let file = |name: &str| format!("ledger-{number}/{name}");
        let mut head = claimed.clone();
        head.missing.clear();
        let Some((key, signed)) = self.head(number, claimed) else {
            return (head, Vec::new());
        };
        let (Some(lines), Some(proofs)) = (self.text(&file(RECORDS)), self.text(&file(PROOFS))) else {
            return (head, Vec::new());
        };
        let proofs = self.proofs(&file(PROOFS), proofs);
        let mut records = self.proven((number, &file(RECORDS)), lines, proofs, &signed);
        head.missing = self.is_all_there(&file(RECORDS), claimed, period, &records);
        self.continues(number, &key, (&signed, claimed));
        records.retain(|record| {
            (head.first..head.end).contains(&record.at.record)
                || record.at.record < head.first && stands(record)
        });
        (head, records)
    }

    fn proofs(&mut self, file: &str, lines: &str) -> Proofs {
        let mut by_number = BTreeMap::new();
        for (count, line) in lines.lines().enumerate() {
            if self.is_full() || self.are_too_many(file, count) {
                break;
            }
            match serde_json::from_str::<Proof>(line) {
                Ok(proof) if proof.proof.len() <= MOST_HASHES => {
                    let hashes = proof.proof.iter().map(|hash| archive::hash(hash));
                    let hashes: Option<Vec<_>> = hashes.collect();
                    by_number.insert(proof.seq, hashes.unwrap_or_default());
                }
                Ok(proof) => self.found_at(file, proof.seq, "its proof has more hashes than any has"),
                Err(error) => self.found(file, format!("a line is no proof: {error}")),
            }
        }
        by_number
    }

    /// Those whose proof holds, in order.
    fn proven(
        &mut self,
        (ledger, file): (usize, &str),
        lines: &str,
        mut proofs: Proofs,
        signed: &SignedHead,
    ) -> Vec<Record> {
        let (mut records, mut last): (Vec<Record>, Option<u64>) = (Vec::new(), None);
        for (count, line) in lines.lines().enumerate() {
            if self.is_full() || self.are_too_many(file, count) {
                break;
            }
            let Some(record) = Record::parse(Ref { ledger, record: 0 }, line) else {
                let next = last.map_or(0, |last| last.saturating_add(1));
                self.found_at(file, next, "the line at its place is no record");
                continue;
            };
            let seq = record.at.record;
            if last.is_some_and(|last| last >= seq) {
                let what = "it stands out of its order: records were moved, or it is there twice";
                self.found_at(file, seq, what);
            }
            last = Some(last.unwrap_or(seq).max(seq));
            let proof = proofs.remove(&seq);
            let holds = proof.is_some_and(|proof| {
                verify_inclusion(line.as_bytes(), seq, (signed.size, &signed.root), &proof)
            });
            if !holds {
                let what =
                    "it is not what the log's key has signed: it was changed, put in, or its proof was";
                self.found_at(file, seq, what);
                continue;
            }
            self.report.proven += 1;
            records.push(record);
        }
        for seq in proofs.into_keys() {
            self.found_at(file, seq, "its proof is there, and the record was taken out");
        }
        records.sort_by_key(|record| record.at);
        records.dedup_by_key(|record| record.at);
        records
    }

    fn are_too_many(&mut self, file: &str, count: usize) -> bool {
        let too_many = count >= MOST_IN_A_PACK + MOST_BESIDE;
        if too_many {
            self.found(
                file,
                format!("it has more lines than a pack has records, {MOST_IN_A_PACK}"),
            );
        }
        too_many
    }

    /// The checkpoint of one log, by the key that was kept or by the pack's own.
    fn head(&mut self, number: usize, head: &Head) -> Option<(VerifierKey, SignedHead)> {
        let at = |name: &str| format!("ledger-{number}/{name}");
        let (line, checkpoint) = (self.text(&at(KEY))?, self.text(&at(CHECKPOINT))?);
        let own = match VerifierKey::parse(line) {
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
        let key = kept.unwrap_or(&own).clone();
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
        Some((key, signed))
    }
}

/// A tree of as many records as there are numbers is no higher.
const MOST_HASHES: usize = 64;
/// Records that stand beside the period, to show its ends.
const MOST_BESIDE: usize = super::super::MOST_TIMELESS + 16;

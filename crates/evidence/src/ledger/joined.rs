//! Several ledgers, joined by time. Invariant: a period is a range of numbers in each, from the first record that reached its beginning to the last before its end:
//! whatever a clock did between, nothing is left out of the middle.

use std::collections::{BTreeMap, BTreeSet};

use super::walk::Placed;
use super::{Ledger, LedgerError};
use crate::answer::Asked;
use crate::evidence::{Evidence, Head};
use crate::period::{Period, Span};
use crate::record::{Record, Ref};

/// Several ledgers, joined by time.
pub struct Ledgers {
    all: Vec<Ledger>,
}

/// Which records of one ledger a period has.
struct Extent {
    first: u64,
    end: u64,
    /// Not there, and no record of the log says why.
    missing: Vec<Span>,
    /// Taken to an archive, those before this one; and the record that says so.
    pruned: u64,
    pruned_by: Option<u64>,
    looked_at: u64,
    late: Option<(u64, String)>,
}

impl Ledgers {
    /// These together, in this order.
    ///
    /// # Errors
    /// One is there twice, and every record of it would count twice.
    pub fn new(all: Vec<Ledger>) -> Result<Self, LedgerError> {
        let mut origins = BTreeSet::new();
        match all.iter().find(|ledger| !origins.insert(ledger.origin())) {
            Some(twice) => Err(LedgerError::Twice {
                origin: twice.origin().to_owned(),
            }),
            None => Ok(Self { all }),
        }
    }

    /// Each of them.
    #[must_use]
    pub fn all(&self) -> &[Ledger] {
        &self.all
    }

    /// What they say about a period: everything within it, and of what was before what still stands (entries, policies, persons, the log itself).
    ///
    /// # Errors
    /// That is more than fits, or no period.
    pub fn evidence(&self, period: &Period) -> Result<Evidence, LedgerError> {
        if let Some(what) = period.trouble() {
            return Err(LedgerError::Period { what });
        }
        let extents: Vec<Extent> = self.all.iter().map(|ledger| ledger.extent(period)).collect();
        let mut records = Vec::new();
        for (index, (ledger, extent)) in self.all.iter().zip(&extents).enumerate() {
            let is_whole = ledger.findings.is_empty();
            ledger.walk(&mut |placed, text| {
                let number = placed.seq;
                let is_within = (extent.first..extent.end).contains(&number);
                if is_within || number < extent.first && is_standing(&placed.kind) {
                    records.extend(parsed(index + 1, number, text));
                }
                // Where something was taken out, what belongs before may stand behind.
                records.len() <= MOST_RECORDS && (number < extent.end || !is_whole)
            });
            if records.len() > MOST_RECORDS {
                return Err(LedgerError::TooMany);
            }
        }
        let late = extents.iter().filter_map(|extent| extent.late.clone());
        let late = late.reduce(|(one, last), (other, time)| (one + other, last.max(time)));
        Ok(Evidence {
            came_later: late,
            ..self.joined(records, &extents, period)
        })
    }

    /// What they say about one thing at one moment, and nothing of the rest: of a ledger of any length.
    ///
    /// # Errors
    /// That is more than fits.
    pub fn evidence_for(&self, asked: &Asked<'_>) -> Result<Evidence, LedgerError> {
        let all = Period::default();
        let extents: Vec<Extent> = self.all.iter().map(|ledger| ledger.extent(&all)).collect();
        let mut records = Vec::new();
        for (index, ledger) in self.all.iter().enumerate() {
            let (mut last, mut entries) = (None, BTreeSet::new());
            ledger.walk(&mut |placed, text| {
                let went_back = went_back(placed, &mut last);
                if went_back || asked.may_need(&placed.kind, text) {
                    let record = parsed(index + 1, placed.seq, text);
                    records.extend(record.filter(|record| went_back || asked.needs(record, &mut entries)));
                }
                records.len() <= MOST_RECORDS
            });
            if records.len() > MOST_RECORDS {
                return Err(LedgerError::TooMany);
            }
        }
        Ok(self.joined(records, &extents, &all))
    }

    fn joined(&self, records: Vec<Record>, extents: &[Extent], period: &Period) -> Evidence {
        let heads = self.all.iter().zip(extents);
        let heads = heads.map(|(ledger, extent)| ledger.head_of(extent)).collect();
        let pruned_by = extents.iter().enumerate().filter_map(|(index, extent)| {
            extent.pruned_by.map(|record| Ref {
                ledger: index + 1,
                record,
            })
        });
        Evidence {
            looked_at: extents.iter().map(|extent| extent.looked_at).sum(),
            pruned_by: pruned_by.collect(),
            ..Evidence::new(heads, records, period.clone())
        }
    }
}

impl Ledger {
    fn head_of(&self, extent: &Extent) -> Head {
        let root = self.head.root.iter().map(|byte| format!("{byte:02x}"));
        Head {
            origin: self.origin().to_owned(),
            key_id: self.key.id(),
            size: self.head.size,
            root: root.collect(),
            first: extent.first,
            end: extent.end,
            missing: Span::within(&extent.missing, extent.first, extent.end),
            pruned: extent.pruned,
        }
    }

    fn extent(&self, period: &Period) -> Extent {
        let (mut first, mut end, mut last_time) = (None, 0, None);
        let (mut says_pruned, mut late, mut looked_at) = (BTreeMap::new(), None, 0);
        let absent = self.walk(&mut |placed, _| {
            looked_at += 1;
            let number = placed.seq;
            if placed.pruned_before() > 0 {
                says_pruned.entry(placed.pruned_before()).or_insert(number);
            }
            // What has no time is where the record before it is.
            if let Some(time) = placed.placed() {
                last_time = Some(time.to_owned());
            }
            let time = last_time.as_deref();
            let has_begun = time.map_or_else(|| period.from.is_none(), |time| !period.is_before(time));
            if first.is_none() && has_begun {
                (first, end) = (Some(number), number);
            }
            if first.is_some() && !time.is_some_and(|time| period.is_over(time)) {
                (end, late) = (number + 1, None);
            } else if let (Some(received), Some(time)) = (placed.received(), placed.time.as_deref())
                && !period.is_before(time)
                && !period.is_over(time)
            {
                let (count, _) = late.take().unwrap_or_default();
                late = Some((count + 1, received.to_owned()));
            }
            true
        });
        let first_there = absent.first().filter(|span| span.first == 0);
        let first_there = first_there.map_or(0, |span| span.last + 1);
        let pruned = says_pruned.range(..=first_there).next_back();
        let (pruned, pruned_by) = pruned.map_or((0, None), |(before, by)| (*before, Some(*by)));
        let missing = Span::within(&absent, pruned, self.head.size);
        // Nothing has reached the beginning: it would come next.
        let first = first.unwrap_or(self.head.size);
        let (first, end) = widened(first, end.max(first), &missing);
        Extent {
            first,
            end,
            missing,
            pruned,
            pruned_by,
            looked_at,
            late,
        }
    }
}

/// With what is missing at either end, as nobody can say when that was.
fn widened(mut first: u64, mut end: u64, missing: &[Span]) -> (u64, u64) {
    for span in missing.iter().rev() {
        if span.first < first && span.last + 1 >= first {
            first = span.first;
        }
    }
    for span in missing {
        if (span.first..=span.last).contains(&end) {
            end = span.last + 1;
        }
    }
    (first, end)
}

/// Whether the clock had gone back: also what nobody asks for tells by when something had happened.
fn went_back(placed: &Placed<'_>, last: &mut Option<String>) -> bool {
    let Some(time) = placed.placed() else { return false };
    let back = last.as_deref().is_some_and(|last| time < last);
    *last = Some(time.to_owned());
    back
}

fn parsed(ledger: usize, record: u64, text: &str) -> Option<Record> {
    Record::parse(Ref { ledger, record }, text)
}

/// Whether a record counts for what comes after it.
pub(crate) fn stands(record: &Record) -> bool {
    is_standing(&record.kind)
}

fn is_standing(kind: &str) -> bool {
    let kind = kind.split_once('.').map_or(kind, |(kind, _)| kind);
    ["entry", "policy", "person", "node", "log", "recovery"].contains(&kind)
}

/// Records in memory at once: some kilobytes each. Few in tests, so that a ledger which has more is soon made.
pub(super) const MOST_RECORDS: usize = if cfg!(test) { 2_000 } else { 1_000_000 };

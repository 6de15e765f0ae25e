//! What answers and reports are made of. Invariant: the same records give the same evidence, wherever they were read: a ledger or a pack.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::period::{Period, Span};
use crate::record::{Record, Ref};

/// A log, and which part of it was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its name.
    pub origin: String,
    /// The ID of its key.
    pub key_id: String,
    /// Records that the checkpoint names.
    pub size: u64,
    /// Their root, in hex.
    pub root: String,
    /// The first record of the period.
    pub first: u64,
    /// The number after its last one.
    pub end: u64,
    /// Records of the period that are not there, or not what was signed.
    pub missing: Vec<Span>,
    /// The records before this one are in an archive, as a record of the log itself says, and were not looked at.
    #[serde(default)]
    pub pruned: u64,
}

/// Records, joined by time.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// The logs they are from.
    pub ledgers: Vec<Head>,
    /// In the order of time; of one log, and without a time, in that of their numbers.
    pub records: Vec<Record>,
    /// What was asked for.
    pub period: Period,
    /// How many records were read for it.
    pub looked_at: u64,
    /// Records of nodes about the period that came to the server after it, and when the last of them came: they are not of it.
    pub came_later: Option<(u64, String)>,
    /// Of each log that was pruned, the record that says so.
    pub(crate) pruned_by: Vec<Ref>,
}

impl Evidence {
    pub(crate) fn new(ledgers: Vec<Head>, mut records: Vec<Record>, period: Period) -> Self {
        records.sort_by_key(|record| record.at);
        // What has no time is where the record before it is.
        let (mut keyed, mut last) = (Vec::with_capacity(records.len()), (0, String::new()));
        for record in records {
            if last.0 != record.at.ledger {
                last = (record.at.ledger, String::new());
            }
            if let Some(time) = &record.time {
                last.1.clone_from(time);
            }
            keyed.push((last.1.clone(), record));
        }
        keyed.sort_by(|(a, one), (b, other)| (a, one.at).cmp(&(b, other.at)));
        Self {
            ledgers,
            looked_at: keyed.len() as u64,
            records: keyed.into_iter().map(|(_, record)| record).collect(),
            period,
            came_later: None,
            pruned_by: Vec::new(),
        }
    }

    /// Whether a record is of the period, and not only one that still stood.
    #[must_use]
    pub fn is_within(&self, record: &Record) -> bool {
        let head = self.ledgers.get(record.at.ledger - 1);
        head.is_some_and(|head| (head.first..head.end).contains(&record.at.record))
    }

    /// The records of the period.
    pub fn within(&self) -> impl Iterator<Item = &Record> {
        self.records.iter().filter(|record| self.is_within(record))
    }

    /// By the log and the number there: the order in which a server has written, whatever its clock showed.
    pub(crate) fn by_number(&self) -> Vec<&Record> {
        let mut all: Vec<&Record> = self.records.iter().collect();
        all.sort_by_key(|record| record.at);
        all
    }

    /// How many records the period has, those that are missing among them.
    #[must_use]
    pub fn expected(&self) -> u64 {
        let counts = self
            .ledgers
            .iter()
            .map(|head| head.end.saturating_sub(head.first));
        counts.fold(0, u64::saturating_add)
    }

    /// How many of them are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let spans = self.ledgers.iter().flat_map(|head| &head.missing);
        spans.map(Span::count).fold(0, u64::saturating_add)
    }

    /// How many were taken to archives and not looked at.
    #[must_use]
    pub fn pruned(&self) -> u64 {
        let counts = self.ledgers.iter().map(|head| head.pruned);
        counts.fold(0, u64::saturating_add)
    }

    /// The last moment that is told of: the end of the period, or when the last record of a log was written, by its number and not by what a clock showed once.
    pub(crate) fn at_last(&self) -> Option<&str> {
        let mut last = BTreeMap::new();
        for record in self.by_number() {
            if let Some(time) = record.placed() {
                last.insert(record.at.ledger, time);
            }
        }
        let written = last.into_values().max();
        match (self.period.to.as_deref(), written) {
            (Some(to), Some(written)) => Some(to.min(written)),
            (to, written) => to.or(written),
        }
    }

    /// The records before which a server's clock had gone back. What nodes have sent has their time, and what was written behind a gap the time at which it
    /// happened: they are not among them.
    pub(crate) fn went_back(&self) -> Vec<&Record> {
        let (mut back, mut before): (Vec<&Record>, Option<&Record>) = (Vec::new(), None);
        let mut caught_up = None;
        for record in self.by_number() {
            let (Some(time), None) = (&record.time, record.received()) else {
                continue;
            };
            if caught_up.is_some_and(|last: Ref| last.ledger == record.at.ledger && last >= record.at) {
                continue;
            }
            if record.kind == "log.gap" {
                let last = record.at.record.saturating_add(record.counts("written_after"));
                caught_up = Some(Ref {
                    record: last,
                    ..record.at
                });
            }
            let same = before.filter(|before| before.at.ledger == record.at.ledger);
            if same
                .and_then(|before| before.time.as_ref())
                .is_some_and(|before| time < before)
            {
                back.push(record);
            }
            before = Some(record);
        }
        back
    }

    /// When a missing span was: the times of the records on both sides of it.
    #[must_use]
    pub fn around(&self, ledger: usize, span: Span) -> (Option<&str>, Option<&str>) {
        let of_this = || self.records.iter().filter(|record| record.at.ledger == ledger);
        let before = of_this().filter(|record| record.at.record < span.first);
        let before = before.max_by_key(|record| record.at.record);
        let after = of_this().filter(|record| record.at.record > span.last);
        let after = after.min_by_key(|record| record.at.record);
        (before.and_then(Record::placed), after.and_then(Record::placed))
    }
}

/// The place of each record in time, by number: the earliest time that it or one after it has. Whatever a clock showed, it had happened by then.
pub(crate) fn since<'a>(by_number: &[&'a Record]) -> Vec<Option<&'a str>> {
    let mut since: Vec<Option<&str>> = Vec::with_capacity(by_number.len());
    let mut last: Option<(Ref, &str)> = None;
    for record in by_number {
        // What has no time is where the record before it is.
        let before = last
            .filter(|(at, _)| at.ledger == record.at.ledger)
            .map(|(_, time)| time);
        let time = record.placed().or(before);
        last = time.map(|time| (record.at, time));
        since.push(time);
    }
    let mut least: Option<(usize, &str)> = None;
    for (record, time) in by_number.iter().zip(&mut since).rev() {
        let after = least
            .filter(|(ledger, _)| *ledger == record.at.ledger)
            .map(|(_, time)| time);
        *time = match (*time, after) {
            (Some(own), Some(after)) => Some(own.min(after)),
            (own, after) => own.or(after),
        };
        least = time.map(|time| (record.at.ledger, time));
    }
    since
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(ledger: usize, seq: u64, time: Option<&str>) -> Record {
        let time = time
            .map(|time| format!(r#""time":"{time}","#))
            .unwrap_or_default();
        let line = format!(r#"{{"seq":{seq},{time}"type":"a.b"}}"#);
        Record::parse(Ref { ledger, record: 0 }, &line).unwrap()
    }

    #[test]
    fn records_of_several_ledgers_are_in_the_order_of_time() {
        let all = vec![
            record(2, 0, Some("2026-01-01T00:00:01Z")),
            record(1, 0, Some("2026-01-01T00:00:00Z")),
            record(1, 1, None),
            record(1, 2, Some("2026-01-01T00:00:02Z")),
        ];
        let joined = Evidence::new(Vec::new(), all, Period::default());
        let order: Vec<String> = joined
            .records
            .iter()
            .map(|record| record.at.to_string())
            .collect();
        assert_eq!(order, ["0", "1", "2:0", "2"]);
    }

    #[test]
    fn a_record_had_happened_by_the_earliest_time_from_it_on() {
        let all = [
            record(1, 0, Some("2026-01-01")),
            record(1, 1, Some("2030-01-01")),
            record(1, 2, None),
            record(1, 3, Some("2026-01-02")),
            record(1, 4, Some("2026-01-03")),
            record(2, 0, None),
        ];
        let all: Vec<&Record> = all.iter().collect();
        let since = since(&all);
        let expected = [
            "2026-01-01",
            "2026-01-02",
            "2026-01-02",
            "2026-01-02",
            "2026-01-03",
        ];
        assert_eq!(since[..5], expected.map(Some));
        assert_eq!(since[5], None);
    }
}

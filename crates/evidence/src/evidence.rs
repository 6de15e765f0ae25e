//! What answers and reports are made of. Invariant: the same records give the same evidence, wherever they were read: a ledger or a pack.

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// From when to when, as RFC 3339 or its beginning; the end is not within.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Period {
    /// The beginning; none: from the first record on.
    pub from: Option<String>,
    /// The end; none: to the last record.
    pub to: Option<String>,
}

/// Records without a gap, both ends among them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// The first.
    pub first: u64,
    /// The last.
    pub last: u64,
}

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
}

impl Period {
    /// Whether this is within; what has no time always is.
    #[must_use]
    pub fn has(&self, time: Option<&str>) -> bool {
        !self.is_before(time) && !self.is_over(time)
    }

    pub(crate) fn is_before(&self, time: Option<&str>) -> bool {
        matches!((&self.from, time), (Some(from), Some(time)) if time < from.as_str())
    }

    pub(crate) fn is_over(&self, time: Option<&str>) -> bool {
        matches!((&self.to, time), (Some(to), Some(time)) if time >= to.as_str())
    }
}

impl std::fmt::Display for Period {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = self.from.as_deref().unwrap_or("the first record");
        let to = self.to.as_deref().unwrap_or("the last record");
        write!(f, "{from} to {to}")
    }
}

impl Span {
    /// Those from `first` to before `end`, where there are any; spans that touch are one.
    pub(crate) fn add(spans: &mut Vec<Self>, first: u64, end: u64) {
        if first >= end {
            return;
        }
        match spans.last_mut() {
            Some(last) if last.last + 1 >= first => last.last = last.last.max(end - 1),
            _ => spans.push(Self { first, last: end - 1 }),
        }
    }

    /// What of `first` to before `end` is not among these, which are in order.
    pub(crate) fn between(there: impl Iterator<Item = u64>, first: u64, end: u64) -> Vec<Self> {
        let (mut missing, mut next) = (Vec::new(), first);
        for number in there {
            Self::add(&mut missing, next, number);
            next = number + 1;
        }
        Self::add(&mut missing, next, end);
        missing
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last - self.first + 1
    }
}

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}", self.first),
            false => write!(f, "{} to {}", self.first, self.last),
        }
    }
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
            records: keyed.into_iter().map(|(_, record)| record).collect(),
            period,
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

    /// How many records the period has, those that are missing among them.
    #[must_use]
    pub fn expected(&self) -> u64 {
        self.ledgers.iter().map(|head| head.end - head.first).sum()
    }

    /// How many of them are missing.
    #[must_use]
    pub fn missing(&self) -> u64 {
        let spans = self.ledgers.iter().flat_map(|head| &head.missing);
        spans.map(Span::count).sum()
    }

    /// When a missing span was: the times of the records on both sides of it.
    #[must_use]
    pub fn around(&self, ledger: usize, span: Span) -> (Option<&str>, Option<&str>) {
        let of_this = || self.records.iter().filter(|record| record.at.ledger == ledger);
        let before = of_this().filter(|record| record.at.record < span.first);
        let before = before.max_by_key(|record| record.at.record);
        let after = of_this().filter(|record| record.at.record > span.last);
        let after = after.min_by_key(|record| record.at.record);
        let time = |record: Option<&'_ Record>| record.map(|record| record.at);
        let find = |at| self.records.iter().find(|record| Some(record.at) == at);
        (
            find(time(before)).and_then(|record| record.time.as_deref()),
            find(time(after)).and_then(|record| record.time.as_deref()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Ref;

    #[test]
    fn spans_that_touch_are_one() {
        let mut spans = Vec::new();
        for (first, end) in [(3, 3), (3, 5), (5, 6), (8, 9)] {
            Span::add(&mut spans, first, end);
        }
        assert_eq!(spans, [Span { first: 3, last: 5 }, Span { first: 8, last: 8 }]);
        let there = [2, 3, 6].into_iter();
        let missing = [
            Span { first: 1, last: 1 },
            Span { first: 4, last: 5 },
            Span { first: 7, last: 8 },
        ];
        assert_eq!(Span::between(there, 1, 9), missing);
    }

    #[test]
    fn records_of_several_ledgers_are_in_the_order_of_time() {
        let record = |ledger, seq: u64, time: Option<&str>| {
            let time = time
                .map(|time| format!(r#""time":"{time}","#))
                .unwrap_or_default();
            let line = format!(r#"{{"seq":{seq},{time}"type":"a.b"}}"#);
            Record::parse(Ref { ledger, record: 0 }, &line).unwrap()
        };
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
}

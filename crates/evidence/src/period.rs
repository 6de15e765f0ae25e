//! From when to when, and which numbers. Invariant: times of one form are in order as text, so nothing else is taken for the end of a period.

use serde::{Deserialize, Serialize};

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

impl Period {
    /// Why it is none: a time of another form, which compares with nothing, or an end that is not after its beginning.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        for time in [&self.from, &self.to].into_iter().flatten() {
            if !is_moment(time) {
                let shown: String = time.chars().filter(|c| !c.is_control()).take(40).collect();
                return Some(format!(
                    "{shown} is no time such as 2026-11-26T08:00:00Z, or its beginning"
                ));
            }
        }
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from >= to => Some(format!("it ends at {to}, not after {from}")),
            _ => None,
        }
    }

    pub(crate) fn is_before(&self, time: &str) -> bool {
        self.from.as_deref().is_some_and(|from| time < from)
    }

    pub(crate) fn is_over(&self, time: &str) -> bool {
        self.to.as_deref().is_some_and(|to| time >= to)
    }
}

/// The form of a time in a record, or the beginning of one that has its month: each two digits whole, and what a calendar and a clock have.
fn is_moment(text: &str) -> bool {
    let pattern = b"0000-00-00T00:00:00Z";
    let fits = |(given, wanted): (u8, u8)| match wanted {
        b'0' => given.is_ascii_digit(),
        other => given == other,
    };
    let has_form =
        [7, 10, 13, 16, 19, 20].contains(&text.len()) && text.bytes().zip(pattern.iter().copied()).all(fits);
    let bounds = [
        (5, "01", "12"),
        (8, "01", "31"),
        (11, "00", "23"),
        (14, "00", "59"),
        (17, "00", "60"),
    ];
    has_form
        && bounds.iter().all(|(at, least, most)| {
            let part = text.get(*at..at + 2);
            part.is_none_or(|part| (*least..=*most).contains(&part))
        })
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
            Some(last) if last.last.saturating_add(1) >= first => last.last = last.last.max(end - 1),
            _ => spans.push(Self { first, last: end - 1 }),
        }
    }

    /// What of `first` to before `end` is not among these, which are in order.
    pub(crate) fn between(there: impl Iterator<Item = u64>, first: u64, end: u64) -> Vec<Self> {
        let (mut missing, mut next) = (Vec::new(), first);
        for number in there {
            Self::add(&mut missing, next, number);
            next = number.saturating_add(1);
        }
        Self::add(&mut missing, next, end);
        missing
    }

    /// What of these is from `first` to before `end`.
    pub(crate) fn within(spans: &[Self], first: u64, end: u64) -> Vec<Self> {
        let mut found = Vec::new();
        for span in spans {
            Self::add(
                &mut found,
                span.first.max(first),
                span.last.saturating_add(1).min(end),
            );
        }
        found
    }

    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.last.saturating_sub(self.first).saturating_add(1)
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

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(
            Span::within(&missing, 5, 8),
            [Span { first: 5, last: 5 }, Span { first: 7, last: 7 }]
        );
        let turned = Span { first: 5, last: 2 };
        assert_eq!(
            (
                turned.count(),
                Span {
                    first: 0,
                    last: u64::MAX
                }
                .count()
            ),
            (1, u64::MAX)
        );
    }

    #[test]
    fn a_period_has_times_that_compare_and_ends_after_it_begins() {
        let period = |from: &str, to: &str| Period {
            from: Some(from.to_owned()).filter(|from| !from.is_empty()),
            to: Some(to.to_owned()).filter(|to| !to.is_empty()),
        };
        for good in [
            ("", ""),
            ("2026-11", "2026-11-27T10"),
            ("2026-11-27", "2026-11-27T23:59:59Z"),
            ("2026-11-27", ""),
        ] {
            assert_eq!(period(good.0, good.1).trouble(), None, "{good:?}");
        }
        for bad in [
            ("2026-11-2", ""),
            ("", "2026-11-27T1"),
            // A blank is before every T: the whole day would be left out.
            ("2026-11-27", "2026-11-27 23:59:59Z"),
            ("2026-11-27", "2026-11-27"),
            ("2026-11-28", "2026-11-27"),
            ("2026-13", ""),
            ("", "2026-11-27T24"),
            ("2026", ""),
            ("", "tomorrow"),
        ] {
            assert!(period(bad.0, bad.1).trouble().is_some(), "{bad:?}");
        }
    }
}

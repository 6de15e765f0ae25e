//! How far the records can be believed, as a number that explains itself. Invariant: more gaps never give more points, and each point that is taken is
//! named with its gap; records that are missing take thirty at once.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::gaps::Gap;

/// Of a hundred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quality {
    /// What is left of a hundred.
    pub score: u64,
    /// What was taken, and for what.
    pub deductions: Vec<Deduction>,
    /// Records of the period, those that are missing among them.
    pub expected: u64,
    /// Those that are missing.
    pub missing: u64,
    /// Records of each quality of time.
    pub times: BTreeMap<String, u64>,
}

/// Points that were taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Deduction {
    /// So many.
    pub points: u64,
    /// The kind of gap.
    pub kind: &'static str,
    /// How often, in words.
    pub what: String,
}

impl Quality {
    /// Of these records, with these gaps.
    #[must_use]
    pub fn of(evidence: &Evidence, gaps: &[Gap]) -> Self {
        let (expected, missing) = (evidence.expected(), evidence.missing());
        let mut by_kind: BTreeMap<&'static str, (u64, u64)> = BTreeMap::new();
        for gap in gaps {
            let (times, count) = by_kind.entry(gap.kind).or_default();
            *times += 1;
            *count += gap.count;
        }
        let mut deductions = Vec::new();
        for (kind, times, count) in by_kind
            .into_iter()
            .map(|(kind, (times, count))| (kind, times, count))
        {
            let share = |of: u64| (count * of).div_ceil(expected.max(1)).min(of);
            let points = match kind {
                "missing" => 30 + share(70),
                "log-gap" => (10 * times).min(30),
                "failed-selftest" => (10 * count).min(20),
                "clock-went-back" => (5 * count).min(15),
                "time" => share(20),
                "no-sponsor" => (5 * count).min(15),
                "unreviewed-recovery" | "alone" => (3 * count).min(15),
                "unattributed" => (2 * count).min(15),
                "start-without-stop" => (3 * times).min(15),
                "no-class" | "rule-unknown" | "no-reason" => count.min(5),
                "unconfirmed-time" => 5,
                _ => 0,
            };
            if points > 0 {
                let what = match kind {
                    "missing" => format!("{count} of {expected} records"),
                    _ => format!("{count}"),
                };
                deductions.push(Deduction { points, kind, what });
            }
        }
        deductions.sort_by_key(|deduction| (std::cmp::Reverse(deduction.points), deduction.kind));
        let taken: u64 = deductions.iter().map(|deduction| deduction.points).sum();
        let mut times: BTreeMap<String, u64> = BTreeMap::new();
        for record in evidence.within() {
            *times.entry(record.time_quality.clone()).or_default() += 1;
        }
        Self {
            score: 100_u64.saturating_sub(taken),
            deductions,
            expected,
            missing,
            times,
        }
    }

    /// The sum, as it was made.
    #[must_use]
    pub fn sum(&self) -> String {
        let taken = self
            .deductions
            .iter()
            .map(|d| format!(" \u{2212} {} {} ({})", d.points, d.kind, d.what));
        format!("100{} = {}", taken.collect::<String>(), self.score)
    }
}

//! How far the records can be believed, as a number that explains itself. Invariant: more gaps never give more points, and each point that is taken is
//! named with its gap; records that are missing take thirty at once.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::evidence::Evidence;
use crate::gaps::{Gap, GapKind};

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
    pub kind: GapKind,
    /// How often, in words.
    pub what: String,
}

impl Quality {
    /// Of these records, with these gaps.
    #[must_use]
    pub fn of(evidence: &Evidence, gaps: &[Gap]) -> Self {
        let (expected, missing) = (evidence.expected(), evidence.missing());
        let mut by_kind: BTreeMap<GapKind, (u64, u64)> = BTreeMap::new();
        for gap in gaps {
            let (times, count) = by_kind.entry(gap.kind).or_default();
            *times += 1;
            *count = count.saturating_add(gap.count);
        }
        let mut deductions = Vec::new();
        for (kind, (times, count)) in by_kind {
            let points = kind.points(times, count, expected);
            if points > 0 {
                let what = match kind {
                    GapKind::Missing => format!("{count} of {expected} records"),
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

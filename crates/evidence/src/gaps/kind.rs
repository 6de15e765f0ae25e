//! What may be wrong with records, and what each costs. Invariant: there is no kind that costs nothing, and the gravest stand first.

use serde::{Serialize, Serializer};

/// A kind of gap, the gravest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GapKind {
    /// Records that are not there as they were signed.
    Missing,
    /// A node has seen another ledger, or its journal has a hole.
    LedgerContradicted,
    /// Something went on while it could not be recorded, and nobody has kept what.
    Unrecorded,
    /// The ledger could not be written.
    LogGap,
    /// Something was let in that must not be.
    FailedSelftest,
    /// A server's clock was set back.
    ClockWentBack,
    /// Times that are doubted, reckoned or none.
    Time,
    /// Records that were taken to an archive, and not looked at.
    Pruned,
    /// A third party that nobody answers for.
    NoSponsor,
    /// A node came back by itself, and no person has looked.
    UnreviewedRecovery,
    /// Fewer than two persons have agreed.
    Alone,
    /// Nobody can be named for a change.
    Unattributed,
    /// A server was killed, or the power went.
    StartWithoutStop,
    /// An entry that nobody has described.
    NoClass,
    /// An entry that is older than the records.
    RuleUnknown,
    /// A change without a reason.
    NoReason,
    /// A self-test that could not try all of it.
    UntriedSelftest,
    /// The machine's clock, and nobody else.
    UnconfirmedTime,
}

impl GapKind {
    /// All of them, in their order.
    pub const ALL: [Self; 18] = [
        Self::Missing,
        Self::LedgerContradicted,
        Self::Unrecorded,
        Self::LogGap,
        Self::FailedSelftest,
        Self::ClockWentBack,
        Self::Time,
        Self::Pruned,
        Self::NoSponsor,
        Self::UnreviewedRecovery,
        Self::Alone,
        Self::Unattributed,
        Self::StartWithoutStop,
        Self::NoClass,
        Self::RuleUnknown,
        Self::NoReason,
        Self::UntriedSelftest,
        Self::UnconfirmedTime,
    ];

    /// As it is called in every answer.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::LedgerContradicted => "ledger-contradicted",
            Self::Unrecorded => "unrecorded",
            Self::LogGap => "log-gap",
            Self::FailedSelftest => "failed-selftest",
            Self::ClockWentBack => "clock-went-back",
            Self::Time => "time",
            Self::Pruned => "pruned",
            Self::NoSponsor => "no-sponsor",
            Self::UnreviewedRecovery => "unreviewed-recovery",
            Self::Alone => "alone",
            Self::Unattributed => "unattributed",
            Self::StartWithoutStop => "start-without-stop",
            Self::NoClass => "no-class",
            Self::RuleUnknown => "rule-unknown",
            Self::NoReason => "no-reason",
            Self::UntriedSelftest => "untried-selftest",
            Self::UnconfirmedTime => "unconfirmed-time",
        }
    }

    /// What so many gaps of it, over so many records of so many, take from a hundred.
    pub(crate) fn points(self, times: u64, count: u64, of: u64) -> u64 {
        let share = |most: u64| count.saturating_mul(most).div_ceil(of.max(1)).min(most);
        let each = |points: u64, count: u64, most: u64| points.saturating_mul(count).min(most);
        match self {
            Self::Missing => 30 + share(70),
            Self::LedgerContradicted => 30,
            Self::Unrecorded => each(20, times, 40),
            Self::LogGap => each(10, times, 30),
            Self::FailedSelftest => each(10, count, 20),
            Self::ClockWentBack | Self::NoSponsor => each(5, count, 15),
            Self::Time => share(20),
            Self::UnreviewedRecovery | Self::Alone => each(3, count, 15),
            Self::Unattributed => each(2, count, 15),
            Self::StartWithoutStop => each(3, times, 15),
            Self::NoClass | Self::RuleUnknown | Self::NoReason | Self::UntriedSelftest => each(1, count, 5),
            Self::Pruned | Self::UnconfirmedTime => 5,
        }
    }
}

impl std::fmt::Display for GapKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for GapKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_costs_something_and_is_explained() {
        let explained = include_str!("../../../../docs/evidence.md");
        let mut before = None;
        for kind in GapKind::ALL {
            assert!(kind.points(1, 1, 1_000_000) > 0, "{kind} is free");
            assert!(
                explained.contains(&format!("`{kind}`")),
                "docs/evidence.md is silent about {kind}"
            );
            assert!(
                before.is_none_or(|before| before < kind),
                "{kind} is out of its order"
            );
            before = Some(kind);
        }
        assert!(GapKind::Missing.points(1, u64::MAX, 0) <= 100);
    }
}

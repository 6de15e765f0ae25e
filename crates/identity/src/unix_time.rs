//! Wall time as whole seconds since 1970. Invariant: arithmetic saturates, so no clock value can make us panic.

use std::fmt;
use std::time::Duration;

/// A moment in whole seconds since 1970-01-01T00:00:00Z; negative before. Leap seconds are not counted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct UnixTime(i64);

impl UnixTime {
    /// 1970-01-01T00:00:00Z: what a gateway without a battery shows at power-on.
    pub const EPOCH: Self = Self(0);

    /// The moment this many seconds after the epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs)
    }

    /// Seconds after the epoch.
    pub const fn as_secs(self) -> i64 {
        self.0
    }

    /// This moment plus whole seconds of `by`; the far end of the range instead of an overflow.
    #[must_use]
    pub fn saturating_add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(signed(by)))
    }

    /// This moment minus whole seconds of `by`; the near end of the range instead of an overflow.
    #[must_use]
    pub fn saturating_sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(signed(by)))
    }

    /// Time passed since `earlier`; zero when `earlier` is not earlier.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_secs(u64::try_from(i128::from(self.0) - i128::from(earlier.0)).unwrap_or(0))
    }
}

fn signed(by: Duration) -> i64 {
    i64::try_from(by.as_secs()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, `2026-11-23T08:00:00Z`; outside the years 0 to 9999 the bare number, `@-99999999999`.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match time::OffsetDateTime::from_unix_timestamp(self.0) {
            Ok(t) if (0..=9999).contains(&t.year()) => write!(
                f,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}Z",
                t.year(),
                u8::from(t.month()),
                t.day(),
                t.hour(),
                t.minute(),
                t.second()
            ),
            _ => write!(f, "@{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_prints_rfc_3339() {
        assert_eq!(
            UnixTime::from_secs(1_795_420_800).to_string(),
            "2026-11-23T08:00:00Z"
        );
        assert_eq!(UnixTime::EPOCH.to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(UnixTime::from_secs(-1).to_string(), "1969-12-31T23:59:59Z");
        assert_eq!(
            UnixTime::from_secs(i64::MAX).to_string(),
            format!("@{}", i64::MAX)
        );
    }

    proptest! {
        #[test]
        fn no_arithmetic_panics_or_goes_backwards(a: i64, b: i64, d: u64) {
            let (a, b, d) = (UnixTime::from_secs(a), UnixTime::from_secs(b), Duration::from_secs(d));
            prop_assert!(a.saturating_add(d) >= a);
            prop_assert!(a.saturating_sub(d) <= a);
            if a > b {
                let gap = i128::from(a.as_secs()) - i128::from(b.as_secs());
                prop_assert_eq!(i128::from(a.since(b).as_secs()), gap);
            } else {
                prop_assert_eq!(a.since(b), Duration::ZERO);
            }
            prop_assert!(!a.to_string().is_empty());
        }
    }
}

//! Durations and sizes as people write them.
//!
//! Invariant: a number always has its unit.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

/// `"500ms"`, `"90s"`, `"5m"`, `"1h"`, `"30d"`: one whole number with one unit, at most 100 years.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HumanDuration(Duration);

/// `"512B"`, `"64KiB"`, `"16MiB"`, `"1GiB"`: one whole number with one unit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct HumanSize(u64);

/// The text is not one; `Display` says what was expected.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("expected {0}")]
pub struct HumanError(&'static str);

impl HumanDuration {
    /// For defaults.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// As a value to compute with.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl HumanSize {
    /// For defaults.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl From<HumanDuration> for Duration {
    fn from(human: HumanDuration) -> Self {
        human.0
    }
}

impl FromStr for HumanDuration {
    type Err = HumanError;

    fn from_str(text: &str) -> Result<Self, HumanError> {
        let wrong = HumanError(DURATION);
        let (number, unit) = split(text).ok_or(wrong)?;
        let (_, millis) = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or(wrong)?;
        let millis = number
            .checked_mul(*millis)
            .filter(|millis| *millis <= MAX_MILLIS)
            .ok_or(wrong)?;
        Ok(Self(Duration::from_millis(millis)))
    }
}

impl FromStr for HumanSize {
    type Err = HumanError;

    fn from_str(text: &str) -> Result<Self, HumanError> {
        let wrong = HumanError(SIZE);
        let (number, unit) = split(text).ok_or(wrong)?;
        let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| *name == unit).ok_or(wrong)?;
        number.checked_mul(*bytes).map(Self).ok_or(wrong)
    }
}

/// In the largest unit that leaves a whole number.
impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(MAX_MILLIS);
        write_units(f, millis, &DURATION_UNITS, "0s")
    }
}

/// In the largest unit that leaves a whole number.
impl fmt::Display for HumanSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_units(f, self.0, &SIZE_UNITS, "0B")
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(DURATION, std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for HumanSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Text(SIZE, std::marker::PhantomData))
    }
}

/// So that a bare number is answered with what was expected, too.
struct Text<T>(&'static str, std::marker::PhantomData<T>);

impl<T: FromStr> de::Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse()
            .map_err(|_expected| E::invalid_value(de::Unexpected::Str(text), &self))
    }
}

fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    // `parse` alone would take a plus sign.
    Some((number.parse().ok()?, unit))
}

fn write_units(f: &mut fmt::Formatter<'_>, value: u64, units: &[(&str, u64)], zero: &str) -> fmt::Result {
    match units
        .iter()
        .rev()
        .find(|(_, size)| value != 0 && value.is_multiple_of(*size))
    {
        Some((unit, size)) => write!(f, "{}{unit}", value / size),
        None => f.write_str(zero),
    }
}

const DURATION: &str = r#"a duration such as "90s", "5m", "1h" or "30d""#;
const SIZE: &str = r#"a size such as "64KiB" or "16MiB""#;
const DURATION_UNITS: [(&str, u64); 5] = [
    ("ms", 1),
    ("s", 1000),
    ("m", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
];
const SIZE_UNITS: [(&str, u64); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];
/// 100 years: far from any overflow when added to a time.
const MAX_MILLIS: u64 = 36_525 * 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("1h", 3600),
            ("30d", 2_592_000),
            ("0s", 0),
            ("36525d", 3_155_760_000),
        ] {
            let parsed: HumanDuration = text.parse().unwrap();
            assert_eq!(parsed.duration(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(
            "500ms".parse::<HumanDuration>().unwrap().duration(),
            Duration::from_millis(500)
        );
        for text in [
            "",
            "5",
            "s",
            "1x",
            "1 h",
            "+1h",
            "-1h",
            "1.5h",
            "1h30m",
            "1H",
            "36526d",
            "99999999999999999999d",
        ] {
            assert!(text.parse::<HumanDuration>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_a_number_and_a_unit() {
        for (text, bytes) in [
            ("512B", 512),
            ("64KiB", 65_536),
            ("16MiB", 16_777_216),
            ("1GiB", 1_073_741_824),
        ] {
            assert_eq!(text.parse::<HumanSize>().unwrap().bytes(), bytes, "{text}");
        }
        for text in ["", "5", "64kb", "1MB", "99999999999GiB", "+1B"] {
            assert!(text.parse::<HumanSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_can_be_read_again() {
        for text in ["500ms", "90s", "5m", "1h", "30d", "0s"] {
            assert_eq!(text.parse::<HumanDuration>().unwrap().to_string(), text);
        }
        for text in ["512B", "64KiB", "16MiB", "1GiB", "0B"] {
            assert_eq!(text.parse::<HumanSize>().unwrap().to_string(), text);
        }
    }
}

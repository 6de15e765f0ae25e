//! Selectors: what attestation found out. Invariant: a kind has no colon and no part is empty, so `kind:value` has one reading.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// One attested property, `kind:value`; the value may hold colons (`unix:uid:1000` is kind `unix`, value `uid:1000`).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Selector {
    kind: Arc<str>,
    value: Arc<str>,
}

impl Selector {
    /// Reads `kind:value`.
    ///
    /// # Errors
    /// As [`Selector::new`], and when there is no colon.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (kind, value) = text.split_once(':').ok_or(SelectorError::NoColon)?;
        Self::new(kind, value)
    }

    /// A selector of its two parts.
    ///
    /// # Errors
    /// When a part is empty, too long or holds a control character, or the kind holds a colon.
    pub fn new(kind: &str, value: &str) -> Result<Self, SelectorError> {
        if kind.is_empty() {
            return Err(SelectorError::NoKind);
        }
        if value.is_empty() {
            return Err(SelectorError::NoValue);
        }
        if kind.contains(':') {
            return Err(SelectorError::ColonInKind);
        }
        if kind.len() > MAX_KIND || value.len() > MAX_VALUE {
            return Err(SelectorError::TooLong);
        }
        if kind.chars().chain(value.chars()).any(char::is_control) {
            return Err(SelectorError::ControlCharacter);
        }
        Ok(Self {
            kind: kind.into(),
            value: value.into(),
        })
    }

    /// What stands before the first colon.
    pub fn kind(&self) -> &str {
        &self.kind
    }

    /// What stands after the first colon.
    pub fn value(&self) -> &str {
        &self.value
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Selector({self})")
    }
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// No colon at all.
    #[error("has no colon between kind and value")]
    NoColon,
    /// Nothing before the colon.
    #[error("has no kind")]
    NoKind,
    /// Nothing after the colon.
    #[error("has no value")]
    NoValue,
    /// A kind with a colon in it.
    #[error("has a colon in its kind")]
    ColonInKind,
    /// A kind over 255 or a value over 8192 bytes.
    #[error("is longer than a selector may be")]
    TooLong,
    /// A control character, which no log line or table could show.
    #[error("holds a control character")]
    ControlCharacter,
}

/// A sorted set of selectors, cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct SelectorSet(Arc<[Selector]>);

impl SelectorSet {
    /// Whether this selector is in the set.
    pub fn contains(&self, selector: &Selector) -> bool {
        self.0.binary_search(selector).is_ok()
    }

    /// Whether every selector of this set is in `other`.
    pub fn is_subset_of(&self, other: &Self) -> bool {
        self.len() <= other.len() && self.iter().all(|s| other.contains(s))
    }

    /// The selectors in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Selector> {
        self.0.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        let mut all: Vec<Selector> = selectors.into_iter().collect();
        all.sort();
        all.dedup();
        Self(all.into())
    }
}

impl<'a> IntoIterator for &'a SelectorSet {
    type Item = &'a Selector;
    type IntoIter = std::slice::Iter<'a, Selector>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for SelectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.iter().map(ToString::to_string))
            .finish()
    }
}

const MAX_KIND: usize = 255;
/// Longest path the kernel gives is 4096 bytes; twice that leaves room for every attestor's prefix.
const MAX_VALUE: usize = 8192;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_first_colon_separates() {
        let s = Selector::parse("unix:uid:1000").unwrap();
        assert_eq!((s.kind(), s.value()), ("unix", "uid:1000"));
        assert_eq!(s.to_string(), "unix:uid:1000");
    }

    #[test]
    fn malformed_selectors_are_refused() {
        assert_eq!(Selector::parse("unix"), Err(SelectorError::NoColon));
        assert_eq!(Selector::parse(":uid"), Err(SelectorError::NoKind));
        assert_eq!(Selector::parse("unix:"), Err(SelectorError::NoValue));
        assert_eq!(Selector::new("a:b", "c"), Err(SelectorError::ColonInKind));
        assert_eq!(Selector::new("a", "c\nd"), Err(SelectorError::ControlCharacter));
        assert_eq!(Selector::new("a", &"v".repeat(8193)), Err(SelectorError::TooLong));
        assert!(Selector::new("a", &"v".repeat(8192)).is_ok());
        assert_eq!(Selector::new(&"k".repeat(256), "v"), Err(SelectorError::TooLong));
    }

    fn set(values: &[u8]) -> SelectorSet {
        values
            .iter()
            .map(|v| Selector::new("k", &v.to_string()).unwrap())
            .collect()
    }

    proptest! {
        #[test]
        fn order_and_repetition_do_not_matter(mut values: Vec<u8>) {
            let one = set(&values);
            values.extend(values.clone());
            values.reverse();
            prop_assert_eq!(&one, &set(&values));
            prop_assert!(one.iter().zip(one.iter().skip(1)).all(|(a, b)| a < b));
        }

        #[test]
        fn subset_means_every_member(a in proptest::collection::vec(0u8..6, 0..5), b in proptest::collection::vec(0u8..6, 0..5)) {
            prop_assert_eq!(set(&a).is_subset_of(&set(&b)), a.iter().all(|x| b.contains(x)));
        }
    }
}

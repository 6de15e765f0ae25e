//! The one matcher for sets of IDs. Invariant: compares whole path segments, never parts of one, never another domain.

use std::fmt;
use std::str::FromStr;

use crate::id::{IdError, SpiffeId};

/// An exact SPIFFE ID, or an ID followed by `/*`, which stands for everything below it and not for itself.
///
/// ```
/// use landfast_identity::{IdPattern, SpiffeId};
/// let line: IdPattern = "spiffe://plant.test/line/*".parse()?;
/// assert!(line.matches(&SpiffeId::parse("spiffe://plant.test/line/4/robot")?));
/// assert!(!line.matches(&SpiffeId::parse("spiffe://plant.test/line")?));
/// assert!(!line.matches(&SpiffeId::parse("spiffe://plant.test/line-4")?));
/// # Ok::<(), landfast_identity::IdError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct IdPattern(Kind);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
enum Kind {
    Exactly(SpiffeId),
    Below(SpiffeId),
}

impl IdPattern {
    /// Reads `spiffe://td/a` or `spiffe://td/a/*`.
    ///
    /// # Errors
    /// When what stands before `/*`, or the whole, is no SPIFFE ID. A star anywhere else is an error.
    pub fn parse(text: &str) -> Result<Self, IdError> {
        Ok(Self(match text.strip_suffix("/*") {
            Some(base) => Kind::Below(SpiffeId::parse(base)?),
            None => Kind::Exactly(SpiffeId::parse(text)?),
        }))
    }

    /// The pattern that only this ID matches.
    pub fn exactly(id: SpiffeId) -> Self {
        Self(Kind::Exactly(id))
    }

    /// Whether `id` is meant.
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match &self.0 {
            Kind::Exactly(only) => only == id,
            Kind::Below(base) => {
                base.trust_domain() == id.trust_domain()
                    && id
                        .path()
                        .strip_prefix(base.path())
                        .is_some_and(|rest| rest.starts_with('/'))
            }
        }
    }
}

impl From<SpiffeId> for IdPattern {
    fn from(id: SpiffeId) -> Self {
        Self::exactly(id)
    }
}

impl FromStr for IdPattern {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::parse(text)
    }
}

impl fmt::Display for IdPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Exactly(id) => write!(f, "{id}"),
            Kind::Below(id) => write!(f, "{id}/*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, id: &str) -> bool {
        IdPattern::parse(pattern)
            .unwrap()
            .matches(&SpiffeId::parse(id).unwrap())
    }

    #[test]
    fn an_exact_pattern_matches_only_its_id() {
        assert!(matches("spiffe://td.test/a", "spiffe://td.test/a"));
        assert!(!matches("spiffe://td.test/a", "spiffe://td.test/a/b"));
        assert!(!matches("spiffe://td.test/a", "spiffe://td.test/A"));
        assert!(!matches("spiffe://td.test/a", "spiffe://td.test2/a"));
    }

    #[test]
    fn a_star_matches_below_by_whole_segments() {
        assert!(matches("spiffe://td.test/a/*", "spiffe://td.test/a/b"));
        assert!(matches("spiffe://td.test/a/*", "spiffe://td.test/a/b/c"));
        assert!(!matches("spiffe://td.test/a/*", "spiffe://td.test/a"));
        assert!(!matches("spiffe://td.test/a/*", "spiffe://td.test/ab"));
        assert!(!matches("spiffe://td.test/a/*", "spiffe://td.test/x/a/b"));
    }

    #[test]
    fn a_star_at_the_root_matches_every_workload_of_that_domain_only() {
        assert!(matches("spiffe://td.test/*", "spiffe://td.test/a"));
        assert!(!matches("spiffe://td.test/*", "spiffe://td.test"));
        assert!(!matches("spiffe://td.test/*", "spiffe://td.test2/a"));
        assert!(!matches("spiffe://td.test/*", "spiffe://td.tes/t/a"));
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for bad in [
            "*",
            "/*",
            "spiffe://*",
            "spiffe://*/a",
            "spiffe://td.test/a*",
            "spiffe://td.test/*/a",
            "spiffe://td.test/**",
            "spiffe://td.test/*/*",
            "spiffe:///*",
            "spiffe://td.test//*",
            "spiffe://td.test/a/*/",
        ] {
            assert!(IdPattern::parse(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_prints_as_it_was_read(a in "[a-z]{1,8}", b in "[A-Za-z0-9]{1,8}", star: bool) {
            let text = format!("spiffe://{a}/{b}{}", if star { "/*" } else { "" });
            prop_assert_eq!(IdPattern::parse(&text).unwrap().to_string(), text);
        }

        #[test]
        fn below_means_a_slash_and_more(base in "(/[a-c]{1,2}){0,3}", path in "(/[a-c]{1,2}){0,4}") {
            let expected = path.len() > base.len() && path.starts_with(&base) && path[base.len()..].starts_with('/');
            prop_assert_eq!(matches(&format!("spiffe://t{base}/*"), &format!("spiffe://t{path}")), expected);
        }
    }
}

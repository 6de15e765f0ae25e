//! Whom a client is willing to talk to.

use std::fmt;

use landfast_identity::{IdPattern, SpiffeId, TrustDomain};

/// There is no "anybody": a client that does not know whom it calls has no use for authentication.
#[derive(Clone, Debug)]
pub enum Expect {
    /// This one.
    Exactly(SpiffeId),
    /// One of these; an empty list matches nobody.
    OneOf(Vec<SpiffeId>),
    /// Anybody of this trust domain.
    TrustDomain(TrustDomain),
    /// Whom the pattern matches.
    Pattern(IdPattern),
}

impl Expect {
    /// Is it one of those?
    #[must_use]
    pub fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Exactly(expected) => expected == id,
            Self::OneOf(expected) => expected.contains(id),
            Self::TrustDomain(expected) => *expected == *id.trust_domain(),
            Self::Pattern(expected) => expected.matches(id),
        }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(id) => id.fmt(f),
            Self::OneOf(ids) => {
                f.write_str("one of")?;
                for (index, id) in ids.iter().enumerate() {
                    write!(f, "{} {id}", if index == 0 { "" } else { "," })?;
                }
                Ok(())
            }
            Self::TrustDomain(name) => write!(f, "anybody of {name}"),
            Self::Pattern(pattern) => pattern.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expectation_matches_only_what_it_names() {
        let id = |text: &str| SpiffeId::parse(text).unwrap();
        let (a, b, foreign) = (
            id("spiffe://plant/a"),
            id("spiffe://plant/b"),
            id("spiffe://other/a"),
        );
        let cases = [
            (
                Expect::Exactly(a.clone()),
                [true, false, false],
                "spiffe://plant/a",
            ),
            (Expect::OneOf(vec![]), [false, false, false], "one of"),
            (
                Expect::OneOf(vec![a.clone(), foreign.clone()]),
                [true, false, true],
                "one of spiffe://plant/a, spiffe://other/a",
            ),
            (
                Expect::TrustDomain(TrustDomain::parse("plant").unwrap()),
                [true, true, false],
                "anybody of plant",
            ),
            (
                Expect::Pattern(IdPattern::parse("spiffe://plant/b").unwrap()),
                [false, true, false],
                "spiffe://plant/b",
            ),
        ];
        for (expect, matches, text) in cases {
            assert_eq!(
                [&a, &b, &foreign].map(|id| expect.matches(id)),
                matches,
                "{expect}"
            );
            assert_eq!(expect.to_string(), text);
        }
    }
}

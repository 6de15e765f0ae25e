//! References and the names of people. Invariant: a reference says nothing about whom it refers to, and is never used twice.

use std::fmt;

use crate::random;

/// `p-` and 26 random letters and digits.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PersonRef(String);

/// Why a text is no reference, or no name.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not of the form of a reference.
    #[error(
        "a person is named by a reference, p- and 26 letters and digits: landfast person list shows them"
    )]
    Reference,
    /// Empty, longer than 128 bytes, or with characters that are not seen.
    #[error("a name is one line of at most 128 bytes, and not empty")]
    Name,
}

impl PersonRef {
    /// A new one; `None` when the random source fails.
    pub(crate) fn random() -> Option<Self> {
        Some(Self(format!("p-{}", base32(&random::bytes::<17>()?, 26))))
    }

    /// Reads one.
    pub(crate) fn parse(text: &str) -> Result<Self, NameError> {
        let letters = text.strip_prefix("p-").ok_or(NameError::Reference)?;
        let fits = letters.len() == 26 && letters.bytes().all(|b| ALPHABET.contains(&b));
        fits.then(|| Self(text.to_owned())).ok_or(NameError::Reference)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PersonRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Of a proposal; `None` when the random source fails.
pub(crate) fn proposal_id() -> Option<String> {
    Some(format!("c-{}", base32(&random::bytes::<10>()?, 16)))
}

pub(crate) fn is_proposal_id(text: &str) -> bool {
    let letters = text.strip_prefix("c-").unwrap_or_default();
    letters.len() == 16 && letters.bytes().all(|b| ALPHABET.contains(&b))
}

/// What people call somebody.
pub(crate) fn name(text: &str) -> Result<String, NameError> {
    let text = text.trim();
    let unseen = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    match text.is_empty() || text.len() > 128 || text.chars().any(unseen) {
        true => Err(NameError::Name),
        false => Ok(text.to_owned()),
    }
}

/// The first so many digits, five bits each.
pub(super) fn base32(bytes: &[u8], digits: usize) -> String {
    let bit = |at: usize| {
        bytes
            .get(at / 8)
            .is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1)
    };
    let digit = |place: usize| (0..5).fold(0, |digit, n| digit << 1 | usize::from(bit(place * 5 + n)));
    (0..digits)
        .map(|place| ALPHABET.get(digit(place)).copied().map_or('a', char::from))
        .collect()
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_have_their_form_and_differ() {
        let one = PersonRef::random().unwrap();
        assert_eq!(PersonRef::parse(one.as_str()).unwrap(), one);
        assert_ne!(one, PersonRef::random().unwrap());
        assert!(is_proposal_id(&proposal_id().unwrap()) && !is_proposal_id("c-Jo"));
        assert_eq!(base32(&[0, 255, 0b1010_1010], 4), "ad72");
        for bad in [
            "",
            "p-",
            "p-abc",
            "alice",
            "p-ABCDEFGHIJKLMNOPQRSTUVWXYZ",
            "p-aaaaaaaaaaaaaaaaaaaaaaaaa1",
        ] {
            assert_eq!(PersonRef::parse(bad), Err(NameError::Reference), "{bad}");
        }
    }

    #[test]
    fn a_name_is_one_line() {
        assert_eq!(name(" Jo Müller ").unwrap(), "Jo Müller");
        for bad in ["", "  ", "a\nb", "a\u{1b}[1mb", "a\u{202e}b", &"x".repeat(129)] {
            assert_eq!(name(bad), Err(NameError::Name), "{bad:?}");
        }
    }
}

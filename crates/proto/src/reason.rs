//! Why an operator does something: metadata of a request, so that SPIRE's messages need no field for it.
//!
//! Invariant: a reason has a bound and no control characters, whoever made it; on the wire it is ASCII.

use std::fmt;

/// Metadata of a request: the reason, UTF-8 with everything but printable ASCII, and `%`, percent-encoded.
pub const REASON: &str = "landfast-reason";

/// A reason as somebody gave it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason(String);

/// Why a text is no reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum ReasonError {
    /// Nothing is said.
    Empty,
    /// More than 512 bytes.
    TooLong,
    /// A control character, or one that turns the direction of what follows.
    Character,
    /// Not encoded as [`REASON`] has to be.
    Encoding,
}

impl fmt::Display for ReasonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the reason is empty",
            Self::TooLong => "the reason is longer than 512 bytes",
            Self::Character => {
                "the reason has a control character, or one that is not seen: give it on one line"
            }
            Self::Encoding => "the reason is not percent-encoded UTF-8",
        })
    }
}

impl std::error::Error for ReasonError {}

impl Reason {
    /// What a person has typed.
    ///
    /// # Errors
    /// It breaks a rule of this type.
    pub fn parse(text: &str) -> Result<Self, ReasonError> {
        let text = text.trim();
        match text {
            "" => Err(ReasonError::Empty),
            text if text.len() > MAX => Err(ReasonError::TooLong),
            text if text.chars().any(|c| c.is_control() || misleads(c)) => Err(ReasonError::Character),
            text => Ok(Self(text.to_owned())),
        }
    }

    /// What stood in the metadata.
    ///
    /// # Errors
    /// It is not encoded, or [`Reason::parse`] refuses it.
    pub fn from_metadata(value: &[u8]) -> Result<Self, ReasonError> {
        if value.len() > 3 * MAX {
            return Err(ReasonError::TooLong);
        }
        let mut text = Vec::with_capacity(value.len());
        let mut rest = value.iter();
        while let Some(byte) = rest.next() {
            text.push(match byte {
                b'%' => {
                    let mut digit = || rest.next().and_then(|digit| char::from(*digit).to_digit(16));
                    let (high, low) = (digit(), digit());
                    let byte = high.zip(low).map(|(high, low)| high << 4 | low);
                    byte.and_then(|byte| u8::try_from(byte).ok())
                        .ok_or(ReasonError::Encoding)?
                }
                b' '..=b'~' => *byte,
                _ => return Err(ReasonError::Encoding),
            });
        }
        Self::parse(std::str::from_utf8(&text).map_err(|_not_utf8| ReasonError::Encoding)?)
    }

    /// For the metadata.
    pub fn to_metadata(&self) -> String {
        let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'%';
        let encode = |byte: u8| match plain(byte) {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        };
        self.0.bytes().map(encode).collect()
    }

    /// As it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Invisible, or turns the direction of what follows.
fn misleads(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

const MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_comes_back_as_it_was_given() {
        for text in [
            "pump 4 was replaced",
            "100 % of them, für Schicht 2",
            "ÄÖ→\u{1f527}",
            "a%41",
        ] {
            let reason = Reason::parse(text).unwrap();
            let sent = reason.to_metadata();
            assert!(sent.bytes().all(|byte| matches!(byte, b' '..=b'~')), "{sent}");
            assert_eq!(Reason::from_metadata(sent.as_bytes()).unwrap().as_str(), text);
        }
        assert_eq!(Reason::parse("  ticket 7 ").unwrap().as_str(), "ticket 7");
    }

    #[test]
    fn what_is_no_reason_is_refused_on_both_sides() {
        let long = "x".repeat(513);
        for (text, why) in [
            ("", ReasonError::Empty),
            ("  ", ReasonError::Empty),
            (long.as_str(), ReasonError::TooLong),
            ("a\nb", ReasonError::Character),
            ("a\u{1b}[2J", ReasonError::Character),
            ("a\u{202e}b", ReasonError::Character),
        ] {
            assert_eq!(Reason::parse(text), Err(why), "{text:?}");
        }
        for (sent, why) in [
            ("%0A", ReasonError::Empty),
            ("a%0Ab", ReasonError::Character),
            ("a%1B[2J", ReasonError::Character),
            ("a%4", ReasonError::Encoding),
            ("a%zz", ReasonError::Encoding),
            ("%ff", ReasonError::Encoding),
            ("a\tb", ReasonError::Encoding),
            ("ä", ReasonError::Encoding),
        ] {
            assert_eq!(Reason::from_metadata(sent.as_bytes()), Err(why), "{sent}");
        }
        assert_eq!(Reason::from_metadata(&vec![b'x'; 513]), Err(ReasonError::TooLong));
    }
}

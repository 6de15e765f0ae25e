//! Names from the random source. Invariant: 122 bits of randomness or more in each.

use std::fmt::Write as _;

use ring::rand::{SecureRandom as _, SystemRandom};

/// A version 4 UUID; `None` when the random source fails.
pub(crate) fn uuid() -> Option<String> {
    let mut b: [u8; 16] = bytes()?;
    b[6] = b[6] & 0x0f | 0x40;
    b[8] = b[8] & 0x3f | 0x80;
    let hex = hex(&b);
    Some(format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    ))
}

/// 32 of `[a-zA-Z0-9]`, as SPIRE names JWT keys; `None` when the random source fails.
pub(crate) fn key_id() -> Option<String> {
    const ALPHABET: &[u8; 62] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    let mut id = String::with_capacity(32);
    while id.len() < 32 {
        // Bytes from 248 on would favour the first letters.
        let fair = bytes::<64>()?
            .into_iter()
            .filter(|b| *b < 248)
            .map(|b| char::from(ALPHABET[usize::from(b % 62)]));
        id.extend(fair.take(32 - id.len()));
    }
    Some(id)
}

/// Random bytes in lower-case hex; `None` when the random source fails.
pub(crate) fn hex_id() -> Option<String> {
    Some(hex(&bytes::<16>()?))
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        })
}

pub(crate) fn bytes<const N: usize>() -> Option<[u8; N]> {
    let mut out = [0; N];
    SystemRandom::new().fill(&mut out).ok()?;
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_their_form_and_differ() {
        let uuid = uuid().unwrap();
        assert_eq!(uuid.len(), 36);
        assert_eq!(&uuid[14..15], "4");
        assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"), "{uuid}");
        let key = key_id().unwrap();
        assert!(
            key.len() == 32 && key.bytes().all(|b| b.is_ascii_alphanumeric()),
            "{key}"
        );
        assert_ne!(key, key_id().unwrap());
        assert_eq!(hex(&[0, 15, 255]), "000fff");
        assert_eq!(hex_id().unwrap().len(), 32);
    }
}

//! The few DER pieces we write or read ourselves. Invariant: definite, shortest lengths only; nothing is trusted beyond its bounds.

/// One element of this tag.
pub(crate) fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        n @ 0..=0x7f => out.push(n as u8),
        n => {
            let bytes = n.to_be_bytes();
            let from = bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len() - 1);
            out.push(0x80 | (bytes.len() - from) as u8);
            out.extend_from_slice(&bytes[from..]);
        }
    }
    out.extend_from_slice(content);
    out
}

/// An INTEGER of a big-endian magnitude.
pub(crate) fn unsigned_integer(magnitude: &[u8]) -> Vec<u8> {
    let trimmed = trim_zeros(magnitude);
    let mut content = Vec::with_capacity(trimmed.len() + 1);
    if trimmed.first().is_none_or(|b| b & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(trimmed);
    element(INTEGER, &content)
}

/// The first element of `input` when it has this tag: its content, and what follows it.
pub(crate) fn read(input: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (head, rest) = input.split_first_chunk::<2>()?;
    if head[0] != tag {
        return None;
    }
    let (length, rest) = match head[1] {
        short @ 0..=0x7f => (usize::from(short), rest),
        0x81 => {
            let (n, rest) = rest.split_first()?;
            (usize::from(*n).checked_sub(0x80)? + 0x80, rest)
        }
        0x82 => {
            let (n, rest) = rest.split_first_chunk::<2>()?;
            let n = usize::from(u16::from_be_bytes(*n));
            (n.checked_sub(0x100)? + 0x100, rest)
        }
        0x83 => {
            let (n, rest) = rest.split_first_chunk::<3>()?;
            let n = usize::from(n[0]) << 16 | usize::from(n[1]) << 8 | usize::from(n[2]);
            (n.checked_sub(0x1_0000)? + 0x1_0000, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// The magnitude of a non-negative, minimally encoded INTEGER, without its sign byte.
pub(crate) fn read_unsigned(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (content, rest) = read(input, INTEGER)?;
    match content {
        [] => None,
        [0] => Some((&[], rest)),
        [0, next, ..] if next & 0x80 == 0 => None,
        [0, magnitude @ ..] => Some((magnitude, rest)),
        [first, ..] if first & 0x80 != 0 => None,
        magnitude => Some((magnitude, rest)),
    }
}

pub(crate) fn trim_zeros(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().position(|b| *b != 0).unwrap_or(bytes.len())..]
}

pub(crate) const INTEGER: u8 = 0x02;
pub(crate) const BIT_STRING: u8 = 0x03;
pub(crate) const OCTET_STRING: u8 = 0x04;
pub(crate) const SEQUENCE: u8 = 0x30;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(content in proptest::collection::vec(any::<u8>(), 0..70_000), tail in proptest::collection::vec(any::<u8>(), 0..5)) {
            let mut bytes = element(SEQUENCE, &content);
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(read(&bytes, SEQUENCE), Some((&content[..], &tail[..])));
            prop_assert_eq!(read(&bytes, INTEGER), None);
        }

        #[test]
        fn integers_keep_their_magnitude(magnitude in proptest::collection::vec(any::<u8>(), 0..40)) {
            let bytes = unsigned_integer(&magnitude);
            prop_assert_eq!(read_unsigned(&bytes), Some((trim_zeros(&magnitude), &[][..])));
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _result = read_unsigned(&bytes);
            let _result = read(&bytes, SEQUENCE);
        }
    }

    #[test]
    fn long_spellings_of_short_lengths_and_numbers_are_refused() {
        assert_eq!(read(&[0x30, 0x81, 0x01, 0], SEQUENCE), None);
        assert_eq!(read(&[0x30, 0x82, 0x00, 0x01, 0], SEQUENCE), None);
        assert_eq!(read(&[0x30, 0x80, 0, 0], SEQUENCE), None);
        assert_eq!(read_unsigned(&[2, 2, 0, 1]), None);
        assert_eq!(read_unsigned(&[2, 1, 0x80]), None);
        assert_eq!(read_unsigned(&[2, 0]), None);
    }
}

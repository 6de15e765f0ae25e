//! Just enough DER to take things apart and put them together, apart from the code under test.

/// One element with its head.
pub fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match length {
        0..=127 => out.push(length as u8),
        128..=255 => out.extend([0x81, length as u8]),
        _ => out.extend([0x82, (length >> 8) as u8, length as u8]),
    }
    out.extend_from_slice(content);
    out
}

/// The first element, head and all, and what follows it.
pub fn split(der: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, length) = head(der)?;
    der.split_at_checked(head + length)
}

/// What is inside of the first element.
pub fn inside(der: &[u8]) -> Option<&[u8]> {
    let (head, length) = head(der)?;
    der.get(head..head + length)
}

fn head(der: &[u8]) -> Option<(usize, usize)> {
    match *der.get(1)? {
        short @ 0..=127 => Some((2, short.into())),
        long @ 0x81..=0x83 => {
            let count = usize::from(long & 0x7f);
            let bytes = der.get(2..2 + count)?;
            let length = bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
            Some((2 + count, length))
        }
        _ => None,
    }
}

//! Decoding of HPACK's Huffman strings (RFC 7541 §5.2).
//!
//! Invariant: the code is canonical (codes of one length are consecutive, in order of symbol, shorter lengths first), so the
//! lengths of Appendix B alone define it; decoding is bounded by the caller's limit and never panics.

/// Decodes `input`; `None` for a code outside the table, for EOS inside the string, for padding that is not up to seven one
/// bits, or when more than `limit` bytes would come out.
pub(super) fn decode(input: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity((input.len() * 2).min(limit));
    let mut code: u32 = 0;
    let mut length: usize = 0;
    let mut all_ones = true;
    for bit in input
        .iter()
        .flat_map(|byte| (0..8).rev().map(move |shift| (byte >> shift) & 1))
    {
        code = (code << 1) | u32::from(bit);
        length += 1;
        all_ones &= bit == 1;
        if length > LONGEST {
            return None;
        }
        let row = &CODES.rows[length];
        if let Some(offset) = code.checked_sub(row.first).filter(|offset| *offset < row.count) {
            let symbol = CODES.symbols.get(row.start + offset as usize)?;
            if out.len() == limit {
                return None;
            }
            out.push(*symbol);
            (code, length, all_ones) = (0, 0, true);
        }
    }
    (length < 8 && all_ones).then_some(out)
}

#[derive(Clone, Copy)]
struct Row {
    /// The first code of this length.
    first: u32,
    /// How many codes have this length.
    count: u32,
    /// Where their symbols start in [`Codes::symbols`].
    start: usize,
}

struct Codes {
    rows: [Row; LONGEST + 1],
    symbols: [u8; 256],
}

const fn build() -> Codes {
    let mut codes = Codes {
        rows: [Row {
            first: 0,
            count: 0,
            start: 0,
        }; LONGEST + 1],
        symbols: [0; 256],
    };
    let mut next_code: u32 = 0;
    let mut filled = 0;
    let mut length = 1;
    while length <= LONGEST {
        next_code <<= 1;
        codes.rows[length].first = next_code;
        codes.rows[length].start = filled;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                codes.symbols[filled] = symbol as u8;
                filled += 1;
                next_code += 1;
                codes.rows[length].count += 1;
            }
            symbol += 1;
        }
        length += 1;
    }
    codes
}

static CODES: Codes = build();

/// The longest code, which EOS has too; EOS is not in the table, so it is refused.
const LONGEST: usize = 30;

/// Bits of each symbol's code, RFC 7541 Appendix B.
#[rustfmt::skip]
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, // 0x00
    28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, // 0x10
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, // 0x20
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, // 0x30
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, // 0x40
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, // 0x50
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, // 0x60
    6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, // 0x70
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, // 0x80
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, // 0x90
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, // 0xa0
    21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, // 0xb0
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, // 0xc0
    19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, // 0xd0
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, // 0xe0
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, // 0xf0
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_rfc_decode() {
        // RFC 7541 C.4.1 and C.6.1
        let www = [
            0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
        ];
        assert_eq!(decode(&www, 100).as_deref(), Some(&b"www.example.com"[..]));
        let date = [
            0xd0, 0x7a, 0xbe, 0x94, 0x10, 0x54, 0xd4, 0x44, 0xa8, 0x20, 0x05, 0x95, 0x04, 0x0b, 0x81, 0x66,
            0xe0, 0x82, 0xa6, 0x2d, 0x1b, 0xff,
        ];
        assert_eq!(
            decode(&date, 100).as_deref(),
            Some(&b"Mon, 21 Oct 2013 20:13:21 GMT"[..])
        );
    }

    #[test]
    fn the_code_is_complete_but_for_eos() {
        // Kraft's sum in units of 2^-30: a wrong length would break it.
        let sum: u64 = LENGTHS
            .iter()
            .map(|length| 1_u64 << (LONGEST - *length as usize))
            .sum();
        assert_eq!(sum + 1, 1 << LONGEST);
    }

    #[test]
    fn wrong_padding_eos_and_too_much_are_refused() {
        assert_eq!(decode(&[0b0001_1000], 10), None, "padding of zeros after 'a'");
        assert_eq!(decode(&[0b0001_1111], 10).as_deref(), Some(&b"a"[..]));
        assert_eq!(
            decode(&[0b0001_1111, 0xff], 10),
            None,
            "more than seven bits of padding"
        );
        assert_eq!(decode(&[0xff; 4], 10), None, "EOS");
        assert_eq!(decode(&[0; 5], 7), None, "eight zeros into seven bytes");
    }
}

//! Bech32 (BIP 173), lower case, without its bound on the length. Invariant: what is decoded is encoded to the same text again.

/// `hrp1…`
pub(super) fn encode(hrp: &str, bytes: &[u8]) -> String {
    let mut digits = regroup(bytes, 8, 5, true).expect("filled up with zeros it fits");
    let mut checked = expand(hrp);
    checked.extend_from_slice(&digits);
    checked.extend_from_slice(&[0; CHECK]);
    let sum = polymod(&checked) ^ 1;
    digits.extend((0..CHECK).map(|i| u8::try_from(sum >> (5 * (CHECK - 1 - i)) & 31).expect("five bits")));
    let digits = digits.iter().map(|digit| char::from(DIGITS[usize::from(*digit)]));
    format!("{hrp}1{}", digits.collect::<String>())
}

/// `None` for another `hrp`, a wrong checksum, or anything that [`encode`] does not write.
pub(super) fn decode(hrp: &str, text: &str) -> Option<Vec<u8>> {
    let digits = text.strip_prefix(hrp)?.strip_prefix('1')?;
    let digit = |b: u8| {
        DIGITS
            .iter()
            .position(|d| *d == b)
            .and_then(|i| u8::try_from(i).ok())
    };
    let digits: Vec<u8> = digits.bytes().map(digit).collect::<Option<_>>()?;
    let mut checked = expand(hrp);
    checked.extend_from_slice(&digits);
    if polymod(&checked) != 1 {
        return None;
    }
    regroup(&digits[..digits.len().checked_sub(CHECK)?], 5, 8, false)
}

/// Bits in groups of `from` into groups of `to`. What is left is filled up, or must be nothing.
fn regroup(groups: &[u8], from: u32, to: u32, fill: bool) -> Option<Vec<u8>> {
    let (mut bits, mut held, mut out) = (0_u32, 0_u32, Vec::new());
    let mask = (1 << to) - 1;
    for group in groups {
        bits = (bits << from | u32::from(*group)) & 0xfff;
        held += from;
        while held >= to {
            held -= to;
            out.push(u8::try_from(bits >> held & mask).ok()?);
        }
    }
    let left = bits << (to - held) & mask;
    match fill {
        true if held > 0 => out.push(u8::try_from(left).ok()?),
        false if held >= from || left != 0 => return None,
        _ => {}
    }
    Some(out)
}

fn expand(hrp: &str) -> Vec<u8> {
    let high = hrp.bytes().map(|b| b >> 5);
    let low = hrp.bytes().map(|b| b & 31);
    high.chain([0]).chain(low).collect()
}

fn polymod(values: &[u8]) -> u32 {
    values.iter().fold(1_u32, |sum, value| {
        let top = sum >> 25;
        let sum = (sum & 0x1ff_ffff) << 5 ^ u32::from(*value);
        let taps = GENERATOR.iter().enumerate();
        taps.filter(|(i, _)| top >> i & 1 == 1)
            .fold(sum, |sum, (_, tap)| sum ^ tap)
    })
}

const DIGITS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
const GENERATOR: [u32; 5] = [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
const CHECK: usize = 6;

//! scrypt (RFC 7914) with r = 8 and p = 1, as age uses it, over ring's PBKDF2: a passphrase that is guessed costs its memory each time.

use std::num::NonZeroU32;

use ring::pbkdf2::{PBKDF2_HMAC_SHA256, derive as pbkdf2};
use zeroize::Zeroizing;

use super::AgeError;

/// The key that wraps the file key.
pub(super) fn key(passphrase: &[u8], salt: &[u8], log_n: u8) -> Result<Zeroizing<[u8; 32]>, AgeError> {
    derive(passphrase, &[LABEL.as_bytes(), salt].concat(), log_n)
}

fn derive<const LENGTH: usize>(
    passphrase: &[u8],
    salt: &[u8],
    log_n: u8,
) -> Result<Zeroizing<[u8; LENGTH]>, AgeError> {
    let once = NonZeroU32::MIN;
    let mut bytes = Zeroizing::new([0; 4 * WORDS]);
    pbkdf2(PBKDF2_HMAC_SHA256, once, salt, passphrase, &mut bytes[..]);
    let mut block = Zeroizing::new([0; WORDS]);
    for (word, four) in block.iter_mut().zip(bytes.chunks_exact(4)) {
        *word = u32::from_le_bytes([four[0], four[1], four[2], four[3]]);
    }
    ro_mix(&mut block, log_n)?;
    for (word, four) in block.iter().zip(bytes.chunks_exact_mut(4)) {
        four.copy_from_slice(&word.to_le_bytes());
    }
    let mut out = Zeroizing::new([0; LENGTH]);
    pbkdf2(PBKDF2_HMAC_SHA256, once, &bytes[..], passphrase, &mut out[..]);
    Ok(out)
}

/// RFC 7914 §5.
fn ro_mix(block: &mut [u32; WORDS], log_n: u8) -> Result<(), AgeError> {
    let n = 1_usize << log_n;
    let mut table = Zeroizing::new(Vec::new());
    let words = n * WORDS;
    table
        .try_reserve_exact(words)
        .map_err(|_too_much| AgeError::Memory { bytes: words * 4 })?;
    for _ in 0..n {
        table.extend_from_slice(&block[..]);
        block_mix(block);
    }
    let last = WORDS - 16;
    for _ in 0..n {
        let j = usize::try_from(block[last]).unwrap_or(0) & (n - 1);
        for (word, with) in block.iter_mut().zip(&table[j * WORDS..]) {
            *word ^= with;
        }
        block_mix(block);
    }
    Ok(())
}

/// RFC 7914 §4.
fn block_mix(block: &mut [u32; WORDS]) {
    let mut x = [0; 16];
    x.copy_from_slice(&block[WORDS - 16..]);
    let mut out = [0; WORDS];
    for (i, part) in block.chunks_exact(16).enumerate() {
        for (word, with) in x.iter_mut().zip(part) {
            *word ^= with;
        }
        salsa20_8(&mut x);
        // The even ones first, then the odd ones.
        let place = (i / 2 + (i % 2) * R) * 16;
        out[place..place + 16].copy_from_slice(&x);
    }
    *block = out;
}

/// RFC 7914 §3.
fn salsa20_8(block: &mut [u32; 16]) {
    let mut x = *block;
    for _ in 0..4 {
        for [a, b, c, d] in QUARTERS {
            x[b] ^= x[a].wrapping_add(x[d]).rotate_left(7);
            x[c] ^= x[b].wrapping_add(x[a]).rotate_left(9);
            x[d] ^= x[c].wrapping_add(x[b]).rotate_left(13);
            x[a] ^= x[d].wrapping_add(x[c]).rotate_left(18);
        }
    }
    for (word, with) in block.iter_mut().zip(x) {
        *word = word.wrapping_add(with);
    }
}

/// Columns, then rows.
const QUARTERS: [[usize; 4]; 8] = [
    [0, 4, 8, 12],
    [5, 9, 13, 1],
    [10, 14, 2, 6],
    [15, 3, 7, 11],
    [0, 1, 2, 3],
    [5, 6, 7, 4],
    [10, 11, 8, 9],
    [15, 12, 13, 14],
];
const R: usize = 8;
/// 128 · r bytes.
const WORDS: usize = 32 * R;
const LABEL: &str = "age-encryption.org/v1/scrypt";

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7914 §12, the vector with r = 8 and p = 1.
    #[test]
    fn it_is_the_scrypt_of_the_rfc() {
        let key = derive::<64>(b"pleaseletmein", b"SodiumChloride", 14).unwrap();
        let hex = "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887";
        // The RFC prints that one of N = 16384, r = 8, p = 1.
        assert_eq!(crate::random::hex(&key[..]), hex);
    }

    /// RFC 7914 §8.
    #[test]
    fn its_core_is_the_one_of_the_rfc() {
        let word = |hex: &str| u32::from_str_radix(hex, 16).unwrap().swap_bytes();
        let words = |text: &str| -> Vec<u32> { text.split_whitespace().map(word).collect() };
        let input = words(
            "7e879a21 4f3ec986 7ca940e6 41718f26 baee555b 8c61c1b5 0df84611 6dcd3b1d ee24f319 df9b3d85 14121e4b 5ac5aa32 76021d29 09c74829 edebc68d b8b8c25e",
        );
        let output = words(
            "a41f859c 6608cc99 3b81cacb 020cef05 044b2181 a2fd337d fd7b1c63 96682f29 b4393168 e3c9e6bc fe6bc5b7 a06d96ba e424cc10 2c91745c 24ad673d c7618f81",
        );
        let mut block: [u32; 16] = input.try_into().unwrap();
        salsa20_8(&mut block);
        assert_eq!(block.to_vec(), output);
    }
}

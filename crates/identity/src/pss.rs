//! RSA-PSS with a salt of any length, to verify only (RFC 8017 §8.1.2, §9.1.2; SHA-256, MGF1 with SHA-256).
//!
//! ring wants a salt as long as the hash; the signers of SPIRE's x509pop use the longest that fits. Invariant: works on public
//! values only, so nothing here needs to be constant in time, and its cost is bounded by the sizes `PublicKey` admits.

use num_bigint::BigUint;
use ring::digest;

use crate::public_key::PublicKey;

/// Whether `signature` over `message` verifies with an RSA key.
pub(crate) fn verify_sha256(key: &PublicKey, message: &[u8], signature: &[u8]) -> bool {
    let Some((n, e)) = key.rsa_components() else {
        return false;
    };
    let (n, exponent) = (BigUint::from_bytes_be(n), BigUint::from_bytes_be(e));
    let modulus_bits = n.bits();
    let Ok(length) = usize::try_from(modulus_bits.div_ceil(8)) else {
        return false;
    };
    if exponent.bits() > MAX_EXPONENT_BITS || !exponent.bit(0) || signature.len() != length {
        return false;
    }
    let s = BigUint::from_bytes_be(signature);
    if s >= n {
        return false;
    }
    let encoded_bits = modulus_bits - 1;
    let Ok(encoded_length) = usize::try_from(encoded_bits.div_ceil(8)) else {
        return false;
    };
    let m = s.modpow(&exponent, &n).to_bytes_be();
    let Some(padding) = encoded_length.checked_sub(m.len()) else {
        return false;
    };
    let mut encoded = vec![0; padding];
    encoded.extend(m);
    // `encoded_length * 8 - encoded_bits` is below 8.
    let spare = u32::try_from(encoded_length as u64 * 8 - encoded_bits).unwrap_or(0);
    emsa_pss_verify(&encoded, spare, digest::digest(&digest::SHA256, message).as_ref())
}

/// RFC 8017 §9.1.2 steps 3 to 14, the salt's length taken from the encoding.
fn emsa_pss_verify(encoded: &[u8], spare_bits: u32, hash: &[u8]) -> bool {
    let Some((&0xbc, body)) = encoded.split_last() else {
        return false;
    };
    let Some(db_length) = body.len().checked_sub(hash.len()) else {
        return false;
    };
    let (masked, h) = body.split_at(db_length);
    let keep = 0xffu8 >> spare_bits;
    if masked.first().is_none_or(|first| first & !keep != 0) {
        return false;
    }
    let mut db: Vec<u8> = masked
        .iter()
        .zip(mgf1(h, db_length))
        .map(|(a, b)| a ^ b)
        .collect();
    if let Some(first) = db.first_mut() {
        *first &= keep;
    }
    let Some(one) = db.iter().position(|byte| *byte != 0) else {
        return false;
    };
    if db[one] != 1 {
        return false;
    }
    let salt = &db[one + 1..];
    let mut again = digest::Context::new(&digest::SHA256);
    again.update(&[0; 8]);
    again.update(hash);
    again.update(salt);
    again.finish().as_ref() == h
}

/// RFC 8017 §B.2.1.
fn mgf1(seed: &[u8], length: usize) -> Vec<u8> {
    let mut mask = Vec::with_capacity(length + digest::SHA256_OUTPUT_LEN);
    for counter in 0u32.. {
        if mask.len() >= length {
            break;
        }
        let mut block = digest::Context::new(&digest::SHA256);
        block.update(seed);
        block.update(&counter.to_be_bytes());
        mask.extend_from_slice(block.finish().as_ref());
    }
    mask.truncate(length);
    mask
}

/// As ring has it: an exponent beyond this is only good for burning time.
const MAX_EXPONENT_BITS: u64 = 33;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DeviceKey, SignatureScheme, verify_signature};

    /// RSA-2048, SHA-256, salt of 222 bytes (the longest), 32 and 0, made with OpenSSL.
    fn key() -> PublicKey {
        PublicKey::from_spki_der(include_bytes!("pss/key.spki.der")).unwrap()
    }
    const MESSAGE: &[u8] = b"challenge and response";
    const LONGEST: &[u8] = include_bytes!("pss/longest.sig");
    const HASH_LONG: &[u8] = include_bytes!("pss/hash-long.sig");
    const NONE: &[u8] = include_bytes!("pss/none.sig");
    const ODD: &[u8] = include_bytes!("pss/odd-modulus.sig");

    #[test]
    fn every_salt_length_verifies() {
        for signature in [LONGEST, HASH_LONG, NONE] {
            verify_signature(&key(), SignatureScheme::RsaPssSha256, MESSAGE, signature).unwrap();
        }
    }

    #[test]
    fn a_modulus_of_an_odd_number_of_bits_verifies() {
        let odd = PublicKey::from_spki_der(include_bytes!("pss/odd-modulus.spki.der")).unwrap();
        assert!(verify_sha256(&odd, MESSAGE, ODD));
        assert!(!verify_sha256(&odd, b"another message", ODD));
    }

    #[test]
    fn every_flipped_bit_of_signature_or_message_is_refused() {
        for at in 0..LONGEST.len() {
            let mut bad = LONGEST.to_vec();
            bad[at] ^= 1 << (at % 8);
            assert!(!verify_sha256(&key(), MESSAGE, &bad), "byte {at}");
        }
        assert!(!verify_sha256(&key(), b"challenge and responsf", LONGEST));
    }

    #[test]
    fn other_lengths_and_other_paddings_are_refused() {
        assert!(!verify_sha256(&key(), MESSAGE, &LONGEST[1..]));
        assert!(!verify_sha256(&key(), MESSAGE, &[&[0], LONGEST].concat()));
        assert!(!verify_sha256(&key(), MESSAGE, &[0xff; 256]));
        assert!(!verify_sha256(&key(), MESSAGE, &[0; 256]));
        assert!(!verify_sha256(&key(), MESSAGE, include_bytes!("pss/pkcs1.sig")));
    }

    #[test]
    fn ring_signs_what_we_verify() {
        let pem = include_str!("pss/key.pem");
        let device = DeviceKey::from_pem(pem).unwrap();
        let signature = device.sign(MESSAGE).unwrap();
        assert!(verify_sha256(&key(), MESSAGE, &signature));
    }

    #[test]
    fn the_encoding_is_read_strictly() {
        let hash = digest::digest(&digest::SHA256, MESSAGE);
        assert!(!emsa_pss_verify(&[], 1, hash.as_ref()));
        assert!(!emsa_pss_verify(&[0xbc], 1, hash.as_ref()));
        assert!(!emsa_pss_verify(&[0; 40], 1, hash.as_ref()));
        let mut zeros = vec![0; 256];
        zeros[255] = 0xbc;
        assert!(!emsa_pss_verify(&zeros, 1, hash.as_ref()));
    }
}

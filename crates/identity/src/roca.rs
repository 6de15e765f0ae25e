//! RSA keys that can be factored because of how a chip found their primes (ROCA, CVE-2017-15361). TPMs and smart cards in
//! plants still hold such keys. Invariant: reads the public modulus only; a sound key passes but for a chance below 2⁻¹⁰⁰.

/// Whether a modulus of 1984 bits or more has the form that the faulty library gave it: a power of 65537 modulo each of the
/// first 126 primes.
pub(crate) fn is_guessable(modulus: &[u8]) -> bool {
    let is_prime = |n: &u32| (2..*n).take_while(|d| d * d <= *n).all(|d| !n.is_multiple_of(d));
    (3..=LAST_PRIME)
        .filter(is_prime)
        .all(|prime| is_power(residue(modulus, prime), prime))
}

fn residue(modulus: &[u8], prime: u32) -> u32 {
    modulus
        .iter()
        .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

fn is_power(residue: u32, prime: u32) -> bool {
    let mut power = 1;
    loop {
        if power == residue {
            return true;
        }
        power = power * (GENERATOR % prime) % prime;
        if power == 1 {
            return false;
        }
    }
}

const GENERATOR: u32 = 65_537;
/// The 126th prime; keys of 1984 bits and more were made with at least so many.
const LAST_PRIME: u32 = 701;

#[cfg(test)]
mod tests {
    use num_bigint::BigUint;

    use super::*;

    /// A modulus of the faulty form, of two primes that nobody needs to know.
    fn guessable(bits: u64) -> BigUint {
        let is_prime = |n: &u32| (2..*n).all(|d| !n.is_multiple_of(d));
        let product: BigUint = (2..=LAST_PRIME).filter(is_prime).map(BigUint::from).product();
        let power = BigUint::from(GENERATOR).modpow(&BigUint::from(123_456_789_u32), &product);
        ((BigUint::from(1_u8) << (bits - 1)) / &product + 1_u8) * product + power
    }

    #[test]
    fn moduli_of_the_faulty_form_are_found_at_any_length() {
        for bits in [2048, 3072, 4096] {
            let n = guessable(bits);
            assert_eq!(n.bits(), bits);
            assert!(is_guessable(&n.to_bytes_be()));
        }
    }

    #[test]
    fn its_neighbours_and_sound_keys_are_not() {
        for step in [2_u8, 4, 6, 100] {
            assert!(!is_guessable(&(guessable(2048) + step).to_bytes_be()));
        }
        let sound =
            crate::DeviceKey::from_pem(include_str!("../../../tests/vectors/keys/rsa-2048.pem")).unwrap();
        let key = sound.public_key();
        assert!(!is_guessable(key.rsa_components().unwrap().0));
    }
}

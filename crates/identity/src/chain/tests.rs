use proptest::prelude::*;

use super::*;
use crate::bundle::{JwtAuthority, X509Authority};
use crate::issue::{AuthorityParams, self_signed_authority};
use crate::key::PrivateKey;

mod walking;

fn td() -> TrustDomain {
    TrustDomain::parse("plant.test").unwrap()
}

fn root() -> RootPrivateKey {
    RootPrivateKey::generate().unwrap()
}

fn bundle_of(trust_domain: TrustDomain, sequence: u64) -> Bundle {
    let key = PrivateKey::generate().unwrap();
    let params = AuthorityParams {
        trust_domain: &trust_domain,
        authority_id: "1",
        not_before: UnixTime::from_secs(0),
        not_after: UnixTime::from_secs(86_400),
    };
    let certificate = self_signed_authority(&params, &key).unwrap();
    Bundle::new(trust_domain)
        .with_x509_authorities(vec![X509Authority {
            certificate,
            tainted: sequence.is_multiple_of(2),
        }])
        .unwrap()
        .with_jwt_authorities(vec![JwtAuthority {
            key_id: format!("jwt-{sequence}"),
            public_key: key.public_key(),
            expires_at: Some(UnixTime::from_secs(7)),
            tainted: false,
        }])
        .unwrap()
        .with_sequence(sequence)
}

/// A step with the authorities of this bundle, signed by all of these.
fn step(
    bundle: &Bundle,
    at: (u64, u64),
    previous: Option<StepDigest>,
    keys: &[&RootPrivateKey],
) -> SignedStep {
    let named: Vec<_> = keys.iter().map(|key| key.public_key()).collect();
    signed(&unsigned(bundle, at, previous, named), keys)
}

fn unsigned(bundle: &Bundle, at: (u64, u64), previous: Option<StepDigest>, root_keys: Vec<RootKey>) -> Step {
    Step {
        epoch: at.0,
        sequence: at.1,
        previous,
        bundle: bundle.clone().with_sequence(at.1),
        root_keys,
        time: UnixTime::from_secs(1000),
    }
}

fn signed(step: &Step, keys: &[&RootPrivateKey]) -> SignedStep {
    let mut signed = SignedStep::unsigned(step).unwrap();
    keys.iter().for_each(|key| signed.sign(key).unwrap());
    signed
}

#[test]
fn what_is_written_is_read_back_and_is_signed_still() {
    let (a, b) = (root(), root());
    let made = step(&bundle_of(td(), 4), (3, 4), Some([7; 32]), &[&a, &b]);
    for read in [
        SignedStep::from_bytes(&made.to_bytes()).unwrap(),
        SignedStep::from_pem(&format!("by hand\n{}", made.to_pem())).unwrap(),
    ] {
        assert_eq!(read, made);
        assert_eq!(read.digest(), made.digest());
        assert!(read.is_signed_by(a.public_key()) && read.is_signed_by(b.public_key()));
        assert!(!read.is_signed_by(root().public_key()));
    }
}

#[test]
fn a_key_is_written_and_read_back_also_as_openssl_writes_it() {
    let key = root();
    let back = RootPrivateKey::from_pem(&key.to_pem()).unwrap();
    assert_eq!(back.public_key(), key.public_key());
    assert_eq!(
        key.public_key().to_string().parse::<RootKey>(),
        Ok(key.public_key())
    );
    // RFC 8410 §10.3: version 1, without the public half.
    let openssl = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n\
        -----END PRIVATE KEY-----\n";
    let public = "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1";
    assert_eq!(
        RootPrivateKey::from_pem(openssl)
            .unwrap()
            .public_key()
            .to_string(),
        public
    );
    for bad in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        &PrivateKey::generate().unwrap().to_pem(),
    ] {
        assert!(RootPrivateKey::from_pem(bad).is_err());
    }
    for bad in [
        "",
        "19",
        &public[1..],
        &format!("{}+1", &public[2..]),
        &"é".repeat(32),
    ] {
        assert!(bad.parse::<RootKey>().is_err(), "{bad}");
    }
}

#[test]
fn signing_twice_is_signing_once_and_there_are_eight_at_most() {
    let key = root();
    let mut signed = step(&bundle_of(td(), 1), (1, 1), None, &[&key]);
    signed.sign(&key).unwrap();
    assert_eq!(signed.signers().count(), 1);
    for _ in 0..7 {
        signed.sign(&root()).unwrap();
    }
    assert!(matches!(signed.sign(&root()), Err(ChainError::TooManySignatures)));
}

#[test]
fn a_step_has_one_to_four_root_keys_each_once_and_an_authority() {
    let (key, bundle) = (root().public_key(), bundle_of(td(), 1));
    let with = |keys| SignedStep::unsigned(&unsigned(&bundle, (1, 1), None, keys));
    let five = (0..5).map(|_| root().public_key()).collect();
    for bad in [vec![], vec![key, key], five] {
        assert!(matches!(with(bad), Err(ChainError::RootKeys { .. })));
    }
    let none = unsigned(&Bundle::new(td()), (1, 1), None, vec![key]);
    assert!(matches!(
        SignedStep::unsigned(&none),
        Err(ChainError::Part { .. })
    ));
}

#[test]
fn what_is_too_large_is_not_decoded() {
    let large = vec![0; MAX_STEP + 4096];
    assert!(matches!(
        SignedStep::from_bytes(&large),
        Err(ChainError::TooLarge { .. })
    ));
    assert!(matches!(wire::step_in(&large), Err(ChainError::TooLarge { .. })));
}

#[test]
fn a_field_of_later_is_signed_and_passed_over() {
    let key = root();
    let mut made = step(&bundle_of(td(), 1), (1, 1), None, &[&key]);
    // Field 100, varint 1.
    made.bytes.extend([0xa0, 0x06, 0x01]);
    let mut later = SignedStep::read(made.bytes, Vec::new()).unwrap();
    later.sign(&key).unwrap();
    let read = SignedStep::from_bytes(&later.to_bytes()).unwrap();
    assert!(read.is_signed_by(key.public_key()));
    let known = SignedStep::unsigned(read.step()).unwrap();
    assert_ne!(
        known.digest(),
        read.digest(),
        "it would not be the bytes that were signed"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_bit_that_is_another_is_not_signed(flip in any::<prop::sample::Index>(), bit in 0u32..8) {
        let key = root();
        let made = step(&bundle_of(td(), 1), (1, 2), Some([1; 32]), &[&key]);
        let mut bytes = made.to_bytes();
        let at = flip.index(bytes.len());
        bytes[at] ^= 1u8 << bit;
        if let Ok(read) = SignedStep::from_bytes(&bytes) {
            // What is outside of the step: a field of later beside the signatures.
            prop_assert!(!read.is_signed_by(key.public_key()) || read.step() == made.step());
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(read) = SignedStep::from_bytes(&bytes) {
            prop_assert!(read.signers().count() <= MAX_SIGNATURES);
        }
        let _refused_or_read = wire::step_in(&bytes);
    }
}

//! Keys: what is kept secret, what is refused.

use super::*;
use crate::public_key::{KeyAlgorithm, SignatureScheme, verify_signature};

#[test]
fn a_key_survives_its_encodings_and_signs() {
    for (key_type, algorithm, scheme) in [
        (
            KeyType::EcP256,
            KeyAlgorithm::EcP256,
            SignatureScheme::EcdsaP256Sha256Asn1,
        ),
        (
            KeyType::EcP384,
            KeyAlgorithm::EcP384,
            SignatureScheme::EcdsaP384Sha384Asn1,
        ),
    ] {
        let key = PrivateKey::generate_as(key_type).unwrap();
        let again = PrivateKey::from_pem(&key.to_pem()).unwrap();
        assert_eq!(again.as_pkcs8_der(), key.as_pkcs8_der());
        assert_eq!(again.public_key(), key.public_key());
        assert_eq!(
            (again.key_type(), key.public_key().algorithm()),
            (key_type, algorithm)
        );
        let signature = again.sign(b"m").unwrap();
        let check = |scheme, m: &[u8]| verify_signature(&key.public_key(), scheme, m, &signature);
        assert_eq!(check(scheme, b"m"), Ok(()));
        assert_eq!(check(scheme, b"n"), Err(KeyError::BadSignature));
        assert_eq!(
            check(SignatureScheme::RsaPkcs1Sha256, b"m"),
            Err(KeyError::WrongScheme)
        );
    }
}

#[test]
fn a_kind_of_key_is_named_as_spire_names_it() {
    assert_eq!("ec-p256".parse(), Ok(KeyType::EcP256));
    assert_eq!("ec-p384".parse(), Ok(KeyType::EcP384));
    for unknown in ["", "EC-P384", "rsa-2048", "ec-p521"] {
        assert_eq!(unknown.parse::<KeyType>(), Err("ec-p256 or ec-p384"), "{unknown}");
    }
    assert_eq!(KeyType::EcP384.to_string(), "ec-p384");
    assert_eq!(PrivateKey::generate().unwrap().key_type(), KeyType::default());
}

#[test]
fn a_key_is_never_printed() {
    assert_eq!(format!("{:?}", PrivateKey::generate().unwrap()), "PrivateKey(..)");
}

#[test]
fn a_broken_or_foreign_private_key_is_refused() {
    let rsa = include_str!("../../../../tests/vectors/keys/rsa-2048.pem");
    assert!(matches!(
        PrivateKey::from_pem(rsa),
        Err(KeyError::Rejected { .. })
    ));
    assert!(matches!(PrivateKey::from_pem("nothing"), Err(KeyError::NoPem)));
    let mut der = PrivateKey::generate().unwrap().as_pkcs8_der().to_vec();
    der.pop();
    assert!(matches!(
        PrivateKey::from_pkcs8_der(der),
        Err(KeyError::Rejected { .. })
    ));
}

#[test]
fn a_device_key_signs_as_its_scheme_says() {
    let rsa = include_str!("../../../../tests/vectors/keys/rsa-2048.pem");
    for pem in [rsa, PrivateKey::generate().unwrap().to_pem().as_str()] {
        let key = crate::DeviceKey::from_pem(pem).unwrap();
        let signature = key.sign(b"nonces").unwrap();
        assert_eq!(
            verify_signature(&key.public_key(), key.scheme(), b"nonces", &signature),
            Ok(())
        );
        assert!(verify_signature(&key.public_key(), key.scheme(), b"other", &signature).is_err());
        assert_eq!(format!("{key:?}"), "DeviceKey(..)");
    }
}

#[test]
fn public_keys_have_one_spelling() {
    let key = PrivateKey::generate().unwrap().public_key();
    let spki = key.spki_der().to_vec();
    assert_eq!(PublicKey::from_spki_der(&spki).unwrap(), key);
    assert_eq!(
        PublicKey::from_spki_der(&[&spki[..], &[0]].concat()),
        Err(KeyError::Malformed)
    );
    assert_eq!(PublicKey::from_spki_der(&spki[..90]), Err(KeyError::Malformed));
    assert!(PublicKey::from_spki_der(&[]).is_err());
    let rsa = |bits: usize| {
        let mut n = vec![0xff; bits.div_ceil(8)];
        n[0] >>= (8 - bits % 8) % 8;
        PublicKey::from_rsa_components(&n, &[1, 0, 1])
    };
    assert_eq!(rsa(2048).unwrap().bits(), 2048);
    assert_eq!(rsa(8192).unwrap().bits(), 8192);
    assert_eq!(rsa(2047), Err(KeyError::RsaSize { bits: 2047 }));
    assert_eq!(rsa(8193), Err(KeyError::RsaSize { bits: 8193 }));
}

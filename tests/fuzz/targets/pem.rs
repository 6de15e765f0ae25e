//! PEM texts: certificates, and private keys of ours and of devices.
#![no_main]

use landfast_fuzz::fixed::domain;
use landfast_identity::{Bundle, Certificate, DeviceKey, PrivateKey, chain_to_pem, parse_chain_pem};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(chain) = parse_chain_pem(text) {
        assert!(!chain.is_empty());
        assert_eq!(parse_chain_pem(&chain_to_pem(&chain)).ok().as_ref(), Some(&chain));
        if let Ok(bundle) = Bundle::from_pem(domain("td.test"), text) {
            let ders = bundle
                .x509_authorities()
                .iter()
                .map(|one| one.certificate.as_der());
            assert!(ders.eq(chain.iter().map(Certificate::as_der)));
        }
    }
    if let Ok(key) = PrivateKey::from_pem(text) {
        let again = PrivateKey::from_pem(&key.to_pem()).expect("our own words");
        assert_eq!(again.as_pkcs8_der(), key.as_pkcs8_der());
        assert!(DeviceKey::from_pem(text).is_ok_and(|device| device.public_key() == key.public_key()));
    }
    drop(DeviceKey::from_pem(text));
});

//! Bundle documents (JWKS): what is read is written and read again as the same, and half a bundle is never one.
#![no_main]

use landfast_fuzz::fixed::domain;
use landfast_identity::Bundle;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|document: &[u8]| {
    let Ok(bundle) = Bundle::from_jwks(domain("td.test"), document) else {
        return;
    };
    assert!(document.len() <= 1024 * 1024);
    assert!(bundle.x509_authorities().len() + bundle.jwt_authorities().len() <= 256);
    let again = Bundle::from_jwks(domain("td.test"), bundle.to_jwks().as_bytes());
    assert_eq!(again.ok().as_ref(), Some(&bundle));
    every_key_has_its_use(&bundle, document);
    jwt_profile_shows_jwt_keys_alone(&bundle);
    if !bundle.x509_authorities().is_empty() {
        let der = Bundle::from_der_concat(domain("td.test"), &bundle.x509_der_concat());
        assert_eq!(
            der.ok().as_ref().map(Bundle::x509_authorities),
            Some(bundle.x509_authorities())
        );
        let pem = Bundle::from_pem(domain("td.test"), &bundle.to_pem());
        assert_eq!(
            pem.ok().as_ref().map(Bundle::x509_authorities),
            Some(bundle.x509_authorities())
        );
    }
});

/// SPIFFE Bundle §4.2.2: a key is used for what it says, and nothing else. Counted in the document as serde_json reads it.
fn every_key_has_its_use(bundle: &Bundle, document: &[u8]) {
    let read: Value = serde_json::from_slice(document).expect("accepted, but no JSON");
    let keys = read["keys"].as_array().expect("accepted, but no list of keys");
    let of = |kind: &str| keys.iter().filter(|key| key["use"] == kind).count();
    assert!(bundle.x509_authorities().len() <= of("x509-svid"));
    assert!(bundle.jwt_authorities().len() <= of("jwt-svid"));
    for authority in bundle.jwt_authorities() {
        let named = |key: &&Value| key["use"] == "jwt-svid" && key["kid"] == authority.key_id.as_str();
        assert!(keys.iter().any(|key| named(&key)));
        assert_eq!(bundle.jwt_authority(&authority.key_id), Some(authority));
    }
    assert_eq!(
        bundle.sequence(),
        read.get("spiffe_sequence").and_then(Value::as_u64).unwrap_or(0)
    );
}

/// Workload API §6.2.2.
fn jwt_profile_shows_jwt_keys_alone(bundle: &Bundle) {
    let shown = Bundle::from_jwks(domain("td.test"), bundle.jwt_jwks().as_bytes()).expect("our own words");
    assert_eq!(shown.jwt_authorities(), bundle.jwt_authorities());
    assert!(shown.x509_authorities().is_empty());
}

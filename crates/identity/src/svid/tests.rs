//! Chain and key belong together.

use std::time::Duration;

use super::*;
use crate::issue::{self, AuthorityParams, LeafParams};
use crate::trust_domain::TrustDomain;

#[test]
fn a_svid_takes_only_a_leaf_with_its_own_key() {
    let now = UnixTime::from_secs(1_800_000_000);
    let end = now.saturating_add(Duration::from_secs(3600));
    let td = TrustDomain::parse("td.test").unwrap();
    let ca_key = PrivateKey::generate().unwrap();
    let ca = issue::self_signed_authority(
        &AuthorityParams {
            trust_domain: &td,
            authority_id: "a",
            not_before: now,
            not_after: end,
        },
        &ca_key,
    )
    .unwrap();
    let key = PrivateKey::generate().unwrap();
    let id = SpiffeId::parse("spiffe://td.test/w").unwrap();
    let public_key = key.public_key();
    let p = LeafParams {
        id: &id,
        public_key: &public_key,
        dns_names: &[],
        serial: [7; 16],
        not_before: now,
        not_after: end,
    };
    let leaf = issue::leaf(&p, &ca, &ca_key).unwrap();
    let other = PrivateKey::generate().unwrap();
    assert_eq!(
        X509Svid::new(vec![leaf.clone()], other).unwrap_err(),
        X509Error::KeyMismatch
    );
    assert_eq!(
        X509Svid::new(vec![ca.clone()], PrivateKey::generate().unwrap()).unwrap_err(),
        X509Error::NoPath
    );
    assert_eq!(
        X509Svid::new(vec![], PrivateKey::generate().unwrap()).unwrap_err(),
        X509Error::EmptyChain
    );
    let svid = X509Svid::new(vec![leaf.clone(), ca.clone()], key)
        .unwrap()
        .with_hint("internal");
    assert_eq!((svid.id(), svid.hint(), svid.not_after()), (&id, "internal", end));
    assert_eq!(svid.chain_der_concat(), [leaf.as_der(), ca.as_der()].concat());
    assert_eq!(
        crate::parse_chain_der(&svid.chain_der_concat()).unwrap(),
        svid.chain()
    );
    assert_eq!(
        crate::parse_chain_pem(&crate::chain_to_pem(svid.chain())).unwrap(),
        svid.chain()
    );
    assert!(!format!("{svid:?}").contains("BEGIN"));
}

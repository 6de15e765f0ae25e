//! Keys, certificates, names and the time of every run.

use landfast_identity::{
    Bundle, BundleSet, Certificate, DeviceKey, JwtAuthority, PrivateKey, TrustDomain, UnixTime,
};

/// The time of the vectors.
pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// The key that signs what a target makes; also the key of [`device`].
pub const KEY: &str = include_str!("../fixed/key.pem");

/// [`KEY`], to sign certificates and requests.
pub fn key() -> PrivateKey {
    PrivateKey::from_pem(KEY).expect("a key that we wrote")
}

/// [`KEY`], to sign tokens and challenges.
pub fn device_key() -> DeviceKey {
    DeviceKey::from_pem(KEY).expect("a key that we wrote")
}

/// The certificate of a device, and the root it comes from.
pub fn device() -> (Certificate, Certificate) {
    let one = |text| {
        landfast_identity::parse_chain_pem(text)
            .ok()
            .and_then(|chain| chain.into_iter().next())
            .expect("a certificate that we wrote")
    };
    (
        one(include_str!("../fixed/device.pem")),
        one(include_str!("../fixed/root.pem")),
    )
}

/// `td.test` with [`KEY`] as its JWT key `k`.
pub fn jwt_bundles() -> BundleSet {
    let key = JwtAuthority {
        key_id: "k".to_owned(),
        public_key: key().public_key(),
        expires_at: None,
        tainted: false,
    };
    let bundle = Bundle::new(domain("td.test")).with_jwt_authorities(vec![key]);
    BundleSet::from_iter([bundle.expect("one key")])
}

/// A trust domain whose name is known to be one.
pub fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).expect("a name that we wrote")
}

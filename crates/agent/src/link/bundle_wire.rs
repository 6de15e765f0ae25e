//! A bundle as the server sends it, made into ours.
//!
//! Invariant: a bundle that is not of the expected trust domain, or holds something that cannot be read, is refused whole; a key of the
//! incubating WIT profile costs itself alone.

use std::collections::BTreeMap;
use std::time::Duration;

use landfast_identity::{
    Bundle, Certificate, JwtAuthority, PublicKey, TrustDomain, UnixTime, WitAuthority, X509Authority,
};
use landfast_proto::spire::api::types;

pub(crate) fn parse(wire: &types::Bundle, expected: &TrustDomain) -> Result<Bundle, String> {
    let named = TrustDomain::parse(&wire.trust_domain)
        .map_err(|_cause| "the bundle names no trust domain".to_owned())?;
    if named != *expected {
        return Err(format!(
            "the bundle is of trust domain {named}, not of {expected}"
        ));
    }
    let x509 = wire.x509_authorities.iter().map(|authority| {
        let certificate = Certificate::from_der(&authority.asn1)
            .map_err(|_cause| "an X.509 authority cannot be read".to_owned())?;
        if !certificate.is_ca() {
            return Err("an X.509 authority is not a CA".to_owned());
        }
        Ok::<_, String>(X509Authority {
            certificate,
            tainted: authority.tainted,
        })
    });
    let jwt = wire.jwt_authorities.iter().map(|authority| {
        let public_key = PublicKey::from_spki_der(&authority.public_key)
            .map_err(|_cause| "a JWT authority cannot be read".to_owned())?;
        Ok::<_, String>(JwtAuthority {
            key_id: authority.key_id.clone(),
            public_key,
            expires_at: (authority.expires_at != 0).then(|| UnixTime::from_secs(authority.expires_at)),
            tainted: authority.tainted,
        })
    });
    let (x509, jwt) = (
        x509.collect::<Result<Vec<_>, _>>()?,
        jwt.collect::<Result<Vec<_>, _>>()?,
    );
    let wit = wit_authorities(wire, &jwt);
    let hint = u64::try_from(wire.refresh_hint)
        .ok()
        .filter(|secs| *secs > 0)
        .map(Duration::from_secs);
    let bundle = Bundle::new(expected.clone())
        .with_x509_authorities(x509)
        .and_then(|bundle| bundle.with_jwt_authorities(jwt))
        .and_then(|bundle| bundle.with_wit_authorities(wit));
    let bundle = bundle.map_err(|error| landfast_daemon::error_chain(&error))?;
    Ok(bundle.with_sequence(wire.sequence_number).with_refresh_hint(hint))
}

/// Those that can be read and whose ID no other key of the bundle has (WIT-SVID §6.1).
fn wit_authorities(wire: &types::Bundle, jwt: &[JwtAuthority]) -> Vec<WitAuthority> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    let known = jwt.iter().map(|a| a.key_id.as_str());
    for key_id in known.chain(wire.wit_authorities.iter().map(|a| a.key_id.as_str())) {
        *times.entry(key_id).or_default() += 1;
    }
    let read = |authority: &types::WitKey| {
        let unique = times.get(authority.key_id.as_str()) == Some(&1);
        Some(WitAuthority {
            public_key: PublicKey::from_spki_der(&authority.public_key).ok()?,
            key_id: Some(authority.key_id.clone()).filter(|id| unique && !id.is_empty())?,
            expires_at: (authority.expires_at != 0).then(|| UnixTime::from_secs(authority.expires_at)),
            tainted: authority.tainted,
        })
    };
    wire.wit_authorities.iter().filter_map(read).collect()
}

//! A bundle as the server sends it, made into ours.
//!
//! Invariant: a bundle that is not of the expected trust domain, or holds something that cannot be read, is refused whole. An authority with a key
//! of a kind that is not known here is left out, as long as another is there; a key of the incubating WIT profile costs itself alone.

use std::collections::BTreeMap;
use std::time::Duration;

use landfast_identity::{
    Bundle, Certificate, JwtAuthority, KeyError, PublicKey, TrustDomain, UnixTime, WitAuthority,
    X509Authority, X509Error,
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
    let x509 = wire.x509_authorities.iter().filter_map(|authority| {
        let certificate = match Certificate::from_der(&authority.asn1) {
            Ok(certificate) => certificate,
            Err(X509Error::Key {
                source: KeyError::Unsupported,
                ..
            }) => return left_out(expected, "X.509"),
            Err(_cause) => return Some(Err("an X.509 authority cannot be read".to_owned())),
        };
        if !certificate.is_ca() {
            return Some(Err("an X.509 authority is not a CA".to_owned()));
        }
        Some(Ok::<_, String>(X509Authority {
            certificate,
            tainted: authority.tainted,
        }))
    });
    let jwt = wire.jwt_authorities.iter().filter_map(|authority| {
        let public_key = match PublicKey::from_spki_der(&authority.public_key) {
            Ok(public_key) => public_key,
            Err(KeyError::Unsupported) => return left_out(expected, "JWT"),
            Err(_cause) => return Some(Err("a JWT authority cannot be read".to_owned())),
        };
        Some(Ok::<_, String>(JwtAuthority {
            key_id: authority.key_id.clone(),
            public_key,
            expires_at: (authority.expires_at != 0).then(|| UnixTime::from_secs(authority.expires_at)),
            tainted: authority.tainted,
        }))
    });
    let (x509, jwt) = (
        x509.collect::<Result<Vec<_>, _>>()?,
        jwt.collect::<Result<Vec<_>, _>>()?,
    );
    if x509.is_empty() && !wire.x509_authorities.is_empty() {
        return Err("no X.509 authority has a key that can be used here".to_owned());
    }
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

fn left_out<T>(trust_domain: &TrustDomain, kind: &str) -> Option<T> {
    tracing::debug!(%trust_domain, kind, "an authority has a key of a kind that cannot be used here, and is left out");
    None
}

#[cfg(test)]
mod tests {
    use landfast_identity::PrivateKey;
    use landfast_identity::issue::{AuthorityParams, self_signed_authority};

    use super::*;

    /// The curve's name in the key: another of the same length, which nobody here knows.
    fn of_another_curve(der: &[u8]) -> Vec<u8> {
        const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let at = der.windows(8).position(|part| part == P256).unwrap();
        let mut changed = der.to_vec();
        changed[at + 7] = 0x06;
        changed
    }

    #[test]
    fn an_authority_with_a_key_of_another_kind_costs_no_other() {
        let (domain, key) = (
            TrustDomain::parse("plant.test").unwrap(),
            PrivateKey::generate().unwrap(),
        );
        let params = AuthorityParams {
            trust_domain: &domain,
            authority_id: "1",
            not_before: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(86_400),
        };
        let good = self_signed_authority(&params, &key).unwrap().as_der().to_vec();
        let x509 = |der: Vec<u8>| types::X509Certificate {
            asn1: der.into(),
            tainted: false,
        };
        let jwt = |key_id: &str, spki: Vec<u8>| types::JwtKey {
            public_key: spki.into(),
            key_id: key_id.to_owned(),
            expires_at: 0,
            tainted: false,
        };
        let spki = key.public_key().spki_der().to_vec();
        let mut wire = types::Bundle {
            trust_domain: "plant.test".to_owned(),
            x509_authorities: vec![x509(of_another_curve(&good)), x509(good.clone())],
            jwt_authorities: vec![jwt("a", of_another_curve(&spki)), jwt("b", spki)],
            ..Default::default()
        };
        let bundle = parse(&wire, &domain).unwrap();
        assert_eq!(
            (bundle.x509_authorities().len(), bundle.jwt_authorities().len()),
            (1, 1)
        );
        assert_eq!(bundle.jwt_authorities()[0].key_id, "b");
        wire.x509_authorities.truncate(1);
        assert!(parse(&wire, &domain).is_err(), "nobody could be verified");
        wire.x509_authorities = vec![x509(good[..20].to_vec()), x509(good)];
        assert!(parse(&wire, &domain).is_err(), "broken is not of another kind");
    }
}

//! Bundles and their authorities, between the wire's types and ours. Invariant: an authority that cannot be read is refused; one whose key
//! nobody here can use is left out, and the others stay.

use std::time::Duration;

use bytes::Bytes;
use landfast_daemon::error_chain;
use landfast_identity::{
    Bundle, Certificate, JwtAuthority, KeyError, PublicKey, TrustDomain, UnixTime, WitAuthority,
    X509Authority, X509Error,
};
use landfast_proto::spire::api::types;
use tonic::Status;

use super::domain_in;

pub(crate) fn bundle_out(bundle: &Bundle, mask: Option<&types::BundleMask>) -> types::Bundle {
    let all = ALL_OF_BUNDLE;
    let mask = mask.unwrap_or(&all);
    let mut out = types::Bundle {
        trust_domain: bundle.trust_domain().as_str().to_owned(),
        ..types::Bundle::default()
    };
    if mask.x509_authorities {
        let der = |a: &X509Authority| types::X509Certificate {
            asn1: Bytes::copy_from_slice(a.certificate.as_der()),
            tainted: a.tainted,
        };
        out.x509_authorities = bundle.x509_authorities().iter().map(der).collect();
    }
    if mask.jwt_authorities {
        out.jwt_authorities = bundle.jwt_authorities().iter().map(jwt_authority_out).collect();
    }
    if mask.wit_authorities {
        out.wit_authorities = bundle.wit_authorities().iter().map(wit_authority_out).collect();
    }
    if mask.refresh_hint {
        out.refresh_hint = bundle
            .refresh_hint()
            .map_or(0, |hint| i64::try_from(hint.as_secs()).unwrap_or(i64::MAX));
    }
    if mask.sequence_number {
        out.sequence_number = bundle.sequence();
    }
    out
}

/// A bundle of whatever trust domain. What is wrong is said in the words that SPIRE's clients know; the caller says of what.
pub(crate) fn bundle_in(bundle: &types::Bundle) -> Result<Bundle, Status> {
    let trust_domain = domain_in(&bundle.trust_domain)?;
    let tokens = bundle.jwt_authorities.len() + bundle.wit_authorities.len();
    if bundle.x509_authorities.len() + tokens > MAX_AUTHORITIES {
        return Err(Status::invalid_argument(format!(
            "too many authorities: at most {MAX_AUTHORITIES}"
        )));
    }
    let bad =
        |what: &str, error: String| Status::invalid_argument(format!("unable to parse {what}: {error}"));
    let mut x509 = Vec::with_capacity(bundle.x509_authorities.len());
    for authority in &bundle.x509_authorities {
        match Certificate::from_der(&authority.asn1) {
            // SPIRE keeps what it cannot use itself. Here it would verify nothing, and must not cost the others.
            Err(
                error @ X509Error::Key {
                    source: KeyError::Unsupported,
                    ..
                },
            ) => left_out(&trust_domain, &error),
            _ => x509.push(x509_authority_in(authority).map_err(|e| bad("X.509 authority", e))?),
        }
    }
    let usable = |key: &[u8]| match PublicKey::from_spki_der(key) {
        Err(error @ KeyError::Unsupported) => {
            left_out(&trust_domain, &error);
            false
        }
        _ => true,
    };
    let jwt = bundle.jwt_authorities.iter().filter(|a| usable(&a.public_key));
    let jwt: Vec<_> = jwt
        .map(jwt_authority_in)
        .collect::<Result<_, _>>()
        .map_err(|e| bad("JWT authority", e))?;
    let wit = bundle.wit_authorities.iter().filter(|a| usable(&a.public_key));
    let wit: Vec<_> = wit
        .map(wit_authority_in)
        .collect::<Result<_, _>>()
        .map_err(|e| bad("WIT authority", e))?;
    if x509.len() + jwt.len() + wit.len() == 0 && bundle.x509_authorities.len() + tokens > 0 {
        return Err(Status::invalid_argument(
            "invalid bundle: none of its authorities has a key that can be used: EC P-256, EC P-384 or RSA",
        ));
    }
    let hint = u64::try_from(bundle.refresh_hint)
        .ok()
        .filter(|hint| *hint > 0)
        .map(Duration::from_secs);
    Bundle::new(trust_domain)
        .with_x509_authorities(x509)
        .and_then(|bundle| bundle.with_jwt_authorities(jwt))
        .and_then(|bundle| bundle.with_wit_authorities(wit))
        .map(|made| made.with_sequence(bundle.sequence_number).with_refresh_hint(hint))
        .map_err(|error| Status::invalid_argument(error.to_string()))
}

/// One certificate of an authority; the error is for the caller to complete.
pub(in crate::api) fn x509_authority_in(authority: &types::X509Certificate) -> Result<X509Authority, String> {
    let certificate = Certificate::from_der(&authority.asn1).map_err(|error| error_chain(&error))?;
    Ok(X509Authority {
        certificate,
        tainted: authority.tainted,
    })
}

/// One key that signs tokens; the error is for the caller to complete.
pub(in crate::api) fn jwt_authority_in(authority: &types::JwtKey) -> Result<JwtAuthority, String> {
    let public_key = PublicKey::from_spki_der(&authority.public_key).map_err(|error| error_chain(&error))?;
    if authority.key_id.is_empty() {
        return Err("missing key ID".to_owned());
    }
    Ok(JwtAuthority {
        key_id: authority.key_id.clone(),
        public_key,
        expires_at: Some(authority.expires_at)
            .filter(|at| *at != 0)
            .map(UnixTime::from_secs),
        tainted: authority.tainted,
    })
}

fn wit_authority_in(authority: &types::WitKey) -> Result<WitAuthority, String> {
    let public_key = PublicKey::from_spki_der(&authority.public_key).map_err(|error| error_chain(&error))?;
    if authority.key_id.is_empty() {
        return Err("missing key ID".to_owned());
    }
    Ok(WitAuthority {
        key_id: authority.key_id.clone(),
        public_key,
        expires_at: Some(authority.expires_at)
            .filter(|at| *at != 0)
            .map(UnixTime::from_secs),
        tainted: authority.tainted,
    })
}

pub(in crate::api) fn jwt_authority_out(authority: &JwtAuthority) -> types::JwtKey {
    types::JwtKey {
        public_key: Bytes::copy_from_slice(authority.public_key.spki_der()),
        key_id: authority.key_id.clone(),
        expires_at: authority.expires_at.map_or(0, UnixTime::as_secs),
        tainted: authority.tainted,
    }
}

fn wit_authority_out(authority: &WitAuthority) -> types::WitKey {
    types::WitKey {
        public_key: Bytes::copy_from_slice(authority.public_key.spki_der()),
        key_id: authority.key_id.clone(),
        expires_at: authority.expires_at.map_or(0, UnixTime::as_secs),
        tainted: authority.tainted,
    }
}

fn left_out(trust_domain: &TrustDomain, error: &dyn std::error::Error) {
    let error = error_chain(error);
    tracing::warn!(%trust_domain, error, "an authority of a bundle cannot be used and is left out");
}

/// Authorities of one bundle.
const MAX_AUTHORITIES: usize = 256;
const ALL_OF_BUNDLE: types::BundleMask = types::BundleMask {
    x509_authorities: true,
    jwt_authorities: true,
    refresh_hint: true,
    sequence_number: true,
    wit_authorities: true,
};

#[cfg(test)]
mod tests {
    use super::*;

    /// The curve's name in the key: another of the same length, which nobody here knows.
    fn of_another_curve(der: &[u8]) -> Vec<u8> {
        const P256: [u8; 8] = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let at = der.windows(8).position(|part| part == P256).unwrap();
        let mut changed = der.to_vec();
        changed[at + 7] = 0x06;
        changed
    }

    #[tokio::test]
    async fn an_authority_with_a_key_of_another_kind_is_left_out_and_the_others_stay() {
        let good = crate::core::fixture::foreign("office.test").await;
        let mut wire = bundle_out(&good, None);
        let (mut x509, mut jwt) = (wire.x509_authorities[0].clone(), wire.jwt_authorities[0].clone());
        x509.asn1 = of_another_curve(&x509.asn1).into();
        jwt.public_key = of_another_curve(&jwt.public_key).into();
        jwt.key_id = "other".to_owned();
        wire.x509_authorities.insert(0, x509.clone());
        wire.jwt_authorities.push(jwt.clone());
        assert_eq!(bundle_in(&wire).unwrap(), good);
        (wire.x509_authorities, wire.jwt_authorities) = (vec![x509], vec![jwt]);
        let none = bundle_in(&wire).unwrap_err();
        assert!(none.message().contains("none of its authorities"), "{none:?}");
        // What is broken is a mistake of the caller, not a key of another kind.
        let mut broken = bundle_out(&good, None);
        broken.jwt_authorities[0].public_key = vec![0x30, 0x01].into();
        assert_eq!(
            bundle_in(&broken).unwrap_err().code(),
            tonic::Code::InvalidArgument
        );
    }
}

//! A foreign bundle as JSON text, the same in every database. Invariant: what is read back is what was stored, taints and expiry included.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{
    Bundle, Certificate, JwtAuthority, PublicKey, TrustDomain, UnixTime, WitAuthority, X509Authority,
};
use serde::{Deserialize, Serialize};

use super::DatastoreError;

/// What does not read back.
pub(super) type Damage = Box<dyn Error + Send + Sync>;

#[derive(Serialize, Deserialize)]
struct Body {
    x509: Vec<X509>,
    jwt: Vec<TokenKey>,
    #[serde(default)]
    wit: Vec<TokenKey>,
    sequence: u64,
    refresh_hint: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct X509 {
    der: String,
    tainted: bool,
}

#[derive(Serialize, Deserialize)]
struct TokenKey {
    kid: String,
    spki: String,
    expires_at: Option<i64>,
    tainted: bool,
}

pub(super) fn encode(bundle: &Bundle) -> Result<String, DatastoreError> {
    let x509 = bundle
        .x509_authorities()
        .iter()
        .map(|a| X509 {
            der: BASE64.encode(a.certificate.as_der()),
            tainted: a.tainted,
        })
        .collect();
    let jwt = bundle
        .jwt_authorities()
        .iter()
        .map(|a| TokenKey {
            kid: a.key_id.clone(),
            spki: BASE64.encode(a.public_key.spki_der()),
            expires_at: a.expires_at.map(UnixTime::as_secs),
            tainted: a.tainted,
        })
        .collect();
    let wit = bundle
        .wit_authorities()
        .iter()
        .map(|a| TokenKey {
            kid: a.key_id.clone(),
            spki: BASE64.encode(a.public_key.spki_der()),
            expires_at: a.expires_at.map(UnixTime::as_secs),
            tainted: a.tainted,
        })
        .collect();
    let refresh_hint = bundle.refresh_hint().map(|hint| hint.as_secs());
    let body = Body {
        x509,
        jwt,
        wit,
        sequence: bundle.sequence(),
        refresh_hint,
    };
    serde_json::to_string(&body).map_err(|source| DatastoreError::Failed {
        source: Arc::new(source),
    })
}

pub(super) fn decode(td: TrustDomain, text: &str) -> Result<Bundle, Damage> {
    let body: Body = serde_json::from_str(text)?;
    let bytes = |text: &str| BASE64.decode(text);
    let x509 = body.x509.iter().map(|a| {
        let certificate = Certificate::from_der(&bytes(&a.der)?)?;
        Ok(X509Authority {
            certificate,
            tainted: a.tainted,
        })
    });
    let jwt = body.jwt.iter().map(|a| {
        Ok(JwtAuthority {
            key_id: a.kid.clone(),
            public_key: PublicKey::from_spki_der(&bytes(&a.spki)?)?,
            expires_at: a.expires_at.map(UnixTime::from_secs),
            tainted: a.tainted,
        })
    });
    let wit = body.wit.iter().map(|a| {
        Ok(WitAuthority {
            key_id: a.kid.clone(),
            public_key: PublicKey::from_spki_der(&bytes(&a.spki)?)?,
            expires_at: a.expires_at.map(UnixTime::from_secs),
            tainted: a.tainted,
        })
    });
    let x509 = x509.collect::<Result<Vec<_>, Damage>>()?;
    let jwt = jwt.collect::<Result<Vec<_>, Damage>>()?;
    let wit = wit.collect::<Result<Vec<_>, Damage>>()?;
    let bundle = Bundle::new(td)
        .with_x509_authorities(x509)
        .and_then(|bundle| bundle.with_jwt_authorities(jwt))
        .and_then(|bundle| bundle.with_wit_authorities(wit))
        ?;
    Ok(bundle
        .with_sequence(body.sequence)
        .with_refresh_hint(body.refresh_hint.map(Duration::from_secs)))
}

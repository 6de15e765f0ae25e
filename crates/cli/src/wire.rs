//! Between SPIRE's messages and our types.

use std::time::Duration;

use landfast_identity::{
    Bundle, Certificate, JwtAuthority, PublicKey, Selector, SpiffeId, TrustDomain, UnixTime, WitAuthority,
    X509Authority,
};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_proto::spire::api::types;
use tonic::Code;

use crate::failure::{Failure, SERVER};

pub(crate) fn id(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().to_string(),
        path: id.path().to_owned(),
    }
}

pub(crate) fn id_text(id: Option<&types::Spiffeid>) -> String {
    id.map(|id| format!("spiffe://{}{}", id.trust_domain, id.path))
        .unwrap_or_default()
}

pub(crate) fn selector(selector: &Selector) -> types::Selector {
    types::Selector {
        r#type: selector.kind().to_owned(),
        value: selector.value().to_owned(),
    }
}

pub(crate) fn selector_text(selector: &types::Selector) -> String {
    format!("{}:{}", selector.r#type, selector.value)
}

/// Whole seconds, as the messages have them.
pub(crate) fn seconds(duration: Option<Duration>) -> i32 {
    duration.map_or(0, |duration| {
        i32::try_from(duration.as_secs()).unwrap_or(i32::MAX)
    })
}

/// The outcome of one item of a batch.
pub(crate) fn outcome(status: Option<&types::Status>) -> Result<(), Failure> {
    match status.map(|status| (Code::from_i32(status.code), status.message.as_str())) {
        Some((Code::Ok, _)) => Ok(()),
        Some((code, message)) => Err(Failure::answer(SERVER, code, message)),
        None => Err(Failure::answer(
            SERVER,
            Code::Internal,
            "its answer has no status",
        )),
    }
}

pub(crate) fn bundle(message: &types::Bundle) -> Result<Bundle, Failure> {
    let broken = |error: &dyn std::error::Error| {
        Failure::failed(
            format!(
                "the server's bundle cannot be used: {}",
                landfast_daemon::error_chain(error)
            ),
            "the server's version may not fit this one",
        )
    };
    let trust_domain = TrustDomain::parse(&message.trust_domain).map_err(|error| broken(&error))?;
    let mut x509 = Vec::new();
    for authority in &message.x509_authorities {
        let certificate = Certificate::from_der(&authority.asn1).map_err(|error| broken(&error))?;
        x509.push(X509Authority {
            certificate,
            tainted: authority.tainted,
        });
    }
    let mut jwt = Vec::new();
    for key in &message.jwt_authorities {
        jwt.push(JwtAuthority {
            key_id: key.key_id.clone(),
            public_key: PublicKey::from_spki_der(&key.public_key).map_err(|error| broken(&error))?,
            expires_at: (key.expires_at != 0).then(|| UnixTime::from_secs(key.expires_at)),
            tainted: key.tainted,
        });
    }
    let mut wit = Vec::new();
    for key in &message.wit_authorities {
        wit.push(WitAuthority {
            key_id: key.key_id.clone(),
            public_key: PublicKey::from_spki_der(&key.public_key).map_err(|error| broken(&error))?,
            expires_at: (key.expires_at != 0).then(|| UnixTime::from_secs(key.expires_at)),
            tainted: key.tainted,
        });
    }
    let refresh = u64::try_from(message.refresh_hint)
        .ok()
        .filter(|hint| *hint > 0)
        .map(Duration::from_secs);
    let bundle = Bundle::new(trust_domain)
        .with_x509_authorities(x509)
        .map_err(|error| broken(&error))?;
    let bundle = bundle.with_jwt_authorities(jwt).map_err(|error| broken(&error))?;
    let bundle = bundle.with_wit_authorities(wit).map_err(|error| broken(&error))?;
    Ok(bundle
        .with_sequence(message.sequence_number)
        .with_refresh_hint(refresh))
}

pub(crate) fn bundle_message(bundle: &Bundle) -> types::Bundle {
    let x509 = bundle
        .x509_authorities()
        .iter()
        .map(|authority| types::X509Certificate {
            asn1: authority.certificate.as_der().to_vec().into(),
            tainted: authority.tainted,
        });
    let jwt = bundle.jwt_authorities().iter().map(|authority| types::JwtKey {
        public_key: authority.public_key.spki_der().to_vec().into(),
        key_id: authority.key_id.clone(),
        expires_at: authority.expires_at.map_or(0, UnixTime::as_secs),
        tainted: authority.tainted,
    });
    let wit = bundle.wit_authorities().iter().map(|authority| types::WitKey {
        public_key: authority.public_key.spki_der().to_vec().into(),
        key_id: authority.key_id.clone(),
        expires_at: authority.expires_at.map_or(0, UnixTime::as_secs),
        tainted: authority.tainted,
    });
    types::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
        refresh_hint: bundle
            .refresh_hint()
            .map_or(0, |hint| i64::try_from(hint.as_secs()).unwrap_or(0)),
        sequence_number: bundle.sequence(),
        wit_authorities: wit.collect(),
    }
}

/// `90s`, `5m`, `1h`, `30d`, at least a second.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let given: landfast_daemon::config::HumanDuration = text.parse().map_err(|error| format!("{error}"))?;
    let duration = given.duration();
    let whole = duration.subsec_nanos() == 0 && duration.as_secs() > 0;
    whole
        .then_some(duration)
        .ok_or_else(|| "at least one second, in whole seconds".to_owned())
}
/// A moment as records have it, in which form times are in order as text; a duration is taken from now.
pub(crate) fn moment(text: &str) -> Result<String, String> {
    if let Ok(before) = duration(text) {
        let now = SystemClock
            .now()
            .ok_or_else(|| "a time, for this machine's clock shows none".to_owned())?;
        return Ok(now.saturating_sub(before).to_string());
    }
    let pattern = "0000-00-00T00:00:00Z";
    let fits = |(given, wanted): (u8, u8)| match wanted {
        b'0' => given.is_ascii_digit(),
        other => given == other,
    };
    // Whole parts alone: half a day would be another day.
    let is_time =
        [7, 10, 13, 16, 19, 20].contains(&text.len()) && text.bytes().zip(pattern.bytes()).all(fits);
    match is_time {
        true => Ok(text.to_owned()),
        false => Err("a time such as 2026-11-26T08:00:00Z, in UTC, or a duration such as 2h".to_owned()),
    }
}

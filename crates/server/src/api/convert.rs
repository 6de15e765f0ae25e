//! Between the wire's types and ours. Invariant: what comes in is parsed here or refused; a mask leaves out what it does not name.

use std::time::Duration;

use bytes::Bytes;
use landfast_daemon::error_chain;
use landfast_identity::{
    Bundle, Certificate, JwtAuthority, KeyError, PublicKey, Selector, SelectorSet, SpiffeId, TrustDomain,
    UnixTime, WitAuthority, X509Authority, X509Error,
};
use landfast_proto::spire::api::types;
use tonic::Status;

use super::ids;
use crate::issuance::IssuedX509;
use crate::registry::{AgentRecord, Entry, EntryDraft, EntryPatch};

pub(crate) fn id_out(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain().as_str().to_owned(),
        path: id.path().to_owned(),
    }
}

/// The ID of an agent of ours.
pub(crate) fn agent_id_in(id: Option<&types::Spiffeid>, ours: &TrustDomain) -> Result<SpiffeId, Status> {
    ids::agent(id, ours).map_err(|why| ids::refused("invalid agent ID", &why))
}

pub(crate) fn selectors_out(selectors: &SelectorSet) -> Vec<types::Selector> {
    let out = |s: &Selector| types::Selector {
        r#type: s.kind().to_owned(),
        value: s.value().to_owned(),
    };
    selectors.iter().map(out).collect()
}

pub(crate) fn entry_out(entry: &Entry, mask: Option<&types::EntryMask>) -> types::Entry {
    let all = ALL_OF_ENTRY;
    let mask = mask.unwrap_or(&all);
    let mut out = types::Entry {
        id: entry.id.clone(),
        ..types::Entry::default()
    };
    if mask.spiffe_id {
        out.spiffe_id = Some(id_out(&entry.spiffe_id));
    }
    if mask.parent_id {
        out.parent_id = Some(id_out(&entry.parent_id));
    }
    if mask.selectors {
        out.selectors = selectors_out(&entry.selectors);
    }
    if mask.x509_svid_ttl {
        out.x509_svid_ttl = seconds_out(entry.x509_svid_ttl);
    }
    if mask.jwt_svid_ttl {
        out.jwt_svid_ttl = seconds_out(entry.jwt_svid_ttl);
    }
    if mask.federates_with {
        out.federates_with = entry.federates_with.iter().map(ToString::to_string).collect();
    }
    out.admin = mask.admin && entry.admin;
    out.downstream = mask.downstream && entry.downstream;
    if mask.expires_at {
        out.expires_at = entry.expires_at.map_or(0, UnixTime::as_secs);
    }
    if mask.dns_names {
        out.dns_names = entry.dns_names.clone();
    }
    if mask.revision_number {
        out.revision_number = entry.revision_number;
    }
    out.store_svid = mask.store_svid && entry.store_svid;
    if mask.hint {
        out.hint = entry.hint.clone();
    }
    if mask.created_at {
        out.created_at = entry.created_at.as_secs();
    }
    if mask.additional_attributes && (entry.disable_x509_svid_prefetch || entry.jwt_svid_include_jti) {
        out.additional_attributes = Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
            jwt_svid_include_jti: entry.jwt_svid_include_jti,
        });
    }
    out
}

/// An entry to be created. What is wrong beyond its form is the registry's to say.
pub(crate) fn draft_in(entry: &types::Entry, ours: &TrustDomain) -> Result<EntryDraft, Status> {
    let attributes = entry.additional_attributes.unwrap_or_default();
    Ok(EntryDraft {
        id: Some(entry.id.clone()).filter(|id| !id.is_empty()),
        x509_svid_ttl: ttl_in(entry.x509_svid_ttl, "X509-SVID TTL")?,
        jwt_svid_ttl: ttl_in(entry.jwt_svid_ttl, "JWT-SVID TTL")?,
        federates_with: domains_in(&entry.federates_with)?,
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: expiry_in(entry.expires_at)?,
        dns_names: entry.dns_names.clone(),
        store_svid: entry.store_svid,
        hint: entry.hint.clone(),
        disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: attributes.jwt_svid_include_jti,
        ..EntryDraft::new(
            parent_in(entry, ours)?,
            subject_in(entry, ours)?,
            ids::selectors(&entry.selectors).map_err(|why| not_an_entry(&why))?,
        )
    })
}

fn parent_in(entry: &types::Entry, ours: &TrustDomain) -> Result<SpiffeId, Status> {
    let parent = ids::member(entry.parent_id.as_ref(), ours);
    parent.map_err(|why| not_an_entry(&format!("invalid parent ID: {why}")))
}

fn subject_in(entry: &types::Entry, ours: &TrustDomain) -> Result<SpiffeId, Status> {
    let subject = ids::workload(entry.spiffe_id.as_ref(), ours);
    subject.map_err(|why| not_an_entry(&format!("invalid spiffe ID: {why}")))
}

pub(crate) fn not_an_entry(why: &str) -> Status {
    ids::refused("failed to convert entry", why)
}

/// What an update changes: the fields that the mask names; without a mask, all.
pub(crate) fn patch_in(
    entry: &types::Entry,
    mask: Option<&types::EntryMask>,
    ours: &TrustDomain,
) -> Result<EntryPatch, Status> {
    let all = ALL_OF_ENTRY;
    let mask = mask.unwrap_or(&all);
    let attributes = entry.additional_attributes.unwrap_or_default();
    let mut patch = EntryPatch::default();
    if mask.spiffe_id {
        patch.spiffe_id = Some(subject_in(entry, ours)?);
    }
    if mask.parent_id {
        patch.parent_id = Some(parent_in(entry, ours)?);
    }
    if mask.selectors {
        patch.selectors = Some(ids::selectors(&entry.selectors).map_err(|why| not_an_entry(&why))?);
    }
    if mask.x509_svid_ttl {
        patch.x509_svid_ttl = Some(ttl_in(entry.x509_svid_ttl, "X509-SVID TTL")?);
    }
    if mask.jwt_svid_ttl {
        patch.jwt_svid_ttl = Some(ttl_in(entry.jwt_svid_ttl, "JWT-SVID TTL")?);
    }
    if mask.federates_with {
        patch.federates_with = Some(domains_in(&entry.federates_with)?);
    }
    patch.admin = mask.admin.then_some(entry.admin);
    patch.downstream = mask.downstream.then_some(entry.downstream);
    if mask.expires_at {
        patch.expires_at = Some(expiry_in(entry.expires_at)?);
    }
    patch.dns_names = mask.dns_names.then(|| entry.dns_names.clone());
    patch.store_svid = mask.store_svid.then_some(entry.store_svid);
    patch.hint = mask.hint.then(|| entry.hint.clone());
    if mask.additional_attributes {
        patch.disable_x509_svid_prefetch = Some(attributes.disable_x509_svid_prefetch);
        patch.jwt_svid_include_jti = Some(attributes.jwt_svid_include_jti);
    }
    Ok(patch)
}

pub(crate) fn agent_out(agent: &AgentRecord, mask: Option<&types::AgentMask>) -> types::Agent {
    let all = ALL_OF_AGENT;
    let mask = mask.unwrap_or(&all);
    let mut out = types::Agent {
        id: Some(id_out(&agent.id)),
        ..types::Agent::default()
    };
    if mask.attestation_type {
        out.attestation_type = agent.attestation_type.clone();
    }
    if mask.x509svid_serial_number {
        out.x509svid_serial_number = decimal(&agent.serial);
    }
    if mask.x509svid_expires_at {
        out.x509svid_expires_at = agent.not_after.as_secs();
    }
    if mask.selectors {
        out.selectors = selectors_out(&agent.selectors);
    }
    out.banned = mask.banned && agent.is_banned();
    out.can_reattest = mask.can_reattest && agent.can_reattest;
    if mask.agent_version {
        out.agent_version = agent.agent_version.clone();
    }
    out
}

/// As SPIRE writes serial numbers; ours have 128 bits. Empty stays empty: the agent is banned.
fn decimal(serial_hex: &str) -> String {
    u128::from_str_radix(serial_hex, 16).map_or_else(|_| serial_hex.to_owned(), |serial| serial.to_string())
}

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
pub(super) fn x509_authority_in(authority: &types::X509Certificate) -> Result<X509Authority, String> {
    let certificate = Certificate::from_der(&authority.asn1).map_err(|error| error_chain(&error))?;
    Ok(X509Authority {
        certificate,
        tainted: authority.tainted,
    })
}

/// One key that signs tokens; the error is for the caller to complete.
pub(super) fn jwt_authority_in(authority: &types::JwtKey) -> Result<JwtAuthority, String> {
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

pub(super) fn jwt_authority_out(authority: &JwtAuthority) -> types::JwtKey {
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

pub(crate) fn x509_out(issued: &IssuedX509, hint: &str) -> types::X509svid {
    types::X509svid {
        cert_chain: issued
            .chain
            .iter()
            .map(|c| Bytes::copy_from_slice(c.as_der()))
            .collect(),
        id: Some(id_out(&issued.id)),
        expires_at: issued.not_after.as_secs(),
        hint: hint.to_owned(),
    }
}

/// A trust domain, as a bare name or as an ID.
pub(crate) fn domain_in(name: &str) -> Result<TrustDomain, Status> {
    ids::trust_domain(name).map_err(|why| ids::refused("invalid trust domain", &why))
}

fn domains_in(names: &[String]) -> Result<Vec<TrustDomain>, Status> {
    let one = |name: &String| ids::trust_domain(name);
    names
        .iter()
        .map(one)
        .collect::<Result<_, _>>()
        .map_err(|why| not_an_entry(&format!("invalid federated trust domain: {why}")))
}

/// 0 is the server's default.
pub(crate) fn ttl_in(seconds: i32, what: &str) -> Result<Option<Duration>, Status> {
    let seconds = u64::try_from(seconds)
        .map_err(|_negative| Status::invalid_argument(format!("invalid {what}: it must not be negative")))?;
    Ok(Some(Duration::from_secs(seconds)).filter(|ttl| !ttl.is_zero()))
}

fn expiry_in(at: i64) -> Result<Option<UnixTime>, Status> {
    if at < 0 {
        return Err(Status::invalid_argument(
            "invalid expiry: it must not be negative",
        ));
    }
    Ok(Some(at).filter(|at| *at != 0).map(UnixTime::from_secs))
}

fn seconds_out(ttl: Option<Duration>) -> i32 {
    ttl.map_or(0, |ttl| i32::try_from(ttl.as_secs()).unwrap_or(i32::MAX))
}

/// Authorities of one bundle.
const MAX_AUTHORITIES: usize = 256;
pub(super) const ALL_OF_ENTRY: types::EntryMask = types::EntryMask {
    spiffe_id: true,
    parent_id: true,
    selectors: true,
    x509_svid_ttl: true,
    federates_with: true,
    admin: true,
    downstream: true,
    expires_at: true,
    dns_names: true,
    revision_number: true,
    store_svid: true,
    jwt_svid_ttl: true,
    hint: true,
    created_at: true,
    additional_attributes: true,
};
const ALL_OF_AGENT: types::AgentMask = types::AgentMask {
    attestation_type: true,
    x509svid_serial_number: true,
    x509svid_expires_at: true,
    selectors: true,
    banned: true,
    can_reattest: true,
    agent_version: true,
};
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

    #[test]
    fn serial_numbers_are_shown_in_decimal_and_bans_as_nothing() {
        assert_eq!(decimal("ff"), "255");
        assert_eq!(decimal("7fffffffffffffffffffffffffffffff"), i128::MAX.to_string());
        assert_eq!(decimal(""), "");
    }
}

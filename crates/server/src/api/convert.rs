//! Between the wire's types and ours. Invariant: what comes in is parsed here or refused; a mask leaves out what it does not name.

mod bundle;
mod entry;

use std::time::Duration;

use bytes::Bytes;
use landfast_identity::{Selector, SelectorSet, SpiffeId, TrustDomain};
use landfast_proto::spire::api::types;
use tonic::Status;

use super::ids;
use crate::issuance::IssuedX509;
use crate::registry::AgentRecord;

pub(crate) use bundle::{bundle_in, bundle_out};
pub(super) use bundle::{jwt_authority_in, jwt_authority_out, x509_authority_in};
pub(super) use entry::ALL_OF_ENTRY;
pub(crate) use entry::{draft_in, entry_out, not_an_entry, patch_in};

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

/// 0 is the server's default.
pub(crate) fn ttl_in(seconds: i32, what: &str) -> Result<Option<Duration>, Status> {
    let seconds = u64::try_from(seconds)
        .map_err(|_negative| Status::invalid_argument(format!("invalid {what}: it must not be negative")))?;
    Ok(Some(Duration::from_secs(seconds)).filter(|ttl| !ttl.is_zero()))
}

const ALL_OF_AGENT: types::AgentMask = types::AgentMask {
    attestation_type: true,
    x509svid_serial_number: true,
    x509svid_expires_at: true,
    selectors: true,
    banned: true,
    can_reattest: true,
    agent_version: true,
};
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_numbers_are_shown_in_decimal_and_bans_as_nothing() {
        assert_eq!(decimal("ff"), "255");
        assert_eq!(decimal("7fffffffffffffffffffffffffffffff"), i128::MAX.to_string());
        assert_eq!(decimal(""), "");
    }
}

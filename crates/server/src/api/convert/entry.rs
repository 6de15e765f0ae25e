//! Entries, between the wire's types and ours. Invariant: a field that a mask does not name is neither shown nor changed.

use std::time::Duration;

use landfast_identity::{SpiffeId, TrustDomain, UnixTime};
use landfast_proto::spire::api::types;
use tonic::Status;

use super::{id_out, selectors_out, ttl_in};
use crate::api::ids;
use crate::registry::{Entry, EntryDraft, EntryPatch};

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

fn domains_in(names: &[String]) -> Result<Vec<TrustDomain>, Status> {
    let one = |name: &String| ids::trust_domain(name);
    names
        .iter()
        .map(one)
        .collect::<Result<_, _>>()
        .map_err(|why| not_an_entry(&format!("invalid federated trust domain: {why}")))
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

pub(in crate::api) const ALL_OF_ENTRY: types::EntryMask = types::EntryMask {
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

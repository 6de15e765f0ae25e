//! What may be signed. Invariant: judged here once more, whatever the registry judged before: this is the last place that can refuse.

use landfast_identity::{Bundle, Certificate, PublicKey, SpiffeId, TrustDomain, UnixTime};

use super::IssueError;
use crate::people::Session;
use crate::registry::{self, Entry, MargoPaths};

/// A workload's ID: ours, with a path, not reserved.
pub(super) fn subject(id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), IssueError> {
    registry::check_subject(id, trust_domain).map_err(|refused| IssueError::Policy(refused.to_string()))
}

/// An agent's ID, ours.
pub(super) fn agent(id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), IssueError> {
    if id.trust_domain() == trust_domain && id.is_agent() {
        return Ok(());
    }
    Err(IssueError::Policy(format!(
        "{id} is not the ID of an agent of {trust_domain}"
    )))
}

/// The ID of a person who has logged in, ours.
pub(super) fn session(id: &SpiffeId, trust_domain: &TrustDomain) -> Result<(), IssueError> {
    if id.trust_domain() == trust_domain && Session::of(id).is_some() {
        return Ok(());
    }
    Err(IssueError::Policy(format!(
        "{id} is not the ID of a person of {trust_domain}"
    )))
}

pub(super) fn dns_names(names: &[String]) -> Result<(), IssueError> {
    names
        .iter()
        .try_for_each(|name| registry::check_dns_name(name))
        .map_err(|refused| IssueError::Policy(refused.to_string()))
}

/// A wildcard beside a name that it covers: who holds it needs only one of them, and a reader would not see which.
pub(super) fn no_overlap(names: &[String]) -> Result<(), IssueError> {
    let covers = |wildcard: &str, name: &str| {
        let below = name.split_once('.').map(|(_, below)| below);
        below.is_some_and(|below| below.eq_ignore_ascii_case(wildcard))
    };
    let wildcards: Vec<&str> = names.iter().filter_map(|name| name.strip_prefix("*.")).collect();
    let plain = names.iter().filter(|name| !name.starts_with("*."));
    for name in plain {
        if wildcards.iter().any(|wildcard| covers(wildcard, name)) {
            return Err(IssueError::Policy(format!(
                "CSR DNS name contains a wildcard that covers another non-wildcard name: {name}"
            )));
        }
    }
    Ok(())
}

/// An entry that has not expired.
pub(super) fn live(entry: &Entry, now: UnixTime) -> Result<(), IssueError> {
    if entry.is_live(Some(now)) {
        return Ok(());
    }
    Err(IssueError::Policy(format!("entry {} has expired", entry.id)))
}

/// An entry whose holder may sign below us.
pub(super) fn downstream(entry: &Entry, trust_domain: &TrustDomain) -> Result<(), IssueError> {
    subject(&entry.spiffe_id, trust_domain)?;
    if entry.downstream {
        return Ok(());
    }
    Err(IssueError::Policy(format!(
        "entry {} is not one of a downstream server",
        entry.id
    )))
}

/// What `[margo]` says of an entry, which may be older than that.
pub(super) fn margo(entry: &Entry, paths: MargoPaths) -> Result<(), IssueError> {
    paths
        .check_stored(entry)
        .map_err(|refused| IssueError::Policy(refused.to_string()))
}

/// What `[margo]` says of a key.
pub(super) fn margo_key(id: &SpiffeId, key: &PublicKey, paths: MargoPaths) -> Result<(), IssueError> {
    paths
        .check_key(id, key)
        .map_err(|refused| IssueError::Policy(refused.to_string()))
}

/// A key that is no authority's: its holder could sign as the authority.
pub(super) fn not_an_authoritys(key: &PublicKey, bundle: &Bundle) -> Result<(), IssueError> {
    let x509 = bundle
        .x509_authorities()
        .iter()
        .map(|a| a.certificate.public_key());
    let jwt = bundle.jwt_authorities().iter().map(|a| &a.public_key);
    let wit = bundle.wit_authorities().iter().map(|a| &a.public_key);
    if x509.chain(jwt).chain(wit).any(|authority| authority == key) {
        return Err(IssueError::Policy("the key is one of an authority".to_owned()));
    }
    Ok(())
}

/// The same for those between us and the root, which are in no bundle.
pub(super) fn not_above(key: &PublicKey, chain: &[Certificate]) -> Result<(), IssueError> {
    match chain.iter().any(|link| link.public_key() == key) {
        true => Err(IssueError::Policy("the key is one of an authority".to_owned())),
        false => Ok(()),
    }
}

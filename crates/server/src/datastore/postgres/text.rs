//! Objects as JSON text, as they stand in tables and in the feed. Invariant: what is read back is what was written; a set has one spelling.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{SelectorSet, SpiffeId, TrustDomain, UnixTime};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::row::damage;
use crate::datastore::debt::{AudienceText, audiences, read_audiences};
use crate::datastore::sharing::Sharing;
use crate::datastore::{Change, DatastoreError, bundle_text, people_text};
use crate::random::hex;
use crate::registry::{AgentRecord, EndpointUrl, Entry, EntryPolicy, Profile, Relationship, ThirdParty};

#[derive(Serialize, Deserialize)]
struct EntryText {
    id: String,
    spiffe_id: String,
    parent_id: String,
    selectors: Vec<String>,
    x509_svid_ttl: Option<u64>,
    jwt_svid_ttl: Option<u64>,
    federates_with: Vec<String>,
    admin: bool,
    downstream: bool,
    expires_at: Option<i64>,
    dns_names: Vec<String>,
    revision_number: i64,
    store_svid: bool,
    hint: String,
    created_at: i64,
    no_x509_prefetch: bool,
    include_jti: bool,
}

pub(super) fn entry(entry: &Entry) -> Result<String, DatastoreError> {
    write(&EntryText {
        id: entry.id.clone(),
        spiffe_id: entry.spiffe_id.to_string(),
        parent_id: entry.parent_id.to_string(),
        selectors: selector_list(&entry.selectors),
        x509_svid_ttl: entry.x509_svid_ttl.map(|ttl| ttl.as_secs()),
        jwt_svid_ttl: entry.jwt_svid_ttl.map(|ttl| ttl.as_secs()),
        federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: entry.expires_at.map(UnixTime::as_secs),
        dns_names: entry.dns_names.clone(),
        revision_number: entry.revision_number,
        store_svid: entry.store_svid,
        hint: entry.hint.clone(),
        created_at: entry.created_at.as_secs(),
        no_x509_prefetch: entry.disable_x509_svid_prefetch,
        include_jti: entry.jwt_svid_include_jti,
    })
}

pub(super) fn read_entry(text: &str, sharing: &mut Sharing) -> Result<Entry, DatastoreError> {
    let text: EntryText = read(text)?;
    Ok(Entry {
        id: text.id,
        spiffe_id: sharing.id(&text.spiffe_id).map_err(|e| damage("body", e))?,
        parent_id: sharing
            .common_id(&text.parent_id)
            .map_err(|e| damage("body", e))?,
        selectors: read_selectors(&text.selectors, sharing)?,
        x509_svid_ttl: text.x509_svid_ttl.map(Duration::from_secs),
        jwt_svid_ttl: text.jwt_svid_ttl.map(Duration::from_secs),
        federates_with: text
            .federates_with
            .iter()
            .map(|name| sharing.domain(name).map_err(|e| damage("body", e)))
            .collect::<Result<_, _>>()?,
        admin: text.admin,
        downstream: text.downstream,
        expires_at: text.expires_at.map(UnixTime::from_secs),
        dns_names: text.dns_names,
        revision_number: text.revision_number,
        store_svid: text.store_svid,
        hint: text.hint,
        created_at: UnixTime::from_secs(text.created_at),
        disable_x509_svid_prefetch: text.no_x509_prefetch,
        jwt_svid_include_jti: text.include_jti,
    })
}

/// The same for two entries that grant the same to the same.
pub(super) fn likeness(entry: &Entry) -> String {
    let all = format!(
        "{}\n{}\n{}",
        entry.spiffe_id,
        entry.parent_id,
        selectors(&entry.selectors)
    );
    hex(digest(&SHA256, all.as_bytes()).as_ref())
}

#[derive(Serialize, Deserialize)]
struct PolicyText {
    description: String,
    revision: u64,
    /// From here on not in what was written before there were rungs.
    #[serde(default)]
    reserve: u64,
    #[serde(default)]
    privileged: bool,
    #[serde(default)]
    jwt_offline: AudienceText,
    /// Since schema 7.
    #[serde(default)]
    availability_first: bool,
    /// Sponsor and contract.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    third_party: Option<(String, String)>,
}

pub(super) fn policy(policy: &EntryPolicy) -> Result<String, DatastoreError> {
    write(&PolicyText {
        description: policy.description.clone(),
        revision: policy.revision,
        reserve: policy.reserve.as_secs(),
        privileged: policy.privileged,
        jwt_offline: audiences(&policy.jwt_offline),
        availability_first: policy.availability_first,
        third_party: policy
            .third_party
            .clone()
            .map(|party| (party.sponsor, party.contract)),
    })
}

pub(super) fn read_policy(entry_id: &str, text: &str) -> Result<EntryPolicy, DatastoreError> {
    let text: PolicyText = read(text)?;
    Ok(EntryPolicy {
        entry_id: entry_id.to_owned(),
        description: text.description,
        reserve: Duration::from_secs(text.reserve),
        privileged: text.privileged,
        jwt_offline: read_audiences(text.jwt_offline),
        availability_first: text.availability_first,
        third_party: text
            .third_party
            .map(|(sponsor, contract)| ThirdParty { sponsor, contract }),
        revision: text.revision,
    })
}

#[derive(Serialize, Deserialize)]
struct AgentText {
    id: String,
    attestation_type: String,
    serial: String,
    not_after: i64,
    new_serial: Option<String>,
    new_not_after: Option<i64>,
    selectors: Vec<String>,
    can_reattest: bool,
    agent_version: String,
    key_hash: Vec<u8>,
}

pub(super) fn agent(agent: &AgentRecord) -> Result<String, DatastoreError> {
    write(&AgentText {
        id: agent.id.to_string(),
        attestation_type: agent.attestation_type.clone(),
        serial: agent.serial.clone(),
        not_after: agent.not_after.as_secs(),
        new_serial: agent.new_serial.clone(),
        new_not_after: agent.new_not_after.map(UnixTime::as_secs),
        selectors: selector_list(&agent.selectors),
        can_reattest: agent.can_reattest,
        agent_version: agent.agent_version.clone(),
        key_hash: agent.key_hash.to_vec(),
    })
}

pub(super) fn read_agent(text: &str, sharing: &mut Sharing) -> Result<AgentRecord, DatastoreError> {
    let text: AgentText = read(text)?;
    Ok(AgentRecord {
        id: sharing.id(&text.id).map_err(|e| damage("body", e))?,
        attestation_type: text.attestation_type,
        serial: text.serial,
        not_after: UnixTime::from_secs(text.not_after),
        new_serial: text.new_serial,
        new_not_after: text.new_not_after.map(UnixTime::from_secs),
        selectors: read_selectors(&text.selectors, sharing)?,
        can_reattest: text.can_reattest,
        agent_version: text.agent_version,
        key_hash: <[u8; 32]>::try_from(text.key_hash.as_slice()).map_err(|e| damage("body", e))?,
    })
}

#[derive(Serialize, Deserialize)]
struct RelationshipText {
    trust_domain: String,
    url: String,
    endpoint_id: Option<String>,
}

pub(super) fn relationship(relationship: &Relationship) -> Result<String, DatastoreError> {
    write(&RelationshipText {
        trust_domain: relationship.trust_domain.to_string(),
        url: relationship.url.as_str().to_owned(),
        endpoint_id: match &relationship.profile {
            Profile::Web => None,
            Profile::Spiffe { endpoint_id } => Some(endpoint_id.to_string()),
        },
    })
}

pub(super) fn read_relationship(text: &str) -> Result<Relationship, DatastoreError> {
    let text: RelationshipText = read(text)?;
    Ok(Relationship {
        trust_domain: domain(&text.trust_domain)?,
        url: EndpointUrl::parse(&text.url).map_err(|e| damage("body", e))?,
        profile: match text.endpoint_id {
            None => Profile::Web,
            Some(text) => Profile::Spiffe {
                endpoint_id: id(&text)?,
            },
        },
    })
}

/// Kind, object and body of a change, as the feed has it.
pub(super) fn change(change: &Change) -> Result<(&'static str, String, Option<String>), DatastoreError> {
    Ok(match change {
        Change::PutEntry(new) => (ENTRY, new.id.clone(), Some(entry(new)?)),
        Change::RemoveEntry(id) => (ENTRY, id.clone(), None),
        Change::PutPolicy(new) => (POLICY, new.entry_id.clone(), Some(policy(new)?)),
        Change::PutAgent(new) => (AGENT, new.id.to_string(), Some(agent(new)?)),
        Change::RemoveAgent(id) => (AGENT, id.to_string(), None),
        Change::PutBundle(new) => {
            let body = bundle_text::encode(new)?;
            (BUNDLE, new.trust_domain().to_string(), Some(body))
        }
        Change::RemoveBundle(td) => (BUNDLE, td.to_string(), None),
        Change::PutRelationship(new) => (
            RELATIONSHIP,
            new.trust_domain.to_string(),
            Some(relationship(new)?),
        ),
        Change::RemoveRelationship(td) => (RELATIONSHIP, td.to_string(), None),
        Change::PutPerson(new) => (PERSON, new.reference.to_string(), Some(people_text::person(new)?)),
        // `accept_loss` does it, beside the feed.
        Change::BeginEpoch(_) => return Err(damage("kind", "an epoch is no change of a row")),
    })
}

pub(super) fn read_change(kind: &str, object: &str, body: Option<&str>) -> Result<Change, DatastoreError> {
    Ok(match (kind, body) {
        (ENTRY, Some(body)) => Change::PutEntry(Arc::new(read_entry(body, &mut Sharing::none())?)),
        (ENTRY, None) => Change::RemoveEntry(object.to_owned()),
        (POLICY, Some(body)) => Change::PutPolicy(Arc::new(read_policy(object, body)?)),
        (AGENT, Some(body)) => Change::PutAgent(Arc::new(read_agent(body, &mut Sharing::none())?)),
        (AGENT, None) => Change::RemoveAgent(id(object)?),
        (BUNDLE, Some(body)) => Change::PutBundle(Arc::new(read_bundle(domain(object)?, body)?)),
        (BUNDLE, None) => Change::RemoveBundle(domain(object)?),
        (RELATIONSHIP, Some(body)) => Change::PutRelationship(Arc::new(read_relationship(body)?)),
        (RELATIONSHIP, None) => Change::RemoveRelationship(domain(object)?),
        (PERSON, Some(body)) => Change::PutPerson(Arc::new(people_text::read_person(object, body)?)),
        (other, _) => return Err(damage("kind", format!("{other:?} is none of this program's"))),
    })
}

pub(super) fn read_bundle(td: TrustDomain, text: &str) -> Result<landfast_identity::Bundle, DatastoreError> {
    bundle_text::decode(td, text).map_err(|e| damage("body", e))
}

fn selector_list(set: &SelectorSet) -> Vec<String> {
    set.iter().map(ToString::to_string).collect()
}

/// Canonical: two sets are equal when their texts are.
pub(super) fn selectors(set: &SelectorSet) -> String {
    serde_json::Value::from(selector_list(set)).to_string()
}

fn read_selectors(list: &[String], sharing: &mut Sharing) -> Result<SelectorSet, DatastoreError> {
    list.iter()
        .map(|text| sharing.selector(text).map_err(|e| damage("body", e)))
        .collect()
}

fn id(text: &str) -> Result<SpiffeId, DatastoreError> {
    SpiffeId::parse(text).map_err(|e| damage("body", e))
}

fn domain(text: &str) -> Result<TrustDomain, DatastoreError> {
    TrustDomain::parse(text).map_err(|e| damage("body", e))
}

fn write(value: &impl Serialize) -> Result<String, DatastoreError> {
    serde_json::to_string(value).map_err(|source| DatastoreError::Failed {
        source: Arc::new(source),
    })
}

fn read<'t, T: Deserialize<'t>>(text: &'t str) -> Result<T, DatastoreError> {
    serde_json::from_str(text).map_err(|e| damage("body", e))
}

const ENTRY: &str = "entry";
const POLICY: &str = "policy";
const AGENT: &str = "agent";
const BUNDLE: &str = "bundle";
const RELATIONSHIP: &str = "relationship";
const PERSON: &str = "person";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_for_a_third_party_is_kept_and_older_policies_have_nobody() {
        let party = EntryPolicy {
            third_party: Some(ThirdParty {
                sponsor: "p-jo".to_owned(),
                contract: "C-7".to_owned(),
            }),
            ..EntryPolicy::defaults("e")
        };
        assert_eq!(read_policy("e", &policy(&party).unwrap()).unwrap(), party);
        let older = r#"{"description":"","revision":0}"#;
        assert_eq!(read_policy("e", older).unwrap(), EntryPolicy::defaults("e"));
    }
}

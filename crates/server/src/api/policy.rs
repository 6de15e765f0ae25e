//! `landfast.entry.v1.EntryPolicies`: what entries have beside SPIRE's fields.

use std::time::Duration;

use landfast_proto::landfast::entry::v1::{self as pb, entry_policies_server::EntryPolicies};
use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::authz::Caller;
use crate::ledger;
use crate::people::Verb;
use crate::registry::{EntryPolicy, JwtOffline, PolicyPatch, RegistryError, ThirdParty};

#[tonic::async_trait]
impl EntryPolicies for Api {
    async fn get_entry_policies(
        &self,
        request: Request<pb::GetEntryPoliciesRequest>,
    ) -> Result<Response<pb::GetEntryPoliciesResponse>, Status> {
        let ids = request.into_inner().entry_ids;
        if ids.len() > AT_ONCE {
            return Err(Status::invalid_argument(format!(
                "policies of {} entries at once, more than {AT_ONCE}",
                ids.len()
            )));
        }
        let policies = ids.iter().map(|id| {
            check_id(id)?;
            let entry = self.registry.versioned(id);
            let entry =
                entry.ok_or_else(|| status::registry(&RegistryError::NoSuchEntry { id: id.clone() }))?;
            Ok(match &entry.policy {
                Some(policy) => policy_out(policy),
                None => policy_out(&EntryPolicy::defaults(id)),
            })
        });
        let policies = policies.collect::<Result<_, Status>>()?;
        Ok(Response::new(pb::GetEntryPoliciesResponse { policies }))
    }

    async fn set_entry_policy(
        &self,
        request: Request<pb::SetEntryPolicyRequest>,
    ) -> Result<Response<pb::EntryPolicy>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let given = request
            .policy
            .ok_or_else(|| Status::invalid_argument("missing policy"))?;
        check_id(&given.entry_id)?;
        let id = given.entry_id.clone();
        self.may_change_entry(&caller, Verb::Enrol, &id)?;
        let by = &caller.requester;
        let patch = patch_in(given, request.mask)?;
        let if_revision = Some(request.if_revision).filter(|revision| *revision != 0);
        let policy = self
            .registry
            .set_entry_policy(&id, patch, if_revision)
            .await
            .map_err(|error| status::registry(&error))?;
        tracing::info!(entry = policy.entry_id, %by, "changed the policy of an entry");
        self.did(by, about(&policy)).await;
        Ok(Response::new(policy_out(&policy)))
    }
}

/// Whose it is, and who answers for it.
fn about(policy: &EntryPolicy) -> landfast_audit::Record {
    let record = ledger::changed("policy.changed").with("entry", policy.entry_id.clone());
    match &policy.third_party {
        Some(party) => record
            .with("class", "third-party")
            .with("contract", party.contract.clone())
            .with("sponsor", party.sponsor.clone()),
        None => record.with("class", "workload"),
    }
}

fn check_id(id: &str) -> Result<(), Status> {
    match id {
        "" => Err(Status::invalid_argument("missing entry ID")),
        _ => Ok(()),
    }
}

/// A mask that names nothing was perhaps made for fields that only a newer server knows: that is no success.
fn patch_in(given: pb::EntryPolicy, mask: Option<pb::EntryPolicyMask>) -> Result<PolicyPatch, Status> {
    match mask {
        None => Err(Status::invalid_argument(
            "missing mask: say which fields to change",
        )),
        Some(mask) if mask == pb::EntryPolicyMask::default() => Err(Status::invalid_argument(
            "the mask names no field that this server knows",
        )),
        Some(mask) => Ok(PolicyPatch {
            description: mask.description.then_some(given.description),
            reserve: mask
                .offline_reserve_seconds
                .then_some(seconds(given.offline_reserve_seconds)),
            privileged: mask.privileged.then_some(given.privileged),
            availability_first: mask.availability_first.then_some(given.availability_first),
            jwt_offline: mask.jwt_offline.then(|| {
                let token = |token: pb::JwtOffline| JwtOffline {
                    audience: token.audience,
                    ttl: seconds(token.seconds),
                };
                given.jwt_offline.into_iter().map(token).collect()
            }),
            third_party: mask.third_party.then(|| {
                let party = |party: pb::ThirdParty| ThirdParty {
                    sponsor: party.sponsor,
                    contract: party.contract,
                };
                given.third_party.map(party)
            }),
        }),
    }
}

fn seconds(seconds: u32) -> Duration {
    Duration::from_secs(seconds.into())
}

/// As it is on the wire.
pub(crate) fn policy_out(policy: &EntryPolicy) -> pb::EntryPolicy {
    let seconds = |of: Duration| u32::try_from(of.as_secs()).unwrap_or(u32::MAX);
    let token = |token: &JwtOffline| pb::JwtOffline {
        audience: token.audience.clone(),
        seconds: seconds(token.ttl),
    };
    pb::EntryPolicy {
        entry_id: policy.entry_id.clone(),
        description: policy.description.clone(),
        revision: policy.revision,
        offline_reserve_seconds: seconds(policy.reserve),
        privileged: policy.privileged,
        jwt_offline: policy.jwt_offline.iter().map(token).collect(),
        availability_first: policy.availability_first,
        third_party: policy.third_party.as_ref().map(|party| pb::ThirdParty {
            sponsor: party.sponsor.clone(),
            contract: party.contract.clone(),
        }),
    }
}

const AT_ONCE: usize = 500;

#[cfg(test)]
mod tests;

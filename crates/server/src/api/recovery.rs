//! `landfast.recovery.v1.Recovery`: device keys are registered, and people decide.

use landfast_identity::{KeyAlgorithm, PublicKey, RegistrationProof, SpiffeId, UnixTime};
use landfast_lifecycle::recovery::{
    Answer, Claim, Decision, Entered, KeyName, Offer, Question, Recovery as Stands,
};
use landfast_proto::landfast::recovery::v1::{
    self as pb,
    recovery_server::Recovery,
    register_device_key_response::State as Answered,
    request::{Kind, State},
};
use tonic::{Request, Response, Status};

use super::{Api, status};
use crate::authz::Caller;
use crate::endpoints::TlsPeer;
use crate::ledger;
use crate::people::Verb;
use crate::registry::{RecoveryStep, Stepped};

#[tonic::async_trait]
impl Recovery for Api {
    async fn register_device_key(
        &self,
        request: Request<pb::RegisterDeviceKeyRequest>,
    ) -> Result<Response<pb::RegisterDeviceKeyResponse>, Status> {
        let agent = Caller::agent(&request)?;
        let by = Caller::of(&request)?.requester.clone();
        self.attest_limit.charge(&request, 1)?;
        let address = address(&request);
        if self.attestors.device_key.is_none() {
            return Err(Status::failed_precondition(
                "device keys are switched off on this server ([attestation.device_key] in its configuration)",
            ));
        }
        if agent.can_reattest {
            return Err(Status::failed_precondition(
                "this node can attest again as it did at first: it has no use for a device key",
            ));
        }
        self.is_current()?;
        let request = request.into_inner();
        let key = device_key(&agent.id, &request)?;
        let offer = Offer {
            spki: key.spki_der().to_vec(),
            name: key.sha256(),
            address: address.clone(),
            at: self.now()?,
            denied: false,
        };
        let step = RecoveryStep::Register(offer);
        let stepped = self.registry.recover(&agent.id, step).await;
        let (Stepped::Entered(entered), _) = stepped.map_err(|error| status::registry(&error))? else {
            return Err(status::internal("a device key that was not judged as one"));
        };
        let state = match entered {
            Entered::Registered { new } => {
                if new {
                    let record = landfast_audit::Record {
                        subject: Some(agent.id.to_string()),
                        ..ledger::node("node.key-registered")
                    };
                    self.did(&by, record.with("key_sha256", crate::random::hex(&key.sha256())))
                        .await;
                    tracing::info!(agent = %agent.id, %address, "a node has registered its device key");
                }
                Answered::Registered
            }
            Entered::Held { new } => {
                if new {
                    tracing::warn!(
                        agent = %agent.id, %address,
                        "a node wants to register another device key, or one after its first hour: landfast agent pending shows it, \
                         landfast agent approve takes it"
                    );
                }
                Answered::Held
            }
            Entered::Denied => Answered::Denied,
            Entered::MakeAnother => Answered::MakeAnother,
        };
        Ok(Response::new(pb::RegisterDeviceKeyResponse {
            state: state.into(),
        }))
    }

    async fn list_requests(
        &self,
        request: Request<pb::ListRequestsRequest>,
    ) -> Result<Response<pb::ListRequestsResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let size = match usize::try_from(request.page_size) {
            Ok(0) => PAGE,
            Ok(size) => size.min(PAGE),
            Err(_negative) => return Err(Status::invalid_argument("page size must not be negative")),
        };
        let found = self.registry.waiting_recoveries(&request.page_token, size).await;
        let found = found.map_err(|error| status::registry(&error.into()))?;
        let next_page_token = match found.last() {
            Some((last, _)) if found.len() == size => last.to_string(),
            _ => String::new(),
        };
        let requests = found
            .iter()
            .filter(|(id, _)| caller.operator.standing.may(Verb::Read, id))
            .flat_map(|(id, stands)| requests(id, stands))
            .collect();
        Ok(Response::new(pb::ListRequestsResponse {
            requests,
            next_page_token,
        }))
    }

    async fn decide(
        &self,
        request: Request<pb::DecideRequest>,
    ) -> Result<Response<pb::DecideResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let id = SpiffeId::parse(&request.agent_id).ok();
        let id = id.filter(|id| id.is_agent() && *id.trust_domain() == self.trust_domain);
        let id = id.ok_or_else(|| Status::invalid_argument("agent_id is no agent of this trust domain"))?;
        // Whoever asks is a node.
        let person = caller.approves(&id)?;
        let by = &caller.requester;
        let key = KeyName::try_from(&*request.key)
            .map_err(|_cause| Status::invalid_argument("key is not the 32 bytes that name a request"))?;
        let answer = match request.approve {
            true => Answer::Approve,
            false => Answer::Deny,
        };
        let step = RecoveryStep::Decide {
            request: key,
            answer,
            now: self.now()?,
        };
        let stepped = self.registry.recover(&id, step).await;
        match stepped.map_err(|error| status::registry(&error))? {
            (Stepped::Decided(true), _) => {}
            _ => {
                return Err(Status::not_found(
                    "no such request of this agent: list them again",
                ));
            }
        }
        if person.is_none() {
            tracing::warn!(agent = %id, "nobody is named as who has decided: there is no person; landfast person add");
        }
        tracing::warn!(agent = %id, %by, ?answer, request = crate::random::hex(&key), "a person has decided about a node");
        let kind = if request.approve {
            "node.approved"
        } else {
            "node.refused"
        };
        let request = crate::random::hex(&key);
        let decided = landfast_audit::Record {
            approval: Some(request.clone()),
            ..ledger::node(kind).about(&id)
        };
        self.did(by, decided.with("request", request)).await;
        Ok(Response::new(pb::DecideResponse {
            person: person.map(|person| person.to_string()).unwrap_or_default(),
        }))
    }
}

/// From where somebody calls, for people.
pub(super) fn address<T>(request: &Request<T>) -> String {
    let peer = request.extensions().get::<TlsPeer>();
    peer.map_or_else(|| "the admin socket".to_owned(), |peer| peer.ip().to_string())
}

fn device_key(agent: &SpiffeId, request: &pb::RegisterDeviceKeyRequest) -> Result<PublicKey, Status> {
    let key = PublicKey::from_spki_der(&request.public_key).ok();
    let key = key.filter(|key| key.algorithm() == KeyAlgorithm::EcP256);
    let key = key.ok_or_else(|| Status::invalid_argument("public_key is no P-256 key"))?;
    let proof = RegistrationProof {
        agent_id: agent,
        device_key: &key,
    };
    proof
        .verify(&request.signature)
        .map_err(|_bad| Status::invalid_argument("signature is not of this key, or not for this agent"))?;
    Ok(key)
}

fn requests(id: &SpiffeId, stands: &Stands) -> Vec<pb::Request> {
    let heard_at = stands.heard_at.map_or(0, UnixTime::as_secs);
    let of_claim = |claim: &Claim, kind: Kind, state: State, why: String| pb::Request {
        agent_id: id.to_string(),
        kind: kind.into(),
        state: state.into(),
        key: claim.key.to_vec().into(),
        counter: claim.counter,
        address: claim.address.clone(),
        asked_at: claim.at.as_secs(),
        heard_at,
        why,
    };
    let state = |decision: Decision| match decision {
        Decision::Accepted => State::Accepted,
        Decision::Waiting => State::Waiting,
        Decision::Approved => State::Approved,
        Decision::Denied => State::Denied,
    };
    let mut out = Vec::new();
    for question in stands.questions() {
        match question {
            Question::Recovery { claim, decision } => {
                let heard = stands
                    .heard_at
                    .map_or_else(|| "an unknown time".to_owned(), |at| at.to_string());
                let why = match stands.doubted {
                    true => "the registry has gone back since, and with it what was decided about this key: perhaps another has it too".to_owned(),
                    false => format!("it was last heard at {heard}, which is too long ago to come back by itself"),
                };
                out.push(of_claim(&claim, Kind::Recovery, state(decision), why));
            }
            Question::Conflict { first, rival } => {
                let was = stands
                    .last
                    .as_ref()
                    .map_or(Decision::Waiting, |(_, decision)| *decision);
                let why = |other: &Claim| {
                    format!(
                        "another with the same device key asked from {}, so one is a copy",
                        other.address
                    )
                };
                out.push(of_claim(&first, Kind::Conflict, state(was), why(&rival)));
                out.push(of_claim(&rival, Kind::Conflict, State::Waiting, why(&first)));
            }
            Question::Registration(offer) => out.push(pb::Request {
                agent_id: id.to_string(),
                kind: Kind::Registration.into(),
                state: if offer.denied {
                    State::Denied
                } else {
                    State::Waiting
                }
                .into(),
                key: offer.name.to_vec().into(),
                counter: 0,
                address: offer.address,
                asked_at: offer.at.as_secs(),
                heard_at,
                why: match stands.key {
                    Some(_) => "it has a device key already and offers another",
                    None => "it offers its first device key later than an hour after its enrolment",
                }
                .to_owned(),
            }),
        }
    }
    out
}

/// Agents in one answer.
const PAGE: usize = 500;

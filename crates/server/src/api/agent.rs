//! `spire.api.server.agent.v1.Agent`.

mod enter;

use std::pin::Pin;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use landfast_identity::SpiffeId;
use landfast_proto::spire::api::server::agent::v1::{
    self as pb, agent_server::Agent, attest_agent_request as ask, attest_agent_response as answer,
};
use landfast_proto::spire::api::types;
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use tokio::sync::mpsc;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::convert::{agent_id_in, agent_out, x509_out};
use super::page::{Wanted, page};
use super::recovery::address;
use super::svid::csr_in;
use super::{Api, filter, ids, status};
use crate::attestation::{Challenge, Evidence};
use crate::authz::Caller;
use crate::issuance::Requester;
use crate::ledger;
use crate::people::Verb;
use enter::Entry;

#[tonic::async_trait]
impl Agent for Api {
    async fn count_agents(
        &self,
        request: Request<pb::CountAgentsRequest>,
    ) -> Result<Response<pb::CountAgentsResponse>, Status> {
        let wanted = filter::agent_filter(request.into_inner().filter.map(filter::of_agent_count))?;
        let count = filter::count(self.registry.count_agents(&wanted));
        Ok(Response::new(pb::CountAgentsResponse { count }))
    }

    async fn list_agents(
        &self,
        request: Request<pb::ListAgentsRequest>,
    ) -> Result<Response<pb::ListAgentsResponse>, Status> {
        let request = request.into_inner();
        let wanted = filter::agent_filter(request.filter)?;
        let asked = Wanted {
            size: request.page_size,
            token: &request.page_token,
        };
        let (agents, next_page_token) = page(
            asked,
            |size, after| self.registry.list_agents(&wanted, size, after),
            |agent| agent.id.as_str(),
            |agent| agent_out(agent, request.output_mask.as_ref()),
        )?;
        Ok(Response::new(pb::ListAgentsResponse {
            agents,
            next_page_token,
        }))
    }

    async fn get_agent(
        &self,
        request: Request<pb::GetAgentRequest>,
    ) -> Result<Response<types::Agent>, Status> {
        let request = request.into_inner();
        let id = agent_id_in(request.id.as_ref(), &self.trust_domain)?;
        let agent = self
            .registry
            .agent(&id)
            .ok_or_else(|| Status::not_found("agent not found"))?;
        Ok(Response::new(agent_out(&agent, request.output_mask.as_ref())))
    }

    async fn delete_agent(&self, request: Request<pb::DeleteAgentRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = agent_id_in(request.get_ref().id.as_ref(), &self.trust_domain)?;
        caller.may(Verb::Revoke, &id)?;
        let by = &caller.requester;
        if !self
            .registry
            .delete_agent(&id)
            .await
            .map_err(|e| status::registry(&e))?
        {
            return Err(Status::not_found("agent not found"));
        }
        tracing::info!(agent = %id, %by, "evicted an agent");
        self.did(by, ledger::node("node.evicted").about(&id)).await;
        Ok(Response::new(()))
    }

    async fn ban_agent(&self, request: Request<pb::BanAgentRequest>) -> Result<Response<()>, Status> {
        let caller = Caller::of(&request)?.clone();
        let id = agent_id_in(request.get_ref().id.as_ref(), &self.trust_domain)?;
        caller.may(Verb::Revoke, &id)?;
        let by = &caller.requester;
        self.registry
            .ban_agent(&id)
            .await
            .map_err(|e| status::registry(&e))?;
        tracing::warn!(agent = %id, %by, "banned an agent");
        self.did(by, ledger::node("node.banned").about(&id)).await;
        Ok(Response::new(()))
    }

    type AttestAgentStream = Pin<Box<dyn Stream<Item = Result<pb::AttestAgentResponse, Status>> + Send>>;

    async fn attest_agent(
        &self,
        request: Request<Streaming<pb::AttestAgentRequest>>,
    ) -> Result<Response<Self::AttestAgentStream>, Status> {
        self.attest_limit.charge(&request, 1)?;
        let address = address(&request);
        let (ask, asked) = mpsc::channel(1);
        let api = self.clone();
        let mut node = Node {
            questions: ask,
            answers: request.into_inner(),
        };
        let work = async move {
            match tokio::time::timeout(PATIENCE, api.attest(&mut node, address)).await {
                Ok(outcome) => outcome,
                Err(_elapsed) => Err(Status::deadline_exceeded("the attestation took too long")),
            }
        };
        // Questions come out while the work goes on; when it is done it drops its end, and the result is the last message.
        let questions = ReceiverStream::new(asked).map(Ok);
        Ok(Response::new(Box::pin(stream::select(
            questions,
            stream::once(work),
        ))))
    }

    async fn renew_agent(
        &self,
        request: Request<pb::RenewAgentRequest>,
    ) -> Result<Response<pb::RenewAgentResponse>, Status> {
        let who = Caller::of(&request)?.requester.clone();
        let agent = Caller::agent(&request)?;
        self.sign_limit.charge(&request, 1)?;
        if agent.can_reattest {
            let message = "agent must reattest instead of renew".to_owned();
            return Err(status::with_reason(message, Reason::AgentMustReattest));
        }
        let turn = self.admission.turn_by(&agent.id, agent.not_after).await;
        let _turn = turn.inspect_err(|_refused| self.sign_limit.give_back(&request, 1))?;
        self.is_current()
            .inspect_err(|_stale| self.sign_limit.give_back(&request, 1))?;
        let params = request
            .into_inner()
            .params
            .ok_or_else(|| Status::invalid_argument("missing parameters"))?;
        let csr = csr_in(&params.csr)?;
        let issued = self
            .issuer
            .agent_svid(&who, &agent.id, csr.public_key())
            .await
            .map_err(|e| status::issue(&e))?;
        let staged = self
            .registry
            .stage_renewal(&agent.id, &issued.serial_hex(), issued.not_after)
            .await;
        staged.map_err(|e| status::registry(&e))?;
        tracing::info!(agent = %agent.id, serial = issued.serial_hex(), "renewed an agent's SVID");
        Ok(Response::new(pb::RenewAgentResponse {
            svid: Some(x509_out(&issued, "")),
        }))
    }

    async fn create_join_token(
        &self,
        request: Request<pb::CreateJoinTokenRequest>,
    ) -> Result<Response<types::JoinToken>, Status> {
        let caller = Caller::of(&request)?.clone();
        let by = &caller.requester;
        let request = request.into_inner();
        let ttl = u64::try_from(request.ttl).ok().filter(|ttl| *ttl >= 1);
        let ttl = ttl.ok_or_else(|| Status::invalid_argument("ttl is required, you must provide one"))?;
        let alias = request
            .agent_id
            .as_ref()
            .map(|id| ids::workload(Some(id), &self.trust_domain))
            .transpose()
            .map_err(|why| ids::refused("invalid agent ID", &why))?;
        // Whoever has a token becomes a node of an ID below this one, and has what hangs under the alias.
        let nodes = SpiffeId::from_parts(&self.trust_domain, "/spire/agent/join_token/any");
        let nodes = nodes.map_err(|error| status::internal(&error.to_string()))?;
        for id in std::iter::once(&nodes).chain(&alias) {
            caller.may(Verb::Enrol, id)?;
        }
        let token = Some(request.token).filter(|token| !token.is_empty());
        let now = self.now()?;
        let made = self
            .registry
            .create_join_token(token, Duration::from_secs(ttl), alias, now)
            .await;
        let made = made.map_err(|e| status::registry(&e))?;
        // The token itself is a secret until it has been redeemed.
        tracing::info!(%by, expires_at = %made.expires_at, "made a join token");
        let token = ledger::node("token.made").with("expires_at", made.expires_at);
        self.did(by, token).await;
        Ok(Response::new(types::JoinToken {
            value: made.value,
            expires_at: made.expires_at.as_secs(),
        }))
    }

    async fn post_status(
        &self,
        request: Request<pb::PostStatusRequest>,
    ) -> Result<Response<pb::PostStatusResponse>, Status> {
        let agent = Caller::agent(&request)?;
        // Each change is a commit that issuance waits behind. A version that comes too often is dropped; but who believes that we know which bundle it
        // has does not say so again, and the next authority would wait for it.
        if let Err(refused) = self.status_limit.charge(&request, 1) {
            return match request.get_ref().current_bundle_serial {
                0 => Ok(Response::new(pb::PostStatusResponse {})),
                _ => Err(refused),
            };
        }
        let pb::PostStatusRequest {
            agent_version: version,
            current_bundle_serial: sequence,
            ..
        } = request.into_inner();
        // Also where there are no reserves, or none any more: tomorrow's authority may have to know.
        if sequence > 0 {
            let known = self.datastore.acknowledge(agent.id.clone(), sequence).await;
            known.map_err(|error| status::registry(&error.into()))?;
        }
        if version.is_empty() {
            return Ok(Response::new(pb::PostStatusResponse {}));
        }
        if version.len() > MAX_VERSION {
            return Err(Status::invalid_argument(format!(
                "agent version is too long (max {MAX_VERSION} characters)"
            )));
        }
        self.registry
            .set_agent_version(&agent.id, &version)
            .await
            .map_err(|e| status::registry(&e))?;
        Ok(Response::new(pb::PostStatusResponse {}))
    }
}

impl Api {
    pub(super) fn now(&self) -> Result<landfast_identity::UnixTime, Status> {
        self.clock
            .now()
            .ok_or_else(|| Status::unavailable("the clock of the server shows no time"))
    }

    /// Whoever is answered from what may be old may be given what was taken from it.
    pub(super) fn is_current(&self) -> Result<(), Status> {
        self.authorities.current().map_err(|error| status::stale(&error))
    }

    async fn attest(&self, node: &mut Node, address: String) -> Result<pb::AttestAgentResponse, Status> {
        let params = match node.next().await? {
            ask::Step::Params(params) => params,
            ask::Step::ChallengeResponse(_) => return Err(Status::invalid_argument("missing params")),
        };
        let data = params
            .data
            .ok_or_else(|| Status::invalid_argument("malformed param: missing attestation data"))?;
        if data.r#type.is_empty() {
            return Err(Status::invalid_argument(
                "malformed param: missing attestation data type",
            ));
        }
        let csr = params.params.map(|params| params.csr).unwrap_or_default();
        let csr = csr_in(&csr)?;
        // Before a token is redeemed for nothing, and a ban overlooked.
        self.is_current()?;
        let evidence = Evidence {
            payload: &data.payload,
            key: csr.public_key(),
            trust_domain: &self.trust_domain,
            now: self.now()?,
            address: address.clone(),
        };
        let attested = self
            .attestors
            .attest(&data.r#type, &evidence, &self.registry, node)
            .await
            .inspect_err(|refused| {
                metrics::counter!("landfast_server_attestations_total", "result" => "refused").increment(1);
                tracing::warn!(reason = refused.message(), "a node was refused");
                self.failed(&address, refused.message());
            })?;
        if self
            .registry
            .agent(&attested.agent_id)
            .is_some_and(|agent| agent.is_banned())
        {
            let refused = status::registry(&crate::registry::RegistryError::Banned);
            self.failed(&address, refused.message());
            return Err(refused);
        }
        let _turn = self.admission.certain_turn(&attested.agent_id).await?;
        self.is_current()?;
        // Known by now: the attestors above take no other names.
        let who = Requester::attestation(data.r#type.as_str()).under(attested.approval.clone());
        let issued = self
            .issuer
            .agent_svid(&who, &attested.agent_id, csr.public_key())
            .await;
        let issued = issued.map_err(|e| status::issue(&e))?;
        let can_reattest = attested.can_reattest;
        let entry = Entry {
            attested,
            method: &data.r#type,
            issued: &issued,
            key: csr.public_key(),
        };
        self.enter(entry, who).await?;
        metrics::counter!("landfast_server_attestations_total", "result" => "ok").increment(1);
        tracing::info!(agent = %issued.id, method = data.r#type, serial = issued.serial_hex(), "attested a node");
        let result = answer::Result {
            svid: Some(x509_out(&issued, "")),
            reattestable: can_reattest,
        };
        Ok(pb::AttestAgentResponse {
            step: Some(answer::Step::Result(result)),
        })
    }
}

/// The other end of an attestation.
struct Node {
    questions: mpsc::Sender<pb::AttestAgentResponse>,
    answers: Streaming<pb::AttestAgentRequest>,
}

impl Node {
    async fn next(&mut self) -> Result<ask::Step, Status> {
        let message = self.answers.message().await?;
        message
            .and_then(|message| message.step)
            .ok_or_else(|| Status::invalid_argument("missing params"))
    }
}

#[tonic::async_trait]
impl Challenge for Node {
    async fn ask(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, Status> {
        let question = pb::AttestAgentResponse {
            step: Some(answer::Step::Challenge(challenge.into())),
        };
        let gone = |_closed| Status::cancelled("the node has gone");
        self.questions.send(question).await.map_err(gone)?;
        match self.next().await? {
            ask::Step::ChallengeResponse(response) => Ok(response.to_vec()),
            ask::Step::Params(_) => Err(Status::invalid_argument("expecting challenge response")),
        }
    }
}

const MAX_VERSION: usize = 255;
/// A whole attestation.
const PATIENCE: Duration = Duration::from_secs(30);

//! How the node gets its own SVID: attestation, and renewal of what attestation gave.
//!
//! Invariant: the key is on disk before the server hears of it, and the answer before anybody uses it (T-13).

use std::sync::Arc;

use landfast_identity::{PrivateKey, TrustDomain, X509Svid, build_csr};
use landfast_proto::spire::api::server::agent::v1 as agent_api;
use landfast_proto::spire::api::types;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;

use super::evidence::Ready;
use super::failure::LinkError;
use super::issue::svid_from;
use super::rpc;

/// The server's answer to a successful attestation.
pub(crate) struct Attested {
    pub(crate) svid: X509Svid,
    pub(crate) reattestable: bool,
}

/// Attests over a connection without a client certificate.
pub(crate) async fn attest(
    channel: Channel,
    kind: &'static str,
    evidence: &Ready,
    key: Arc<PrivateKey>,
    trust_domain: &TrustDomain,
) -> Result<Attested, LinkError> {
    use agent_api::attest_agent_request::{Params, Step};
    use agent_api::attest_agent_response::Step as Answer;
    let csr = build_csr(&key, None, &[]).map_err(|_cause| LinkError::Key)?;
    let params = Params {
        data: Some(types::AttestationData {
            r#type: kind.to_owned(),
            payload: evidence.payload().into(),
        }),
        params: Some(agent_api::AgentX509svidParams { csr: csr.into() }),
    };
    let (requests, outbound) = mpsc::channel(2);
    let first = agent_api::AttestAgentRequest {
        step: Some(Step::Params(params)),
    };
    requests.send(first).await.map_err(|_cause| LinkError::Stopping)?;
    let mut client = agent_api::agent_client::AgentClient::new(channel);
    let mut stream = rpc::call(ATTEST, client.attest_agent(ReceiverStream::new(outbound))).await?;
    for _ in 0..MAX_STEPS {
        let answer = rpc::message(ATTEST, &mut stream).await?;
        match answer.and_then(|answer| answer.step) {
            Some(Answer::Challenge(challenge)) => {
                let answer = evidence.answer(&challenge).map_err(LinkError::Evidence)?;
                let answer = agent_api::AttestAgentRequest {
                    step: Some(Step::ChallengeResponse(answer.into())),
                };
                requests
                    .send(answer)
                    .await
                    .map_err(|_cause| LinkError::protocol(ATTEST, "the stream ended early"))?;
            }
            Some(Answer::Result(result)) => {
                let svid = agent_svid(ATTEST, result.svid.as_ref(), key, trust_domain)?;
                return Ok(Attested {
                    svid,
                    reattestable: result.reattestable,
                });
            }
            None => return Err(LinkError::protocol(ATTEST, "the stream ended early")),
        }
    }
    Err(LinkError::protocol(
        ATTEST,
        format!("more than {MAX_STEPS} challenges"),
    ))
}

/// Exchanges the node's SVID for a new one, over a connection that shows the present one.
pub(crate) async fn renew(
    channel: Channel,
    key: Arc<PrivateKey>,
    trust_domain: &TrustDomain,
) -> Result<X509Svid, LinkError> {
    let csr = build_csr(&key, None, &[]).map_err(|_cause| LinkError::Key)?;
    let params = Some(agent_api::AgentX509svidParams { csr: csr.into() });
    let mut client = agent_api::agent_client::AgentClient::new(channel);
    let answer = rpc::call(RENEW, client.renew_agent(agent_api::RenewAgentRequest { params })).await?;
    agent_svid(RENEW, answer.svid.as_ref(), key, trust_domain)
}

/// Tells the server what we are, and which bundle we hold (0: not said).
pub(crate) async fn post_status(channel: Channel, bundle: u64) -> Result<(), LinkError> {
    let mut client = agent_api::agent_client::AgentClient::new(channel);
    let request = agent_api::PostStatusRequest {
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        current_bundle_serial: bundle,
    };
    let posted = rpc::call("PostStatus", client.post_status(request)).await;
    if let Err(error) = &posted {
        tracing::debug!(
            error = landfast_daemon::error_chain(error),
            "the server did not take our status"
        );
    }
    posted.map(|_| ())
}

fn agent_svid(
    method: &'static str,
    wire: Option<&types::X509svid>,
    key: Arc<PrivateKey>,
    trust_domain: &TrustDomain,
) -> Result<X509Svid, LinkError> {
    let wire = wire.ok_or_else(|| LinkError::protocol(method, "it holds no SVID"))?;
    let svid = svid_from(wire, key).map_err(|what| LinkError::protocol(method, what))?;
    if svid.id().trust_domain() != trust_domain || !svid.id().is_agent() {
        return Err(LinkError::protocol(
            method,
            format!("{} is not an agent's ID of this trust domain", svid.id()),
        ));
    }
    Ok(svid)
}

pub(super) const ATTEST: &str = "AttestAgent";
pub(super) const RENEW: &str = "RenewAgent";
/// Messages of one attestation; known methods need two.
const MAX_STEPS: usize = 8;

//! `device_key`: a node that was in before comes back, by the key that it registered then (ADR 28).
//!
//! Wire: `landfast.recovery.v1` Claim, then a Challenge with a nonce, answered with a Proof. Invariant: who has not signed this server's nonce with
//! the registered key, for this very CSR key and counter, learns nothing of the node, moves no counter and locks nothing.

use std::time::Duration;

use landfast_identity::{PublicKey, RecoveryProof, SpiffeId};
use landfast_lifecycle::recovery::{self, Recovery, Verdict};
use landfast_proto::landfast::recovery::v1::{self as pb, refusal::Reason};
use prost::Message as _;
use tonic::Status;

use super::{Attested, Challenge, Evidence};
use crate::api::status;
use crate::random;
use crate::registry::{RecoveryStep, Registry, Stepped};
use crate::turns::Turns;

/// Attests nodes that were in before.
pub(crate) struct DeviceKey {
    /// How long a node may have been silent and still come back by itself.
    automatic: Duration,
    /// Whoever asks has shown nothing.
    lookups: Turns,
}

impl DeviceKey {
    pub(crate) fn new(automatic: Duration) -> Self {
        // There from the start: who watches them sees the first one grow.
        for result in ["accepted", "held", "locked", "denied", "unknown"] {
            metrics::counter!("landfast_server_recoveries_total", "result" => result).increment(0);
        }
        Self {
            automatic,
            lookups: Turns::new(),
        }
    }

    pub(super) async fn attest(
        &self,
        evidence: &Evidence<'_>,
        registry: &Registry,
        challenge: &mut dyn Challenge,
    ) -> Result<Attested, Status> {
        let claimed = pb::Claim::decode(evidence.payload).map_err(|_cause| malformed())?;
        let agent_id = SpiffeId::parse(&claimed.agent_id).map_err(|_cause| malformed())?;
        if agent_id.trust_domain() != evidence.trust_domain || !agent_id.is_agent() {
            return Err(malformed());
        }
        let known = {
            let turn = self.lookups.take(&evidence.address).await;
            let Some(_turn) = turn else {
                return Err(Status::resource_exhausted(
                    "many nodes want to come back: come again in a while",
                ));
            };
            registry.device_key(&agent_id).await
        };
        let known = known.map_err(|error| status::registry(&error.into()))?;
        let (known, approved) = known.unzip();
        let device_key = prove(known, &agent_id, claimed.counter, evidence, challenge).await?;
        let claim = recovery::Claim {
            counter: claimed.counter,
            key: evidence.key.sha256(),
            address: evidence.address.clone(),
            at: evidence.now,
        };
        let step = RecoveryStep::Claim {
            proved: device_key.sha256(),
            claim: claim.clone(),
            automatic: self.automatic,
        };
        // What follows is said to the holder of the key alone.
        let (stepped, recovery) = registry
            .recover(&agent_id, step)
            .await
            .map_err(|error| status::registry(&error))?;
        let Stepped::Claimed(verdict) = stepped else {
            return Err(status::internal("a claim that was not judged as one"));
        };
        tell(&agent_id, &claim, verdict, &recovery);
        match verdict {
            Verdict::Accepted { .. } => {}
            Verdict::Unknown => return Err(unknown()),
            Verdict::Held { .. } => return Err(refused(Reason::Held, HELD)),
            Verdict::Locked { .. } => return Err(refused(Reason::Locked, LOCKED)),
            Verdict::Denied => return Err(refused(Reason::Denied, DENIED)),
        }
        let agent = registry.agent(&agent_id).ok_or_else(unknown)?;
        Ok(Attested {
            agent_id,
            selectors: agent.selectors.clone(),
            can_reattest: agent.can_reattest,
            returned: Some(agent.attestation_type.clone()),
            // It has shown that the request is its own.
            approval: approved
                .flatten()
                .filter(|of| *of == claim.key)
                .map(|of| random::hex(&of)),
        })
    }
}

/// The node holds the key that is registered for it. Without one a stranger is asked and refused in the same way: who has a device key is nobody's
/// business.
async fn prove(
    known: Option<PublicKey>,
    agent_id: &SpiffeId,
    counter: u64,
    evidence: &Evidence<'_>,
    challenge: &mut dyn Challenge,
) -> Result<PublicKey, Status> {
    let nonce: [u8; 32] = random::bytes().ok_or_else(|| status::internal("the random source failed"))?;
    let asked = pb::Challenge {
        nonce: nonce.to_vec().into(),
    };
    let answer = challenge.ask(asked.encode_to_vec()).await?;
    if answer.len() > MAX_ANSWER {
        return Err(malformed());
    }
    let answer = pb::Proof::decode(answer.as_slice()).map_err(|_cause| malformed())?;
    let proof = RecoveryProof {
        agent_id,
        nonce: &nonce,
        csr_key: evidence.key,
        counter,
    };
    match known {
        Some(key) if proof.verify(&key, &answer.signature).is_ok() => Ok(key),
        _ => Err(unknown()),
    }
}

/// Each once, as loud as it deserves.
fn tell(agent: &SpiffeId, claim: &recovery::Claim, verdict: Verdict, stands: &Recovery) {
    let (counter, address) = (claim.counter, claim.address.as_str());
    let result = match verdict {
        Verdict::Accepted { again } => {
            tracing::info!(%agent, counter, address, again, "a node comes back by its device key");
            "accepted"
        }
        Verdict::Held { new } => {
            if new {
                let heard = stands.heard_at.map(|at| at.to_string()).unwrap_or_default();
                tracing::warn!(
                    %agent, counter, address, last_heard = heard,
                    "a node that was silent for long wants to come back: landfast agent pending shows it, landfast agent approve lets it in"
                );
            }
            "held"
        }
        Verdict::Locked { new } => {
            if new && let (Some((first, _)), Some(rival)) = (&stands.last, &stands.rival) {
                tracing::error!(
                    %agent,
                    first_address = first.address, first_counter = first.counter, first_at = %first.at,
                    second_address = rival.address, second_counter = rival.counter, second_at = %rival.at,
                    "two nodes have the same device key: one is a copy of the other. Neither comes back by it until a person has chosen \
                     (landfast agent pending); valid SVIDs go on"
                );
            }
            "locked"
        }
        Verdict::Denied => "denied",
        Verdict::Unknown => "unknown",
    };
    metrics::counter!("landfast_server_recoveries_total", "result" => result).increment(1);
}

fn refused(reason: Reason, text: &str) -> Status {
    status::with_refusal(format!("failed to attest: {text}"), reason)
}

fn unknown() -> Status {
    refused(Reason::Unknown, UNKNOWN)
}

fn malformed() -> Status {
    Status::invalid_argument("failed to attest: malformed device key claim")
}

const UNKNOWN: &str =
    "no such device key is registered for this agent; attest as at first, with a new join token";
const HELD: &str =
    "this node was silent for long: a person has to let it in (on the server: landfast agent pending)";
const LOCKED: &str = "two nodes have used this device key: a person has to choose between them (on the server: landfast agent pending)";
const DENIED: &str = "a person has refused this node's return (on the server: landfast agent pending)";
const MAX_ANSWER: usize = 1024;

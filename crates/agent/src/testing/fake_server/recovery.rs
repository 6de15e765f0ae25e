//! Device keys, as a server of ours takes them.

use landfast_identity::{RecoveryProof, RegistrationProof};
use landfast_proto::landfast::recovery::v1 as wire;
use prost::Message as _;
pub(super) use wire::recovery_server::RecoveryServer;
pub(crate) use wire::register_device_key_response::State;

use super::*;

pub(super) fn claim(data: &types::AttestationData) -> Option<wire::Claim> {
    (data.r#type == "device_key").then(|| wire::Claim::decode(&*data.payload).unwrap())
}

pub(super) fn challenge(nonce: [u8; 32]) -> Vec<u8> {
    wire::Challenge {
        nonce: nonce.to_vec().into(),
    }
    .encode_to_vec()
}

/// As our server refuses a node that comes back.
pub(crate) fn refusal(reason: wire::refusal::Reason, text: &str) -> Status {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Any {
        #[prost(string, tag = "1")]
        type_url: String,
        #[prost(bytes = "vec", tag = "2")]
        value: Vec<u8>,
    }
    #[derive(Clone, PartialEq, prost::Message)]
    struct RpcStatus {
        #[prost(message, repeated, tag = "3")]
        details: Vec<Any>,
    }
    let refusal = wire::Refusal {
        reason: reason.into(),
    };
    let details = vec![Any {
        type_url: "type.googleapis.com/landfast.recovery.v1.Refusal".to_owned(),
        value: refusal.encode_to_vec(),
    }];
    let details = RpcStatus { details }.encode_to_vec();
    Status::with_details(Code::FailedPrecondition, text, details.into())
}

impl FakeServer {
    /// Whoever signed with the newest key.
    pub(super) fn prove(
        &self,
        claim: &wire::Claim,
        nonce: &[u8; 32],
        csr: &[u8],
        answer: &[u8],
    ) -> Result<(), Status> {
        let csr_key = Csr::parse_der(csr).unwrap().public_key().clone();
        let mut script = self.script();
        let proof = RecoveryProof {
            agent_id: &SpiffeId::parse(&claim.agent_id).unwrap(),
            nonce,
            csr_key: &csr_key,
            counter: claim.counter,
        };
        let signature = wire::Proof::decode(answer).unwrap().signature;
        let unknown = || refusal(wire::refusal::Reason::Unknown, "no such device key");
        let key = script.device_keys.last().cloned().ok_or_else(unknown)?;
        proof.verify(&key, &signature).unwrap();
        script.claims.push((claim.counter, csr_key));
        Ok(())
    }
}

#[tonic::async_trait]
impl wire::recovery_server::Recovery for FakeServer {
    async fn register_device_key(
        &self,
        request: Request<wire::RegisterDeviceKeyRequest>,
    ) -> Result<Response<wire::RegisterDeviceKeyResponse>, Status> {
        self.called("RegisterDeviceKey", &request, true)?;
        let Some(state) = self.script().device_key else {
            return Err(Status::unimplemented(""));
        };
        let request = request.into_inner();
        let key = PublicKey::from_spki_der(&request.public_key).unwrap();
        let agent_id = SpiffeId::agent(&td(), "join_token", "node-1").unwrap();
        let proof = RegistrationProof {
            agent_id: &agent_id,
            device_key: &key,
        };
        proof.verify(&request.signature).unwrap();
        let mut script = self.script();
        let known = script.device_keys.last() == Some(&key);
        let state = match state {
            State::MakeAnother if !known => State::Registered,
            state => state,
        };
        if state == State::Registered && !known {
            script.device_keys.push(key);
        }
        Ok(Response::new(wire::RegisterDeviceKeyResponse {
            state: state.into(),
        }))
    }

    async fn list_requests(
        &self,
        _: Request<wire::ListRequestsRequest>,
    ) -> Result<Response<wire::ListRequestsResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }

    async fn decide(
        &self,
        _: Request<wire::DecideRequest>,
    ) -> Result<Response<wire::DecideResponse>, Status> {
        Err(Status::unimplemented("not scripted"))
    }
}

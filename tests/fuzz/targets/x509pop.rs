//! The messages of `x509pop`: any payload, any answer to the challenge. Whoever is let in has shown the one device there is, and signed the
//! server's nonce with its key.
//!
//! Input: a byte that says who answers the challenge and how; then the payload, a zero byte, and the answer.
#![no_main]

use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_fuzz::fixed::{NOW, device, device_key, key};
use landfast_fuzz::plant::{Caller, DOMAIN, Plant, with};
use landfast_fuzz::raw::blames_the_server;
use landfast_identity::{DeviceKey, build_csr, verify_x509_svid};
use landfast_proto::spire::api::server::agent::v1::{
    self as agent, agent_client::AgentClient, attest_agent_request as ask, attest_agent_response as answer,
};
use landfast_proto::spire::api::types;
use libfuzzer_sys::fuzz_target;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

struct Known {
    key: DeviceKey,
    certificate: Vec<u8>,
    fingerprint: String,
    csr: Vec<u8>,
}

/// How the input wants the challenge answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// As the input says.
    Raw,
    /// Honestly.
    Honest,
    /// Honestly, with the input's bytes laid over the signed nonce, the signature or the JSON.
    Bent,
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    let mode = [Mode::Raw, Mode::Honest, Mode::Bent][usize::from(*mode) % 3];
    let mut parts = rest.splitn(2, |byte| *byte == 0);
    let payload = parts.next().unwrap_or_default();
    let bend = parts.next().unwrap_or_default();
    with(false, 5_000, |plant| {
        let mut bent = false;
        let outcome = plant.block_on(attest(plant, payload, |challenge| {
            let (answer, changed) = respond(mode, challenge, bend);
            bent = changed;
            answer
        }));
        judge(plant, payload, mode, bent, outcome);
        false
    });
});

fn judge(plant: &Plant, payload: &[u8], mode: Mode, bent: bool, outcome: Result<types::X509svid, Status>) {
    let svid = match outcome {
        Ok(svid) => svid,
        Err(status) => {
            assert!(!blames_the_server(&status), "{status:?}");
            assert!(
                payload != honest_payload() || mode != Mode::Honest,
                "an honest device was refused: {status:?}"
            );
            return;
        }
    };
    assert!(mode != Mode::Raw && !bent, "let in without the key");
    let shown: Value = serde_json::from_slice(payload).expect("let in, but no JSON");
    let leaf = shown["certificates"][0]
        .as_str()
        .and_then(|text| BASE64.decode(text).ok());
    assert_eq!(
        leaf.as_deref(),
        Some(&known().certificate[..]),
        "let in with another certificate"
    );
    let chain: Vec<&[u8]> = svid.cert_chain.iter().map(AsRef::as_ref).collect();
    let peer = verify_x509_svid(&chain, &plant.bundles(), NOW).expect("an SVID that verifies");
    assert_eq!(
        peer.id.as_str(),
        format!("spiffe://{DOMAIN}/spire/agent/x509pop/{}", known().fingerprint)
    );
    assert_eq!(*peer.leaf.public_key(), key().public_key());
}

async fn attest(
    plant: &Plant,
    payload: &[u8],
    respond: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Result<types::X509svid, Status> {
    let (send, receive) = mpsc::channel(2);
    let params = ask::Params {
        data: Some(types::AttestationData {
            r#type: "x509pop".to_owned(),
            payload: payload.to_vec().into(),
        }),
        params: Some(agent::AgentX509svidParams {
            csr: known().csr.clone().into(),
        }),
    };
    let step = |step| agent::AttestAgentRequest { step: Some(step) };
    drop(send.send(step(ask::Step::Params(params))).await);
    let outgoing = ReceiverStream::new(receive);
    let mut answers = AgentClient::new(plant.channel(Caller::Operator))
        .attest_agent(outgoing)
        .await?
        .into_inner();
    let mut respond = Some(respond);
    let talk = async {
        loop {
            match answers.message().await?.and_then(|message| message.step) {
                Some(answer::Step::Challenge(challenge)) => {
                    let respond = respond.take().expect("challenged twice");
                    let response = ask::Step::ChallengeResponse(respond(&challenge).into());
                    drop(send.send(step(response)).await);
                }
                Some(answer::Step::Result(result)) => return Ok(result.svid.expect("an SVID")),
                None => return Err(Status::aborted("the stream ended without a result")),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), talk)
        .await
        .expect("no answer")
}

/// The answer, and whether it is another than the honest one.
fn respond(mode: Mode, challenge: &[u8], bend: &[u8]) -> (Vec<u8>, bool) {
    if mode == Mode::Raw {
        return (bend.to_vec(), true);
    }
    let challenge: Value = serde_json::from_slice(challenge).expect("a challenge");
    let theirs = challenge["ecdsa_signature"]["nonce"].as_str().expect("a nonce");
    let theirs = BASE64.decode(theirs).expect("a nonce");
    assert_eq!(theirs.len(), 32);
    let ours = [9; 32];
    let mut signed = [&theirs[..], &ours].concat();
    let mut bent = false;
    if mode == Mode::Bent {
        for (at, byte) in bend.iter().take(signed.len()).enumerate() {
            bent |= *byte != 0;
            signed[at] ^= byte;
        }
    }
    let mut signature = known().key.sign(&signed).expect("a signature");
    if mode == Mode::Bent {
        for (at, byte) in bend.iter().skip(signed.len()).take(signature.len()).enumerate() {
            bent |= *byte != 0;
            signature[at] ^= byte;
        }
    }
    let (r, s) = signature.split_at(32);
    let b64 = |bytes: &[u8]| BASE64.encode(bytes);
    let answer = json!({ "ecdsa_signature": { "nonce": b64(&ours), "r": b64(r), "s": b64(s) } });
    (answer.to_string().into_bytes(), bent)
}

fn honest_payload() -> &'static [u8] {
    static PAYLOAD: OnceLock<Vec<u8>> = OnceLock::new();
    PAYLOAD.get_or_init(|| {
        json!({ "certificates": [BASE64.encode(&known().certificate)] })
            .to_string()
            .into_bytes()
    })
}

fn known() -> &'static Known {
    static KNOWN: OnceLock<Known> = OnceLock::new();
    KNOWN.get_or_init(|| {
        let (device, _) = device();
        let hex = |byte: &u8| format!("{byte:02x}");
        Known {
            key: device_key(),
            fingerprint: device.fingerprint_sha1().iter().map(hex).collect(),
            certificate: device.as_der().to_vec(),
            csr: build_csr(&key(), None, &[]).expect("a request"),
        }
    })
}

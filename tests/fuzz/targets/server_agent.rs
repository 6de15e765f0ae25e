//! SPIRE's API as the network calls it: agents, a workload, a stranger, an administrator. Nobody gets an SVID, a token or an entry that is
//! not theirs, whatever they send; who may call what is judged for every call.
//!
//! Input: calls, as `calls::parse` has them.
#![no_main]

use bytes::Bytes;
use landfast_fuzz::calls;
use landfast_fuzz::fixed::NOW;
use landfast_fuzz::plant::{Caller, DOMAIN, Method, Plant, streams, with};
use landfast_identity::{Csr, jwt, verify_x509_svid};
use landfast_proto::spire::api::server::{agent::v1 as agent, entry::v1 as entry, svid::v1 as svid};
use landfast_proto::spire::api::types;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    with(true, 10_000, |plant| {
        let mut changed = false;
        for (caller, method, messages) in streams(&calls::parse(data), &CALLERS) {
            let asked = messages.clone();
            let Some(answer) = plant.call(caller, method, messages) else {
                // A connection ended: the next plant has new ones.
                return true;
            };
            changed |= method.changes && answer.refused.is_none() && caller == Caller::Admin;
            for message in &answer.messages {
                theirs_alone(plant, caller, method, &asked, message);
            }
            if changed {
                break;
            }
        }
        changed
    });
});

fn theirs_alone(plant: &Plant, caller: Caller, method: &Method, asked: &[Bytes], message: &[u8]) {
    let name = method.path.rsplit('/').next().unwrap_or_default();
    match name {
        "BatchNewX509SVID" => {
            let answer = svid::BatchNewX509svidResponse::decode(message).expect("an answer");
            let request = svid::BatchNewX509svidRequest::decode(&asked[0][..]).expect("a request");
            assert_eq!(answer.results.len(), request.params.len());
            for (one, wanted) in answer.results.iter().zip(&request.params) {
                if let Some(made) = &one.svid {
                    let known = caller.entries().iter().find(|(id, _)| *id == wanted.entry_id);
                    let (_, path) = known.expect("an SVID of somebody else's entry");
                    certificate(plant, made, path, &wanted.csr);
                }
            }
        }
        "NewJWTSVID" => {
            let answer = svid::NewJwtsvidResponse::decode(message).expect("an answer");
            let request = svid::NewJwtsvidRequest::decode(&asked[0][..]).expect("a request");
            let token = answer.svid.expect("a token").token;
            let valid = jwt::verify(&token, &plant.bundles(), &request.audience[0], NOW);
            let id = valid.expect("a token that verifies").id().clone();
            let known = caller.entries().iter().find(|(id, _)| *id == request.entry_id);
            assert_eq!(known.map(|(_, path)| *path), Some(id.path()));
        }
        "RenewAgent" => {
            let answer = agent::RenewAgentResponse::decode(message).expect("an answer");
            let request = agent::RenewAgentRequest::decode(&asked[0][..]).expect("a request");
            let csr = request.params.expect("renewed without parameters").csr;
            let path = caller.agent_path().expect("renewed, but no agent");
            certificate(plant, &answer.svid.expect("an SVID"), path, &csr);
        }
        "AttestAgent" => {
            let answer = agent::AttestAgentResponse::decode(message).expect("an answer");
            assert!(
                !matches!(answer.step, Some(agent::attest_agent_response::Step::Result(_))),
                "attested without a token or a key"
            );
        }
        "GetAuthorizedEntries" => {
            let answer = entry::GetAuthorizedEntriesResponse::decode(message).expect("an answer");
            entries(caller, &answer.entries);
        }
        "SyncAuthorizedEntries" => {
            let answer = entry::SyncAuthorizedEntriesResponse::decode(message).expect("an answer");
            entries(caller, &answer.entries);
            let own = |id: &str| caller.entries().iter().any(|(known, _)| *known == id);
            assert!(answer.entry_revisions.iter().all(|one| own(&one.id)));
        }
        _ => {}
    }
}

fn certificate(plant: &Plant, made: &types::X509svid, path: &str, csr: &[u8]) {
    let chain: Vec<&[u8]> = made.cert_chain.iter().map(AsRef::as_ref).collect();
    let peer = verify_x509_svid(&chain, &plant.bundles(), NOW).expect("an SVID that verifies");
    assert_eq!(peer.id.as_str(), format!("spiffe://{DOMAIN}{path}"));
    let csr = Csr::parse_der(csr).expect("answered, but no request");
    assert_eq!(peer.leaf.public_key(), csr.public_key());
    assert!(!peer.leaf.is_ca());
}

fn entries(caller: Caller, seen: &[types::Entry]) {
    for one in seen {
        let own = caller.entries().iter().any(|(id, _)| *id == one.id);
        assert!(own, "{caller:?} sees {one:?}");
    }
}

const CALLERS: [Caller; 5] = [
    Caller::AgentA,
    Caller::AgentB,
    Caller::Stranger,
    Caller::Workload,
    Caller::Admin,
];

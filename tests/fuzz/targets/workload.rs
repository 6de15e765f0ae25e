//! The Workload API: every request message to every method, with and without the header, from a caller that has identities and from one
//! that has none. And the agent's admin socket, which tells how it is and looks at the process of a number that it is given.
//!
//! Input: a byte that picks caller and header, a byte that picks the method, and the message.
#![no_main]

use bytes::Bytes;
use landfast_fuzz::fixed::{NOW, jwt_bundles};
use landfast_fuzz::workload::{PATHS, Workloads, with};
use landfast_fuzz::{agent, raw};
use landfast_identity::jwt;
use landfast_proto::landfast::agent::v1 as admin;
use landfast_proto::workload as pb;
use libfuzzer_sys::fuzz_target;
use prost::Message;
use tonic::Code;
use tonic::metadata::{MetadataMap, MetadataValue};

fuzz_target!(|data: &[u8]| {
    let [how, which, message @ ..] = data else {
        return;
    };
    // The server refuses more than 64 KiB; the fuzzer need not learn that.
    let message = Bytes::copy_from_slice(&message[..message.len().min(60 * 1024)]);
    let method = &METHODS[usize::from(*which) % METHODS.len()];
    with(|rig| one(rig, *how, method, message));
});

fn one(rig: &Workloads, how: u8, method: &Method, message: Bytes) {
    let known = how & 1 == 0;
    let of_the_agent = method.path.starts_with("/landfast.");
    let channel = match (of_the_agent, known) {
        (true, _) => &rig.admin,
        (false, true) => &rig.known,
        (false, false) => &rig.stranger,
    };
    let (header, right) = header(how >> 1);
    let call = raw::call(channel, method.path, header, vec![message.clone()], 1);
    let answer = rig
        .runtime
        .block_on(async { tokio::time::timeout(SILENCE, call).await })
        .expect("no answer");
    let needs_header = method.path.starts_with("/SpiffeWorkloadAPI/");
    if needs_header && !right {
        // Workload Endpoint §6.
        assert_eq!(
            answer.code(),
            Code::InvalidArgument,
            "{} without its header",
            method.path
        );
        assert!(answer.messages.is_empty());
        return;
    }
    if let Some(status) = &answer.refused {
        let unreadable = !(method.decodes)(&message) && status.code() == Code::Internal;
        assert!(
            unreadable || !raw::blames_the_server(status),
            "{}: {status:?}",
            method.path
        );
    }
    for said in &answer.messages {
        assert!(
            known || !method.gives_identities,
            "{} answered to nobody",
            method.path
        );
        sound(method.path, &message, said);
    }
}

/// None, the right one, and every way of getting it wrong.
fn header(how: u8) -> (MetadataMap, bool) {
    let mut metadata = MetadataMap::new();
    let values: &[&str] = match how % 8 {
        0..=3 => &["true"],
        4 => &[],
        5 => &["True"],
        6 => &["true", "true"],
        _ => &["true "],
    };
    for value in values {
        metadata.append("workload.spiffe.io", MetadataValue::from_static(value));
    }
    (metadata, how % 8 <= 3)
}

fn sound(path: &str, request: &[u8], said: &[u8]) {
    match path {
        "/SpiffeWorkloadAPI/FetchJWTSVID" => {
            let request = pb::JwtsvidRequest::decode(request).expect("answered, but unreadable");
            let answer = pb::JwtsvidResponse::decode(said).expect("an answer");
            assert!(!answer.svids.is_empty());
            for svid in &answer.svids {
                for audience in &request.audience {
                    let valid = jwt::verify(&svid.svid, &jwt_bundles(), audience, NOW);
                    let id = valid.expect("a token that verifies").id().clone();
                    assert_eq!(id.as_str(), svid.spiffe_id);
                    assert!(PATHS.contains(&id.path()));
                    assert!(request.spiffe_id.is_empty() || request.spiffe_id == svid.spiffe_id);
                }
            }
        }
        "/SpiffeWorkloadAPI/ValidateJWTSVID" => {
            let request = pb::ValidateJwtsvidRequest::decode(request).expect("answered, but unreadable");
            let answer = pb::ValidateJwtsvidResponse::decode(said).expect("an answer");
            let valid = jwt::verify(&request.svid, &jwt_bundles(), &request.audience, NOW);
            assert_eq!(valid.expect("called valid").id().as_str(), answer.spiffe_id);
        }
        "/SpiffeWorkloadAPI/FetchX509SVID" => {
            let answer = pb::X509svidResponse::decode(said).expect("an answer");
            let ids: Vec<_> = answer.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect();
            assert_eq!(ids, PATHS.map(|path| format!("spiffe://td.test{path}")));
        }
        "/landfast.agent.v1.AgentAdmin/GetStatus" => {
            let answer = admin::GetStatusResponse::decode(said).expect("an answer");
            assert_eq!(answer.trust_domain, agent::DOMAIN);
            assert!(!answer.server_reachable && answer.identities.is_empty());
        }
        "/landfast.agent.v1.AgentAdmin/Why" => {
            let request = admin::WhyRequest::decode(request).expect("answered, but unreadable");
            let answer = admin::WhyResponse::decode(said).expect("an answer");
            assert!(request.pid > 0 && answer.pid == request.pid);
            assert!(answer.matches.is_empty() && !answer.selectors.is_empty() && !answer.advice.is_empty());
        }
        _ => {}
    }
}

/// `grpc.health.v1.HealthCheckRequest`.
#[derive(Clone, PartialEq, Message)]
struct HealthCheckRequest {
    #[prost(string, tag = "1")]
    service: String,
}

struct Method {
    path: &'static str,
    gives_identities: bool,
    decodes: fn(&[u8]) -> bool,
}

const fn method<M: Message + Default>(path: &'static str, gives_identities: bool) -> Method {
    Method {
        path,
        gives_identities,
        decodes: |bytes| M::decode(bytes).is_ok(),
    }
}

/// An input names a method by its place: append, so that the corpus keeps its meaning.
static METHODS: [Method; 11] = [
    method::<pb::X509svidRequest>("/SpiffeWorkloadAPI/FetchX509SVID", true),
    method::<pb::X509BundlesRequest>("/SpiffeWorkloadAPI/FetchX509Bundles", true),
    method::<pb::JwtsvidRequest>("/SpiffeWorkloadAPI/FetchJWTSVID", true),
    method::<pb::JwtBundlesRequest>("/SpiffeWorkloadAPI/FetchJWTBundles", true),
    method::<pb::ValidateJwtsvidRequest>("/SpiffeWorkloadAPI/ValidateJWTSVID", true),
    method::<pb::WitsvidRequest>("/SpiffeWorkloadAPI/FetchWITSVID", true),
    method::<pb::WitBundlesRequest>("/SpiffeWorkloadAPI/FetchWITBundles", true),
    method::<HealthCheckRequest>("/grpc.health.v1.Health/Check", false),
    method::<HealthCheckRequest>("/grpc.health.v1.Health/Watch", false),
    method::<admin::GetStatusRequest>("/landfast.agent.v1.AgentAdmin/GetStatus", false),
    method::<admin::WhyRequest>("/landfast.agent.v1.AgentAdmin/Why", false),
];

const SILENCE: std::time::Duration = std::time::Duration::from_secs(10);

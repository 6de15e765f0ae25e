//! Clients that speak without end (T-22): what is said again costs nothing, and who says too much is stopped. And callers without identity.

use landfast_proto::envoy::config::core::v3::Node;
use landfast_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use tonic::Code;

use super::client::*;
use crate::{Limits, ViewState, sds::made, tests::rig::Rig};

const MANY: usize = 300;

#[tokio::test]
async fn what_is_said_again_is_not_looked_for_again() {
    let rig = Rig::start();
    let mut stream = delta(&mut connect(&rig).await, ask_delta(&["default"]))
        .await
        .unwrap();
    stream.hear().await.unwrap();
    let before = made();
    for _ in 0..MANY {
        stream.say(DeltaDiscoveryRequest {
            node: Some(Node::default()),
            resource_names_unsubscribe: names(&["never-asked-for"]),
            ..DeltaDiscoveryRequest::default()
        });
    }
    // When this is answered the others were heard.
    stream.say(ask_delta(&["ROOTCA"]));
    assert_eq!(stream.hear().await.unwrap().resources.len(), 1);
    assert_eq!(made() - before, 1);
    // What changes is still told, and what is asked for again is sent again.
    rig.publish(rig.script.own.view(2, &[]));
    assert!(versions(&stream.hear().await.unwrap()).contains_key("default"));
    stream.say(ask_delta(&["default"]));
    assert!(versions(&stream.hear().await.unwrap()).contains_key("default"));
    rig.stop().await;
}

#[tokio::test]
async fn nor_is_it_by_the_state_of_the_world() {
    let rig = Rig::start();
    let mut stream = whole(&mut connect(&rig).await, ask(&["default"])).await.unwrap();
    let first = stream.hear().await.unwrap();
    let before = made();
    for n in 0..MANY {
        stream.say(DiscoveryRequest {
            node: Some(Node::default()),
            ..if n % 2 == 0 {
                ack(&first, &["default"])
            } else {
                nack(&first, &["default"])
            }
        });
    }
    stream.say(ack(&first, &["default", "ROOTCA"]));
    assert_eq!(named(&stream.hear().await.unwrap()), ["ROOTCA"]);
    assert_eq!(made() - before, 1);
    rig.publish(rig.script.own.view(2, &[]));
    assert_eq!(named(&stream.hear().await.unwrap()), ["default"]);
    rig.stop().await;
}

#[tokio::test]
async fn another_form_is_looked_for_though_the_names_are_the_same() {
    let rig = Rig::start();
    let mut stream = delta(&mut connect(&rig).await, ask_delta(&["ROOTCA"]))
        .await
        .unwrap();
    let first = stream.hear().await.unwrap();
    domains(secret(first.resources[0].resource.as_ref().unwrap()));
    stream.say(DeltaDiscoveryRequest {
        node: Some(node(
            "disable_spiffe_cert_validation",
            prost_types::value::Kind::BoolValue(true),
        )),
        ..DeltaDiscoveryRequest::default()
    });
    let second = stream.hear().await.unwrap();
    plain(secret(second.resources[0].resource.as_ref().unwrap()));
    rig.stop().await;
}

#[tokio::test]
async fn who_speaks_without_end_is_stopped_and_told_why() {
    let limits = Limits {
        sds_messages_at_once: 20,
        sds_messages_per_second: 1,
        ..Limits::default()
    };
    let rig = Rig::with(limits);
    let client = &mut connect(&rig).await;
    let mut modest = delta(client, ask_delta(&["default"])).await.unwrap();
    modest.hear().await.unwrap();
    let mut stream = delta(client, ask_delta(&["default"])).await.unwrap();
    stream.hear().await.unwrap();
    for _ in 0..MANY {
        stream.say(DeltaDiscoveryRequest {
            node: Some(Node::default()),
            ..DeltaDiscoveryRequest::default()
        });
    }
    let refused = stream.hear().await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("sds_messages") && refused.message().contains("several names at once"),
        "{refused}"
    );
    // The other stream of the same process is not concerned.
    for _ in 0..15 {
        modest.say(DeltaDiscoveryRequest {
            node: Some(Node::default()),
            ..DeltaDiscoveryRequest::default()
        });
    }
    modest.say(ask_delta(&["ROOTCA"]));
    modest.hear().await.unwrap();
    rig.stop().await;
}

/// As on the Workload API: who is nobody gets nothing, bundles included.
#[tokio::test]
async fn a_caller_without_identity_gets_no_bundle_either() {
    let rig = Rig::start();
    let known = rig.script.views.borrow().clone();
    let mut nothing = rig.script.own.view(1, &[]);
    nothing.state = ViewState::NoIdentity;
    rig.publish(nothing);
    let client = &mut connect(&rig).await;
    for name in ["ROOTCA", "ALL", "default", "spiffe://own.test"] {
        for refused in [
            whole(client, ask(&[name])).await.err().unwrap(),
            delta(client, ask_delta(&[name])).await.err().unwrap(),
            client.fetch_secrets(ask(&[name])).await.unwrap_err(),
        ] {
            assert_eq!(
                (refused.code(), refused.message()),
                (Code::PermissionDenied, "no identity issued"),
                "{name}"
            );
        }
    }
    rig.publish((*known).clone());
    client.fetch_secrets(ask(&["ROOTCA"])).await.unwrap();
    rig.stop().await;
}

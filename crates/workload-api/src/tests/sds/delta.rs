//! Differences, over time.

use landfast_proto::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use tonic::Code;

use super::client::*;
use crate::{ViewState, WorkloadView, tests::rig::Rig};

fn without_b(rig: &Rig, serial: u8) -> WorkloadView {
    let mut view = rig.script.own.view(serial, &[]);
    view.x509.remove(1);
    view.jwt_identities.remove(1);
    view
}

#[tokio::test]
async fn what_is_gone_is_named_and_comes_back_when_there_is_one_again() {
    let rig = Rig::start();
    let asked = ask_delta(&["default", "spiffe://own.test/b"]);
    let mut stream = delta(&mut connect(&rig).await, asked).await.unwrap();
    let first = stream.hear().await.unwrap();
    assert_eq!(first.resources.len(), 2);
    let mut view = (**rig.script.views.borrow()).clone();
    view.x509.remove(1);
    view.jwt_identities.remove(1);
    rig.publish(view);
    let second = stream.hear().await.unwrap();
    assert_eq!(second.removed_resources, ["spiffe://own.test/b"]);
    assert!(second.resources.is_empty());
    // Not named a second time when something else changes.
    rig.publish(without_b(&rig, 2));
    let third = stream.hear().await.unwrap();
    assert_eq!(versions(&third).into_keys().collect::<Vec<_>>(), ["default"]);
    assert!(third.removed_resources.is_empty());
    rig.publish(rig.script.own.view(2, &[]));
    let fourth = stream.hear().await.unwrap();
    assert!(versions(&fourth).contains_key("spiffe://own.test/b"));
    // All are gone: named, and then the end.
    let mut nothing = rig.script.own.view(1, &[]);
    nothing.state = ViewState::NoIdentity;
    rig.publish(nothing);
    let last = stream.hear().await.unwrap();
    assert_eq!(last.removed_resources, ["default", "spiffe://own.test/b"]);
    assert_eq!(stream.hear().await.unwrap_err().code(), Code::PermissionDenied);
    rig.stop().await;
}

#[tokio::test]
async fn who_asked_for_all_is_told_what_is_gone() {
    let rig = Rig::start();
    let mut stream = delta(&mut connect(&rig).await, ask_delta(&["*"])).await.unwrap();
    assert_eq!(stream.hear().await.unwrap().resources.len(), 5);
    let mut view = (**rig.script.views.borrow()).clone();
    view.federated.clear();
    rig.publish(view);
    let second = stream.hear().await.unwrap();
    assert_eq!(second.removed_resources, ["spiffe://foreign.test"]);
    assert!(second.resources.is_empty());
    // Back to one: the others are not gone, and not wanted.
    stream.say(DeltaDiscoveryRequest {
        resource_names_unsubscribe: names(&["*"]),
        ..ask_delta(&["ROOTCA"])
    });
    let third = stream.hear().await.unwrap();
    assert_eq!(versions(&third).into_keys().collect::<Vec<_>>(), ["ROOTCA"]);
    assert!(third.removed_resources.is_empty());
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_does_not_have() {
    let rig = Rig::start();
    let client = &mut connect(&rig).await;
    let mut stream = delta(client, ask_delta(&["default", "ROOTCA"])).await.unwrap();
    let mut had = versions(&stream.hear().await.unwrap());
    drop(stream);
    had.insert("spiffe://own.test/gone".to_owned(), "v".to_owned());
    let back = DeltaDiscoveryRequest {
        initial_resource_versions: had.into_iter().collect(),
        ..ask_delta(&["default", "ROOTCA", "ALL", "spiffe://own.test/gone"])
    };
    let mut stream = delta(client, back.clone()).await.unwrap();
    let first = stream.hear().await.unwrap();
    assert_eq!(versions(&first).into_keys().collect::<Vec<_>>(), ["ALL"]);
    assert_eq!(first.removed_resources, ["spiffe://own.test/gone"]);
    // Versions are looked at in the first request only.
    stream.say(DeltaDiscoveryRequest {
        response_nonce: first.nonce,
        ..back
    });
    let refused = stream.hear().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn a_refusal_does_not_loop_and_asking_again_is_answered() {
    let rig = Rig::start();
    let mut stream = delta(&mut connect(&rig).await, ask_delta(&["default"]))
        .await
        .unwrap();
    let first = stream.hear().await.unwrap();
    let refused = DeltaDiscoveryRequest {
        response_nonce: first.nonce.clone(),
        error_detail: Some(refusal()),
        ..ask_delta(&[])
    };
    stream.say(refused.clone());
    stream.say(refused.clone());
    stream.say(DeltaDiscoveryRequest {
        resource_names_subscribe: names(&["ROOTCA"]),
        ..refused
    });
    let second = stream.hear().await.unwrap();
    assert_eq!(versions(&second).into_keys().collect::<Vec<_>>(), ["ROOTCA"]);
    // Names of a request that answers an older response are heard all the same: they are said once.
    stream.say(DeltaDiscoveryRequest {
        response_nonce: first.nonce.clone(),
        ..ask_delta(&["default", "ALL"])
    });
    let third = stream.hear().await.unwrap();
    assert_eq!(
        versions(&third).into_keys().collect::<Vec<_>>(),
        ["ALL", "default"]
    );
    assert_eq!(versions(&third)["default"], versions(&first)["default"]);
    // What is not wanted any more is not sent when it changes.
    stream.say(DeltaDiscoveryRequest {
        resource_names_unsubscribe: names(&["default"]),
        ..ask_delta(&["spiffe://own.test"])
    });
    stream.hear().await.unwrap();
    rig.publish(rig.script.own.view(2, &[]));
    let last = stream.hear().await.unwrap();
    assert_eq!(versions(&last).into_keys().collect::<Vec<_>>(), ["ALL"]);
    drop(stream);
    rig.stop().await;
}

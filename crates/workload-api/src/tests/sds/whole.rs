//! The state of the world, over time.

use tonic::Code;

use super::client::*;
use crate::{ViewState, tests::rig::Rig};

#[tokio::test]
async fn only_what_a_change_touches_is_sent_and_versions_are_digests() {
    let rig = Rig::start();
    let wanted = ["default", "ROOTCA", "ALL"];
    let mut stream = whole(&mut connect(&rig).await, ask(&wanted)).await.unwrap();
    let first = stream.hear().await.unwrap();
    assert_eq!(named(&first), ["ALL", "ROOTCA", "default"]);
    stream.say(ack(&first, &wanted));
    // The same state again, then new SVIDs, then a bundle less.
    let before = (**rig.script.views.borrow()).clone();
    rig.publish(before.clone());
    rig.publish(rig.script.own.view(2, &[&rig.script.foreign]));
    let second = stream.hear().await.unwrap();
    assert_eq!(named(&second), ["default"]);
    assert_ne!(
        (&first.version_info, &first.nonce),
        (&second.version_info, &second.nonce)
    );
    stream.say(ack(&second, &wanted));
    let mut lonely = (**rig.script.views.borrow()).clone();
    lonely.federated.clear();
    rig.publish(lonely);
    let third = stream.hear().await.unwrap();
    assert_eq!(named(&third), ["ALL"]);
    stream.say(ack(&third, &wanted));
    // The first content once more: another stream, or another agent, gives it the same version.
    rig.publish(before);
    assert_eq!(stream.hear().await.unwrap().version_info, first.version_info);
    let mut another = whole(&mut connect(&rig).await, ask(&wanted)).await.unwrap();
    assert_eq!(another.hear().await.unwrap().version_info, first.version_info);
    drop((stream, another));
    rig.stop().await;
}

#[tokio::test]
async fn what_a_client_refused_is_not_sent_again_until_it_changes() {
    let rig = Rig::start();
    let wanted = ["default", "ROOTCA"];
    let mut stream = whole(&mut connect(&rig).await, ask(&wanted)).await.unwrap();
    let refused = stream.hear().await.unwrap();
    // Twice, and once with a name more: only that one is answered.
    stream.say(nack(&refused, &wanted));
    stream.say(nack(&refused, &wanted));
    stream.say(nack(&refused, &["default", "ROOTCA", "spiffe://own.test/b"]));
    let second = stream.hear().await.unwrap();
    assert_eq!(named(&second), ["spiffe://own.test/b"]);
    stream.say(nack(&second, &["default", "ROOTCA", "spiffe://own.test/b"]));
    rig.publish(rig.script.own.view(2, &[]));
    let third = stream.hear().await.unwrap();
    assert_eq!(named(&third), ["default", "spiffe://own.test/b"]);
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn a_request_that_answers_an_older_response_changes_nothing() {
    let rig = Rig::start();
    let mut stream = whole(&mut connect(&rig).await, ask(&["default"])).await.unwrap();
    let first = stream.hear().await.unwrap();
    rig.publish(rig.script.own.view(2, &[]));
    let second = stream.hear().await.unwrap();
    // Names that he may not have: they would end the stream if they were looked at.
    stream.say(ack(&first, &["x"]));
    stream.say(ask(&["x"]));
    let mut made_up = ack(&second, &["x"]);
    made_up.response_nonce = "7".to_owned();
    stream.say(made_up);
    stream.say(ack(&second, &["default", "ROOTCA"]));
    assert_eq!(named(&stream.hear().await.unwrap()), ["ROOTCA"]);
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn a_name_that_was_dropped_and_asked_for_again_is_sent_again() {
    let rig = Rig::start();
    let mut stream = whole(&mut connect(&rig).await, ask(&["default", "ROOTCA"]))
        .await
        .unwrap();
    let first = stream.hear().await.unwrap();
    stream.say(ack(&first, &["ROOTCA"]));
    stream.say(ack(&first, &["ROOTCA", "default"]));
    let again = stream.hear().await.unwrap();
    assert_eq!(named(&again), ["default"]);
    // None at all, once names were given, is none, and not everything.
    stream.say(ack(&again, &[]));
    stream.say(ack(&again, &["ALL"]));
    let all = stream.hear().await.unwrap();
    assert_eq!(named(&all), ["ALL"]);
    stream.say(ack(&all, &["ALL"]));
    rig.publish(rig.script.own.view(2, &[]));
    assert_eq!(named(&stream.hear().await.unwrap()), ["ALL"]);
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn a_later_node_can_switch_the_form() {
    let rig = Rig::start();
    let mut stream = whole(&mut connect(&rig).await, ask(&["ROOTCA"])).await.unwrap();
    let first = stream.hear().await.unwrap();
    domains(secret(&first.resources[0]));
    let mut switched = ack(&first, &["ROOTCA"]);
    switched.node = Some(node(
        "disable_spiffe_cert_validation",
        prost_types::value::Kind::BoolValue(true),
    ));
    stream.say(switched);
    let second = stream.hear().await.unwrap();
    plain(secret(&second.resources[0]));
    // Who does not say it again has not changed his mind: a name more shows that the request was heard.
    stream.say(ack(&second, &["ROOTCA", "spiffe://own.test"]));
    let third = stream.hear().await.unwrap();
    assert_eq!(named(&third), ["spiffe://own.test"]);
    plain(secret(&third.resources[0]));
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn a_secret_that_is_gone_ends_the_stream_that_named_it() {
    let rig = Rig::start();
    let client = &mut connect(&rig).await;
    let mut by_name = whole(client, ask(&["ROOTCA", "spiffe://own.test/b"]))
        .await
        .unwrap();
    let mut all = whole(client, ask(&[])).await.unwrap();
    by_name.hear().await.unwrap();
    let first = all.hear().await.unwrap();
    all.say(ack(&first, &[]));
    let mut view = rig.script.own.view(1, &[]);
    view.x509.remove(1);
    view.jwt_identities.remove(1);
    rig.publish(view);
    let ended = by_name.hear().await.unwrap_err();
    assert_eq!(ended.code(), Code::InvalidArgument);
    // Who named none is told what there is.
    assert_eq!(
        named(&all.hear().await.unwrap()),
        ["spiffe://own.test/a", "spiffe://own.test/c"]
    );
    let mut nothing = rig.script.own.view(1, &[]);
    nothing.state = ViewState::NoIdentity;
    rig.publish(nothing);
    assert_eq!(all.hear().await.unwrap_err().code(), Code::PermissionDenied);
    let refused = whole(client, ask(&[])).await.err().unwrap();
    assert_eq!(refused.code(), Code::PermissionDenied);
    rig.stop().await;
}

#[tokio::test]
async fn whoever_asks_for_secrets_asks_for_svids_though_he_does_not_wait_for_them() {
    let rig = Rig::start();
    let mut stream = whole(&mut connect(&rig).await, ask(&["default"])).await.unwrap();
    stream.hear().await.unwrap();
    assert!(rig.script.x509_asked.load(std::sync::atomic::Ordering::SeqCst) > 0);
    rig.stop().await;
}

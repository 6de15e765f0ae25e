//! Which name gives what, in which form.

use landfast_identity::chain_to_pem;
use landfast_proto::envoy::config::core::v3::{BuildVersion, Node, node::UserAgentVersionType};
use landfast_proto::envoy::service::discovery::v3::DiscoveryRequest;
use landfast_proto::envoy::r#type::v3::SemanticVersion;
use prost_types::value::Kind;
use tonic::Code;

use super::client::*;
use crate::{Limits, Sds, ViewState, tests::rig::Rig};

async fn fetch(
    rig: &Rig,
    request: DiscoveryRequest,
) -> Result<Vec<landfast_proto::envoy::extensions::transport_sockets::tls::v3::Secret>, tonic::Status> {
    let answer = connect(rig).await.fetch_secrets(request).await?.into_inner();
    assert!(answer.nonce.is_empty() && !answer.version_info.is_empty());
    Ok(answer.resources.iter().map(secret).collect())
}

#[tokio::test]
async fn every_kind_of_name_gives_what_it_says() {
    let rig = Rig::start();
    let view = rig.script.views.borrow().clone();
    let (own, foreign) = (rig.script.own.bundle(), rig.script.foreign.bundle());
    for (name, served) in [
        ("default", 0),
        ("spiffe://own.test/a", 0),
        ("spiffe://own.test/b", 1),
    ] {
        let found = fetch(&rig, ask(&[name])).await.unwrap();
        assert_eq!((found.len(), found[0].name.as_str()), (1, name));
        let svid = &view.x509[served].svid;
        let expected = (chain_to_pem(svid.chain()), svid.key().to_pem().to_string());
        assert_eq!(certificate(found[0].clone()), expected, "{name}");
    }
    let pair = |bundle: &landfast_identity::Bundle| (bundle.trust_domain().to_string(), bundle.to_pem());
    // Sorted by name, whatever the view's order: the foreign one stands first.
    for (name, expected) in [
        ("ROOTCA", vec![pair(&own)]),
        ("spiffe://own.test", vec![pair(&own)]),
        ("spiffe://foreign.test", vec![pair(&foreign)]),
        ("ALL", vec![pair(&foreign), pair(&own)]),
    ] {
        let found = fetch(&rig, ask(&[name])).await.unwrap();
        assert_eq!((found.len(), found[0].name.as_str()), (1, name));
        assert_eq!(domains(found[0].clone()), expected, "{name}");
    }
    let several = fetch(&rig, ask(&["default", "", "ROOTCA", "default"]))
        .await
        .unwrap();
    assert_eq!(several.len(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn the_default_is_the_first_that_the_workload_api_tells() {
    let rig = Rig::start();
    let mut view = rig.script.own.view(1, &[]);
    view.x509.remove(0);
    let expected = chain_to_pem(view.x509[1].svid.chain());
    rig.publish(view);
    let found = fetch(&rig, ask(&["default"])).await.unwrap();
    assert_eq!(certificate(found[0].clone()).0, expected);
    rig.stop().await;
}

#[tokio::test]
async fn no_names_are_all_of_them() {
    let rig = Rig::start();
    let everything = [
        "spiffe://foreign.test",
        "spiffe://own.test",
        "spiffe://own.test/a",
        "spiffe://own.test/b",
        "spiffe://own.test/c",
    ];
    for request in [ask(&[]), ask(&[""]), ask(&["*"])] {
        let found = fetch(&rig, request.clone()).await.unwrap();
        let found: Vec<_> = found.iter().map(|secret| secret.name.as_str()).collect();
        assert_eq!(found, everything);
        let mut stream = whole(&mut connect(&rig).await, request).await.unwrap();
        assert_eq!(named(&stream.hear().await.unwrap()), everything);
    }
    let mut stream = delta(&mut connect(&rig).await, ask_delta(&[])).await.unwrap();
    let versions = versions(&stream.hear().await.unwrap());
    assert_eq!(
        versions.keys().collect::<Vec<_>>(),
        everything.iter().collect::<Vec<_>>()
    );
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn a_name_that_is_not_the_callers_is_refused_in_every_way_of_asking() {
    let rig = Rig::start();
    let client = &mut connect(&rig).await;
    for name in [
        "spiffe://own.test/z",
        "spiffe://third.test",
        "spiffe://foreign.test/a",
        "Default",
        "x",
    ] {
        let fetched = client.fetch_secrets(ask(&["default", name])).await.unwrap_err();
        let mut stream = whole(client, ask(&["default", name])).await.unwrap();
        let streamed = stream.hear().await.unwrap_err();
        let mut stream = delta(client, ask_delta(&["default", name])).await.unwrap();
        let differed = stream.hear().await.unwrap_err();
        for refused in [fetched, streamed, differed] {
            assert_eq!(refused.code(), Code::InvalidArgument, "{name}");
            assert!(refused.message().contains(name), "{refused}");
            assert!(!refused.message().contains("default"), "{refused}");
        }
    }
    let other_type = DiscoveryRequest {
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster".to_owned(),
        ..ask(&[])
    };
    let refused = client.fetch_secrets(other_type).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    rig.stop().await;
}

#[tokio::test]
async fn without_the_validator_a_bundle_is_plain_and_all_of_them_cannot_be_had() {
    let own = |value| Some(node("disable_spiffe_cert_validation", value));
    let aged = |minor_number| {
        let version = SemanticVersion {
            major_number: 1,
            minor_number,
            patch: 9,
        };
        let build = BuildVersion {
            version: Some(version),
            metadata: None,
        };
        Some(Node {
            user_agent_name: "envoy".to_owned(),
            user_agent_version_type: Some(UserAgentVersionType::UserAgentBuildVersion(build)),
            ..Node::default()
        })
    };
    let text = |text: &str| Kind::StringValue(text.to_owned());
    for (disabled, node, expected) in [
        (false, None, false),
        (true, None, true),
        (false, own(Kind::BoolValue(true)), true),
        (true, own(Kind::BoolValue(false)), false),
        (false, own(text("true")), true),
        (true, own(text("0")), false),
        (false, own(text("perhaps")), false),
        (true, own(Kind::NumberValue(0.0)), true),
        (false, Some(node("something_else", Kind::BoolValue(true))), false),
        (false, aged(17), true),
        (false, aged(18), false),
    ] {
        let sds = Sds {
            disable_spiffe_cert_validation: disabled,
            ..Sds::default()
        };
        let rig = Rig::offering(Some(sds), Limits::default());
        let request = |wanted: &[&str]| DiscoveryRequest {
            node: node.clone(),
            ..ask(wanted)
        };
        let found = fetch(&rig, request(&["ROOTCA"])).await.unwrap().remove(0);
        let all = fetch(&rig, request(&["ALL"])).await;
        if expected {
            assert_eq!(plain(found), rig.script.own.bundle().to_pem());
            assert_eq!(all.unwrap_err().code(), Code::InvalidArgument, "{node:?}");
            let mut stream = whole(&mut connect(&rig).await, request(&["ALL"])).await.unwrap();
            assert_eq!(stream.hear().await.unwrap_err().code(), Code::InvalidArgument);
        } else {
            assert_eq!(domains(found).len(), 1);
            assert_eq!(domains(all.unwrap().remove(0)).len(), 2);
        }
        rig.stop().await;
    }
}

#[tokio::test]
async fn names_can_be_chosen_and_sds_can_be_switched_off() {
    let sds = Sds {
        default_svid_name: "mine".to_owned(),
        default_bundle_name: "ours".to_owned(),
        default_all_bundles_name: "theirs".to_owned(),
        ..Sds::default()
    };
    let rig = Rig::offering(Some(sds), Limits::default());
    assert_eq!(
        fetch(&rig, ask(&["mine", "ours", "theirs"])).await.unwrap().len(),
        3
    );
    for name in ["default", "ROOTCA", "ALL"] {
        let refused = fetch(&rig, ask(&[name])).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    rig.stop().await;
    let rig = Rig::offering(None, Limits::default());
    let refused = fetch(&rig, ask(&[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(rig.attestations(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn what_is_not_at_hand_is_waited_for_and_the_rest_is_served() {
    let rig = Rig::with(Limits {
        first_answer: std::time::Duration::from_millis(100),
        ..Limits::default()
    });
    let whole_view = rig.script.own.view(1, &[]);
    let mut view = whole_view.clone();
    (view.state, view.x509) = (ViewState::WithoutX509, Vec::new());
    rig.publish(view);
    assert_eq!(
        fetch(&rig, ask(&["default"])).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(fetch(&rig, ask(&["ROOTCA"])).await.unwrap().len(), 1);
    let mut stream = whole(&mut connect(&rig).await, ask(&["default", "ROOTCA"]))
        .await
        .unwrap();
    let first = stream.hear().await.unwrap();
    assert_eq!(named(&first), ["ROOTCA"]);
    stream.say(ack(&first, &["default", "ROOTCA"]));
    rig.publish(whole_view);
    assert_eq!(named(&stream.hear().await.unwrap()), ["default"]);
    drop(stream);
    rig.stop().await;
}

//! What leaves as a secret is told of.

use tonic::Code;

use super::client::*;
use crate::tests::handout::{handed, x509};
use crate::tests::rig::Rig;

#[tokio::test]
async fn an_envoy_s_secrets_are_told_of_in_each_way_of_asking() {
    let rig = Rig::start();
    let mut client = connect(&rig).await;
    let mut stream = delta(&mut client, ask_delta(&["default", "ROOTCA"]))
        .await
        .unwrap();
    stream.hear().await.unwrap();
    assert_eq!(handed(&rig), [x509("sds", "/a", 1)]);
    rig.publish(rig.script.own.view(2, &[]));
    stream.hear().await.unwrap();
    assert_eq!(handed(&rig), [x509("sds", "/a", 2)]);
    let mut stream = whole(&mut client, ask(&["spiffe://own.test/b"])).await.unwrap();
    stream.hear().await.unwrap();
    assert_eq!(handed(&rig), [x509("sds", "/b", 2)]);
    client.fetch_secrets(ask(&["default"])).await.unwrap();
    assert_eq!(handed(&rig), [x509("sds", "/a", 2)]);
    client.fetch_secrets(ask(&["ROOTCA"])).await.unwrap();
    let refused = client
        .fetch_secrets(ask(&["spiffe://own.test/z"]))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(handed(&rig).is_empty());
    rig.stop().await;
}

//! From nothing to an SVID in a client's hands, its rotation, and its end.

use std::time::Duration;

use landfast_identity::{KeyAlgorithm, KeyType};
use landfast_testkit::{PATIENCE, Plant, eventually};
use tokio_stream::StreamExt as _;
use tonic::Code;

const TTL: &str = "[ttl]\nbackdate = \"1s\"";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_gets_both_kinds_of_svid_and_loses_them_with_its_entry() {
    let plant = Plant::new(TTL).await;
    let agent = plant.agent("node", "").await;
    let mut client = agent.client().await;
    let refused = eventually("a refusal", async || match client.fetch_x509().await {
        Err(error) if error.code() == Some(Code::PermissionDenied) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    refused.await;

    let entry = plant.entry(&agent, "/line4/collector", 3600).await;
    let context = eventually("the identity", async || client.fetch_x509().await).await;
    let svid = &context.svids[0];
    assert_eq!(svid.id().as_str(), "spiffe://plant.test/line4/collector");
    let chain: Vec<&[u8]> = svid.chain().iter().map(|c| c.as_der()).collect();
    let now = svid.not_before();
    landfast_identity::verify_x509_svid(
        &chain,
        &context.bundles,
        now.saturating_add(Duration::from_secs(2)),
    )
    .unwrap();

    let tokens = client.fetch_jwt(&["historian".to_owned()], None).await.unwrap();
    let valid = client.validate_jwt("historian", &tokens[0].token).await.unwrap();
    assert_eq!(valid.id.path(), "/line4/collector");
    let wrong = client
        .validate_jwt("somebody-else", &tokens[0].token)
        .await
        .unwrap_err();
    assert_eq!(wrong.code(), Some(Code::InvalidArgument));

    let mut stream = client.x509_svids().await.unwrap();
    assert!(stream.next().await.unwrap().is_ok());
    plant.delete_entry(&entry).await;
    let end = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("the stream ends in time");
    assert_eq!(end.unwrap().unwrap_err().code(), Some(Code::PermissionDenied));
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_are_pushed_and_nothing_is_sent_twice() {
    let plant = Plant::new(TTL).await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 6).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_x509().await).await;
    let mut stream = client.x509_svids().await.unwrap();
    let mut serials = Vec::new();
    while serials.len() < 3 {
        let update = tokio::time::timeout(PATIENCE, stream.next())
            .await
            .expect("a rotation in time")
            .unwrap()
            .unwrap();
        serials.push(update.svids[0].serial_hex());
    }
    let distinct: std::collections::BTreeSet<_> = serials.iter().collect();
    assert_eq!(distinct.len(), serials.len(), "{serials:?}");
    plant.tear_down([agent]).await;
}

/// The server dates tokens back by as much as they live, unless told otherwise.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_young_token_is_handed_out_again_with_a_servers_defaults() {
    let plant = Plant::new("").await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    let historian = ["historian".to_owned()];
    let first = eventually("a token", async || client.fetch_jwt(&historian, None).await).await;
    let again = client.fetch_jwt(&historian, None).await.unwrap();
    assert_eq!(again[0].token, first[0].token);
    let other = client.fetch_jwt(&["scada".to_owned()], None).await.unwrap();
    assert_ne!(other[0].token, first[0].token);
    plant.tear_down([agent]).await;
}

/// P-384 from the authorities to the workload, and a change of the configuration that waits for the next authority.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plant_may_ask_for_p384() {
    let keys = "[keys]\nx509 = \"ec-p384\"\njwt = \"ec-p384\"";
    let mut plant = Plant::new(keys).await;
    let agent = plant
        .agent("node", "keys = { node = \"ec-p384\", workload = \"ec-p384\" }")
        .await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    let historian = ["historian".to_owned()];
    for told_otherwise in [false, true] {
        if told_otherwise {
            plant.stop_server().await;
            plant.reconfigure(keys, "");
            plant.start_server().await.unwrap();
        }
        let context = eventually("the identity", async || client.fetch_x509().await).await;
        let svid = &context.svids[0];
        assert_eq!(svid.key().key_type(), KeyType::EcP384);
        let chain: Vec<&[u8]> = svid.chain().iter().map(|c| c.as_der()).collect();
        let now = svid.not_before().saturating_add(Duration::from_secs(310));
        landfast_identity::verify_x509_svid(&chain, &context.bundles, now).unwrap();
        let bundle = context.bundles.get(svid.id().trust_domain()).unwrap();
        for authority in bundle.x509_authorities() {
            assert_eq!(
                authority.certificate.public_key().algorithm(),
                KeyAlgorithm::EcP384
            );
        }
        let tokens = client.fetch_jwt(&historian, None).await.unwrap();
        let (_, signature) = tokens[0].token.rsplit_once('.').unwrap();
        assert_eq!(signature.len(), 128, "ES384: 96 bytes in base64url");
        client.validate_jwt("historian", &tokens[0].token).await.unwrap();
    }
    plant.tear_down([agent]).await;
}

/// A client we did not write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_spiffe_crate_is_served() {
    let plant = Plant::new(TTL).await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let endpoint = agent.endpoint();
    let client = spiffe::WorkloadApiClient::connect_to(&endpoint).await.unwrap();
    let svid = eventually("the identity", async || client.fetch_x509_svid().await).await;
    assert_eq!(
        svid.spiffe_id().to_string(),
        "spiffe://plant.test/line4/collector"
    );
    plant.tear_down([agent]).await;
}

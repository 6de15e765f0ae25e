//! From nothing to an SVID in a client's hands, its rotation, and its end.

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
        now.saturating_add(std::time::Duration::from_secs(2)),
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

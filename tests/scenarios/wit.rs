//! WIT-SVIDs from the switch to a verifier's hands: renewed, replaced when their authority is tainted, and gone with the switch.

use std::time::Duration;

use landfast_identity::{BundleSet, PublicKey, UnixTime, WitSvid, wit};
use landfast_proto::spire::api::server::localauthority::v1 as authority;
use landfast_proto::spire::api::server::localauthority::v1::local_authority_client::LocalAuthorityClient;
use landfast_testkit::{PATIENCE, Plant, eventually};
use landfast_workload_api::client::{ClientError, HeldWit, WorkloadClient};
use tokio_stream::{Stream, StreamExt as _};
use tonic::Code;
use tonic::transport::Channel;

const ON: &str = "[ttl]\nbackdate = \"1s\"\n[incubating]\nwit_svid = true";

async fn next(stream: &mut (impl Stream<Item = Result<Vec<HeldWit>, ClientError>> + Unpin)) -> Vec<HeldWit> {
    let update = tokio::time::timeout(PATIENCE, stream.next()).await;
    update.expect("an update in time").unwrap().unwrap()
}

async fn bundles(client: &mut WorkloadClient) -> BundleSet {
    let mut stream = client.wit_bundles().await.unwrap();
    stream.next().await.unwrap().unwrap()
}

/// As a verifier that knows only what the Workload API gives it.
fn verified(held: &HeldWit, bundles: &BundleSet) -> WitSvid {
    let before_its_end = held.svid.expires_at().saturating_sub(Duration::from_secs(1));
    let svid = wit::verify(held.svid.token(), bundles, before_its_end).unwrap();
    let shown = PublicKey::from_jwk(held.private_jwk().as_bytes()).unwrap();
    assert_eq!(*svid.confirmation_key(), shown);
    assert!(held.private_jwk().contains("\"d\":"));
    svid
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_gets_wit_svids_that_anybody_can_verify_and_loses_them_with_its_entry() {
    let plant = Plant::new(ON).await;
    let agent = plant.agent("node", "").await;
    let mut client = agent.client().await;
    let refused = eventually("a refusal", async || match client.fetch_wit(None).await {
        Err(error) if error.code() == Some(Code::PermissionDenied) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    refused.await;

    let entry = plant.entry(&agent, "/line4/collector", 3600).await;
    let held = eventually("the identity", async || client.fetch_wit(None).await).await;
    let bundles = bundles(&mut client).await;
    let svid = verified(&held[0], &bundles);
    assert_eq!(svid.id().as_str(), "spiffe://plant.test/line4/collector");
    assert_eq!(svid.confirmation_algorithm(), "ES256");
    // These keys are for nothing else.
    let own = bundles.get(svid.id().trust_domain()).unwrap();
    assert_eq!((own.wit_authorities().len(), own.jwt_authorities().len()), (1, 0));
    let mut jwt_bundles = client.jwt_bundles().await.unwrap();
    let jwt_bundles = jwt_bundles.next().await.unwrap().unwrap();
    let own = jwt_bundles.get(svid.id().trust_domain()).unwrap();
    assert_eq!((own.wit_authorities().len(), own.jwt_authorities().len()), (0, 1));

    // Whoever asks again gets the same, whoever names it too, and nobody another's.
    let again = client.fetch_wit(Some(svid.id())).await.unwrap();
    assert_eq!(again[0].svid.token(), held[0].svid.token());
    let other = "spiffe://plant.test/line4/other".parse().unwrap();
    let refused = client.fetch_wit(Some(&other)).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::PermissionDenied));

    let mut stream = client.wit_svids(None).await.unwrap();
    next(&mut stream).await;
    plant.delete_entry(&entry).await;
    let end = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("the stream ends in time");
    assert_eq!(end.unwrap().unwrap_err().code(), Some(Code::PermissionDenied));
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wit_svids_are_renewed_before_they_end_each_with_a_new_key() {
    let plant = Plant::new(ON).await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 8).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_wit(None).await).await;
    let mut stream = client.wit_svids(None).await.unwrap();
    let mut last: Option<HeldWit> = None;
    for _ in 0..3 {
        let held = next(&mut stream).await.remove(0);
        if let Some(last) = last {
            assert!(held.svid.expires_at() > last.svid.expires_at());
            assert_ne!(held.svid.confirmation_key(), last.svid.confirmation_key());
        }
        last = Some(held);
    }
    plant.tear_down([agent]).await;
}

/// Which authority signs now; the one before is tainted.
async fn replace_authority(channel: Channel) -> String {
    let mut orders = LocalAuthorityClient::new(channel);
    let standing = orders.get_wit_authority_state(authority::GetWitAuthorityStateRequest {});
    let first = standing.await.unwrap().into_inner().active.unwrap().authority_id;
    let prepared = orders.prepare_wit_authority(authority::PrepareWitAuthorityRequest {});
    let prepared = prepared.await.unwrap().into_inner().prepared_authority.unwrap();
    let authority_id = prepared.authority_id.clone();
    let request = authority::ActivateWitAuthorityRequest { authority_id };
    orders.activate_wit_authority(request).await.unwrap();
    let request = authority::TaintWitAuthorityRequest { authority_id: first };
    orders.taint_wit_authority(request).await.unwrap();
    prepared.authority_id
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_tainted_authority_signed_is_replaced_in_open_streams() {
    let plant = Plant::new(ON).await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    eventually("the identity", async || client.fetch_wit(None).await).await;
    let mut stream = client.wit_svids(None).await.unwrap();
    let before = next(&mut stream).await.remove(0);
    let signs = replace_authority(plant.admin().await).await;
    assert_ne!(before.svid.key_id(), signs);
    let after = next(&mut stream).await.remove(0);
    assert_eq!(after.svid.key_id(), signs);
    verified(&after, &bundles(&mut client).await);
    let newcomer = agent.client().await.fetch_wit(None).await.unwrap();
    assert_eq!(newcomer[0].svid.key_id(), signs);
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_switch_everybody_is_told_so_and_all_else_works() {
    let plant = Plant::new("").await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    let context = eventually("the identity", async || client.fetch_x509().await).await;
    let refused = client.fetch_wit(None).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unimplemented), "{refused}");
    let mut stream = client.wit_bundles().await;
    let refused = match &mut stream {
        Ok(stream) => stream.next().await.unwrap().unwrap_err(),
        Err(refused) => std::mem::replace(refused, ClientError::Closed),
    };
    assert_eq!(refused.code(), Some(Code::Unimplemented), "{refused}");
    client.fetch_jwt(&["historian".to_owned()], None).await.unwrap();
    assert_eq!(
        client.fetch_x509().await.unwrap().svids[0].id(),
        context.svids[0].id()
    );
    plant.tear_down([agent]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_switch_can_be_thrown_and_thrown_back() {
    let mut plant = Plant::new(ON).await;
    let agent = plant.agent("node", "").await;
    plant.entry(&agent, "/line4/collector", 3600).await;
    let mut client = agent.client().await;
    let first = eventually("the identity", async || client.fetch_wit(None).await).await;
    let mut stream = client.wit_svids(None).await.unwrap();
    next(&mut stream).await;
    plant.stop_server().await;
    plant.reconfigure("wit_svid = true", "wit_svid = false");
    plant.start_server().await.unwrap();
    let end = tokio::time::timeout(PATIENCE, stream.next())
        .await
        .expect("the stream ends in time");
    assert_eq!(end.unwrap().unwrap_err().code(), Some(Code::Unimplemented));
    client.fetch_x509().await.unwrap();
    plant.stop_server().await;
    plant.reconfigure("wit_svid = false", "wit_svid = true");
    plant.start_server().await.unwrap();
    let back = eventually("WIT-SVIDs once more", async || client.fetch_wit(None).await).await;
    assert_ne!(back[0].svid.key_id(), first[0].svid.key_id());
    let bundles = bundles(&mut client).await;
    verified(&back[0], &bundles);
    let late = wit::verify(first[0].svid.token(), &bundles, UnixTime::EPOCH);
    assert!(late.is_err(), "what was signed before verifies no more");
    plant.tear_down([agent]).await;
}

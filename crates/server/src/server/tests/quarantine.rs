//! A server in quarantine, seen from each side of it.

use std::path::Path;

use landfast_proto::landfast::quarantine::v1 as pb;
use landfast_proto::landfast::quarantine::v1::quarantine_client::QuarantineClient;
use landfast_proto::landfast::sync::v1::{HeldEntry, SubscribeRequest, sync_client::SyncClient};
use landfast_proto::spire::api::server::bundle::v1::{self as bundle, bundle_client::BundleClient};
use prost::Message as _;

use super::*;
use crate::core::fixture::copy;
use crate::server::rig::hold;

async fn start(data: &Path, admin: Option<&str>) -> Rig {
    let (data, admin) = (data.to_owned(), admin.map(str::to_owned));
    Rig::with(move |config| {
        config.data_dir = Some(data);
        config.ttls.backdate = Duration::ZERO;
        let ids = admin
            .iter()
            .map(|path| SpiffeId::from_parts(&td(), path).unwrap());
        config.admin_ids = ids.collect();
    })
    .await
}

fn is_held<T: std::fmt::Debug>(outcome: Result<T, Status>) {
    let status = outcome.expect_err("it is answered");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains("in quarantine"), "{status:?}");
    let word = status.metadata().get(landfast_proto::QUARANTINE);
    assert!(
        word.is_some(),
        "nodes know by it that they are to show what they have walked"
    );
}

async fn show(rig: &Rig) -> pb::GetQuarantineResponse {
    let mut operator = QuarantineClient::new(rig.admin().await);
    let shown = operator.get_quarantine(pb::GetQuarantineRequest {}).await;
    shown.unwrap().into_inner()
}

async fn end(rig: &Rig, reason: &str, accept_rollback: bool) -> Result<u64, Status> {
    let request = pb::EndQuarantineRequest {
        reason: reason.to_owned(),
        accept_rollback,
    };
    let mut operator = QuarantineClient::new(rig.admin().await);
    let ended = operator.end_quarantine(request).await?;
    Ok(ended.into_inner().came_back)
}

async fn anew(channel: &Channel) -> Result<(), Status> {
    renew(channel, &PrivateKey::generate().unwrap()).await.map(drop)
}

async fn renewed(node: &Node, rig: &Rig) -> Result<(), Status> {
    let channel = rig.tls(Some(Arc::clone(&node.svid))).await.unwrap();
    anew(&channel).await
}

#[tokio::test]
async fn nodes_are_told_nothing_and_have_to_destroy_nothing_and_operators_may_act() {
    let data = tempfile::tempdir().unwrap();
    let rig = start(data.path(), None).await;
    let (node, banned) = (rig.node().await, rig.node().await);
    let made = rig.entry(&node.id, "/line4/collector", |_| {}).await;
    rig.entry(&node.id, "/ops/by-entry", |entry| entry.admin = true)
        .await;
    rig.entry(&node.id, "/nested", |entry| entry.downstream = true)
        .await;
    let [by_config, by_entry, downstream] = [
        rig.mint("/ops/by-config").await,
        rig.mint("/ops/by-entry").await,
        rig.mint("/nested").await,
    ];
    ban(&rig, &banned.id).await;
    rig.tear_down().await;
    hold(data.path());

    let rig = start(data.path(), Some("/ops/by-config")).await;
    let connect =
        async |svid: &Arc<landfast_identity::X509Svid>| rig.tls(Some(Arc::clone(svid))).await.unwrap();
    let channel = connect(&node.svid).await;
    is_held(anew(&channel).await);
    is_held(authorised(&channel).await);
    is_held(batch(&channel, vec![svid::NewX509svidParams::default()]).await);
    let token = svid::NewJwtsvidRequest {
        entry_id: made.id.clone(),
        audience: vec!["a".to_owned()],
    };
    is_held(SvidClient::new(channel.clone()).new_jwtsvid(token).await);
    is_held(
        rig.attest("join_token", b"t".to_vec(), &PrivateKey::generate().unwrap())
            .await,
    );
    let nobody = rig.tls(None).await.unwrap();
    let of_bundle = bundle::GetBundleRequest { output_mask: None };
    is_held(BundleClient::new(nobody).get_bundle(of_bundle).await);
    // Its ban may have been lifted since the backup.
    is_held(anew(&connect(&banned.svid).await).await);
    // The rights of these may have been taken away since.
    let count = agent::CountAgentsRequest::default;
    is_held(
        AgentClient::new(connect(&by_entry).await)
            .count_agents(count())
            .await,
    );
    let ca = svid::NewDownstreamX509caRequest::default();
    is_held(
        SvidClient::new(connect(&downstream).await)
            .new_downstream_x509ca(ca)
            .await,
    );
    // The configuration was not restored.
    let mut operator = AgentClient::new(connect(&by_config).await);
    operator.count_agents(count()).await.unwrap();

    // On the admin socket all is done but signing.
    let mut operator = SvidClient::new(rig.admin().await);
    let key = PrivateKey::generate().unwrap();
    let id = SpiffeId::from_parts(&td(), "/x").unwrap();
    let csr = build_csr(&key, Some(&id), &[]).unwrap().into();
    is_held(
        operator
            .mint_x509svid(svid::MintX509svidRequest { csr, ttl: 60 })
            .await,
    );
    rig.entry(&node.id, "/later", |_| {}).await;
    let error = end(&rig, " ", true).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    let error = end(&rig, "two\nlines", true).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert_eq!(end(&rig, "looked", false).await.unwrap(), 0);
    let error = end(&rig, "looked", false).await.unwrap_err();
    assert_eq!(error.code(), Code::FailedPrecondition);
    renewed(&node, &rig).await.unwrap();
    let status = renewed(&banned, &rig).await.unwrap_err();
    assert_eq!(reason(&status), Some(Reason::AgentBanned));
    assert_eq!(show(&rig).await.ended[0].reason, "looked");
    rig.tear_down().await;
}

#[tokio::test]
async fn what_a_node_holds_and_has_seen_is_shown_to_operators() {
    let data = tempfile::tempdir().unwrap();
    let rig = start(data.path(), None).await;
    let node = rig.node().await;
    let kept = rig.entry(&node.id, "/kept", |_| {}).await;
    let deleted = rig.entry(&node.id, "/deleted", |_| {}).await;
    rig.tear_down().await;
    hold(data.path());
    let rig = start(data.path(), None).await;
    let request = SubscribeRequest {
        newest: Some(landfast_proto::landfast::entry::v1::Revision {
            epoch: 1,
            number: 109,
        }),
        entries: vec![HeldEntry {
            id: kept.id,
            version: 0,
        }],
        bundles: Vec::new(),
    };
    let channel = rig.tls(Some(Arc::clone(&node.svid))).await.unwrap();
    is_held(SyncClient::new(channel).subscribe(request).await);
    let shown = show(&rig).await;
    assert_eq!((shown.nodes, shown.nodes_heard, shown.complete), (1, 1, true));
    assert_eq!(shown.newest.unwrap().number, 109);
    assert_eq!(shown.findings.len(), 1, "{shown:?}");
    assert_eq!(
        (shown.findings[0].kind.as_str(), shown.findings[0].object.as_str()),
        ("entry-deleted", deleted.id.as_str())
    );
    let error = end(&rig, "looked", false).await.unwrap_err();
    assert!(
        error.message().contains("1 decisions would come back"),
        "{error:?}"
    );
    assert_eq!(end(&rig, "looked", true).await.unwrap(), 1);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_machine_that_was_put_back_is_given_away_by_the_first_node_that_was_renewed_since() {
    let data = tempfile::tempdir().unwrap();
    let files = landfast_store::DirFiles::new(std::fs::File::open(data.path()).unwrap().into());
    let none = br#"{"causes": [], "accepted": 0, "ended": []}"#;
    crate::quarantine::replace(&files, "quarantine.json", none).unwrap();
    let rig = start(data.path(), None).await;
    let (old, quiet) = (rig.node().await, rig.node().await);
    rig.tear_down().await;
    let snapshot = tempfile::tempdir().unwrap();
    copy(data.path(), snapshot.path());
    let rig = start(data.path(), None).await;
    let channel = rig.tls(Some(Arc::clone(&old.svid))).await.unwrap();
    let key = PrivateKey::generate().unwrap();
    let svid = renew(&channel, &key).await.unwrap();
    let renewed = rig.node_of(svid, key).await;
    authorised(&renewed.channel).await.unwrap();
    rig.tear_down().await;

    let back = tempfile::tempdir().unwrap();
    copy(snapshot.path(), back.path());
    let rig = start(back.path(), None).await;
    let channel = rig.tls(Some(Arc::clone(&quiet.svid))).await.unwrap();
    authorised(&channel).await.unwrap();
    let channel = rig.tls(Some(Arc::clone(&renewed.svid))).await.unwrap();
    // It is not told that another SVID is its own, or to attest again: it could not.
    is_held(authorised(&channel).await);
    let channel = rig.tls(Some(Arc::clone(&quiet.svid))).await.unwrap();
    is_held(authorised(&channel).await);
    let shown = show(&rig).await;
    assert_eq!(shown.causes[0].kind, "rolled-back");
    assert!(shown.causes[0].detail.contains(old.id.as_str()), "{shown:?}");
    end(&rig, "looked", true).await.unwrap();
    // The SVID that there is no record of is the node's, once.
    let channel = rig.tls(Some(Arc::clone(&renewed.svid))).await.unwrap();
    authorised(&channel).await.unwrap();
    rig.tear_down().await;
}

async fn ban(rig: &Rig, id: &SpiffeId) {
    let request = agent::BanAgentRequest { id: Some(wire(id)) };
    AgentClient::new(rig.admin().await)
        .ban_agent(request)
        .await
        .unwrap();
}

#[test]
fn the_answer_has_room_for_all_findings() {
    let finding = pb::Finding {
        kind: "entry-changed".to_owned(),
        object: "x".repeat(255),
        detail: "y".repeat(700),
        comes_back: true,
    };
    let most = pb::GetQuarantineResponse {
        findings: vec![finding; 2 * crate::quarantine::state::MAX_FINDINGS],
        ..Default::default()
    };
    assert!(most.encoded_len() < 4 << 20);
}

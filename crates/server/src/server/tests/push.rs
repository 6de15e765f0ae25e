//! `landfast.sync.v1` over TLS: what an agent is told as it happens, and how a subscription ends.

mod ends;

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use landfast_identity::{BundleSet, PrivateKey, SpiffeId};
use landfast_lifecycle::SystemClock;
use landfast_proto::landfast::entry::v1::{self as policy, entry_policies_client::EntryPoliciesClient};
use landfast_proto::landfast::sync::v1::{
    self as sync, Standing, SubscribeRequest, SubscribeResponse, sync_client::SyncClient,
};
use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use landfast_proto::spire::api::server::bundle::v1::{self as bundle, bundle_client::BundleClient};
use landfast_proto::spire::api::server::entry::v1::{self as entry, entry_client::EntryClient};
use landfast_proto::spire::api::server::localauthority::v1::{
    self as authority, local_authority_client::LocalAuthorityClient,
};
use landfast_proto::spire::api::types;
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::{authorised, renew};
use crate::core::fixture::foreign;
use crate::server::rig::{Node, Rig, reason, td, wire};

/// An agent's end of a subscription.
struct Ear(Streaming<SubscribeResponse>);

async fn subscribe(channel: &Channel, held: SubscribeRequest) -> Result<Ear, Status> {
    let answers = SyncClient::new(channel.clone()).subscribe(held).await?;
    Ok(Ear(answers.into_inner()))
}

/// Subscribes anew; returns what the first step said, too.
async fn begin(node: &Node) -> (Ear, SubscribeResponse) {
    let mut ear = subscribe(&node.channel, SubscribeRequest::default())
        .await
        .unwrap();
    let first = ear.next().await;
    (ear, first)
}

impl Ear {
    async fn heard(&mut self) -> Result<Option<SubscribeResponse>, Status> {
        let next = tokio::time::timeout(Duration::from_secs(60), self.0.message());
        next.await.expect("nothing was said")
    }

    /// The next step, whole.
    async fn next(&mut self) -> SubscribeResponse {
        let step = self.heard().await.unwrap().expect("the stream ended");
        assert!(!step.more);
        step
    }
}

fn ids(step: &SubscribeResponse) -> Vec<&str> {
    step.put.iter().map(|put| of(put).id.as_str()).collect()
}

fn of(put: &sync::AuthorizedEntry) -> &types::Entry {
    put.entry.as_ref().unwrap()
}

fn gone(step: &SubscribeResponse) -> Vec<&str> {
    step.gone.iter().map(|gone| gone.entry_id.as_str()).collect()
}

/// What an agent holds after these steps.
fn held(steps: &[&SubscribeResponse]) -> SubscribeRequest {
    let put = steps.iter().flat_map(|step| &step.put);
    let bundles = steps.iter().flat_map(|step| &step.bundles);
    SubscribeRequest {
        newest: steps.last().unwrap().revision,
        entries: put
            .map(|put| sync::HeldEntry {
                id: of(put).id.clone(),
                version: put.version,
            })
            .collect(),
        bundles: bundles
            .map(|bundle| sync::HeldBundle {
                trust_domain: bundle.bundle.as_ref().unwrap().trust_domain.clone(),
                digest: bundle.digest.clone(),
            })
            .collect(),
    }
}

async fn delete(rig: &Rig, id: &str) {
    let ids = vec![id.to_owned()];
    let mut operator = EntryClient::new(rig.admin().await);
    let deleted = operator
        .batch_delete_entry(entry::BatchDeleteEntryRequest { ids })
        .await;
    assert_eq!(
        deleted.unwrap().into_inner().results[0]
            .status
            .as_ref()
            .unwrap()
            .code,
        0
    );
}

async fn hint(rig: &Rig, id: &str, hint: &str) {
    let changed = types::Entry {
        hint: hint.to_owned(),
        ..types::Entry::default()
    };
    let mask = types::EntryMask {
        hint: true,
        ..types::EntryMask::default()
    };
    update(rig, id, changed, mask).await;
}

async fn update(rig: &Rig, id: &str, changed: types::Entry, mask: types::EntryMask) {
    let changed = types::Entry {
        id: id.to_owned(),
        ..changed
    };
    let request = entry::BatchUpdateEntryRequest {
        entries: vec![changed],
        input_mask: Some(mask),
        output_mask: None,
    };
    let mut operator = EntryClient::new(rig.admin().await);
    let updated = operator.batch_update_entry(request).await.unwrap().into_inner();
    assert_eq!(updated.results[0].status.as_ref().unwrap().code, 0);
}

#[tokio::test]
async fn an_agent_is_told_of_its_entries_as_they_come_change_and_go_and_of_no_others() {
    let rig = Rig::new().await;
    let (one, other) = (rig.node().await, rig.node().await);
    let (mut ear, first) = begin(&one).await;
    let (mut others_ear, _) = begin(&other).await;
    assert_eq!((first.put.len(), first.standing()), (0, Standing::Good));
    let own = first.bundles[0].bundle.as_ref().unwrap();
    assert_eq!(
        (first.bundles.len(), own.trust_domain.as_str()),
        (1, "plant.test")
    );

    let made = rig
        .entry(&one.id, "/line4/collector", |entry| {
            entry.dns_names = vec!["collector".to_owned()]
        })
        .await;
    let step = ear.next().await;
    assert_eq!(step.put.len(), 1);
    assert_eq!(
        step.put[0].entry.as_ref(),
        Some(&made),
        "as any call would say it"
    );
    assert!(step.bundles.is_empty() && step.gone.is_empty() && step.put[0].policy.is_none());
    assert!(step.revision.unwrap().number > first.revision.unwrap().number);

    hint(&rig, &made.id, "main").await;
    let changed = ear.next().await;
    assert_eq!(of(&changed.put[0]).hint, "main");
    assert!(changed.put[0].version > step.put[0].version);

    let mut operator = EntryPoliciesClient::new(rig.admin().await);
    let wanted = policy::EntryPolicy {
        entry_id: made.id.clone(),
        description: "pump 4".to_owned(),
        ..policy::EntryPolicy::default()
    };
    operator
        .set_entry_policy(policy::SetEntryPolicyRequest {
            policy: Some(wanted),
            mask: Some(policy::EntryPolicyMask {
                description: true,
                ..policy::EntryPolicyMask::default()
            }),
            if_revision: 0,
        })
        .await
        .unwrap();
    let set = ear.next().await;
    assert_eq!(set.put[0].policy.as_ref().unwrap().description, "pump 4");
    assert!(set.put[0].version > changed.put[0].version);

    // What was asked for before is not asked of its node any more.
    let powerful = types::Entry {
        admin: true,
        ..types::Entry::default()
    };
    let mask = types::EntryMask {
        admin: true,
        ..types::EntryMask::default()
    };
    update(&rig, &made.id, powerful, mask).await;
    let powerful = ear.next().await;
    assert!(of(&powerful.put[0]).admin && powerful.put[0].policy.is_none());

    delete(&rig, &made.id).await;
    let step = ear.next().await;
    assert_eq!((gone(&step), step.put.len()), (vec![made.id.as_str()], 0));
    assert!(step.gone[0].revision > set.revision.unwrap().number);

    // The other one heard nothing of all that: what it hears first is its own.
    let others = rig.entry(&other.id, "/line5/collector", |_| {}).await;
    assert_eq!(ids(&others_ear.next().await), [others.id.as_str()]);
    rig.tear_down().await;
}

#[tokio::test]
async fn what_hangs_under_an_alias_comes_and_goes_with_it_however_deep() {
    let rig = Rig::new().await;
    let (node, other) = (rig.node().await, rig.node().await);
    let (mut ear, _) = begin(&node).await;
    let (mut others_ear, _) = begin(&other).await;
    let in_domain = |path: &str| SpiffeId::from_parts(&td(), path).unwrap();
    let cell = rig.entry(&in_domain("/rack"), "/rack/cell", |_| {}).await;
    let pump = rig
        .entry(&in_domain("/rack/cell"), "/rack/cell/pump", |_| {})
        .await;
    let mut both = vec![cell.id.as_str(), pump.id.as_str()];
    both.sort_unstable();
    let selectors = vec![types::Selector {
        r#type: "spiffe_id".to_owned(),
        value: node.id.to_string(),
    }];
    let alias = rig
        .entry(&SpiffeId::server(&td()), "/rack", |entry| {
            entry.selectors = selectors.clone()
        })
        .await;
    assert_eq!(ids(&ear.next().await), both, "and not the alias itself");
    delete(&rig, &alias.id).await;
    assert_eq!(gone(&ear.next().await), both);
    rig.entry(&SpiffeId::server(&td()), "/rack", |entry| {
        entry.selectors = selectors
    })
    .await;
    assert_eq!(ids(&ear.next().await), both);
    let valve = rig.entry(&in_domain("/rack/cell/pump"), "/valve", |_| {}).await;
    assert_eq!(ids(&ear.next().await), [valve.id.as_str()], "four steps down");
    delete(&rig, &cell.id).await;
    let mut below = vec![cell.id.as_str(), pump.id.as_str(), valve.id.as_str()];
    below.sort_unstable();
    assert_eq!(gone(&ear.next().await), below);

    let others = rig.entry(&other.id, "/line5/collector", |_| {}).await;
    assert_eq!(ids(&others_ear.next().await), [others.id.as_str()]);
    rig.tear_down().await;
}

#[tokio::test]
async fn federated_bundles_come_with_the_entries_that_name_them_change_and_go() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let (mut ear, _) = begin(&node).await;
    let mut operator = BundleClient::new(rig.admin().await);
    let mut theirs = crate::api::convert::bundle_out(&foreign("other.test").await, None);
    let set = |theirs: &types::Bundle| bundle::BatchSetFederatedBundleRequest {
        bundle: vec![theirs.clone()],
        output_mask: None,
    };
    operator.batch_set_federated_bundle(set(&theirs)).await.unwrap();
    let made = rig
        .entry(&node.id, "/line4/collector", |entry| {
            entry.federates_with = vec!["other.test".to_owned()];
        })
        .await;
    let step = ear.next().await;
    assert_eq!(ids(&step), [made.id.as_str()]);
    assert_eq!(step.bundles.len(), 1);
    assert_eq!(step.bundles[0].bundle.as_ref(), Some(&theirs));

    theirs.refresh_hint = 77;
    operator.batch_set_federated_bundle(set(&theirs)).await.unwrap();
    let changed = ear.next().await;
    assert_eq!((changed.put.len(), changed.bundles.len()), (0, 1));
    assert_eq!(changed.bundles[0].bundle.as_ref().unwrap().refresh_hint, 77);
    assert_ne!(changed.bundles[0].digest, step.bundles[0].digest);

    let request = bundle::BatchDeleteFederatedBundleRequest {
        trust_domains: vec!["other.test".to_owned()],
        mode: bundle::batch_delete_federated_bundle_request::Mode::Dissociate.into(),
    };
    operator.batch_delete_federated_bundle(request).await.unwrap();
    let mut steps = vec![ear.next().await];
    // The entry and the bundle are two changes of one commit: they may be heard of one after the other.
    while steps.iter().all(|step| step.put.is_empty())
        || steps.iter().all(|step| step.bundles_gone.is_empty())
    {
        steps.push(ear.next().await);
    }
    let put = steps.iter().flat_map(|step| &step.put).next_back().unwrap();
    assert!(of(put).federates_with.is_empty());
    rig.tear_down().await;
}

#[tokio::test]
async fn the_taint_of_an_authority_is_told_at_once() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let (mut ear, first) = begin(&node).await;
    let mut orders = LocalAuthorityClient::new(rig.admin().await);
    let state = orders.get_x509_authority_state(authority::GetX509AuthorityStateRequest {});
    let before = state.await.unwrap().into_inner().active.unwrap().authority_id;
    let made = orders.prepare_x509_authority(authority::PrepareX509AuthorityRequest {});
    let made = made.await.unwrap().into_inner().prepared_authority.unwrap();
    let bundle = |step: &SubscribeResponse| step.bundles[0].bundle.clone().unwrap();
    let grown = bundle(&ear.next().await);
    assert_eq!(
        grown.x509_authorities.len(),
        bundle(&first).x509_authorities.len() + 1
    );
    let authority_id = made.authority_id;
    let activate = authority::ActivateX509AuthorityRequest { authority_id };
    orders.activate_x509_authority(activate).await.unwrap();
    let authority_id = before;
    orders
        .taint_x509_authority(authority::TaintX509AuthorityRequest { authority_id })
        .await
        .unwrap();
    loop {
        let step = ear.next().await;
        let tainted = bundle(&step).x509_authorities.iter().any(|one| one.tainted);
        if tainted {
            break;
        }
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn a_renewal_keeps_the_stream_and_the_use_of_the_new_svid_moves_it() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let (mut ear, _) = begin(&node).await;
    let key = PrivateKey::generate().unwrap();
    let renewed = renew(&node.channel, &key).await.unwrap();
    let made = rig.entry(&node.id, "/one", |_| {}).await;
    assert_eq!(ids(&ear.next().await), [made.id.as_str()]);
    let renewed = rig.node_of(renewed, key).await;
    let (mut new_ear, first) = begin(&renewed).await;
    assert_eq!(ids(&first), [made.id.as_str()]);
    assert!(ear.heard().await.unwrap().is_none(), "an end, and no refusal");
    let made = rig.entry(&node.id, "/two", |_| {}).await;
    assert_eq!(ids(&new_ear.next().await), [made.id.as_str()]);
    rig.tear_down().await;
}

#[tokio::test]
async fn who_comes_back_is_told_what_it_has_missed_and_nothing_else() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let stays = rig.entry(&node.id, "/stays", |_| {}).await;
    let goes = rig.entry(&node.id, "/goes", |_| {}).await;
    let (ear, first) = begin(&node).await;
    assert_eq!(first.put.len(), 2);
    drop(ear);
    let all = held(&[&first]);
    let mut ear = subscribe(&node.channel, all.clone()).await.unwrap();
    let nothing = ear.next().await;
    assert_eq!(
        (nothing.put.len(), nothing.gone.len(), nothing.bundles.len()),
        (0, 0, 0)
    );
    assert_eq!(nothing.revision, first.revision);
    drop(ear);
    delete(&rig, &goes.id).await;
    let comes = rig.entry(&node.id, "/comes", |_| {}).await;
    let mut ear = subscribe(&node.channel, all).await.unwrap();
    let missed = ear.next().await;
    assert_eq!(ids(&missed), [comes.id.as_str()]);
    assert_eq!(gone(&missed), [goes.id.as_str()]);
    assert!(missed.bundles.is_empty(), "{stays:?} and the bundle it has");
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_that_is_behind_tells_nothing_and_nonsense_is_refused() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let (_ear, first) = begin(&node).await;
    let mut ahead = held(&[&first]);
    let newest = ahead.newest.as_mut().unwrap();
    (newest.epoch, newest.number) = (newest.epoch + 1, 0);
    let status = subscribe(&node.channel, ahead).await.err().unwrap();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let mut twice = held(&[&first]);
    twice.bundles.push(twice.bundles[0].clone());
    let status = subscribe(&node.channel, twice).await.err().unwrap();
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    // A later history begins anew, and says all.
    let mut before = held(&[&first]);
    before.newest.as_mut().unwrap().epoch -= 1;
    before.bundles.clear();
    let mut ear = subscribe(&node.channel, before).await.unwrap();
    assert_eq!(ear.next().await.revision, first.revision);
    rig.tear_down().await;
}

#[tokio::test]
async fn what_an_agent_asks_for_says_of_which_revision_it_is_and_what_time() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let mut answered = SyncClient::new(node.channel.clone())
        .subscribe(SubscribeRequest::default())
        .await
        .unwrap();
    let first = answered.get_mut().message().await.unwrap().unwrap();
    let revision = |metadata: &tonic::metadata::MetadataMap| {
        let time = metadata.get(landfast_proto::TIME).expect("no time");
        assert!(time.to_str().unwrap().parse::<i64>().unwrap() > 1_700_000_000);
        let said = metadata.get(landfast_proto::REVISION).expect("no revision");
        said.to_str().unwrap().to_owned()
    };
    assert!(first.time > 1_700_000_000);
    let newest = first.revision.unwrap();
    let expected = format!("{}.{}", newest.epoch, newest.number);
    assert_eq!(revision(answered.metadata()), expected);
    let mut client = EntryClient::new(node.channel.clone());
    let all = client.get_authorized_entries(entry::GetAuthorizedEntriesRequest { output_mask: None });
    assert_eq!(revision(all.await.unwrap().metadata()), expected);
    let asks = tokio_stream::iter([entry::SyncAuthorizedEntriesRequest::default()]);
    let answers = client.sync_authorized_entries(Request::new(asks)).await.unwrap();
    assert_eq!(revision(answers.metadata()), expected);
    rig.tear_down().await;
}

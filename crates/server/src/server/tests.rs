//! A node's life with a real server, as SPIRE's agent lives it, and what must not work.

mod answers;
mod busy;
mod chain;
mod connections;
mod entries;
mod joining;
mod ledger;
mod quarantine;
mod requests;
mod returning;
mod stolen;

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{Certificate, Csr, PrivateKey, SpiffeId, build_csr};
use landfast_proto::spire::api::server::agent::v1 as agent;
use landfast_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use landfast_proto::spire::api::server::entry::v1::{self as entry, entry_client::EntryClient};
use landfast_proto::spire::api::server::svid::v1::{self as svid, svid_client::SvidClient};
use landfast_proto::spire::api::types;
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::rig::{Node, Rig, attest_on, attest_with, reason, svid_of, td, wire};

mod push;
mod wit;

async fn authorised(channel: &Channel) -> Result<Vec<types::Entry>, Status> {
    let request = entry::GetAuthorizedEntriesRequest { output_mask: None };
    Ok(EntryClient::new(channel.clone())
        .get_authorized_entries(request)
        .await?
        .into_inner()
        .entries)
}

async fn batch(
    channel: &Channel,
    params: Vec<svid::NewX509svidParams>,
) -> Result<Vec<svid::batch_new_x509svid_response::Result>, Status> {
    let request = svid::BatchNewX509svidRequest { params };
    Ok(SvidClient::new(channel.clone())
        .batch_new_x509svid(request)
        .await?
        .into_inner()
        .results)
}

async fn renew(channel: &Channel, key: &PrivateKey) -> Result<types::X509svid, Status> {
    let csr = build_csr(key, None, &[]).unwrap().into();
    let request = agent::RenewAgentRequest {
        params: Some(agent::AgentX509svidParams { csr }),
    };
    Ok(AgentClient::new(channel.clone())
        .renew_agent(request)
        .await?
        .into_inner()
        .svid
        .unwrap())
}

#[tokio::test]
async fn a_node_joins_gets_its_svids_and_renews() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    assert!(
        node.id
            .as_str()
            .starts_with("spiffe://plant.test/spire/agent/join_token/")
    );
    let made = rig
        .entry(&node.id, "/line4/collector", |entry| {
            entry.dns_names = vec!["collector.line4".to_owned()];
            entry.hint = "main".to_owned();
        })
        .await;

    let entries = authorised(&node.channel).await.unwrap();
    assert_eq!(entries, std::slice::from_ref(&made));

    let key = PrivateKey::generate().unwrap();
    let csr: bytes::Bytes = build_csr(&key, None, &[]).unwrap().into();
    let params = |id: &str, csr: &bytes::Bytes| svid::NewX509svidParams {
        entry_id: id.to_owned(),
        csr: csr.clone(),
    };
    let results = batch(
        &node.channel,
        vec![
            params("unknown", &csr),
            params(&made.id, &csr),
            params(&made.id, &bytes::Bytes::new()),
        ],
    )
    .await
    .unwrap();
    let codes: Vec<i32> = results.iter().map(|r| r.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [Code::NotFound as i32, 0, Code::InvalidArgument as i32]);
    assert_eq!(
        results[0].status.as_ref().unwrap().message,
        "entry not found or not authorized"
    );
    let issued = results[1].svid.clone().unwrap();
    assert_eq!(issued.hint, "main");
    let issued = svid_of(&issued, key);
    assert_eq!(issued.id().as_str(), "spiffe://plant.test/line4/collector");
    assert_eq!(issued.leaf().dns_sans(), ["collector.line4"]);

    let mut client = SvidClient::new(node.channel.clone());
    let token = |audience: &[&str], entry_id: &str| svid::NewJwtsvidRequest {
        entry_id: entry_id.to_owned(),
        audience: audience.iter().map(|a| (*a).to_owned()).collect(),
    };
    let jwt = client
        .new_jwtsvid(token(&["historian"], &made.id))
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let bundles = landfast_identity::BundleSet::from_iter([(*rig.handle.bundle()).clone()]);
    let now = landfast_identity::UnixTime::from_secs(jwt.issued_at);
    let verified = landfast_identity::jwt::verify(&jwt.token, &bundles, "historian", now).unwrap();
    assert_eq!(verified.id().path(), "/line4/collector");
    let code = |outcome: Result<_, Status>| {
        outcome
            .map(|_: tonic::Response<svid::NewJwtsvidResponse>| ())
            .unwrap_err()
            .code()
    };
    assert_eq!(
        code(client.new_jwtsvid(token(&[], &made.id)).await),
        Code::InvalidArgument
    );
    assert_eq!(
        code(client.new_jwtsvid(token(&["a"], "unknown")).await),
        Code::NotFound
    );

    // The old SVID works until the new one is first used.
    let key = PrivateKey::generate().unwrap();
    let renewed = renew(&node.channel, &key).await.unwrap();
    authorised(&node.channel).await.unwrap();
    let renewed = rig.node_of(renewed, key).await;
    assert_eq!(renewed.id, node.id);
    authorised(&renewed.channel).await.unwrap();
    let status = authorised(&node.channel).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status)),
        (Code::PermissionDenied, Some(Reason::AgentNotActive))
    );
    rig.tear_down().await;
}

#[tokio::test]
async fn another_agents_entries_are_out_of_reach() {
    let rig = Rig::new().await;
    let (one, other) = (rig.node().await, rig.node().await);
    let of_other = rig.entry(&other.id, "/line5/collector", |_| {}).await;
    assert!(authorised(&one.channel).await.unwrap().is_empty());
    let csr = build_csr(&PrivateKey::generate().unwrap(), None, &[])
        .unwrap()
        .into();
    let results = batch(
        &one.channel,
        vec![svid::NewX509svidParams {
            entry_id: of_other.id.clone(),
            csr,
        }],
    )
    .await
    .unwrap();
    assert_eq!(results[0].status.as_ref().unwrap().code, Code::NotFound as i32);
    assert!(results[0].svid.is_none());
    let request = svid::NewJwtsvidRequest {
        entry_id: of_other.id,
        audience: vec!["a".to_owned()],
    };
    let status = SvidClient::new(one.channel.clone())
        .new_jwtsvid(request)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    rig.tear_down().await;
}

/// T-20: on a connection that is open already.
#[tokio::test]
async fn a_ban_and_an_eviction_take_effect_with_the_next_call() {
    let rig = Rig::new().await;
    let (banned, evicted) = (rig.node().await, rig.node().await);
    let mut operator = AgentClient::new(rig.admin().await);
    operator
        .ban_agent(agent::BanAgentRequest {
            id: Some(wire(&banned.id)),
        })
        .await
        .unwrap();
    operator
        .delete_agent(agent::DeleteAgentRequest {
            id: Some(wire(&evicted.id)),
        })
        .await
        .unwrap();
    for (node, expected) in [
        (&banned, Reason::AgentBanned),
        (&evicted, Reason::AgentNotAttested),
    ] {
        let status = authorised(&node.channel).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status)),
            (Code::PermissionDenied, Some(expected))
        );
        let status = renew(&node.channel, &PrivateKey::generate().unwrap())
            .await
            .unwrap_err();
        assert_eq!(reason(&status), Some(expected));
    }
    let again = operator
        .delete_agent(agent::DeleteAgentRequest {
            id: Some(wire(&evicted.id)),
        })
        .await
        .unwrap_err();
    assert_eq!(again.code(), Code::NotFound);
    rig.tear_down().await;
}

/// `Node` is used by its fields; this keeps its SVID honest.
#[tokio::test]
async fn a_nodes_svid_lives_as_long_as_configured() {
    let rig = Rig::with(|config| config.ttls.agent = Duration::from_secs(7200)).await;
    let Node { svid, .. } = rig.node().await;
    let lives = svid.not_after().since(svid.not_before());
    assert_eq!(lives, Duration::from_secs(7200 + 300), "with the back-dating");
    rig.tear_down().await;
}

/// Who believes to have been heard says it once.
#[tokio::test]
async fn an_agent_whose_bundle_is_not_noted_is_told_so() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let report = async |sequence: u64| {
        let request = agent::PostStatusRequest {
            current_bundle_serial: sequence,
            ..Default::default()
        };
        let mut client = AgentClient::new(node.channel.clone());
        client.post_status(request).await.map(drop)
    };
    let mut refused = 0;
    for _ in 0..8 {
        report(0).await.unwrap();
        if let Err(status) = report(1).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            refused += 1;
        }
    }
    assert!(refused > 0, "it is not told");
    rig.tear_down().await;
}

#[tokio::test]
async fn what_an_agent_reports_is_stored_unless_it_is_nothing_or_too_much() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let report = async |version: String| {
        let request = agent::PostStatusRequest {
            agent_version: version,
            ..Default::default()
        };
        AgentClient::new(node.channel.clone())
            .post_status(request)
            .await
            .map(drop)
    };
    report("x".repeat(255)).await.unwrap();
    let status = report("x".repeat(256)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "agent version is too long (max 255 characters)");
    rig.tear_down().await;

    let rig = Rig::new().await;
    let node = rig.node().await;
    for version in ["1.14.0", ""] {
        let request = agent::PostStatusRequest {
            agent_version: version.to_owned(),
            ..Default::default()
        };
        AgentClient::new(node.channel.clone())
            .post_status(request)
            .await
            .unwrap();
    }
    let request = agent::GetAgentRequest {
        id: Some(wire(&node.id)),
        output_mask: None,
    };
    let stored = AgentClient::new(rig.admin().await)
        .get_agent(request)
        .await
        .unwrap();
    assert_eq!(stored.into_inner().agent_version, "1.14.0");
    // An empty hint is no filter.
    rig.entry(&node.id, "/hinted", |entry| entry.hint = "main".to_owned())
        .await;
    for (hint, found) in [("", 1), ("main", 1), ("other", 0)] {
        let filter = entry::list_entries_request::Filter {
            by_hint: Some(hint.to_owned()),
            ..Default::default()
        };
        let request = entry::ListEntriesRequest {
            filter: Some(filter),
            ..Default::default()
        };
        let listed = EntryClient::new(rig.admin().await)
            .list_entries(request)
            .await
            .unwrap();
        assert_eq!(listed.into_inner().entries.len(), found, "{hint:?}");
    }
    // An empty audience among others is dropped; alone it is none.
    let entry = rig.entry(&node.id, "/w", |_| {}).await;
    let mut client = SvidClient::new(node.channel.clone());
    let token = |audience: &[&str]| svid::NewJwtsvidRequest {
        entry_id: entry.id.clone(),
        audience: audience.iter().map(|one| (*one).to_owned()).collect(),
    };
    let made = client.new_jwtsvid(token(&["", "historian"])).await.unwrap();
    let bundles = landfast_identity::BundleSet::from_iter([(*rig.handle.bundle()).clone()]);
    let made = made.into_inner().svid.unwrap();
    let now = landfast_identity::UnixTime::from_secs(made.issued_at);
    let verified = landfast_identity::jwt::verify(&made.token, &bundles, "historian", now).unwrap();
    assert_eq!(verified.audience(), ["historian"]);
    assert_eq!(
        client.new_jwtsvid(token(&[""])).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    rig.tear_down().await;
}

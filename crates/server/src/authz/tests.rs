//! The table against the descriptors, and every method as every class of caller, on real listeners.

mod logins;
mod people;

use std::collections::BTreeSet;
use std::sync::Arc;

use landfast_identity::SpiffeId;
use landfast_proto::spire::api::server::agent::v1::{BanAgentRequest, agent_client::AgentClient};
use prost::Message as _;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use super::*;
use crate::server::rig::{Rig, hold, td, wire};

/// Every method of SPIRE's server services that we generate code for, and of our own that a server has.
fn described() -> BTreeSet<String> {
    let set = prost_types::FileDescriptorSet::decode(landfast_proto::DESCRIPTOR_SET).unwrap();
    let mut methods = BTreeSet::new();
    for file in &set.file {
        let ours = [
            "landfast.chain.v1",
            "landfast.entry.v1",
            "landfast.info.v1",
            "landfast.ledger.v1",
            "landfast.login.v1",
            "landfast.people.v1",
            "landfast.quarantine.v1",
            "landfast.recovery.v1",
            "landfast.reserve.v1",
            "landfast.selftest.v1",
            "landfast.sync.v1",
        ]
        .contains(&file.package());
        if !file.package().starts_with("spire.api.server.") && !ours {
            continue;
        }
        for service in &file.service {
            for method in &service.method {
                methods.insert(format!(
                    "/{}.{}/{}",
                    file.package(),
                    service.name(),
                    method.name()
                ));
            }
        }
    }
    methods
}

#[test]
fn every_method_has_a_row_and_every_row_a_method() {
    let described = described();
    assert!(
        described.len() >= 35,
        "the descriptors are not read: {described:?}"
    );
    let rows: BTreeSet<String> = TABLE.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(rows.len(), TABLE.len(), "a method has two rows");
    let missing: Vec<_> = described.difference(&rows).collect();
    assert!(missing.is_empty(), "methods without a row: {missing:?}");
    let foreign: Vec<_> = rows
        .difference(&described)
        .filter(|name| !name.starts_with("/grpc.health.v1.Health/"))
        .collect();
    assert!(foreign.is_empty(), "rows without a method: {foreign:?}");
}

/// The rights of all these are of a registry that may have forgotten that they were taken away.
#[tokio::test]
async fn in_quarantine_no_method_is_open_to_anybody_that_the_registry_lets_in() {
    let data = tempfile::tempdir().unwrap();
    let start = async || {
        Rig::with(|config| {
            config.data_dir = Some(data.path().into());
            config.admin_ids = vec![SpiffeId::from_parts(&td(), "/ops/by-config").unwrap()];
        })
        .await
    };
    let rig = start().await;
    let node = rig.node().await;
    rig.entry(&node.id, "/ops/by-entry", |entry| entry.admin = true)
        .await;
    rig.entry(&node.id, "/nested", |entry| entry.downstream = true)
        .await;
    let svids = [
        ("agent", Some(node.svid.clone())),
        ("admin by entry", Some(rig.mint("/ops/by-entry").await)),
        ("downstream", Some(rig.mint("/nested").await)),
        ("nobody", None),
    ];
    let by_config = rig.mint("/ops/by-config").await;
    rig.tear_down().await;
    hold(data.path());
    let rig = start().await;
    for (who, svid) in svids {
        let channel = rig.tls(svid).await.unwrap();
        for (method, ..) in TABLE.iter().filter(|(_, row, _)| *row != [Local]) {
            let status = call(&channel, method).await.expect_err(method);
            if (who, *method) == ("agent", SHOW_STEPS) {
                // What a node knows better is listened to; here there is no root key.
                assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
                continue;
            }
            assert_eq!(
                status.code(),
                Code::Unavailable,
                "{who} calls {method}: {status:?}"
            );
            assert!(status.message().contains("in quarantine"), "{who} calls {method}");
        }
    }
    let by_config = rig.tls(Some(by_config)).await.unwrap();
    let outcome = call(&by_config, "/spire.api.server.agent.v1.Agent/CountAgents").await;
    outcome.unwrap();
    rig.tear_down().await;
}

/// Calls a method with an empty message.
async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::unavailable(error.to_string()))?;
    let codec = tonic_prost::ProstCodec::<(), ()>::default();
    let watches = ["/grpc.health.v1.Health/Watch", "/landfast.sync.v1.Sync/Subscribe"].contains(&path);
    let path = PathAndQuery::try_from(path.to_owned()).unwrap();
    let answered = client.unary(Request::new(()), path, codec);
    // These answer for ever: that it began to is enough.
    let patience = std::time::Duration::from_secs(if watches { 1 } else { 30 });
    match tokio::time::timeout(patience, answered).await {
        Ok(outcome) => outcome.map(|_| ()),
        Err(_elapsed) if watches => Ok(()),
        Err(_elapsed) => panic!("no answer"),
    }
}

/// Whether the table let it through, whatever the handler then said. It must have been a handler that said it: a connection that broke, a
/// limit or a method that nobody serves proves nothing.
fn passed(method: &str, outcome: &Result<(), Status>) -> bool {
    let Err(status) = outcome else { return true };
    if status.message().starts_with("authorization denied") || status.message() == "no such method" {
        return false;
    }
    let silent = status.code() == Code::Unimplemented && status.message().is_empty() && method != UNSERVED;
    let elsewhere = [
        Code::Unavailable,
        Code::Unknown,
        Code::Cancelled,
        Code::DeadlineExceeded,
        Code::ResourceExhausted,
    ]
    .contains(&status.code());
    assert!(
        !silent && !elsewhere,
        "no handler of {method} said this: {status:?}"
    );
    true
}

/// Has a row because health's description has it; tonic-health does not serve it.
const UNSERVED: &str = "/grpc.health.v1.Health/List";

#[tokio::test]
async fn every_method_is_open_to_exactly_the_classes_of_its_row() {
    let rig =
        Rig::with(|config| config.admin_ids = vec![SpiffeId::from_parts(&td(), "/ops/by-config").unwrap()])
            .await;
    let node = rig.node().await;
    let local = rig.admin().await;
    rig.entry(&node.id, "/ops/by-entry", |entry| entry.admin = true)
        .await;
    rig.entry(&node.id, "/nested", |entry| entry.downstream = true)
        .await;
    rig.entry(&node.id, "/line4/collector", |_| {}).await;
    let by_config = rig.tls(Some(rig.mint("/ops/by-config").await)).await.unwrap();
    let by_entry = rig.tls(Some(rig.mint("/ops/by-entry").await)).await.unwrap();
    let downstream = rig.tls(Some(rig.mint("/nested").await)).await.unwrap();
    let workload = rig.tls(Some(rig.mint("/line4/collector").await)).await.unwrap();
    let nobody = rig.tls(None).await.unwrap();

    for (method, row, _) in TABLE {
        let open_to = |class: Class| row.contains(&class) || row.contains(&Any);
        let callers = [
            ("local", &local, row.contains(&Local) || row.contains(&Any)),
            ("nobody", &nobody, row.contains(&Any)),
            ("agent", &node.channel, open_to(Agent)),
            ("admin by configuration", &by_config, open_to(Admin)),
            ("admin by entry", &by_entry, open_to(Admin)),
            ("downstream", &downstream, open_to(Downstream)),
            ("workload", &workload, row.contains(&Any)),
        ];
        for (who, channel, expected) in callers {
            let outcome = call(channel, method).await;
            assert_eq!(
                passed(method, &outcome),
                expected,
                "{who} calls {method}: {outcome:?}"
            );
            if !expected {
                // What only the admin socket serves does not exist elsewhere (SPIRE's own suite asks it of Debug).
                let hidden = *row == [Local];
                let code = if hidden {
                    Code::Unimplemented
                } else {
                    Code::PermissionDenied
                };
                assert_eq!(outcome.unwrap_err().code(), code, "{who} calls {method}");
            }
        }
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn a_banned_agent_is_no_agent_and_keeps_the_rights_of_nobody() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let sync = "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
    assert!(passed(sync, &call(&node.channel, sync).await), "the control");
    let request = BanAgentRequest {
        id: Some(wire(&node.id)),
    };
    AgentClient::new(rig.admin().await)
        .ban_agent(request)
        .await
        .unwrap();
    for (method, row, _) in TABLE {
        // The one that was refused is closed a moment later.
        let channel = rig.tls(Some(Arc::clone(&node.svid))).await.unwrap();
        let outcome = call(&channel, method).await;
        assert_eq!(
            passed(method, &outcome),
            row.contains(&Any),
            "{method}: {outcome:?}"
        );
        if row.contains(&Agent) {
            let status = outcome.unwrap_err();
            assert_eq!(
                crate::server::rig::reason(&status),
                Some(Why::AgentBanned),
                "{method}"
            );
        }
    }
    rig.tear_down().await;
}

/// T-21.
/// 50 bytes an entry: what an agent may have has to fit, or it is refused for ever.
#[tokio::test]
async fn an_agent_of_many_entries_may_say_all_that_it_holds() {
    use landfast_proto::landfast::sync::v1::{HeldEntry, SubscribeRequest, sync_client::SyncClient};
    let rig = Rig::new().await;
    let node = rig.node().await;
    let request = |entries: usize| {
        let entry = |n: usize| HeldEntry {
            id: format!("{n:036}"),
            version: 1_000_000,
        };
        SubscribeRequest {
            entries: (0..entries).map(entry).collect(),
            ..SubscribeRequest::default()
        }
    };
    assert!(request(60_000).encoded_len() > 2 * 1024 * KIB);
    let mut client = SyncClient::new(node.channel.clone());
    let mut answers = client.subscribe(request(60_000)).await.unwrap().into_inner();
    answers.message().await.unwrap().unwrap();
    let status = client.subscribe(request(110_000)).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    drop((answers, client, node));
    rig.tear_down().await;
}

#[tokio::test]
async fn a_path_that_is_not_in_the_table_to_the_letter_reaches_nothing() {
    let rig = Rig::new().await;
    let (nobody, local) = (rig.tls(None).await.unwrap(), rig.admin().await);
    let get = "/spire.api.server.bundle.v1.Bundle/GetBundle";
    for channel in [&nobody, &local] {
        assert!(passed(get, &call(channel, get).await), "the control");
        for path in [
            "/spire.api.server.bundle.v1.Bundle/GetBundle?x=1",
            "/spire.api.server.bundle.v1.Bundle/GetBundle?",
            "//spire.api.server.bundle.v1.Bundle/GetBundle",
            "/spire.api.server.bundle.v1.Bundle//GetBundle",
            "/spire.api.server.bundle.v1.Bundle/GetBundle/",
            "/spire.api.server.bundle.v1.bundle/GetBundle",
            "/spire.api.server.bundle.v1.Bundle/getbundle",
            "/spire.api.server.bundle.v1.Bundle/%47etBundle",
            "/spire.api.server.agent.v1.Agent/ListAgents?x=1",
            "/spire.api.server.debug.v2.Debug/GetInfo",
            "/spire.api.server.trustdomain.v2.TrustDomain/ListFederationRelationships",
            "/",
        ] {
            let status = call(channel, path).await.unwrap_err();
            assert_eq!(
                (status.code(), status.message()),
                (Code::Unimplemented, "no such method"),
                "{path}"
            );
        }
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn an_identity_of_another_trust_domain_does_not_get_in() {
    let rig = Rig::new().await;
    let other = Rig::with(|config| {
        config.trust_domain = landfast_identity::TrustDomain::parse("other.test").unwrap()
    })
    .await;
    let key = landfast_identity::PrivateKey::generate().unwrap();
    let id = SpiffeId::parse("spiffe://other.test/ops/by-config").unwrap();
    let csr = landfast_identity::build_csr(&key, Some(&id), &[]).unwrap().into();
    let request = landfast_proto::spire::api::server::svid::v1::MintX509svidRequest { csr, ttl: 600 };
    let mut operator =
        landfast_proto::spire::api::server::svid::v1::svid_client::SvidClient::new(other.admin().await);
    let minted = operator
        .mint_x509svid(request)
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let foreign = Arc::new(crate::server::rig::svid_of(&minted, key));
    let get = "/spire.api.server.bundle.v1.Bundle/GetBundle";
    // In TLS 1.3 the client learns of the refusal with its first read.
    let outcome = match rig.tls(Some(foreign)).await {
        Ok(channel) => call(&channel, get).await,
        Err(error) => Err(Status::unavailable(error.to_string())),
    };
    assert!(outcome.is_err(), "{outcome:?}");
    assert!(
        passed(get, &call(&rig.tls(None).await.unwrap(), get).await),
        "the control"
    );
    other.tear_down().await;
    rig.tear_down().await;
}

//! The table against the descriptors, and every method on the real sockets.

use std::collections::BTreeSet;

use prost::Message as _;
use tonic::Code;

use super::*;
use crate::broker::tests::{self as brokers, BROKERS, channel_of};
use crate::delegate::tests::{World, call, channel};

/// Every method that we generate code for and that is an agent's to serve.
fn described() -> BTreeSet<String> {
    let set = FileDescriptorSet::decode(landfast_proto::DESCRIPTOR_SET).unwrap();
    const SERVERS: [&str; 12] = [
        "spire.api.server.",
        "landfast.chain.",
        "landfast.entry.",
        "landfast.info.",
        "landfast.ledger.",
        "landfast.quarantine.",
        "landfast.people.",
        "landfast.recovery.",
        "landfast.reserve.",
        "landfast.sync.",
        "landfast.login.",
        "landfast.selftest.",
    ];
    let agents = set
        .file
        .iter()
        .filter(|file| !SERVERS.iter().any(|servers| file.package.starts_with(servers)));
    let mut methods = BTreeSet::new();
    for file in agents {
        for service in &file.service {
            let name = match file.package.as_str() {
                "" => service.name.clone(),
                package => format!("{package}.{}", service.name),
            };
            methods.extend(
                service
                    .method
                    .iter()
                    .map(|method| format!("/{name}/{}", method.name)),
            );
        }
    }
    methods
}

/// As much of `google.protobuf.FileDescriptorSet` as names methods.
#[derive(Clone, PartialEq, prost::Message)]
struct FileDescriptorSet {
    #[prost(message, repeated, tag = "1")]
    file: Vec<File>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct File {
    #[prost(string, tag = "2")]
    package: String,
    #[prost(message, repeated, tag = "6")]
    service: Vec<Service>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Service {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    method: Vec<Method>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Method {
    #[prost(string, tag = "1")]
    name: String,
}

fn rows(of: Socket) -> BTreeSet<&'static str> {
    let rows = TABLE.iter().filter(|(_, sockets)| sockets.contains(&of));
    rows.map(|(method, _)| *method).collect()
}

#[test]
fn every_method_has_a_row_and_every_row_a_method() {
    let described = described();
    assert!(
        described.len() >= 17,
        "the descriptors are not read: {described:?}"
    );
    let all: BTreeSet<_> = TABLE.iter().map(|(method, _)| (*method).to_owned()).collect();
    assert_eq!(all.len(), TABLE.len(), "a method has two rows");
    let missing: Vec<_> = described.difference(&all).collect();
    assert!(missing.is_empty(), "methods without a row: {missing:?}");
    let foreign = all.difference(&described);
    let foreign: Vec<_> = foreign
        .filter(|name| !name.starts_with("/grpc.health.v1.Health/"))
        .collect();
    assert!(foreign.is_empty(), "rows without a method: {foreign:?}");
    assert!(TABLE.iter().all(|(_, sockets)| !sockets.is_empty()));
}

#[test]
fn the_lists_that_the_other_sockets_enforce_are_those_of_the_table() {
    assert_eq!(
        rows(Workload),
        landfast_workload_api::METHODS.into_iter().collect()
    );
    assert_eq!(rows(Delegate), DELEGATED.into_iter().collect());
    assert_eq!(rows(Broker), BROKERED.into_iter().collect());
}

#[test]
fn strangers_are_not_answered_and_callers_without_credentials_never() {
    assert!(may_ask(Some(0), 7, false) && may_ask(Some(7), 7, false));
    assert!(!may_ask(Some(8), 7, false));
    assert!(may_ask(Some(8), 7, true));
    assert!(!may_ask(None, 7, true) && !may_ask(None, 0, false));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_socket_serves_what_the_table_says_and_nothing_else() {
    let world = brokers::world(BROKERS).await;
    for (socket, channel) in [
        (Workload, channel(world.handle.socket()).await),
        (Admin, channel(world.handle.admin_socket()).await),
        (Delegate, channel(world.handle.delegate_socket().unwrap()).await),
        (Broker, channel_of(&world, brokers::svid(&world, "/mesh")).await),
    ] {
        for (method, sockets) in TABLE {
            let status = call(&channel, method).await;
            let served = status
                .as_ref()
                .is_none_or(|status| status.message() != "no such method");
            assert_eq!(
                served,
                sockets.contains(&socket),
                "{method} on {socket:?}: {status:?}"
            );
            if !served {
                assert_eq!(status.unwrap().code(), Code::Unimplemented);
            }
        }
        let query = call(&channel, "/landfast.agent.v1.AgentAdmin/GetStatus?x=1").await;
        assert_eq!(query.unwrap().code(), Code::Unimplemented);
    }
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_switch_brokers_have_no_socket_and_no_method() {
    let world = World::new().await;
    assert_eq!(world.handle.broker_socket(), None);
    for path in [
        world.handle.socket(),
        world.handle.admin_socket(),
        world.handle.delegate_socket().unwrap(),
    ] {
        let folders = path.parent().unwrap().parent().unwrap();
        assert!(!folders.join("broker").exists());
        let channel = channel(path).await;
        for method in BROKERED {
            let status = call(&channel, method).await.unwrap();
            assert_eq!(
                (status.code(), status.message()),
                (Code::Unimplemented, "no such method"),
                "{method}"
            );
        }
    }
    world.stop().await;
}

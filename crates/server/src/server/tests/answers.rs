//! Agents that ask for much and take nothing.

use std::sync::Arc;

use landfast_proto::spire::api::server::entry::v1::{
    SyncAuthorizedEntriesRequest, entry_client::EntryClient,
};
use landfast_proto::spire::api::types;
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

use super::authorised;
use crate::server::rig::{Node, Rig, td};

/// A connection of the node's that has room for no more than HTTP/2's least.
async fn narrow(rig: &Rig, node: &Node) -> Channel {
    let bundles = BundleStore::new(landfast_identity::BundleSet::from_iter([
        (*rig.handle.bundle()).clone()
    ]));
    let store = IdentityStore::new();
    store.set(Arc::clone(&node.svid));
    let expect = Expect::Exactly(landfast_identity::SpiffeId::server(&td()));
    let clock = Arc::new(landfast_lifecycle::SystemClock);
    let tls = client_config(expect, bundles, Some(store), clock).unwrap();
    let tcp = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
    let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
    let stream = TlsConnector::from(tls).connect(name, tcp).await.unwrap();
    let mut only = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_: http::Uri| {
        let only = only.take();
        async move { only.ok_or_else(|| std::io::Error::other("the connection was closed")) }
    });
    let endpoint = Endpoint::from_static("http://server.invalid").initial_stream_window_size(65_535);
    endpoint.connect_with_connector(connector).await.unwrap()
}

/// More than there is room for, so that it goes alone.
async fn much(rig: &Rig, node: &Node) {
    for n in 0..8 {
        let change = |entry: &mut types::Entry| {
            entry.selectors = (0..16)
                .map(|s| types::Selector {
                    r#type: "unix".to_owned(),
                    value: format!("path:/{s}/{}", "x".repeat(4000)),
                })
                .collect();
        };
        let path = format!("{}/{n}", node.id.path().replace("/spire/", "/much/"));
        rig.entry(&node.id, &path, change).await;
    }
}

/// All that the node may have, when that is one page.
async fn page(channel: &Channel) -> usize {
    let request = tokio_stream::once(SyncAuthorizedEntriesRequest::default());
    let mut client = EntryClient::new(channel.clone()).max_decoding_message_size(16 << 20);
    let answer = client.sync_authorized_entries(request).await.unwrap();
    let page = answer.into_inner().message().await;
    page.unwrap().unwrap().entries.len()
}

/// What is not taken stays where it is counted; who asks for little is served beside it, and who asks for as much after the other has lost its
/// connection.
#[tokio::test]
async fn an_agent_that_takes_nothing_gives_way_and_neighbours_are_served() {
    let rig = Rig::with(|config| config.limits.answers_bytes = 1 << 20).await;
    let (deaf, little, as_much) = (rig.node().await, rig.node().await, rig.node().await);
    much(&rig, &deaf).await;
    much(&rig, &as_much).await;
    rig.entry(&little.id, "/little", |_| {}).await;

    let mut client = EntryClient::new(narrow(&rig, &deaf).await);
    let request = tokio_stream::once(SyncAuthorizedEntriesRequest::default());
    // Held, and not read.
    let answer = client.sync_authorized_entries(request).await.unwrap();
    assert_eq!(authorised(&little.channel).await.unwrap().len(), 1);
    let at_once = authorised(&as_much.channel).await.unwrap_err();
    assert!(at_once.message().contains("answers_size"), "{at_once:?}");
    assert_eq!(page(&as_much.channel).await, 8);
    let rest = answer.into_inner().message().await;
    assert!(
        rest.is_err(),
        "it had all there was, and somebody else was served"
    );
    rig.tear_down().await;
}

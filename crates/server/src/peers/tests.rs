//! What nodes say is noted, and no more of it than that.

use landfast_proto::landfast::info::v1::{self as info, info_client::InfoClient};
use landfast_proto::landfast::sync::v1::{SubscribeRequest, sync_client::SyncClient};
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::server::entry::v1::{
    GetAuthorizedEntriesRequest, SyncAuthorizedEntriesRequest, entry_client::EntryClient,
};
use tonic::{Code, Request, Status};

use super::*;
use crate::server::rig::{Node, Rig};

const SOME: &str = "landfast/0.0.1 built=1793491200 sync=1 x-ray=7";

fn saying<T>(message: T, said: &str) -> Request<T> {
    let mut request = Request::new(message);
    // A client of HTTP/2 could send other bytes: the header is then not text.
    let value = MetadataValue::try_from(said).unwrap_or_else(|_| {
        let value = http::HeaderValue::from_bytes(said.as_bytes()).expect("bytes of a header");
        MetadataMap::from_headers(
            [(http::HeaderName::from_static("x"), value)]
                .into_iter()
                .collect(),
        )
        .get("x")
        .expect("that one")
        .clone()
    });
    request.metadata_mut().insert(SPEAKS, value);
    request
}

async fn polls(node: &Node, said: &str) -> Result<MetadataMap, Status> {
    let request = saying(GetAuthorizedEntriesRequest { output_mask: None }, said);
    let answer = EntryClient::new(node.channel.clone())
        .get_authorized_entries(request)
        .await;
    Ok(answer?.metadata().clone())
}

async fn told(rig: &Rig, ids: &[&SpiffeId]) -> Result<Vec<info::Node>, Status> {
    let agent_ids = ids.iter().map(ToString::to_string).collect();
    let mut operator = InfoClient::new(rig.admin().await);
    let answer = operator.list_nodes(info::ListNodesRequest { agent_ids }).await?;
    Ok(answer.into_inner().nodes)
}

fn in_words(node: &info::Node) -> (String, Vec<(&str, u32)>) {
    let speaks = node.speaks.as_ref().unwrap();
    let all = speaks.capabilities.iter();
    (
        format!("{} {} {}", speaks.version, speaks.built, node.skew),
        all.map(|one| (one.name.as_str(), one.number)).collect(),
    )
}

#[tokio::test]
async fn an_operator_sees_what_each_node_said_last_about_itself() {
    let rig = Rig::new().await;
    let (one, two) = (rig.node().await, rig.node().await);
    assert!(told(&rig, &[&one.id]).await.unwrap().is_empty());
    polls(&one, SOME).await.unwrap();
    let nodes = told(&rig, &[&one.id, &two.id]).await.unwrap();
    assert_eq!(nodes.len(), 1, "the other one has said nothing");
    assert_eq!(nodes[0].agent_id, one.id.to_string());
    assert_eq!(
        in_words(&nodes[0]),
        ("0.0.1 1793491200 ".to_owned(), vec![("sync", 1), ("x-ray", 7)])
    );
    assert!(nodes[0].heard_at > 1_700_000_000);
    let newer = saying(SubscribeRequest::default(), "landfast/99.0.0 sync=2");
    SyncClient::new(one.channel.clone())
        .subscribe(newer)
        .await
        .unwrap();
    let asks = tokio_stream::iter([SyncAuthorizedEntriesRequest::default()]);
    let old = saying(asks, "landfast/0.0.1 built=1000000000");
    EntryClient::new(two.channel.clone())
        .sync_authorized_entries(old)
        .await
        .unwrap();
    let nodes = told(&rig, &[&one.id, &two.id]).await.unwrap();
    let words: Vec<_> = nodes.iter().map(in_words).collect();
    assert_eq!(words[0], ("99.0.0 0 newer".to_owned(), vec![("sync", 2)]));
    assert_eq!(words[1], ("0.0.1 1000000000 old".to_owned(), vec![]));
    rig.tear_down().await;
}

#[tokio::test]
async fn agents_are_told_what_the_server_can_and_nobody_else_is() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let said = polls(&node, SOME).await.unwrap();
    let said = said.get(SPEAKS).expect("what the server can").to_str().unwrap();
    assert_eq!(Speaks::parse(said).as_ref(), Some(own()));
    assert_eq!(own().number(landfast_proto::speaks::RESERVE), Some(1));
    let shown = InfoClient::new(rig.admin().await)
        .get_server(info::GetServerRequest {})
        .await;
    let shown = shown.unwrap().into_inner().server.unwrap();
    assert_eq!(
        (shown.version.as_str(), shown.built),
        (own().version(), own().built())
    );
    let anybody = BundleClient::new(rig.tls(None).await.unwrap());
    let bundle = { anybody }
        .get_bundle(GetBundleRequest { output_mask: None })
        .await
        .unwrap();
    assert!(
        bundle.metadata().get(SPEAKS).is_none(),
        "anybody learns which version to attack"
    );
    rig.tear_down().await;
}

#[tokio::test]
async fn what_a_hostile_node_says_is_not_kept_and_costs_it_nothing() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    polls(&node, SOME).await.unwrap();
    for bad in [
        "nonsense".to_owned(),
        "landfast/\u{202e}evil".to_owned(),
        format!("landfast/1 {}", "a=1 ".repeat(1000)),
    ] {
        polls(&node, SOME).await.unwrap();
        polls(&node, &bad).await.expect("it is answered");
        let nodes = told(&rig, &[&node.id]).await.unwrap();
        assert_eq!(nodes, [], "{:?}", &bad[..9]);
    }
    // The listener takes no such header at all; what is known stays.
    polls(&node, SOME).await.unwrap();
    polls(&node, &"a".repeat(1_000_000)).await.unwrap_err();
    assert_eq!(told(&rig, &[&node.id]).await.unwrap().len(), 1);
    rig.tear_down().await;
}

#[tokio::test]
async fn nobody_speaks_for_a_node_but_the_node() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    polls(&node, SOME).await.unwrap();
    let nobody = rig.tls(None).await.unwrap();
    let request = saying(
        GetAuthorizedEntriesRequest { output_mask: None },
        "landfast/9.9.9",
    );
    let refused = EntryClient::new(nobody).get_authorized_entries(request).await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let nodes = told(&rig, &[&node.id]).await.unwrap();
    assert_eq!(in_words(&nodes[0]).0, "0.0.1 1793491200 ");
    rig.tear_down().await;
}

#[tokio::test]
async fn who_asks_for_too_many_or_for_none_is_told() {
    let rig = Rig::new().await;
    let id = SpiffeId::parse("spiffe://example.org/spire/agent/x").unwrap();
    for many in [0, 501] {
        let refused = told(&rig, &vec![&id; many]).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{many}");
    }
    let mut operator = InfoClient::new(rig.admin().await);
    let agent_ids = vec!["no SPIFFE ID".to_owned()];
    let refused = operator.list_nodes(info::ListNodesRequest { agent_ids }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    rig.tear_down().await;
}

#[test]
fn a_fleet_shares_its_words_and_is_bounded() {
    let peers = Peers::default();
    let mut said = MetadataMap::new();
    said.insert(SPEAKS, SOME.parse().unwrap());
    let id = |n: usize| SpiffeId::parse(&format!("spiffe://example.org/spire/agent/{n:06}")).unwrap();
    for n in 0..MOST + 5 {
        peers.note(&id(n), &said, None);
    }
    let known = peers.0.lock().unwrap();
    assert_eq!(known.peers.len(), MOST);
    let first = &known.peers.values().next().unwrap().speaks;
    assert!(Arc::strong_count(first) == MOST, "{}", Arc::strong_count(first));
}

#[test]
fn numbers_of_skewed_nodes_follow_what_is_said() {
    let peers = Peers::default();
    let id = SpiffeId::parse("spiffe://example.org/spire/agent/x").unwrap();
    let mut said = MetadataMap::new();
    let counts = || {
        let known = peers.0.lock().unwrap();
        (known.newer, known.old)
    };
    for (text, expected) in [
        ("landfast/99.0.0", (1, 0)),
        ("landfast/99.0.0 sync=1", (1, 0)),
        ("landfast/0.0.1 built=1", (0, 1)),
        (SOME, (0, 0)),
        ("landfast/99.0.0", (1, 0)),
    ] {
        said.insert(SPEAKS, text.parse().unwrap());
        peers.note(&id, &said, None);
        assert_eq!(counts(), expected, "{text}");
    }
    peers.note(&id, &MetadataMap::new(), None);
    assert_eq!(counts(), (0, 0), "SPIRE's agent, on the same node");
    let warned = || peers.0.lock().unwrap().warned.len();
    assert_eq!(warned(), 1, "it was warned of, whatever it says now");
    said.insert(SPEAKS, "landfast/99.0.0".parse().unwrap());
    peers.note(&id, &said, None);
    assert_eq!((counts(), warned()), ((1, 0), 1));
    peers.keep(|_| true);
    assert_eq!(counts(), (1, 0));
    peers.keep(|_| false);
    assert_eq!((counts(), warned()), ((0, 0), 0), "it is no node any more");
    assert!(peers.get(&id).is_none());
}

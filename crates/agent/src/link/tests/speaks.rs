//! What the two ends say of themselves, and what follows from it.

use super::reserve::setup;
use super::*;
use crate::testing::fake_server::reserve::policy;

const OLD: &str = "landfast/0.0.1 built=1793491200 sync=1 x-ray=3";

/// Subscribed, with an entry whose policy asks for a reserve.
async fn server(speaks: Option<&'static str>) -> FakeServer {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.pushes(7, 1);
    server.script().speaks = speaks;
    let policies = [("a".to_owned(), policy(2 * 3600, &[]))];
    server.script().reserve.policies = policies.into_iter().collect();
    server
}

impl Node {
    fn says(&self) -> String {
        self.status().told.to_string()
    }
}

#[tokio::test]
async fn a_server_is_asked_only_for_what_it_says_it_has_and_told_what_the_agent_can() {
    let server = server(Some(OLD)).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    until("it has heard", || node.says() == OLD).await;
    until("nothing is known of a chain", || {
        node.status().chain.starts_with("none: ")
    })
    .await;
    // The link had its turn, and another.
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    until("b is there", || node.serves(&["unix:uid:2"]) == ["/b"]).await;
    assert_eq!((server.calls("NewRungs"), server.calls("GetSteps")), (0, 0));
    let introduced = server.script().introduced.clone();
    assert_eq!(introduced.len(), 1, "{introduced:?}");
    let (method, said) = &introduced[0];
    assert_eq!(*method, "Subscribe");
    assert!(
        said.starts_with(concat!("landfast/", env!("CARGO_PKG_VERSION"), " built=")),
        "{said}"
    );
    assert!(said.contains(" reserve=1") && said.contains(" sync=1"), "{said}");
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_says_nothing_is_asked_as_ever() {
    let server = server(None).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    until("rungs are asked for", || server.calls("NewRungs") > 0).await;
    until("the chain is asked for", || server.calls("GetSteps") > 0).await;
    until("it is known", || node.says().starts_with("nothing")).await;
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_is_upgraded_is_asked_for_what_it_has_now() {
    let server = server(Some(OLD)).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    until("it has heard", || node.says() == OLD).await;
    server.script().speaks = Some("landfast/99.0.0 chain=2 reserve=9 sync=4");
    server.break_connections();
    until("rungs are asked for", || server.calls("NewRungs") > 0).await;
    until("the chain is asked for", || server.calls("GetSteps") > 0).await;
    assert_eq!(node.says(), "landfast/99.0.0 built=0 chain=2 reserve=9 sync=4");
    node.stop().await;
}

/// The next one is SPIRE's, say.
#[tokio::test]
async fn what_the_server_before_said_is_not_taken_for_the_next_ones_words() {
    let server = server(Some(OLD)).await;
    let dir = tempfile::tempdir().unwrap();
    let node = setup(&server, dir.path()).start();
    until("it has heard", || node.says() == OLD).await;
    server.script().speaks = None;
    server.break_connections();
    until("nothing is said", || node.says().starts_with("nothing")).await;
    node.stop().await;
}

#[tokio::test]
async fn what_cannot_be_read_is_nothing_and_polls_introduce_themselves_too() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().speaks = Some("spire/1.15.2 sync=1");
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    until("it is known", || node.says().starts_with("nothing")).await;
    let methods: Vec<_> = server
        .script()
        .introduced
        .iter()
        .map(|(method, _)| *method)
        .collect();
    assert!(methods.contains(&"SyncAuthorizedEntries"), "{methods:?}");
    node.stop().await;
}

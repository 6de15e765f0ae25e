//! Steps of the bundle chain that the node shows to a server that has forgotten them.

use landfast_identity::chain::{RootPrivateKey, SignedStep, Walker};

use super::chain::{root, server_of};
use super::*;
use crate::link::chain::Kept;
use crate::testing::fake_server::chain::Steps;

/// A node that has walked a chain of so many steps with this server, and sleeps; the chain.
async fn walked(server: &FakeServer, dir: &Path, key: &RootPrivateKey, count: usize) -> Vec<SignedStep> {
    let bundle = server.ca().bundle();
    server.script().steps.next(&bundle, key);
    let node = Setup::new(server, dir).start();
    node.serving().await;
    until("the root key is pinned", || {
        node.status().chain.contains("step 5.1")
    })
    .await;
    node.stop().await;
    (1..count).for_each(|_| server.script().steps.next(&bundle, key));
    let node = Setup::new(server, dir).start();
    until("it has walked", || {
        node.status().chain.contains(&format!("step 5.{count},"))
    })
    .await;
    node.stop().await;
    server.script().steps.signed.clone().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_was_restored_is_shown_what_it_has_forgotten() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let server = server_of(Ca::new("one")).await;
    let all = walked(&server, dir.path(), &key, 4).await;
    server.script().steps.signed = Some(all[..2].to_vec());
    server.script().steps.takes = true;
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    until("they were shown", || !server.script().steps.shown.is_empty()).await;
    assert_eq!(server.script().steps.shown, [[1, 2, 3, 4]]);
    until("it leads on", || {
        node.status().chain.contains("step 5.4,") && node.status().chain_trouble.is_empty()
    })
    .await;
    node.stop().await;
}

fn in_quarantine() -> tonic::Status {
    let mut refused = tonic::Status::unavailable("this server is in quarantine");
    let word = tonic::metadata::MetadataValue::from_static("1");
    refused.metadata_mut().insert(landfast_proto::QUARANTINE, word);
    refused
}

const ALL_ELSE: [&str; 5] = [
    "SyncAuthorizedEntries",
    "GetAuthorizedEntries",
    "GetBundle",
    "Subscribe",
    "GetSteps",
];

/// Refuses everything but what is shown.
fn refuses(server: &FakeServer, refused: &tonic::Status) {
    for method in ALL_ELSE {
        server.script().refuse.insert(method, refused.clone());
    }
}

fn refused(server: &FakeServer) -> u32 {
    ALL_ELSE.iter().map(|method| server.calls(method)).sum()
}

/// It was put back to before its root key was replaced, and has begun another epoch with the old one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_signs_with_another_root_key_is_shown_what_it_has_forgotten() {
    let (dir, key, old) = (tempfile::tempdir().unwrap(), root(), root());
    let server = server_of(Ca::new("one")).await;
    let all = walked(&server, dir.path(), &key, 4).await;
    let bundle = server.ca().bundle();
    server.script().steps.signed = Some(all[..2].to_vec());
    server.script().steps.add(6, &bundle, &[&old], &[&old]);
    server.script().steps.takes = true;
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    until("they were shown", || !server.script().steps.shown.is_empty()).await;
    assert_eq!(server.script().steps.shown, [[1, 2, 3, 4]]);
    node.stop().await;
}

/// In a quarantine it answers nothing else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_quarantine_is_shown_them_once_in_a_while() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let server = server_of(Ca::new("one")).await;
    walked(&server, dir.path(), &key, 2).await;
    refuses(&server, &in_quarantine());
    let node = Setup::new(&server, dir.path()).start();
    until("they were shown", || !server.script().steps.shown.is_empty()).await;
    let before = refused(&server);
    until("it goes on asking", || refused(&server) > before + 3).await;
    assert_eq!(server.script().steps.shown, [[1, 2]], "not with each of them");
    node.stop().await;
    server.script().refuse.clear();
    // One that does not know of it is asked no more than the others.
    let refused = tonic::Status::unimplemented("");
    server.script().refuse.insert("ShowSteps", refused);
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(node.status().complaint(), "");
    node.stop().await;
}

/// Its datastore fails for a moment, say: all nodes meet that at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_ill_is_shown_nothing() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let server = server_of(Ca::new("one")).await;
    walked(&server, dir.path(), &key, 2).await;
    let ill = tonic::Status::unavailable("the datastore of the server failed");
    refuses(&server, &ill);
    let node = Setup::new(&server, dir.path()).start();
    let before = refused(&server);
    until("it was asked often", || refused(&server) > before + 20).await;
    assert_eq!(server.calls("ShowSteps"), 0);
    // The word counts with this code alone.
    let mut of_another_code = tonic::Status::internal("");
    *of_another_code.metadata_mut() = in_quarantine().metadata().clone();
    refuses(&server, &of_another_code);
    let before = refused(&server);
    until("it was asked often", || refused(&server) > before + 20).await;
    assert_eq!(server.calls("ShowSteps"), 0);
    refuses(&server, &in_quarantine());
    until("they were shown", || server.calls("ShowSteps") > 0).await;
    node.stop().await;
}

/// A server in quarantine may have the next one waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_another_server_that_serves_nothing_is_shown_to_the_one_in_quarantine() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let first = server_of(Ca::new("one")).await;
    walked(&first, dir.path(), &key, 2).await;
    let second = first.beside().await;
    second.script().steps.signed = first.script().steps.signed.clone();
    refuses(&first, &in_quarantine());
    let node = Setup::of_two(&first, &second, dir.path()).start();
    node.serving().await;
    let turns = || second.calls("SyncAuthorizedEntries");
    let before = turns();
    until("it is served", || turns() > before + 20).await;
    assert_eq!(first.calls("ShowSteps") + second.calls("ShowSteps"), 0);
    node.stop().await;
}

#[test]
fn what_is_kept_to_be_shown_is_one_chain_and_bounded() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    assert!(files.steps().unwrap().is_empty());
    let mut steps = Steps::default();
    let bundle = Ca::new("one").bundle();
    (0..50).for_each(|_| steps.next(&bundle, &key));
    let all = steps.signed.unwrap();
    let mut kept = Kept::new(Vec::new(), None);
    kept.walked(all.clone());
    assert_eq!(kept.steps(), &all[18..]);
    kept.walked(vec![all[49].clone()]);
    assert_eq!(kept.steps(), &all[18..], "it stands there");
    files.save_steps(kept.steps()).unwrap();
    assert_eq!(files.steps().unwrap(), &all[18..]);
    kept.walked(vec![all[3].clone()]);
    assert_eq!(kept.steps(), &all[3..4], "what does not follow begins anew");
    // Of another time than the pin.
    let at = |step: &SignedStep| Walker::begin(td(), step).unwrap().position().clone();
    let read = Kept::new(files.steps().unwrap(), Some(&at(&all[49])));
    assert_eq!(read.steps(), &all[18..]);
    for pin in [None, Some(at(&all[48]))] {
        assert!(Kept::new(files.steps().unwrap(), pin.as_ref()).steps().is_empty());
    }
}

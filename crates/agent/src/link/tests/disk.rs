//! A disk that takes nothing more (T-29): full, or mounted read-only by the kernel.

use std::io::ErrorKind;

use faulty::{Script, Verb};

use super::*;
use crate::persist::BUNDLE;

fn fill(disk: &Script) {
    disk.break_down(Verb::CreateTemp, ErrorKind::StorageFull);
}

#[tokio::test]
async fn a_full_disk_costs_no_identity_and_is_told_until_it_is_not_full_any_more() {
    let server = server_with(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")]).await;
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(&server, dir.path());
    let disk = setup.disk.clone();
    let node = setup.start();
    node.serving().await;
    assert_eq!(node.status().disk, "");
    fill(&disk);
    {
        let mut script = server.script();
        // Another bundle, a deleted entry and a new one.
        script.tainted = true;
        script.entries.remove(0);
        script.entries.push(wire_entry("c", "/c", &["unix:uid:3"]));
    }
    until("what is new is served", || node.serves(&["unix:uid:3"]) == ["/c"]).await;
    assert!(node.serves(&["unix:uid:1"]).is_empty(), "what was deleted is not");
    assert!(node.views.snapshot().bundle.as_ref().unwrap().x509_authorities()[0].tainted);
    until("it is told, and what to do", || {
        let status = node.status();
        status.phase == Phase::Serving
            && status.complaint().contains("make room")
            && status.complaint().contains("cannot write")
    })
    .await;
    // Nothing is forgotten: the file comes when there is room.
    std::fs::remove_file(dir.path().join(BUNDLE)).unwrap();
    let rounds = server.calls("SyncAuthorizedEntries");
    until("more rounds", || {
        server.calls("SyncAuthorizedEntries") > rounds + 3
    })
    .await;
    assert!(!dir.path().join(BUNDLE).exists() && !node.status().disk.is_empty());
    disk.mend();
    until("it is on disk", || dir.path().join(BUNDLE).exists()).await;
    // The node's own SVID, which the taint asks for, comes 30 s after it failed: only the bundle is waited for here.
    node.stop().await;
}

/// A node with a certificate of 700 s, of which `left` are left, that starts on a full disk.
async fn on_a_full_disk(server: &FakeServer, dir: &Path, evidence: &Evidence, left: i64) -> Node {
    server.script().agent_validity = Some((left - 700, left));
    server
        .script()
        .refuse
        .insert("RenewAgent", tonic::Status::unavailable("not yet"));
    let node = Setup {
        evidence: evidence.clone(),
        ..Setup::new(server, dir)
    }
    .start();
    node.serving().await;
    node.stop().await;
    {
        let mut script = server.script();
        script.agent_validity = None;
        script.refuse.clear();
    }
    let setup = Setup {
        evidence: evidence.clone(),
        ..Setup::new(server, dir)
    };
    fill(&setup.disk);
    let node = setup.start();
    node.serving().await;
    node
}

/// Which would be out if it came back with the old one after it had used a new one.
#[tokio::test]
async fn a_node_with_a_used_token_keeps_the_svid_that_is_on_disk_while_that_is_good() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = on_a_full_disk(&server, dir.path(), &token(), 200).await;
    until("it is told", || node.status().disk.contains("make room")).await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert_eq!(server.calls("RenewAgent"), 0, "a key that is not kept was shown");
    node.stop().await;
    let node = Setup::new(&server, dir.path()).start();
    until("with room it is renewed", || server.calls("RenewAgent") == 1).await;
    node.serving().await;
    assert_eq!(node.status().disk, "");
    node.stop().await;
}

#[tokio::test]
async fn in_the_last_part_of_its_life_it_goes_on_without_a_disk() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = on_a_full_disk(&server, dir.path(), &token(), 60).await;
    until("it is renewed", || server.calls("RenewAgent") == 1).await;
    let end = real_clock()
        .now()
        .unwrap()
        .saturating_add(Duration::from_secs(1800));
    until("the new one is used", || {
        node.status().agent_not_after > Some(end)
    })
    .await;
    let rounds = server.calls("SyncAuthorizedEntries");
    until("more rounds", || {
        server.calls("SyncAuthorizedEntries") > rounds + 3
    })
    .await;
    assert!(node.status().disk.contains("make room"), "{}", node.status().disk);
    assert_eq!(server.calls("RenewAgent"), 1, "renewed all the time");
    node.stop().await;
}

#[tokio::test]
async fn what_could_not_be_written_is_written_when_there_is_room() {
    let server = server_with(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(&server, dir.path());
    let disk = setup.disk.clone();
    // The key is there, the token is used, and then the disk is full.
    server.script().lose_replies = 1;
    let node = setup.start();
    until("the first reply is lost", || {
        !server.script().attested_keys.is_empty()
    })
    .await;
    fill(&disk);
    node.serving().await;
    until("it is told", || !node.status().disk.is_empty()).await;
    assert!(!dir.path().join(IDENTITY).exists());
    disk.mend();
    until("it is on disk", || node.status().disk.is_empty()).await;
    assert!(dir.path().join(IDENTITY).exists() && !dir.path().join(PENDING).exists());
    node.stop().await;
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(server.calls("AttestAgent"), 2, "the lost one and its repetition");
    node.stop().await;
}

struct Mended(Script);

impl Drop for Mended {
    fn drop(&mut self) {
        self.0.mend();
    }
}

#[tokio::test]
async fn a_disk_that_does_not_answer_does_not_stop_the_rounds() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(&server, dir.path());
    let disk = setup.disk.clone();
    let node = setup.start();
    node.serving().await;
    let kept = || disk.calls().iter().filter(|verb| **verb == Verb::Rename).count();
    let before = kept();
    disk.hang(Verb::CreateTemp);
    // Or a failed test would never end.
    let _mended = Mended(disk.clone());
    {
        let mut script = server.script();
        script.tainted = true;
        script.entries.push(wire_entry("c", "/c", &["unix:uid:3"]));
    }
    until("what is new is served", || node.serves(&["unix:uid:3"]) == ["/c"]).await;
    assert!(
        node.status().disk.contains("does not answer"),
        "{}",
        node.status().disk
    );
    let (begun, rounds) = (disk.calls().len(), server.calls("SyncAuthorizedEntries"));
    until("more rounds", || {
        server.calls("SyncAuthorizedEntries") > rounds + 3
    })
    .await;
    assert_eq!(disk.calls().len(), begun, "a second write was begun");
    assert_eq!(kept(), before);
    disk.mend();
    until("it is on disk", || kept() > before).await;
    node.stop().await;
}

#[tokio::test]
async fn keys_of_a_banned_node_that_cannot_be_removed_are_told_and_removed_later() {
    for (verb, told) in [(Verb::Remove, true), (Verb::CreateTemp, false)] {
        let server = server_with(&[]).await;
        let dir = tempfile::tempdir().unwrap();
        let setup = Setup::new(&server, dir.path());
        let disk = setup.disk.clone();
        let node = setup.start();
        node.serving().await;
        // A full disk is told, until there is nothing to be kept any more.
        disk.break_down(verb, ErrorKind::StorageFull);
        if !told {
            server.script().tainted = true;
            until("it is told", || node.status().disk.contains("make room")).await;
        }
        server.script().deny = Some(4);
        until("the node is banned", || node.status().phase == Phase::Banned).await;
        let expected = if told { "could not be removed" } else { "" };
        let text = node.status().disk;
        assert!(
            if told {
                text.contains(expected)
            } else {
                text.is_empty()
            },
            "{text}"
        );
        assert_eq!(dir.path().join(IDENTITY).exists(), told);
        disk.mend();
        until("they are removed", || !dir.path().join(IDENTITY).exists()).await;
        until("that is told too", || node.status().disk.is_empty()).await;
        node.stop().await;
    }
}

/// T-13: its key would be lost with the process, and the token with it.
#[tokio::test]
async fn a_token_is_not_used_with_a_key_that_cannot_be_kept() {
    let server = server_with(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(&server, dir.path());
    let disk = setup.disk.clone();
    fill(&disk);
    let node = setup.start();
    node.error("cannot write").await;
    assert_eq!(server.calls("AttestAgent"), 0);
    disk.mend();
    node.serving().await;
    assert_eq!(node.status().complaint(), "");
    node.stop().await;
}

/// It comes back by itself, whatever is on its disk.
#[tokio::test]
async fn a_node_with_a_device_certificate_needs_no_disk() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let challenge =
        serde_json::json!({ "ecdsa_signature": { "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" } });
    server.script().challenge = Some(challenge.to_string().into_bytes());
    server.script().reattestable = true;
    let (dir, files) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let device = Ca::new("maker").svid(&id("/device"), UnixTime::EPOCH, crate::testing::NOON);
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&path, text).unwrap();
        path
    };
    let evidence = Evidence::X509Pop {
        certificate: write("device.pem", &device.leaf().to_pem()),
        private_key: write("device.key", &device.key().to_pem()),
    };
    let node = on_a_full_disk(&server, dir.path(), &evidence, 200).await;
    let end = real_clock()
        .now()
        .unwrap()
        .saturating_add(Duration::from_secs(1800));
    until("it is renewed", || node.status().agent_not_after > Some(end)).await;
    until("it is told", || node.status().disk.contains("make room")).await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    node.stop().await;
}

/// With an authority that all have acknowledged the server signs: a node that forgot it over a restart would refuse its peers.
#[tokio::test]
async fn a_bundle_that_is_not_on_disk_is_not_acknowledged_before_it_is() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.pushes(7, 1);
    server.script().sequence = 4;
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(&server, dir.path());
    let disk = setup.disk.clone();
    let node = setup.start();
    let acknowledged = || server.script().reserve.acknowledged.clone();
    until("the first", || acknowledged() == [4]).await;
    fill(&disk);
    server.pushes(7, 9);
    let mut bundle = wire_bundle(server.ca(), false);
    bundle.sequence_number = 5;
    let another = wire_bundle(&Ca::new("two"), false).x509_authorities;
    bundle.x509_authorities.extend(another);
    let step = landfast_proto::landfast::sync::v1::SubscribeResponse {
        bundles: vec![crate::testing::fake_server::push::current(bundle)],
        ..crate::testing::fake_server::push::step(7, 9)
    };
    server.say(step).await;
    until("it is told that it is not on disk", || {
        !node.status().disk.is_empty()
    })
    .await;
    // The link had its turns.
    server.put(wire_entry("b", "/b", &["unix:uid:2"])).await;
    until("b is there", || node.serves(&["unix:uid:2"]) == ["/b"]).await;
    server.put(wire_entry("c", "/c", &["unix:uid:3"])).await;
    until("c is there", || node.serves(&["unix:uid:3"]) == ["/c"]).await;
    assert_eq!(acknowledged(), [4]);
    disk.mend();
    server.put(wire_entry("d", "/d", &["unix:uid:4"])).await;
    until("with room", || acknowledged() == [4, 5]).await;
    node.stop().await;
}

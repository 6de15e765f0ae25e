//! The link against a scripted server, over TLS on loopback.

mod busy;
mod chain;
mod device;
mod disk;
mod push;
mod reach;
mod renewals;
mod reserve;
mod several_servers;
mod shown;
mod speaks;
mod spire;
mod stale;
mod standing;
mod time;
mod tokens;
mod wits;

use std::collections::BTreeMap;
use std::path::Path;

use zeroize::Zeroizing;

use super::evidence::TokenSource;
use super::status::Phase;
use super::*;
use crate::keeper::Keeper;
use crate::keeper::views::Views;
use crate::persist::{IDENTITY, PENDING};
use crate::testing::fake_server::{FakeServer, Lie, wire_bundle, wire_entry};
use crate::testing::{Ca, id, real_clock, selectors, td, until};
use landfast_identity::{Bundle, BundleSet};
use landfast_store::{Store, faulty};
use landfast_workload_api::ViewState;

/// A link with its keeper, and the directory it keeps.
pub(crate) struct Node {
    pub(crate) handle: LinkHandle,
    pub(crate) views: Views,
    stop: CancellationToken,
    tasks: Vec<tokio::task::JoinHandle<Result<(), Infallible>>>,
}

pub(crate) struct Setup<'a> {
    servers: Vec<String>,
    proxy: Option<String>,
    dir: &'a Path,
    bundle: Bundle,
    evidence: Evidence,
    clock: SharedClock,
    retry: (Duration, Duration),
    interval: Duration,
    backstop: Duration,
    keep_alive: Duration,
    confirm_after: Duration,
    disk: faulty::Script,
    ear: Option<Ear>,
}

fn token() -> Evidence {
    Evidence::JoinToken(TokenSource::Inline(Zeroizing::new("token".to_owned())))
}

impl<'a> Setup<'a> {
    /// With two servers, in the order in which they are asked.
    fn of_two(first: &FakeServer, second: &FakeServer, dir: &'a Path) -> Self {
        Self {
            servers: vec![first.address.to_string(), second.address.to_string()],
            ..Self::new(first, dir)
        }
    }

    pub(crate) fn new(server: &FakeServer, dir: &'a Path) -> Self {
        Self {
            servers: vec![server.address.to_string()],
            proxy: None,
            dir,
            bundle: server.ca().bundle(),
            evidence: token(),
            clock: real_clock(),
            retry: (Duration::from_millis(5), Duration::from_millis(20)),
            interval: Duration::from_millis(20),
            backstop: Duration::from_secs(3600),
            keep_alive: Duration::from_secs(60),
            confirm_after: Duration::from_millis(30),
            disk: faulty::Script::default(),
            ear: None,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "a test's tasks are joined by the test")]
    pub(crate) fn start(self) -> Node {
        let store = Store::open_with(self.dir, |files| faulty::FaultyFiles::new(files, self.disk));
        let files = Arc::new(NodeFiles::over(store.unwrap(), &td()));
        let node = files.identity().unwrap();
        let bundle = files.bundle("").unwrap().unwrap_or(self.bundle);
        let views = Views::new(&td());
        let (keeper, keeper_handle) = Keeper::new(views.clone(), Arc::clone(&self.clock));
        let settings = Settings {
            trust_domain: td(),
            dialler: Dialler {
                servers: self
                    .servers
                    .iter()
                    .map(|server| server.parse().unwrap())
                    .collect(),
                proxy: self.proxy.map(|proxy| proxy.parse().unwrap()),
            },
            evidence: self.evidence,
            node_key: KeyType::EcP256,
            workload_key: KeyType::EcP256,
            interval: self.interval,
            backstop: self.backstop,
            keep_alive: self.keep_alive,
            retry: self.retry,
            confirm_after: self.confirm_after,
            bootstrap: String::new(),
            newest: files.revision("").unwrap(),
            pin: files.pin("").unwrap(),
            steps: files.steps().unwrap(),
            ear: self.ear,
        };
        let bundles = BundleStore::new(BundleSet::from_iter([bundle]));
        let (link, handle) = Link::new(settings, self.clock, files, keeper_handle, bundles, node);
        let stop = CancellationToken::new();
        let tasks = vec![
            tokio::spawn(keeper.run(stop.clone())),
            tokio::spawn(link.run(stop.clone())),
        ];
        Node {
            handle,
            views,
            stop,
            tasks,
        }
    }
}

impl Node {
    fn status(&self) -> LinkStatus {
        self.handle.status.borrow().clone()
    }

    fn serves(&self, list: &[&str]) -> Vec<String> {
        let view = self.views.watch(&selectors(list), real_clock().now());
        let view = view.borrow();
        view.x509
            .iter()
            .map(|served| served.svid.id().path().to_owned())
            .collect()
    }

    async fn serving(&self) {
        until("the node serves", || self.status().phase == Phase::Serving).await;
    }

    async fn error(&self, words: &str) {
        until(words, || self.status().last_error.contains(words)).await;
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        for task in self.tasks {
            task.await.unwrap().unwrap();
        }
    }
}

async fn server_with(entries: &[(&str, &str, &str)]) -> FakeServer {
    let server = FakeServer::start().await;
    server.script().entries = entries
        .iter()
        .map(|(name, path, selector)| wire_entry(name, path, &[selector]))
        .collect();
    server
}

#[tokio::test]
async fn a_new_node_attests_syncs_and_serves() {
    let server = server_with(&[("a", "/a", "unix:uid:1"), ("b", "/b", "unix:uid:2")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    assert_eq!(node.serves(&["unix:uid:2"]), ["/b"]);
    assert!(node.serves(&["unix:uid:3"]).is_empty());
    let status = node.status();
    assert_eq!(status.agent_id, Some(id("/spire/agent/join_token/node-1")));
    assert_eq!(
        (status.address, status.reachable),
        (server.address.to_string(), true)
    );
    assert!(dir.path().join(IDENTITY).exists() && !dir.path().join(PENDING).exists());
    assert_eq!(server.script().payloads, [b"token".to_vec()]);
    assert!(
        server.script().shown_serials.iter().all(Option::is_some),
        "every call shows the node's SVID"
    );
    node.stop().await;
}

#[tokio::test]
async fn changes_arrive_and_removals_withdraw() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    server
        .script()
        .entries
        .push(wire_entry("b", "/b", &["unix:uid:1"]));
    until("the new entry is served", || {
        node.serves(&["unix:uid:1"]).len() == 2
    })
    .await;
    server.script().entries.remove(0);
    until("the removed entry is withdrawn", || {
        node.serves(&["unix:uid:1"]) == ["/b"]
    })
    .await;
    server.script().entries.clear();
    let view = node.views.watch(&selectors(&["unix:uid:1"]), real_clock().now());
    until("nobody is entitled any more", || {
        view.borrow().state == ViewState::NoIdentity
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_restart_goes_on_without_attesting() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let agent = node.status().agent_id;
    node.stop().await;
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(node.status().agent_id, agent);
    assert_eq!(server.calls("AttestAgent"), 1);
    node.stop().await;
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_with_the_same_key() {
    let server = server_with(&[]).await;
    server.script().lose_replies = 2;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let keys = server.script().attested_keys.clone();
    assert_eq!(keys.len(), 3);
    assert!(keys.iter().all(|key| *key == keys[0]));
    node.stop().await;
}

#[tokio::test]
async fn a_lost_reply_is_asked_for_again_with_the_same_key_after_a_restart_too() {
    let server = server_with(&[]).await;
    server.script().lose_replies = 1;
    server
        .script()
        .refuse
        .insert("SyncAuthorizedEntries", tonic::Status::unavailable("later"));
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        servers: vec![server.address.to_string()],
        ..Setup::new(&server, dir.path())
    }
    .start();
    until("the first reply is lost", || {
        !server.script().attested_keys.is_empty()
    })
    .await;
    node.stop().await;
    server.script().refuse.clear();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let keys = server.script().attested_keys.clone();
    assert!(
        keys.len() >= 2 && keys.iter().all(|key| *key == keys[0]),
        "{}",
        keys.len()
    );
    node.stop().await;
}

#[tokio::test]
async fn many_entries_come_in_pages_and_only_what_changed_is_asked_for_again() {
    let server = FakeServer::start().await;
    let name = |n: usize| format!("{n:04}");
    server.script().entries = (0..1203)
        .map(|n| wire_entry(&name(n), &format!("/w/{n}"), &["unix:uid:1"]))
        .collect();
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]).len(), 1203);
    assert_eq!(server.script().asked_ids, [500, 500, 203]);
    assert_eq!(server.script().batch_sizes, [500, 500, 203]);
    server.script().entries[700].revision_number = 1;
    until("the changed entry is asked for", || {
        server.script().asked_ids.last() == Some(&1)
    })
    .await;
    until("and issued for", || {
        server.script().batch_sizes.last() == Some(&1)
    })
    .await;
    server.script().entries.truncate(501);
    until("the rest is dropped", || {
        node.serves(&["unix:uid:1"]).len() == 501
    })
    .await;
    node.stop().await;
}

#[tokio::test]
async fn a_new_bundle_is_kept_and_federated_bundles_come_with_entries() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let other = TrustDomain::parse("other.test").unwrap();
    let foreign = Ca::of(&other, "foreign");
    server.script().entries[0].federates_with = vec!["other.test".to_owned(), "unknown.test".to_owned()];
    server
        .script()
        .federated
        .insert("other.test".to_owned(), wire_bundle(&foreign, false));
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    let snapshot = node.views.snapshot();
    let names: Vec<_> = snapshot.federated.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["other.test"]);
    // A federated bundle that cannot be fetched for a while stays.
    server
        .script()
        .refuse
        .insert("GetFederatedBundle", tonic::Status::unavailable("later"));
    let rounds = server.calls("GetFederatedBundle");
    until("another round", || {
        server.calls("GetFederatedBundle") > rounds + 4
    })
    .await;
    assert_eq!(node.views.snapshot().federated.len(), 1);
    server.script().refuse.clear();
    server.script().federated.clear();
    until("a bundle the server has no more is dropped", || {
        node.views.snapshot().federated.is_empty()
    })
    .await;
    node.stop().await;
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    assert_eq!(
        files.bundle("").unwrap().unwrap().jwt_authorities().len(),
        1,
        "the server's, not the bootstrap one"
    );
}

#[tokio::test]
async fn a_malformed_entry_is_left_out_and_the_others_are_served() {
    let server = server_with(&[("a", "/a", "unix:uid:1"), ("b", "/spire/server", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"]);
    node.stop().await;
}

#[tokio::test]
async fn a_device_certificate_is_shown_and_the_challenge_answered() {
    let server = server_with(&[]).await;
    let challenge =
        serde_json::json!({ "ecdsa_signature": { "nonce": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" } });
    server.script().challenge = Some(challenge.to_string().into_bytes());
    server.script().reattestable = true;
    let dir = tempfile::tempdir().unwrap();
    let device = Ca::new("maker").svid(&id("/device"), UnixTime::EPOCH, crate::testing::NOON);
    let write = |name: &str, text: &str| {
        let path = dir.path().join(name);
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        std::fs::write(&path, text).unwrap();
        path
    };
    let evidence = Evidence::X509Pop {
        certificate: write("device.pem", &device.leaf().to_pem()),
        private_key: write("device.key", &device.key().to_pem()),
    };
    let data = tempfile::tempdir().unwrap();
    let node = Setup {
        evidence,
        ..Setup::new(&server, data.path())
    }
    .start();
    node.serving().await;
    let answer = server.script().challenge_answer.clone().unwrap();
    let answer: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["ecdsa_signature"].len(), 3);
    node.stop().await;
}

#[tokio::test]
async fn a_server_that_answers_nonsense_changes_nothing() {
    for (lie, words) in [
        (
            Lie::OtherEntries,
            "an answer to a request for entries holds something else",
        ),
        (Lie::EmptyBundle, "the bundle has no X.509 authority"),
        (Lie::OtherBundle, "the bundle is of trust domain other.test"),
        (Lie::LeafInBundle, "an X.509 authority is not a CA"),
        (Lie::ShortBatch, "0 results for 1 requests"),
        (Lie::EmptyPage, "an empty page that promises more"),
    ] {
        let server = server_with(&[
            ("a", "/a", "unix:uid:1"),
            ("b", "/b", "unix:uid:2"),
            ("c", "/c", "unix:uid:2"),
        ])
        .await;
        server.script().page = 2;
        let dir = tempfile::tempdir().unwrap();
        let node = Setup::new(&server, dir.path()).start();
        node.serving().await;
        let bundle = node.views.snapshot().bundle.clone().unwrap();
        server.script().lie = Some(lie);
        server.script().entries[0].revision_number = 1;
        node.error(words).await;
        assert_eq!(node.serves(&["unix:uid:1"]), ["/a"], "{lie:?}");
        assert!(
            node.views.snapshot().bundle.as_ref().unwrap().content_eq(&bundle),
            "{lie:?}"
        );
        server.script().lie = None;
        node.serving().await;
        node.stop().await;
    }
}

#[tokio::test]
async fn an_svid_of_another_workload_is_not_adopted_from_the_wire_either() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    server.script().lie = Some(Lie::OtherWorkload);
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    assert!(server.calls("BatchNewX509SVID") > 0);
    assert!(node.serves(&["unix:uid:1"]).is_empty());
    node.stop().await;
}

#[tokio::test]
async fn an_identity_that_is_not_an_agents_is_not_taken_from_attestation() {
    let server = server_with(&[]).await;
    server.script().lie = Some(Lie::NotAnAgent);
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.error("is not an agent's ID of this trust domain").await;
    assert!(!dir.path().join(IDENTITY).exists());
    node.stop().await;
}

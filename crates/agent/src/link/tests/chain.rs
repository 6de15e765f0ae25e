//! A node that slept while the authorities changed: it walks the bundle chain to the present ones, and nobody else leads it anywhere.

use landfast_identity::SpiffeId;
use landfast_identity::chain::{RootPrivateKey, SignedStep, Walker};

use super::*;
use crate::link::revision::Revision;
use crate::persist::{BUNDLE, PIN};
use crate::testing::fake_server::chain::Steps;

pub(super) fn root() -> RootPrivateKey {
    RootPrivateKey::generate().unwrap()
}

pub(super) async fn server_of(ca: Ca) -> FakeServer {
    let server = FakeServer::start_as(ca, SpiffeId::server(&td())).await;
    let mut script = server.script();
    script.entries = vec![wire_entry("a", "/a", &["unix:uid:1"])];
    script.reattestable = true;
    drop(script);
    server
}

/// A node that has been in, with this chain, and sleeps now; and the chain.
async fn asleep(dir: &Path, key: &RootPrivateKey) -> (Bundle, Vec<SignedStep>) {
    let before = server_of(Ca::new("before")).await;
    let bundle = before.ca().bundle();
    before.script().steps.next(&bundle, key);
    let node = Setup::new(&before, dir).start();
    node.serving().await;
    until("the root key is pinned", || {
        node.status().chain.contains("pinned at step 5.1")
    })
    .await;
    assert!(node.status().chain.contains(&key.public_key().to_string()));
    let steps = before.script().steps.signed.clone().unwrap();
    node.stop().await;
    before.stop();
    (bundle, steps)
}

impl<'a> Setup<'a> {
    /// Of a node that comes back with this bundle in its hand.
    fn back(server: &FakeServer, dir: &'a Path, bundle: &Bundle) -> Self {
        Self {
            bundle: bundle.clone(),
            ..Self::new(server, dir)
        }
    }
}

/// Puts a chain before a server that begins with those steps and ends with its own bundle.
fn show(server: &FakeServer, steps: Vec<SignedStep>, rest: impl FnOnce(&mut Steps, Bundle)) {
    let bundle = server.ca().bundle();
    let mut script = server.script();
    script.steps.signed = Some(steps);
    rest(&mut script.steps, bundle);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_slept_through_rotations_comes_back_by_itself() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let (bundle, steps) = asleep(dir.path(), &key).await;
    let after = server_of(Ca::new("after")).await;
    show(&after, steps, |steps, last| {
        for name in ["second", "third", "fourth"] {
            steps.next(&Ca::new(name).bundle(), &key);
        }
        steps.next(&last, &key);
        steps.page = 2;
    });
    let node = Setup::back(&after, dir.path(), &bundle).start();
    node.serving().await;
    let asked = after.script().steps.asked.clone();
    assert!(
        asked.iter().take(4).all(|(_, _, shown)| !shown),
        "it shows itself to nobody whom it does not know: {asked:?}"
    );
    assert_eq!(asked[..2], [(5, 1, false), (5, 2, false)]);
    assert!(
        node.status().chain.contains("pinned at step 5.5"),
        "{}",
        node.status().chain
    );
    node.stop().await;
    // And it is on disk: nobody is walked to any more.
    let node = Setup::back(&after, dir.path(), &bundle).start();
    node.serving().await;
    node.stop().await;
    let later = after.script().steps.asked.split_off(asked.len());
    assert!(later.iter().all(|(_, _, shown)| *shown), "{later:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_root_key_that_was_replaced_meanwhile_is_walked_over() {
    let (dir, key, next) = (tempfile::tempdir().unwrap(), root(), root());
    let (bundle, steps) = asleep(dir.path(), &key).await;
    let after = server_of(Ca::new("after")).await;
    show(&after, steps, |steps, last| {
        steps.add(5, &bundle, &[&key, &next], &[&next]);
        steps.add(6, &last, &[&next], &[&next]);
    });
    let node = Setup::back(&after, dir.path(), &bundle).start();
    node.serving().await;
    until("it stands on the new key", || {
        node.status().chain.contains(&next.public_key().to_string())
    })
    .await;
    node.stop().await;
}

/// That a node is led nowhere by this: it tells its server nothing, and keeps what it has.
async fn is_led_nowhere(rest: impl FnOnce(&mut Steps, Bundle, &RootPrivateKey)) {
    is_led_nowhere_after(|_, _, _| {}, rest).await;
}

/// The same when something else has come to its files.
async fn is_led_nowhere_after(
    meanwhile: impl FnOnce(&NodeFiles, &[SignedStep], &RootPrivateKey),
    rest: impl FnOnce(&mut Steps, Bundle, &RootPrivateKey),
) {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let (bundle, steps) = asleep(dir.path(), &key).await;
    meanwhile(&NodeFiles::open(dir.path(), &td()).unwrap(), &steps, &key);
    let files = |name: &str| std::fs::read(dir.path().join(name)).unwrap();
    let before = (files(BUNDLE), files(PIN));
    let after = server_of(Ca::new("thief")).await;
    show(&after, steps, |steps, last| rest(steps, last, &key));
    let node = Setup::back(&after, dir.path(), &bundle).start();
    until("it has asked for steps thrice", || after.calls("GetSteps") >= 3).await;
    node.error("authority this node does not know").await;
    until("it says so", || {
        let trouble = node.status().chain_trouble;
        trouble.contains("leads this node to no server") && trouble.contains(&after.address.to_string())
    })
    .await;
    for method in [
        "AttestAgent",
        "GetAuthorizedEntries",
        "SyncAuthorizedEntries",
        "PostStatus",
        "GetBundle",
        "ShowSteps",
    ] {
        assert_eq!(after.calls(method), 0, "{method}");
    }
    assert!(after.script().steps.asked.iter().all(|(_, _, shown)| !shown));
    node.stop().await;
    assert_eq!((files(BUNDLE), files(PIN)), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_a_stranger_signed_leads_nowhere() {
    is_led_nowhere(|steps, last, _| steps.next(&last, &root())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_epoch_that_a_stranger_signed_leads_nowhere() {
    is_led_nowhere(|steps, last, _| {
        let thief = root();
        steps.add(9, &last, &[&thief], &[&thief]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_with_a_step_missing_leads_nowhere() {
    is_led_nowhere(|steps, last, key| {
        steps.next(&Ca::new("other").bundle(), key);
        steps.next(&last, key);
        steps.signed.as_mut().unwrap().remove(1);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steps_that_are_known_lead_nowhere() {
    is_led_nowhere(|_, _, _| {}).await;
}

/// The chain lags behind the bundle that servers have told it, which knows no more the authority that was stolen: whoever is on the path and shows
/// the step on which the node stands does not bring that back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bundle_that_is_newer_than_the_chain_is_not_rolled_back_to_it() {
    for newest in [None, Some(Revision { epoch: 5, number: 7 })] {
        let newer = |files: &NodeFiles, _: &[SignedStep], _: &RootPrivateKey| {
            let bundle = Ca::new("newer").bundle().with_sequence(2);
            files.save_bundle(&bundle, "").unwrap();
            newest
                .into_iter()
                .for_each(|newest| files.save_revision(newest, "").unwrap());
        };
        is_led_nowhere_after(newer, |_, _, _| {}).await;
        // Nor to a later step that the chain has of it, and that is not newer either.
        is_led_nowhere_after(newer, |steps, last, key| steps.next(&last, key)).await;
    }
}

/// The node has walked to a step that its server then lost: its disk was put back.
fn walk_to_a_lost_step(files: &NodeFiles, steps: &[SignedStep], key: &RootPrivateKey) {
    let mut lost = Steps {
        signed: Some(steps.to_vec()),
        ..Steps::default()
    };
    lost.next(&Ca::new("lost").bundle(), key);
    let lost = lost.signed.unwrap().pop().unwrap();
    let mut walker = Walker::resume(td(), files.pin("").unwrap().unwrap());
    walker.walk(&lost).unwrap();
    files.save_bundle(&lost.step().bundle, "").unwrap();
    files.save_pin(walker.position(), "").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_fork_a_later_epoch_leads() {
    for page in [0, 1] {
        let (dir, key) = (tempfile::tempdir().unwrap(), root());
        let (bundle, steps) = asleep(dir.path(), &key).await;
        walk_to_a_lost_step(&NodeFiles::open(dir.path(), &td()).unwrap(), &steps, &key);
        let after = server_of(Ca::new("after")).await;
        show(&after, steps, |steps, last| {
            steps.next(&Ca::new("another second").bundle(), &key);
            steps.next(&Ca::new("third").bundle(), &key);
            steps.add(6, &last, &[&key], &[&key]);
            steps.page = page;
        });
        let node = Setup::back(&after, dir.path(), &bundle).start();
        node.serving().await;
        assert_eq!(after.script().steps.asked[..2], [(5, 2, false), (6, 0, false)]);
        until("it stands there", || node.status().chain.contains("step 6.4")).await;
        assert_eq!(node.status().complaint(), "");
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_alone_leads_nowhere_and_a_strangers_epoch_does_not_lead_over_it() {
    let fork = |steps: &mut Steps, last: Bundle, key: &RootPrivateKey| {
        steps.next(&Ca::new("another second").bundle(), key);
        steps.next(&last, key);
    };
    is_led_nowhere_after(walk_to_a_lost_step, fork).await;
    is_led_nowhere_after(walk_to_a_lost_step, |steps, last, key| {
        fork(steps, last.clone(), key);
        let thief = root();
        steps.add(6, &last, &[&thief], &[&thief]);
    })
    .await;
}

/// As a server in quarantine does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_way_of_a_walk_is_said_until_it_is_gone() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let (bundle, steps) = asleep(dir.path(), &key).await;
    let after = server_of(Ca::new("after")).await;
    show(&after, steps, |steps, last| steps.next(&last, &key));
    let quarantined = tonic::Status::unavailable("this server is in quarantine");
    after.script().refuse.insert("GetSteps", quarantined);
    let node = Setup::back(&after, dir.path(), &bundle).start();
    until("it is said", || {
        node.status().complaint().contains("this server is in quarantine")
    })
    .await;
    after.script().refuse.clear();
    node.serving().await;
    until("it is gone", || node.status().complaint().is_empty()).await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_have_the_bundle_of_a_walk_before_the_node_is_let_in_again() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let before = server_of(Ca::new("before")).await;
    let bundle = before.ca().bundle();
    before.script().steps.next(&bundle, &key);
    let after = server_of(Ca::new("after")).await;
    let steps = before.script().steps.signed.clone().unwrap();
    show(&after, steps, |steps, last| steps.next(&last, &key));
    let waits = tonic::Status::unavailable("somebody is to approve of it");
    after.script().refuse.insert("AttestAgent", waits);
    let node = Setup::of_two(&before, &after, dir.path()).start();
    node.serving().await;
    until("the root key is pinned", || {
        node.status().chain.contains("step 5.1")
    })
    .await;
    before.stop();
    until("programs verify whom the root key has signed", || {
        let snapshot = node.views.snapshot();
        snapshot
            .bundle
            .as_ref()
            .is_some_and(|held| held.content_eq(&after.ca().bundle()))
    })
    .await;
    assert_eq!(after.calls("GetAuthorizedEntries"), 0);
    assert_eq!(node.serves(&["unix:uid:1"]), ["/a"], "what is held stays");
    node.stop().await;
}

/// Flash wears: a pin that says the same is not written again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_node_stands_is_written_when_it_has_moved() {
    use std::os::unix::fs::MetadataExt as _;
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let server = server_of(Ca::new("one")).await;
    let bundle = server.ca().bundle();
    server.script().steps.next(&bundle, &key);
    let written = || std::fs::metadata(dir.path().join(PIN)).unwrap().ino();
    let mut inode = None;
    for _ in 0..2 {
        let asked = server.calls("GetSteps");
        let node = Setup::new(&server, dir.path()).start();
        node.serving().await;
        until("it has asked", || server.calls("GetSteps") > asked).await;
        let rounds = server.calls("GetBundle");
        until("it goes on", || server.calls("GetBundle") > rounds + 1).await;
        node.stop().await;
        assert_eq!(*inode.get_or_insert_with(written), written());
    }
}

/// Promises of more without an end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_shows_one_step_for_ever_is_left() {
    is_led_nowhere(|steps, last, key| {
        steps.next(&last, key);
        steps.page = 1;
    })
    .await;
}

/// The bundle was written, or not, when the power failed: it is had again with the step on which the node stands.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_the_bundle_of_its_step_has_it_again() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let (_, steps) = asleep(dir.path(), &key).await;
    let server = server_of(Ca::new("after")).await;
    // As if the step had been walked, and the old bundle come back.
    show(&server, steps, |steps, last| steps.next(&last, &key));
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    let mut walker = Walker::resume(td(), files.pin("").unwrap().unwrap());
    walker
        .walk(server.script().steps.signed.as_ref().unwrap().last().unwrap())
        .unwrap();
    files.save_pin(walker.position(), "").unwrap();
    drop(files);
    let node = Setup::back(&server, dir.path(), &Ca::new("before").bundle()).start();
    node.serving().await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connected_node_moves_on_and_says_when_it_cannot() {
    let (dir, key) = (tempfile::tempdir().unwrap(), root());
    let server = server_of(Ca::new("one")).await;
    let bundle = server.ca().bundle();
    server.script().steps.next(&bundle, &key);
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    until("it is pinned", || node.status().chain.contains("step 5.1")).await;
    node.stop().await;
    // One that another key has signed, told by the verified server.
    server.script().sequence = 2;
    server.script().steps.next(&bundle, &root());
    let node = Setup::new(&server, dir.path()).start();
    until("it says so", || {
        node.status()
            .chain_trouble
            .contains("no root key that is known has signed")
    })
    .await;
    node.serving().await;
    assert!(
        node.status().chain.contains("step 5.1"),
        "it stands where it stood"
    );
    assert!(node.status().complaint().contains("cannot be followed"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_server_of_spires_the_node_says_so_and_walks_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let server = server_of(Ca::new("one")).await;
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    until("it says so", || node.status().chain.contains("SPIRE's")).await;
    assert!(node.status().complaint().is_empty());
    node.stop().await;
    assert!(!dir.path().join(PIN).exists());
    let other = server_of(Ca::new("other")).await;
    let node = Setup::back(&other, dir.path(), &server.ca().bundle()).start();
    node.error("authority this node does not know").await;
    assert_eq!(
        other.calls("GetSteps"),
        0,
        "nothing is pinned, so nobody is asked"
    );
    node.stop().await;
}

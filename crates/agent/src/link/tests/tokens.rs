//! What a refused token means for the link and for who asked: over a real connection.

use landfast_workload_api::{IdentitySource as _, SourceError};
use tokio::time::Instant;
use tonic::Status;

use super::*;
use crate::jwt::JwtCache;
use crate::jwt::budget::Budget;
use crate::link::rest::NUDGE_DELAY;
use crate::source::AgentSource;

#[tokio::test]
async fn a_refused_token_hurries_the_link_only_when_a_round_may_mend_it() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    // Nudges of its own, so that the test can see them.
    let link = LinkHandle::fixed(node.handle.status.clone(), node.handle.channel.clone());
    let source = AgentSource {
        views: node.views.clone(),
        link: link.clone(),
        tokens: JwtCache::new(real_clock()).0,
        budget: Budget::default(),
        wits: crate::wit::Wits::new(real_clock(), KeyType::default()).0,
        clock: real_clock(),
        ready: watch::channel(true).1,
        hand_outs: crate::handouts::tests::nowhere(),
        journal: crate::journal::tests::desk(),
    };
    let ask = async || {
        let (caller, audience) = (selectors(&["unix:uid:1"]), ["aud".to_owned()]);
        source.fetch_jwt(&caller, &audience, None).await
    };
    for (refusal, hurries) in [
        (Status::invalid_argument("bad audience"), false),
        (Status::resource_exhausted("later"), false),
        (Status::unavailable("the datastore failed"), false),
        (Status::internal("a fault"), false),
        (Status::not_found("no such entry"), true),
        (Status::permission_denied("not you"), true),
    ] {
        server.script().refuse.insert("NewJWTSVID", refusal.clone());
        let refused = ask().await.unwrap_err();
        assert_eq!(link.was_nudged(), hurries, "{refusal}");
        assert!(refused.to_string().contains(refusal.message()), "{refused}");
        let invalid = matches!(refused, SourceError::InvalidArgument(_));
        assert_eq!(
            invalid,
            refusal.code() == tonic::Code::InvalidArgument,
            "{refused}"
        );
    }
    server.script().refuse.clear();
    assert_eq!(ask().await.unwrap().len(), 1);
    node.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_nudge_cuts_a_rest_and_never_the_wait_after_a_failure() {
    let dir = tempfile::tempdir().unwrap();
    let mut link = unconnected(dir.path());
    let minute = Duration::from_secs(60);
    for (wait, rests) in [
        (Wait::Whole(minute), minute),
        (Wait::OrRenewal(minute), NUDGE_DELAY),
        // It was used up.
        (Wait::OrRenewal(minute), minute),
    ] {
        let started = Instant::now();
        if rests == minute && matches!(wait, Wait::Whole(_)) {
            link.nudge.notify_one();
        }
        link.rest(wait).await.unwrap();
        assert_eq!(started.elapsed(), rests);
    }
}

/// A link that is not run.
fn unconnected(dir: &Path) -> Link {
    let settings = Settings {
        trust_domain: td(),
        dialler: Dialler {
            servers: Vec::new(),
            proxy: None,
        },
        evidence: token(),
        node_key: KeyType::EcP256,
        workload_key: KeyType::EcP256,
        interval: Duration::from_secs(60),
        backstop: Duration::from_secs(300),
        keep_alive: Duration::from_secs(60),
        retry: (Duration::from_secs(1), Duration::from_secs(60)),
        confirm_after: CONFIRM_AFTER,
        bootstrap: String::new(),
        newest: None,
        pin: None,
        steps: Vec::new(),
        ear: None,
    };
    let files = Arc::new(NodeFiles::open(dir, &td()).unwrap());
    let (_, keeper) = Keeper::new(Views::new(&td()), real_clock());
    let bundles = BundleStore::new(BundleSet::from_iter([Ca::new("one").bundle()]));
    Link::new(settings, real_clock(), files, keeper, bundles, None).0
}

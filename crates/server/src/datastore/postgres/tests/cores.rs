//! Whole servers on one database: who signs when, and what agents are answered.

use std::sync::atomic::{AtomicI64, Ordering};

use landfast_identity::{Certificate, UnixTime, verify_x509_svid};
use landfast_lifecycle::{Clock, SimClock, SystemClock};
use landfast_proto::spire::api::server::agent::v1::{RenewAgentRequest, agent_client::AgentClient};
use landfast_proto::spire::api::server::entry::v1::{GetAuthorizedEntriesRequest, entry_client::EntryClient};
use landfast_proto::spire::api::server::svid::v1::{
    BatchNewX509svidRequest, NewJwtsvidRequest, NewX509svidParams, svid_client::SvidClient,
};

use super::*;
use crate::authority::{Done, Kind, MemoryKeys, Order, OrderError};
use crate::core::{Core, CoreParams};
use crate::server::rig::Rig;

async fn core(cluster: &Cluster, server: &str, clock: &SimClock) -> Core {
    let datastore = Arc::new(cluster.open(server).await);
    let params = CoreParams::in_memory(td(), Arc::new(clock.clone()));
    Core::assemble(params, datastore, Arc::new(MemoryKeys::default()))
        .await
        .unwrap()
}

/// A second server waits for half a minute, which the clock brings.
async fn beside(cluster: &Cluster, server: &str, clock: &SimClock) -> Core {
    let opening = core(cluster, server, clock);
    let passing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            clock.pass(3);
        }
    };
    tokio::select! {
        core = opening => core,
        () = passing => panic!("time does not end"),
    }
}

fn waited(cluster: &Cluster, server: &str) -> Vec<i64> {
    let sql = format!(
        "SELECT activated_at - created_at FROM authorities WHERE server = '{server}' AND slot = 'active'"
    );
    cluster
        .sql(&sql)
        .lines()
        .map(|line| line.parse().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_server_signs_only_when_its_authorities_have_been_known_for_long_enough() {
    let cluster = Cluster::start();
    let clock = SimClock::new(START);
    let a = core(&cluster, "a", &clock).await;
    assert_eq!(
        waited(&cluster, "a"),
        [0, 0],
        "the first of a trust domain signs at once"
    );
    let b = beside(&cluster, "b", &clock).await;
    let waits = waited(&cluster, "b");
    assert_eq!(waits.len(), 2);
    assert!(waits.iter().all(|wait| *wait >= 30), "{waits:?}");
    a.authorities.follow_journal().await.unwrap();
    let bundles = [a.authorities.bundle(), b.authorities.bundle()];
    assert_eq!(bundles[0], bundles[1]);
    assert_eq!(bundles[0].x509_authorities().len(), 2);
    // What one signs verifies at the other.
    let key = landfast_identity::PrivateKey::generate().unwrap();
    let issued = b.issuer.server_svid(&key.public_key()).await.unwrap();
    let set = landfast_identity::BundleSet::from_iter([(*bundles[0]).clone()]);
    let now = clock.now().unwrap();
    let chain: Vec<_> = issued.chain.iter().map(Certificate::as_der).collect();
    verify_x509_svid(&chain, &set, now).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_that_rotate_at_once_both_do() {
    let cluster = Cluster::start();
    let clock = SimClock::new(START);
    let a = core(&cluster, "a", &clock).await;
    let b = beside(&cluster, "b", &clock).await;
    let now = clock.now().unwrap();
    let before = [&a, &b].map(|core| core.authorities.active_x509().unwrap().id.clone());
    for _ in 0..3 {
        let now = clock.now().unwrap();
        let begin = async |core: &Core| {
            let prepared = core
                .authorities
                .order(&Order::Prepare(Kind::X509), now)
                .await
                .unwrap();
            let activate = Order::Activate(Kind::X509, prepared.id);
            let early = core.authorities.order(&activate, now).await;
            assert!(
                matches!(early, Err(OrderError::TooEarly { seconds: 30 })),
                "{early:?}"
            );
            // Nor when the clock leaps.
            let leapt = now.saturating_add(Duration::from_secs(86_400));
            let early = core.authorities.order(&activate, leapt).await;
            assert!(matches!(early, Err(OrderError::TooEarly { .. })), "{early:?}");
            activate
        };
        let (at_a, at_b) = tokio::join!(begin(&a), begin(&b));
        clock.pass(30);
        let later = clock.now().unwrap();
        let end = async |core: &Core, activate: Order| {
            let active = core.authorities.order(&activate, later).await.unwrap();
            assert_eq!(core.authorities.active_x509().unwrap().id, active.id);
        };
        tokio::join!(end(&a, at_a), end(&b, at_b));
    }
    a.authorities.follow_journal().await.unwrap();
    b.authorities.follow_journal().await.unwrap();
    let bundle = a.authorities.bundle();
    assert_eq!(bundle, b.authorities.bundle());
    assert_eq!(bundle.x509_authorities().len(), 8, "nobody's is lost");
    // An operator may ask either for what the other has signed with.
    let [_, old] = before;
    let active = b.authorities.active_x509().unwrap().id.clone();
    let refused = a.authorities.order(&Order::Taint(Kind::X509, active), now).await;
    assert!(matches!(refused, Err(OrderError::Active)));
    let early = a
        .authorities
        .order(&Order::Revoke(Kind::X509, old.clone()), now)
        .await;
    assert!(matches!(early, Err(OrderError::NotTainted)));
    let tainted = a
        .authorities
        .order(&Order::Taint(Kind::X509, old.clone()), now)
        .await;
    assert!(Done::Here(tainted.unwrap()).id() == old);
    b.authorities.follow_journal().await.unwrap();
    let seen = b.authorities.bundle();
    let is_tainted = seen.x509_authorities().iter().filter(|root| root.tainted).count();
    assert_eq!(is_tainted, 1);
    a.authorities
        .order(&Order::Revoke(Kind::X509, old), now)
        .await
        .unwrap();
    b.authorities.follow_journal().await.unwrap();
    assert_eq!(b.authorities.bundle().x509_authorities().len(), 7);
    assert_eq!(b.authorities.bundle(), a.authorities.bundle());
}

/// The time of this machine, and more.
#[derive(Clone, Debug, Default)]
struct Ahead(Arc<AtomicI64>);

impl Clock for Ahead {
    fn now(&self) -> Option<UnixTime> {
        let more = self.0.load(Ordering::SeqCst);
        Some(UnixTime::from_secs(SystemClock.now()?.as_secs() + more))
    }

    fn monotonic(&self) -> Instant {
        let more = self.0.load(Ordering::SeqCst).unsigned_abs();
        Instant::now() + Duration::from_secs(more)
    }
}

async fn server(cluster: &Cluster, name: &str, clock: Ahead) -> Rig {
    let dir = cluster.dir.path().join(name);
    Rig::with_http(clock, |config| {
        config.data_dir = Some(dir);
        config.postgres = Some(cluster.target());
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_of_one_server_is_served_by_another_until_what_it_knows_may_be_old() {
    let mut cluster = Cluster::start();
    let a = server(&cluster, "a", Ahead::default()).await;
    let ahead = Ahead::default();
    let passing = async {
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            ahead.0.fetch_add(5, Ordering::SeqCst);
        }
    };
    let b = tokio::select! {
        b = server(&cluster, "b", ahead.clone()) => b,
        () = passing => panic!("time does not end"),
    };
    let node = a.node().await;
    let entry = a.entry(&node.id, "/w", |_| {}).await;
    let ask = async |channel: &tonic::transport::Channel| {
        let request = GetAuthorizedEntriesRequest::default();
        EntryClient::new(channel.clone())
            .get_authorized_entries(request)
            .await
    };
    // As soon as B has heard of the node.
    let mut granted = None;
    for _ in 0..100 {
        if let Ok(channel) = b.tls(Some(Arc::clone(&node.svid))).await
            && let Ok(answer) = ask(&channel).await
            && !answer.get_ref().entries.is_empty()
        {
            granted = Some((channel, answer.into_inner()));
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (channel, answer) = granted.expect("B serves what A was told");
    assert_eq!(answer.entries[0].id, entry.id);
    tokio::task::block_in_place(|| cluster.cut());
    let mut refused = None;
    for _ in 0..300 {
        if let Err(status) = ask(&channel).await {
            refused = Some(status);
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let refused = refused.expect("it says that it may be stale");
    assert_eq!(refused.code(), tonic::Code::Unavailable);
    assert!(refused.message().contains("ask another"), "{refused:?}");
    // Nor is anything signed by it.
    let mut svids = SvidClient::new(channel.clone());
    let token = NewJwtsvidRequest {
        entry_id: entry.id.clone(),
        audience: vec!["x".into()],
    };
    let batch = BatchNewX509svidRequest {
        params: vec![NewX509svidParams {
            entry_id: entry.id.clone(),
            csr: Default::default(),
        }],
    };
    let renewal = RenewAgentRequest { params: None };
    for status in [
        svids.new_jwtsvid(token).await.map(drop),
        svids.batch_new_x509svid(batch).await.map(drop),
        AgentClient::new(channel.clone())
            .renew_agent(renewal)
            .await
            .map(drop),
    ] {
        let status = status.unwrap_err();
        assert!(status.message().contains("ask another"), "{status:?}");
    }
    tokio::task::block_in_place(|| cluster.go());
    let mut served = false;
    for _ in 0..300 {
        served = ask(&channel).await.is_ok();
        if served {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(served, "without a restart");
    a.tear_down().await;
    b.tear_down().await;
}

/// The clock shows nothing, so that no round of maintenance does it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_journal_that_could_not_be_read_is_read_again() {
    let cluster = Cluster::start();
    let clock = SimClock::new(START);
    let a = core(&cluster, "a", &clock).await;
    drop(beside(&cluster, "b", &clock).await);
    a.authorities.follow_journal().await.unwrap();
    clock.set_absent(true);
    let test = async {
        cluster.sql(
            "CREATE TABLE kept AS SELECT id, public_key FROM authorities; BEGIN; \
             UPDATE authorities SET public_key = '' WHERE server = 'b'; \
             UPDATE state SET journal_version = journal_version + 1, bundle_sequence = bundle_sequence + 1; COMMIT",
        );
        eventually("it is behind", || a.authorities.current().is_err()).await;
        cluster.sql("UPDATE authorities a SET public_key = k.public_key FROM kept k WHERE a.id = k.id");
        eventually("it has caught up", || a.authorities.current().is_ok()).await;
    };
    tokio::select! {
        () = a.maintenance() => panic!("maintenance ended"),
        () = test => {}
    }
}

//! A registry moves to a real PostgreSQL, and the server goes on with it.

use std::sync::atomic::Ordering;

use landfast_daemon::error_chain;

use super::*;
use crate::backup::fixture::{BANNED, NODE, Site};
use crate::core::fixture::{DAY, START, draft, entry, id, key, me, td};
use crate::core::{Core, CoreParams};
use crate::datastore::OpenError;
use crate::datastore::postgres::tests::cluster::Cluster;
use crate::datastore::postgres::tests::proxy::Proxy;
use crate::registry::{AgentStanding, PolicyPatch, TokenError};

async fn moved(site: &Site, cluster: &Cluster) -> Result<Migrated, BackupError> {
    migrate(site.disk.dir.path(), &td(), &cluster.target(), START).await
}

#[tokio::test]
async fn everything_is_in_postgresql_afterwards_and_the_server_goes_on() {
    let (site, cluster) = (Site::new(), Cluster::start());
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let patch = PolicyPatch {
        description: Some("pump \u{e4}".to_owned()),
    };
    let policy = core
        .registry
        .set_entry_policy(&made.id, patch, None)
        .await
        .unwrap();
    let (revision, bundle) = (core.registry.revision(), core.authorities.bundle());
    let agent = core.registry.agent(&id(NODE)).unwrap();
    let office = TrustDomain::parse("office.example").unwrap();
    let foreign = core.registry.federated_bundle(&office);
    let records = core.issuer.records(&id("/w")).await.unwrap();
    let recovery = core.datastore.recovery(id(NODE)).await.unwrap();
    assert!(recovery.as_ref().is_some_and(|recovery| recovery.enrolled_at.is_some()));
    let error = moved(&site, &cluster).await.unwrap_err();
    assert!(matches!(error, BackupError::InUse { .. }), "{error}");
    drop(core);
    let done = moved(&site, &cluster).await.unwrap();
    let taken = done.taken.unwrap();
    assert_eq!((taken.entries, taken.agents), (1, 2));
    assert_eq!((taken.tokens, taken.records), (2, 1));
    assert!(done.old_data.join(DATABASE).exists() && !site.disk.database().exists());
    let params = || CoreParams {
        postgres: Some(cluster.target()),
        ..site.disk.params()
    };
    let core = Core::open(params()).await.unwrap();
    let registry = &core.registry;
    assert_eq!(registry.entry(&made.id), Some(made.clone()));
    assert_eq!(registry.versioned(&made.id).unwrap().policy, Some(policy));
    assert!(registry.revision() > revision, "for agents it is newer");
    assert_eq!(registry.revision().number, revision.number);
    assert_eq!(registry.agent(&id(NODE)), Some(agent));
    assert_eq!(core.datastore.recovery(id(NODE)).await.unwrap(), recovery);
    assert_eq!(
        registry.standing(&id(BANNED), "0b", START).await,
        AgentStanding::Banned
    );
    assert!(foreign.is_some());
    assert_eq!(registry.federated_bundle(&office), foreign);
    assert_eq!(core.authorities.bundle(), bundle);
    assert_eq!(core.issuer.records(&id("/w")).await.unwrap(), records);
    let other = registry.redeem_join_token("spent", [3; 32], START).await;
    assert!(matches!(other, Err(TokenError::Used)), "{other:?}");
    assert!(
        registry
            .redeem_join_token("free", [3; 32], START)
            .await
            .unwrap()
            .first
    );
    registry.create_join_token(None, DAY, None, START).await.unwrap();
    let next = entry(&core, draft(NODE, "/next")).await;
    core.issuer.x509_for_entry(&me(), &next, &key()).await.unwrap();
    core.issuer.x509_for_entry(&me(), &made, &key()).await.unwrap();
    drop(core);
    let core = Core::open(params()).await.unwrap();
    assert_eq!(core.registry.entry(&next.id), Some(next));
}

/// Everything is committed, and the answer does not arrive.
#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_found_by_the_next_run_and_nothing_is_copied_twice() {
    let (site, cluster) = (Site::new(), Cluster::start());
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    drop(core);
    let proxy = Proxy::start(cluster.place());
    // The first one is that of the schema.
    proxy.spare.store(1, Ordering::SeqCst);
    proxy.lose.store(true, Ordering::SeqCst);
    let target = cluster.target_at(&proxy.dir);
    let run = async || migrate(site.disk.dir.path(), &td(), &target, START).await;
    let error = run().await.unwrap_err();
    assert_eq!(proxy.lost.load(Ordering::SeqCst), 1, "{}", error_chain(&error));
    let unknown = matches!(
        &error,
        BackupError::Adopt {
            source: OpenError::Open { .. }
        }
    );
    assert!(unknown, "{}", error_chain(&error));
    assert!(site.disk.database().exists(), "nobody knows yet");
    let rows = "SELECT (SELECT count(*) FROM entries), (SELECT count(*) FROM authorities), epoch FROM state";
    let arrived = cluster.sql(rows);
    assert!(arrived.starts_with("1|"), "{arrived}");
    let done = run().await.unwrap();
    assert_eq!(done.taken, None);
    assert!(done.old_data.join(DATABASE).exists() && !site.disk.database().exists());
    assert_eq!(cluster.sql(rows), arrived);
    let params = CoreParams {
        postgres: Some(cluster.target()),
        ..site.disk.params()
    };
    let core = Core::open(params).await.unwrap();
    assert_eq!(core.registry.entry(&made.id), Some(made));
}

/// The answer to COMMIT was lost, or the power after it: the old database stands where it was, and all is in the new one.
#[tokio::test]
async fn what_had_arrived_without_being_heard_of_is_found_by_the_next_run() {
    let (site, cluster) = (Site::new(), Cluster::start());
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    drop(core);
    let first = moved(&site, &cluster).await.unwrap();
    std::fs::rename(first.old_data.join(DATABASE), site.disk.database()).unwrap();
    let second = moved(&site, &cluster).await.unwrap();
    assert_eq!(second.taken, None);
    assert!(second.old_data.join(DATABASE).exists() && !site.disk.database().exists());
    let params = CoreParams {
        postgres: Some(cluster.target()),
        ..site.disk.params()
    };
    let core = Core::open(params).await.unwrap();
    assert_eq!(core.registry.entry(&made.id), Some(made));
}

#[tokio::test]
async fn a_database_with_something_in_it_is_left_as_it_is() {
    let (site, cluster) = (Site::new(), Cluster::start());
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    drop(core);
    let elsewhere = Site::new();
    let params = CoreParams {
        postgres: Some(cluster.target()),
        ..elsewhere.disk.params()
    };
    drop(Core::open(params).await.unwrap());
    let before = cluster.sql("SELECT count(*) FROM authorities");
    let error = moved(&site, &cluster).await.unwrap_err();
    let used = matches!(
        &error,
        BackupError::Adopt {
            source: OpenError::Used { .. }
        }
    );
    assert!(used, "{}", error_chain(&error));
    assert_eq!(cluster.sql("SELECT count(*) FROM authorities"), before);
    assert_eq!(cluster.sql("SELECT count(*) FROM entries"), "0");
    // And the old one goes on.
    assert_eq!(site.disk.open().await.registry.entry(&made.id), Some(made));
}

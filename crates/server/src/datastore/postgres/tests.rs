//! A real PostgreSQL: what every datastore does, and what only several servers and a database that fails can show.

pub(crate) mod cluster;
mod cores;
mod failing;
mod journal;
pub(crate) mod proxy;
mod races;
mod secured;
mod several;
mod upgrade;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::*;
use crate::core::fixture::{START, draft, td};
use crate::datastore::conformance::{Store, conforms};
use crate::datastore::{CommitListener, Committed, Datastore, Snapshot};
use crate::registry::{Created, RegistryError};
use cluster::Cluster;

async fn fresh() -> (Cluster, Store) {
    let cluster = Cluster::start();
    let store = cluster.open("one").await;
    (cluster, Arc::new(store))
}

conforms!(fresh);

/// Remembers revisions, and how often everything was read anew.
#[derive(Default)]
struct Ear(Mutex<Heard>);

#[derive(Default, Clone)]
struct Heard {
    commits: Vec<Committed>,
    snapshots: Vec<(u64, u64)>,
}

impl CommitListener for Ear {
    fn committed(&self, commit: &Committed) {
        self.0.lock().unwrap().commits.push(commit.clone());
    }

    fn reloaded(&self, snapshot: Snapshot) {
        let at = snapshot.revision;
        self.0.lock().unwrap().snapshots.push((at.epoch, at.number));
    }
}

impl Ear {
    async fn on(db: &PostgresDatastore) -> Arc<Self> {
        let ear = Arc::new(Self::default());
        db.load(None).await.unwrap();
        db.follow(ear.clone());
        ear
    }

    fn heard(&self) -> Heard {
        self.0.lock().unwrap().clone()
    }

    fn last(&self) -> u64 {
        let heard = self.0.lock().unwrap();
        heard.commits.last().map_or(0, |commit| commit.revision)
    }

    async fn until(&self, revision: u64) {
        eventually("the revision is heard of", || self.last() >= revision).await;
    }

    fn in_order(&self) {
        let heard = self.heard();
        let revisions: Vec<_> = heard.commits.iter().map(|commit| commit.revision).collect();
        let first = revisions.first().copied().unwrap_or(1);
        let expected: Vec<_> = (first..first + revisions.len() as u64).collect();
        assert_eq!(revisions, expected, "each revision once and in order");
    }
}

async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..1200 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within a minute");
}

fn storage(error: RegistryError) -> DatastoreError {
    match error {
        RegistryError::Storage { source } => source,
        other => panic!("{other:?}"),
    }
}

async fn create(db: &PostgresDatastore, name: &str) -> Result<Created, RegistryError> {
    let draft = draft("/spire/agent/x", &format!("/{name}"));
    db.create_entry(draft, name.to_owned(), "me".into(), START).await
}

#[tokio::test]
async fn a_database_that_is_not_ours_or_not_of_now_is_refused_and_named() {
    let cluster = Cluster::start();
    let refused = async |initialised| {
        let opened = cluster.try_open(&cluster.target(), "one", initialised).await;
        opened.err().expect("it is refused")
    };
    assert!(matches!(refused(true).await, OpenError::Missing { .. }));
    cluster.sql("CREATE TABLE theirs (a int)");
    assert!(matches!(refused(false).await, OpenError::NotEmpty { .. }));
    cluster.sql("DROP TABLE theirs");
    drop(cluster.open("one").await);
    drop(cluster.try_open(&cluster.target(), "one", true).await.unwrap());
    cluster.sql("UPDATE state SET trust_domain = 'other.example'");
    assert!(matches!(
        refused(true).await,
        OpenError::OtherTrustDomain { found, .. } if found == "other.example"
    ));
    cluster.sql(&format!("UPDATE state SET trust_domain = '{}'", td()));
    cluster.sql("INSERT INTO schema_migrations VALUES (1000, 'x')");
    let newer = refused(true).await;
    assert!(matches!(newer, OpenError::NewerSchema { found: 1000, .. }));
    assert!(newer.to_string().contains("landfast on /"), "{newer}");
    cluster
        .sql("DELETE FROM schema_migrations WHERE number = 1000; UPDATE schema_migrations SET sha256 = 'x'");
    assert!(matches!(
        refused(true).await,
        OpenError::ChangedMigration { number: 1, .. }
    ));
}

#[tokio::test]
async fn servers_that_start_at_once_make_one_schema() {
    let cluster = Cluster::start();
    let names = ["a", "b", "c", "d"];
    let opened = futures_util::future::join_all(names.map(|name| cluster.open(name))).await;
    assert_eq!(cluster.sql("SELECT count(*) FROM servers"), "4");
    assert_eq!(cluster.sql("SELECT count(*) FROM state"), "1");
    for (n, db) in opened.iter().enumerate() {
        create(db, &format!("e{n}")).await.unwrap();
    }
    assert_eq!(cluster.sql("SELECT revision FROM state"), "4");
}

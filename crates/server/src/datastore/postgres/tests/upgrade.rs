//! A database of an older or newer program: what would be done to it, and what is.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::authority::Slot;
use crate::config::ServerConfig;
use crate::datastore::Pending;
use crate::datastore::conformance::authority;
use crate::migrations::check_database;
use migrate::{MIGRATIONS, pending_of};

/// Does what a start of a program with these migrations does.
async fn migrated(target: &PostgresConfig, migrations: &[&str]) -> Result<(), OpenError> {
    let wrong = |source| migrate::refused(&target.shown(), source);
    let mut link = Link::connect(target).await.map_err(wrong)?;
    let session = Rc::clone(&link.session);
    let identity = Identity {
        trust_domain: td(),
        server: "of-another-version".to_owned(),
        boot: "its-boot".to_owned(),
    };
    let shown = target.shown();
    let work = async { Ok(migrate::run(&session, &shown, &identity, false, migrations).await) };
    link.run(MIGRATING, work).await.map_err(wrong)?
}

/// The schema of this program.
fn last() -> i64 {
    MIGRATIONS.len().try_into().unwrap()
}

fn since(first: i64) -> Vec<i64> {
    (first..=last()).collect()
}

fn with(more: &'static str) -> Vec<&'static str> {
    [MIGRATIONS, &[more]].concat()
}

/// Tables and columns, and what was applied.
fn schema(cluster: &Cluster) -> (String, String) {
    let columns = "SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns \
        WHERE table_schema = 'public' ORDER BY table_name, column_name";
    let applied = match cluster.sql("SELECT to_regclass('schema_migrations')").as_str() {
        "" => String::new(),
        _ => cluster.sql("SELECT number, sha256 FROM schema_migrations ORDER BY number"),
    };
    (cluster.sql(columns), applied)
}

/// A registry in use, as the program of the first migration would have left it.
async fn of_the_first_schema() -> Cluster {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    for n in 0..3 {
        create(&db, &format!("old-{n}")).await.unwrap();
    }
    let rows = vec![authority("old", Slot::Active)];
    db.save_journal(0, rows).await.unwrap().unwrap();
    drop(db);
    cluster.sql(
        "DROP TABLE person_proposals; DROP TABLE person_logins; DROP TABLE person_names; DROP TABLE people; DROP TABLE chain_steps; DROP TABLE recoveries; \
         ALTER TABLE issued DROP COLUMN rung, DROP COLUMN revoked_at; DROP TABLE acknowledged; \
         ALTER TABLE state DROP COLUMN journal_mark; DROP TABLE journal_changes; \
         DELETE FROM schema_migrations WHERE number > 1",
    );
    let first = Cluster::start();
    migrated(&first.target(), &MIGRATIONS[..1]).await.unwrap();
    assert_eq!(schema(&cluster), schema(&first));
    cluster
}

async fn pending(cluster: &Cluster) -> Pending {
    migrate::pending(&cluster.target(), &td(), true).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_database_is_migrated_once_by_servers_that_start_at_once() {
    let cluster = of_the_first_schema().await;
    let before = schema(&cluster);
    let found = pending(&cluster).await;
    assert_eq!((found.schema, found.numbers), (1, since(2)));
    assert_eq!(schema(&cluster), before, "it was only said");
    let opened = futures_util::future::join_all(["a", "b", "c", "d"].map(|name| cluster.open(name))).await;
    assert_eq!(
        cluster.sql("SELECT count(*) FROM schema_migrations"),
        last().to_string()
    );
    let found = pending(&cluster).await;
    assert_eq!((found.schema, found.numbers), (last(), vec![]));
    let db = &opened[0];
    let ear = Ear::on(db).await;
    assert_eq!(db.load(None).await.unwrap().entries.len(), 3);
    let journal = db.journal().await.unwrap();
    assert_eq!((journal.version, journal.rows[0].id.as_str()), (1, "old"));
    let rows = vec![authority("new", Slot::Active)];
    db.save_journal(1, rows).await.unwrap().unwrap();
    create(&opened[1], "new").await.unwrap();
    ear.until(4).await;
    assert_eq!(
        cluster.sql("SELECT j.version, j.mark = s.journal_mark FROM journal_changes j, state s"),
        "2|t"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_that_is_torn_leaves_the_old_schema_whole() {
    let mut cluster = Cluster::start();
    let db = cluster.open("a").await;
    create(&db, "before").await.unwrap();
    drop(db);
    let before = schema(&cluster);
    let fails =
        "CREATE TABLE half (a BIGINT); ALTER TABLE entries ADD COLUMN half BIGINT; SELECT no_such_thing";
    let error = migrated(&cluster.target(), &with(fails)).await.unwrap_err();
    assert!(matches!(error, OpenError::Open { .. }), "{error}");
    assert_eq!(schema(&cluster), before);
    // The power goes in the middle of it.
    let hangs =
        "CREATE TABLE half (a BIGINT); ALTER TABLE entries ADD COLUMN half BIGINT; SELECT pg_sleep(60)";
    let (target, migrations) = (cluster.target(), with(hangs));
    let cut = async {
        eventually("it is in the middle", || {
            let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
            cluster.sql(sleeping) == "1"
        })
        .await;
        tokio::task::block_in_place(|| {
            cluster.cut();
            cluster.go();
        });
    };
    let (torn, ()) = tokio::join!(migrated(&target, &migrations), cut);
    assert!(matches!(torn.unwrap_err(), OpenError::Open { .. }));
    assert_eq!(schema(&cluster), before);
    let db = cluster.open("a").await;
    create(&db, "after").await.unwrap();
    assert_eq!(db.load(None).await.unwrap().entries.len(), 2);
}

/// From the migration on nothing is written by it, not even by a transaction that had begun.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_server_that_is_still_connected_stops_at_the_migration() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    let _ears = (Ear::on(&a).await, Ear::on(&b).await);
    let lane = async |db: &PostgresDatastore, lane: &str| {
        for n in 0..5000 {
            match create(db, &format!("{lane}-{n}")).await.map_err(storage) {
                // The last ones may have been committed, without having heard of what came before them.
                Ok(_) | Err(DatastoreError::Undecided { .. }) => {}
                Err(refused) => return refused,
            }
        }
        panic!("it goes on for ever");
    };
    let migration = async {
        eventually("they write", || {
            cluster.sql("SELECT revision > 50 FROM state") == "t"
        })
        .await;
        let third = with("CREATE TABLE third AS SELECT revision FROM state");
        migrated(&cluster.target(), &third).await.unwrap();
    };
    let ended = tokio::join!(
        lane(&a, "a1"),
        lane(&a, "a2"),
        lane(&b, "b1"),
        lane(&b, "b2"),
        migration
    );
    let (found, known) = (last() + 1, last());
    for error in [ended.0, ended.1, ended.2, ended.3] {
        let newer = DatastoreError::NewerSchema { found, known };
        assert_eq!(error.to_string(), newer.to_string());
    }
    let same = "SELECT state.revision = third.revision, (SELECT count(*) FROM entries) = third.revision FROM state, third";
    assert_eq!(cluster.sql(same), "t|t");
    eventually("both say so", || {
        [&a, &b]
            .iter()
            .all(|db| matches!(db.standing(0), Err(DatastoreError::NewerSchema { .. })))
    })
    .await;
}

/// What a dump does: it reads the counter, and keeps its transaction.
async fn dump(cluster: &Cluster) -> Link {
    let mut link = Link::connect(&cluster.target()).await.unwrap();
    let session = Rc::clone(&link.session);
    let begun = async move {
        let begin = "SET application_name = 'a dump'; SET idle_in_transaction_session_timeout = 0; BEGIN; SELECT one FROM state";
        Ok(session.batch(begin).await?)
    };
    link.run(MIGRATING, begun).await.unwrap();
    link
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dump_that_lasts_is_in_the_way_of_a_migration_and_of_nothing_else() {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    let _ear = Ear::on(&db).await;
    eventually("it follows", || db.standing(0).is_ok()).await;
    let dump = dump(&cluster).await;
    let third = with("CREATE TABLE third (a BIGINT)");
    let before = schema(&cluster);
    let done = AtomicBool::new(false);
    let starts = async {
        for n in 0..3 {
            let held = migrated(&cluster.target(), &third).await.unwrap_err();
            let text = held.to_string();
            assert!(matches!(held, OpenError::Held { .. }), "{text}");
            assert!(
                text.contains("(a dump of user landfast)") && text.contains("pg_dump"),
                "{text}"
            );
            create(&db, &format!("meanwhile-{n}")).await.unwrap();
        }
        done.store(true, Ordering::SeqCst);
    };
    let serves = async {
        while !done.load(Ordering::SeqCst) {
            db.standing(0).unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::join!(starts, serves);
    assert_eq!(schema(&cluster), before);
    drop(dump);
    eventually("the dump has ended", || {
        cluster.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'a dump'") == "0"
    })
    .await;
    migrated(&cluster.target(), &third).await.unwrap();
    assert_ne!(schema(&cluster), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_waits_for_a_dump_when_it_has_to_migrate_and_else_does_not() {
    let cluster = of_the_first_schema().await;
    let first = dump(&cluster).await;
    let waited = AtomicBool::new(false);
    let ends = async {
        // Until a start was refused once, and its session is gone or idle.
        eventually("somebody was in the way", || {
            cluster.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted")
                == "1"
        })
        .await;
        waited.store(true, Ordering::SeqCst);
        drop(first);
    };
    let (db, ()) = tokio::join!(cluster.open("a"), ends);
    assert!(waited.load(Ordering::SeqCst));
    create(&db, "migrated").await.unwrap();
    let _second = dump(&cluster).await;
    drop(cluster.open("b").await);
}

#[tokio::test]
async fn what_a_start_would_do_is_said_and_not_done() {
    let cluster = Cluster::start();
    let look = async |initialised| migrate::pending(&cluster.target(), &td(), initialised).await;
    let empty = schema(&cluster);
    let all = look(false).await.unwrap();
    assert_eq!((all.schema, all.numbers), (0, since(1)));
    assert!(matches!(look(true).await, Err(OpenError::Missing { .. })));
    assert_eq!(schema(&cluster), empty);
    cluster.sql("CREATE TABLE theirs (a int)");
    assert!(matches!(look(false).await, Err(OpenError::NotEmpty { .. })));
    cluster.sql("DROP TABLE theirs");
    let db = cluster.open("a").await;
    create(&db, "one").await.unwrap();
    let (before, rows) = (schema(&cluster), "SELECT * FROM state, servers");
    let stored = cluster.sql(rows);
    // Beside a server that runs.
    let target = cluster.target();
    let some = pending_of(&target, &td(), true, &with("SELECT no_such_thing")).await;
    assert_eq!(some.unwrap().numbers, [last() + 1]);
    let older = pending_of(&target, &td(), true, &MIGRATIONS[..1]).await;
    assert!(matches!(older, Err(OpenError::NewerSchema { known: 1, .. })));
    let changed = pending_of(&target, &td(), true, &[&["SELECT 1"], &MIGRATIONS[1..]].concat()).await;
    assert!(matches!(
        changed,
        Err(OpenError::ChangedMigration { number: 1, .. })
    ));
    let other = TrustDomain::parse("other.example").unwrap();
    let other = migrate::pending(&target, &other, true).await;
    assert!(matches!(other, Err(OpenError::OtherTrustDomain { .. })));
    assert_eq!((schema(&cluster), cluster.sql(rows)), (before, stored));
    create(&db, "two").await.unwrap();
    // As an operator is told of it.
    let config = ServerConfig {
        postgres: Some(target.clone()),
        ..ServerConfig::in_memory(td(), "unused".into())
    };
    let report = check_database(&config).await.unwrap();
    let name = target.shown().display().to_string();
    assert_eq!(
        report.json(),
        serde_json::json!({ "kind": "postgres", "name": name, "schema": last(), "pending": [] })
    );
    assert_eq!(
        report.to_string(),
        format!("{name}: schema {}, no migration to apply", last())
    );
}

//! A database that restarts, hangs, only reads, is full, or has lost what it had.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::Signal;

use super::proxy::Proxy;
use super::*;
use crate::datastore::DatastoreError;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn restarts_under_load_lose_nothing_and_make_nothing_twice() {
    let mut cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    let (at_a, at_b) = (Ear::on(&a).await, Ear::on(&b).await);
    let stop = AtomicBool::new(false);
    let done = Mutex::new(BTreeSet::new());
    let lane = async |db: &PostgresDatastore, lane: &str| {
        for n in 0.. {
            if stop.load(Ordering::SeqCst) {
                return;
            }
            let name = format!("{lane}-{n}");
            if create(db, &name).await.is_ok() {
                done.lock().unwrap().insert(name);
            }
        }
    };
    let count = || done.lock().unwrap().len();
    let cuts = async {
        for _ in 0..3 {
            let before = count();
            eventually("work is done", || count() > before + 20).await;
            tokio::task::block_in_place(|| {
                cluster.cut();
                cluster.go();
            });
        }
        let before = count();
        eventually("work is done again", || count() > before + 20).await;
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(
        lane(&a, "a1"),
        lane(&a, "a2"),
        lane(&b, "b1"),
        lane(&b, "b2"),
        cuts
    );
    let revision: u64 = cluster.sql("SELECT revision FROM state").parse().unwrap();
    at_a.until(revision).await;
    at_b.until(revision).await;
    at_a.in_order();
    at_b.in_order();
    let stored = cluster.sql("SELECT id FROM entries");
    let stored: BTreeSet<_> = stored.lines().map(str::to_owned).collect();
    assert!(
        done.lock().unwrap().is_subset(&stored),
        "what was acknowledged is there"
    );
    assert_eq!(stored.len() as u64, revision, "nothing was made twice");
    a.standing(0).unwrap();
    b.standing(0).unwrap();
}

#[tokio::test]
async fn a_commit_whose_answer_is_lost_is_looked_up_and_not_made_again() {
    let cluster = Cluster::start();
    let proxy = Proxy::start(cluster.dir.path());
    let target = cluster.target_at(&proxy.dir);
    let db = cluster.try_open(&target, "a", false).await.unwrap();
    let ear = Ear::on(&db).await;
    create(&db, "before").await.unwrap();
    for n in 0..5_usize {
        proxy.lose.store(true, Ordering::SeqCst);
        let made = create(&db, &format!("e{n}")).await.unwrap();
        assert!(
            matches!(made, Created::New(_)),
            "made anew it would be similar to itself"
        );
        assert_eq!(proxy.lost.load(Ordering::SeqCst), n + 1);
    }
    assert_eq!(cluster.sql("SELECT revision FROM state"), "6");
    ear.until(6).await;
    ear.in_order();
}

#[tokio::test]
async fn a_database_that_hangs_is_noticed_and_answers_become_no() {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    let ear = Ear::on(&db).await;
    create(&db, "before").await.unwrap();
    cluster.signal(Signal::SIGSTOP);
    let failed = storage(create(&db, "meanwhile").await.unwrap_err());
    assert!(
        matches!(
            failed,
            DatastoreError::Unreachable { .. } | DatastoreError::Undecided { .. }
        ),
        "{failed:?}"
    );
    eventually("it says that it may be stale", || db.standing(0).is_err()).await;
    db.doubted().await;
    cluster.signal(Signal::SIGCONT);
    eventually("it knows everything again", || db.standing(0).is_ok()).await;
    create(&db, "after").await.unwrap();
    ear.in_order();
}

/// Callers come for as long as they are let in, one after the other; the last of them is the worst off.
#[tokio::test]
async fn nobody_waits_for_a_database_that_is_known_to_be_gone() {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    let ear = Ear::on(&db).await;
    create(&db, "before").await.unwrap();
    cluster.signal(Signal::SIGSTOP);
    let callers = (0..40).map(|n| {
        let db = &db;
        async move {
            tokio::time::sleep(Duration::from_millis(100 * n)).await;
            match db.standing(0) {
                Ok(()) => create(db, &format!("meanwhile{n}")).await.err(),
                Err(_) => None,
            }
        }
    });
    let refused = async {
        let refused = futures_util::future::join_all(callers).await;
        refused.into_iter().flatten().count()
    };
    let known = async {
        eventually("it says that it may be stale", || db.standing(0).is_err()).await;
        // With what an attempt has at least. Who waited for as long as for a database that answers would be here still.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
    };
    let refused = tokio::select! {
        refused = refused => refused,
        () = known => panic!("somebody still waits"),
    };
    assert!(refused > 1, "{refused}");
    cluster.signal(Signal::SIGCONT);
    eventually("it knows everything again", || db.standing(0).is_ok()).await;
    create(&db, "after").await.unwrap();
    ear.in_order();
}

#[tokio::test]
async fn a_replica_is_said_to_only_read_whatever_is_behind_it_in_the_list() {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    let _ear = Ear::on(&db).await;
    cluster.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    cluster.sql("SELECT pg_reload_conf()");
    let nowhere = cluster.dir.path().join("nowhere");
    let target = cluster.target_at(Path::new(&format!(
        "{},{}",
        cluster.dir.path().display(),
        nowhere.display()
    )));
    let mut said = None;
    for _ in 0..100 {
        // The setting comes into force within moments.
        said = Link::connect(&target).await.err();
        match said {
            Some(_) => break,
            None => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    assert!(matches!(said, Some(DatastoreError::ReadOnly)), "{said:?}");
}

#[tokio::test]
async fn a_database_that_only_reads_takes_nothing_and_is_used_again_when_it_writes() {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    let ear = Ear::on(&db).await;
    create(&db, "before").await.unwrap();
    cluster.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    cluster.sql("SELECT pg_reload_conf()");
    let mut n = 0;
    let failed = loop {
        // The setting comes into force within moments.
        n += 1;
        match create(&db, &format!("meanwhile{n}")).await {
            Ok(_) => assert!(n < 1000),
            Err(failed) => break storage(failed),
        }
    };
    let said = landfast_daemon::error_chain(&failed);
    assert!(
        matches!(
            failed,
            DatastoreError::ReadOnly | DatastoreError::Unreachable { .. }
        ),
        "{said}"
    );
    let refused = cluster
        .try_open(&cluster.target(), "b", true)
        .await
        .err()
        .unwrap();
    let said = landfast_daemon::error_chain(&refused);
    assert!(
        said.contains("allow writes") || said.contains("only reads"),
        "{said}"
    );
    cluster.sql("ALTER SYSTEM RESET default_transaction_read_only");
    cluster.sql("SELECT pg_reload_conf()");
    create(&db, "after").await.unwrap();
    db.standing(0).unwrap();
    ear.in_order();
}

#[tokio::test]
async fn a_full_disk_is_named_and_room_mends_it() {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    let ear = Ear::on(&db).await;
    cluster.sql(
        "CREATE FUNCTION full_disk() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN RAISE EXCEPTION ''no room'' USING ERRCODE = ''53100''; END'; \
         CREATE TRIGGER full_disk BEFORE INSERT ON entries FOR EACH ROW EXECUTE FUNCTION full_disk()",
    );
    let failed = storage(create(&db, "meanwhile").await.unwrap_err());
    assert!(matches!(failed, DatastoreError::NoSpace { .. }), "{failed:?}");
    db.doubted().await;
    cluster.sql("DROP TRIGGER full_disk ON entries");
    create(&db, "after").await.unwrap();
    assert_eq!(ear.last(), 1);
}

/// As `pg_dump` does for as long as it takes.
#[tokio::test]
async fn whoever_reads_every_table_is_in_no_probes_way() {
    let cluster = Cluster::start();
    let db = cluster.open("a").await;
    let mut dump = Link::connect(&cluster.target()).await.unwrap();
    let session = Rc::clone(&dump.session);
    let reading = "SET idle_in_transaction_session_timeout = 0; BEGIN; DO $$ DECLARE t regclass; BEGIN \
        FOR t IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace \
        LOOP EXECUTE format('LOCK TABLE %s IN ACCESS SHARE MODE', t); END LOOP; END $$";
    let locked = dump.run(Duration::from_secs(60), async move {
        Ok(session.batch(reading).await?)
    });
    locked.await.unwrap();
    for _ in 0..3 {
        db.probe().await.unwrap();
    }
    let left = cluster.sql("SELECT count(*) FROM pg_class WHERE relname = 'room'");
    assert_eq!(left, "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_lost_commits_is_not_gone_on_with_until_somebody_says_so() {
    let mut cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    let (at_a, at_b) = (Ear::on(&a).await, Ear::on(&b).await);
    create(&a, "kept").await.unwrap();
    tokio::task::block_in_place(|| cluster.keep());
    create(&a, "lost").await.unwrap();
    create(&a, "lost-too").await.unwrap();
    at_b.until(3).await;
    tokio::task::block_in_place(|| cluster.put_back());
    eventually("both notice", || {
        [&a, &b]
            .iter()
            .all(|db| matches!(db.standing(0), Err(DatastoreError::WentBack { .. })))
    })
    .await;
    let refused = storage(create(&b, "anew").await.unwrap_err());
    assert!(
        matches!(refused, DatastoreError::WentBack { known: 3, found: 1 }),
        "{refused:?}"
    );
    assert_eq!(
        cluster.sql("SELECT revision FROM state"),
        "1",
        "nothing was written"
    );
    let before: u64 = cluster.sql("SELECT epoch FROM state").parse().unwrap();
    cluster.sql(
        "INSERT INTO recoveries (agent_id, heard_at, waiting, body) VALUES ('a', 5, false, \
         '{\"enrolled_at\":null,\"key\":null,\"last\":null,\"rival\":null,\"replace\":false,\"offer\":null}')",
    );
    let epoch = accept_loss(&cluster.target()).await.unwrap();
    assert!(epoch > before);
    // What was decided about device keys may be lost as well.
    assert_eq!(
        cluster.sql("SELECT heard_at IS NULL AND (body::jsonb->>'doubted')::boolean FROM recoveries"),
        "t"
    );
    eventually("both go on", || {
        a.standing(u64::MAX).is_ok() && b.standing(u64::MAX).is_ok()
    })
    .await;
    for ear in [&at_a, &at_b] {
        assert_eq!(ear.heard().snapshots, [(epoch, 1)]);
    }
    create(&b, "anew").await.unwrap();
    at_a.until(2).await;
    assert_eq!(cluster.sql("SELECT count(*) FROM entries"), "2");
}

/// The same number of revisions, and another history.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_of_the_same_length_is_noticed() {
    let mut cluster = Cluster::start();
    let a = cluster.open("a").await;
    let ear = Ear::on(&a).await;
    create(&a, "kept").await.unwrap();
    tokio::task::block_in_place(|| cluster.keep());
    create(&a, "lost").await.unwrap();
    // Where the server looks it is not to be seen until somebody else has written more.
    let statements = "UPDATE state SET revision = 3, mark = 'other-2'; \
         INSERT INTO changes VALUES (2, 'entry', 'x', NULL, 'other-1', 0), (3, 'entry', 'x', NULL, 'other-2', 0)";
    tokio::task::block_in_place(|| cluster.put_back_with(statements));
    eventually("it is noticed", || {
        matches!(a.standing(0), Err(DatastoreError::WentBack { .. }))
    })
    .await;
    assert_eq!(ear.last(), 2);
    // By its number it would be one that goes on from there.
    let refused = storage(create(&a, "anew").await.unwrap_err());
    assert!(matches!(refused, DatastoreError::WentBack { .. }), "{refused:?}");
    assert_eq!(
        cluster.sql("SELECT revision FROM state"),
        "3",
        "nothing was written"
    );
}

#[tokio::test]
async fn the_database_that_has_everything_may_come_back() {
    let cluster = Cluster::start();
    let a = cluster.open("a").await;
    let ear = Ear::on(&a).await;
    for n in 0..3 {
        create(&a, &format!("e{n}")).await.unwrap();
    }
    let mark = cluster.sql("SELECT mark FROM state");
    cluster.sql("UPDATE state SET revision = 1, mark = 'x'");
    eventually("it is noticed", || {
        matches!(a.standing(0), Err(DatastoreError::WentBack { .. }))
    })
    .await;
    cluster.sql(&format!("UPDATE state SET revision = 3, mark = '{mark}'"));
    eventually("it goes on", || a.standing(0).is_ok()).await;
    create(&a, "more").await.unwrap();
    assert_eq!(ear.last(), 4);
    ear.in_order();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_change_of_the_authorities_is_noticed_though_no_revision_went_with_it() {
    use crate::authority::Slot;
    use crate::datastore::conformance::authority;
    let mut cluster = Cluster::start();
    let a = cluster.open("a").await;
    let _ear = Ear::on(&a).await;
    create(&a, "kept").await.unwrap();
    tokio::task::block_in_place(|| cluster.keep());
    let rows = vec![authority("one", Slot::Active)];
    a.save_journal(0, rows).await.unwrap().unwrap();
    tokio::task::block_in_place(|| cluster.put_back());
    eventually("it is noticed", || {
        matches!(a.standing(1), Err(DatastoreError::JournalWentBack { .. }))
    })
    .await;
    let refused = storage(create(&a, "anew").await.unwrap_err());
    assert!(
        matches!(refused, DatastoreError::JournalWentBack { known: 1, found: 0 }),
        "{refused:?}"
    );
    accept_loss(&cluster.target()).await.unwrap();
    eventually("it goes on", || a.standing(u64::MAX).is_ok()).await;
    create(&a, "anew").await.unwrap();
}

#[tokio::test]
async fn a_commit_that_cannot_be_looked_up_is_not_said_to_have_failed() {
    let cluster = Cluster::start();
    let proxy = Proxy::start(cluster.dir.path());
    let target = cluster.target_at(&proxy.dir);
    let db = cluster.try_open(&target, "a", false).await.unwrap();
    let _ear = Ear::on(&db).await;
    proxy.lose.store(true, Ordering::SeqCst);
    let replaced = async {
        eventually("the COMMIT is on its way", || {
            proxy.lost.load(Ordering::SeqCst) == 1
        })
        .await;
        // Waits for the commit. The look-up finds another process in this one's place.
        cluster.sql("UPDATE servers SET boot = 'another'");
    };
    let (made, ()) = tokio::join!(create(&db, "e"), replaced);
    let failed = storage(made.unwrap_err());
    assert!(matches!(failed, DatastoreError::Undecided { .. }), "{failed:?}");
    assert_eq!(cluster.sql("SELECT count(*) FROM entries"), "1");
}

#[tokio::test]
async fn a_server_that_is_older_than_the_schema_says_so() {
    let cluster = Cluster::start();
    let a = cluster.open("a").await;
    let _ear = Ear::on(&a).await;
    // Its connections go on; it sees so all the same.
    cluster.sql("INSERT INTO schema_migrations VALUES (1000, 'x')");
    let refused = storage(create(&a, "at-once").await.unwrap_err());
    assert!(
        matches!(refused, DatastoreError::NewerSchema { found: 1000, .. }),
        "{refused:?}"
    );
    let is_newer = |error: &DatastoreError| matches!(error, DatastoreError::NewerSchema { found: 1000, .. });
    eventually("it is noticed", || {
        a.standing(0).is_err_and(|error| is_newer(&error))
    })
    .await;
    let refused = storage(create(&a, "e").await.unwrap_err());
    assert!(is_newer(&refused), "{refused:?}");
    assert_eq!(
        cluster.sql("SELECT count(*) FROM entries"),
        "0",
        "nothing was written"
    );
    cluster.sql("DELETE FROM schema_migrations WHERE number = 1000");
    eventually("it goes on", || a.standing(0).is_ok()).await;
}

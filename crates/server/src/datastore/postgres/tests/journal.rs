//! A database that has lost changes of the authorities, and was given others in their place.

use tokio::runtime::Handle;

use super::*;
use crate::authority::Slot;
use crate::datastore::DatastoreError;
use crate::datastore::conformance::authority;

/// Makes so many changes of the authorities as a server of this name.
async fn rewrite(cluster: &Cluster, at: &std::path::Path, changes: u64) {
    let other = cluster
        .try_open(&cluster.target_at(at), "other", true)
        .await
        .unwrap();
    for n in 0..changes {
        let slot = if n == 0 { Slot::Active } else { Slot::Old };
        let rows = vec![authority(&format!("other-{n}"), slot)];
        other.save_journal(n, rows).await.unwrap().unwrap();
    }
}

fn is_lost(error: &DatastoreError, found_now: u64) -> bool {
    matches!(error, DatastoreError::JournalWentBack { known: 1, found } if *found == found_now)
}

/// As many as were lost, and more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_history_of_the_authorities_is_noticed_by_all_who_know_the_lost_one() {
    for changes in [1, 2] {
        let mut cluster = Cluster::start();
        let (a, b) = (cluster.open("a").await, cluster.open("b").await);
        let (at_a, at_b) = (Ear::on(&a).await, Ear::on(&b).await);
        create(&a, "kept").await.unwrap();
        tokio::task::block_in_place(|| cluster.keep());
        let rows = vec![authority("lost", Slot::Active)];
        a.save_journal(0, rows).await.unwrap().unwrap();
        b.journal_changed().await;
        assert_eq!(b.journal().await.unwrap().others.len(), 1);
        // Where the two look it is not to be seen until another server has written.
        tokio::task::block_in_place(|| {
            cluster.put_back_and(|cluster, at| Handle::current().block_on(rewrite(cluster, at, changes)));
        });
        for db in [&a, &b] {
            eventually("it is noticed", || {
                db.standing(1).is_err_and(|error| is_lost(&error, changes))
            })
            .await;
            let refused = storage(create(db, "anew").await.unwrap_err());
            assert!(is_lost(&refused, changes), "{refused:?}");
            let rows = vec![authority("anew", Slot::Active)];
            let refused = db.save_journal(changes, rows).await.unwrap_err();
            assert!(is_lost(&refused, changes), "{refused:?}");
            let refused = db.record(Vec::new()).await.unwrap_err();
            assert!(is_lost(&refused, changes), "{refused:?}");
        }
        let stored = "SELECT (SELECT count(*) FROM entries), (SELECT string_agg(id, ' ') FROM authorities), \
            (SELECT journal_version FROM state)";
        let last = changes - 1;
        assert_eq!(cluster.sql(stored), format!("1|other-{last}|{changes}"));
        accept_loss(&cluster.target()).await.unwrap();
        eventually("both go on", || {
            a.standing(u64::MAX).is_ok() && b.standing(u64::MAX).is_ok()
        })
        .await;
        let journal = a.journal().await.unwrap();
        assert!(journal.rows.is_empty());
        assert_eq!(journal.others[0].id, format!("other-{last}"));
        create(&b, "anew").await.unwrap();
        at_a.until(2).await;
        at_b.until(2).await;
    }
}

/// A history that was lost may have had each version in a commit of its own, and the one in its place several in one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_version_of_a_commit_that_made_several_has_its_mark() {
    let cluster = Cluster::start();
    let a = cluster.open("a").await;
    let (one, two) = (authority("one", Slot::Active), authority("two", Slot::Active));
    let mut lock = Link::connect(&cluster.target()).await.unwrap();
    let session = Rc::clone(&lock.session);
    let locked = async move { Ok(session.batch("BEGIN; SELECT one FROM state FOR UPDATE").await?) };
    lock.run(MIGRATING, locked).await.unwrap();
    // While the first request waits, the others come, and go into one transaction.
    let others = async {
        eventually("the writer waits", || {
            cluster.sql("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted") == "t"
        })
        .await;
        let rows = vec![one.clone()];
        tokio::join!(
            a.save_journal(0, rows),
            a.save_journal(1, vec![two.clone()]),
            async {
                drop(lock);
            }
        )
    };
    let (first, others) = tokio::join!(create(&a, "first"), others);
    first.unwrap();
    others.0.unwrap().unwrap();
    others.1.unwrap().unwrap();
    let marks = "SELECT count(*), count(DISTINCT mark), min(version), max(version) FROM journal_changes";
    assert_eq!(cluster.sql(marks), "2|1|1|2");
}

#[tokio::test]
async fn the_database_that_has_the_authorities_may_come_back() {
    let cluster = Cluster::start();
    let a = cluster.open("a").await;
    let _ear = Ear::on(&a).await;
    for n in 0..3 {
        let rows = vec![authority(&format!("a{n}"), Slot::Active)];
        a.save_journal(n, rows).await.unwrap().unwrap();
    }
    let mark = cluster.sql("SELECT journal_mark FROM state");
    assert_eq!(
        cluster.sql("SELECT mark FROM journal_changes WHERE version = 3"),
        mark
    );
    cluster.sql("UPDATE state SET journal_mark = 'x'");
    eventually("it is noticed", || {
        let error = a.standing(3).err();
        matches!(
            error,
            Some(DatastoreError::JournalWentBack { known: 3, found: 3 })
        )
    })
    .await;
    cluster.sql(&format!("UPDATE state SET journal_mark = '{mark}'"));
    eventually("it goes on", || a.standing(3).is_ok()).await;
    create(&a, "more").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_last_thousand_marks_are_kept() {
    let cluster = Cluster::start();
    let a = cluster.open("a").await;
    cluster.sql(
        "BEGIN; INSERT INTO journal_changes SELECT n, 'm' FROM generate_series(1, 1500) AS n; \
         UPDATE state SET journal_version = 1500, journal_mark = 'm'; COMMIT",
    );
    let rows = vec![authority("one", Slot::Active)];
    a.save_journal(1500, rows).await.unwrap().unwrap();
    let left = cluster.sql("SELECT min(version), max(version), count(*) FROM journal_changes");
    assert_eq!(left, "502|1501|1000");
}

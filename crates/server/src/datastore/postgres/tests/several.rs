//! Several servers on one database.

use landfast_identity::UnixTime;

use super::*;
use crate::core::fixture::DAY;
use crate::datastore::conformance::{authority, redemption, token};
use crate::datastore::{Change, Prune};
use crate::registry::TokenError;

#[tokio::test]
async fn what_one_server_changes_the_others_hear_in_order() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    let (at_a, at_b) = (Ear::on(&a).await, Ear::on(&b).await);
    for n in 0..20 {
        create(&a, &format!("a{n}")).await.unwrap();
        create(&b, &format!("b{n}")).await.unwrap();
        assert!(
            at_b.last() > 2 * n,
            "an answer comes after what it is about is known"
        );
    }
    a.delete_entry("b3".into(), START).await.unwrap();
    let policy = crate::registry::PolicyPatch {
        description: Some("of a".into()),
        availability_first: Some(true),
        ..crate::registry::PolicyPatch::default()
    };
    b.set_policy("a3".into(), policy, None, START).await.unwrap();
    at_a.until(42).await;
    at_b.until(42).await;
    at_a.in_order();
    at_b.in_order();
    let (heard_a, heard_b) = (at_a.heard(), at_b.heard());
    assert_eq!(heard_a.commits.len(), 42);
    for (one, other) in heard_a.commits.iter().zip(&heard_b.commits) {
        assert_eq!(format!("{one:?}"), format!("{other:?}"));
    }
    assert!(matches!(&heard_b.commits[40].change, Change::RemoveEntry(id) if id == "b3"));
    assert!(matches!(&heard_a.commits[41].change, Change::PutPolicy(policy) if policy.availability_first));
    assert!(heard_a.snapshots.is_empty() && heard_b.snapshots.is_empty());
}

#[tokio::test]
async fn a_token_is_redeemed_once_though_two_servers_are_asked_at_once() {
    let cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    for n in 0..40 {
        a.create_token(token(n)).await.unwrap();
    }
    for n in 0..40 {
        let (one, other) = tokio::join!(a.redeem_token(redemption(n, 1)), b.redeem_token(redemption(n, 2)));
        let winners = [&one, &other].map(|r| r.as_ref().is_ok_and(|r| r.first));
        assert!(winners[0] != winners[1], "{one:?} {other:?}");
        let loser = if winners[0] { other } else { one };
        assert!(matches!(loser, Err(TokenError::Used)));
    }
    assert_eq!(cluster.sql("SELECT count(*) FROM entries"), "40", "an alias each");
}

/// `LANDFAST_FEED_CHANGES=100000` for the long run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_writers_with_delayed_commits_and_no_change_missed() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how long a test runs is no configuration"
    )]
    let changes = std::env::var("LANDFAST_FEED_CHANGES").map_or(4_000, |text| text.parse().unwrap());
    let cluster = Cluster::start();
    let (first, second) = (cluster.open("r1").await, cluster.open("r2").await);
    cluster.sql(
        "CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN PERFORM pg_sleep(random() * 0.01); RETURN NULL; END'; \
         CREATE CONSTRAINT TRIGGER dawdle AFTER UPDATE ON state DEFERRABLE INITIALLY DEFERRED \
         FOR EACH ROW EXECUTE FUNCTION dawdle()",
    );
    let ears = [Ear::on(&first).await, Ear::on(&second).await];
    let mut writers = Vec::new();
    for n in 0..8 {
        writers.push(cluster.open(&format!("w{n}")).await);
    }
    let each = changes / 8;
    let work = writers.iter().enumerate().map(|(n, writer)| async move {
        let lanes = (0..50).map(|lane| async move {
            for turn in (lane..each).step_by(50) {
                create_in_the_end(writer, &format!("w{n}-{turn}")).await;
            }
        });
        futures_util::future::join_all(lanes).await;
    });
    futures_util::future::join_all(work).await;
    let all = each * 8;
    for ear in &ears {
        ear.until(all).await;
        ear.in_order();
        let heard = ear.heard();
        assert_eq!((heard.commits.len() as u64, heard.commits[0].revision), (all, 1));
        assert!(heard.snapshots.is_empty());
        let mut names: Vec<_> = heard
            .commits
            .iter()
            .map(|commit| match &commit.change {
                Change::PutEntry(entry) => entry.id.clone(),
                other => panic!("{other:?}"),
            })
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len() as u64, all, "each change is what it was");
    }
}

/// On a machine that is busy with other things a write may be given up after three seconds, decided or not. Whoever asks again is told of the entry that
/// is there already, so each is created once all the same.
async fn create_in_the_end(writer: &PostgresDatastore, name: &str) {
    let mut attempts = 0;
    while let Err(error) = create(writer, name).await {
        attempts += 1;
        assert!(attempts < 100, "{name}: {error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn who_is_behind_what_was_pruned_reads_everything_anew() {
    let mut cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    let at_b = Ear::on(&b).await;
    create(&a, "one").await.unwrap();
    at_b.until(1).await;
    // Nobody hears of these until they are gone.
    cluster.cut();
    cluster.go();
    cluster.sql(
        "BEGIN; UPDATE state SET revision = 4000, mark = 'x'; \
         INSERT INTO changes SELECT n, 'entry', 'gone', NULL, 'x', 0 FROM generate_series(3900, 4000) AS n; COMMIT",
    );
    eventually("b reads everything", || !at_b.heard().snapshots.is_empty()).await;
    assert_eq!(at_b.heard().snapshots[0].1, 4000);
    create(&a, "two").await.unwrap();
    at_b.until(4001).await;
    b.standing(0).unwrap();
}

#[tokio::test]
async fn changes_stay_for_those_who_are_slow_and_go_in_time() {
    let cluster = Cluster::start();
    let a = cluster.open("a").await;
    for n in 0..3 {
        create(&a, &format!("e{n}")).await.unwrap();
    }
    a.delete_entry("e0".into(), START).await.unwrap();
    let prune = |at: UnixTime| a.prune(Prune::Tombstones { before: at }, 500);
    cluster.sql("UPDATE changes SET at = at - 7200 WHERE body IS NOT NULL");
    assert_eq!(
        prune(START).await.unwrap(),
        0,
        "a thousand stay, and what was removed"
    );
    assert_eq!(prune(START.saturating_add(DAY)).await.unwrap(), 0, "of those too");
    cluster.sql("UPDATE state SET revision = 5000");
    assert_eq!(prune(START).await.unwrap(), 3);
    assert_eq!(prune(START.saturating_add(DAY)).await.unwrap(), 1);
}

#[tokio::test]
async fn each_server_has_authorities_of_its_own_and_all_are_in_the_bundle() {
    use crate::authority::{OtherChange, Slot};
    let cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    let (one, two) = (authority("one", Slot::Active), authority("two", Slot::Active));
    let (at_a, at_b) = tokio::join!(
        a.save_journal(0, vec![one.clone()]),
        b.save_journal(0, vec![two.clone()])
    );
    assert!(
        at_a.unwrap().is_some() != at_b.unwrap().is_some(),
        "who was slower looks again"
    );
    let journal = a.journal().await.unwrap();
    if journal.rows.is_empty() {
        a.save_journal(1, vec![one.clone()]).await.unwrap().unwrap();
    } else {
        b.save_journal(1, vec![two.clone()]).await.unwrap().unwrap();
    }
    let (at_a, at_b) = (a.journal().await.unwrap(), b.journal().await.unwrap());
    assert_eq!((at_a.version, at_a.sequence), (2, 2));
    assert_eq!(
        (at_a.rows[0].id.as_str(), at_a.others[0].id.as_str()),
        ("one", "two")
    );
    assert_eq!(
        (at_b.rows[0].id.as_str(), at_b.others[0].id.as_str()),
        ("two", "one")
    );
    let bundles = [&at_a, &at_b].map(|journal| journal.bundle(&td()).unwrap());
    assert_eq!(bundles[0], bundles[1], "of one sequence there is one bundle");
    assert_eq!(bundles[0].jwt_authorities().len(), 2);
    // Nobody is to sign with another's, nor to change more of it than an operator may.
    assert!(
        a.change_other(2, "one".into(), OtherChange::Taint)
            .await
            .unwrap()
            .is_none()
    );
    a.journal_changed().await;
    b.journal_changed().await;
    let tainted = a
        .change_other(2, "two".into(), OtherChange::Taint)
        .await
        .unwrap()
        .unwrap();
    assert!(tainted.others[0].tainted && tainted.sequence == 3);
    b.journal_changed().await;
    assert!(b.journal().await.unwrap().rows[0].tainted);
    let ended = Prune::Authorities {
        ended_before: START.saturating_add(29 * DAY),
    };
    assert_eq!(a.prune(ended, 10).await.unwrap(), 0);
    let ended = Prune::Authorities {
        ended_before: START.saturating_add(31 * DAY),
    };
    assert_eq!(a.prune(ended, 10).await.unwrap(), 1, "never its own");
    assert_eq!(a.journal().await.unwrap().rows.len(), 1);
}

#[tokio::test]
async fn a_copy_of_a_server_takes_its_place_and_the_older_one_stops() {
    let cluster = Cluster::start();
    let old = cluster.open("a").await;
    create(&old, "one").await.unwrap();
    let new = cluster.open("a").await;
    let fenced = create(&old, "two").await.unwrap_err();
    assert!(
        matches!(
            fenced,
            RegistryError::Storage {
                source: DatastoreError::Fenced
            }
        ),
        "{fenced:?}"
    );
    assert!(matches!(old.standing(0), Err(DatastoreError::Fenced)));
    create(&new, "two").await.unwrap();
    new.standing(0).unwrap();
}

#[tokio::test]
async fn what_one_server_hears_of_persons_all_hear_and_the_feed_forgets_who_is_forgotten() {
    use crate::people::{Change as More, Login, PersonRef, Role, Step, proposal_id};
    let cluster = Cluster::start();
    let (a, b) = (cluster.open("a").await, cluster.open("b").await);
    let (_at_a, at_b) = (Ear::on(&a).await, Ear::on(&b).await);
    let person = PersonRef::random().unwrap();
    let change = More {
        person: person.clone(),
        name: Some("Jo".to_owned()),
        logins: vec![Login::Uid(424_242)],
        roles: vec![Role::parse("administer:spiffe://plant.example/*").unwrap()],
        activate: false,
    };
    let id = proposal_id().unwrap();
    let step = Step::Grant { change, id };
    a.change_people(td(), step, None, START).await.unwrap();
    at_b.until(1).await;
    assert!(matches!(&at_b.heard().commits[0].change, Change::PutPerson(heard) if heard.reference == person));
    assert_eq!(b.register(td()).await.unwrap().names[&person], "Jo");
    let named = "SELECT count(*) FROM changes WHERE body LIKE '%424242%'";
    assert_eq!(cluster.sql(named), "1");
    let step = Step::Forget {
        person: person.clone(),
    };
    b.change_people(td(), step, None, START).await.unwrap();
    at_b.until(2).await;
    assert_eq!(cluster.sql(named), "0", "its login is nowhere any more");
    assert_eq!(
        cluster.sql("SELECT count(*) FROM changes"),
        "2",
        "and the feed is whole"
    );
    assert_eq!(cluster.sql("SELECT count(*) FROM person_names"), "0");
    assert_eq!(cluster.sql("SELECT count(*) FROM person_logins"), "0");
    assert!(b.load(None).await.unwrap().people[0].forgotten);
}

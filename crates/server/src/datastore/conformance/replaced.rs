//! What nodes ask for again, since they do not have it.

use super::rungs::{HOUR, row, rung, seen, wanted, with_rungs};
use super::*;
use crate::authority::Slot;

const X: &str = "/spire/agent/x";
const MINUTE: Duration = Duration::from_secs(60);

pub(in crate::datastore) async fn of_what_begins_within_a_step_the_last_one_counts(db: Store) {
    with_rungs(&db).await;
    let ladder = || DebtQuery {
        agents: vec![id(X).to_string()],
        entries: vec!["e1".into()],
        ..wanted()
    };
    let asked = async |record: IssuanceRecord| {
        let recorded = db.record(vec![record]).await.unwrap();
        (recorded[0].clone(), seen(&db, ladder()).await[0].2)
    };
    assert_eq!(seen(&db, ladder()).await, [row("x", "e1", 2, 2)]);
    assert_eq!(asked(rung(X, "e1", "20", 2 * HOUR)).await, (Recorded::Yes, 2));
    // The next attempt comes later, and so do all its beginnings.
    let later = rung(X, "e1", "21", 2 * HOUR + 29 * MINUTE);
    assert_eq!(asked(later).await, (Recorded::Yes, 2));
    let next = rung(X, "e1", "22", 2 * HOUR + 59 * MINUTE);
    assert_eq!(asked(next).await, (Recorded::Yes, 3), "a step later");
    // What outlasts the new one is still owed, or asking would make a debt end sooner.
    let before = rung(X, "e1", "23", 2 * HOUR + 58 * MINUTE);
    assert_eq!(
        asked(before).await,
        (Recorded::Yes, 3),
        "in the place of 21 alone"
    );
    let shorter = IssuanceRecord {
        not_after: START.saturating_add(2 * HOUR),
        ..rung(X, "e1", "24", 2 * HOUR + 59 * MINUTE)
    };
    assert_eq!(asked(shorter).await, (Recorded::Yes, 4));
    assert_eq!(seen(&db, ladder()).await, [row("x", "e1", 4, 2)]);
    // What is not recorded takes no place.
    let keyed = |serial: &str| IssuanceRecord {
        key_hash: Some([9; 32]),
        ..rung(X, "e1", serial, 9 * HOUR)
    };
    assert_eq!(asked(keyed("25")).await, (Recorded::Yes, 5));
    assert_eq!(asked(keyed("26")).await, (Recorded::KeyUsed, 5));
    let others: Vec<_> = seen(&db, wanted()).await.into_iter().skip(1).collect();
    let untouched = [row("x", "e2", 1, 3), row("y", "e1", 1, 4), row("y", "e2", 1, 5)];
    assert_eq!(others, untouched);
}

pub(in crate::datastore) async fn what_a_tainted_authority_signed_fills_no_reserve(db: Store) {
    with_rungs(&db).await;
    let apart = |number: u64| {
        let ends = 3 * HOUR - Duration::from_secs(number);
        rung(X, "e1", &format!("k{number}"), ends)
    };
    db.record((0..crate::reserve::MOST_AHEAD).map(apart).collect())
        .await
        .unwrap();
    let again = async || db.record(vec![apart(2000)]).await.unwrap();
    assert_eq!(again().await, [Recorded::Enough]);
    let tainted = AuthorityRow {
        tainted: true,
        ..authority("a", Slot::Old)
    };
    let rows = vec![tainted, authority("b", Slot::Active)];
    let expected = db.journal().await.unwrap().sequence;
    db.save_journal(expected, rows).await.unwrap().unwrap();
    assert_eq!(again().await, [Recorded::Yes]);
    // Until verifiers refuse them they are owed.
    let untainted = DebtQuery {
        untainted: true,
        ..wanted()
    };
    assert_eq!(seen(&db, untainted).await, [row("y", "e2", 1, 5)]);
    assert_eq!(seen(&db, wanted()).await.len(), 4);
}

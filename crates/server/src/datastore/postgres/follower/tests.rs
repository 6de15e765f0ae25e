use super::*;
use crate::datastore::Change;

fn at(epoch: i64, revision: i64) -> Position {
    Position {
        epoch,
        revision,
        mark: "m".to_owned(),
        journal: 0,
        journal_mark: String::new(),
    }
}

fn none() -> Traces {
    Traces::default()
}

#[test]
fn a_low_number_of_a_new_epoch_is_waited_for() {
    let follower = Follower::new(Arc::new(Shared::new()), at(1, 9));
    let commit = Committed {
        revision: 3,
        change: Change::RemoveEntry("x".to_owned()),
    };
    let made = Made {
        after: at(2, 2),
        commits: vec![commit],
        mark: "n".to_owned(),
        journal: 0,
        journal_mark: String::new(),
    };
    follower.committed(made, Vec::new());
    let waiting = |follower: &Follower| follower.inner.borrow().waiting.len();
    assert_eq!(waiting(&follower), 1, "it is not what is known as 3");
    follower.reloaded(Snapshot::default(), at(2, 2), Instant::now());
    assert_eq!(waiting(&follower), 1);
    follower.reloaded(Snapshot::default(), at(2, 3), Instant::now());
    assert_eq!(waiting(&follower), 0);
}

#[test]
fn what_has_fewer_authorities_does_not_follow() {
    let known = Position {
        journal: 5,
        ..at(1, 9)
    };
    let less = at(1, 10);
    assert!(known.leads_to(&less, &none()).is_err());
    assert!(known.leads_to(&Position { journal: 5, ..less }, &none()).is_ok());
    assert!(known.leads_to(&at(2, 1), &none()).is_ok(), "somebody has said so");
}

#[test]
fn what_has_as_many_changes_of_the_authorities_and_others_does_not_follow() {
    let journal = |journal, mark: &str| Position {
        journal,
        journal_mark: mark.to_owned(),
        ..at(1, 9)
    };
    let trace = |mark: &str| Traces {
        journal: Some(mark.to_owned()),
        ..none()
    };
    let known = journal(5, "a");
    known.leads_to(&journal(5, "a"), &trace("a")).unwrap();
    let as_many = known.leads_to(&journal(5, "b"), &none()).unwrap_err();
    assert!(
        matches!(as_many, DatastoreError::JournalWentBack { known: 5, found: 5 }),
        "{as_many:?}"
    );
    let more = known.leads_to(&journal(7, "c"), &trace("b")).unwrap_err();
    assert!(
        matches!(more, DatastoreError::JournalWentBack { known: 5, found: 7 }),
        "{more:?}"
    );
    known.leads_to(&journal(7, "c"), &trace("a")).unwrap();
    known
        .leads_to(&journal(7, "c"), &none())
        .expect("what is no longer kept says nothing");
    known
        .leads_to(&at(2, 1), &trace("b"))
        .expect("somebody has said so");
}

#[test]
fn what_has_more_revisions_and_others_does_not_follow() {
    let trace = |mark: &str| Traces {
        revision: Some(mark.to_owned()),
        ..none()
    };
    let known = at(1, 9);
    known.leads_to(&at(1, 12), &trace("m")).unwrap();
    let other = known.leads_to(&at(1, 12), &trace("n")).unwrap_err();
    assert!(
        matches!(other, DatastoreError::WentBack { known: 9, found: 12 }),
        "{other:?}"
    );
}

#[test]
fn a_journal_is_learnt_with_its_mark_and_never_an_older_one() {
    let mut known = at(1, 9);
    known.learn_journal(3, "a");
    known.learn_journal(2, "b");
    known.learn_journal(3, "c");
    assert_eq!((known.journal, known.journal_mark.as_str()), (3, "a"));
}

use super::*;
use crate::datastore::Change;

fn at(epoch: i64, revision: i64) -> Position {
    Position {
        epoch,
        revision,
        mark: "m".to_owned(),
        journal: 0,
    }
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
    assert!(known.leads_to(&less).is_err());
    assert!(known.leads_to(&Position { journal: 5, ..less }).is_ok());
    assert!(known.leads_to(&at(2, 1)).is_ok(), "somebody has said so");
}

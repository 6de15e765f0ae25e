//! The bundle chain.

use landfast_identity::chain::{RootPrivateKey, Step};

use super::*;

/// A step with this bundle, signed.
pub(in crate::datastore) fn step(
    key: &RootPrivateKey,
    bundle: &Bundle,
    (epoch, sequence): (u64, u64),
    previous: Option<StepDigest>,
) -> Arc<SignedStep> {
    let step = Step {
        epoch,
        sequence,
        previous,
        bundle: bundle.clone(),
        root_keys: vec![key.public_key()],
        time: START,
    };
    let mut signed = SignedStep::unsigned(&step).unwrap();
    signed.sign(key).unwrap();
    Arc::new(signed)
}

pub(in crate::datastore) async fn steps_follow_one_another_and_are_added_once(db: Store) {
    let (key, bundle) = (RootPrivateKey::generate().unwrap(), foreign("b.example").await);
    assert_eq!(db.newest_step().await.unwrap(), None);
    let first = step(&key, &bundle, (7, 1), None);
    let lost = db.append_step(Some([1; 32]), Arc::clone(&first)).await;
    assert!(!lost.unwrap(), "there is nothing that it would follow");
    assert!(db.append_step(None, Arc::clone(&first)).await.unwrap());
    assert!(!db.append_step(None, Arc::clone(&first)).await.unwrap(), "once");
    let mut all = vec![first];
    for at in [(7, 2), (7, 3), (9, 1), (9, 2)] {
        let previous = Some(all[all.len() - 1].digest());
        let next = step(&key, &bundle, at, previous);
        assert!(db.append_step(previous, Arc::clone(&next)).await.unwrap());
        assert!(
            !db.append_step(previous, Arc::clone(&next)).await.unwrap(),
            "another was faster"
        );
        all.push(next);
    }
    assert_eq!(
        db.newest_step().await.unwrap().as_ref(),
        all.last().map(|step| &**step)
    );
    let end = all.last().map(|step| step.digest());
    let next = step(&key, &bundle, (9, 3), end);
    let further = step(&key, &bundle, (9, 4), Some(next.digest()));
    for (after, several) in [
        (end, vec![Arc::clone(&next), Arc::clone(&next)]),
        (None, vec![Arc::clone(&next), Arc::clone(&further)]),
    ] {
        let added = db.append_steps(after, several).await;
        assert!(!added.unwrap_or(false));
        let newest = db.newest_step().await.unwrap();
        assert_eq!(newest.map(|step| step.digest()), end, "all or none");
    }
    assert!(db.append_steps(end, vec![next, further.clone()]).await.unwrap());
    assert_eq!(db.newest_step().await.unwrap().as_ref(), Some(&*further));
    let from = |epoch, sequence| StepPlace { epoch, sequence };
    for (place, limit, expected) in [
        (from(0, 0), 5, 0..5),
        (from(7, 2), 4, 1..5),
        (from(7, 2), 2, 1..3),
        (from(7, 9), 2, 3..5),
        (from(8, 0), 2, 3..5),
        (from(9, 5), 10, 5..5),
        (from(u64::MAX, u64::MAX), 10, 5..5),
    ] {
        let steps = db.steps(place, limit, usize::MAX).await.unwrap();
        let wanted: Vec<_> = all[expected].iter().map(|step| step.to_bytes()).collect();
        assert_eq!(steps, wanted, "{place:?}");
    }
    // Two to show, and the one that says that there are more.
    let length = all[0].to_bytes().len();
    for (bytes, expected) in [
        (0, 3),
        (length, 3),
        (3 * length - 1, 3),
        (3 * length + length / 2, 4),
    ] {
        let steps = db.steps(from(0, 0), 10, bytes).await.unwrap();
        assert_eq!(steps.len(), expected, "{bytes} of {length} each");
    }
}

//! What keeps a step from being made, and what keeps nobody.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_stands_on_the_newest_step_waits_for_nobody() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let chain = chain(&rig, &file(&dir));
    chain.make().await.unwrap();
    let newest = chain.newest().await.unwrap();
    let place = |epoch, sequence| StepPlace { epoch, sequence };
    let held = chain.strangers.take("10.0.0.1").await;
    for at in [StepPlace::of(&newest), place(0, 0)] {
        let (steps, more) = chain.steps_for_strangers("10.0.0.2", at, BYTES).await.unwrap();
        assert_eq!((steps, more), (vec![newest.to_bytes()], false));
    }
    let refused = chain.steps_for_strangers("10.0.0.2", place(1, 0), BYTES).await;
    assert!(matches!(refused, Err(MakeError::Crowded)));
    drop(held);
    let read = chain.steps_for_strangers("10.0.0.2", place(1, 0), BYTES).await;
    assert_eq!(read.unwrap().0.len(), 1);
}

/// A dump was put back beside a chain that nodes have shown, say.
#[tokio::test]
async fn a_chain_that_is_ahead_of_the_database_is_said() {
    let (rig, dir) = (rig().await, tempfile::tempdir().unwrap());
    let chain = chain(&rig, &file(&dir));
    chain.make().await.unwrap();
    let key = RootPrivateKey::from_pem(&std::fs::read_to_string(dir.path().join("root.key")).unwrap());
    let (key, first) = (key.unwrap(), chain.newest().await.unwrap());
    let mut step = Step {
        sequence: 2,
        previous: Some(first.digest()),
        ..first.step().clone()
    };
    let x509 = step.bundle.x509_authorities().to_vec();
    step.bundle = Bundle::new(td())
        .with_x509_authorities(x509)
        .unwrap()
        .with_sequence(step.bundle.sequence() + 100);
    let mut later = SignedStep::unsigned(&step).unwrap();
    later.sign(&key).unwrap();
    chain.append(Some(&first), vec![later.clone()]).await.unwrap();
    let made = chain.make().await;
    assert!(matches!(made, Err(MakeError::Ahead { .. })), "{made:?}");
    let outlook = chain.outlook(Vec::new()).await.unwrap();
    assert!(outlook.next.is_none());
    let trouble = outlook.trouble.unwrap();
    assert!(
        trouble.contains("put back") && trouble.contains("accept-loss"),
        "{trouble}"
    );
    step.previous = Some(later.digest());
    let refused = chain.import(SignedStep::unsigned(&step).unwrap()).await;
    assert!(matches!(refused, Err(MakeError::Ahead { .. })), "{refused:?}");
    // It says the same as the authorities: there is nothing to say.
    let (bundle, sequence) = (rig.core.authorities.bundle(), later.step().bundle.sequence());
    step.sequence = 3;
    step.bundle = (*bundle).clone().with_sequence(sequence);
    let mut same = SignedStep::unsigned(&step).unwrap();
    same.sign(&key).unwrap();
    chain.append(Some(&later), vec![same]).await.unwrap();
    chain.make().await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_noted_is_not_given_out() {
    let rig = rig().await;
    let gone = tempfile::tempdir().unwrap();
    let prepared = Prepared::open(gone.path()).unwrap();
    let chain = chain(&rig, &RootKeyConfig::Offline).noting(prepared);
    let keys = vec![RootPrivateKey::generate().unwrap().public_key()];
    let given = chain.outlook(keys.clone()).await.unwrap();
    assert!(given.next.is_some() && given.trouble.is_none());
    let path = gone.path().to_owned();
    gone.close().unwrap();
    let again = chain.outlook(keys.clone()).await.unwrap();
    assert_eq!(again.next, given.next, "it was noted before");
    rotate(&rig, 10 * DAY).await;
    let outlook = chain.outlook(keys).await.unwrap();
    assert_eq!(outlook.next, None);
    let trouble = outlook.trouble.unwrap();
    assert!(trouble.contains("cannot be noted"), "{trouble}");
    assert!(!path.exists());
}

//! Device keys of nodes.

use landfast_identity::PrivateKey;
use landfast_lifecycle::recovery::{Answer, Claim, Decision, Entered, KeyName, Offer, Verdict};

use super::*;
use crate::registry::{RecoveryStep, Stepped};

fn offer(at: UnixTime) -> Offer {
    let key = PrivateKey::generate().unwrap().public_key();
    Offer {
        spki: key.spki_der().to_vec(),
        name: key.sha256(),
        address: "192.0.2.1".into(),
        at,
        denied: false,
    }
}

fn claim(proved: KeyName, counter: u64, key: u8, at: UnixTime) -> RecoveryStep {
    let claim = Claim {
        counter,
        key: [key; 32],
        address: format!("192.0.2.{key}"),
        at,
    };
    RecoveryStep::Claim {
        proved,
        claim,
        automatic: 30 * DAY,
    }
}

pub(in crate::datastore) async fn a_device_key_lives_and_dies_with_its_agent(db: Store) {
    let record = agent("/spire/agent/join_token/x", "0a", &["k:1"]);
    let id = record.id.clone();
    let step = |step| db.recover(id.clone(), step);
    let first = offer(START);
    let nobody = step(RecoveryStep::Register(first.clone())).await;
    assert!(matches!(nobody, Err(RegistryError::NoSuchAgent { .. })));
    db.attest_agent(record.clone(), NEW).await.unwrap();
    let (stepped, stands) = step(RecoveryStep::Register(first.clone())).await.unwrap();
    assert_eq!(stepped, Stepped::Entered(Entered::Registered { new: true }));
    assert_eq!((stands.enrolled_at, stands.heard_at), (Some(START), Some(START)));
    assert_eq!(
        db.recovery(id.clone()).await.unwrap().unwrap(),
        stands,
        "as it was"
    );
    // A renewal is heard; another attestation by the same token is no second enrolment.
    let later = START.saturating_add(20 * DAY);
    let stage = AgentChange::Stage {
        serial: "0b".into(),
        not_after: later,
        at: later,
    };
    assert!(db.change_agent(id.clone(), stage).await.unwrap());
    db.attest_agent(record.clone(), Entering::Attested { at: later })
        .await
        .unwrap();
    let stands = db.recovery(id.clone()).await.unwrap().unwrap();
    assert_eq!((stands.enrolled_at, stands.heard_at), (Some(START), Some(later)));
    let (stepped, _) = step(claim(first.name, 1, 7, later.saturating_add(30 * DAY)))
        .await
        .unwrap();
    assert_eq!(stepped, Stepped::Claimed(Verdict::Accepted { again: false }));
    // All that a person may be asked, as it was written.
    let much_later = later.saturating_add(90 * DAY);
    step(RecoveryStep::Register(offer(much_later))).await.unwrap();
    step(claim(first.name, 2, 8, much_later)).await.unwrap();
    let (stepped, stands) = step(claim(first.name, 2, 9, much_later)).await.unwrap();
    assert_eq!(stepped, Stepped::Claimed(Verdict::Locked { new: true }));
    assert!(stands.rival.is_some() && stands.offer.is_some());
    assert!(matches!(stands.last, Some((_, Decision::Waiting))));
    let waiting = db.waiting_recoveries(String::new(), 10).await.unwrap();
    assert_eq!(waiting, [(id.clone(), stands)]);
    assert!(
        db.waiting_recoveries(id.to_string(), 10)
            .await
            .unwrap()
            .is_empty()
    );
    let decided = step(RecoveryStep::Decide {
        request: [9; 32],
        answer: Answer::Approve,
        now: much_later,
    });
    assert_eq!(decided.await.unwrap().0, Stepped::Decided(true));
    assert!(db.recovery(id.clone()).await.unwrap().unwrap().replace);
    // Banned: nothing moves.
    assert!(db.change_agent(id.clone(), AgentChange::Ban).await.unwrap());
    let banned = step(claim(first.name, 2, 9, much_later)).await;
    assert!(matches!(banned, Err(RegistryError::Banned)));
    // Evicted: the key is forgotten, and whoever was coming back stays out.
    assert!(db.delete_agent(id.clone(), much_later).await.unwrap());
    assert_eq!(db.recovery(id.clone()).await.unwrap(), None);
    assert!(db.waiting_recoveries(String::new(), 10).await.unwrap().is_empty());
    let returned = db.attest_agent(record.clone(), Entering::Returned).await;
    assert!(matches!(returned, Err(RegistryError::NoSuchAgent { .. })));
    assert!(loaded(&db).await.agents.is_empty());
    // A node that attests again by other means needs none.
    let mut by_certificate = record;
    by_certificate.can_reattest = true;
    db.attest_agent(by_certificate, NEW).await.unwrap();
    assert_eq!(db.recovery(id).await.unwrap(), None);
}

pub(in crate::datastore) async fn of_claims_at_once_with_one_counter_one_comes_in(db: Store) {
    let record = agent("/spire/agent/join_token/x", "0a", &["k:1"]);
    let id = record.id.clone();
    db.attest_agent(record, NEW).await.unwrap();
    let key = offer(START);
    db.recover(id.clone(), RecoveryStep::Register(key.clone()))
        .await
        .unwrap();
    let all = (1..=20).map(|n| db.recover(id.clone(), claim(key.name, 1, n, START)));
    let all = futures_util::future::join_all(all).await;
    let count = |wanted| {
        let outcomes = all.iter().map(|outcome| outcome.as_ref().unwrap().0);
        outcomes
            .filter(|outcome| *outcome == Stepped::Claimed(wanted))
            .count()
    };
    assert_eq!(count(Verdict::Accepted { again: false }), 1);
    assert_eq!(count(Verdict::Locked { new: true }), 1);
    assert_eq!(count(Verdict::Locked { new: false }), 18);
}

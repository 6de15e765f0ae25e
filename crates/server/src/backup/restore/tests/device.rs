//! Nodes that come back by their device key after a registry went back.

use landfast_lifecycle::recovery::{Answer, Claim, Entered, KeyName, Offer, Verdict};

use super::*;
use crate::quarantine::End;
use crate::quarantine::state::Mark;
use crate::registry::{RecoveryStep, Stepped};

const ACCEPTED: Stepped = Stepped::Claimed(Verdict::Accepted { again: false });
const HELD: Stepped = Stepped::Claimed(Verdict::Held { new: true });

/// A node with a device key, in a backup.
async fn with_device(site: &Site) -> (Core, PathBuf, KeyName) {
    let core = site.disk.open().await;
    site.populate(&core).await;
    let device = key();
    let offer = Offer {
        spki: device.spki_der().to_vec(),
        name: device.sha256(),
        address: "192.0.2.1".into(),
        at: START,
        denied: false,
    };
    let stepped = step(&core, RecoveryStep::Register(offer)).await;
    assert_eq!(stepped, Stepped::Entered(Entered::Registered { new: true }));
    let backup = site.backup("1", Some(&site.recipient()));
    (core, backup, device.sha256())
}

async fn step(core: &Core, step: RecoveryStep) -> Stepped {
    core.registry.recover(&id(NODE), step).await.unwrap().0
}

fn claim(proved: KeyName, counter: u64, key: u8) -> RecoveryStep {
    RecoveryStep::Claim {
        proved,
        claim: Claim {
            counter,
            key: [key; 32],
            address: "192.0.2.1".into(),
            at: START,
        },
        automatic: 30 * DAY,
    }
}

fn decide(key: u8, answer: Answer) -> RecoveryStep {
    RecoveryStep::Decide {
        request: [key; 32],
        answer,
        now: START,
    }
}

async fn renewed(core: &Core) {
    core.registry
        .stage_renewal(&id(NODE), "0c", START.saturating_add(DAY))
        .await
        .unwrap();
}

/// A thief has the key, which a person has noticed: that is not forgotten because a backup is older.
#[tokio::test(start_paused = true)]
async fn what_was_asked_and_decided_about_device_keys_is_taken_over_from_the_old_data() {
    let site = Site::new();
    let (core, backup, device) = with_device(&site).await;
    assert_eq!(step(&core, claim(device, 1, 1)).await, ACCEPTED);
    let locked = Stepped::Claimed(Verdict::Locked { new: true });
    drop(core);
    let plain = || Choice {
        accept_rollback: false,
        ..site.identity()
    };
    let restored = site.restore(&backup, &plain()).await.unwrap();
    assert!(!restored.undone.quarantine, "{:?}", restored.undone);
    let core = site.disk.open().await;
    assert_eq!(
        step(&core, claim(device, 1, 2)).await,
        locked,
        "the counter was used"
    );
    assert_eq!(step(&core, decide(2, Answer::Deny)).await, Stepped::Decided(true));
    drop(core);
    site.restore(&backup, &plain()).await.unwrap();
    let core = site.disk.open().await;
    renewed(&core).await;
    let unknown = Stepped::Claimed(Verdict::Unknown);
    assert_eq!(
        step(&core, claim(device, 9, 3)).await,
        unknown,
        "the key was forgotten"
    );
}

#[tokio::test(start_paused = true)]
async fn where_the_old_data_says_nothing_a_person_decides_also_after_a_renewal() {
    let site = Site::new();
    let (core, backup, device) = with_device(&site).await;
    assert_eq!(step(&core, claim(device, 1, 1)).await, ACCEPTED);
    drop(core);
    fs::copy(&backup, site.disk.database()).unwrap();
    site.restore(&backup, &site.identity()).await.unwrap();
    let core = site.disk.open().await;
    assert_eq!(step(&core, claim(device, 1, 1)).await, HELD);
    renewed(&core).await;
    assert_eq!(step(&core, claim(device, 2, 2)).await, HELD);
    assert_eq!(
        step(&core, decide(2, Answer::Approve)).await,
        Stepped::Decided(true)
    );
    assert_eq!(step(&core, claim(device, 2, 2)).await, ACCEPTED);
    assert_eq!(
        step(&core, claim(device, 3, 3)).await,
        ACCEPTED,
        "from then on as ever"
    );
}

#[tokio::test(start_paused = true)]
async fn so_it_is_when_a_quarantine_has_ended_on_a_registry_that_was_put_back() {
    let site = Site::new();
    let (core, _, device) = with_device(&site).await;
    let revision = core.registry.revision();
    let newer = Mark {
        epoch: revision.epoch,
        number: revision.number + 1,
        sequence: 0,
    };
    core.quarantine.keep(newer).await;
    drop(core);
    let core = site.disk.open().await;
    assert!(core.quarantine.holds());
    let order = End {
        by: "me",
        reason: "looked",
        accept_rollback: true,
    };
    let ended = core.quarantine.end(&order, &core.registry, &core.authorities);
    ended.await.unwrap();
    renewed(&core).await;
    assert_eq!(step(&core, claim(device, 1, 1)).await, HELD);
}

//! Nodes that come back by their device key after a backup was restored.

use landfast_lifecycle::recovery::{Claim, Entered, Offer, Verdict};

use super::*;
use crate::registry::{RecoveryStep, Stepped};

/// What was asked with a device key after the backup is not known: a copy of the node could ask with a counter that was used.
#[tokio::test(start_paused = true)]
async fn until_it_was_heard_a_node_comes_back_with_a_person_after_a_restoration() {
    let site = Site::new();
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
    let step = RecoveryStep::Register(offer);
    let (stepped, _) = core.registry.recover(&id(NODE), step).await.unwrap();
    assert_eq!(stepped, Stepped::Entered(Entered::Registered { new: true }));
    let claim = |counter: u64| RecoveryStep::Claim {
        proved: device.sha256(),
        claim: Claim {
            counter,
            key: [u8::try_from(counter).unwrap(); 32],
            address: "192.0.2.1".into(),
            at: START,
        },
        automatic: 30 * DAY,
    };
    let accepted = Stepped::Claimed(Verdict::Accepted { again: false });
    let held = Stepped::Claimed(Verdict::Held { new: true });
    let backup = site.backup("1", Some(&site.recipient()));
    assert_eq!(
        core.registry.recover(&id(NODE), claim(1)).await.unwrap().0,
        accepted
    );
    drop(core);
    site.restore(&backup, &site.identity()).await.unwrap();
    let core = site.disk.open().await;
    assert_eq!(core.registry.recover(&id(NODE), claim(1)).await.unwrap().0, held);
    // It is heard: a renewal of the SVID that it has.
    core.registry
        .stage_renewal(&id(NODE), "0c", START.saturating_add(DAY))
        .await
        .unwrap();
    assert_eq!(
        core.registry.recover(&id(NODE), claim(2)).await.unwrap().0,
        accepted
    );
}

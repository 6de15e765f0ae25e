//! WIT authorities: there with the switch and gone without it.

use landfast_identity::wit;

use super::*;
use crate::authority::{Kind, Order};
use crate::core::CoreParams;
use crate::issuance::WitRequest;

async fn open(disk: &DiskRig, wit: bool) -> Core {
    Core::open(CoreParams { wit, ..disk.params() }).await.unwrap()
}

fn wit_keys(core: &Core) -> Vec<String> {
    let bundle = core.authorities.bundle();
    bundle
        .wit_authorities()
        .iter()
        .map(|a| a.key_id.clone())
        .collect()
}

fn wit_files(disk: &DiskRig) -> usize {
    key_files(disk)
        .iter()
        .filter(|name| name.starts_with("wit-"))
        .count()
}

#[tokio::test(start_paused = true)]
async fn the_switch_makes_them_and_takes_them_away() {
    let disk = DiskRig::new();
    let core = open(&disk, false).await;
    assert!(wit_keys(&core).is_empty() && core.authorities.active_wit().is_none());
    assert_eq!(wit_files(&disk), 0);
    let sequence = core.authorities.bundle().sequence();
    drop(core);
    let core = open(&disk, true).await;
    let (first, active) = (wit_keys(&core), core.authorities.active_wit().unwrap());
    assert_eq!(
        (first.as_slice(), wit_files(&disk)),
        ([active.id.clone()].as_slice(), 1)
    );
    assert!(core.authorities.bundle().sequence() > sequence);
    drop(core);
    let core = open(&disk, true).await;
    assert_eq!(wit_keys(&core), first, "a restart changes nothing");
    let sequence = core.authorities.bundle().sequence();
    drop(core);
    let core = open(&disk, false).await;
    assert!(wit_keys(&core).is_empty() && core.authorities.active_wit().is_none());
    assert!(
        core.authorities.bundle().sequence() > sequence,
        "others see that they are gone"
    );
    assert_eq!(wit_files(&disk), 0);
    assert_eq!(core.authorities.bundle().x509_authorities().len(), 1);
    drop(core);
    let core = open(&disk, true).await;
    assert_ne!(wit_keys(&core), first);
}

/// Also while nobody knows the time, when there are no ticks.
#[tokio::test(start_paused = true)]
async fn switched_off_nothing_is_published_whatever_the_clock_says() {
    let disk = DiskRig::new();
    drop(open(&disk, true).await);
    disk.clock.set_absent(true);
    assert!(wit_keys(&open(&disk, false).await).is_empty());
}

#[tokio::test(start_paused = true)]
async fn they_rotate_as_the_others_do() {
    let rig = Rig::with(|params| params.wit = true).await;
    let authorities = &rig.core.authorities;
    let first = authorities.active_wit().unwrap().id.clone();
    rig.step(15 * DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert_eq!(
        authorities.bundle().wit_authorities().len(),
        2,
        "prepared at half of its life"
    );
    assert_eq!(authorities.active_wit().unwrap().id, first);
    rig.step(10 * DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    let second = authorities.active_wit().unwrap().id.clone();
    assert_ne!(second, first);
    let request = WitRequest {
        key: key(),
        algorithm: "ES256".to_owned(),
    };
    let issued = rig
        .core
        .issuer
        .mint_wit(&me(), &id("/w"), None, request)
        .await
        .unwrap();
    let bundles: BundleSet = [authorities.bundle().as_ref().clone()].into_iter().collect();
    let verified = wit::verify(&issued.token, &bundles, rig.now()).unwrap();
    assert_eq!(verified.key_id(), second);
}

#[tokio::test(start_paused = true)]
async fn a_stolen_key_is_replaced_tainted_and_revoked() {
    let rig = Rig::with(|params| params.wit = true).await;
    let authorities = &rig.core.authorities;
    let request = WitRequest {
        key: key(),
        algorithm: "ES256".to_owned(),
    };
    let issued = rig
        .core
        .issuer
        .mint_wit(&me(), &id("/w"), None, request)
        .await
        .unwrap();
    let verifies = || {
        let bundles: BundleSet = [authorities.bundle().as_ref().clone()].into_iter().collect();
        wit::verify(&issued.token, &bundles, rig.now()).is_ok()
    };
    let stolen = authorities.active_wit().unwrap().id.clone();
    let order = async |order: Order| authorities.order(&order, rig.now()).await;
    let next = order(Order::Prepare(Kind::Wit)).await.unwrap().id;
    assert!(
        order(Order::Taint(Kind::Wit, stolen.clone())).await.is_err(),
        "it signs"
    );
    order(Order::Activate(Kind::Wit, next.clone())).await.unwrap();
    assert!(
        order(Order::Taint(Kind::Jwt, stolen.clone())).await.is_err(),
        "it is no JWT authority"
    );
    order(Order::Taint(Kind::Wit, stolen.clone())).await.unwrap();
    let marked: Vec<_> = authorities
        .bundle()
        .wit_authorities()
        .iter()
        .map(|a| a.tainted)
        .collect();
    assert_eq!((marked, verifies()), (vec![true, false], true));
    order(Order::Revoke(Kind::Wit, stolen)).await.unwrap();
    assert!(!verifies(), "what the stolen key signed is refused");
    assert_eq!(authorities.active_wit().unwrap().id, next);
}

//! A rotation by hand, each order out of its turn, and orders beside the server's own rotation.

use std::time::Duration;

use landfast_identity::{BundleSet, jwt, verify_x509_svid};

use super::*;
use crate::authority::Trust;
use crate::core::fixture::{DAY, DiskRig, Rig, id, key, me};

const KINDS: [Kind; 2] = [Kind::X509, Kind::Jwt];

/// Prepares and activates; returns who signed before and who does now.
async fn rotate(rig: &Rig, kind: Kind) -> (String, String) {
    let authorities = &rig.core.authorities;
    let before = authorities.standing(kind).await.unwrap().active.unwrap().id;
    let next = authorities.order(&Order::Prepare(kind), rig.now()).await.unwrap();
    let activate = Order::Activate(kind, next.id.clone());
    let active = authorities.order(&activate, rig.now()).await.unwrap();
    assert_eq!((active.slot, &active.id), (Slot::Active, &next.id));
    (before, next.id)
}

#[tokio::test(start_paused = true)]
async fn a_stolen_key_is_replaced_tainted_and_revoked() {
    let rig = Rig::new().await;
    let (issuer, authorities) = (&rig.core.issuer, &rig.core.authorities);
    let audience = ["a".to_owned()];
    let svid = issuer
        .mint_x509(&me(), &id("/w"), &[], None, &key())
        .await
        .unwrap();
    let token = issuer.mint_jwt(&me(), &id("/w"), &audience, None).await.unwrap();
    let verifies = |x509: bool| {
        let bundles: BundleSet = [authorities.bundle().as_ref().clone()].into_iter().collect();
        match x509 {
            true => verify_x509_svid(&[svid.chain[0].as_der()], &bundles, rig.now()).is_ok(),
            false => jwt::verify(&token.token, &bundles, "a", rig.now()).is_ok(),
        }
    };
    for kind in KINDS {
        let x509 = kind == Kind::X509;
        let (stolen, next) = rotate(&rig, kind).await;
        let sequence = authorities.bundle().sequence();
        assert!(verifies(x509), "rotation alone refuses nothing");
        let tainted = authorities
            .order(&Order::Taint(kind, stolen.clone()), rig.now())
            .await
            .unwrap();
        assert!(tainted.tainted && tainted.id == stolen);
        let bundle = authorities.bundle();
        assert!(
            bundle.sequence() > sequence,
            "a taint is a change that others must see"
        );
        let marked: Vec<bool> = match x509 {
            true => bundle.x509_authorities().iter().map(|a| a.tainted).collect(),
            false => bundle.jwt_authorities().iter().map(|a| a.tainted).collect(),
        };
        assert_eq!(marked, [true, false]);
        assert!(verifies(x509), "a taint refuses nothing yet");
        authorities
            .order(&Order::Revoke(kind, stolen.clone()), rig.now())
            .await
            .unwrap();
        assert!(!verifies(x509), "what the stolen key signed is refused");
        let standing = authorities.standing(kind).await.unwrap();
        assert_eq!((standing.active.unwrap().id, standing.old.len()), (next, 0));
    }
    issuer
        .mint_x509(&me(), &id("/w"), &[], None, &key())
        .await
        .unwrap();
    issuer.mint_jwt(&me(), &id("/w"), &audience, None).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_order_out_of_its_turn_changes_nothing() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    for kind in KINDS {
        let (old, active) = rotate(&rig, kind).await;
        let prepared = authorities
            .order(&Order::Prepare(kind), rig.now())
            .await
            .unwrap()
            .id;
        let other = authorities
            .standing(KINDS[usize::from(kind == Kind::X509)])
            .await
            .unwrap();
        let other = other.active.unwrap().id;
        let before = authorities.bundle();
        let refused = async |order: Order| authorities.order(&order, rig.now()).await.unwrap_err();
        for make in [Order::Activate, Order::Taint, Order::Revoke] {
            for (name, expected) in [("", "NoId"), ("unknown", "Unknown"), (other.as_str(), "Unknown")] {
                let error = format!("{:?}", refused(make(kind, name.into())).await);
                assert_eq!(error, expected, "{kind:?} {name:?}");
            }
        }
        for order in [
            Order::Activate(kind, old.clone()),
            Order::Activate(kind, active.clone()),
            Order::Taint(kind, active.clone()),
            Order::Taint(kind, prepared.clone()),
            Order::Revoke(kind, active.clone()),
            Order::Revoke(kind, prepared.clone()),
            Order::Revoke(kind, old.clone()),
        ] {
            let error = refused(order.clone()).await;
            let expected = match &order {
                Order::Activate(..) => matches!(error, OrderError::NotPrepared { .. }),
                Order::Revoke(_, name) if *name == old => matches!(error, OrderError::NotTainted),
                Order::Taint(_, name) | Order::Revoke(_, name) if *name == active => {
                    matches!(error, OrderError::Active)
                }
                _ => matches!(error, OrderError::NotOld),
            };
            assert!(expected, "{order:?}: {error:?}");
        }
        assert_eq!(authorities.bundle(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn preparing_again_makes_another_and_takes_back_the_one_that_never_signed() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let now = crate::core::fixture::START;
    let files = || std::fs::read_dir(disk.keys()).unwrap().count();
    let mut prepared = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let made = core
            .authorities
            .order(&Order::Prepare(Kind::X509), now)
            .await
            .unwrap();
        prepared.insert(made.id);
        assert_eq!(core.authorities.bundle().x509_authorities().len(), 2);
        assert_eq!(files(), 3, "one key a row");
    }
    assert_eq!(prepared.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_key_of_a_revoked_authority_is_gone_and_all_of_it_survives_a_restart() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let now = crate::core::fixture::START;
    let first = core
        .authorities
        .standing(Kind::X509)
        .await
        .unwrap()
        .active
        .unwrap()
        .id;
    let next = core
        .authorities
        .order(&Order::Prepare(Kind::X509), now)
        .await
        .unwrap()
        .id;
    core.authorities
        .order(&Order::Activate(Kind::X509, next.clone()), now)
        .await
        .unwrap();
    core.authorities
        .order(&Order::Taint(Kind::X509, first.clone()), now)
        .await
        .unwrap();
    let bundle = core.authorities.bundle();
    drop(core);
    let core = disk.open().await;
    assert_eq!(*core.authorities.bundle(), *bundle, "the taint included");
    assert_eq!(std::fs::read_dir(disk.keys()).unwrap().count(), 3);
    core.authorities
        .order(&Order::Revoke(Kind::X509, first), now)
        .await
        .unwrap();
    assert_eq!(std::fs::read_dir(disk.keys()).unwrap().count(), 2);
    drop(core);
    let core = disk.open().await;
    assert_eq!(core.authorities.active_x509().unwrap().id, next);
    assert_eq!(core.authorities.bundle().x509_authorities().len(), 1);
}

/// When the active one has ended and nobody was prepared, an old one may sign again; never one that is tainted.
#[tokio::test(start_paused = true)]
async fn a_tainted_authority_never_signs_again() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let (first, _) = rotate(&rig, Kind::X509).await;
    authorities
        .order(&Order::Taint(Kind::X509, first.clone()), rig.now())
        .await
        .unwrap();
    // The clock falls behind the beginning of the active one, but not of the tainted one.
    rig.db
        .execute(
            "UPDATE authorities SET not_before = not_before + 7200 WHERE slot = 'active' AND kind = 'x509'",
        )
        .await;
    rig.db
        .execute("UPDATE state SET journal_version = journal_version + 1")
        .await;
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert_ne!(authorities.active_x509().unwrap().id, first);
    rig.step(Duration::from_secs(7200));
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert_ne!(authorities.active_x509().unwrap().id, first);
}

#[tokio::test(start_paused = true)]
async fn orders_and_the_servers_own_rotation_do_not_disturb_each_other() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    for day in 0..60 {
        let now = rig.now();
        let prepare = Order::Prepare(Kind::X509);
        let (ticked, ordered) = tokio::join!(
            authorities.tick(now, Trust::Steady),
            authorities.order(&prepare, now)
        );
        ticked.unwrap();
        let next = ordered.unwrap();
        if day % 7 == 0 {
            authorities
                .order(&Order::Activate(Kind::X509, next.id.clone()), now)
                .await
                .unwrap();
            assert_eq!(authorities.active_x509().unwrap().id, next.id);
        }
        let svid = rig.core.issuer.server_svid(&key()).await.unwrap();
        let bundles: BundleSet = [authorities.bundle().as_ref().clone()].into_iter().collect();
        verify_x509_svid(&[svid.chain[0].as_der()], &bundles, now).unwrap();
        rig.step(DAY);
    }
}

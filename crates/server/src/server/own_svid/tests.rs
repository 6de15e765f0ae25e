//! The server's own SVID when the clock of the server is set back.

use super::*;
use crate::core::fixture::Rig;

async fn own(rig: &Rig) -> OwnSvid {
    OwnSvid::issue(
        Arc::clone(&rig.core.issuer),
        Arc::clone(&rig.core.authorities),
        Arc::new(rig.clock.clone()),
        KeyType::default(),
    )
    .await
    .unwrap()
}

/// The first SVID that has begun, or the one after so many seconds.
async fn begun(rig: &Rig, store: &IdentityStore, seconds: u32) -> Arc<X509Svid> {
    for _ in 0..seconds {
        if store.current().unwrap().not_before() <= rig.now() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    store.current().unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_svid_made_while_the_clock_was_ahead_is_replaced_when_it_is_right() {
    let rig = Rig::new().await;
    rig.clock.step(2 * 86_400);
    let own = own(&rig).await;
    let (store, ahead) = (own.store.clone(), own.store.current().unwrap());
    rig.clock.step(-86_400);
    assert!(rig.now() < ahead.not_before());
    tokio::select! {
        () = own.keep() => panic!("it ended"),
        svid = begun(&rig, &store, 600) => {
            assert_ne!(svid.serial_hex(), ahead.serial_hex());
            assert!(svid.not_before() <= rig.now(), "{}", svid.not_before());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_svid_is_kept_while_the_authority_begins_in_the_future() {
    let rig = Rig::new().await;
    let own = own(&rig).await;
    let (store, before) = (own.store.clone(), own.store.current().unwrap());
    rig.clock.step(-86_400);
    assert!(due(&before, Some(rig.now())), "it will be tried");
    tokio::select! {
        () = own.keep() => panic!("it ended"),
        svid = begun(&rig, &store, 60) => assert_eq!(svid.serial_hex(), before.serial_hex()),
    }
    rig.clock.step(86_400);
    assert!(!due(&before, Some(rig.now())));
}

#[tokio::test(start_paused = true)]
async fn an_svid_of_a_tainted_authority_is_replaced_within_seconds() {
    use crate::authority::{Kind, Order};
    let rig = Rig::new().await;
    let own = own(&rig).await;
    let (store, before) = (own.store.clone(), own.store.current().unwrap());
    let authorities = Arc::clone(&rig.core.authorities);
    let first = authorities.active_x509().unwrap().id.clone();
    let next = authorities
        .order(&Order::Prepare(Kind::X509), rig.now())
        .await
        .unwrap();
    authorities
        .order(&Order::Activate(Kind::X509, next.id), rig.now())
        .await
        .unwrap();
    let replaced = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        assert_eq!(
            store.current().unwrap().serial_hex(),
            before.serial_hex(),
            "a rotation replaces nothing"
        );
        authorities
            .order(&Order::Taint(Kind::X509, first), rig.now())
            .await
            .unwrap();
        // The database writes in real time, so paused seconds pass meanwhile.
        for _ in 0..600 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if store.current().unwrap().serial_hex() != before.serial_hex() {
                break;
            }
        }
        store.current().unwrap()
    };
    tokio::select! {
        () = own.keep() => panic!("it ended"),
        svid = replaced => {
            assert_ne!(svid.serial_hex(), before.serial_hex());
            assert!(!doubtful(&svid, &rig.core.authorities.bundle()));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_svid_that_no_root_verifies_is_replaced_when_another_authority_signs_and_not_before() {
    use crate::authority::{Kind, Order};
    let rig = Rig::new().await;
    let own = own(&rig).await;
    let svid = own.store.current().unwrap();
    rig.db.execute("UPDATE authorities SET tainted = 1").await;
    rig.db
        .execute(
            "UPDATE state SET journal_version = journal_version + 1, bundle_sequence = bundle_sequence + 1",
        )
        .await;
    let authorities = &rig.core.authorities;
    authorities.reread().await;
    assert!(doubtful(&svid, &authorities.bundle()));
    assert!(!own.wanting(&svid), "its next would be no better, every second");
    let next = authorities
        .order(&Order::Prepare(Kind::X509), rig.now())
        .await
        .unwrap();
    let activate = Order::Activate(Kind::X509, next.id);
    authorities.order(&activate, rig.now()).await.unwrap();
    assert!(own.wanting(&svid));
}

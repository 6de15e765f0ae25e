//! What others put into our bundle: what comes in, what stays, what goes, and what is refused.

use std::time::Duration;

use landfast_identity::{Bundle, JwtAuthority, PrivateKey, UnixTime, X509Authority};

use super::{AppendError, AppendedKey, AppendedRow, MAX_APPENDED, MAX_OF_ONE};
use crate::authority::{Authorities, AuthorityError, Kind, Order, OrderError, Trust};
use crate::core::fixture::{DAY, DiskRig, Rig, START, foreign, id, me};
use crate::issuance::Requester;
use crate::{Core, CoreParams};

fn jwt(key_id: &str, expires_at: Option<UnixTime>) -> JwtAuthority {
    JwtAuthority {
        key_id: key_id.to_owned(),
        public_key: PrivateKey::generate().unwrap().public_key(),
        expires_at,
        tainted: false,
    }
}

fn some_jwt(n: usize) -> AppendedKey {
    AppendedKey::Jwt(jwt(&format!("k{n}"), Some(START.saturating_add(DAY))))
}

fn row(key_id: &str) -> AppendedRow {
    AppendedRow {
        key: AppendedKey::Jwt(jwt(key_id, Some(START.saturating_add(DAY)))),
        by: me().to_string(),
        at: START,
        revoked: false,
    }
}

async fn root() -> X509Authority {
    foreign("plant.example").await.x509_authorities()[0].clone()
}

fn nested(name: &str) -> Requester {
    Requester::downstream(id(name))
}

fn key_ids(bundle: &Bundle) -> Vec<&str> {
    bundle
        .jwt_authorities()
        .iter()
        .map(|a| a.key_id.as_str())
        .collect()
}

async fn append(authorities: &Authorities, keys: &[AppendedKey]) -> Result<(), AppendError> {
    authorities.append(keys.to_vec(), &me(), START).await.map(|_| ())
}

#[tokio::test(start_paused = true)]
async fn what_is_appended_is_in_the_bundle_once_and_after_a_restart() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let authorities = &core.authorities;
    let (before, mut updates) = (authorities.bundle(), authorities.bundle_updates());
    updates.mark_unchanged();
    let (root, key) = (root().await, jwt("theirs", Some(START.saturating_add(DAY))));
    let keys = [AppendedKey::X509(root.clone()), AppendedKey::Jwt(key.clone())];
    append(authorities, &keys).await.unwrap();
    let after = authorities.bundle();
    assert!(
        updates.has_changed().unwrap(),
        "whoever follows the bundle is told"
    );
    assert_eq!(after.sequence(), before.sequence() + 1);
    assert_eq!(after.x509_authorities()[..1], *before.x509_authorities());
    assert_eq!(after.x509_authorities()[1..], [root]);
    assert_eq!(after.jwt_authorities()[1..], [key]);

    updates.mark_unchanged();
    append(authorities, &keys).await.unwrap();
    let own = AppendedKey::X509(before.x509_authorities()[0].clone());
    let own_jwt = AppendedKey::Jwt(before.jwt_authorities()[0].clone());
    append(authorities, &[own, own_jwt]).await.unwrap();
    assert!(!updates.has_changed().unwrap(), "nothing was new");
    assert_eq!(*authorities.bundle(), *after);
    drop(core);
    assert_eq!(*disk.open().await.authorities.bundle(), *after);
}

#[tokio::test(start_paused = true)]
async fn a_key_id_stays_with_its_key() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let end = Some(START.saturating_add(DAY));
    append(authorities, &[AppendedKey::Jwt(jwt("theirs", end))])
        .await
        .unwrap();
    let before = authorities.bundle();
    let own = before.jwt_authorities()[0].key_id.clone();
    for key_id in ["theirs", own.as_str()] {
        // What stands beside the refused one is not taken either.
        let keys = [some_jwt(1), AppendedKey::Jwt(jwt(key_id, end))];
        let refused = append(authorities, &keys).await.unwrap_err();
        assert!(matches!(&refused, AppendError::KeyIdTaken { key_id: named } if named == key_id));
    }
    let twice = [
        AppendedKey::Jwt(jwt("new", end)),
        AppendedKey::Jwt(jwt("new", end)),
    ];
    append(authorities, &twice).await.unwrap_err();
    assert_eq!(*authorities.bundle(), *before);
}

#[tokio::test(start_paused = true)]
async fn the_key_id_of_a_wit_authority_is_taken_too() {
    let disk = DiskRig::new();
    let with_wit = || {
        Core::open(CoreParams {
            wit: true,
            ..disk.params()
        })
    };
    let core = with_wit().await.unwrap();
    let before = core.authorities.bundle();
    let wit = &before.wit_authorities()[0];
    let theirs = jwt(&wit.key_id, Some(START.saturating_add(DAY)));
    let same = JwtAuthority {
        public_key: wit.public_key.clone(),
        ..theirs.clone()
    };
    for key in [theirs, same] {
        let publisher = nested("/nested/a");
        let keys = vec![AppendedKey::Jwt(key)];
        let refused = core
            .authorities
            .append(keys, &publisher, START)
            .await
            .unwrap_err();
        assert!(matches!(refused, AppendError::KeyIdTaken { .. }), "{refused:?}");
    }
    core.authorities.tick(START, Trust::Steady).await.unwrap();
    drop(core);
    let core = with_wit().await.unwrap();
    assert_eq!(*core.authorities.bundle(), *before);
}

/// As an earlier version, which let the key of a WIT authority be taken, left it.
#[tokio::test(start_paused = true)]
async fn what_has_the_key_id_of_a_wit_authority_already_is_left_out() {
    let rig = Rig::with(|params| params.wit = true).await;
    let authorities = &rig.core.authorities;
    let before = authorities.bundle();
    let journal = rig.core.datastore.journal().await.unwrap();
    let taken = row(&before.wit_authorities()[0].key_id);
    let saved = rig
        .core
        .datastore
        .save_appended(journal.version, vec![taken])
        .await;
    assert!(saved.unwrap().is_some());
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert!(authorities.bundle().content_eq(&before));
}

#[tokio::test(start_paused = true)]
async fn what_makes_no_bundle_is_not_stored() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let (authorities, before) = (&core.authorities, core.authorities.bundle());
    let journal = core.datastore.journal().await.unwrap();
    let too_many = (0..300).map(|n| row(&format!("k{n}"))).collect();
    let refused = authorities.commit_appended(&journal, too_many).await;
    assert!(
        matches!(refused, Err(AuthorityError::Bundle { .. })),
        "{refused:?}"
    );
    authorities.tick(START, Trust::Steady).await.unwrap();
    drop(core);
    assert_eq!(*disk.open().await.authorities.bundle(), *before);
}

#[tokio::test(start_paused = true)]
async fn an_end_is_put_off_and_never_brought_forward() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let key = jwt("theirs", Some(START.saturating_add(DAY)));
    let until = |end| {
        [AppendedKey::Jwt(JwtAuthority {
            expires_at: end,
            ..key.clone()
        })]
    };
    let end = || authorities.bundle().jwt_authority("theirs").unwrap().expires_at;
    append(authorities, &until(key.expires_at)).await.unwrap();
    for less in [Some(START), None] {
        append(authorities, &until(less)).await.unwrap();
        assert_eq!(end(), key.expires_at);
    }
    let sequence = authorities.bundle().sequence();
    let later = Some(START.saturating_add(2 * DAY));
    append(authorities, &until(later)).await.unwrap();
    assert_eq!(end(), later);
    assert_eq!(authorities.bundle().sequence(), sequence + 1);
}

#[tokio::test(start_paused = true)]
async fn a_day_after_its_end_an_appended_authority_is_forgotten() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let root = root().await;
    let keys = [
        AppendedKey::X509(root.clone()),
        AppendedKey::Jwt(jwt("endless", None)),
        AppendedKey::Jwt(jwt("short", Some(START.saturating_add(DAY)))),
    ];
    append(authorities, &keys).await.unwrap();
    let appended = || async { rig.db_appended().await };
    rig.step(DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert_eq!(appended().await.len(), 3, "the day is not over");
    rig.step(Duration::from_secs(1));
    authorities.tick(rig.now(), Trust::Doubtful).await.unwrap();
    assert_eq!(appended().await.len(), 3, "a clock in doubt ends nothing");
    let sequence = authorities.bundle().sequence();
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert!(
        !key_ids(&authorities.bundle()).contains(&"endless"),
        "it has no end to wait for"
    );
    assert!(key_ids(&authorities.bundle()).contains(&"short"));
    assert_eq!(authorities.bundle().sequence(), sequence + 1);
    rig.step(DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert!(!key_ids(&authorities.bundle()).contains(&"short"));
    let has_root = || authorities.bundle().x509_authorities().contains(&root);
    assert!(has_root());
    rig.step(29 * DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert!(!has_root() && appended().await.is_empty());
    assert!(
        !authorities.bundle().x509_authorities().is_empty(),
        "our own stay"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_fills_the_bundle() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let publish = |n: usize, who: &'static str| async move {
        authorities.append(vec![some_jwt(n)], &nested(who), START).await
    };
    for n in 0..MAX_OF_ONE {
        publish(n, "/nested/a").await.unwrap();
    }
    let refused = publish(1000, "/nested/a").await.unwrap_err();
    assert!(matches!(refused, AppendError::Share), "{refused:?}");
    for n in MAX_OF_ONE..MAX_APPENDED {
        publish(n, "/nested/b").await.unwrap();
    }
    let full = authorities.bundle();
    for refused in [
        publish(1001, "/nested/c").await.unwrap_err(),
        append(authorities, &[some_jwt(1002)]).await.unwrap_err(),
    ] {
        assert!(matches!(refused, AppendError::Full), "{refused:?}");
    }
    assert_eq!(*authorities.bundle(), *full);
    // What is there already is no growth, and our own have their room.
    let known = AppendedKey::Jwt(full.jwt_authority("k0").unwrap().clone());
    authorities
        .append(vec![known], &nested("/nested/a"), START)
        .await
        .unwrap();
    for _ in 0..12 {
        rig.step(15 * DAY);
        authorities.tick(rig.now(), Trust::Doubtful).await.unwrap();
    }
    assert!(authorities.active_x509_expires_at().unwrap() > rig.now());
    assert_eq!(rig.db_appended().await.len(), MAX_APPENDED);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_leaves_the_bundle_as_it_was() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let before = authorities.bundle();
    rig.set_full(true).await;
    let many: Vec<_> = (0..MAX_APPENDED).map(some_jwt).collect();
    let refused = append(authorities, &many).await.unwrap_err();
    assert!(matches!(refused, AppendError::Failed { .. }), "{refused:?}");
    assert_eq!(*authorities.bundle(), *before);
    rig.set_full(false).await;
    append(authorities, &many).await.unwrap();
    assert_eq!(authorities.bundle().jwt_authorities().len(), MAX_APPENDED + 1);
}

/// Two at once: neither is lost.
#[tokio::test(start_paused = true)]
async fn an_append_that_was_overtaken_looks_again() {
    let rig = Rig::new().await;
    let stale = rig.core.datastore.journal().await.unwrap();
    let authorities = &rig.core.authorities;
    let many = (0..20).map(|n| async move { append(authorities, &[some_jwt(n)]).await });
    let done = futures_util::future::join_all(many).await;
    let refused = done
        .iter()
        .filter(|done| matches!(done, Err(AppendError::Busy)))
        .count();
    assert_eq!(done.iter().filter(|done| done.is_ok()).count() + refused, 20);
    assert_eq!(rig.db_appended().await.len(), 20 - refused);
    let late = rig.core.datastore.save_appended(stale.version, Vec::new()).await;
    assert!(late.unwrap().is_none());
    assert_eq!(rig.db_appended().await.len(), 20 - refused);
}

#[tokio::test(start_paused = true)]
async fn what_is_tainted_and_revoked_leaves_the_bundle_and_stays_out() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let authorities = &core.authorities;
    let before = authorities.bundle();
    let root = root().await;
    let key = jwt("theirs", Some(START.saturating_add(DAY)));
    let keys = [AppendedKey::X509(root.clone()), AppendedKey::Jwt(key.clone())];
    append(authorities, &keys).await.unwrap();
    let root_id = crate::random::hex(&root.certificate.subject_key_id().unwrap());
    for (kind, name, end) in [
        (Kind::X509, root_id.as_str(), root.certificate.not_after()),
        (Kind::Jwt, "theirs", key.expires_at.unwrap()),
    ] {
        let (taint, revoke) = (
            Order::Taint(kind, name.to_owned()),
            Order::Revoke(kind, name.to_owned()),
        );
        let early = authorities.order_appended(&revoke, START).await.unwrap_err();
        assert!(matches!(early, OrderError::NotTainted), "{early:?}");
        let sequence = authorities.bundle().sequence();
        let done = authorities.order_appended(&taint, START).await.unwrap();
        assert_eq!((done.id.as_str(), done.expires_at), (name, Some(end)));
        let bundle = authorities.bundle();
        let tainted = match kind {
            Kind::X509 => bundle.x509_authorities()[1].tainted,
            _ => bundle.jwt_authority(name).unwrap().tainted,
        };
        assert!(tainted && bundle.sequence() == sequence + 1, "others see it");
        append(authorities, &keys[usize::from(kind != Kind::X509)..])
            .await
            .unwrap();
        assert_eq!(*authorities.bundle(), *bundle, "a taint is not taken back");
        authorities.order_appended(&revoke, START).await.unwrap();
        assert_eq!(authorities.bundle().sequence(), sequence + 2);
        let again = authorities.order_appended(&taint, START).await.unwrap_err();
        assert!(matches!(again, OrderError::Unknown), "{again:?}");
        let back = append(authorities, &keys).await.unwrap_err();
        assert!(matches!(back, AppendError::Revoked { .. }), "{back:?}");
    }
    assert!(authorities.bundle().content_eq(&before));
    drop(core);
    let core = disk.open().await;
    assert!(core.authorities.bundle().content_eq(&before));
    let back = append(&core.authorities, &keys[1..]).await.unwrap_err();
    assert!(matches!(back, AppendError::Revoked { .. }), "{back:?}");
}

#[tokio::test(start_paused = true)]
async fn orders_for_others_leave_our_own_and_the_unknown_alone() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    append(authorities, &[some_jwt(1)]).await.unwrap();
    let before = authorities.bundle();
    let own = before.jwt_authorities()[0].key_id.clone();
    let own_x509 = authorities.active_x509().unwrap().id.clone();
    for order in [
        Order::Taint(Kind::Jwt, own),
        Order::Taint(Kind::X509, own_x509),
        Order::Taint(Kind::X509, "k1".to_owned()),
        Order::Taint(Kind::Jwt, String::new()),
        Order::Revoke(Kind::Jwt, "k2".to_owned()),
        Order::Activate(Kind::Jwt, "k1".to_owned()),
        Order::Prepare(Kind::Jwt),
    ] {
        let refused = authorities.order_appended(&order, START).await.unwrap_err();
        assert!(matches!(refused, OrderError::Unknown), "{order:?}: {refused:?}");
    }
    assert_eq!(*authorities.bundle(), *before);
}

/// Whatever its end was: who holds it could still have said another.
#[tokio::test(start_paused = true)]
async fn what_was_revoked_is_remembered_for_the_life_of_an_authority() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let said = Some(START.saturating_add(DAY));
    for (key_id, end) in [("endless", None), ("short", said)] {
        let key = [AppendedKey::Jwt(jwt(key_id, end))];
        append(authorities, &key).await.unwrap();
        for order in [Order::Taint, Order::Revoke] {
            let order = order(Kind::Jwt, key_id.to_owned());
            let done = authorities.order_appended(&order, START).await.unwrap();
            assert_eq!(done.expires_at, end, "the answer says its own end");
        }
    }
    rig.step(30 * DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    for key_id in ["endless", "short"] {
        let key = [AppendedKey::Jwt(jwt(key_id, said))];
        let back = append(authorities, &key).await.unwrap_err();
        assert!(matches!(back, AppendError::Revoked { .. }), "{back:?}");
    }
    rig.step(DAY + Duration::from_secs(1));
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert!(rig.db_appended().await.is_empty());
}

/// Who was revoked makes no room for itself, but for others.
#[tokio::test(start_paused = true)]
async fn what_was_revoked_counts_for_its_publisher_alone() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let publish = |n: usize, who: &'static str| async move {
        authorities.append(vec![some_jwt(n)], &nested(who), START).await
    };
    for n in 0..MAX_APPENDED {
        let who = if n < MAX_OF_ONE { "/nested/a" } else { "/nested/b" };
        publish(n, who).await.unwrap();
    }
    let order = |order: fn(Kind, String) -> Order| async move {
        let order = order(Kind::Jwt, "k0".to_owned());
        authorities.order_appended(&order, START).await.unwrap();
    };
    order(Order::Taint).await;
    order(Order::Revoke).await;
    let refused = publish(1000, "/nested/a").await.unwrap_err();
    assert!(matches!(refused, AppendError::Share), "{refused:?}");
    publish(1001, "/nested/c").await.unwrap();
    let refused = publish(1002, "/nested/c").await.unwrap_err();
    assert!(matches!(refused, AppendError::Full), "{refused:?}");
    rig.step(2 * DAY + Duration::from_secs(1));
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    let left = rig.db_appended().await;
    assert!(left.len() == 1 && left[0].revoked, "{left:?}");
    rig.step(29 * DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert!(rig.db_appended().await.is_empty(), "also what was revoked ends");
}

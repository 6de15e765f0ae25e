//! What is left of a parent that is no longer configured, what a parent does not take, and what it is not asked for.

use landfast_identity::JwtAuthority;

use super::below::{Parent, Site, open_with, root};
use super::*;
use crate::authority::appended::MAX_BESIDE;
use crate::authority::publishing::MAX_PASSED_ON;

fn jwt(key_id: &str) -> JwtAuthority {
    JwtAuthority {
        key_id: key_id.to_owned(),
        public_key: key(),
        expires_at: Some(START.saturating_add(DAY)),
        tainted: false,
    }
}

async fn append(authorities: &Authorities, key_id: &str) -> Result<(), AppendError> {
    let keys = vec![AppendedKey::Jwt(jwt(key_id))];
    authorities.append(keys, &me(), START).await.map(|_| ())
}

fn knows(authorities: &Authorities, key_id: &str) -> bool {
    authorities.bundle().jwt_authority(key_id).is_some()
}

#[tokio::test(start_paused = true)]
async fn without_a_parent_what_it_believed_goes_and_its_root_when_nothing_stands_under_it() {
    let (clock, parent) = (SimClock::new(START), Parent::new());
    let datastore = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
    let keys = Arc::new(MemoryKeys::default());
    let core = open_with(&clock, Some(&parent), datastore.clone(), keys.clone(), false).await;
    parent.change(|state| {
        state.roots.insert(0, root());
        state.jwt.push(jwt("theirs"));
    });
    core.authorities.look_as_kept().await.unwrap();
    assert_eq!(core.authorities.bundle().x509_authorities().len(), 2);
    assert!(knows(&core.authorities, "theirs"));
    drop(core);

    let core = open_with(&clock, None, datastore.clone(), keys, false).await;
    let authorities = &core.authorities;
    authorities.tick(START, Trust::Doubtful).await.unwrap();
    assert!(knows(authorities, "theirs"), "a clock in doubt ends nothing");
    authorities.tick(START, Trust::Steady).await.unwrap();
    assert!(!knows(authorities, "theirs"));
    assert_eq!(authorities.bundle().x509_authorities().len(), 1);
    let active = authorities.standing(Kind::X509).await.unwrap().active.unwrap();
    let old = active.descent.unwrap().root;
    assert!(!active.tainted);
    assert_eq!(datastore.journal().await.unwrap().above.roots[0].id(), old);

    let (taint, revoke) = (UpstreamOrder::Taint, UpstreamOrder::Revoke);
    let refused = authorities.order_above(taint, &old).await.unwrap_err();
    assert!(matches!(refused, UpstreamOrderError::Signs), "{refused}");
    let next = authorities
        .order(&Order::Prepare(Kind::X509), START)
        .await
        .unwrap();
    assert!(next.descent.is_none());
    let activate = Order::Activate(Kind::X509, next.id);
    authorities.order(&activate, START).await.unwrap();
    authorities.order_above(taint, &old).await.unwrap();
    authorities.tick(START, Trust::Steady).await.unwrap();
    assert_eq!(authorities.bundle().x509_authorities().len(), 2);
    authorities.order_above(revoke, &old).await.unwrap();
    assert_eq!(authorities.bundle().x509_authorities().len(), 1);
    authorities.tick(START, Trust::Steady).await.unwrap();
    assert!(datastore.journal().await.unwrap().above.is_empty());
    let refused = authorities.order_above(taint, &old).await.unwrap_err();
    assert!(matches!(refused, UpstreamOrderError::NoUpstream), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn a_jwt_key_that_the_parent_refuses_is_in_nobodys_way() {
    let site = Site::new().await;
    let authorities = &site.core.authorities;
    let own = authorities.active_jwt().unwrap().id.clone();
    site.parent.change(|state| state.refuses = Some(own.clone()));
    append(authorities, "below").await.unwrap();
    assert!(
        !authorities.look_as_kept().await.unwrap(),
        "what is believed there is known"
    );
    let offered = site.parent.change(|state| std::mem::take(&mut state.offered));
    assert_eq!(offered, [own.clone(), "below".to_owned()], "ours goes first");
    let trouble = authorities.upstream_trouble().unwrap();
    assert!(
        trouble.contains(&own) && trouble.contains("it was revoked"),
        "{trouble}"
    );
    site.parent.change(|state| state.jwt.push(jwt("theirs")));
    assert!(authorities.look_as_kept().await.unwrap(), "and so is what is new");
    assert!(knows(authorities, "theirs"));
    for _ in 0..720 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        authorities.look_as_kept().await.unwrap();
    }
    let offered = site.parent.change(|state| state.offered.len());
    assert!((5..=40).contains(&offered), "in an hour: {offered}");
    site.parent.change(|state| state.refuses = None);
    tokio::time::sleep(Duration::from_secs(600)).await;
    authorities.look_as_kept().await.unwrap();
    assert_eq!(authorities.upstream_trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn keys_of_servers_below_leave_room_above_for_our_own() {
    let site = Site::new().await;
    let authorities = &site.core.authorities;
    for n in 0..MAX_PASSED_ON + 2 {
        append(authorities, &format!("below {n}")).await.unwrap();
    }
    for _ in 0..3 {
        authorities.look_as_kept().await.unwrap();
    }
    let named = site.parent.change(|state| state.jwt.len());
    assert_eq!(named, MAX_PASSED_ON + 1, "and one of ours");
    let trouble = authorities.upstream_trouble().unwrap();
    assert!(trouble.starts_with("2 JWT keys of servers below"), "{trouble}");
}

#[tokio::test(start_paused = true)]
async fn what_is_known_from_above_counts_against_the_room_of_a_bundle() {
    let site = Site::new().await;
    let authorities = &site.core.authorities;
    let many = (0..MAX_BESIDE - 2).map(|n| jwt(&format!("theirs {n}")));
    site.parent.change(|state| state.jwt.extend(many));
    authorities.look_as_kept().await.unwrap();
    append(authorities, "one").await.unwrap();
    let before = authorities.bundle();
    let refused = append(authorities, "two").await.unwrap_err();
    assert!(matches!(refused, AppendError::Full), "{refused}");
    let own = site.core.datastore.journal().await.unwrap().appended;
    assert_eq!((own.len(), authorities.bundle()), (1, before));
}

#[tokio::test(start_paused = true)]
async fn wit_authorities_are_our_own_below_a_parent_too() {
    let (clock, parent) = (SimClock::new(START), Parent::new());
    let datastore = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
    let core = open_with(&clock, Some(&parent), datastore.clone(), Arc::default(), true).await;
    let authorities = &core.authorities;
    assert_eq!(
        parent.change(|state| state.asked),
        1,
        "no key of tokens is certified"
    );
    let wit = authorities.active_wit().unwrap().id.clone();
    authorities.look_as_kept().await.unwrap();
    assert!(!parent.change(|state| state.offered.contains(&wit)));
    let refused = append(authorities, &wit).await.unwrap_err();
    assert!(matches!(refused, AppendError::KeyIdTaken { .. }), "{refused}");
    assert!(datastore.journal().await.unwrap().appended.is_empty());
    // A parent that is away holds nothing else up.
    parent.change(|state| state.gone = true);
    clock.step(16 * 86_400);
    let now = clock.now().unwrap();
    authorities.tick(now, Trust::Steady).await.unwrap_err();
    for kind in [Kind::Jwt, Kind::Wit] {
        let standing = authorities.standing(kind).await.unwrap();
        assert!(standing.prepared.is_some(), "{kind:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_first_start_that_waits_and_is_repeated_makes_one_key() {
    let (clock, parent) = (SimClock::new(START), Parent::new());
    let datastore = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
    let keys = Arc::new(MemoryKeys::default());
    // Neither of a name that is ours, nor of the kind that is wanted.
    keys.generate("x509-of-somebody", KeyType::EcP256).unwrap();
    let other = format!("x509-{}", "a".repeat(32));
    keys.generate(&other, KeyType::EcP384).unwrap();
    parent.change(|state| state.gone = true);
    for _ in 0..3 {
        let opening = open_with(&clock, Some(&parent), datastore.clone(), keys.clone(), false);
        parent.change(|state| state.asked = 0);
        let asked_twice = async {
            while parent.change(|state| state.asked) < 2 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            _ = opening => panic!("there is nothing to sign with"),
            () = asked_twice => {}
        }
    }
    let named = |prefix: &str| {
        let names = keys.list().unwrap();
        names.iter().filter(|name| name.starts_with(prefix)).count()
    };
    assert_eq!((named("x509-"), named("jwt-")), (3, 1));
    parent.change(|state| state.gone = false);
    let core = open_with(&clock, Some(&parent), datastore.clone(), keys.clone(), false).await;
    assert_eq!(named("x509-"), 3);
    let row = core
        .authorities
        .standing(Kind::X509)
        .await
        .unwrap()
        .active
        .unwrap();
    assert!(row.key_name != other && row.key_name != "x509-of-somebody");
}

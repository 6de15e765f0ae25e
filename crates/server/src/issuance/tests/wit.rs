//! WIT-SVIDs through the door.

use landfast_identity::{SpiffeId, wit as standard};

use super::*;
use crate::issuance::{IssuedWit, WitRequest};

async fn rig() -> Rig {
    Rig::with(|params| params.wit = true).await
}

fn of(key: &PublicKey) -> WitRequest {
    WitRequest {
        key: key.clone(),
        algorithm: "ES256".to_owned(),
    }
}

async fn one(rig: &Rig, entry: Entry, request: WitRequest) -> Result<IssuedWit, IssueError> {
    let orders = vec![(Arc::new(entry), request)];
    rig.core
        .issuer
        .wit_batch(&me(), orders, &Turn::free())
        .await
        .remove(0)
}

#[tokio::test(start_paused = true)]
async fn what_is_issued_verifies_names_its_key_and_is_recorded() {
    let rig = rig().await;
    let key = key();
    let issued = one(&rig, w(|_| ()), of(&key)).await.unwrap();
    let svid = standard::verify(&issued.token, &bundles(&rig), START).unwrap();
    assert_eq!((svid.id(), svid.confirmation_key()), (&id("/w"), &key));
    assert_eq!(svid.expires_at(), START.saturating_add(HOUR));
    assert_eq!(issued.issued_at, START.saturating_sub(Duration::from_secs(300)));
    let records = rig.core.issuer.records(&id("/w")).await.unwrap();
    assert_eq!((records.len(), records[0].kind), (1, SvidKind::Wit));
    let r = &records[0];
    assert_eq!((r.entry_id.as_deref(), r.serial.len()), (Some("e1"), 64));
    assert_eq!((r.not_before, r.not_after), (issued.issued_at, issued.expires_at));
    assert_eq!(r.authority_id, svid.key_id());
}

/// Who asks for a WIT-SVID does not show that the key is his: he must not take it from its owner.
#[tokio::test(start_paused = true)]
async fn a_wit_svid_does_not_make_a_key_its_own() {
    let rig = rig().await;
    let key = key();
    one(&rig, w(|_| ()), of(&key)).await.unwrap();
    let owner = w(|entry| entry.spiffe_id = id("/owner"));
    rig.core.issuer.x509_for_entry(&me(), &owner, &key).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn policy_refuses_before_anything_is_signed() {
    let rig = rig().await;
    let issuer = &rig.core.issuer;
    let key = key();
    let agents = w(|entry| entry.spiffe_id = id("/spire/agent/x/y"));
    refused_by_policy(one(&rig, agents, of(&key)).await, "reserved");
    let over = w(|entry| entry.expires_at = Some(START));
    refused_by_policy(one(&rig, over, of(&key)).await, "expired");
    for algorithm in ["", "none", "ES384", "RS256", "es256"] {
        let request = WitRequest {
            algorithm: algorithm.to_owned(),
            ..of(&key)
        };
        refused_by_policy(one(&rig, w(|_| ()), request).await, "algorithm");
    }
    let own = rig.core.authorities.bundle();
    for authority in [
        own.x509_authorities()[0].certificate.public_key(),
        &own.jwt_authorities()[0].public_key,
        &own.wit_authorities()[0].public_key,
    ] {
        refused_by_policy(one(&rig, w(|_| ()), of(authority)).await, "authority");
    }
    let foreign = SpiffeId::parse("spiffe://other.example/w").unwrap();
    let minted = issuer.mint_wit(&me(), &foreign, None, of(&key)).await;
    refused_by_policy(minted, "plant.example");
    let minted = issuer
        .mint_wit(&me(), &id("/w"), Some(Duration::ZERO), of(&key))
        .await;
    refused_by_policy(minted, "zero");
    assert!(issuer.records(&id("/w")).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_its_entry_and_its_authority() {
    let rig = rig().await;
    let key = key();
    let ends = async |entry: Entry| one(&rig, entry, of(&key)).await.unwrap().expires_at;
    let after = |secs: u64| rig.now().saturating_add(Duration::from_secs(secs));
    let own_life = w(|entry| entry.x509_svid_ttl = Some(Duration::from_secs(60)));
    assert_eq!(ends(own_life).await, after(60));
    let short = w(|entry| entry.expires_at = Some(after(10)));
    assert_eq!(ends(short).await, after(10));
    let long = w(|entry| entry.x509_svid_ttl = Some(400 * DAY));
    assert_eq!(ends(long).await, START.saturating_add(30 * DAY));
    let minted = rig
        .core
        .issuer
        .mint_wit(&me(), &id("/w"), Some(Duration::from_secs(5)), of(&key))
        .await;
    assert_eq!(minted.unwrap().expires_at, after(5));
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_in_order_and_one_refusal_is_one_refusal() {
    let rig = rig().await;
    let named = |path: &str| Arc::new(w(|entry| entry.spiffe_id = id(path)));
    let keys = [key(), key(), key()];
    let orders = vec![
        (named("/a"), of(&keys[0])),
        (named("/spire/server"), of(&keys[1])),
        (named("/c"), of(&keys[2])),
    ];
    let answers = rig.core.issuer.wit_batch(&me(), orders, &Turn::free()).await;
    let found: Vec<_> = answers
        .iter()
        .map(|answer| answer.as_ref().ok().map(|issued| issued.id.path()))
        .collect();
    assert_eq!(found, [Some("/a"), None, Some("/c")]);
    for (issued, key) in [(&answers[0], &keys[0]), (&answers[2], &keys[2])] {
        let token = &issued.as_ref().unwrap().token;
        assert_eq!(standard::parse_unverified(token).unwrap().confirmation_key(), key);
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_recorded_is_not_issued_and_without_the_switch_nothing_is() {
    let rig = rig().await;
    rig.set_full(true).await;
    let mut refused = one(&rig, w(|_| ()), of(&key())).await;
    // A little room may be left in the last page.
    for _ in 0..1000 {
        if refused.is_err() {
            break;
        }
        refused = one(&rig, w(|_| ()), of(&key())).await;
    }
    assert!(matches!(refused, Err(IssueError::StorageFull)), "{refused:?}");
    rig.set_full(false).await;
    one(&rig, w(|_| ()), of(&key())).await.unwrap();
    let off = Rig::new().await;
    let refused = one(&off, w(|_| ()), of(&key())).await;
    assert!(matches!(refused, Err(IssueError::NoAuthority)), "{refused:?}");
}

//! Nodes and their tokens.

use super::*;

pub(in crate::datastore) async fn agents_stay_banned_and_are_promoted_once(db: Store) {
    let record = agent("/spire/agent/x", "0a", &["k:1"]);
    let change = |change| db.change_agent(record.id.clone(), change);
    assert!(!change(AgentChange::Ban).await.unwrap(), "there is none");
    db.attest_agent(record.clone(), NEW).await.unwrap();
    let version = AgentChange::Version("1.0".into());
    assert!(change(version).await.unwrap());
    let stage = AgentChange::Stage {
        serial: "0b".into(),
        not_after: START.saturating_add(9 * DAY),
        at: START,
    };
    assert!(change(stage).await.unwrap());
    let promote = |serial: &str| AgentChange::Promote {
        serial: serial.into(),
    };
    assert!(!change(promote("0c")).await.unwrap());
    assert!(change(promote("0b")).await.unwrap());
    assert!(change(promote("0b")).await.unwrap());
    let stored = Arc::clone(&loaded(&db).await.agents[0]);
    assert_eq!(
        (stored.serial.as_str(), stored.agent_version.as_str()),
        ("0b", "1.0")
    );
    assert_eq!(stored.not_after, START.saturating_add(9 * DAY));
    assert!(change(AgentChange::Ban).await.unwrap());
    assert!(matches!(change(promote("0b")).await, Err(RegistryError::Banned)));
    let again = db.attest_agent(record.clone(), NEW).await;
    assert!(matches!(again, Err(RegistryError::Banned)));
    assert!(loaded(&db).await.agents[0].is_banned());
    assert!(db.delete_agent(record.id.clone(), START).await.unwrap());
    db.attest_agent(record.clone(), NEW).await.unwrap();
}

pub(in crate::datastore) fn token(n: u8) -> NewToken {
    NewToken {
        hash: [n; 32],
        expires_at: START.saturating_add(DAY),
        alias: Some(id("/gateway")),
    }
}

pub(in crate::datastore) fn redemption(token: u8, key: u8) -> Redemption {
    Redemption {
        hash: [token; 32],
        key_hash: [key; 32],
        agent_id: id(&format!("/spire/agent/join_token/t{token}")),
        alias_entry_id: format!("alias-{token}-{key}"),
        now: START,
        retry_window: DAY,
    }
}

pub(in crate::datastore) async fn a_token_has_one_winner(db: Store) {
    db.create_token(token(1)).await.unwrap();
    assert!(matches!(
        db.create_token(token(1)).await,
        Err(RegistryError::TokenExists)
    ));
    let all = (1..=40).map(|key| db.redeem_token(redemption(1, key)));
    let all = futures_util::future::join_all(all).await;
    let winners: Vec<_> = all.iter().filter(|a| a.as_ref().is_ok_and(|r| r.first)).collect();
    assert_eq!(winners.len(), 1);
    let losers = all.iter().filter(|a| matches!(a, Err(TokenError::Used))).count();
    assert_eq!(losers, 39);
    assert_eq!(loaded(&db).await.entries.len(), 1, "one alias");
    let key = u8::try_from(all.iter().position(Result::is_ok).unwrap()).unwrap() + 1;
    let again = db.redeem_token(redemption(1, key)).await.unwrap();
    assert!(!again.first, "the same key again");
    let late = Redemption {
        now: START.saturating_add(2 * DAY),
        ..redemption(1, key)
    };
    assert!(matches!(db.redeem_token(late).await, Err(TokenError::Used)));
    assert!(matches!(
        db.redeem_token(redemption(9, 1)).await,
        Err(TokenError::Unknown)
    ));
    db.create_token(token(2)).await.unwrap();
    let late = Redemption {
        now: START.saturating_add(DAY),
        ..redemption(2, 1)
    };
    assert!(matches!(db.redeem_token(late).await, Err(TokenError::Expired)));
    // An eviction between the redemption and the agent ends the token.
    db.redeem_token(redemption(2, 1)).await.unwrap();
    db.delete_agent(redemption(2, 1).agent_id, START).await.unwrap();
    assert!(matches!(
        db.redeem_token(redemption(2, 1)).await,
        Err(TokenError::Revoked)
    ));
    let evicted = agent("/spire/agent/join_token/t2", "0a", &[]);
    assert!(matches!(
        db.attest_agent(evicted, NEW).await,
        Err(RegistryError::TokenRevoked)
    ));
    db.create_token(token(2)).await.unwrap();
}

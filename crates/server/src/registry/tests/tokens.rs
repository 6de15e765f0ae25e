use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::core::fixture::{DiskRig, Rig, START, agent, draft, entry, id, td};
use crate::registry::{EntryFilter, RegistryError, TokenError};

const MINUTE: Duration = Duration::from_secs(60);

async fn token(rig: &Rig) -> String {
    rig.core
        .registry
        .create_join_token(None, 10 * MINUTE, None, rig.now())
        .await
        .unwrap()
        .value
}

/// T-12: many nodes with one token, on the disk, while others redeem others.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn exactly_one_of_64_parallel_nodes_gets_each_of_200_tokens() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let mut attempts = JoinSet::new();
    let mut tokens = Vec::new();
    for _ in 0..200 {
        let made = core
            .registry
            .create_join_token(None, 60 * MINUTE, None, START)
            .await
            .unwrap();
        tokens.push(Arc::<str>::from(made.value));
    }
    for node in 0..64u8 {
        for token in &tokens {
            let (registry, token) = (Arc::clone(&core.registry), Arc::clone(token));
            attempts.spawn(async move {
                let answer = registry.redeem_join_token(&token, [node; 32], START).await;
                (token, node, answer)
            });
        }
    }
    let mut winners: HashMap<Arc<str>, Vec<u8>> = HashMap::new();
    while let Some(done) = attempts.join_next().await {
        match done.unwrap() {
            (token, node, Ok(redeemed)) => {
                assert!(redeemed.first);
                assert_eq!(redeemed.agent_id, id(&format!("/spire/agent/join_token/{token}")));
                winners.entry(token).or_default().push(node);
            }
            (_, _, Err(refused)) => assert!(matches!(refused, TokenError::Used), "{refused:?}"),
        }
    }
    assert_eq!(winners.len(), 200);
    assert!(winners.values().all(|nodes| nodes.len() == 1), "{winners:?}");
    // The winner is the winner after a restart too.
    drop(core);
    let core = disk.open().await;
    for (token, nodes) in winners.iter().take(20) {
        let again = core
            .registry
            .redeem_join_token(token, [nodes[0]; 32], START)
            .await
            .unwrap();
        assert!(!again.first);
        let other = core
            .registry
            .redeem_join_token(token, [nodes[0] + 1; 32], START)
            .await;
        assert!(matches!(other, Err(TokenError::Used)));
    }
}

/// T-13: the reply was lost.
#[tokio::test(start_paused = true)]
async fn the_same_key_may_ask_again_for_ten_minutes() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let token = token(&rig).await;
    let first = registry.redeem_join_token(&token, [1; 32], START).await.unwrap();
    assert!(first.first);
    let just = START.saturating_add(10 * MINUTE - Duration::from_secs(1));
    for _ in 0..3 {
        let again = registry.redeem_join_token(&token, [1; 32], just).await.unwrap();
        assert_eq!((again.first, &again.agent_id), (false, &first.agent_id));
        assert!(matches!(
            registry.redeem_join_token(&token, [2; 32], just).await,
            Err(TokenError::Used)
        ));
    }
    let late = START.saturating_add(10 * MINUTE);
    assert!(matches!(
        registry.redeem_join_token(&token, [1; 32], late).await,
        Err(TokenError::Used)
    ));
}

#[tokio::test(start_paused = true)]
async fn asking_again_ends_with_eviction_or_ban() {
    for ban in [true, false] {
        let rig = Rig::new().await;
        let registry = &rig.core.registry;
        let token = token(&rig).await;
        let redeemed = registry.redeem_join_token(&token, [1; 32], START).await.unwrap();
        registry
            .upsert_agent_on_attest(agent(redeemed.agent_id.path(), "0a", &[]))
            .await
            .unwrap();
        assert!(registry.redeem_join_token(&token, [1; 32], START).await.is_ok());
        if ban {
            registry.ban_agent(&redeemed.agent_id).await.unwrap();
        } else {
            registry.delete_agent(&redeemed.agent_id).await.unwrap();
        }
        let again = registry.redeem_join_token(&token, [1; 32], START).await;
        assert!(matches!(again, Err(TokenError::Revoked)), "{again:?}");
    }
}

/// The eviction comes after the token was redeemed and before the agent is stored.
#[tokio::test(start_paused = true)]
async fn an_agent_that_is_evicted_while_it_attests_is_not_stored() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let token = token(&rig).await;
    let redeemed = registry.redeem_join_token(&token, [1; 32], START).await.unwrap();
    drop(registry.delete_agent(&redeemed.agent_id).await);
    let record = agent(redeemed.agent_id.path(), "0a", &[]);
    let refused = registry.upsert_agent_on_attest(record).await;
    assert!(matches!(refused, Err(RegistryError::TokenRevoked)), "{refused:?}");
    assert!(registry.agent(&redeemed.agent_id).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_banned_agent_does_not_come_back_with_a_new_token_of_the_old_text() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let make = || registry.create_join_token(Some("line-4".into()), MINUTE, None, START);
    make().await.unwrap();
    assert!(
        matches!(make().await, Err(RegistryError::TokenExists)),
        "a live token is not replaced"
    );
    let redeemed = registry
        .redeem_join_token("line-4", [1; 32], START)
        .await
        .unwrap();
    registry
        .upsert_agent_on_attest(agent(redeemed.agent_id.path(), "0a", &[]))
        .await
        .unwrap();
    registry.ban_agent(&redeemed.agent_id).await.unwrap();
    make().await.unwrap();
    let again = registry.redeem_join_token("line-4", [2; 32], START).await;
    assert!(matches!(again, Err(TokenError::Revoked)));
    registry.delete_agent(&redeemed.agent_id).await.unwrap();
    assert!(
        registry
            .redeem_join_token("line-4", [2; 32], START)
            .await
            .unwrap()
            .first
    );
}

#[tokio::test(start_paused = true)]
async fn unknown_and_expired_tokens_are_refused() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let token = token(&rig).await;
    for bad in ["", "no", "a/b", "../server", &"x".repeat(300), "with space"] {
        assert!(
            matches!(
                registry.redeem_join_token(bad, [1; 32], START).await,
                Err(TokenError::Unknown)
            ),
            "{bad}"
        );
    }
    let end = START.saturating_add(10 * MINUTE);
    assert!(matches!(
        registry.redeem_join_token(&token, [1; 32], end).await,
        Err(TokenError::Expired)
    ));
    let just = end.saturating_sub(Duration::from_secs(1));
    assert!(
        registry.redeem_join_token(&token, [1; 32], just).await.is_ok(),
        "a refusal spends nothing"
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_that_cannot_be_an_id_is_not_made() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    for bad in ["", "a/b", "..", "a b", &"x".repeat(256)] {
        let made = registry
            .create_join_token(Some(bad.into()), MINUTE, None, START)
            .await;
        assert!(matches!(made, Err(RegistryError::BadToken { .. })), "{bad}");
    }
    let never = registry
        .create_join_token(None, Duration::ZERO, None, START)
        .await;
    assert!(matches!(never, Err(RegistryError::BadToken { .. })));
    let reserved = registry
        .create_join_token(None, MINUTE, Some(id("/spire/server")), START)
        .await;
    assert!(
        matches!(reserved, Err(RegistryError::Invalid { .. })),
        "an alias is an identity like any other"
    );
}

#[tokio::test(start_paused = true)]
async fn the_alias_comes_with_the_node_and_goes_with_it() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let made = registry
        .create_join_token(None, MINUTE, Some(id("/line4/gateway")), START)
        .await
        .unwrap();
    assert_eq!(
        registry.count_entries(&EntryFilter::default()),
        0,
        "the token is nowhere in clear before it is spent"
    );
    let redeemed = registry
        .redeem_join_token(&made.value, [1; 32], START)
        .await
        .unwrap();
    registry
        .redeem_join_token(&made.value, [1; 32], START)
        .await
        .unwrap();
    let (entries, _) = registry.list_entries(&EntryFilter::default(), 0, None);
    assert_eq!(entries.len(), 1);
    assert_eq!(
        (&entries[0].parent_id, &entries[0].spiffe_id),
        (&redeemed.agent_id, &id("/line4/gateway"))
    );
    assert_eq!(
        entries[0].selectors.iter().next().unwrap().to_string(),
        format!("spiffe_id:{}", redeemed.agent_id)
    );
    registry
        .upsert_agent_on_attest(agent(redeemed.agent_id.path(), "0a", &[]))
        .await
        .unwrap();
    let child = rig.entry(draft("/line4/gateway", "/w")).await;
    let own = rig.entry(draft(redeemed.agent_id.path(), "/v")).await;
    let granted: Vec<_> = registry
        .authorized_entries(&redeemed.agent_id)
        .iter()
        .map(|e| e.id.clone())
        .collect();
    assert_eq!(granted.len(), 3);
    assert!(granted.contains(&child.id) && granted.contains(&own.id));
    registry.delete_agent(&redeemed.agent_id).await.unwrap();
    assert!(registry.entry(&entries[0].id).is_none());
    assert!(
        registry.entry(&child.id).is_some() && registry.entry(&own.id).is_some(),
        "what people wrote stays"
    );
}

#[tokio::test(start_paused = true)]
async fn spent_tokens_are_pruned_after_a_day() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let spent = token(&rig).await;
    registry.redeem_join_token(&spent, [1; 32], START).await.unwrap();
    let unused = token(&rig).await;
    rig.step(Duration::from_secs(86_400));
    assert_eq!(rig.core.prune(rig.now()).await.unwrap(), 0);
    rig.step(11 * MINUTE);
    assert_eq!(rig.core.prune(rig.now()).await.unwrap(), 2);
    for gone in [spent, unused] {
        assert!(matches!(
            registry.redeem_join_token(&gone, [1; 32], START).await,
            Err(TokenError::Unknown)
        ));
    }
}

#[tokio::test]
async fn neither_the_disk_nor_debug_output_holds_a_live_token() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let alias = Some(id("/line4/gateway"));
    let made = core
        .registry
        .create_join_token(Some("Secret-Token-77".into()), MINUTE, alias, START)
        .await
        .unwrap();
    assert!(!format!("{made:?}").contains("Secret"));
    for file in std::fs::read_dir(disk.dir.path()).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            let found = bytes
                .windows(15)
                .any(|w| w.eq_ignore_ascii_case(b"Secret-Token-77"));
            assert!(!found, "{}", path.display());
        }
    }
}

/// A text that was given before makes the same node: who may make tokens would be whoever works there.
#[tokio::test]
async fn the_node_of_a_login_is_not_made_anew_by_another_token() {
    use crate::people::{Change, Login, PersonRef, Role, Step, proposal_id};
    let rig = DiskRig::new();
    let core = rig.open().await;
    let registry = &core.registry;
    let now = START;
    let make = |text: &str| registry.create_join_token(Some(text.to_owned()), 10 * MINUTE, None, now);
    let redeem = |key: [u8; 32]| registry.redeem_join_token("desk", key, now);
    make("desk").await.unwrap();
    let node = redeem([1; 32]).await.unwrap().agent_id;
    let mut known = agent(node.path(), "0a", &[]);
    known.key_hash = [1; 32];
    registry.upsert_agent_on_attest(known).await.unwrap();
    entry(&core, draft(node.path(), "/ops/jo")).await;
    // One that was made before.
    make("desk").await.unwrap();
    let change = Change {
        person: PersonRef::random().unwrap(),
        name: Some("Jo".to_owned()),
        logins: vec![Login::Spiffe(id("/ops/jo"))],
        roles: vec![Role::parse(&format!("administer:spiffe://{}/*", td())).unwrap()],
        activate: false,
    };
    let step = Step::Grant {
        change,
        id: proposal_id().unwrap(),
    };
    registry.change_people(step, None).await.unwrap();
    assert!(matches!(redeem([2; 32]).await, Err(TokenError::Used)));
    redeem([1; 32]).await.unwrap();
    let again = make("desk").await;
    assert!(matches!(again, Err(RegistryError::IsLogin { .. })), "{again:?}");
    make("another").await.unwrap();
}

use crate::core::fixture::{DAY, Rig, START, agent, draft, id, sel};
use crate::registry::{AgentFilter, AgentStanding, MatchKind, RegistryError};

const PATH: &str = "/spire/agent/x509pop/a";

#[tokio::test(start_paused = true)]
async fn a_renewed_svid_comes_into_use_when_it_is_used() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let who = id(PATH);
    assert_eq!(
        registry.standing(&who, "0a", START).await,
        AgentStanding::NotAttested
    );
    registry
        .upsert_agent_on_attest(agent(PATH, "0a", &["k:1"]))
        .await
        .unwrap();
    assert_eq!(registry.standing(&who, "0a", START).await, AgentStanding::Active);
    assert_eq!(
        registry.standing(&who, "0b", START).await,
        AgentStanding::NotActive
    );
    let end = START.saturating_add(7 * DAY);
    assert_eq!(registry.standing(&who, "0a", end).await, AgentStanding::Expired);
    registry
        .stage_renewal(&who, "0b", end.saturating_add(DAY))
        .await
        .unwrap();
    assert_eq!(
        registry.standing(&who, "0a", START).await,
        AgentStanding::Active,
        "the old one until then"
    );
    assert_eq!(registry.standing(&who, "0b", end).await, AgentStanding::Active);
    assert_eq!(
        registry.standing(&who, "0a", START).await,
        AgentStanding::NotActive
    );
    let stored = registry.agent(&who).unwrap();
    assert_eq!(
        (stored.serial.as_str(), stored.new_serial.as_deref()),
        ("0b", None)
    );
    assert_eq!(stored.not_after, end.saturating_add(DAY));
    assert_eq!(
        registry.standing(&who, "", START).await,
        AgentStanding::NotActive,
        "no serial is no serial"
    );
}

#[tokio::test(start_paused = true)]
async fn what_an_agent_runs_is_known_also_after_it_has_attested_anew() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let attest = async |serial: &str| {
        registry
            .upsert_agent_on_attest(agent(PATH, serial, &[]))
            .await
            .unwrap()
    };
    attest("0a").await;
    registry.set_agent_version(&id(PATH), "1.14.0").await.unwrap();
    attest("0b").await;
    let stored = registry.agent(&id(PATH)).unwrap();
    assert_eq!(
        (stored.serial.as_str(), stored.agent_version.as_str()),
        ("0b", "1.14.0")
    );
}

#[tokio::test(start_paused = true)]
async fn an_expired_renewal_does_not_come_into_use() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    registry
        .upsert_agent_on_attest(agent(PATH, "0a", &[]))
        .await
        .unwrap();
    registry
        .stage_renewal(&id(PATH), "0b", START.saturating_add(DAY))
        .await
        .unwrap();
    let late = START.saturating_add(DAY);
    assert_eq!(
        registry.standing(&id(PATH), "0b", late).await,
        AgentStanding::Expired
    );
    assert_eq!(
        registry.standing(&id(PATH), "0a", late).await,
        AgentStanding::Active
    );
}

#[tokio::test(start_paused = true)]
async fn a_renewal_that_cannot_be_stored_still_lets_its_agent_in() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    registry
        .upsert_agent_on_attest(agent(PATH, "0a", &[]))
        .await
        .unwrap();
    registry
        .stage_renewal(&id(PATH), "0b", START.saturating_add(DAY))
        .await
        .unwrap();
    rig.db
        .execute("CREATE TRIGGER broken BEFORE INSERT ON agents BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await;
    assert_eq!(
        registry.standing(&id(PATH), "0b", START).await,
        AgentStanding::Active
    );
    assert_eq!(
        registry.standing(&id(PATH), "0a", START).await,
        AgentStanding::Active,
        "nothing was promoted"
    );
    rig.db.execute("DROP TRIGGER broken").await;
    assert_eq!(
        registry.standing(&id(PATH), "0b", START).await,
        AgentStanding::Active
    );
    assert_eq!(
        registry.standing(&id(PATH), "0a", START).await,
        AgentStanding::NotActive
    );
}

#[tokio::test(start_paused = true)]
async fn a_ban_lasts_until_the_agent_is_deleted() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let who = id(PATH);
    assert!(matches!(
        registry.ban_agent(&who).await,
        Err(RegistryError::NoSuchAgent { .. })
    ));
    registry
        .upsert_agent_on_attest(agent(PATH, "0a", &["k:1"]))
        .await
        .unwrap();
    registry
        .stage_renewal(&who, "0b", START.saturating_add(DAY))
        .await
        .unwrap();
    rig.entry(draft(PATH, "/w")).await;
    assert_eq!(registry.authorized_entries(&who).len(), 1);
    registry.ban_agent(&who).await.unwrap();
    for serial in ["0a", "0b", ""] {
        assert_eq!(
            registry.standing(&who, serial, START).await,
            AgentStanding::Banned
        );
    }
    assert!(registry.authorized_entries(&who).is_empty());
    let refused = registry.upsert_agent_on_attest(agent(PATH, "0c", &[])).await;
    assert!(matches!(refused, Err(RegistryError::Banned)));
    let refused = registry
        .stage_renewal(&who, "0d", START.saturating_add(DAY))
        .await;
    assert!(matches!(refused, Err(RegistryError::Banned)));
    registry.set_agent_version(&who, "1.2").await.unwrap();
    assert!(
        registry.agent(&who).unwrap().is_banned(),
        "no other change ends it"
    );
    assert!(registry.delete_agent(&who).await.unwrap());
    assert!(!registry.delete_agent(&who).await.unwrap());
    assert_eq!(
        registry.standing(&who, "0a", START).await,
        AgentStanding::NotAttested
    );
    registry
        .upsert_agent_on_attest(agent(PATH, "0e", &[]))
        .await
        .unwrap();
    assert_eq!(registry.standing(&who, "0e", START).await, AgentStanding::Active);
}

#[tokio::test(start_paused = true)]
async fn attesting_anew_ends_the_old_svid() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    registry
        .upsert_agent_on_attest(agent(PATH, "0a", &["k:1"]))
        .await
        .unwrap();
    registry
        .upsert_agent_on_attest(agent(PATH, "0b", &["k:2"]))
        .await
        .unwrap();
    assert_eq!(
        registry.standing(&id(PATH), "0a", START).await,
        AgentStanding::NotActive
    );
    assert_eq!(
        registry.standing(&id(PATH), "0b", START).await,
        AgentStanding::Active
    );
    assert_eq!(registry.agent(&id(PATH)).unwrap().selectors, sel(&["k:2"]));
}

#[tokio::test(start_paused = true)]
async fn agents_are_listed_by_page_and_filter() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    for n in 0..5 {
        let mut one = agent(&format!("/spire/agent/x509pop/{n}"), "0a", &["k:1"]);
        one.can_reattest = n == 2;
        one.not_after = START.saturating_add(n * DAY);
        if n == 3 {
            one.attestation_type = "x509pop".into();
            one.selectors = sel(&["k:2"]);
        }
        registry.upsert_agent_on_attest(one).await.unwrap();
    }
    registry.ban_agent(&id("/spire/agent/x509pop/4")).await.unwrap();
    let count = |filter: AgentFilter| registry.count_agents(&filter);
    let any = AgentFilter::default;
    assert_eq!(count(any()), 5);
    assert_eq!(
        count(AgentFilter {
            banned: Some(true),
            ..any()
        }),
        1
    );
    assert_eq!(
        count(AgentFilter {
            banned: Some(false),
            ..any()
        }),
        4
    );
    assert_eq!(
        count(AgentFilter {
            can_reattest: Some(true),
            ..any()
        }),
        1
    );
    assert_eq!(
        count(AgentFilter {
            attestation_type: Some("x509pop".into()),
            ..any()
        }),
        1
    );
    assert_eq!(
        count(AgentFilter {
            expires_before: Some(START.saturating_add(2 * DAY)),
            ..any()
        }),
        2
    );
    assert_eq!(
        count(AgentFilter {
            selectors: Some((sel(&["k:2"]), MatchKind::Exact)),
            ..any()
        }),
        1
    );
    let (first, next) = registry.list_agents(&any(), 3, None);
    let (rest, end) = registry.list_agents(&any(), 3, next.as_deref());
    assert_eq!((first.len(), rest.len(), end), (3, 2, None));
    assert_eq!(rest[0].id, id("/spire/agent/x509pop/3"));
}

#[tokio::test(start_paused = true)]
async fn a_version_is_kept_short_and_written_once() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    registry
        .upsert_agent_on_attest(agent(PATH, "0a", &[]))
        .await
        .unwrap();
    let long = format!("1.2\n{}", "x".repeat(1000));
    registry.set_agent_version(&id(PATH), &long).await.unwrap();
    let stored = registry.agent(&id(PATH)).unwrap().agent_version.clone();
    assert!(stored.len() == 255 && stored.starts_with("1.2x"), "{stored}");
    let revision = registry.revision().number;
    registry.set_agent_version(&id(PATH), &long).await.unwrap();
    assert_eq!(registry.revision().number, revision);
    assert!(
        registry
            .set_agent_version(&id("/spire/agent/no"), "1")
            .await
            .is_err()
    );
}

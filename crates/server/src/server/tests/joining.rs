//! Who joins with a token, and who does not come back.

use super::*;

/// G-14: a hundred nodes whose first answer is lost.
#[tokio::test]
async fn a_hundred_lost_replies_are_a_hundred_nodes() {
    let rig = Rig::with(|config| config.limits.attestations = 10_000).await;
    for _ in 0..100 {
        let (token, key) = (rig.token().await.into_bytes(), PrivateKey::generate().unwrap());
        let lost = rig.attest("join_token", token.clone(), &key).await.unwrap();
        let again = rig.attest("join_token", token, &key).await.unwrap();
        assert_eq!(lost.id, again.id);
    }
    let counted = AgentClient::new(rig.admin().await)
        .count_agents(agent::CountAgentsRequest { filter: None })
        .await;
    assert_eq!(counted.unwrap().into_inner().count, 100);
    rig.tear_down().await;
}

/// T-13.
#[tokio::test]
async fn a_lost_reply_bricks_no_node_and_opens_no_door() {
    let rig = Rig::new().await;
    let token = rig.token().await;
    let key = PrivateKey::generate().unwrap();
    let first = rig
        .attest("join_token", token.clone().into_bytes(), &key)
        .await
        .unwrap();
    // The reply never arrived: the node asks again with the same key.
    let again = rig
        .attest("join_token", token.clone().into_bytes(), &key)
        .await
        .unwrap();
    assert_eq!(first.id, again.id);
    let other = PrivateKey::generate().unwrap();
    let status = rig
        .attest("join_token", token.clone().into_bytes(), &other)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "failed to attest: join token does not exist or has already been used"
    );
    // Only the newest SVID counts.
    let stale = rig
        .node_of(
            first,
            PrivateKey::from_pkcs8_der(key.as_pkcs8_der().to_vec()).unwrap(),
        )
        .await;
    assert_eq!(
        reason(&authorised(&stale.channel).await.unwrap_err()),
        Some(Reason::AgentNotActive)
    );
    let node = rig
        .node_of(
            again,
            PrivateKey::from_pkcs8_der(key.as_pkcs8_der().to_vec()).unwrap(),
        )
        .await;
    authorised(&node.channel).await.unwrap();
    // Evicted: the same key is of no use any more.
    let request = agent::DeleteAgentRequest {
        id: Some(wire(&node.id)),
    };
    AgentClient::new(rig.admin().await)
        .delete_agent(request)
        .await
        .unwrap();
    let status = rig
        .attest("join_token", token.into_bytes(), &key)
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_banned_node_does_not_come_back_with_its_token() {
    let rig = Rig::new().await;
    let token = rig.token().await;
    let key = PrivateKey::generate().unwrap();
    let svid = rig
        .attest("join_token", token.clone().into_bytes(), &key)
        .await
        .unwrap();
    let request = agent::BanAgentRequest { id: svid.id };
    AgentClient::new(rig.admin().await)
        .ban_agent(request)
        .await
        .unwrap();
    let status = rig
        .attest("join_token", token.into_bytes(), &key)
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied),
        "{status:?}"
    );
    rig.tear_down().await;
}

/// T-12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_exactly_one_gets_in_by_a_token() {
    let rig = Rig::with(|config| config.limits.attestations = 10_000).await;
    let mut channels = Vec::new();
    for _ in 0..8 {
        channels.push(rig.tls(None).await.unwrap());
    }
    for _ in 0..20 {
        let token = rig.token().await;
        let mut attempts = tokio::task::JoinSet::new();
        for channel in channels.iter().cycle().take(64) {
            let (channel, token) = (channel.clone(), token.clone().into_bytes());
            attempts.spawn(async move {
                let key = PrivateKey::generate().unwrap();
                attest_on(channel, "join_token", token, &key, |_| panic!("a challenge")).await
            });
        }
        let outcomes = attempts.join_all().await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        }
    }
    rig.tear_down().await;
}

/// Whenever it hangs up: what is in the registry is in the ledger.
#[tokio::test]
async fn a_node_that_hangs_up_while_it_is_let_in_is_recorded_if_it_was() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_owned();
    let rig = Rig::with(move |config| config.data_dir = Some(dir)).await;
    let (mut cut, mut patience) = (0, Duration::from_micros(500));
    for _ in 0..120 {
        let (token, key) = (rig.token().await.into_bytes(), PrivateKey::generate().unwrap());
        let done = tokio::time::timeout(patience, rig.attest("join_token", token, &key)).await;
        cut += usize::from(done.is_err());
        // About as long as it takes.
        patience = match done {
            Ok(_) => patience.mul_f64(0.93),
            Err(_) => patience.mul_f64(1.1),
        };
    }
    assert!(cut > 20, "they hang up");
    // The last one has its turn after them.
    let node = rig.node().await;
    let request = agent::ListAgentsRequest::default();
    let listed = AgentClient::new(rig.admin().await).list_agents(request).await;
    let there = listed.unwrap().into_inner().agents;
    assert!(there.len() > 10);
    drop(node);
    rig.tear_down().await;
    let records = crate::ledger::tests::read(&data.path().join("ledger"));
    let recorded: std::collections::BTreeSet<_> = records
        .iter()
        .filter(|record| record["type"] == "node.attested")
        .filter_map(|record| record["subject"].as_str())
        .collect();
    for agent in there {
        let id = format!("spiffe://{}{}", td(), agent.id.unwrap().path);
        assert!(recorded.contains(id.as_str()), "{id} is in, and has no record");
    }
}

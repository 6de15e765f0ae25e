//! What is judged thing by thing.

use super::*;

#[tokio::test]
async fn entries_tokens_and_nodes_are_judged_one_by_one() {
    let place = Place::new().await;
    let (ops, other) = (place.channel("enroller").await, place.channel("revoker").await);
    let chief = place.channel("chief").await;
    let node = &place.node.id;
    let theirs = place.rig.entry(node, "/line5/press", |_| {}).await;
    place.first("chief").await;
    let mut people = PeopleClient::new(chief);
    let enrols = vec![role(pb::Verb::Enrol, "spiffe://plant.test/line4/*")];
    people.grant(person("enroller", enrols)).await.unwrap();
    let revokes = vec![role(pb::Verb::Revoke, "spiffe://plant.test/line4/*")];
    people.grant(person("revoker", revokes)).await.unwrap();

    let mut entries = EntryClient::new(ops.clone());
    let wanted = |path: &str, downstream| types::Entry {
        spiffe_id: Some(wire(&SpiffeId::from_parts(&td(), path).unwrap())),
        parent_id: Some(wire(node)),
        selectors: vec![types::Selector {
            r#type: "unix".to_owned(),
            value: "uid:7".to_owned(),
        }],
        downstream,
        ..types::Entry::default()
    };
    let request = BatchCreateEntryRequest {
        entries: vec![
            wanted("/line4/robot", false),
            wanted("/line5/robot", false),
            wanted("/line4/server", true),
        ],
        output_mask: None,
    };
    let made = entries
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let code = |status: &Option<types::Status>| status.as_ref().unwrap().code;
    let codes: Vec<i32> = made.iter().map(|one| code(&one.status)).collect();
    assert_eq!(
        codes,
        [0, 7, 7],
        "only what is in the pattern, and nothing that signs"
    );
    let ours = made[0].entry.clone().unwrap();
    // Nor is one moved out of it, or another's touched.
    let moved = types::Entry {
        id: ours.id.clone(),
        ..wanted("/line5/robot", false)
    };
    let signing = types::Entry {
        id: ours.id.clone(),
        ..wanted("/line4/robot", true)
    };
    let taken = types::Entry {
        id: theirs.id.clone(),
        ..wanted("/line4/press", false)
    };
    let fine = types::Entry {
        id: ours.id.clone(),
        ..wanted("/line4/robot2", false)
    };
    let request = BatchUpdateEntryRequest {
        entries: vec![moved, signing, taken, fine],
        ..BatchUpdateEntryRequest::default()
    };
    let done = entries
        .batch_update_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<i32> = done.iter().map(|one| code(&one.status)).collect();
    assert_eq!(codes, [7, 7, 7, 0]);
    let tokens = |alias: Option<&str>| CreateJoinTokenRequest {
        ttl: 60,
        agent_id: alias.map(|path| wire(&SpiffeId::from_parts(&td(), path).unwrap())),
        ..CreateJoinTokenRequest::default()
    };
    let token = AgentClient::new(ops.clone())
        .create_join_token(tokens(Some("/line4/node")))
        .await;
    assert_eq!(
        token.unwrap_err().code(),
        Code::PermissionDenied,
        "a token makes a node"
    );
    let policy = landfast_proto::landfast::entry::v1::SetEntryPolicyRequest {
        policy: Some(landfast_proto::landfast::entry::v1::EntryPolicy {
            entry_id: theirs.id.clone(),
            description: "mine".to_owned(),
            ..Default::default()
        }),
        mask: Some(landfast_proto::landfast::entry::v1::EntryPolicyMask {
            description: true,
            ..Default::default()
        }),
        if_revision: 0,
    };
    let mut policies =
        landfast_proto::landfast::entry::v1::entry_policies_client::EntryPoliciesClient::new(ops.clone());
    let set = policies.set_entry_policy(policy).await;
    assert_eq!(
        set.unwrap_err().code(),
        Code::PermissionDenied,
        "the entry is another's"
    );

    let mut entries = EntryClient::new(other.clone());
    let request = BatchDeleteEntryRequest {
        ids: vec![theirs.id, ours.id],
    };
    let done = entries
        .batch_delete_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<i32> = done.iter().map(|one| code(&one.status)).collect();
    assert_eq!(codes, [7, 0]);
    let mut agents = AgentClient::new(other);
    let request = BanAgentRequest { id: Some(wire(node)) };
    let banned = agents.ban_agent(request).await;
    assert_eq!(
        banned.unwrap_err().code(),
        Code::PermissionDenied,
        "the node is in no pattern"
    );
    let request = landfast_proto::spire::api::server::agent::v1::DeleteAgentRequest { id: Some(wire(node)) };
    let evicted = agents.delete_agent(request).await;
    assert_eq!(evicted.unwrap_err().code(), Code::PermissionDenied);
    place.rig.tear_down().await;
}

#[tokio::test]
async fn only_persons_approve_and_only_what_is_in_their_pattern() {
    let place = Place::new().await;
    let admin = place.channel("by-config").await;
    let (chief, near, far) = (
        place.channel("chief").await,
        place.channel("near").await,
        place.channel("far").await,
    );
    let decide = async |channel: &Channel| {
        let request = DecideRequest {
            agent_id: place.node.id.to_string(),
            key: vec![7; 32].into(),
            approve: true,
        };
        let decided = RecoveryClient::new(channel.clone()).decide(request).await;
        decided.unwrap_err().code()
    };
    // There is no such request: who may approve is told so.
    assert_eq!(decide(&place.rig.admin().await).await, Code::NotFound, "as ever");
    assert_eq!(
        decide(&admin).await,
        Code::PermissionDenied,
        "nobody in particular, over the network"
    );
    place.first("chief").await;
    let mut people = PeopleClient::new(chief.clone());
    let approves = |pattern: &str| vec![role(pb::Verb::Approve, pattern)];
    people
        .grant(person("near", approves("spiffe://plant.test/spire/agent/*")))
        .await
        .unwrap();
    people
        .grant(person("far", approves("spiffe://plant.test/spire/agent/other/*")))
        .await
        .unwrap();
    assert_eq!(decide(&near).await, Code::NotFound);
    for other in [&far, &chief, &admin] {
        assert_eq!(decide(other).await, Code::PermissionDenied);
    }
    assert_eq!(
        decide(&place.rig.admin().await).await,
        Code::PermissionDenied,
        "root, or nobody"
    );
    place.rig.tear_down().await;
}

#[tokio::test]
async fn nothing_is_made_for_an_identity_that_is_a_login() {
    let place = Place::new().await;
    let chief = place.channel("chief").await;
    let old = place.rig.entry(&place.node.id, "/ops/chief", |_| {}).await;
    place.first("chief").await;
    let mut svids = SvidClient::new(chief.clone());
    let mut mint = async |path: &str| {
        let key = landfast_identity::PrivateKey::generate().unwrap();
        let id = SpiffeId::from_parts(&td(), path).unwrap();
        let csr = landfast_identity::build_csr(&key, Some(&id), &[]).unwrap().into();
        svids.mint_x509svid(MintX509svidRequest { csr, ttl: 600 }).await
    };
    let mut people = PeopleClient::new(chief.clone());
    // The chief may mint, and make entries.
    mint("/ops/other").await.unwrap();
    let more = pb::Change {
        person: people
            .who_am_i(pb::WhoAmIRequest {})
            .await
            .unwrap()
            .into_inner()
            .person,
        roles: vec![role(pb::Verb::Enrol, "")],
        ..pb::Change::default()
    };
    let request = pb::GrantRequest { change: Some(more) };
    people.grant(request).await.unwrap();
    let refused = mint("/ops/chief").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let mut tokens = SvidClient::new(chief.clone());
    let mut mint_token = async |path: &str| {
        let request = MintJwtsvidRequest {
            id: Some(wire(&SpiffeId::from_parts(&td(), path).unwrap())),
            ttl: 60,
            audience: vec!["x".to_owned()],
        };
        tokens.mint_jwtsvid(request).await
    };
    mint_token("/ops/other").await.unwrap();
    let refused = mint_token("/ops/chief").await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let mut entries = EntryClient::new(chief);
    let wanted = |id: &str, path: &str| types::Entry {
        id: id.to_owned(),
        spiffe_id: Some(wire(&SpiffeId::from_parts(&td(), path).unwrap())),
        parent_id: Some(wire(&place.node.id)),
        selectors: vec![types::Selector {
            r#type: "unix".to_owned(),
            value: "uid:8".to_owned(),
        }],
        ..types::Entry::default()
    };
    let request = BatchCreateEntryRequest {
        entries: vec![wanted("", "/ops/chief"), wanted("", "/line4/a")],
        output_mask: None,
    };
    let made = entries
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<i32> = made.iter().map(|one| one.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [9, 0]);
    let new = made[1].entry.clone().unwrap().id;
    let request = BatchUpdateEntryRequest {
        entries: vec![wanted(&old.id, "/line4/b"), wanted(&new, "/ops/chief")],
        ..BatchUpdateEntryRequest::default()
    };
    let done = entries
        .batch_update_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<i32> = done.iter().map(|one| one.status.as_ref().unwrap().code).collect();
    assert_eq!(codes, [9, 9]);
    place.rig.tear_down().await;
}

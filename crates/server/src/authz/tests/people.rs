//! Operators once there are persons.

use landfast_proto::REASON;
use landfast_proto::landfast::people::v1::{
    self as pb, login::Kind, people_client::PeopleClient, who_am_i_response::Standing,
};
use landfast_proto::landfast::recovery::v1::{DecideRequest, recovery_client::RecoveryClient};
use landfast_proto::spire::api::server::agent::v1::{BanAgentRequest, CreateJoinTokenRequest};
use landfast_proto::spire::api::server::entry::v1::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, entry_client::EntryClient,
};
use landfast_proto::spire::api::server::svid::v1::{MintX509svidRequest, svid_client::SvidClient};
use landfast_proto::spire::api::types;

use super::*;
use crate::people::Verb;

/// A server, and SVIDs that were made while there was nobody.
struct Place {
    rig: Rig,
    node: crate::server::rig::Node,
}

fn role(verb: pb::Verb, pattern: &str) -> pb::Role {
    pb::Role {
        verb: verb.into(),
        pattern: pattern.to_owned(),
    }
}

fn login(path: &str) -> pb::Login {
    pb::Login {
        kind: Some(Kind::SpiffeId(format!("spiffe://plant.test{path}"))),
    }
}

fn person(name: &str, roles: Vec<pb::Role>) -> pb::GrantRequest {
    let change = pb::Change {
        name: name.to_owned(),
        logins: vec![login(&format!("/ops/{name}"))],
        roles,
        ..pb::Change::default()
    };
    pb::GrantRequest { change: Some(change) }
}

impl Place {
    async fn new() -> Self {
        let config = |config: &mut crate::ServerConfig| {
            config.admin_ids = vec![SpiffeId::from_parts(&td(), "/ops/by-config").unwrap()];
        };
        let rig = Rig::with(config).await;
        let node = rig.node().await;
        Self { rig, node }
    }

    async fn channel(&self, name: &str) -> Channel {
        let svid = self.rig.mint(&format!("/ops/{name}")).await;
        self.rig.tls(Some(svid)).await.unwrap()
    }

    /// The first one, on the admin socket.
    async fn first(&self, name: &str) -> String {
        let roles = vec![role(pb::Verb::Administer, "")];
        let mut people = PeopleClient::new(self.rig.admin().await);
        let made = people.grant(person(name, roles)).await.unwrap().into_inner();
        assert_eq!(made.proposal, "");
        made.person
    }
}

fn denied(outcome: &Result<(), Status>) -> bool {
    let said = ["not allowed to ", "authorization denied"];
    outcome.as_ref().is_err_and(|status| {
        status.code() == Code::PermissionDenied && said.iter().any(|said| status.message().starts_with(said))
    })
}

#[tokio::test]
async fn with_persons_every_method_is_open_to_exactly_those_who_have_its_verb() {
    let place = Place::new().await;
    place
        .rig
        .entry(&place.node.id, "/ops/by-entry", |entry| entry.admin = true)
        .await;
    let verbs = [
        (Verb::Read, pb::Verb::Read, "read"),
        (Verb::Approve, pb::Verb::Approve, "approve"),
        (Verb::Enrol, pb::Verb::Enrol, "enrol"),
        (Verb::Revoke, pb::Verb::Revoke, "revoke"),
    ];
    let mut callers = vec![];
    for (verb, _, name) in verbs {
        callers.push((name, Some(verb), place.channel(name).await));
    }
    callers.push((
        "administer",
        Some(Verb::Administer),
        place.channel("administer").await,
    ));
    for name in ["by-config", "by-entry", "gone", "part"] {
        callers.push((name, None, place.channel(name).await));
    }
    place.first("administer").await;
    let mut people = PeopleClient::new(callers[4].2.clone());
    // There is one who can confirm, until the approver comes.
    let gone = people
        .grant(person("gone", vec![role(pb::Verb::Enrol, "")]))
        .await;
    let gone = gone.unwrap().into_inner().person;
    let withdraw = pb::WithdrawRequest {
        person: gone,
        deactivate: true,
        ..pb::WithdrawRequest::default()
    };
    people.withdraw(withdraw).await.unwrap();
    let part = vec![role(pb::Verb::Administer, "spiffe://plant.test/line4/*")];
    people.grant(person("part", part)).await.unwrap();
    // The approver last: from then on two have to agree.
    for (_, verb, name) in [0, 2, 3, 1].map(|n| verbs[n]) {
        let made = people.grant(person(name, vec![role(verb, "")])).await.unwrap();
        assert_eq!(made.into_inner().proposal, "", "{name}");
    }

    for (method, row, right) in TABLE.iter().filter(|(_, row, _)| row.contains(&Admin)) {
        let needed = right.verb().expect("an operator's method without a verb");
        for (name, verb, channel) in &callers {
            let reads = verb.is_some() && needed == Verb::Read;
            // Who administers a part reads something, and nothing as a whole.
            let some = *name == "part" && matches!(right, Right::Each(Verb::Read));
            let expected = *verb == Some(needed) || reads || some;
            let outcome = call(channel, method).await;
            assert_eq!(
                !denied(&outcome),
                expected,
                "{name} calls {method} {row:?}: {outcome:?}"
            );
        }
    }
    place.rig.tear_down().await;
}

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

#[tokio::test]
async fn two_persons_agree_over_the_network_and_whoami_says_who_is_who() {
    let place = Place::new().await;
    let mut one = PeopleClient::new(place.channel("one").await);
    let mut two = PeopleClient::new(place.channel("two").await);
    let mut three = PeopleClient::new(place.channel("three").await);
    let whoami = async |client: &mut PeopleClient<Channel>| {
        client.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner()
    };
    assert_eq!(whoami(&mut one).await.standing(), Standing::Nobody);
    let local = whoami(&mut PeopleClient::new(place.rig.admin().await)).await;
    assert_eq!(local.standing(), Standing::Administrator);
    let first = place.first("one").await;
    let both = || vec![role(pb::Verb::Administer, ""), role(pb::Verb::Approve, "")];
    let second = one.grant(person("two", both())).await.unwrap().into_inner();
    assert_eq!(second.proposal, "");
    assert!(
        second
            .notices
            .iter()
            .any(|notice| notice.contains("fewer than two")),
        "{second:?}"
    );
    let told = whoami(&mut two).await;
    assert_eq!((told.standing(), told.name.as_str()), (Standing::Person, "two"));
    assert_eq!(told.person, second.person);
    assert!(told.actor.ends_with(&format!("person {}", second.person)) && !told.actor.contains(" two"));
    assert_eq!(told.roles[1].pattern, "spiffe://plant.test/*");

    let third = one.grant(person("three", both())).await.unwrap().into_inner();
    assert_ne!(third.proposal, "");
    let listed = two
        .list_proposals(pb::ListProposalsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.proposals[0].id, third.proposal);
    assert_eq!(listed.proposals[0].agreed, std::slice::from_ref(&first));
    assert_eq!(whoami(&mut three).await.standing(), Standing::Nobody, "not yet");
    let confirm = || pb::ConfirmProposalRequest {
        id: third.proposal.clone(),
    };
    let same = one.confirm_proposal(confirm()).await.unwrap_err();
    assert_eq!(same.code(), Code::FailedPrecondition);
    let stranger = three.confirm_proposal(confirm()).await.unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
    let done = two.confirm_proposal(confirm()).await.unwrap().into_inner();
    assert_eq!(
        (done.person.as_str(), done.proposal.as_str()),
        (third.person.as_str(), "")
    );
    assert_eq!(whoami(&mut three).await.standing(), Standing::Person);
    // Leaving: the name and the login are gone, and with them the way in; the reference stays.
    let request = pb::ForgetRequest {
        person: third.person.clone(),
    };
    one.forget(request).await.unwrap();
    assert_eq!(whoami(&mut three).await.standing(), Standing::Nobody);
    let all = one
        .list_persons(pb::ListPersonsRequest {})
        .await
        .unwrap()
        .into_inner()
        .persons;
    let gone = all
        .iter()
        .find(|person| person.reference == third.person)
        .unwrap();
    assert!(gone.forgotten && gone.name.is_empty() && gone.logins.is_empty());
    assert_eq!(gone.agreed.as_ref().unwrap().persons.len(), 2);
    place.rig.tear_down().await;
}

#[tokio::test]
async fn a_reason_has_its_bounds_whoever_gives_it() {
    let place = Place::new().await;
    let mut people = PeopleClient::new(place.rig.admin().await);
    let mut ask = async |reason: &str| {
        let mut request = Request::new(pb::WhoAmIRequest {});
        request.metadata_mut().insert(REASON, reason.parse().unwrap());
        people.who_am_i(request).await.map(|_| ())
    };
    ask("ticket 7: pump 4 was replaced").await.unwrap();
    for bad in ["a%0Ab", "a%1B[2J", "%zz", &"x".repeat(600)] {
        assert_eq!(ask(bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
    }
    place.rig.tear_down().await;
}

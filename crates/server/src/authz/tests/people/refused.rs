//! What is refused, and what two have agreed to, as the ledger has it.

use landfast_proto::landfast::entry::v1::{
    EntryPolicy, EntryPolicyMask, SetEntryPolicyRequest, ThirdParty,
    entry_policies_client::EntryPoliciesClient,
};
use serde_json::Value;

use super::*;
use crate::ledger::tests::{read, report};

fn with_reason<T>(message: T, reason: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(REASON, reason.parse().unwrap());
    request
}

fn of_type<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["type"] == kind).collect()
}

#[tokio::test]
async fn whom_the_table_or_a_handler_refuses_is_in_the_ledger_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let place = Place::recording(data.path()).await;
    let (chief, desk) = (place.channel("chief").await, place.channel("desk").await);
    let (part, revoker) = (place.channel("part").await, place.channel("revoker").await);
    let workload = place
        .rig
        .tls(Some(place.rig.mint("/line4/robot").await))
        .await
        .unwrap();
    let vendor = place
        .rig
        .tls(Some(place.rig.mint("/vendor").await))
        .await
        .unwrap();
    let entry = place
        .rig
        .entry(&place.node.id, "/vendor", |entry| {
            entry.expires_at = 4_000_000_000
        })
        .await;
    let sponsor = place.first("chief").await;
    let mut people = PeopleClient::new(chief);
    let enrols = |pattern: &str| vec![role(pb::Verb::Enrol, pattern)];
    people.grant(person("desk", enrols(""))).await.unwrap();
    let revokes = vec![role(pb::Verb::Revoke, "")];
    people.grant(person("revoker", revokes)).await.unwrap();
    let limited = people
        .grant(person("part", enrols("spiffe://plant.test/line4/*")))
        .await;
    let limited = limited.unwrap().into_inner().person;
    let policy = SetEntryPolicyRequest {
        policy: Some(EntryPolicy {
            entry_id: entry.id,
            third_party: Some(ThirdParty {
                sponsor,
                contract: "C-7".to_owned(),
            }),
            ..EntryPolicy::default()
        }),
        mask: Some(EntryPolicyMask {
            third_party: true,
            ..EntryPolicyMask::default()
        }),
        if_revision: 0,
    };
    EntryPoliciesClient::new(desk.clone())
        .set_entry_policy(policy)
        .await
        .unwrap();

    // By the table, and by a handler.
    let ban = || BanAgentRequest {
        id: Some(wire(&place.node.id)),
    };
    let by_table = AgentClient::new(part.clone())
        .ban_agent(with_reason(ban(), "it%20hums"))
        .await;
    assert_eq!(by_table.unwrap_err().code(), Code::PermissionDenied);
    let wanted = types::Entry {
        spiffe_id: Some(wire(&SpiffeId::from_parts(&td(), "/line5/press").unwrap())),
        parent_id: Some(wire(&place.node.id)),
        selectors: vec![types::Selector {
            r#type: "unix".to_owned(),
            value: "uid:7".to_owned(),
        }],
        ..types::Entry::default()
    };
    let request = BatchCreateEntryRequest {
        entries: vec![wanted],
        output_mask: None,
    };
    let made = EntryClient::new(part).batch_create_entry(request).await.unwrap();
    assert_eq!(made.into_inner().results[0].status.as_ref().unwrap().code, 7);
    // Those who are no operators, one that is nobody, and a node that is banned.
    let count = "/spire.api.server.agent.v1.Agent/CountAgents";
    let stranger = place.rig.tls(None).await.unwrap();
    for channel in [&workload, &vendor, &stranger] {
        assert!(denied(&call(channel, count).await));
    }
    let sync = "/spire.api.server.entry.v1.Entry/GetAuthorizedEntries";
    let of_agents = call(&place.rig.admin().await, sync).await;
    assert!(denied(&of_agents), "{of_agents:?}");
    AgentClient::new(revoker).ban_agent(ban()).await.unwrap();
    assert!(denied(&call(&place.node.channel, sync).await));
    let node = place.node.id.to_string();
    drop((people, desk, workload, vendor, stranger));
    let Place { rig, node: agent } = place;
    drop(agent);
    rig.tear_down().await;

    let dir = data.path().join("ledger");
    assert!(report(&dir).is_good());
    let records = read(&dir);
    let operators = of_type(&records, "operator.denied");
    let [by_table, by_handler] = operators[..] else {
        panic!("{operators:?}")
    };
    for record in operators {
        assert_eq!(
            (&record["decision"], &record["result"]),
            (&"deny".into(), &"refused".into())
        );
        assert_eq!(record["actor"]["class"], "person");
        assert_eq!(record["actor"]["id"], limited.as_str());
        assert!(
            record["reason"]
                .as_str()
                .unwrap()
                .contains("no role that covers it"),
            "{record}"
        );
    }
    assert_eq!(
        by_table["detail"]["method"],
        "/spire.api.server.agent.v1.Agent/BanAgent"
    );
    assert_eq!(
        (&by_table["detail"]["verb"], &by_table["detail"]["said"]),
        (&"revoke".into(), &"it hums".into())
    );
    assert_eq!(by_handler["target"], "spiffe://plant.test/line5/press");
    assert_eq!(by_handler["detail"]["verb"], "enrol");

    let calls = of_type(&records, "call.denied");
    let of_class = |class: &str| {
        let found: Vec<_> = calls
            .iter()
            .filter(|record| record["actor"]["class"] == class)
            .collect();
        assert_eq!(found.len(), 1, "{class}: {calls:?}");
        found[0]
    };
    assert_eq!(
        of_class("workload")["actor"]["id"],
        "spiffe://plant.test/line4/robot"
    );
    assert_eq!(
        of_class("third-party")["actor"]["id"],
        "spiffe://plant.test/vendor"
    );
    assert_eq!(of_class("node")["actor"]["id"], node.as_str());
    assert_eq!(of_class("node")["reason"], "the node is banned");
    assert!(
        of_class("unknown")["actor"]["how"]["uid"].is_number(),
        "a process of the machine"
    );
    let failed = of_type(&records, "call.failed");
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["actor"]["how"]["address"], "127.0.0.1");
}

/// The trail of two who agree: what, under which proposal, and who; and of one who tries to be two.
#[tokio::test]
async fn what_two_have_agreed_to_and_who_tried_alone_is_in_the_ledger() {
    let data = tempfile::tempdir().unwrap();
    let place = Place::recording(data.path()).await;
    let mut one = PeopleClient::new(place.channel("one").await);
    let mut two = PeopleClient::new(place.channel("two").await);
    let first = place.first("one").await;
    let both = || vec![role(pb::Verb::Administer, ""), role(pb::Verb::Approve, "")];
    let second = one
        .grant(person("two", both()))
        .await
        .unwrap()
        .into_inner()
        .person;
    let change = pb::Change {
        name: "Lee Lind".to_owned(),
        logins: vec![pb::Login {
            kind: Some(Kind::Oidc(pb::Oidc {
                issuer: "https://id.plant.test".to_owned(),
                subject: "lee.lind".to_owned(),
            })),
        }],
        roles: vec![role(pb::Verb::Enrol, "spiffe://plant.test/line4/*")],
        ..pb::Change::default()
    };
    let request = || pb::GrantRequest {
        change: Some(change.clone()),
    };
    let waits = one.grant(request()).await.unwrap().into_inner();
    let confirm = |id: &str| pb::ConfirmProposalRequest { id: id.to_owned() };
    let same = one.confirm_proposal(confirm(&waits.proposal)).await.unwrap_err();
    assert_eq!(same.code(), Code::FailedPrecondition);
    let none = one.confirm_proposal(confirm("Lee Lind")).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    two.confirm_proposal(confirm(&waits.proposal)).await.unwrap();
    let taken = one.grant(request()).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    let withdraw = pb::WithdrawRequest {
        person: waits.person.clone(),
        deactivate: true,
        ..pb::WithdrawRequest::default()
    };
    two.withdraw(withdraw).await.unwrap();
    drop((one, two));
    let Place { rig, node } = place;
    drop(node);
    rig.tear_down().await;

    let dir = data.path().join("ledger");
    assert!(report(&dir).is_good());
    let records = read(&dir);
    let proposed = of_type(&records, "person.proposed");
    assert_eq!(proposed.len(), 1);
    assert_eq!(proposed[0]["detail"]["proposal"], waits.proposal.as_str());
    assert_eq!(proposed[0]["detail"]["agreed"], Value::from(vec![first.clone()]));
    let changed = of_type(&records, "person.changed");
    let [.., given, gone] = changed[..] else {
        panic!("{changed:?}")
    };
    for record in [proposed[0], given] {
        assert_eq!(record["subject"], waits.person.as_str());
        assert_eq!(record["detail"]["logins"][0], "oidc:https://id.plant.test");
        assert_eq!(record["detail"]["roles"][0], "enrol:spiffe://plant.test/line4/*");
    }
    assert_eq!(given["approval"], waits.proposal.as_str());
    assert_eq!(given["detail"]["proposal"], waits.proposal.as_str());
    assert_eq!(given["actor"]["id"], second.as_str());
    let mut agreed = vec![first.clone(), second];
    agreed.sort();
    assert_eq!(given["detail"]["agreed"], Value::from(agreed));
    assert_eq!(given["detail"]["alone"], false);
    assert_eq!(
        (&gone["detail"]["action"], &gone["approval"]),
        (&"deactivate".into(), &Value::Null)
    );

    let refused = of_type(&records, "operator.denied");
    let [same, none, taken] = refused[..] else {
        panic!("{refused:?}")
    };
    for record in &refused {
        assert_eq!(record["actor"]["id"], first.as_str());
        assert_eq!(record["decision"], "deny");
    }
    let says = |record: &Value, what: &str| record["reason"].as_str().is_some_and(|why| why.contains(what));
    assert!(says(same, "confirm: you have agreed"), "{same}");
    assert_eq!(same["target"], waits.proposal.as_str());
    assert!(
        says(none, "no such proposal") && none["target"].is_null(),
        "{none}"
    );
    assert!(says(taken, "oidc:https://id.plant.test belongs to"), "{taken}");
    assert!(
        records
            .iter()
            .all(|record| !record.to_string().to_lowercase().contains("lind"))
    );
}

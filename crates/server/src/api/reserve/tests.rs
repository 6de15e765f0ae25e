//! Rungs and tokens over real connections: what is signed, what is refused, who may ask, and what is said of it afterwards.

use std::time::Duration;

use landfast_identity::{Certificate, PrivateKey, SpiffeId, build_csr};
use landfast_lifecycle::{Clock, SystemClock};
use landfast_proto::landfast::entry::v1 as policy;
use landfast_proto::landfast::entry::v1::entry_policies_client::EntryPoliciesClient;
use landfast_proto::landfast::reserve::v1::debts_client::DebtsClient;
use landfast_proto::landfast::reserve::v1::reserve_client::ReserveClient;
use landfast_proto::spire::api::server::agent::v1::{BanAgentRequest, agent_client::AgentClient};
use landfast_proto::spire::api::server::entry::v1 as entry;
use landfast_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use landfast_proto::spire::api::types;
use tonic::Code;

use super::*;
use crate::reserve::ReserveLimits;
use crate::server::rig::{Node, Rig, wire};

/// Authorities live for a day, so three hours fit.
async fn rig() -> Rig {
    let limits = ReserveLimits {
        longest: Duration::from_secs(3 * HOUR.unsigned_abs()),
        longest_token: Duration::from_secs(4 * HOUR.unsigned_abs()),
    };
    Rig::with(|config| config.reserve = limits).await
}

const HOUR: i64 = 3600;

async fn set(
    rig: &Rig,
    id: &str,
    change: impl FnOnce(&mut policy::EntryPolicy, &mut policy::EntryPolicyMask),
) -> Result<policy::EntryPolicy, Status> {
    let mut wanted = policy::EntryPolicy {
        entry_id: id.into(),
        ..policy::EntryPolicy::default()
    };
    let mut mask = policy::EntryPolicyMask::default();
    change(&mut wanted, &mut mask);
    let request = policy::SetEntryPolicyRequest {
        policy: Some(wanted),
        mask: Some(mask),
        if_revision: 0,
    };
    let mut client = EntryPoliciesClient::new(rig.admin().await);
    client.set_entry_policy(request).await.map(Response::into_inner)
}

async fn reserve(rig: &Rig, id: &str, seconds: i64) -> Result<policy::EntryPolicy, Status> {
    set(rig, id, |policy, mask| {
        policy.offline_reserve_seconds = seconds.try_into().unwrap();
        mask.offline_reserve_seconds = true;
    })
    .await
}

fn now() -> i64 {
    SystemClock.now().unwrap().as_secs()
}

fn rung(entry: &str, not_before: i64) -> pb::NewRung {
    let key = PrivateKey::generate().unwrap();
    pb::NewRung {
        entry_id: entry.into(),
        csr: build_csr(&key, None, &[]).unwrap().into(),
        not_before,
    }
}

async fn ask(node: &Node, rungs: Vec<pb::NewRung>) -> Result<Vec<pb::Rung>, Status> {
    let mut client = ReserveClient::new(node.channel.clone());
    let answer = client.new_rungs(pb::NewRungsRequest { rungs }).await?;
    Ok(answer.into_inner().rungs)
}

fn code(rung: &pb::Rung) -> Code {
    let code = Code::from(rung.status.as_ref().unwrap().code);
    assert_eq!(rung.svid.is_some(), code == Code::Ok);
    code
}

async fn debts(rig: &Rig, request: pb::ListDebtsRequest) -> pb::ListDebtsResponse {
    let mut client = DebtsClient::new(rig.admin().await);
    client.list_debts(request).await.unwrap().into_inner()
}

async fn update(rig: &Rig, change: types::Entry, mask: types::EntryMask) {
    let request = entry::BatchUpdateEntryRequest {
        entries: vec![change],
        input_mask: Some(mask),
        output_mask: None,
    };
    let mut client = EntryClient::new(rig.admin().await);
    let done = client.batch_update_entry(request).await.unwrap().into_inner();
    assert_eq!(done.results[0].status.as_ref().unwrap().code, 0);
}

async fn set_ttl(rig: &Rig, id: &str, x509_svid_ttl: i32) {
    let change = types::Entry {
        id: id.into(),
        x509_svid_ttl,
        ..types::Entry::default()
    };
    let mask = types::EntryMask {
        x509_svid_ttl: true,
        ..types::EntryMask::default()
    };
    update(rig, change, mask).await;
}

#[tokio::test]
async fn a_ladder_is_signed_rung_by_rung_and_is_a_debt_until_it_is_revoked() {
    let rig = rig().await;
    let node = rig.node().await;
    let id = rig
        .entry(&node.id, "/line4/pump", |entry| entry.hint = "p".into())
        .await
        .id;
    reserve(&rig, &id, 2 * HOUR).await.unwrap();
    let begin = now();
    let steps: Vec<_> = (0..5).map(|n| begin + n * HOUR / 2).collect();
    let made = ask(&node, steps.iter().map(|at| rung(&id, *at)).collect())
        .await
        .unwrap();
    for (rung, begins) in made.iter().zip(&steps) {
        assert_eq!(code(rung), Code::Ok, "{:?}", rung.status);
        let svid = rung.svid.as_ref().unwrap();
        assert_eq!((svid.hint.as_str(), svid.expires_at), ("p", begins + HOUR));
        assert_eq!(svid.id.as_ref().unwrap().path, "/line4/pump");
        let leaf = Certificate::from_der(&svid.cert_chain[0]).unwrap();
        assert_eq!(
            (leaf.not_before().as_secs(), leaf.not_after().as_secs()),
            (*begins, begins + HOUR)
        );
    }
    let all = debts(&rig, pb::ListDebtsRequest::default()).await;
    let debt = pb::Debt {
        agent_id: node.id.to_string(),
        entry_id: id.clone(),
        rungs: 5,
        ends_at: begin + 3 * HOUR,
    };
    assert_eq!(
        (all.debts, all.next_page_token.as_str()),
        (vec![debt.clone()], "")
    );
    let of = |agent: &SpiffeId, entry: &str| pb::ListDebtsRequest {
        agent_ids: vec![agent.to_string()],
        entry_ids: vec![entry.to_owned()],
        ..pb::ListDebtsRequest::default()
    };
    assert_eq!(
        debts(&rig, of(&node.id, &id)).await.debts,
        std::slice::from_ref(&debt)
    );
    let other = rig.node().await;
    assert!(debts(&rig, of(&other.id, &id)).await.debts.is_empty());
    // Page by page.
    let second = rig.entry(&node.id, "/line4/press", |_| {}).await.id;
    reserve(&rig, &second, HOUR).await.unwrap();
    ask(&node, vec![rung(&second, begin)]).await.unwrap();
    let one = |page_token| pb::ListDebtsRequest {
        page_size: 1,
        page_token,
        ..pb::ListDebtsRequest::default()
    };
    let first = debts(&rig, one(String::new())).await;
    let next = debts(&rig, one(first.next_page_token)).await;
    let mut seen = [first.debts[0].entry_id.clone(), next.debts[0].entry_id.clone()];
    seen.sort();
    let mut both = [id.clone(), second.clone()];
    both.sort();
    assert_eq!(seen, both);
    let end = debts(&rig, one(next.next_page_token)).await;
    assert_eq!((end.debts.len(), end.next_page_token.as_str()), (0, ""));
    // What is deleted is owed no more, nor what a banned node has.
    let request = entry::BatchDeleteEntryRequest { ids: vec![second] };
    EntryClient::new(rig.admin().await)
        .batch_delete_entry(request)
        .await
        .unwrap();
    let left = debts(&rig, pb::ListDebtsRequest::default()).await;
    assert_eq!(left.debts, [debt]);
    let request = BanAgentRequest {
        id: Some(wire(&node.id)),
    };
    AgentClient::new(rig.admin().await)
        .ban_agent(request)
        .await
        .unwrap();
    assert!(
        debts(&rig, pb::ListDebtsRequest::default())
            .await
            .debts
            .is_empty()
    );
    assert_eq!(
        ask(&node, vec![rung(&id, begin)]).await.unwrap_err().code(),
        Code::PermissionDenied
    );
    rig.tear_down().await;
}

#[tokio::test]
async fn what_the_policy_does_not_allow_is_refused_by_itself() {
    let rig = rig().await;
    let (node, other) = (rig.node().await, rig.node().await);
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    let plain = rig.entry(&node.id, "/line4/plain", |_| {}).await.id;
    let soon = now() + HOUR + 60;
    let brief = rig.entry(&node.id, "/line4/brief", |entry| entry.expires_at = soon);
    let brief = brief.await.id;
    let foreign = rig.entry(&other.id, "/line5/pump", |_| {}).await.id;
    for id in [&id, &brief, &foreign] {
        reserve(&rig, id, 2 * HOUR).await.unwrap();
    }
    let begin = now();
    let bad = pb::NewRung {
        csr: vec![1, 2, 3].into(),
        ..rung(&id, begin)
    };
    let cases = [
        (rung(&id, begin), Code::Ok),
        (rung(&id, begin - 240), Code::Ok),
        (rung(&id, begin - 600), Code::OutOfRange),
        (rung(&id, begin + 2 * HOUR - 5), Code::Ok),
        (rung(&id, begin + 2 * HOUR + 300), Code::OutOfRange),
        (rung(&id, i64::MAX), Code::OutOfRange),
        (rung(&id, i64::MIN), Code::OutOfRange),
        (bad, Code::InvalidArgument),
        (rung(&plain, begin), Code::FailedPrecondition),
        (rung(&brief, begin), Code::Ok),
        (rung(&brief, begin + 600), Code::FailedPrecondition),
        (rung(&foreign, begin), Code::NotFound),
        (rung("none", begin), Code::NotFound),
    ];
    let (rungs, codes): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let answers = ask(&node, rungs).await.unwrap();
    assert_eq!(answers.iter().map(code).collect::<Vec<_>>(), codes);
    // The TTL of the entry is changed when its policy is set: what is longer than the authority waits, and no more rungs are had than before.
    set_ttl(&rig, &id, 23 * 3600).await;
    let answers = ask(&node, vec![rung(&id, begin), rung(&id, begin + HOUR + 60)])
        .await
        .unwrap();
    assert_eq!(
        answers.iter().map(code).collect::<Vec<_>>(),
        [Code::Ok, Code::Unavailable]
    );
    set_ttl(&rig, &id, 10).await;
    let answers = ask(&node, vec![rung(&id, begin + 2400), rung(&id, begin + 2700)])
        .await
        .unwrap();
    assert_eq!(
        answers.iter().map(code).collect::<Vec<_>>(),
        [Code::Ok, Code::OutOfRange]
    );
    let privileged = |policy: &mut policy::EntryPolicy, mask: &mut policy::EntryPolicyMask| {
        (policy.privileged, mask.privileged) = (true, true);
        mask.offline_reserve_seconds = true;
    };
    set(&rig, &id, privileged).await.unwrap();
    let answers = ask(&node, vec![rung(&id, begin)]).await.unwrap();
    assert_eq!(code(&answers[0]), Code::FailedPrecondition);
    for count in [0, 65] {
        let many = vec![rung(&brief, begin); count];
        assert_eq!(
            ask(&node, many).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{count}"
        );
    }
    assert_eq!(ask(&node, vec![rung(&brief, begin); 64]).await.unwrap().len(), 64);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_policy_is_refused_with_the_sum_that_does_not_fit() {
    let rig = rig().await;
    let node = rig.node().await;
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    let admin = rig.entry(&node.id, "/ops", |entry| entry.admin = true).await.id;
    let refused = |outcome: Result<policy::EntryPolicy, Status>, says: &str| {
        let status = outcome.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(status.message().contains(says), "{status}");
    };
    refused(
        reserve(&rig, &id, 3 * HOUR + 1).await,
        "[reserve] longest, which is 10800 s",
    );
    refused(reserve(&rig, &admin, HOUR).await, "admin");
    set_ttl(&rig, &id, 20).await;
    refused(reserve(&rig, &id, 3 * HOUR).await, "1081 X.509-SVIDs");
    set_ttl(&rig, &id, 2 * 3600).await;
    refused(reserve(&rig, &id, 3 * HOUR).await, "108000 s");
    let kept = reserve(&rig, &id, 2 * HOUR).await.unwrap();
    let half = |policy: &mut policy::EntryPolicy, mask: &mut policy::EntryPolicyMask| {
        (policy.privileged, mask.privileged) = (true, true);
    };
    refused(set(&rig, &id, half).await, "privileged");
    let token = |seconds| {
        move |policy: &mut policy::EntryPolicy, mask: &mut policy::EntryPolicyMask| {
            mask.jwt_offline = true;
            policy.jwt_offline = vec![policy::JwtOffline {
                audience: "historian".into(),
                seconds,
            }];
        }
    };
    refused(set(&rig, &id, token(14_401)).await, "longest_token");
    refused(set(&rig, &id, token(0)).await, "from 1 s");
    let mut client = EntryPoliciesClient::new(rig.admin().await);
    let request = policy::GetEntryPoliciesRequest { entry_ids: vec![id] };
    let stored = client.get_entry_policies(request).await.unwrap().into_inner();
    assert_eq!(stored.policies, [kept]);
    rig.tear_down().await;
    // By default nobody has anything.
    let rig = Rig::new().await;
    let node = rig.node().await;
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    refused(reserve(&rig, &id, 1).await, "[reserve] longest is 0s");
    refused(set(&rig, &id, token(1)).await, "longest_token is 0s");
    rig.tear_down().await;
}

#[tokio::test]
async fn a_token_for_later_is_had_for_declared_audiences_alone() {
    let rig = rig().await;
    let (node, other) = (rig.node().await, rig.node().await);
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    let foreign = rig.entry(&other.id, "/line5/pump", |_| {}).await.id;
    for id in [&id, &foreign] {
        let declare = |policy: &mut policy::EntryPolicy, mask: &mut policy::EntryPolicyMask| {
            mask.jwt_offline = true;
            policy.jwt_offline = vec![policy::JwtOffline {
                audience: "historian".into(),
                seconds: 7200,
            }];
        };
        set(&rig, id, declare).await.unwrap();
    }
    let get = |entry_id: &str, audience: &str| {
        let request = pb::NewTokenRequest {
            entry_id: entry_id.into(),
            audience: audience.into(),
        };
        let mut client = ReserveClient::new(node.channel.clone());
        async move { client.new_token(request).await.map(Response::into_inner) }
    };
    let before = now();
    let token = get(&id, "historian").await.unwrap().svid.unwrap();
    assert!((before + 7200..=now() + 7200).contains(&token.expires_at));
    assert_eq!(token.id.unwrap().path, "/line4/pump");
    assert_eq!(token.token.split('.').count(), 3);
    let refusals = [
        (id.as_str(), "mqtt", Code::FailedPrecondition),
        (&id, "", Code::FailedPrecondition),
        (&foreign, "historian", Code::NotFound),
        ("none", "historian", Code::NotFound),
    ];
    for (entry, audience, code) in refusals {
        assert_eq!(get(entry, audience).await.unwrap_err().code(), code, "{audience}");
    }
    assert!(
        debts(&rig, pb::ListDebtsRequest::default())
            .await
            .debts
            .is_empty(),
        "a token is no rung"
    );
    rig.tear_down().await;
}

/// Rights go by the identity: of one that another entry makes an administrator's, none lies about.
#[tokio::test]
async fn an_identity_that_another_entry_makes_powerful_is_not_given_ahead() {
    let rig = rig().await;
    let node = rig.node().await;
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    reserve(&rig, &id, HOUR).await.unwrap();
    rig.entry(&node.id, "/line4/pump", |entry| {
        entry.admin = true;
        entry.selectors[0].value = "uid:4242".to_owned();
    })
    .await;
    let asked = ask(&node, vec![rung(&id, now() + 60)]).await.unwrap();
    assert_eq!(code(&asked[0]), Code::InvalidArgument, "{:?}", asked[0].status);
    let refused = reserve(&rig, &id, 2 * HOUR).await.unwrap_err();
    assert!(refused.message().contains("admin"), "{refused}");
    rig.tear_down().await;
}

/// By name, not by what the table says.
#[tokio::test]
async fn only_agents_have_rungs_and_only_operators_see_debts() {
    let rig = rig().await;
    let node = rig.node().await;
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    rig.entry(&node.id, "/nested", |entry| entry.downstream = true)
        .await;
    rig.entry(&node.id, "/ops", |entry| entry.admin = true).await;
    reserve(&rig, &id, HOUR).await.unwrap();
    let minted = |path: &'static str| {
        let rig = &rig;
        async move { rig.tls(Some(rig.mint(path).await)).await.unwrap() }
    };
    let strangers = [
        ("nobody", rig.tls(None).await.unwrap()),
        ("the workload itself", minted("/line4/pump").await),
        ("a server below", minted("/nested").await),
    ];
    let (operator, admin) = (rig.admin().await, minted("/ops").await);
    let refused = |outcome: Result<(), Status>, who: &str| {
        assert_eq!(outcome.unwrap_err().code(), Code::PermissionDenied, "{who}");
    };
    let others = strangers.iter().map(|(who, channel)| (*who, channel));
    let others = others.chain([("the operator", &operator), ("an administrator", &admin)]);
    for (who, channel) in others {
        let mut client = ReserveClient::new(channel.clone());
        let rungs = vec![rung(&id, now())];
        let rungs = client.new_rungs(pb::NewRungsRequest { rungs }).await;
        refused(rungs.map(|_| ()), who);
        let token = client.new_token(pb::NewTokenRequest::default()).await;
        refused(token.map(|_| ()), who);
    }
    let agent = [("the agent", node.channel.clone())];
    for (who, channel) in strangers.into_iter().chain(agent) {
        let mut client = DebtsClient::new(channel);
        let listed = client.list_debts(pb::ListDebtsRequest::default()).await;
        refused(listed.map(|_| ()), who);
    }
    for channel in [operator, admin] {
        let mut client = DebtsClient::new(channel);
        let mut list = async |request| client.list_debts(request).await.map(|_| ()).map_err(|e| e.code());
        assert_eq!(list(pb::ListDebtsRequest::default()).await, Ok(()));
        let many = pb::ListDebtsRequest {
            agent_ids: vec![String::new(); 501],
            ..pb::ListDebtsRequest::default()
        };
        assert_eq!(list(many).await, Err(Code::InvalidArgument));
        let token = pb::ListDebtsRequest {
            page_token: "x".into(),
            ..pb::ListDebtsRequest::default()
        };
        assert_eq!(list(token).await, Err(Code::InvalidArgument));
        let negative = pb::ListDebtsRequest {
            page_size: -1,
            ..pb::ListDebtsRequest::default()
        };
        assert_eq!(list(negative).await, Err(Code::InvalidArgument));
    }
    rig.tear_down().await;
}

/// Whoever has a node's SVID for a minute has no more ahead than the node may have.
#[tokio::test]
async fn a_node_has_no_more_ahead_than_its_reserve_takes_and_each_with_a_key_of_its_own() {
    let rig = rig().await;
    let node = rig.node().await;
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    reserve(&rig, &id, HOUR).await.unwrap();
    let twin = rung(&id, now());
    let answers = ask(&node, vec![twin.clone(), twin.clone()]).await.unwrap();
    assert_eq!(
        answers.iter().map(code).collect::<Vec<_>>(),
        [Code::Ok, Code::InvalidArgument]
    );
    let answers = ask(&node, vec![twin]).await.unwrap();
    assert_eq!(code(&answers[0]), Code::InvalidArgument);
    // Three rungs of an hour each, and a batch: twice.
    let most = 2 * (3 + 64);
    let (mut signed, mut last) = (1, Code::Ok);
    // Each begins before the one that was asked for before, and so takes the place of none.
    let mut begins = (0..).map(|n| now() + 3000 - 2 * n);
    for _ in 0..3 {
        let batch = begins.by_ref().take(64).map(|begins| rung(&id, begins));
        let answers = ask(&node, batch.collect()).await;
        for answer in answers.unwrap() {
            last = code(&answer);
            signed += usize::from(last == Code::Ok);
            if last == Code::ResourceExhausted {
                let message = answer.status.unwrap().message;
                assert!(message.contains("--offline-reserve"), "{message}");
            }
        }
    }
    assert_eq!((signed, last), (most, Code::ResourceExhausted));
    let other = rig.entry(&node.id, "/line4/valve", |_| {}).await.id;
    reserve(&rig, &other, HOUR).await.unwrap();
    let answers = ask(&node, vec![rung(&other, now()), rung(&id, now())])
        .await
        .unwrap();
    assert_eq!(
        answers.iter().map(code).collect::<Vec<_>>(),
        [Code::Ok, Code::ResourceExhausted]
    );
    // All that is out is marked, and it begins anew.
    reserve(&rig, &id, 0).await.unwrap();
    reserve(&rig, &id, HOUR).await.unwrap();
    let answers = ask(&node, vec![rung(&id, now())]).await.unwrap();
    assert_eq!(code(&answers[0]), Code::Ok);
    rig.tear_down().await;
}

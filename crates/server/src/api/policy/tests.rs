//! Policies over real connections: what is answered, what is refused, and what SPIRE's methods leave alone.

use landfast_proto::landfast::entry::v1::{self as pb, entry_policies_client::EntryPoliciesClient};
use landfast_proto::spire::api::server::entry::v1 as entry;
use landfast_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use landfast_proto::spire::api::types;
use tonic::Code;
use tonic::transport::Channel;

use crate::server::rig::Rig;

type Client = EntryPoliciesClient<Channel>;

fn set(id: &str, description: &str) -> pb::SetEntryPolicyRequest {
    pb::SetEntryPolicyRequest {
        policy: Some(pb::EntryPolicy {
            entry_id: id.into(),
            description: description.into(),
            availability_first: true,
            ..pb::EntryPolicy::default()
        }),
        mask: Some(pb::EntryPolicyMask {
            description: true,
            availability_first: true,
            ..pb::EntryPolicyMask::default()
        }),
        if_revision: 0,
    }
}

async fn get(client: &mut Client, ids: &[&str]) -> Result<Vec<pb::EntryPolicy>, (Code, String)> {
    let entry_ids = ids.iter().map(|id| (*id).to_owned()).collect();
    let request = pb::GetEntryPoliciesRequest { entry_ids };
    let answer = client.get_entry_policies(request).await;
    answer
        .map(|answer| answer.into_inner().policies)
        .map_err(|status| (status.code(), status.message().to_owned()))
}

#[tokio::test]
async fn a_policy_is_set_and_shown_and_outlives_what_spires_tools_do() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let first = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    let second = rig.entry(&node.id, "/line4/press", |_| {}).await.id;
    let mut client = EntryPoliciesClient::new(rig.admin().await);
    let made = client
        .set_entry_policy(set(&second, "press, hall 2"))
        .await
        .unwrap()
        .into_inner();
    assert!(made.revision > 0 && made.availability_first);
    let both = get(&mut client, &[&second, &first]).await.unwrap();
    let defaults = pb::EntryPolicy {
        entry_id: first.clone(),
        ..Default::default()
    };
    assert_eq!(both, [made.clone(), defaults], "in the order of the IDs");
    assert_eq!(get(&mut client, &[]).await.unwrap(), []);
    // SPIRE's update knows nothing of it, with whatever mask.
    let mut entries = EntryClient::new(rig.admin().await);
    let update = entry::BatchUpdateEntryRequest {
        entries: vec![types::Entry {
            id: second.clone(),
            hint: "h".into(),
            ..Default::default()
        }],
        input_mask: Some(types::EntryMask {
            hint: true,
            ..Default::default()
        }),
        output_mask: None,
    };
    let updated = entries.batch_update_entry(update).await.unwrap().into_inner();
    assert_eq!(updated.results[0].status.as_ref().unwrap().code, 0);
    assert_eq!(get(&mut client, &[&second]).await.unwrap(), [made]);
    let delete = entry::BatchDeleteEntryRequest {
        ids: vec![second.clone()],
    };
    entries.batch_delete_entry(delete).await.unwrap();
    let gone = get(&mut client, &[&first, &second]).await.unwrap_err();
    assert_eq!(gone, (Code::NotFound, format!("no entry {second}")));
    rig.tear_down().await;
}

#[tokio::test]
async fn what_is_no_change_of_a_policy_is_refused_and_changes_nothing() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    let mut client = EntryPoliciesClient::new(rig.admin().await);
    let made = client.set_entry_policy(set(&id, "pump 4")).await.unwrap();
    let made = made.into_inner();
    let with = |change: fn(&mut pb::SetEntryPolicyRequest)| {
        let mut request = set(&id, "other");
        change(&mut request);
        request
    };
    let stale = pb::SetEntryPolicyRequest {
        if_revision: made.revision + 1,
        ..set(&id, "other")
    };
    let cases = [
        (with(|r| r.policy = None), Code::InvalidArgument),
        (with(|r| r.mask = None), Code::InvalidArgument),
        (
            with(|r| r.mask = Some(pb::EntryPolicyMask::default())),
            Code::InvalidArgument,
        ),
        (set("", "x"), Code::InvalidArgument),
        (set("no-such-entry", "x"), Code::NotFound),
        (set(&id, &"x".repeat(1025)), Code::InvalidArgument),
        (set(&id, "two\nlines"), Code::InvalidArgument),
        (set(&id, "\u{1b}]0;title\u{7}"), Code::InvalidArgument),
        (stale, Code::FailedPrecondition),
    ];
    for (request, code) in cases {
        let refused = client.set_entry_policy(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), code, "{request:?}: {refused}");
    }
    assert_eq!(
        get(&mut client, &[&id]).await.unwrap(),
        std::slice::from_ref(&made)
    );
    let mut fitting = set(&id, "pump 5");
    fitting.if_revision = made.revision;
    let next = client.set_entry_policy(fitting).await.unwrap().into_inner();
    assert!(next.revision > made.revision && next.description == "pump 5");
    let many = vec![id.as_str(); 501];
    assert_eq!(get(&mut client, &many[..500]).await.unwrap().len(), 500);
    assert_eq!(
        get(&mut client, &many).await.unwrap_err().0,
        Code::InvalidArgument
    );
    assert_eq!(
        get(&mut client, &[""]).await.unwrap_err().0,
        Code::InvalidArgument
    );
    rig.tear_down().await;
}

/// By name, not by what the table says.
#[tokio::test]
async fn only_operators_and_administrators_see_or_set_policies() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let id = rig.entry(&node.id, "/line4/pump", |_| {}).await.id;
    rig.entry(&node.id, "/nested", |entry| entry.downstream = true)
        .await;
    rig.entry(&node.id, "/ops", |entry| entry.admin = true).await;
    let others = [
        ("nobody", rig.tls(None).await.unwrap()),
        ("the agent", node.channel.clone()),
        (
            "the workload itself",
            rig.tls(Some(rig.mint("/line4/pump").await)).await.unwrap(),
        ),
        (
            "a server below",
            rig.tls(Some(rig.mint("/nested").await)).await.unwrap(),
        ),
    ];
    for (who, channel) in others {
        let mut client = EntryPoliciesClient::new(channel);
        let set = client.set_entry_policy(set(&id, "x")).await;
        assert_eq!(set.unwrap_err().code(), Code::PermissionDenied, "{who}");
        let got = get(&mut client, &[&id]).await;
        assert_eq!(got.unwrap_err().0, Code::PermissionDenied, "{who}");
    }
    let mut admin = EntryPoliciesClient::new(rig.tls(Some(rig.mint("/ops").await)).await.unwrap());
    assert_eq!(get(&mut admin, &[&id]).await.unwrap()[0].revision, 0);
    admin.set_entry_policy(set(&id, "x")).await.unwrap();
    rig.tear_down().await;
}

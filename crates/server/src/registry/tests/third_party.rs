//! Entries of suppliers: somebody answers for each, or it gives nothing.

use std::time::Duration;

use crate::core::fixture::{DAY, DiskRig, START, agent, draft, entry, id, td};
use crate::people::{Change, Login, PersonRef, Role, Step, proposal_id};
use crate::registry::{EntryError, EntryPatch, PolicyPatch, Registry, RegistryError, ThirdParty};

async fn person(registry: &Registry, uid: u32) -> PersonRef {
    let person = PersonRef::random().unwrap();
    let change = Change {
        person: person.clone(),
        name: Some("somebody".to_owned()),
        logins: vec![Login::Uid(uid)],
        roles: vec![Role::parse(&format!("administer:spiffe://{}/*", td())).unwrap()],
        activate: false,
    };
    let step = Step::Grant {
        change,
        id: proposal_id().unwrap(),
    };
    registry.change_people(step, None).await.unwrap();
    person
}

fn sponsored(sponsor: &str, contract: &str) -> PolicyPatch {
    PolicyPatch {
        third_party: Some(Some(ThirdParty {
            sponsor: sponsor.to_owned(),
            contract: contract.to_owned(),
        })),
        ..PolicyPatch::default()
    }
}

#[tokio::test]
async fn at_09_a_third_party_without_sponsor_contract_or_end_is_refused() {
    let rig = DiskRig::new();
    let core = rig.open().await;
    let registry = &core.registry;
    let jo = person(registry, 1000).await.to_string();
    let made = entry(&core, draft("/spire/agent/x", "/vendor")).await;
    let set = |sponsor: &str, contract: &str| {
        let patch = sponsored(sponsor, contract);
        async { registry.set_entry_policy(&made.id, patch, None).await }
    };
    let rule = |outcome: Result<_, RegistryError>| match outcome {
        Err(RegistryError::Invalid { source }) => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(rule(set(&jo, "C-7").await), EntryError::ThirdPartyWithoutEnd);
    let ends = |end| EntryPatch {
        expires_at: Some(end),
        ..EntryPatch::default()
    };
    registry
        .update_entry(&made.id, ends(Some(START.saturating_add(DAY))))
        .await
        .unwrap();
    for (sponsor, contract) in [("", "C-7"), (jo.as_str(), ""), (jo.as_str(), "two\nlines")] {
        assert_eq!(
            rule(set(sponsor, contract).await),
            EntryError::ThirdParty,
            "{contract:?}"
        );
    }
    assert_eq!(rule(set(&jo, &"x".repeat(257)).await), EntryError::ThirdParty);
    let nobody = set("p-aaaaaaaaaaaaaaaaaaaaaaaaaa", "C-7").await;
    assert!(
        matches!(nobody, Err(RegistryError::NoSponsor { .. })),
        "{nobody:?}"
    );
    assert!(
        registry.versioned(&made.id).unwrap().policy.is_none(),
        "nothing was changed"
    );
    let policy = set(&jo, "C-7").await.unwrap();
    assert_eq!(policy.third_party.as_ref().unwrap().contract, "C-7");
    // And its end is not taken away afterwards.
    let forever = registry.update_entry(&made.id, ends(None)).await;
    assert!(matches!(
        forever,
        Err(RegistryError::Invalid {
            source: EntryError::ThirdPartyWithoutEnd
        })
    ));
    drop(core);
    let core = rig.open().await;
    let kept = core.registry.versioned(&made.id).unwrap();
    assert_eq!(kept.policy.as_ref(), Some(&policy), "it survives a restart");
    let ours = PolicyPatch {
        third_party: Some(None),
        ..PolicyPatch::default()
    };
    let ours = core
        .registry
        .set_entry_policy(&made.id, ours, None)
        .await
        .unwrap();
    assert_eq!(ours.third_party, None);
}

#[tokio::test]
async fn at_09_what_a_sponsor_answered_for_is_gone_with_the_sponsor_and_its_node_is_told() {
    let rig = DiskRig::new();
    let core = rig.open().await;
    let registry = &core.registry;
    let (jo, kim) = (person(registry, 1000).await, person(registry, 1001).await);
    let who = agent("/spire/agent/x", "0a", &[]);
    registry.upsert_agent_on_attest(who.clone()).await.unwrap();
    let mut vendor = draft("/spire/agent/x", "/vendor");
    vendor.expires_at = Some(START.saturating_add(DAY));
    let vendor = entry(&core, vendor).await;
    let ours = entry(&core, draft("/spire/agent/x", "/ours")).await;
    let patch = sponsored(&jo.to_string(), "C-7");
    registry.set_entry_policy(&vendor.id, patch, None).await.unwrap();
    let has = || -> Vec<String> {
        let entries = registry.authorized_entries(&who.id);
        entries
            .iter()
            .map(|entry| entry.spiffe_id.path().to_owned())
            .collect()
    };
    let ear = registry.subscribe(who.id.clone(), "0a");
    let mut before = has();
    before.sort();
    assert_eq!(before, ["/ours", "/vendor"]);
    let out = Step::Withdraw {
        person: jo.clone(),
        logins: Vec::new(),
        roles: Vec::new(),
        deactivate: true,
    };
    registry.change_people(out, Some(kim)).await.unwrap();
    assert_eq!(has(), [ours.spiffe_id.path()]);
    tokio::time::timeout(Duration::from_secs(60), ear.marked())
        .await
        .expect("the node is told");
    drop(core);
    let core = rig.open().await;
    assert_eq!(
        core.registry.authorized_entries(&who.id).len(),
        1,
        "also after a restart"
    );
}

/// Also when both were made at once, each where the other was not heard of.
#[tokio::test]
async fn at_09_a_third_party_has_no_power_over_the_server_and_no_time_without_end() {
    let rig = DiskRig::new();
    let core = rig.open().await;
    let registry = &core.registry;
    let (jo, kim) = (person(registry, 1000).await, person(registry, 1001).await);
    let ends = Some(START.saturating_add(DAY));
    let make = async |path: &str, downstream| {
        let mut draft = draft("/spire/agent/x", path);
        (draft.expires_at, draft.downstream) = (ends, downstream);
        entry(&core, draft).await
    };
    let (signs, vendor) = (make("/signs", true).await, make("/vendor", false).await);
    let patch = || sponsored(&jo.to_string(), "C-7");
    let powerful = |outcome: Result<(), RegistryError>| {
        let source = match outcome {
            Err(RegistryError::Invalid { source }) => source,
            other => panic!("{other:?}"),
        };
        assert_eq!(source, EntryError::PowerfulThirdParty);
    };
    powerful(
        registry
            .set_entry_policy(&signs.id, patch(), None)
            .await
            .map(drop),
    );
    registry
        .set_entry_policy(&vendor.id, patch(), None)
        .await
        .unwrap();
    for (admin, downstream) in [(Some(true), None), (None, Some(true))] {
        let change = EntryPatch {
            admin,
            downstream,
            ..EntryPatch::default()
        };
        powerful(registry.update_entry(&vendor.id, change).await.map(drop));
    }
    let rights = |path: &str| registry.entries_of_id(&id(path)).len();
    assert_eq!((rights("/signs"), rights("/vendor")), (1, 1), "the control");
    // As by two servers at the same time.
    let policy = |id: &str| core.datastore.set_policy(id.to_owned(), patch(), None, START);
    policy(&signs.id).await.unwrap();
    let forever = make("/forever", false).await;
    let change = EntryPatch {
        expires_at: Some(None),
        ..EntryPatch::default()
    };
    registry.update_entry(&forever.id, change).await.unwrap();
    policy(&forever.id).await.unwrap();
    assert_eq!(
        (rights("/signs"), rights("/forever"), rights("/vendor")),
        (0, 0, 1)
    );
    assert!(registry.is_powerful(&id("/signs")), "it may come to it yet");
    let who = agent("/spire/agent/x", "0a", &[]);
    registry.upsert_agent_on_attest(who.clone()).await.unwrap();
    let has = registry.authorized_entries(&who.id);
    assert_eq!(
        has.iter().map(|entry| &entry.id).collect::<Vec<_>>(),
        [&vendor.id]
    );
    // And what it may do by its identity is gone with its sponsor.
    let out = Step::Withdraw {
        person: jo,
        logins: Vec::new(),
        roles: Vec::new(),
        deactivate: true,
    };
    registry.change_people(out, Some(kim)).await.unwrap();
    assert_eq!(rights("/vendor"), 0);
}

use crate::core::fixture::{DAY, DiskRig, Rig, START, agent, draft, entry, id, td};
use crate::datastore::Datastore as _;
use crate::datastore::sqlite::SqliteDatastore;
use crate::registry::{EntryError, EntryPatch, PolicyPatch, Registry, RegistryError, Revision, Versioned};

fn described(text: &str) -> PolicyPatch {
    PolicyPatch {
        description: Some(text.into()),
        ..PolicyPatch::default()
    }
}

fn found(registry: &Registry, id: &str) -> Versioned {
    (*registry.versioned(id).unwrap()).clone()
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_set_beside_its_entry_and_both_have_a_version() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let who = agent("/spire/agent/x", "0a", &[]);
    registry.upsert_agent_on_attest(who.clone()).await.unwrap();
    let made = rig.entry(draft("/spire/agent/x", "/w")).await;
    assert_eq!(found(registry, &made.id).policy, None);
    assert_eq!(found(registry, &made.id).version(), 2);
    let set = registry
        .set_entry_policy(&made.id, described("pump 4"), None)
        .await
        .unwrap();
    assert_eq!((set.description.as_str(), set.revision), ("pump 4", 3));
    let now = registry.authorized(&who.id);
    assert_eq!(now.revision.number, 3, "pushed as any other change");
    assert_eq!(now.entries.len(), 1);
    assert_eq!(now.entries[0].policy.as_ref(), Some(&set));
    assert_eq!((now.entries[0].revision, now.entries[0].version()), (2, 3));
    assert_eq!(now.entries[0].entry, made, "the entry is as it was");
    // A change of the entry leaves the policy alone, and a patch without the field as well.
    let hint = EntryPatch {
        hint: Some("h".into()),
        ..EntryPatch::default()
    };
    registry.update_entry(&made.id, hint).await.unwrap();
    let then = found(registry, &made.id);
    assert_eq!((then.policy, then.revision), (Some(set), 4));
    let untouched = registry
        .set_entry_policy(&made.id, PolicyPatch::default(), Some(3))
        .await
        .unwrap();
    assert_eq!(
        (untouched.description.as_str(), untouched.revision),
        ("pump 4", 5)
    );
    assert_eq!(found(registry, &made.id).version(), 5);
}

#[tokio::test(start_paused = true)]
async fn a_policy_is_not_set_against_a_rule_or_over_another_change() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let made = rig.entry(draft("/spire/agent/x", "/w")).await;
    let before = registry.revision();
    let set = |id: &str, text: &str, if_revision| {
        let (id, patch) = (id.to_owned(), described(text));
        async move { registry.set_entry_policy(&id, patch, if_revision).await }
    };
    let missing = set("none", "x", None).await;
    assert!(matches!(missing, Err(RegistryError::NoSuchEntry { .. })));
    let stale = set(&made.id, "x", Some(7)).await;
    assert!(matches!(
        stale,
        Err(RegistryError::PolicyChanged { found: 0, .. })
    ));
    let rule = |outcome: Result<_, RegistryError>| match outcome {
        Err(RegistryError::Invalid { source }) => source,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        rule(set(&made.id, &"x".repeat(1025), None).await),
        EntryError::DescriptionTooLong { length: 1025 }
    );
    for bad in ["a\nb", "\u{1b}[2J", "\u{85}", "\0"] {
        assert_eq!(
            rule(set(&made.id, bad, None).await),
            EntryError::DescriptionCharacter
        );
    }
    assert_eq!(registry.revision(), before, "a refused change makes no revision");
    assert_eq!(found(registry, &made.id).policy, None);
    let first = set(&made.id, &"ü".repeat(512), Some(0)).await.unwrap();
    let second = set(&made.id, "", Some(first.revision)).await.unwrap();
    assert!(set(&made.id, "late", Some(first.revision)).await.is_err());
    assert_eq!(found(registry, &made.id).policy, Some(second));
}

#[tokio::test]
async fn a_policy_goes_with_its_entry_and_survives_a_restart() {
    let rig = DiskRig::new();
    let core = rig.open().await;
    let registry = &core.registry;
    let mut named = draft("/spire/agent/x", "/w");
    named.id = Some("named".into());
    entry(&core, named.clone()).await;
    let mut short = draft("/spire/agent/x", "/short");
    short.expires_at = Some(START.saturating_add(DAY));
    let short = entry(&core, short).await;
    for id in ["named", &short.id] {
        registry
            .set_entry_policy(id, described("kept"), None)
            .await
            .unwrap();
    }
    registry
        .update_entry("named", EntryPatch::default())
        .await
        .unwrap();
    let before = (registry.revision(), found(registry, "named"));
    assert!(before.1.revision > before.1.policy.as_ref().unwrap().revision);
    drop(core);
    let core = rig.open().await;
    let registry = &core.registry;
    assert_eq!((registry.revision(), found(registry, "named")), before);
    assert_eq!(core.prune(START.saturating_add(DAY)).await.unwrap(), 1);
    assert!(registry.delete_entry("named").await.unwrap());
    assert!(registry.versioned("named").is_none());
    // What comes again under the same ID begins with the defaults, also after a restart.
    entry(&core, named).await;
    assert_eq!(found(registry, "named").policy, None);
    drop(core);
    let core = rig.open().await;
    assert_eq!(found(&core.registry, "named").policy, None);
    assert_eq!(core.registry.entries_of_id(&id("/short")).len(), 0);
    let again = core
        .registry
        .set_entry_policy(&short.id, described("x"), None)
        .await;
    assert!(matches!(again, Err(RegistryError::NoSuchEntry { .. })));
}

#[tokio::test]
async fn a_registry_begins_one_epoch_and_keeps_it() {
    let rig = DiskRig::new();
    let begun = Revision {
        epoch: START.as_secs().unsigned_abs(),
        number: 0,
    };
    assert_eq!(rig.open().await.registry.revision(), begun);
    rig.clock.step(86_400);
    assert_eq!(rig.open().await.registry.revision(), begun, "not with each start");
    assert!(
        begun
            < Revision {
                epoch: begun.epoch + 1,
                number: 0
            }
    );
    let blind = SqliteDatastore::in_memory(&td()).unwrap();
    assert_eq!(blind.load(None).await.unwrap().revision.epoch, 1);
    assert_eq!(blind.load(Some(START)).await.unwrap().revision.epoch, 1);
}

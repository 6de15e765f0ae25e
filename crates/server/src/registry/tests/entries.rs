use std::time::Duration;

use crate::core::fixture::{DAY, Rig, START, draft, foreign, id, me, sel, td};
use crate::registry::{Created, EntryDraft, EntryError, EntryFilter, EntryPatch, MatchKind, RegistryError};

fn refusal(change: impl FnOnce(&mut EntryDraft)) -> EntryError {
    let mut draft = draft("/spire/agent/x", "/w");
    assert_eq!(draft.validate(&td()), Ok(()), "the unchanged draft is good");
    change(&mut draft);
    draft.validate(&td()).unwrap_err()
}

#[test]
fn each_rule_of_an_entry_refuses() {
    let other = landfast_identity::SpiffeId::parse("spiffe://other.example/x").unwrap();
    assert_eq!(
        refusal(|d| d.id = Some(String::new())),
        EntryError::IdLength { length: 0 }
    );
    assert_eq!(
        refusal(|d| d.id = Some("x".repeat(256))),
        EntryError::IdLength { length: 256 }
    );
    assert_eq!(
        refusal(|d| d.id = Some("a/b".into())),
        EntryError::IdCharacter { found: '/' }
    );
    assert!(matches!(
        refusal(|d| d.parent_id = other.clone()),
        EntryError::ParentTrustDomain { .. }
    ));
    assert_eq!(refusal(|d| d.parent_id = td().id()), EntryError::ParentPath);
    assert!(matches!(
        refusal(|d| d.spiffe_id = other.clone()),
        EntryError::SubjectTrustDomain { .. }
    ));
    assert_eq!(refusal(|d| d.spiffe_id = td().id()), EntryError::SubjectPath);
    assert!(matches!(
        refusal(|d| d.spiffe_id = id("/spire/agent/x")),
        EntryError::Reserved { .. }
    ));
    assert!(matches!(
        refusal(|d| d.spiffe_id = id("/spire")),
        EntryError::Reserved { .. }
    ));
    assert_eq!(refusal(|d| d.selectors = sel(&[])), EntryError::NoSelectors);
    assert!(matches!(
        refusal(|d| d.selectors = (0..257)
            .map(|n| landfast_identity::Selector::new("k", &n.to_string()).unwrap())
            .collect()),
        EntryError::TooMany { .. }
    ));
    for ttl in [
        Duration::ZERO,
        Duration::from_millis(1500),
        Duration::from_secs(1 << 31),
    ] {
        assert_eq!(refusal(|d| d.x509_svid_ttl = Some(ttl)), EntryError::Ttl);
        assert_eq!(refusal(|d| d.jwt_svid_ttl = Some(ttl)), EntryError::Ttl);
    }
    assert_eq!(
        refusal(|d| d.hint = "h".repeat(1025)),
        EntryError::HintTooLong { length: 1025 }
    );
    assert_eq!(refusal(|d| d.hint = "a\nb".into()), EntryError::HintCharacter);
    assert_eq!(
        refusal(|d| d.federates_with = vec![td()]),
        EntryError::FederatesWithItself
    );
    let long = format!("{}.example", "l".repeat(64));
    for name in [
        "",
        "a..b",
        "-a",
        "a-",
        "a b",
        "a.",
        "*",
        "*.",
        "*.1",
        "*.*.a",
        "a.*.b",
        "10.0.0.1",
        "a@b",
        "ä.example",
        &long,
    ] {
        assert!(
            matches!(
                refusal(|d| d.dns_names = vec![name.into()]),
                EntryError::DnsName { .. }
            ),
            "{name:?} is refused"
        );
    }
    assert!(matches!(
        refusal(|d| d.dns_names = vec!["a.example".into(), "A.example".into()]),
        EntryError::DnsNameTwice { .. }
    ));
    assert!(matches!(
        refusal(|d| d.dns_names = (0..257).map(|n| format!("n{n}.example")).collect()),
        EntryError::TooMany { .. }
    ));
    let mixed = sel(&["unix:uid:1", "k8s:ns:a"]);
    assert_eq!(
        refusal(|d| (d.store_svid, d.selectors) = (true, mixed.clone())),
        EntryError::MixedSelectors
    );
    let mut good = draft("/spire/agent/x", "/w");
    good.dns_names = vec![
        "db-1.line4.example".into(),
        "*.line4.example".into(),
        "localhost".into(),
        "*.local".into(),
        "a_b.example".into(),
    ];
    let numbered = |n| format!("n{n}.example");
    good.dns_names.extend((0..251).map(numbered));
    good.hint = "h".repeat(1024);
    good.id = Some("an-Entry_1.x".into());
    assert_eq!(good.validate(&td()), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_stored_svid_has_one_place_and_is_fetched_ahead() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let refused = |outcome: Result<(), RegistryError>| match outcome.unwrap_err() {
        RegistryError::Invalid { source } => source,
        other => panic!("{other:?}"),
    };
    let mut lazy = draft("/spire/agent/x", "/lazy");
    (lazy.store_svid, lazy.disable_x509_svid_prefetch) = (true, true);
    let created = registry.create_entry(lazy, &me()).await.map(drop);
    assert_eq!(refused(created), EntryError::StoredWithoutPrefetch);
    let mut one = draft("/spire/agent/x", "/w");
    one.store_svid = true;
    let stored = rig.entry(one).await;
    let mixed = EntryPatch {
        selectors: Some(sel(&["unix:uid:1", "k8s:ns:a"])),
        ..EntryPatch::default()
    };
    let updated = registry.update_entry(&stored.id, mixed.clone()).await.map(drop);
    assert_eq!(refused(updated), EntryError::MixedSelectors);
    let plain = EntryPatch {
        store_svid: Some(false),
        ..mixed
    };
    registry.update_entry(&stored.id, plain).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_invalid_entry_is_not_stored() {
    let rig = Rig::new().await;
    let bad = draft("/spire/agent/x", "/spire/server");
    let refused = rig.core.registry.create_entry(bad, &me()).await.unwrap_err();
    assert!(
        matches!(
            refused,
            RegistryError::Invalid {
                source: EntryError::Reserved { .. }
            }
        ),
        "{refused:?}"
    );
    assert_eq!(rig.core.registry.count_entries(&EntryFilter::default()), 0);
    let good = rig.entry(draft("/spire/agent/x", "/w")).await;
    let patch = EntryPatch {
        spiffe_id: Some(id("/spire/server")),
        ..EntryPatch::default()
    };
    assert!(
        rig.core.registry.update_entry(&good.id, patch).await.is_err(),
        "an update is judged as a whole"
    );
    assert_eq!(rig.core.registry.entry(&good.id).unwrap(), good);
}

#[tokio::test(start_paused = true)]
async fn the_same_identity_parent_and_selectors_are_one_entry() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let first = rig.entry(draft("/spire/agent/x", "/w")).await;
    assert_eq!((first.revision_number, first.created_at), (0, START));
    let mut again = draft("/spire/agent/x", "/w");
    again.hint = "another hint".into();
    let Created::Similar(found) = registry.create_entry(again.clone(), &me()).await.unwrap() else {
        panic!()
    };
    assert_eq!(found, first);
    again.selectors = sel(&["unix:uid:1000", "unix:gid:1"]);
    assert!(matches!(
        registry.create_entry(again.clone(), &me()).await.unwrap(),
        Created::New(_)
    ));
    let mut taken = draft("/spire/agent/x", "/v");
    taken.id = Some(first.id.clone());
    assert!(matches!(
        registry.create_entry(taken, &me()).await,
        Err(RegistryError::EntryIdTaken { .. })
    ));
    let same = EntryPatch {
        selectors: Some(again.selectors),
        ..EntryPatch::default()
    };
    assert!(matches!(
        registry.update_entry(&first.id, same).await,
        Err(RegistryError::Similar { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn an_update_changes_what_it_names_and_counts() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let mut full = draft("/spire/agent/x", "/w");
    full.x509_svid_ttl = Some(Duration::from_secs(60));
    full.dns_names = vec!["b.example".into(), "a.example".into()];
    let entry = rig.entry(full).await;
    let before = registry.revision().number;
    let patch = EntryPatch {
        hint: Some("h".into()),
        x509_svid_ttl: Some(None),
        ..EntryPatch::default()
    };
    let updated = registry.update_entry(&entry.id, patch).await.unwrap();
    assert_eq!(registry.revision().number, before + 1);
    let mut expected = (*entry).clone();
    expected.hint = "h".into();
    expected.x509_svid_ttl = None;
    expected.revision_number = 1;
    assert_eq!(*updated, expected);
    assert_eq!(registry.entry(&entry.id).unwrap(), updated);
    let missing = registry.update_entry("none", EntryPatch::default()).await;
    assert!(matches!(missing, Err(RegistryError::NoSuchEntry { .. })));
    assert_eq!(
        registry.revision().number,
        before + 1,
        "a refused change makes no revision"
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_entry_is_gone_everywhere() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let entry = rig.entry(draft("/spire/agent/x", "/w")).await;
    assert_eq!(registry.entries_of_id(&id("/w")), std::slice::from_ref(&entry));
    assert!(registry.delete_entry(&entry.id).await.unwrap());
    assert!(!registry.delete_entry(&entry.id).await.unwrap());
    assert!(registry.entry(&entry.id).is_none());
    assert!(registry.entries_of_id(&id("/w")).is_empty());
    assert!(
        registry
            .list_entries(&EntryFilter::default(), 0, None)
            .0
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn expired_entries_grant_nothing_and_are_pruned() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let mut short = draft("/spire/agent/x", "/w");
    short.expires_at = Some(START.saturating_add(DAY));
    let entry = rig.entry(short).await;
    rig.entry(draft("/spire/agent/x", "/v")).await;
    assert_eq!(registry.entries_of_id(&id("/w")).len(), 1);
    rig.step(DAY);
    assert!(registry.entries_of_id(&id("/w")).is_empty());
    assert!(
        registry.entry(&entry.id).is_some(),
        "until it is pruned it can be seen and changed"
    );
    assert_eq!(rig.core.prune(rig.now()).await.unwrap(), 1);
    assert!(registry.entry(&entry.id).is_none());
    assert_eq!(registry.count_entries(&EntryFilter::default()), 1);
}

#[tokio::test(start_paused = true)]
async fn pages_are_whole_and_survive_changes_in_between() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let mut all = Vec::new();
    for n in 0..10 {
        all.push(
            rig.entry(draft("/spire/agent/x", &format!("/w{n}")))
                .await
                .id
                .clone(),
        );
    }
    all.sort();
    let filter = EntryFilter::default();
    let (page, next) = registry.list_entries(&filter, 0, None);
    assert_eq!((page.len(), next), (10, None));
    let (first, next) = registry.list_entries(&filter, 4, None);
    assert_eq!(next.as_deref(), Some(all[3].as_str()));
    registry.delete_entry(&all[3]).await.unwrap();
    registry.delete_entry(&all[9]).await.unwrap();
    let (second, next) = registry.list_entries(&filter, 4, next.as_deref());
    assert_eq!(next.as_deref(), Some(all[7].as_str()));
    let (third, end) = registry.list_entries(&filter, 4, next.as_deref());
    assert_eq!(end, None);
    let seen: Vec<_> = [first, second, third]
        .concat()
        .iter()
        .map(|e| e.id.clone())
        .collect();
    assert_eq!(seen, all[..9]);
    let (exact, end) = registry.list_entries(&filter, 8, None);
    assert_eq!(
        (exact.len(), end),
        (8, None),
        "a last page that is full has nothing after it"
    );
}

#[tokio::test(start_paused = true)]
async fn filters_combine() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    for name in ["a.example", "b.example"] {
        registry.set_federated_bundle(foreign(name).await).await.unwrap();
    }
    let domain = |name: &str| landfast_identity::TrustDomain::parse(name).unwrap();
    let mut one = draft("/spire/agent/x", "/one");
    one.selectors = sel(&["k:1", "k:2"]);
    one.federates_with = vec![domain("b.example"), domain("a.example")];
    one.hint = "h".into();
    let mut two = draft("/spire/agent/y", "/two");
    two.selectors = sel(&["k:2"]);
    two.federates_with = vec![domain("a.example")];
    two.downstream = true;
    let (one, two) = (rig.entry(one).await, rig.entry(two).await);
    assert_eq!(
        one.federates_with,
        [domain("b.example"), domain("a.example")],
        "in the order given"
    );
    let found = |filter: EntryFilter| {
        let ids: Vec<_> = registry
            .list_entries(&filter, 0, None)
            .0
            .iter()
            .map(|e| e.spiffe_id.path().to_owned())
            .collect();
        assert_eq!(ids.len(), registry.count_entries(&filter));
        (ids.contains(&"/one".to_owned()), ids.contains(&"/two".to_owned()))
    };
    let by = |set: &[&str], kind| {
        found(EntryFilter {
            selectors: Some((sel(set), kind)),
            ..EntryFilter::default()
        })
    };
    assert_eq!(by(&["k:2", "k:1"], MatchKind::Exact), (true, false));
    assert_eq!(by(&["k:2", "k:3"], MatchKind::Subset), (false, true));
    assert_eq!(by(&["k:2"], MatchKind::Superset), (true, true));
    assert_eq!(by(&["k:1", "k:9"], MatchKind::Any), (true, false));
    let fed = |names: &[&str], kind| {
        let names = names.iter().map(|name| domain(name)).collect();
        found(EntryFilter {
            federates_with: Some((names, kind)),
            ..EntryFilter::default()
        })
    };
    assert_eq!(fed(&["a.example", "b.example"], MatchKind::Exact), (true, false));
    assert_eq!(fed(&["a.example"], MatchKind::Subset), (false, true));
    assert_eq!(fed(&["a.example"], MatchKind::Superset), (true, true));
    assert_eq!(fed(&["b.example", "c.example"], MatchKind::Any), (true, false));
    assert_eq!(
        found(EntryFilter {
            spiffe_id: Some(id("/one")),
            ..EntryFilter::default()
        }),
        (true, false)
    );
    assert_eq!(
        found(EntryFilter {
            parent_id: Some(id("/spire/agent/y")),
            ..EntryFilter::default()
        }),
        (false, true)
    );
    assert_eq!(
        found(EntryFilter {
            hint: Some("h".into()),
            ..EntryFilter::default()
        }),
        (true, false)
    );
    assert_eq!(
        found(EntryFilter {
            downstream: Some(true),
            ..EntryFilter::default()
        }),
        (false, true)
    );
    let none = EntryFilter {
        spiffe_id: Some(id("/one")),
        downstream: Some(true),
        ..EntryFilter::default()
    };
    assert_eq!(found(none), (false, false));
    drop(two);
}

#[tokio::test(start_paused = true)]
async fn without_a_clock_nothing_is_created() {
    let rig = Rig::new().await;
    rig.clock.set_absent(true);
    let refused = rig
        .core
        .registry
        .create_entry(draft("/spire/agent/x", "/w"), &me())
        .await;
    assert!(matches!(refused, Err(RegistryError::NoClock)));
}

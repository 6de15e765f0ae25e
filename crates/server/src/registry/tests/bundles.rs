use landfast_identity::{Bundle, TrustDomain};

use crate::core::fixture::{Rig, draft, foreign, me, td};
use crate::registry::{BundleParts, BundleWrite, DeleteMode, Entry, EntryPatch, RegistryError};

fn b() -> TrustDomain {
    TrustDomain::parse("b.example").unwrap()
}

async fn federated(rig: &Rig) -> std::sync::Arc<Entry> {
    rig.core
        .registry
        .set_federated_bundle(foreign("b.example").await)
        .await
        .unwrap();
    let mut with = draft("/spire/agent/x", "/w");
    with.federates_with = vec![b()];
    rig.entry(with).await
}

#[tokio::test(start_paused = true)]
async fn an_entry_federates_only_with_a_bundle_that_is_here() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let mut with = draft("/spire/agent/x", "/w");
    with.federates_with = vec![b()];
    let refused = registry.create_entry(with, &me()).await.unwrap_err();
    assert!(matches!(refused, RegistryError::NoFederatedBundle { .. }));
    assert_eq!(registry.revision().number, 0);
    assert!(registry.entries_of_id(&crate::core::fixture::id("/w")).is_empty());
    let entry = federated(&rig).await;
    let unknown = TrustDomain::parse("c.example").unwrap();
    let patch = EntryPatch {
        federates_with: Some(vec![unknown]),
        ..EntryPatch::default()
    };
    assert!(matches!(
        registry.update_entry(&entry.id, patch).await,
        Err(RegistryError::NoFederatedBundle { .. })
    ));
    assert_eq!(registry.entry(&entry.id).unwrap(), entry);
}

#[tokio::test(start_paused = true)]
async fn a_trust_domain_that_stands_twice_is_stored_once() {
    let rig = Rig::new().await;
    let entry = federated(&rig).await;
    let patch = EntryPatch {
        federates_with: Some(vec![b(), b()]),
        ..EntryPatch::default()
    };
    assert_eq!(
        rig.core
            .registry
            .update_entry(&entry.id, patch)
            .await
            .unwrap()
            .federates_with,
        [b()]
    );
    let mut twice = draft("/spire/agent/x", "/v");
    twice.federates_with = vec![b(), b()];
    assert_eq!(rig.entry(twice).await.federates_with, [b()]);
}

#[tokio::test(start_paused = true)]
async fn deleting_a_bundle_does_to_entries_what_the_mode_says() {
    for mode in [DeleteMode::Restrict, DeleteMode::Delete, DeleteMode::Dissociate] {
        let rig = Rig::new().await;
        let registry = &rig.core.registry;
        let entry = federated(&rig).await;
        let answer = registry.delete_federated_bundle(&b(), mode).await;
        let now = registry.entry(&entry.id);
        match mode {
            DeleteMode::Restrict => {
                assert!(matches!(answer, Err(RegistryError::BundleInUse { entries: 1 })));
                assert_eq!(now, Some(entry));
                assert!(registry.federated_bundle(&b()).is_some());
                continue;
            }
            DeleteMode::Delete => assert_eq!(now, None),
            DeleteMode::Dissociate => {
                let now = now.unwrap();
                assert!(now.federates_with.is_empty());
                assert_eq!(now.revision_number, 1);
            }
        }
        assert!(answer.unwrap());
        assert!(registry.federated_bundle(&b()).is_none());
        assert!(!registry.delete_federated_bundle(&b(), mode).await.unwrap());
    }
}

#[tokio::test(start_paused = true)]
async fn a_bundle_is_written_only_as_the_mode_allows() {
    let rig = Rig::new().await;
    let registry = &rig.core.registry;
    let bundle = foreign("b.example").await;
    let write = |mode| registry.write_federated_bundle(bundle.clone(), mode);
    assert!(matches!(
        write(BundleWrite::Update(BundleParts::ALL)).await,
        Err(RegistryError::NoSuchBundle { .. })
    ));
    write(BundleWrite::Create).await.unwrap();
    assert!(matches!(
        write(BundleWrite::Create).await,
        Err(RegistryError::BundleExists { .. })
    ));
    write(BundleWrite::Update(BundleParts::ALL)).await.unwrap();
    assert_eq!(*registry.federated_bundle(&b()).unwrap(), bundle);
    let own = Bundle::new(td());
    assert!(matches!(
        registry.set_federated_bundle(own).await,
        Err(RegistryError::OwnTrustDomain { .. })
    ));
    let own = registry.delete_federated_bundle(&td(), DeleteMode::Delete).await;
    assert!(matches!(own, Err(RegistryError::OwnTrustDomain { .. })));
    registry
        .set_federated_bundle(foreign("a.example").await)
        .await
        .unwrap();
    let (first, next) = registry.list_federated_bundles(1, None);
    assert_eq!(
        (first[0].trust_domain().as_str(), next.as_deref()),
        ("a.example", Some("a.example"))
    );
    let (second, end) = registry.list_federated_bundles(1, next.as_deref());
    assert_eq!((second[0].trust_domain().as_str(), end), ("b.example", None));
}

//! Who may have an ID below `/margo/`, with the rules on and off; and that nobody else is concerned.

use std::time::Duration;

use landfast_identity::PublicKey;

use super::MargoPaths;
use crate::admission::Turn;
use crate::core::fixture::{DiskRig, Rig, draft, foreign, id, key, me, sel, td};
use crate::issuance::{IssueError, WitRequest};
use crate::registry::{EntryDraft, EntryError, EntryPatch, RegistryError};

type Break = fn(&mut EntryDraft);

const BREAKS: [(&str, Break); 4] = [
    ("administer", |draft| draft.admin = true),
    ("below this one", |draft| draft.downstream = true),
    ("stand for nodes", |draft| {
        draft.parent_id = id("/spire/server");
        draft.selectors = sel(&["x509pop:subject:cn:line-4"]);
    }),
    ("federate", |draft| {
        draft.federates_with = vec![foreign_domain()];
    }),
];

fn foreign_domain() -> landfast_identity::TrustDomain {
    landfast_identity::TrustDomain::parse("other.example").unwrap()
}

async fn rig(margo: MargoPaths) -> Rig {
    let rig = Rig::with(|params| params.margo = margo).await;
    let bundle = foreign("other.example").await;
    rig.core.registry.set_federated_bundle(bundle).await.unwrap();
    rig
}

fn broken(path: &str, change: Break) -> EntryDraft {
    let mut draft = draft("/spire/agent/x", path);
    change(&mut draft);
    draft
}

fn rule(error: RegistryError) -> String {
    match error {
        RegistryError::Invalid {
            source: source @ EntryError::Margo { .. },
        } => source.to_string(),
        other => panic!("{other:?} is no rule of Margo"),
    }
}

/// An RSA key of so many bytes, whose factors nobody knows.
fn rsa(bytes: usize) -> PublicKey {
    let element = |tag: u8, content: &[u8]| {
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[tag, 0x82], length.as_slice(), content].concat()
    };
    let modulus: Vec<u8> = (0..bytes).map(|at| if at == 0 { 0xc5 } else { 0x9d }).collect();
    let numbers = [
        element(2, &[&[0], modulus.as_slice()].concat()),
        vec![2, 3, 1, 0, 1],
    ]
    .concat();
    let bits = element(3, &[&[0], element(0x30, &numbers).as_slice()].concat());
    let algorithm: &[u8] = &[0x30, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    PublicKey::from_spki_der(&element(0x30, &[algorithm, bits.as_slice()].concat())).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_no_principal_has_no_id_below_margo() {
    let rig = rig(MargoPaths::Reserved).await;
    let registry = &rig.core.registry;
    rig.entry(draft("/spire/agent/x", "/margo/pump-7")).await;
    for (part, change) in BREAKS {
        let refused = registry.create_entry(broken("/margo/evil", change), &me()).await;
        let text = rule(refused.unwrap_err());
        assert!(text.contains(part) && text.contains("/margo/evil"), "{text}");
        for path in ["/margo", "/margo-2/x", "/line/margo/x", "/Margo/x"] {
            let made = registry.create_entry(broken(path, change), &me()).await;
            assert!(made.is_ok(), "{path}: {made:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_update_makes_nobody_a_principal_who_is_none() {
    let rig = rig(MargoPaths::Reserved).await;
    let registry = &rig.core.registry;
    let principal = rig.entry(draft("/spire/agent/x", "/margo/pump-7")).await;
    let admin = rig.entry(broken("/console", |draft| draft.admin = true)).await;
    let crowned = EntryPatch {
        admin: Some(true),
        ..EntryPatch::default()
    };
    let moved = EntryPatch {
        spiffe_id: Some(id("/margo/console")),
        ..EntryPatch::default()
    };
    rule(registry.update_entry(&principal.id, crowned).await.unwrap_err());
    rule(registry.update_entry(&admin.id, moved).await.unwrap_err());
    assert_eq!(registry.entry(&principal.id).unwrap(), principal);
    assert_eq!(registry.entry(&admin.id).unwrap(), admin);
    let hint = EntryPatch {
        hint: Some("pump".to_owned()),
        ..EntryPatch::default()
    };
    registry.update_entry(&principal.id, hint).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn no_node_is_known_by_the_id_of_a_principal() {
    let rig = rig(MargoPaths::Reserved).await;
    let token = |path: &str| {
        let (alias, now) = (Some(id(path)), rig.now());
        rig.core
            .registry
            .create_join_token(None, Duration::from_secs(60), alias, now)
    };
    rule(token("/margo/gateway").await.unwrap_err());
    token("/gateway").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_principal_has_no_weak_key() {
    let rig = rig(MargoPaths::Reserved).await;
    let mint = async |path: &str, key: &PublicKey| {
        let issuer = &rig.core.issuer;
        issuer.mint_x509(&me(), &id(path), &[], None, key).await
    };
    let (weak, strong) = (rsa(256), rsa(384));
    let refused = mint("/margo/pump-7", &weak).await;
    assert!(
        matches!(&refused, Err(IssueError::Policy(text)) if text.contains("3072")),
        "{refused:?}"
    );
    mint("/margo/pump-7", &strong).await.unwrap();
    mint("/margo/pump-7", &key()).await.unwrap();
    mint("/pump-7", &weak).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_the_option_ids_below_margo_are_as_all_others() {
    let rig = rig(MargoPaths::default()).await;
    for (at, (_, change)) in BREAKS.into_iter().enumerate() {
        rig.entry(broken(&format!("/margo/any-{at}"), change)).await;
    }
    let (alias, now) = (Some(id("/margo/gateway")), rig.now());
    let registry = &rig.core.registry;
    registry
        .create_join_token(None, Duration::from_secs(60), alias, now)
        .await
        .unwrap();
    let issuer = &rig.core.issuer;
    issuer
        .mint_x509(&me(), &id("/margo/any"), &[], None, &rsa(256))
        .await
        .unwrap();
}

/// The option comes later than the entry: it stays where it is, and nothing is signed for it.
#[tokio::test]
async fn nothing_is_issued_for_an_entry_that_breaks_a_rule() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let good = crate::core::fixture::entry(&core, draft("/spire/agent/x", "/margo/pump-7")).await;
    let bad = crate::core::fixture::entry(&core, broken("/margo/boss", |draft| draft.admin = true)).await;
    drop(core);
    let mut params = disk.params();
    params.margo = MargoPaths::Reserved;
    params.wit = true;
    let core = crate::Core::open(params).await.unwrap();
    let entry = core.registry.entry(&bad.id).unwrap();
    let wits = [&entry, &good].map(|entry| {
        let request = WitRequest {
            key: key(),
            algorithm: "ES256".to_owned(),
        };
        (std::sync::Arc::clone(entry), request)
    });
    let wits = core.issuer.wit_batch(&me(), Vec::from(wits), &Turn::free()).await;
    assert!(
        matches!(wits.as_slice(), [Err(IssueError::Policy(_)), Ok(_)]),
        "{wits:?}"
    );
    let x509 = core.issuer.x509_for_entry(&me(), &entry, &key()).await;
    assert!(matches!(x509, Err(IssueError::Policy(_))), "{x509:?}");
    let jwt = core.issuer.jwt_for_entry(&me(), &entry, &["a".to_owned()]).await;
    assert!(matches!(jwt, Err(IssueError::Policy(_))), "{jwt:?}");
    assert!(core.issuer.records(&entry.spiffe_id).await.unwrap().is_empty());
    core.issuer.x509_for_entry(&me(), &good, &key()).await.unwrap();
    assert_eq!(good.spiffe_id.trust_domain(), &td());
}

//! The bundles of other trust domains: masks, and the words that clients act on.

use super::*;

fn theirs(x509s: &[&Certificate], jwts: &[types::JwtKey], sequence: u64, hint: i64) -> types::Bundle {
    types::Bundle {
        trust_domain: "b.test".to_owned(),
        x509_authorities: x509s.iter().map(|root| x509(root)).collect(),
        jwt_authorities: jwts.to_vec(),
        sequence_number: sequence,
        refresh_hint: hint,
        ..Default::default()
    }
}

async fn update(
    channel: &Channel,
    bundle: types::Bundle,
    mask: Option<types::BundleMask>,
) -> (types::Status, Option<types::Bundle>) {
    let request = pb::BatchUpdateFederatedBundleRequest {
        bundle: vec![bundle],
        input_mask: mask,
        output_mask: None,
    };
    let answer = BundleClient::new(channel.clone())
        .batch_update_federated_bundle(request)
        .await;
    let result = answer.unwrap().into_inner().results.remove(0);
    (result.status.unwrap(), result.bundle)
}

async fn create(channel: &Channel, bundle: types::Bundle) -> types::Status {
    let request = pb::BatchCreateFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let answer = BundleClient::new(channel.clone())
        .batch_create_federated_bundle(request)
        .await;
    answer.unwrap().into_inner().results.remove(0).status.unwrap()
}

async fn set(channel: &Channel, bundle: types::Bundle) -> types::Status {
    let request = pb::BatchSetFederatedBundleRequest {
        bundle: vec![bundle],
        output_mask: None,
    };
    let answer = BundleClient::new(channel.clone())
        .batch_set_federated_bundle(request)
        .await;
    answer.unwrap().into_inner().results.remove(0).status.unwrap()
}

async fn delete(channel: &Channel, name: &str) -> types::Status {
    let request = pb::BatchDeleteFederatedBundleRequest {
        trust_domains: vec![name.to_owned()],
        mode: 0,
    };
    let answer = BundleClient::new(channel.clone())
        .batch_delete_federated_bundle(request)
        .await;
    answer.unwrap().into_inner().results.remove(0).status.unwrap()
}

async fn stored(channel: &Channel) -> types::Bundle {
    let request = pb::GetFederatedBundleRequest {
        trust_domain: "b.test".to_owned(),
        output_mask: None,
    };
    BundleClient::new(channel.clone())
        .get_federated_bundle(request)
        .await
        .unwrap()
        .into_inner()
}

#[tokio::test]
async fn an_update_replaces_what_its_mask_names() {
    let rig = Rig::new().await;
    let admin = rig.admin().await;
    let (old_root, new_root) = (root("b.test"), root("b.test"));
    let (old_key, new_key) = (jwt("old"), jwt("new"));
    let old = theirs(&[&old_root], std::slice::from_ref(&old_key), 7, 60);
    let new = theirs(&[&new_root], std::slice::from_ref(&new_key), 9, 90);
    let none = types::BundleMask::default();
    let mask = |change: fn(&mut types::BundleMask)| {
        let mut mask = none;
        change(&mut mask);
        Some(mask)
    };
    for (mask, expected) in [
        (None, new.clone()),
        (Some(none), old.clone()),
        (
            mask(|m| m.x509_authorities = true),
            theirs(&[&new_root], std::slice::from_ref(&old_key), 7, 60),
        ),
        (
            mask(|m| m.jwt_authorities = true),
            theirs(&[&old_root], std::slice::from_ref(&new_key), 7, 60),
        ),
        (
            mask(|m| m.sequence_number = true),
            theirs(&[&old_root], std::slice::from_ref(&old_key), 9, 60),
        ),
        (
            mask(|m| m.refresh_hint = true),
            theirs(&[&old_root], std::slice::from_ref(&old_key), 7, 90),
        ),
    ] {
        assert_eq!(set(&admin, old.clone()).await.code, 0);
        let (status, answered) = update(&admin, new.clone(), mask).await;
        assert_eq!((status.code, answered.as_ref()), (0, Some(&expected)), "{mask:?}");
        assert_eq!(stored(&admin).await, expected, "{mask:?}");
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn an_update_that_makes_no_bundle_changes_nothing() {
    let rig = Rig::new().await;
    let admin = rig.admin().await;
    let roots: Vec<_> = (0..2).map(|_| root("b.test")).collect();
    let keys: Vec<_> = (0..255).map(|n| jwt(&format!("k{n}"))).collect();
    let old = theirs(&[&roots[0]], &keys, 1, 0);
    assert_eq!(set(&admin, old.clone()).await.code, 0);
    let mask = types::BundleMask {
        x509_authorities: true,
        ..Default::default()
    };
    let new = theirs(&[&roots[0], &roots[1]], &[], 2, 0);
    let (status, answered) = update(&admin, new, Some(mask)).await;
    assert_eq!(status.code, Code::InvalidArgument as i32, "{status:?}");
    assert_eq!(
        status.message,
        "failed to update bundle: the bundle has 257 keys, more than accepted"
    );
    assert_eq!(answered, None);
    assert_eq!(stored(&admin).await, old);
    rig.tear_down().await;
}

/// The words are SPIRE's.
#[tokio::test]
async fn what_is_refused_is_said_in_the_words_that_clients_know() {
    let rig = Rig::new().await;
    let admin = rig.admin().await;
    let good = theirs(&[&root("b.test")], &[], 1, 0);
    let own = types::Bundle {
        trust_domain: "plant.test".to_owned(),
        ..good.clone()
    };
    let nameless = types::Bundle {
        trust_domain: "no name".to_owned(),
        ..good.clone()
    };
    let mut broken = good.clone();
    broken.x509_authorities[0].asn1 = b"no certificate".to_vec().into();
    let mut keyless = good.clone();
    keyless.jwt_authorities = vec![jwt("")];
    let is = |status: &types::Status, code: Code, text: &str| {
        assert_eq!(status.code, code as i32, "{status:?}");
        assert!(
            status.message.starts_with(text),
            "{status:?} does not begin with {text:?}"
        );
    };
    let missing = update(&admin, good.clone(), None).await.0;
    is(&missing, Code::NotFound, "bundle not found");
    for (doing, status) in [
        ("creating", create(&admin, own.clone()).await),
        ("setting", set(&admin, own.clone()).await),
        ("updating", update(&admin, own.clone(), None).await.0),
    ] {
        let text = format!("{doing} a federated bundle for the server's own trust domain is not allowed");
        is(&status, Code::InvalidArgument, &text);
    }
    for status in [
        create(&admin, nameless.clone()).await,
        set(&admin, nameless.clone()).await,
        update(&admin, nameless.clone(), None).await.0,
        delete(&admin, "no name").await,
    ] {
        is(
            &status,
            Code::InvalidArgument,
            "trust domain argument is not valid: ",
        );
    }
    let cert = "failed to convert bundle: unable to parse X.509 authority: ";
    let key = "failed to convert bundle: unable to parse JWT authority: missing key ID";
    for (bad, text) in [(broken, cert), (keyless, key)] {
        is(&create(&admin, bad.clone()).await, Code::InvalidArgument, text);
        is(&set(&admin, bad.clone()).await, Code::InvalidArgument, text);
        is(
            &update(&admin, bad.clone(), None).await.0,
            Code::InvalidArgument,
            text,
        );
    }
    assert_eq!(create(&admin, good.clone()).await.message, "OK");
    is(
        &create(&admin, good.clone()).await,
        Code::AlreadyExists,
        "bundle already exists",
    );
    let own = "removing the bundle for the server trust domain is not allowed";
    is(&delete(&admin, "plant.test").await, Code::InvalidArgument, own);
    let node = rig.node().await;
    rig.entry(&node.id, "/w", |entry| {
        entry.federates_with = vec!["b.test".to_owned()]
    })
    .await;
    let used =
        "failed to delete federated bundle: cannot delete bundle; federated with 1 registration entries";
    is(&delete(&admin, "b.test").await, Code::FailedPrecondition, used);
    is(
        &delete(&admin, "c.test").await,
        Code::NotFound,
        "bundle not found",
    );
    rig.tear_down().await;
}

//! What leaves is told of, once, and nothing else is.

use landfast_identity::UnixTime;

use super::rig::{NOW, Rig, next};
use crate::{FetchedWits, SourceError, ViewState};

pub(super) fn handed(rig: &Rig) -> Vec<String> {
    let mut handed = std::mem::take(&mut *rig.script.handed.lock().unwrap());
    handed.sort();
    handed
}

fn serial(number: u8) -> String {
    format!("{number:02x}").repeat(16)
}

pub(super) fn x509(way: &str, entry: &str, number: u8) -> String {
    format!("{way} x509 {entry} {}", serial(number))
}

#[tokio::test]
async fn each_svid_of_a_stream_is_told_of_once_and_with_each_renewal() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    let mut svids = client.x509_svids().await.unwrap();
    let mut bundles = client.x509_bundles().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    next(&mut bundles).await.unwrap().unwrap();
    let of = |number| ["/a", "/c"].map(|entry| x509("workload-api", entry, number));
    // What another identity's hint keeps from the caller is not his.
    assert_eq!(handed(&rig), of(1));
    // Other bundles: the message goes out, with SVIDs that he has.
    let mut view = (**rig.script.views.borrow()).clone();
    view.federated.clear();
    rig.publish(view.clone());
    next(&mut svids).await.unwrap().unwrap();
    next(&mut bundles).await.unwrap().unwrap();
    assert!(handed(&rig).is_empty());
    // One is renewed.
    let renewed = rig.script.own.view(2, &[]);
    view.x509[2] = renewed.x509[2].clone();
    rig.publish(view);
    next(&mut svids).await.unwrap().unwrap();
    assert_eq!(handed(&rig), [x509("workload-api", "/c", 2)]);
    // Another stream of the same program.
    let mut again = client.x509_svids().await.unwrap();
    next(&mut again).await.unwrap().unwrap();
    assert_eq!(
        handed(&rig),
        [x509("workload-api", "/a", 1), x509("workload-api", "/c", 2)]
    );
    rig.stop().await;
}

#[tokio::test]
async fn tokens_are_told_of_and_refusals_are_not() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    let audience = ["there".to_owned()];
    client.fetch_jwt(&audience, None).await.unwrap();
    assert_eq!(handed(&rig), ["workload-api jwt /a", "workload-api jwt /b"]);
    *rig.script.jwt_error.lock().unwrap() = Some(SourceError::NoIdentity);
    client.fetch_jwt(&audience, None).await.unwrap_err();
    let mut nothing = rig.script.own.view(1, &[]);
    nothing.state = ViewState::NoIdentity;
    rig.publish(nothing);
    client.fetch_jwt(&audience, None).await.unwrap_err();
    client.fetch_x509().await.unwrap_err();
    assert!(handed(&rig).is_empty());
    rig.stop().await;
}

#[tokio::test]
async fn tokens_with_keys_are_told_of_when_they_are_new() {
    let rig = Rig::start();
    let own = &rig.script.own;
    rig.script.wits.lock().unwrap().has = Some(true);
    let hold = |svids| {
        let again_at = UnixTime::from_secs(NOW.as_secs() + 100);
        rig.script.wits.lock().unwrap().held = Some(FetchedWits { svids, again_at });
    };
    let (a, b) = (own.wit("/a", "main"), own.wit("/b", ""));
    hold(vec![a.clone(), b]);
    let mut client = rig.client().await;
    let mut stream = client.wit_svids(None).await.unwrap();
    next(&mut stream).await.unwrap().unwrap();
    assert_eq!(handed(&rig), ["workload-api wit /a", "workload-api wit /b"]);
    hold(vec![a, own.wit("/b", "")]);
    rig.publish(own.view(2, &[]));
    next(&mut stream).await.unwrap().unwrap();
    assert_eq!(handed(&rig), ["workload-api wit /b"]);
    rig.stop().await;
}

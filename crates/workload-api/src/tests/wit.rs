//! The WIT-SVID profile: who gets what, what is pushed, and what a caller learns where there is none.

use std::io::Read as _;

use landfast_identity::{BundleSet, UnixTime};
use tonic::Code;

use super::rig::{NOW, Rig, next, until};
use super::streams::{becomes_another_program, caller};
use crate::{FetchedWit, FetchedWits, SourceError, ViewState};

const LATER: UnixTime = UnixTime::from_secs(NOW.as_secs() + 100);

fn rig() -> Rig {
    let rig = Rig::start();
    rig.script.wits.lock().unwrap().has = Some(true);
    rig
}

fn hold(rig: &Rig, svids: Vec<FetchedWit>, again_at: UnixTime) {
    rig.script.wits.lock().unwrap().held = Some(FetchedWits { svids, again_at });
}

fn asked(rig: &Rig) -> usize {
    rig.script.wits.lock().unwrap().asked
}

#[tokio::test]
async fn every_identity_comes_with_its_token_and_the_key_in_it() {
    let rig = rig();
    let own = &rig.script.own;
    hold(&rig, vec![own.wit("/a", "main"), own.wit("/b", "main")], LATER);
    let mut client = rig.client().await;
    let held = client.fetch_wit(None).await.unwrap();
    let seen: Vec<_> = held
        .iter()
        .map(|one| (one.svid.id().path(), one.hint.as_str()))
        .collect();
    assert_eq!(seen, [("/a", "main"), ("/b", "")], "a hint stands once");
    let bundles = next(&mut client.wit_bundles().await.unwrap())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(bundles.len(), 2);
    for one in &held {
        landfast_identity::wit::verify(one.svid.token(), &bundles, NOW).unwrap();
        let shown: serde_json::Value = serde_json::from_str(one.private_jwk()).unwrap();
        assert!(
            shown["d"].is_string() && shown["alg"] == "ES256",
            "{:?}",
            shown["kty"]
        );
    }
    // Only for this, and with nothing else.
    let jwt: BundleSet = next(&mut client.jwt_bundles().await.unwrap())
        .await
        .unwrap()
        .unwrap();
    let td = &own.name;
    assert_eq!(bundles.get(td).unwrap().jwt_authorities().len(), 0);
    assert_eq!(jwt.get(td).unwrap().wit_authorities().len(), 0);
    let named = client.fetch_wit(Some(&own.id("/b"))).await.unwrap();
    assert_eq!((named.len(), named[0].svid.id().path()), (1, "/b"));
    let foreign = client.fetch_wit(Some(&own.id("/other"))).await.unwrap_err();
    assert_eq!(foreign.code(), Some(Code::PermissionDenied));
    rig.stop().await;
}

#[tokio::test]
async fn renewals_are_pushed_when_they_are_due_and_equal_states_are_not() {
    let rig = rig();
    let own = &rig.script.own;
    hold(&rig, vec![own.wit("/a", "")], LATER);
    let mut stream = rig.client().await.wit_svids(None).await.unwrap();
    let first = next(&mut stream).await.unwrap().unwrap();
    // Another view, the same tokens: asked for, and not sent. Then another token, at its time.
    rig.publish(own.view(2, &[]));
    until("the source is asked", || asked(&rig) == 2).await;
    hold(
        &rig,
        vec![own.wit("/a", "")],
        UnixTime::from_secs(LATER.as_secs() + 100),
    );
    *rig.script.now.lock().unwrap() = Some(LATER);
    rig.publish(own.view(3, &[]));
    let second = next(&mut stream).await.unwrap().unwrap();
    assert_ne!(second[0].svid.token(), first[0].svid.token());
    assert_eq!(asked(&rig), 3);
    // And without any change of the view.
    let third = own.wit("/a", "");
    let token = third.token.clone();
    hold(&rig, vec![third], UnixTime::from_secs(LATER.as_secs() + 9000));
    *rig.script.now.lock().unwrap() = Some(UnixTime::from_secs(LATER.as_secs() + 200));
    rig.publish(own.view(4, &[]));
    assert_eq!(next(&mut stream).await.unwrap().unwrap()[0].svid.token(), token);
    rig.stop().await;
}

/// By the clock alone: nobody changes the view.
#[tokio::test]
async fn what_is_overdue_is_asked_for_again_and_a_failure_takes_nothing_away() {
    let rig = rig();
    let own = &rig.script.own;
    hold(&rig, vec![own.wit("/a", "")], NOW);
    let mut stream = rig.client().await.wit_svids(None).await.unwrap();
    next(&mut stream).await.unwrap().unwrap();
    rig.script.wits.lock().unwrap().next = Some(SourceError::Unavailable("secret".to_owned()));
    until("it has failed", || asked(&rig) == 2).await;
    let renewed = own.wit("/a", "");
    let token = renewed.token.clone();
    hold(&rig, vec![renewed], LATER);
    assert_eq!(next(&mut stream).await.unwrap().unwrap()[0].svid.token(), token);
    assert_eq!(asked(&rig), 3);
    rig.stop().await;
}

#[tokio::test]
async fn who_loses_his_identity_or_has_none_is_refused() {
    let rig = rig();
    let own = &rig.script.own;
    let mut client = rig.client().await;
    hold(&rig, vec![own.wit("/a", "")], LATER);
    let mut stream = client.wit_svids(None).await.unwrap();
    let mut named = client.wit_svids(Some(&own.id("/a"))).await.unwrap();
    next(&mut stream).await.unwrap().unwrap();
    next(&mut named).await.unwrap().unwrap();
    // The view still says yes, the source no: an entry that has just gone.
    rig.script.wits.lock().unwrap().held = None;
    rig.publish(own.view(2, &[]));
    for stream in [&mut stream, &mut named] {
        let end = next(stream).await.unwrap().unwrap_err();
        assert_eq!(end.code(), Some(Code::PermissionDenied));
        assert!(next(stream).await.is_none());
    }
    let mut nobody = own.view(3, &[]);
    (nobody.state, nobody.jwt_identities) = (ViewState::NoIdentity, Vec::new());
    let before = asked(&rig);
    rig.publish(nobody);
    for refused in [
        client.fetch_wit(None).await.unwrap_err(),
        client.fetch_wit(Some(&own.id("/a"))).await.unwrap_err(),
        client.wit_bundles().await.map(drop).unwrap_err(),
    ] {
        assert_eq!(refused.code(), Some(Code::PermissionDenied), "{refused}");
    }
    assert_eq!(asked(&rig), before, "nothing is fetched for nobody");
    rig.stop().await;
}

#[tokio::test]
async fn errors_of_the_source_reach_the_caller_without_their_reasons() {
    let rig = rig();
    let mut client = rig.client().await;
    for (error, code) in [
        (SourceError::NoIdentity, Code::PermissionDenied),
        (SourceError::Unavailable("secret".to_owned()), Code::Unavailable),
        (SourceError::Unsupported, Code::Unimplemented),
    ] {
        rig.script.wits.lock().unwrap().next = Some(error);
        let refused = client.fetch_wit(None).await.unwrap_err();
        assert_eq!(refused.code(), Some(code));
        assert!(
            !refused.to_string().contains("secret"),
            "the reason is for the log"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn where_there_are_none_everybody_learns_it_and_open_streams_end() {
    let rig = rig();
    let own = &rig.script.own;
    let mut client = rig.client().await;
    hold(&rig, vec![own.wit("/a", "")], LATER);
    let mut stream = client.wit_svids(None).await.unwrap();
    let mut bundles = client.wit_bundles().await.unwrap();
    next(&mut stream).await.unwrap().unwrap();
    next(&mut bundles).await.unwrap().unwrap();
    let mut without = own.view(1, &[]);
    let bundle = (*without.own_bundle)
        .clone()
        .with_wit_authorities(Vec::new())
        .unwrap();
    without.own_bundle = bundle.into();
    rig.publish(without);
    let end = next(&mut stream).await.unwrap().unwrap_err();
    assert_eq!(end.code(), Some(Code::Unimplemented));
    let end = next(&mut bundles).await.unwrap().unwrap_err();
    assert_eq!(end.code(), Some(Code::Unimplemented));
    rig.script.wits.lock().unwrap().has = Some(false);
    let attested = rig.attestations();
    let mut stranger = rig.client().await;
    let refused = stranger.fetch_wit(None).await.unwrap_err();
    assert_eq!(
        (refused.code(), rig.attestations()),
        (Some(Code::Unimplemented), attested)
    );
    rig.stop().await;
}

#[tokio::test]
async fn after_exec_no_key_is_pushed_and_the_connection_ends() {
    let rig = rig();
    let own = &rig.script.own;
    hold(&rig, vec![own.wit("/a", "")], LATER);
    let mut child = caller(&rig, "/SpiffeWorkloadAPI/FetchWITSVID");
    until("the stream is open", || rig.gauges.streams() == 1).await;
    becomes_another_program(&mut child);
    let renewed = own.wit("/a", "");
    let token = renewed.token.clone();
    hold(&rig, vec![renewed], LATER);
    rig.publish(own.view(9, &[]));
    until("the connection has ended", || rig.gauges.connections() == 0).await;
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    child.wait().unwrap();
    let token = token.as_bytes();
    assert!(
        !output.windows(token.len()).any(|window| window == token),
        "the new program got a token"
    );
    // HEADERS with END_STREAM and END_HEADERS on stream 1: the status.
    let end = [1, 5, 0, 0, 0, 1];
    assert!(
        output.windows(6).any(|window| window == end),
        "the stream has no end"
    );
    rig.stop().await;
}

//! For how long the selectors of a connection hold.

use std::time::Duration;

use tonic::Code;

use super::rig::{Rig, next, until};
use crate::{Limits, ViewState, WorkloadView};

fn in_state(rig: &Rig, state: ViewState) -> WorkloadView {
    let mut view = rig.script.own.view(1, &[]);
    view.state = state;
    view
}

/// The serial number of the SVIDs of those who are known by their hash.
fn by_hash() -> String {
    "07".repeat(16)
}

#[tokio::test]
async fn a_connection_without_identity_is_attested_again_at_each_request() {
    let rig = Rig::start();
    rig.publish(in_state(&rig, ViewState::NoIdentity));
    let mut client = rig.client().await;
    for attested in 1..3 {
        let refused = client.fetch_x509().await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::PermissionDenied));
        assert_eq!(rig.attestations(), attested);
    }
    // Now it finds what it did not find before: nothing was announced, a name service has recovered, say.
    rig.script.look.lock().unwrap().hash = true;
    let context = client.fetch_x509().await.unwrap();
    assert_eq!(context.svids[0].serial_hex(), by_hash());
    client.fetch_x509().await.unwrap();
    assert_eq!(rig.attestations(), 3, "what led to an identity is kept");
    rig.stop().await;
}

#[tokio::test]
async fn selectors_found_before_the_first_synchronisation_are_not_kept() {
    let rig = Rig::with(Limits {
        first_answer: Duration::from_millis(100),
        ..Limits::default()
    });
    rig.publish(in_state(&rig, ViewState::Starting));
    let mut client = rig.client().await;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    // The server can be reached, and an entry asks for a hash.
    rig.publish(in_state(&rig, ViewState::NoIdentity));
    rig.script.look.lock().unwrap().hash = true;
    let context = client.fetch_x509().await.unwrap();
    assert_eq!(context.svids[0].serial_hex(), by_hash());
    rig.stop().await;
}

#[tokio::test]
async fn a_request_that_waits_for_the_first_synchronisation_sees_what_came_with_it() {
    let rig = Rig::start();
    rig.publish(in_state(&rig, ViewState::Starting));
    let mut client = rig.client().await;
    let (answer, ()) = tokio::join!(client.fetch_x509(), async {
        until("the request waits", || rig.attestations() == 1).await;
        rig.look_for_hashes();
        rig.publish(in_state(&rig, ViewState::NoIdentity));
    });
    assert_eq!(answer.unwrap().svids[0].serial_hex(), by_hash());
    rig.stop().await;
}

#[tokio::test]
async fn an_open_stream_gets_an_identity_of_a_kind_that_was_not_looked_for() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    let mut svids = client.x509_svids().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    rig.look_for_hashes();
    let wider = next(&mut svids).await.unwrap().unwrap();
    assert_eq!(wider.svids[0].serial_hex(), by_hash());
    // It follows the new view, no longer the old.
    rig.publish(in_state(&rig, ViewState::NoIdentity));
    rig.script.hashed.send_replace(rig.script.own.view(8, &[]).into());
    let wider = next(&mut svids).await.unwrap().unwrap();
    assert_eq!(wider.svids[0].serial_hex(), "08".repeat(16));
    assert_eq!(rig.attestations(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn one_change_that_takes_an_identity_and_gives_another_does_not_end_the_stream() {
    let rig = Rig::start();
    let mut svids = rig.client().await.x509_svids().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    // The order of the agent: attestations are outdated first, then views change. Nothing runs between the two lines.
    rig.look_for_hashes();
    rig.publish(in_state(&rig, ViewState::NoIdentity));
    let wider = next(&mut svids).await.unwrap().unwrap();
    assert_eq!(wider.svids[0].serial_hex(), by_hash());
    rig.stop().await;
}

#[tokio::test]
async fn a_stream_keeps_what_it_has_when_it_cannot_be_attested_again() {
    let rig = Rig::start();
    let mut svids = rig.client().await.x509_svids().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    *rig.script.attestation_fails.lock().unwrap() = true;
    rig.look_for_hashes();
    until("it was tried", || rig.attestations() == 2).await;
    rig.publish(rig.script.own.view(2, &[]));
    let rotated = next(&mut svids).await.unwrap().unwrap();
    assert_eq!(rotated.svids[0].serial_hex(), "02".repeat(16));
    rig.stop().await;
}

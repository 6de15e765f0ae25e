//! What callers get, and when.

use std::{io::Read as _, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use landfast_identity::jwt;
use prost_types::value::Kind;
use tonic::Code;

use super::rig::{NOW, Rig, next, until};
use crate::{Limits, SourceError, ViewState};

#[tokio::test]
async fn the_first_answer_has_everything_in_order() {
    let rig = Rig::start();
    let context = rig.client().await.fetch_x509().await.unwrap();
    // Two have the same hint, of which one is told.
    let ids: Vec<_> = context
        .svids
        .iter()
        .map(|svid| (svid.id().path().to_owned(), svid.hint().to_owned()))
        .collect();
    let expected = [("/a", "main"), ("/c", "")].map(|(id, hint)| (id.to_owned(), hint.to_owned()));
    assert_eq!(ids, expected);
    for bundle in [rig.script.own.bundle(), rig.script.foreign.bundle()] {
        let got = context.bundles.get(bundle.trust_domain()).unwrap();
        assert_eq!(got.x509_der_concat(), bundle.x509_der_concat());
    }
    rig.stop().await;
}

#[tokio::test]
async fn a_hint_does_not_go_to_another_while_the_svid_that_has_it_is_missing() {
    let rig = Rig::start();
    let mut view = rig.script.own.view(1, &[]);
    view.x509.remove(0);
    rig.publish(view);
    let context = rig.client().await.fetch_x509().await.unwrap();
    let paths: Vec<_> = context.svids.iter().map(|svid| svid.id().path()).collect();
    assert_eq!(paths, ["/c"]);
    rig.stop().await;
}

#[tokio::test]
async fn changes_are_pushed_and_equal_states_are_not() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    let mut svids = client.x509_svids().await.unwrap();
    let mut bundles = client.x509_bundles().await.unwrap();
    let mut jwks = client.jwt_bundles().await.unwrap();
    let first = next(&mut svids).await.unwrap().unwrap();
    assert_eq!(next(&mut bundles).await.unwrap().unwrap().len(), 2);
    assert_eq!(next(&mut jwks).await.unwrap().unwrap().len(), 2);

    // The same content again, then a rotation without federation: only the second arrives.
    let same = (**rig.script.views.borrow()).clone();
    rig.publish(same);
    let rotated = rig.script.own.view(2, &[]);
    rig.publish(rotated);
    let second = next(&mut svids).await.unwrap().unwrap();
    assert_ne!(first.svids[0].serial_hex(), second.svids[0].serial_hex());
    assert_eq!(second.bundles.len(), 1, "redacted by omission");
    assert_eq!(next(&mut bundles).await.unwrap().unwrap().len(), 1);
    assert_eq!(next(&mut jwks).await.unwrap().unwrap().len(), 1);

    // New SVIDs, same bundles: the bundle stream stays silent until the bundles change too.
    rig.publish(rig.script.own.view(3, &[]));
    assert_eq!(
        next(&mut svids).await.unwrap().unwrap().svids[0].serial_hex(),
        "03".repeat(16)
    );
    rig.publish(rig.script.own.view(3, &[&rig.script.foreign]));
    assert_eq!(
        next(&mut bundles).await.unwrap().unwrap().len(),
        2,
        "an equal state was sent again"
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_withdrawn_identity_ends_the_stream() {
    let rig = Rig::start();
    let mut svids = rig.client().await.x509_svids().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    let mut view = rig.script.own.view(1, &[]);
    view.state = ViewState::NoIdentity;
    rig.publish(view);
    assert_eq!(
        next(&mut svids).await.unwrap().unwrap_err().code(),
        Some(Code::PermissionDenied)
    );
    assert!(next(&mut svids).await.is_none());
    rig.stop().await;
}

#[tokio::test]
async fn without_identity_every_fetch_is_denied() {
    let rig = Rig::start();
    let mut view = rig.script.own.view(1, &[]);
    view.state = ViewState::NoIdentity;
    rig.publish(view);
    let mut client = rig.client().await;
    let audience = ["x".to_owned()];
    let codes = [
        client.fetch_x509().await.unwrap_err().code(),
        client.x509_bundles().await.err().unwrap().code(),
        client.jwt_bundles().await.err().unwrap().code(),
        client.fetch_jwt(&audience, None).await.unwrap_err().code(),
        client.validate_jwt("x", "y").await.unwrap_err().code(),
    ];
    assert_eq!(codes, [Some(Code::PermissionDenied); 5]);
    // Ready, but with JWT identities only: `svids` must not be empty.
    let mut view = rig.script.own.view(1, &[]);
    view.x509.clear();
    rig.publish(view);
    assert_eq!(
        client.fetch_x509().await.unwrap_err().code(),
        Some(Code::PermissionDenied)
    );
    client.fetch_jwt(&audience, None).await.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn while_starting_a_request_waits_a_little_and_then_is_told_to_come_back() {
    let rig = Rig::with(Limits {
        first_answer: Duration::from_millis(200),
        ..Limits::default()
    });
    let ready = rig.script.own.view(1, &[]);
    let mut starting = ready.clone();
    starting.state = ViewState::Starting;
    rig.publish(starting.clone());
    let mut client = rig.client().await;
    let audience = ["a".to_owned()];
    assert_eq!(
        client.fetch_x509().await.unwrap_err().code(),
        Some(Code::Unavailable)
    );
    assert_eq!(
        client.fetch_jwt(&audience, None).await.unwrap_err().code(),
        Some(Code::Unavailable)
    );
    // A long outage: the X509-SVIDs are over, or a first one cannot be had. Tokens and bundles do not need them.
    starting.state = ViewState::WithoutX509;
    starting.x509.clear();
    rig.publish(starting.clone());
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    assert!(
        refused.to_string().ends_with("no X509-SVID can be had now"),
        "{refused}"
    );
    client.fetch_jwt(&audience, None).await.unwrap();
    client.jwt_bundles().await.unwrap().next().await.unwrap().unwrap();
    client
        .x509_bundles()
        .await
        .unwrap()
        .next()
        .await
        .unwrap()
        .unwrap();
    let (answer, ()) = tokio::join!(client.fetch_x509(), async {
        until("the request waits", || rig.gauges.streams() == 1).await;
        rig.publish(ready);
    });
    answer.unwrap();
    rig.stop().await;
}

#[tokio::test]
async fn jwt_svids_are_for_one_or_for_all_identities() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    let audience = ["spiffe://own.test/x".to_owned(), "y".to_owned()];
    let all = client.fetch_jwt(&audience, None).await.unwrap();
    assert_eq!(
        all.iter().map(|jwt| jwt.hint.as_str()).collect::<Vec<_>>(),
        ["main", ""]
    );
    let own = rig.script.own.id("/b");
    let one = client.fetch_jwt(&audience, Some(&own)).await.unwrap();
    assert_eq!(one.len(), 1);
    let token = jwt::parse_unverified(&one[0].token).unwrap();
    assert_eq!((token.id(), token.audience()), (&own, &audience[..]));

    let other = rig.script.own.id("/other");
    assert_eq!(
        client
            .fetch_jwt(&audience, Some(&other))
            .await
            .unwrap_err()
            .code(),
        Some(Code::PermissionDenied)
    );
    // Empty ones among others are dropped, as SPIRE's agent drops them.
    let some = vec![String::new(), "a".to_owned()];
    let fetched = client.fetch_jwt(&some, None).await.unwrap();
    let again = client.fetch_jwt(&["a".to_owned()], None).await.unwrap();
    let said = |token: &str| token.rsplit_once('.').unwrap().0.to_owned();
    assert_eq!(said(&fetched[0].token), said(&again[0].token));
    for audience in [vec![], vec![String::new()], vec![String::new(); 2]] {
        assert_eq!(
            client.fetch_jwt(&audience, None).await.unwrap_err().code(),
            Some(Code::InvalidArgument)
        );
    }
    let refused = client
        .fetch_jwt(&vec!["a".to_owned(); 33], None)
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Some(Code::InvalidArgument));
    assert!(refused.to_string().contains("at most 32 audiences"), "{refused}");
    let errors = [
        (SourceError::NoIdentity, Code::PermissionDenied),
        (SourceError::Unavailable("secret".to_owned()), Code::Unavailable),
        (
            SourceError::InvalidArgument("x".to_owned()),
            Code::InvalidArgument,
        ),
    ];
    for (error, code) in errors {
        *rig.script.jwt_error.lock().unwrap() = Some(error);
        let refused = client.fetch_jwt(&audience, None).await.unwrap_err();
        assert_eq!(refused.code(), Some(code));
        assert!(
            !refused.to_string().contains("secret"),
            "the reason is for the log"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn validation_shows_own_claims_and_reduces_foreign_ones() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    let audience = ["x".to_owned()];
    let own = client
        .validate_jwt("x", &rig.script.own.token("/a", &audience))
        .await
        .unwrap();
    assert_eq!(own.id, rig.script.own.id("/a"));
    let names: Vec<_> = own.claims.fields.keys().map(String::as_str).collect();
    assert_eq!(names, ["aud", "exp", "iat", "iss", "jti", "sub"]);
    assert!(matches!(&own.claims.fields["aud"].kind, Some(Kind::ListValue(list)) if list.values.len() == 1));
    let exp = (NOW.as_secs() + 300) as f64;
    assert_eq!(own.claims.fields["exp"].kind, Some(Kind::NumberValue(exp)));

    let foreign_token = rig.script.foreign.token("/a", &audience);
    let foreign = client.validate_jwt("x", &foreign_token).await.unwrap();
    let names: Vec<_> = foreign.claims.fields.keys().map(String::as_str).collect();
    assert_eq!(names, ["aud", "exp", "sub"]);

    for (audience, token) in [
        ("", foreign_token.as_str()),
        ("x", ""),
        ("y", &foreign_token),
        ("x", "a.b.c"),
    ] {
        let refused = client.validate_jwt(audience, token).await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::InvalidArgument), "{audience} {token}");
    }
    *rig.script.now.lock().unwrap() = None;
    assert_eq!(
        client.validate_jwt("x", &foreign_token).await.unwrap_err().code(),
        Some(Code::Unavailable)
    );
    rig.stop().await;
}

#[tokio::test]
async fn a_connection_is_attested_once_and_a_failure_is_not_remembered() {
    let rig = Rig::start();
    let mut client = rig.client().await;
    *rig.script.attestation_fails.lock().unwrap() = true;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::Unavailable));
    assert!(
        !refused.to_string().contains("script"),
        "the reason is for the log: {refused}"
    );
    *rig.script.attestation_fails.lock().unwrap() = false;
    for _ in 0..3 {
        client.fetch_x509().await.unwrap();
    }
    assert_eq!(rig.attestations(), 2);
    rig.stop().await;
}

#[tokio::test]
async fn shutdown_ends_open_streams() {
    let rig = Rig::start();
    let mut svids = rig.client().await.x509_svids().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    let (end, ()) = tokio::join!(next(&mut svids), rig.stop());
    assert_eq!(end.unwrap().unwrap_err().code(), Some(Code::Unavailable));
}

/// The test binary, started again as a caller; its standard output is the answers' bytes.
pub(super) fn caller(rig: &Rig, method: &str) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::streams::child_opens_a_stream_and_becomes_another_program",
            "--nocapture",
        ])
        .env("LANDFAST_TEST_SOCKET", &rig.path)
        .env("LANDFAST_TEST_METHOD", method)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

/// Has it execute the other program, and returns at once, before the check of each second has seen it.
pub(super) fn becomes_another_program(child: &mut std::process::Child) {
    let exe = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let before = exe(child.id());
    assert_eq!(before, std::env::current_exe().ok());
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    let begin = tokio::time::Instant::now();
    while exe(child.id()) == before {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not execute");
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn after_exec_nothing_more_is_pushed_and_the_connection_ends() {
    let rig = Rig::start();
    let mut child = caller(&rig, X509);
    until("the stream is open", || rig.gauges.streams() == 1).await;
    becomes_another_program(&mut child);
    rig.publish(rig.script.own.view(9, &[]));
    until("the connection has ended", || rig.gauges.connections() == 0).await;
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    child.wait().unwrap();
    let secret = rig.script.views.borrow().x509[0]
        .svid
        .key()
        .as_pkcs8_der()
        .to_vec();
    assert!(
        !output.windows(secret.len()).any(|window| window == secret),
        "the new program got a key"
    );
    // HEADERS with END_STREAM and END_HEADERS on stream 1: the status.
    assert!(
        output.windows(6).any(|window| window == [1, 5, 0, 0, 0, 1]),
        "the stream has no end"
    );
    rig.stop().await;
}

/// The other half of the test above; does nothing by itself.
#[test]
fn child_opens_a_stream_and_becomes_another_program() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how a test speaks to itself in another process"
    )]
    let (Ok(path), Ok(method)) = (
        std::env::var("LANDFAST_TEST_SOCKET"),
        std::env::var("LANDFAST_TEST_METHOD"),
    ) else {
        return;
    };
    let stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    let mut socket = super::protocol::RawRequest::new(&method).send(stream);
    // Up to the end of the first frame of DATA: all of the first answer, and no key is left for `cat` to read.
    loop {
        let mut header = [0; 9];
        socket.read_exact(&mut header).unwrap();
        let mut payload = vec![0; usize::from(header[1]) << 8 | usize::from(header[2])];
        socket.read_exact(&mut payload).unwrap();
        if header[3] == 0 {
            break;
        }
    }
    std::io::stdin().read_exact(&mut [0]).unwrap();
    // `cat` inherits the socket as its input and copies what still comes.
    let error = std::os::unix::process::CommandExt::exec(
        std::process::Command::new("/bin/cat").stdin(std::os::fd::OwnedFd::from(socket)),
    );
    panic!("cannot execute cat: {error}");
}

#[tokio::test]
async fn an_exit_ends_the_connection_even_if_the_socket_lives_on() {
    let rig = Rig::start();
    let mut child = caller(&rig, X509);
    until("the stream is open", || rig.gauges.streams() == 1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    until("the connection has ended", || rig.gauges.connections() == 0).await;
    rig.stop().await;
}

#[tokio::test]
async fn streams_share_the_bytes_of_a_key() {
    let rig = Rig::start();
    let view = rig.script.views.borrow().clone();
    let message = crate::encode::x509_svids(&view).unwrap();
    let copy = message.clone();
    assert_eq!(
        message.svids[0].x509_svid_key.as_ptr(),
        copy.svids[0].x509_svid_key.as_ptr()
    );
    assert_eq!(
        message.svids[0].x509_svid_key.as_ptr(),
        view.x509[0].svid.key().as_pkcs8_der().as_ptr()
    );
    assert_eq!(Arc::strong_count(&view.x509[0].svid), 2);
    rig.stop().await;
}

const X509: &str = "/SpiffeWorkloadAPI/FetchX509SVID";

/// Sources have some SVIDs made only for who asks for them.
#[tokio::test]
async fn x509_svids_are_asked_for_by_whoever_wants_them_and_by_nobody_else() {
    use std::sync::atomic::Ordering;
    let rig = Rig::start();
    let asked = || rig.script.x509_asked.load(Ordering::SeqCst);
    let mut client = rig.client().await;
    let audience = ["a".to_owned()];
    let tokens = client.fetch_jwt(&audience, None).await.unwrap();
    assert!(!tokens.is_empty());
    let mut bundles = client.jwt_bundles().await.unwrap();
    next(&mut bundles).await.unwrap().unwrap();
    assert_eq!(asked(), 0);
    let mut svids = client.x509_svids().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    let before = asked();
    assert!(before > 0);
    // What comes later may have to be asked for too.
    rig.publish(rig.script.own.view(2, &[]));
    next(&mut svids).await.unwrap().unwrap();
    assert!(asked() > before);
    rig.stop().await;
}

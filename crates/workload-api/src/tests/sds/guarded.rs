//! What holds for every caller of the socket holds for Envoys: attestation, limits, and the end of the process.

use std::{io::Read as _, os::unix::net::UnixStream, time::Duration};

use landfast_proto::envoy::service::discovery::v3::DiscoveryRequest;
use tonic::Code;

use super::client::*;
use crate::{
    Limits,
    tests::{
        protocol::RawRequest,
        rig::{Rig, until},
    },
};

#[tokio::test]
async fn a_caller_is_attested_and_a_failure_tells_nothing() {
    let rig = Rig::start();
    let client = &mut connect(&rig).await;
    *rig.script.attestation_fails.lock().unwrap() = true;
    let refused = whole(client, ask(&["default"])).await.err().unwrap();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(!refused.message().contains("script"), "{refused}");
    *rig.script.attestation_fails.lock().unwrap() = false;
    // One attestation for all streams of a connection, without the header that only the Workload API asks for.
    let mut one = whole(client, ask(&["default"])).await.unwrap();
    let mut two = delta(client, ask_delta(&["default"])).await.unwrap();
    one.hear().await.unwrap();
    two.hear().await.unwrap();
    assert_eq!(rig.attestations(), 2);
    drop((one, two));
    rig.stop().await;
}

#[tokio::test]
async fn an_open_stream_follows_what_a_wider_look_finds() {
    let rig = Rig::start();
    let mut stream = whole(&mut connect(&rig).await, ask(&["default"])).await.unwrap();
    let first = stream.hear().await.unwrap();
    rig.look_for_hashes();
    let second = stream.hear().await.unwrap();
    let hashed = rig.script.hashed.borrow().x509[0].svid.clone();
    let (chain, _key) = certificate(secret(&second.resources[0]));
    assert_eq!(chain, landfast_identity::chain_to_pem(hashed.chain()));
    assert_ne!(first.version_info, second.version_info);
    drop(stream);
    rig.stop().await;
}

#[tokio::test]
async fn one_stream_too_many_is_refused_by_name() {
    for (limits, name) in [
        (
            Limits {
                streams_per_process: 2,
                ..Limits::default()
            },
            "streams_per_process",
        ),
        (
            Limits {
                streams_per_uid: 2,
                ..Limits::default()
            },
            "streams_per_uid",
        ),
    ] {
        let rig = Rig::with(limits);
        let client = &mut connect(&rig).await;
        let one = whole(client, ask(&["default"])).await.unwrap();
        let mut two = delta(client, ask_delta(&["default"])).await.unwrap();
        two.hear().await.unwrap();
        let refused = client.fetch_secrets(ask(&[])).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.message().contains(name), "{refused}");
        drop(one);
        until("a place is free", || rig.gauges.streams() == 1).await;
        client.fetch_secrets(ask(&[])).await.unwrap();
        drop(two);
        rig.stop().await;
    }
}

fn padded(length: usize) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: "x".repeat(length),
        ..ask(&["default"])
    }
}

#[tokio::test]
async fn a_request_as_large_as_an_envoys_is_read_and_a_larger_one_is_not() {
    let rig = Rig::start();
    let client = &mut connect(&rig).await;
    client.fetch_secrets(padded(200_000)).await.unwrap();
    let refused = client.fetch_secrets(padded(300_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    let refused = whole(client, padded(300_000)).await.err().unwrap();
    assert_eq!(refused.code(), Code::OutOfRange);
    // Of an open stream too.
    let mut stream = whole(client, padded(100_000)).await.unwrap();
    stream.hear().await.unwrap();
    stream.say(padded(300_000));
    assert_eq!(stream.hear().await.unwrap_err().code(), Code::OutOfRange);
    rig.stop().await;
}

/// T-22: what is not complete holds memory, and is counted by it.
#[tokio::test]
async fn incomplete_requests_are_counted_by_what_they_may_hold() {
    let limits = Limits {
        connections_per_uid: 20,
        request_complete: Duration::from_millis(300),
        ..Limits::default()
    };
    assert_eq!(limits.sds_turns(), 13);
    let rig = Rig::with(limits);
    let path = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
    let plain = RawRequest::with(path, "localhost", &[]).bytes();
    let begun = &plain[..plain.len() - 14];
    let open = || {
        let mut socket = UnixStream::connect(&rig.path).unwrap();
        std::io::Write::write_all(&mut socket, begun).unwrap();
        socket
    };
    let first = open();
    until("it has its place", || rig.gauges.streams() == 1).await;
    let refused = connect(&rig).await.fetch_secrets(ask(&[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("incomplete_requests_per_uid"),
        "{refused}"
    );
    // Not those of the Workload API, which are small.
    rig.client().await.fetch_x509().await.unwrap();
    until("its time is over", || rig.gauges.streams() == 0).await;
    connect(&rig).await.fetch_secrets(ask(&[])).await.unwrap();
    drop(first);
    rig.stop().await;
}

#[tokio::test]
async fn shutdown_ends_open_streams() {
    let rig = Rig::start();
    let mut stream = whole(&mut connect(&rig).await, ask(&["default"])).await.unwrap();
    stream.hear().await.unwrap();
    let (end, ()) = tokio::join!(stream.hear(), rig.stop());
    assert_eq!(end.unwrap_err().code(), Code::Unavailable);
}

/// The test binary, started again as a caller.
fn caller(rig: &Rig) -> std::process::Child {
    std::process::Command::new(std::env::current_exe().unwrap())
        .args([
            "--exact",
            "tests::sds::guarded::child_opens_a_stream_and_becomes_another_program",
            "--nocapture",
        ])
        .env("LANDFAST_TEST_SOCKET", &rig.path)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn after_exec_nothing_more_is_pushed() {
    let rig = Rig::start();
    let mut child = caller(&rig);
    until("the stream is open", || rig.gauges.streams() == 1).await;
    let exe = |pid: u32| std::fs::read_link(format!("/proc/{pid}/exe")).ok();
    let before = exe(child.id());
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\n").unwrap();
    let begin = tokio::time::Instant::now();
    while exe(child.id()) == before {
        assert!(begin.elapsed() < Duration::from_secs(20), "it does not execute");
        std::thread::yield_now();
    }
    rig.publish(rig.script.own.view(9, &[]));
    until("the connection has ended", || rig.gauges.connections() == 0).await;
    let mut output = Vec::new();
    child.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    child.wait().unwrap();
    let secret = b"BEGIN PRIVATE KEY";
    assert!(
        !output.windows(secret.len()).any(|window| window == secret),
        "the new program got a key"
    );
    rig.stop().await;
}

#[tokio::test]
async fn an_exit_ends_the_connection_even_if_the_socket_lives_on() {
    let rig = Rig::start();
    let mut child = caller(&rig);
    until("the stream is open", || rig.gauges.streams() == 1).await;
    child.kill().unwrap();
    child.wait().unwrap();
    until("the connection has ended", || rig.gauges.connections() == 0).await;
    rig.stop().await;
}

/// The other half of the tests above; does nothing by itself.
#[test]
fn child_opens_a_stream_and_becomes_another_program() {
    #[expect(
        clippy::disallowed_methods,
        reason = "how a test speaks to itself in another process"
    )]
    let Ok(path) = std::env::var("LANDFAST_TEST_SOCKET") else {
        return;
    };
    let path = std::path::PathBuf::from(path);
    let method = "/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets";
    // An empty request asks for everything; the frame that ends the request does not end this one: its flag is cleared.
    let mut request = RawRequest::with(method, "localhost", &[]).bytes();
    let flags = request.len() - 14 + 4;
    request[flags] = 0;
    let mut socket = UnixStream::connect(path).unwrap();
    std::io::Write::write_all(&mut socket, &request).unwrap();
    // Up to the end of the first answer, which is larger than a frame may be.
    let mut left = None;
    while left != Some(0) {
        let mut header = [0; 9];
        socket.read_exact(&mut header).unwrap();
        let length = usize::from(header[1]) << 8 | usize::from(header[2]);
        let mut payload = vec![0; length];
        socket.read_exact(&mut payload).unwrap();
        if header[3] == 0 {
            let all =
                left.unwrap_or_else(|| 5 + u32::from_be_bytes(payload[1..5].try_into().unwrap()) as usize);
            left = Some(all - length);
        }
    }
    std::io::stdin().read_exact(&mut [0]).unwrap();
    let error = std::os::unix::process::CommandExt::exec(
        std::process::Command::new("/bin/cat").stdin(std::os::fd::OwnedFd::from(socket)),
    );
    panic!("cannot execute cat: {error}");
}

//! Which server is spoken to, how it is reached, and who is none.

use super::*;

#[tokio::test]
async fn the_next_server_of_the_list_is_used_when_the_first_is_dead() {
    let server = server_with(&[]).await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = dead.local_addr().unwrap();
    drop(dead);
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![
        gone.to_string(),
        "does-not-exist.invalid:1".to_owned(),
        server.address.to_string(),
    ];
    let node = Setup {
        servers,
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    assert_eq!(node.status().address, server.address.to_string());
    node.stop().await;
}

#[tokio::test]
async fn each_address_is_named_when_none_answers() {
    let server = server_with(&[]).await;
    let dead = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = dead.local_addr().unwrap().to_string();
    drop(dead);
    let dir = tempfile::tempdir().unwrap();
    let servers = vec![gone.clone(), "does-not-exist.invalid:1".to_owned()];
    let node = Setup {
        servers,
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.error(&gone).await;
    node.error("does-not-exist.invalid:1: cannot resolve the name")
        .await;
    assert_eq!(server.calls("AttestAgent"), 0);
    node.stop().await;
}

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "a test's proxy ends with the test")]
async fn the_way_to_the_server_can_lead_through_a_proxy() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let proxy = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = proxy.local_addr().unwrap();
    let target = server.address;
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        loop {
            let (mut client, _) = proxy.accept().await.unwrap();
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(client.read_u8().await.unwrap());
                }
                // The name is the proxy's to resolve: the agent need not know it.
                assert!(head.starts_with(b"CONNECT only-the-proxy-knows.invalid:8081 HTTP/1.1\r\n"));
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                let mut server = tokio::net::TcpStream::connect(target).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut client, &mut server).await);
            });
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let servers = vec!["only-the-proxy-knows.invalid:8081".to_owned()];
    let node = Setup {
        servers,
        proxy: Some(format!("http://{address}")),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
async fn a_server_of_another_authority_is_not_spoken_to() {
    let server = server_with(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup {
        bundle: Ca::new("other").bundle(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.error("an authority this node does not know").await;
    assert_eq!(server.calls("AttestAgent"), 0, "no token was shown");
    node.stop().await;
}

#[tokio::test]
async fn a_peer_of_the_right_authority_that_is_not_the_server_is_not_spoken_to() {
    let server = FakeServer::start_as(Ca::new("one"), id("/workload")).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.error("what answers is not the server").await;
    assert_eq!(server.calls("AttestAgent"), 0, "no token was shown");
    node.stop().await;
}

#[tokio::test]
async fn a_clock_behind_the_servers_certificate_is_told_as_such_at_the_first_contact() {
    let server = server_with(&[]).await;
    let dir = tempfile::tempdir().unwrap();
    let clock = crate::testing::StoppedClock::at(UnixTime::from_secs(1_100_000_000));
    let node = Setup {
        clock: clock.clone(),
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.error("clock is behind by").await;
    assert_eq!(server.calls("AttestAgent"), 0);
    clock.set(real_clock().now().unwrap());
    node.serving().await;
    node.stop().await;
}

#[tokio::test]
async fn attestation_never_shows_an_old_certificate() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    server.script().deny = Some(2);
    until("it attests again", || server.calls("AttestAgent") == 2).await;
    node.serving().await;
    assert_eq!(server.script().shown_at_attestation, [None, None]);
    node.stop().await;
}

#[tokio::test]
async fn a_connection_that_was_only_old_is_replaced_at_once_and_without_a_word() {
    let server = server_with(&[("a", "/a", "unix:uid:1")]).await;
    let dir = tempfile::tempdir().unwrap();
    // Whoever counts this as a failure waits for longer than the test does.
    let retry = (Duration::from_secs(120), Duration::from_secs(120));
    let node = Setup {
        retry,
        ..Setup::new(&server, dir.path())
    }
    .start();
    node.serving().await;
    for round in 1..4 {
        let rounds = server.calls("SyncAuthorizedEntries");
        server.break_connections();
        until("it goes on", || {
            server.calls("SyncAuthorizedEntries") > rounds + 2
        })
        .await;
        assert_eq!(node.status().phase, Phase::Serving);
        assert_eq!(server.calls("PostStatus"), round + 1, "a new connection");
    }
    node.stop().await;
}

//! Limits and misbehaving clients (threats T-22, T-23).

use std::time::Duration;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
};
use tonic::Code;

use super::{
    protocol::RawRequest,
    rig::{Rig, next, until},
};
use crate::Limits;

#[tokio::test]
async fn one_stream_too_many_is_refused_by_name_and_comes_back_when_one_ends() {
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
        let (mut one, mut two) = (rig.client().await, rig.client().await);
        let first = one.x509_svids().await.unwrap();
        let mut second = two.x509_svids().await.unwrap();
        next(&mut second).await.unwrap().unwrap();
        let attested = rig.attestations();
        let mut third = rig.client().await;
        let refused = third.fetch_x509().await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::ResourceExhausted));
        assert!(refused.to_string().contains(name), "{refused}");
        assert_eq!(rig.attestations(), attested, "charged before attestation");
        drop(first);
        until("a place is free", || rig.gauges.streams() == 1).await;
        third.fetch_x509().await.unwrap();
        drop((second, one, two, third));
        rig.stop().await;
    }
}

#[tokio::test]
async fn one_connection_too_many_is_refused_by_name() {
    for (limits, name) in [
        (
            Limits {
                connections_per_process: 2,
                ..Limits::default()
            },
            "connections_per_process",
        ),
        (
            Limits {
                connections_per_uid: 2,
                ..Limits::default()
            },
            "connections_per_uid",
        ),
        (
            Limits {
                connections_total: 2,
                ..Limits::default()
            },
            "connections_total",
        ),
    ] {
        let rig = Rig::with(limits);
        let (mut one, mut two) = (rig.client().await, rig.client().await);
        one.fetch_x509().await.unwrap();
        two.fetch_x509().await.unwrap();
        assert_eq!((rig.gauges.connections(), rig.gauges.processes()), (2, 1));
        let mut third = rig.client().await;
        let refused = third.fetch_x509().await.unwrap_err();
        assert_eq!(refused.code(), Some(Code::ResourceExhausted));
        assert!(refused.to_string().contains(name), "{refused}");
        drop(one);
        until("a place is free", || rig.gauges.connections() == 1).await;
        rig.client().await.fetch_x509().await.unwrap();
        drop((two, third));
        rig.stop().await;
    }
}

#[tokio::test]
async fn a_client_that_does_not_finish_the_handshake_is_closed() {
    let rig = Rig::with(Limits {
        handshake_timeout: Duration::from_secs(1),
        ..Limits::default()
    });
    let silent = UnixStream::connect(&rig.path).await.unwrap();
    let mut slow = UnixStream::connect(&rig.path).await.unwrap();
    slow.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    until("both are taken in", || rig.gauges.connections() == 2).await;
    until("both are closed", || rig.gauges.connections() == 0).await;
    drop((silent, slow));
    rig.stop().await;
}

/// Requests with a window of zero: SETTINGS_INITIAL_WINDOW_SIZE (4) is 0.
fn without_window() -> Vec<u8> {
    let plain = RawRequest::new("/SpiffeWorkloadAPI/FetchX509SVID").bytes();
    let (preface, rest) = plain.split_at(24);
    let settings = [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0];
    [preface, &settings, &rest[9..]].concat()
}

#[tokio::test]
async fn a_client_that_answers_pings_but_never_takes_its_answer_is_dropped() {
    let rig = Rig::with(Limits {
        stalled_reader: Duration::ZERO,
        ..Limits::default()
    });
    let mut socket = UnixStream::connect(&rig.path).await.unwrap();
    socket.write_all(&without_window()).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(15), socket.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "it is still served");
    assert_eq!(rig.attestations(), 1, "there was an answer to take");
    until("its place is free", || {
        rig.gauges.streams() == 0 && rig.gauges.connections() == 0
    })
    .await;
    rig.stop().await;
}

#[tokio::test]
async fn an_idle_reader_with_room_is_not_taken_for_a_stalled_one() {
    let rig = Rig::with(Limits {
        stalled_reader: Duration::ZERO,
        ..Limits::default()
    });
    let mut svids = rig.client().await.x509_svids().await.unwrap();
    next(&mut svids).await.unwrap().unwrap();
    // A second client that is stalled is dropped by the same look: the system had its turn.
    let mut socket = UnixStream::connect(&rig.path).await.unwrap();
    socket.write_all(&without_window()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(15), socket.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    rig.publish(rig.script.own.view(2, &[]));
    next(&mut svids).await.unwrap().unwrap();
    drop(svids);
    rig.stop().await;
}

#[tokio::test]
async fn an_oversized_message_is_refused() {
    let rig = Rig::with(Limits {
        max_message: 1024,
        ..Limits::default()
    });
    let mut client = rig.client().await;
    let refused = client.validate_jwt("x", &"a".repeat(2000)).await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::OutOfRange), "{refused}");
    assert_eq!(rig.attestations(), 0);
    client.fetch_x509().await.unwrap();
    rig.stop().await;
}

/// A request that lacks its last byte.
fn incomplete() -> Vec<u8> {
    let plain = RawRequest::new("/SpiffeWorkloadAPI/FetchX509SVID").bytes();
    // Instead of the empty message that ends the request: one of two bytes, of which one comes.
    let (request, _) = plain.split_at(plain.len() - 14);
    let begun = [0, 0, 6, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 2, 7];
    [request, &begun].concat()
}

/// T-22.
#[tokio::test]
async fn a_message_that_is_never_complete_holds_its_place_for_a_while_only() {
    let rig = Rig::with(Limits {
        request_complete: Duration::from_millis(200),
        ..Limits::default()
    });
    let mut socket = UnixStream::connect(&rig.path).await.unwrap();
    socket.write_all(&incomplete()).await.unwrap();
    until("it has its place", || rig.gauges.streams() == 1).await;
    until("its place is free", || rig.gauges.streams() == 0).await;
    assert_eq!((rig.gauges.connections(), rig.attestations()), (1, 0));
    drop(socket);
    rig.stop().await;
}

/// T-22: each holds memory, so there are not as many of them as there may be streams.
#[tokio::test]
async fn one_incomplete_request_too_many_is_refused_by_name() {
    let rig = Rig::with(Limits {
        connections_per_uid: 2,
        ..Limits::default()
    });
    let mut socket = UnixStream::connect(&rig.path).await.unwrap();
    socket.write_all(&incomplete()).await.unwrap();
    // Another on stream 3: the same frames without the preface and the SETTINGS.
    let mut another = incomplete()[33..].to_vec();
    let headers = 9 + usize::from(another[2]);
    (another[8], another[headers + 8]) = (3, 3);
    socket.write_all(&another).await.unwrap();
    until("both have their places", || rig.gauges.streams() == 2).await;
    let mut client = rig.client().await;
    let refused = client.fetch_x509().await.unwrap_err();
    assert_eq!(refused.code(), Some(Code::ResourceExhausted));
    assert!(
        refused.to_string().contains("incomplete_requests_per_uid"),
        "{refused}"
    );
    assert_eq!(rig.attestations(), 0);
    drop(socket);
    until("their places are free", || rig.gauges.streams() == 0).await;
    client.fetch_x509().await.unwrap();
    drop(client);
    rig.stop().await;
}

/// The largest token that is verified fits into a request.
#[tokio::test]
async fn a_token_of_the_largest_size_is_read() {
    let rig = Rig::start();
    let token = "a".repeat(16 * 1024);
    let audience = "x".repeat(2048);
    let refused = rig.client().await.validate_jwt(&audience, &token).await;
    assert_eq!(refused.unwrap_err().code(), Some(Code::InvalidArgument));
    assert_eq!(rig.attestations(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn the_number_of_streams_is_announced() {
    let rig = Rig::start();
    let mut socket = UnixStream::connect(&rig.path).await.unwrap();
    socket.write_all(&RawRequest::new("/x").bytes()).await.unwrap();
    let mut header = [0; 9];
    socket.read_exact(&mut header).await.unwrap();
    assert_eq!(header[3], 4, "SETTINGS comes first");
    let mut settings = vec![0; usize::from(header[2])];
    socket.read_exact(&mut settings).await.unwrap();
    let announced = settings
        .chunks(6)
        .find(|setting| setting[..2] == [0, 3])
        .expect("MAX_CONCURRENT_STREAMS");
    assert_eq!(u32::from_be_bytes(announced[2..].try_into().unwrap()), 256 + 16);
    drop(socket);
    rig.stop().await;
}

#[tokio::test]
async fn five_hundred_connections_leave_nothing_behind() {
    let rig = Rig::start();
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    rig.client().await.fetch_x509().await.unwrap();
    for _ in 0..500 {
        drop(UnixStream::connect(&rig.path).await.unwrap());
    }
    rig.client().await.fetch_x509().await.unwrap();
    until("all are gone", || rig.gauges.connections() == 0).await;
    // Other tests open and close descriptors at the same time: only a leak of this size would show.
    until("descriptors are closed", || descriptors() < 400).await;
    rig.stop().await;
}

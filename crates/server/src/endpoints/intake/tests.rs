//! Lengths, and real servers that are promised much and sent little. T-17c.

use landfast_identity::SpiffeId;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::server::rig::{Rig, td};

const SMALL: Allowance = Allowance {
    message: 100,
    in_all: 250,
};

fn held(intake: &Arc<Intake>) -> Held {
    Held {
        intake: Arc::clone(intake),
        allowance: SMALL,
        bytes: AtomicUsize::new(0),
    }
}

#[test]
fn lengths_are_found_however_the_body_is_cut() {
    let mut body = Vec::new();
    for length in [0_usize, 3, 300, 0, 70_000] {
        body.push(0);
        body.extend(u32::try_from(length).unwrap().to_be_bytes());
        body.extend(vec![0xff; length]);
    }
    for piece in [1, 2, 4, 5, 7, 1000, body.len()] {
        let (mut prefix, mut lengths) = (Prefix::default(), Vec::new());
        for data in body.chunks(piece) {
            let found = prefix.read(data, |length| {
                lengths.push(length);
                Ok::<(), ()>(())
            });
            found.unwrap();
        }
        assert_eq!(lengths, [0, 3, 300, 0, 70_000], "in pieces of {piece}");
    }
}

#[test]
fn all_requests_of_a_peer_share_what_it_may_send() {
    let intake = Intake::within(&Total::of(1000));
    let requests: Vec<_> = (0..3).map(|_| held(&intake)).collect();
    assert!(requests[0].message(101).is_err());
    requests[0].message(100).unwrap();
    requests[1].message(100).unwrap();
    assert!(requests[2].message(51).is_err());
    requests[2].message(50).unwrap();
    // A further message of a stream costs what it is larger by.
    requests[2].message(40).unwrap();
    assert!(requests[2].message(51).is_err());
    drop(requests);
    assert_eq!(intake.own.load(Relaxed), 0);
    assert_eq!(intake.all.held.load(Relaxed), 0);
}

#[test]
fn all_peers_together_share_what_the_server_can_hold() {
    let all = Total::of(120);
    let (one, other) = (held(&Intake::within(&all)), held(&Intake::within(&all)));
    one.message(100).unwrap();
    let refused = other.message(21).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let pushback = refused.metadata().get(landfast_proto::PUSHBACK).unwrap();
    assert!((1000..=6000).contains(&pushback.to_str().unwrap().parse().unwrap()));
    other.message(20).unwrap();
    drop(one);
    // What was refused is not counted.
    other.message(100).unwrap();
    drop(other);
    assert_eq!(all.held.load(Relaxed), 0);
}

/// A body that says what it is told to, and perhaps never ends.
struct Said(Option<Bytes>, bool);

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = Status;
    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.take() {
            Some(said) => Poll::Ready(Some(Ok(Frame::data(said)))),
            None if self.1 => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}

/// What the server answers to a message of so many bytes, when it has come or when only its length has.
async fn send(channel: Channel, method: &str, length: usize, whole: bool) -> Code {
    let mut said = vec![0];
    said.extend(u32::try_from(length).unwrap().to_be_bytes());
    if whole {
        // One field that nobody knows.
        let field = [0xfa, 0x7f];
        said.extend(field);
        let rest = length - field.len() - 4;
        said.extend(
            [0, 7, 14, 21].map(|shift| (rest >> shift) as u8 & 0x7f | if shift < 21 { 0x80 } else { 0 }),
        );
        said.extend(vec![0; rest]);
    }
    let request = http::Request::post(format!("http://server.invalid{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(Said(Some(said.into()), whole)))
        .unwrap();
    let answer = tower::ServiceExt::oneshot(channel, request).await.unwrap();
    Status::from_header_map(answer.headers()).map_or(Code::Ok, |status| status.code())
}

const GET: &str = "/spire.api.server.bundle.v1.Bundle/GetBundle";
const SIGN: &str = "/spire.api.server.svid.v1.SVID/BatchNewX509SVID";
const COUNT: &str = "/spire.api.server.entry.v1.Entry/CountEntries";
const KIB: usize = 1024;

async fn soon<T>(what: impl Future<Output = T>) -> T {
    let bound = Duration::from_secs(20);
    tokio::time::timeout(bound, what).await.expect("no answer")
}

/// T-17c.
#[tokio::test]
async fn a_message_that_is_too_large_for_its_sender_is_not_waited_for() {
    let admin = SpiffeId::from_parts(&td(), "/ops").unwrap();
    let rig = Rig::with(|config| config.admin_ids = vec![admin]).await;
    let node = rig.node().await;
    let nobody = rig.tls(None).await.unwrap();
    let admin = rig.tls(Some(rig.mint("/ops").await)).await.unwrap();
    for (channel, method, most, right) in [
        (&nobody, GET, 128 * KIB, Code::Ok),
        (&node.channel, GET, 128 * KIB, Code::Ok),
        (&node.channel, SIGN, 1024 * KIB, Code::InvalidArgument),
        (&admin, COUNT, 4096 * KIB, Code::Ok),
    ] {
        let whole = soon(send(channel.clone(), method, most, true)).await;
        assert_eq!(whole, right, "{method}");
        let promised = soon(send(channel.clone(), method, most + 1, false)).await;
        assert_eq!(promised, Code::ResourceExhausted, "{method}");
    }
    let local = soon(send(rig.admin().await, COUNT, 4096 * KIB, true)).await;
    assert_eq!(local, Code::Ok);
    rig.tear_down().await;
}

/// T-17c.
#[tokio::test]
async fn an_address_makes_the_server_hold_so_much_on_all_its_connections() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let channels = [rig.tls(None).await.unwrap(), rig.tls(None).await.unwrap()];
    let mut promises: futures_util::stream::FuturesUnordered<_> = (0..40)
        .map(|n| send(channels[n % 2].clone(), GET, 128 * KIB, false))
        .collect();
    // 4 MiB are 32 of them.
    for _ in 0..8 {
        let code = soon(futures_util::StreamExt::next(&mut promises)).await;
        assert_eq!(code, Some(Code::ResourceExhausted));
    }
    // An agent at the same address is somebody else.
    assert_eq!(
        soon(send(node.channel.clone(), GET, 128 * KIB, true)).await,
        Code::Ok
    );
    let late = send(channels[0].clone(), GET, 128 * KIB, true);
    assert_eq!(soon(late).await, Code::ResourceExhausted);
    drop(promises);
    let again = async {
        while send(channels[0].clone(), GET, 128 * KIB, true).await != Code::Ok {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(again).await;
    rig.tear_down().await;
}

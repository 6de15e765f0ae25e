//! Room for answers, and the pace at which they go.

use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body::{Body as _, Frame};
use tokio::time::Instant;
use tonic::Code;
use tonic::body::Body;

use super::*;

const KIB: usize = 1024;

fn agent(n: usize) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://plant.test/spire/agent/x/{n}")).unwrap()
}

fn line(outflow: &Arc<Outflow>) -> Line {
    let outflow = Arc::clone(outflow);
    Line {
        outflow,
        ..Line::default()
    }
}

#[tokio::test(start_paused = true)]
async fn there_is_never_more_under_way_than_there_is_room_for() {
    let budget = Budget::new(4096 * KIB);
    let all = 3072 * KIB;
    let first = budget.reserve(&agent(1), 2048 * KIB, None).await.unwrap();
    let two = agent(2);
    let mut large = Box::pin(budget.reserve(&two, 2048 * KIB, None));
    assert!((&mut large).now_or_never().is_none());
    // It would fit, and would keep the other waiting for ever if it were let past.
    let mut less = Box::pin(budget.reserve(&two, 512 * KIB, None));
    assert!((&mut less).now_or_never().is_none());
    drop(first);
    let (large, less) = (large.await.unwrap(), less.await.unwrap());
    assert_eq!(budget.free(), [1024 * KIB, 512 * KIB]);
    drop((large, less));
    let whole = budget.reserve(&two, usize::MAX, None).await.unwrap();
    assert_eq!(
        budget.free(),
        [1024 * KIB, 0],
        "what is larger than all goes alone"
    );
    drop(whole);
    assert_eq!(budget.free(), [1024 * KIB, all]);
}

#[tokio::test(start_paused = true)]
async fn however_many_take_nothing_who_asks_for_little_is_served() {
    let budget = Budget::new(4096 * KIB);
    let agents: Vec<_> = (0..1000).map(agent).collect();
    let asking = agents
        .iter()
        .map(|agent| Box::pin(budget.reserve(agent, 512 * KIB, None)));
    let held: Vec<_> = asking.filter_map(|asks| asks.now_or_never()).collect();
    assert_eq!(held.len(), 6);
    assert_eq!(budget.free(), [1024 * KIB, 0]);
    let little = budget.reserve(&agent(5000), 64 * KIB, None).now_or_never();
    assert!(little.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn one_agent_has_few_answers_at_a_time() {
    let budget = Budget::new(4096 * KIB);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(budget.reserve(&agent(1), KIB, None).await.unwrap());
    }
    let one_more = budget.reserve(&agent(1), KIB, None).now_or_never().unwrap();
    assert_eq!(one_more.err().unwrap().code(), Code::ResourceExhausted);
    assert!(budget.reserve(&agent(2), KIB, None).await.is_ok());
    held.pop();
    assert!(budget.reserve(&agent(1), KIB, None).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_vain_is_told_when_to_come_again() {
    let budget = Budget::new(4096 * KIB);
    let _all = budget.reserve(&agent(1), usize::MAX, None).await.unwrap();
    let refused = budget.reserve(&agent(2), usize::MAX, None).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    let again = refused.metadata().get(landfast_proto::PUSHBACK).unwrap();
    let again: u64 = again.to_str().unwrap().parse().unwrap();
    assert!((1000..=6000).contains(&again), "{again}");
}

#[tokio::test(start_paused = true)]
async fn the_slow_lose_their_connections_when_others_wait_and_only_then() {
    let budget = Budget::new(4096 * KIB);
    let lines = [0, 1, 2].map(|_| Line::default());
    let mut held = Vec::new();
    for (n, line) in lines.iter().enumerate() {
        let line = Some(line.clone());
        held.push(budget.reserve(&agent(n), 1024 * KIB, line).await.unwrap());
    }
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let are_cut = || lines.each_ref().map(|line| line.cut.is_ordered());
    assert_eq!(are_cut(), [false; 3], "nobody needs the room");
    lines[1].outflow.give();
    lines[2].outflow.give();
    for (line, bytes) in lines.iter().zip([16 << 20, 16 << 20, 1]) {
        line.outflow.sent(bytes);
    }
    let four = agent(4);
    let mut waits = Box::pin(budget.reserve(&four, 512 * KIB, None));
    let served = tokio::time::timeout(Duration::from_secs(3), &mut waits).await;
    assert!(served.is_err(), "their connections end, and then there is room");
    assert_eq!(
        are_cut(),
        [true, false, true],
        "it is sent only signs of life; it takes what it gets; it takes next to nothing"
    );
    drop(held);
    waits.await.unwrap();
}

/// What a subscription says, as it goes to the connection.
struct Said(crate::push::Answers);

impl http_body::Body for Said {
    type Data = Bytes;
    type Error = Status;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        use prost::Message as _;
        use tokio_stream::Stream as _;
        let said = std::task::ready!(std::pin::Pin::new(&mut self.0).poll_next(context));
        Poll::Ready(said.map(|said| Ok(Frame::data(said?.encode_to_vec().into()))))
    }
}

/// A link of 64 kbit/s, behind a kernel that holds what it may, and takes more when a third of that has gone.
async fn slow_link(mut body: Body, line: &Line) -> usize {
    const RATE: f64 = 8.0 * 1024.0;
    const HOLDS: f64 = 256.0 * 1024.0;
    let (mut queued, mut all, mut at) = (0.0_f64, 0, Instant::now());
    while let Some(bytes) = frame(&mut body).await {
        queued = (queued - at.elapsed().as_secs_f64() * RATE).max(0.0);
        if queued + bytes as f64 > HOLDS {
            let over = queued - HOLDS * 2.0 / 3.0;
            tokio::time::sleep(Duration::from_secs_f64(over / RATE)).await;
            queued -= over;
        }
        at = Instant::now();
        (queued, all) = (queued + bytes as f64, all + bytes);
        line.outflow.sent(bytes);
        line.outflow.flushed();
    }
    all
}

/// The next page is in the slot while the one before leaves in pieces: what stands there is not slow.
#[tokio::test(start_paused = true)]
async fn an_agent_behind_a_slow_link_keeps_its_connection_while_others_wait() {
    let (budget, line) = (Budget::new(1024 * KIB), Line::default());
    let _all_that_is_large = budget.reserve(&agent(2), 768 * KIB, None).await.unwrap();
    let (crowd, three) = (budget.clone(), agent(3));
    let waiting = async {
        loop {
            let refused = crowd.reserve(&three, 768 * KIB, None).await;
            assert!(refused.is_err(), "there is always somebody who waits");
        }
    };
    let way = Way::along(&budget, &agent(1), Some(line.clone()));
    let (slot, answers) = crate::push::slot(way.clone());
    let telling = async move {
        for _ in 0..20 {
            let page = landfast_proto::landfast::sync::v1::SubscribeResponse {
                bundles_gone: vec!["x".repeat(60 * KIB)],
                ..Default::default()
            };
            let room = slot.room(60 * KIB).await.unwrap();
            slot.put(page, Some(room));
            slot.moved().await;
        }
        std::future::pending::<()>().await;
    };
    let mut answer = http::Response::new(Body::new(Said(answers)));
    answer.extensions_mut().insert(way);
    let (begun, taking) = (Instant::now(), slow_link(paced(answer).into_body(), &line));
    tokio::select! {
        () = waiting => {}
        () = telling => {}
        _ = taking => {}
        () = tokio::time::sleep(Duration::from_secs(160)) => {}
    }
    assert!(begun.elapsed() >= Duration::from_secs(100));
    assert!(!line.cut.is_ordered(), "it took 8 KiB a second all the time");
}

#[tokio::test(start_paused = true)]
async fn however_many_wait_one_of_them_looks_for_the_slow() {
    let budget = Budget::new(4096 * KIB);
    let _all = budget.reserve(&agent(0), usize::MAX, None).await.unwrap();
    let crowd = (1..200).map(|n| {
        let budget = budget.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(n)).await;
            let who = agent(usize::try_from(n).unwrap());
            assert!(budget.reserve(&who, usize::MAX, None).await.is_err());
        }
    });
    futures_util::future::join_all(crowd).await;
    assert!((10..30).contains(&budget.looks()), "{}", budget.looks());
}

/// The one gauge that is set there.
#[derive(Default)]
struct Shown(Arc<std::sync::atomic::AtomicU64>);

impl metrics::Recorder for Shown {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}
    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }
    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        assert_eq!(key.name(), "landfast_server_answers_bytes");
        metrics::Gauge::from_arc(Arc::clone(&self.0))
    }
    fn register_histogram(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::noop()
    }
}

#[test]
fn what_is_held_is_shown_and_what_is_held_no_more_is_not() {
    let (budget, shown) = (Budget::new(4096 * KIB), Shown::default());
    let is = || f64::from_bits(shown.0.load(std::sync::atomic::Ordering::Relaxed));
    metrics::with_local_recorder(&shown, || {
        let held = budget.reserve(&agent(1), 64 * KIB, None).now_or_never();
        assert_eq!(is(), 65_536.0);
        drop(held);
        assert_eq!(is(), 0.0);
    });
}

/// One message, whole.
struct Whole(Option<Bytes>);

impl http_body::Body for Whole {
    type Data = Bytes;
    type Error = Status;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        Poll::Ready(self.0.take().map(|all| Ok(Frame::data(all))))
    }
}

async fn frame(body: &mut Body) -> Option<usize> {
    let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await;
    frame.map(|frame| frame.unwrap().into_data().unwrap().len())
}

#[tokio::test(start_paused = true)]
async fn an_answer_goes_in_pieces_and_counts_until_the_last_has_left() {
    let (budget, outflow) = (Budget::new(512 * KIB), Arc::new(Outflow::default()));
    let way = Way::along(&budget, &agent(1), Some(line(&outflow)));
    way.hold(way.room(40 * KIB).await.unwrap());
    let mut answer = http::Response::new(Body::new(Whole(Some(vec![7; 40 * KIB].into()))));
    answer.extensions_mut().insert(way);
    let mut body = paced(answer).into_body();
    for piece in [16, 16, 8] {
        assert_eq!(frame(&mut body).await, Some(piece * KIB));
        assert!(
            frame(&mut body).now_or_never().is_none(),
            "the connection still has it"
        );
        assert_eq!(budget.free()[0], 48 * KIB);
        outflow.flushed();
    }
    assert_eq!(frame(&mut body).await, None);
    assert_eq!(budget.free()[0], 128 * KIB);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_up_counts_no_more() {
    let (budget, outflow) = (Budget::new(512 * KIB), Arc::new(Outflow::default()));
    let way = Way::along(&budget, &agent(1), Some(line(&outflow)));
    way.hold_to_the_end(way.room(40 * KIB).await.unwrap());
    let mut answer = http::Response::new(Body::new(Whole(Some(vec![7; 40 * KIB].into()))));
    answer.extensions_mut().insert(way);
    let mut body = paced(answer).into_body();
    frame(&mut body).await;
    assert_eq!(budget.free()[0], 48 * KIB);
    drop(body);
    assert_eq!(budget.free()[0], 128 * KIB);
}

#[tokio::test]
async fn an_estimate_is_no_less_than_the_message() {
    use landfast_identity::{Selector, SelectorSet, SpiffeId, TrustDomain, UnixTime};
    use prost::Message as _;
    let id = |path: &str| SpiffeId::parse(&format!("spiffe://plant.test{path}")).unwrap();
    let one = |n: usize| {
        let selectors = (0..n % 7).map(|s| Selector::parse(&format!("unix:uid:{s}")).unwrap());
        let mut draft = crate::registry::EntryDraft::new(
            id("/parent"),
            id(&format!("/w/{n}")),
            SelectorSet::from_iter(selectors),
        );
        draft.federates_with = (0..n % 3)
            .map(|d| TrustDomain::parse(&format!("d{d}.test")).unwrap())
            .collect();
        draft.dns_names = (0..n % 4).map(|d| format!("name-{d}.plant.test")).collect();
        draft.hint = "h".repeat(n);
        Arc::new(draft.into_entry(format!("id{n}"), UnixTime::from_secs(1_800_000_000)))
    };
    let all: Vec<_> = (0..50).map(one).collect();
    let wire: Vec<_> = all
        .iter()
        .map(|entry| crate::api::convert::entry_out(entry, None))
        .collect();
    for (entry, wire) in all.iter().zip(&wire) {
        let (said, is) = (of_entry(entry), wire.encoded_len());
        assert!(is <= said && said <= is * 4 + 256, "{said} for {is}");
    }
    let largest: usize = wire[40..].iter().map(prost::Message::encoded_len).sum();
    assert!(of_page(&all, 10) >= largest && of_page(&all, 10) < of_page(&all, 50));
}

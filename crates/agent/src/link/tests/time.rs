//! What time it is, as the server says: heard by nodes whose clock is lost, and believed of nobody else (T-28).

use landfast_identity::SpiffeId;
use landfast_lifecycle::{
    Candidate, Clock, GuardedClock, Heard, Hour, Mark, SimBoot, SimClock, TimeRecord, Wrong,
};

use super::*;
use crate::testing::fake_server::push::step;
use crate::time::Ear;

const SKEW: Duration = Duration::from_secs(300);
const DAY: i64 = 86_400;

/// A node's clocks, which the link is given as well.
struct Clocks {
    wall: SimClock,
    guarded: GuardedClock,
}

impl Clocks {
    /// A wall clock, and a program that was built so many days ago.
    fn new(wall: UnixTime, built: i64) -> Self {
        Self::with(wall, built, None)
    }

    fn with(wall: UnixTime, built: i64, record: Option<&TimeRecord>) -> Self {
        let wall = SimClock::new(wall);
        let boot = Arc::new(SimBoot::new("boot", Duration::from_secs(9)));
        let guarded = GuardedClock::new(Arc::new(wall.clone()), boot, ago(built), SKEW, record);
        Self { wall, guarded }
    }

    fn setup<'a>(&self, server: &FakeServer, dir: &'a Path) -> Setup<'a> {
        Setup {
            clock: Arc::new(self.guarded.clone()),
            ear: Some(Ear::new(self.guarded.clone(), SKEW)),
            ..Setup::new(server, dir)
        }
    }

    /// By how much the time that counts differs from the true one.
    fn error(&self) -> u64 {
        let (ours, truth) = (self.guarded.now().unwrap(), real_clock().now().unwrap());
        ours.since(truth).max(truth.since(ours)).as_secs()
    }
}

/// A node that was told so in the boot of the rig.
fn told(time: UnixTime) -> TimeRecord {
    TimeRecord {
        floor: time,
        estimate: mark(time),
        boot_id: "boot".to_owned(),
        told: true,
        witness: true,
        anchor: mark(time),
        candidate: None,
    }
}

fn mark(time: UnixTime) -> Mark {
    Mark {
        time,
        at: Duration::from_secs(9),
    }
}

fn ago(days: i64) -> UnixTime {
    UnixTime::from_secs(real_clock().now().unwrap().as_secs() - days * DAY)
}

async fn server_with_time(offset: i64) -> FakeServer {
    let server = FakeServer::start().await;
    let mut script = server.script();
    script.entries = vec![wire_entry("a", "/a", &["unix:uid:1"])];
    script.time = Some(offset);
    drop(script);
    server
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_at_1970_asks_what_time_it_is_and_serves() {
    let (server, dir) = (server_with_time(0).await, tempfile::tempdir().unwrap());
    let clocks = Clocks::new(UnixTime::EPOCH, 400);
    let node = clocks.setup(&server, dir.path()).start();
    node.serving().await;
    assert!(clocks.error() < 60);
    let report = clocks.guarded.report();
    assert!(report.judged.estimated && matches!(report.judged.wrong, Some(Wrong::Behind(_))));
    assert_eq!(report.floor, clocks.guarded.floor());
    assert!(report.floor < ago(399), "not in the first hour");
    let view = node
        .views
        .watch(&selectors(&["unix:uid:1"]), clocks.guarded.now());
    assert_eq!(view.borrow().x509.len(), 1);
    node.stop().await;
}

/// The node has been in, its record of the time is lost, and its clock too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_whose_own_svid_is_of_the_future_asks_as_well() {
    let (server, dir) = (server_with_time(0).await, tempfile::tempdir().unwrap());
    let node = Setup::new(&server, dir.path()).start();
    node.serving().await;
    node.stop().await;
    let clocks = Clocks::new(UnixTime::EPOCH, 400);
    let node = clocks.setup(&server, dir.path()).start();
    node.serving().await;
    assert!(clocks.error() < 60);
    assert_eq!(server.calls("AttestAgent"), 1);
    node.stop().await;
}

/// SPIRE's says nothing of the time: a token would be spent for an SVID that cannot be used yet.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_server_that_does_not_say_the_time_nothing_is_asked_before_the_clock_is_right() {
    let (server, dir) = (FakeServer::start().await, tempfile::tempdir().unwrap());
    let clocks = Clocks::new(UnixTime::EPOCH, 400);
    let node = clocks.setup(&server, dir.path()).start();
    node.error("clock is behind by").await;
    until("it has asked what time it is", || server.calls("GetBundle") > 1).await;
    assert_eq!(server.calls("AttestAgent"), 0);
    clocks.wall.step(real_clock().now().unwrap().as_secs());
    node.serving().await;
    // Neither the certificates that were seen and adopted nor the clock that is right now have raised anything.
    let report = clocks.guarded.report();
    assert!(!report.judged.estimated);
    assert!(
        report.floor < ago(399) && report.estimate < ago(399),
        "{report:?}"
    );
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_the_server_is_not_asked() {
    let (server, dir) = (server_with_time(0).await, tempfile::tempdir().unwrap());
    let clocks = Clocks::new(UnixTime::EPOCH, 400);
    let (before, setup) = (clocks.guarded.record(), clocks.setup(&server, dir.path()));
    let stranger = Setup {
        bundle: Ca::new("another").bundle(),
        ..setup
    };
    let node = stranger.start();
    until("it was refused", || !node.status().last_error.is_empty()).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(server.calls("GetBundle"), 0);
    assert_eq!(clocks.guarded.record().floor, before.floor);
    assert!(clocks.error() > 300 * 86_400);
    node.stop().await;
}

/// Its certificate is of an hour around now: whoever has a key that ended long ago cannot say that it is next year.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_time_at_which_the_servers_own_certificate_is_not_valid_is_not_believed() {
    for offset in [365 * DAY, -2 * DAY, 7200] {
        let (server, dir) = (server_with_time(offset).await, tempfile::tempdir().unwrap());
        let clocks = Clocks::new(ago(0), 400);
        let node = clocks.setup(&server, dir.path()).start();
        node.serving().await;
        until("it has been said more than once", || {
            server.calls("GetBundle") > 2
        })
        .await;
        let report = clocks.guarded.report();
        assert_eq!((report.doubted, report.below_floor), (None, None), "{offset}");
        assert!(clocks.error() < 60 && report.estimate < ago(399));
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_answer_and_each_message_says_the_time() {
    let (server, dir) = (server_with_time(0).await, tempfile::tempdir().unwrap());
    server.pushes(1, 1);
    // Told before, and about right since.
    let clocks = Clocks::with(ago(0), 400, Some(&told(ago(0))));
    let node = clocks.setup(&server, dir.path()).start();
    until("it is subscribed", || node.status().subscribed_since.is_some()).await;
    let (floor, now) = (clocks.guarded.floor(), real_clock().now().unwrap());
    assert!(floor <= now);
    let message = |offset: i64, number| landfast_proto::landfast::sync::v1::SubscribeResponse {
        time: now.as_secs() + offset,
        ..step(1, number)
    };
    server.say(message(200, 2)).await;
    let later = UnixTime::from_secs(now.as_secs() + 200);
    until("the floor has followed", || clocks.guarded.floor() == later).await;
    // Beyond the skew: a clock that was set, right or wrong.
    server.say(message(3000, 3)).await;
    until("it is told", || clocks.guarded.report().doubted.is_some()).await;
    assert_eq!(clocks.guarded.floor(), later);
    assert!(clocks.error() < 300);
    node.stop().await;
}

/// A server whose clock was years ahead when it was first asked, and is right again: its certificate has ended by the node's time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_time_that_was_wrong_is_taken_back_by_the_next_answer() {
    let (server, dir) = (server_with_time(0).await, tempfile::tempdir().unwrap());
    let clocks = Clocks::new(UnixTime::EPOCH, 400);
    clocks.guarded.hear(ago(-700), Heard::Answer);
    assert!(clocks.guarded.can_go_back() && clocks.error() > 600 * 86_400);
    let node = clocks.setup(&server, dir.path()).start();
    node.serving().await;
    assert!(clocks.error() < 60);
    node.stop().await;
}

/// Whoever has the key of a server that ended takes no node back to when it had not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ended_before_what_the_node_knew_is_not_asked() {
    // By the floor, and by what it knew before it was told of the year after next.
    for (floor, known) in [(ago(-2), ago(-2)), (ago(400), ago(-2))] {
        let (server, dir) = (server_with_time(0).await, tempfile::tempdir().unwrap());
        let record = TimeRecord {
            floor,
            candidate: Some(Candidate {
                said: mark(ago(-700)),
                hour: Hour {
                    since: Duration::from_secs(9),
                    last: Duration::from_secs(9),
                    voices: 1,
                },
                counts: true,
            }),
            ..told(known)
        };
        let clocks = Clocks::with(UnixTime::EPOCH, 400, Some(&record));
        assert!(clocks.guarded.can_go_back());
        let node = clocks.setup(&server, dir.path()).start();
        node.error("it is not in use any more, or the clock is ahead")
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(server.calls("GetBundle"), 0);
        node.stop().await;
    }
}

/// The node's clock is right, and the server's three hours ahead: it is not believed, and what it signs takes the place of nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_right_goes_on_though_the_first_server_is_ahead() {
    let (ca, truth) = (Arc::new(Ca::new("one")), real_clock().now().unwrap());
    let ahead = UnixTime::from_secs(truth.as_secs() + 3 * 3600);
    let server = FakeServer::start_in(ca, SpiffeId::server(&td()), ahead).await;
    server.script().time = Some(3 * 3600);
    let dir = tempfile::tempdir().unwrap();
    let record = TimeRecord {
        boot_id: "another".to_owned(),
        ..told(ago(1))
    };
    let clocks = Clocks::with(ago(0), 400, Some(&record));
    let node = clocks.setup(&server, dir.path()).start();
    until("it has asked what time it is", || {
        clocks.guarded.report().doubted.is_some()
    })
    .await;
    assert!(clocks.error() < 60, "{:?}", clocks.guarded.report());
    assert_eq!(server.calls("AttestAgent"), 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_whose_certificate_begins_later_does_not_hide_the_server() {
    let (server, dir) = (server_with_time(0).await, tempfile::tempdir().unwrap());
    let later = Arc::new(Ca::new("another"));
    let stranger = FakeServer::start_in(later, SpiffeId::server(&td()), ago(-100)).await;
    let clocks = Clocks::new(UnixTime::EPOCH, 400);
    let setup = clocks.setup(&server, dir.path());
    let node = Setup {
        servers: vec![stranger.address.to_string(), server.address.to_string()],
        ..setup
    }
    .start();
    node.serving().await;
    assert!(clocks.error() < 60);
    node.stop().await;
}

//! What is written, what is not, and what a disk that fails costs.

use std::path::Path;
use std::time::Duration;

use futures_util::FutureExt as _;
use landfast_identity::SelectorSet;
use landfast_lifecycle::{SimBoot, SimClock};
use landfast_store::Store;
use landfast_store::faulty::{FaultyFiles, Script, Verb};
use landfast_uds::{PinnedProcess, Pins};
use landfast_workload_api::{FetchedJwt, Party, ServedX509, Way};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::persist::NodeFiles;
use crate::testing::{Ca, NOON, at, id, selectors, td, until};

/// A record that nobody reads.
pub(crate) fn nowhere() -> HandOuts {
    let dir = tempfile::tempdir().unwrap();
    let files = Arc::new(NodeFiles::open(dir.path(), &td()).unwrap());
    record(files).0
}

/// The lines of a data directory, oldest first.
pub(crate) fn lines(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join(NAME)).unwrap_or_default();
    assert!(text.is_empty() || text.ends_with('\n'), "{text:?}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)))
        .collect()
}

fn record(files: Arc<NodeFiles>) -> (HandOuts, Writer, Records) {
    let boot = Arc::new(SimBoot::new("boot", Duration::ZERO));
    let skew = Duration::from_secs(300);
    let clock = GuardedClock::new(Arc::new(SimClock::new(NOON)), boot, at(-86_400), skew, None);
    let journal = Journal::new(clock.clone());
    HandOuts::new(clock, watch::channel(Report::first()).1, files, journal)
}

/// Over a disk that a test breaks.
struct Rig {
    dir: tempfile::TempDir,
    script: Script,
    hand_outs: HandOuts,
    writer: Writer,
    records: Records,
    ca: Ca,
    me: Arc<PinnedProcess>,
    known: SelectorSet,
}

impl Rig {
    fn new() -> Self {
        let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
        let store = Store::open_with(dir.path(), |files| FaultyFiles::new(files, script.clone()));
        let files = Arc::new(NodeFiles::over(store.unwrap(), &td()));
        let (hand_outs, writer, records) = record(files);
        let own = std::process::id().cast_signed();
        Self {
            dir,
            script,
            hand_outs,
            writer,
            records,
            ca: Ca::new("one"),
            me: Pins::default().open(own).unwrap(),
            known: selectors(&["unix:uid:1", "unix:path:/usr/bin/collector", "unix:sha256:abc"]),
        }
    }

    fn served(&self, path: &str) -> ServedX509 {
        ServedX509 {
            svid: self.ca.svid(&id(path), NOON, at(3600)),
            hint: String::new(),
            entry_id: path[1..].to_owned(),
            told: true,
            reserve: false,
        }
    }

    fn note(&self, given: Given<'_>) {
        self.note_of(given, None);
    }

    fn note_of(&self, given: Given<'_>, of: Option<Party<'_>>) {
        self.hand_outs.note(&HandOut {
            way: Way::WorkloadApi,
            to: Party {
                process: Some(&self.me),
                selectors: &self.known,
            },
            of,
            given,
        });
    }

    /// Hands out something new.
    fn give(&self, path: &str) {
        self.note(Given::X509(&self.served(path)));
    }

    fn entries(&self) -> Vec<String> {
        let of = |line: Value| match line.get("lost") {
            Some(lost) => format!("lost {lost}"),
            None => line["entry"].as_str().unwrap_or("torn").to_owned(),
        };
        lines(self.dir.path()).into_iter().map(of).collect()
    }
}

#[tokio::test]
async fn a_line_says_who_got_what_and_nothing_that_is_secret() {
    let mut rig = Rig::new();
    let reserve = ServedX509 {
        reserve: true,
        ..rig.served("/collector")
    };
    rig.note(Given::X509(&reserve));
    let audience = ["there".to_owned()];
    let jwt = FetchedJwt {
        id: id("/collector"),
        token: rig.ca.jwt(&id("/collector"), &audience, "k", NOON, at(300)),
        hint: String::new(),
        entry_id: "collector".to_owned(),
        reserve: false,
    };
    let named = selectors(&["k8s:pod:x"]);
    let of = Party {
        process: None,
        selectors: &named,
    };
    rig.note_of(Given::Jwt(&jwt), Some(of));
    rig.writer.write(false).await;
    let written = lines(rig.dir.path());
    let to = serde_json::json!({
        "pid": std::process::id(), "uid": nix::unistd::geteuid().as_raw(), "gid": nix::unistd::getegid().as_raw(),
        "path": "/usr/bin/collector", "sha256": "abc",
    });
    let x509 = serde_json::json!({
        "v": 1, "time": "2027-01-15T08:00:00Z", "quality": "unconfirmed", "standing": "starting", "kind": "x509", "by": "workload-api",
        "entry": "collector", "id": "spiffe://plant.test/collector", "serial": reserve.svid.serial_hex(),
        "not_before": "2027-01-15T08:00:00Z", "not_after": "2027-01-15T09:00:00Z", "reserve": true, "to": to,
    });
    assert_eq!(written[0], x509);
    let token = serde_json::json!({
        "v": 1, "time": "2027-01-15T08:00:00Z", "quality": "unconfirmed", "standing": "starting", "kind": "jwt", "by": "workload-api",
        "entry": "collector", "id": "spiffe://plant.test/collector", "audience": ["there"], "not_before": "2027-01-15T08:00:00Z",
        "not_after": "2027-01-15T08:05:00Z", "reserve": false, "to": to, "of": {"selectors": ["k8s:pod:x"]},
    });
    assert_eq!(written[1], token);
    let text = format!("{written:?}");
    let signature = jwt.token.rsplit('.').next().unwrap();
    assert!(!text.contains(signature), "a part of the token");
}

/// Whatever servers and callers say.
#[tokio::test]
async fn a_line_has_a_bound() {
    let mut rig = Rig::new();
    let many: Vec<String> = (0..20)
        .map(|number| format!("{number:03}{}", "a".repeat(400)))
        .collect();
    let path = format!("unix:path:/{}", "ü".repeat(2000));
    rig.known = selectors(&[&path]);
    let jwt = FetchedJwt {
        id: id("/collector"),
        token: rig.ca.jwt(&id("/collector"), &many, "k", NOON, at(300)),
        hint: String::new(),
        entry_id: "e".repeat(5000),
        reserve: false,
    };
    rig.note(Given::Jwt(&jwt));
    rig.writer.write(false).await;
    let [line] = lines(rig.dir.path()).try_into().unwrap();
    assert!(line.to_string().len() < 8192, "{}", line.to_string().len());
    assert!(line["to"]["path"].as_str().unwrap().ends_with("ü…"));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_again_has_no_second_line() {
    let mut rig = Rig::new();
    let (served, other) = (rig.served("/a"), rig.served("/a"));
    for _ in 0..100 {
        rig.note(Given::X509(&served));
    }
    rig.note(Given::X509(&other));
    rig.writer.write(false).await;
    assert_eq!(rig.entries(), ["a", "a"]);
    // Nor is it taken for lost.
    assert_eq!(rig.records.unwritten(), 0);
    tokio::time::advance(Duration::from_secs(3600)).await;
    rig.note(Given::X509(&served));
    rig.writer.write(false).await;
    assert_eq!(rig.entries(), ["a", "a", "a"]);
    // The same number, and another program: a process of then has ended, or become that one.
    for other in ["unix:path:/usr/bin/other", "unix:sha256:def"] {
        rig.known = selectors(&["unix:uid:1", other]);
        rig.note(Given::X509(&served));
    }
    rig.writer.write(false).await;
    assert_eq!(rig.entries().len(), 5);
}

#[tokio::test]
async fn a_full_disk_holds_nothing_up_and_what_found_room_is_written_when_it_has_some() {
    let mut rig = Rig::new();
    rig.script
        .break_down(Verb::Write, std::io::ErrorKind::StorageFull);
    rig.give("/a");
    rig.writer.write(false).await;
    let said = rig.records.in_words();
    assert!(
        said.contains("handouts.log") && said.contains("handed out all the same"),
        "{said}"
    );
    rig.give("/b");
    rig.writer.write(false).await;
    assert_eq!(rig.entries(), Vec::<String>::new());
    rig.script.mend();
    rig.writer.write(false).await;
    rig.writer.write(false).await;
    assert_eq!(rig.entries(), ["a", "b"]);
    assert_eq!(
        (
            rig.records.unwritten(),
            rig.records.in_words().contains("written to")
        ),
        (0, true)
    );
}

#[tokio::test]
async fn what_finds_no_room_while_the_disk_fails_is_counted_and_said_in_the_file() {
    let mut rig = Rig::new();
    let most = MOST_WAITING / 300;
    rig.script
        .break_down(Verb::Append, std::io::ErrorKind::ReadOnlyFilesystem);
    rig.give("/first");
    rig.writer.write(false).await;
    let line = "x".repeat(299) + "\n";
    let lost = || Lost::text(NOON, "confirmed");
    for _ in 0..most {
        rig.hand_outs.0.waiting.add(&line, lost);
    }
    for name in 0..20 {
        rig.give(&format!("/{name}"));
    }
    let unwritten = rig.records.unwritten();
    assert!((15..=20).contains(&unwritten), "{unwritten}");
    assert!(rig.hand_outs.0.waiting.lock().bytes.len() <= MOST_WAITING);
    rig.script.mend();
    rig.writer.write(false).await;
    rig.writer.write(false).await;
    rig.give("/last");
    rig.writer.write(false).await;
    let entries = rig.entries();
    let end: Vec<_> = entries.iter().rev().take(2).collect();
    assert_eq!(end, ["last", &format!("lost {unwritten}")]);
    assert_eq!(entries[0], "first");
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_hangs_holds_nothing_up_and_writes_a_batch_once() {
    let mut rig = Rig::new();
    rig.script.hang(Verb::Write);
    rig.give("/a");
    {
        // The clock stands while the disk is at work: it is moved on.
        let mut writing = Box::pin(rig.writer.write(false));
        assert!((&mut writing).now_or_never().is_none());
        tokio::time::advance(Duration::from_secs(6)).await;
        writing.await;
    }
    assert!(rig.records.in_words().contains("does not answer"));
    rig.give("/b");
    rig.writer.write(false).await;
    rig.script.mend();
    let dir = rig.dir.path().to_owned();
    until("the disk has done it", || lines(&dir).len() == 1).await;
    let done = || rig.writer.written.load(std::sync::atomic::Ordering::SeqCst) == 1;
    until("and said so", done).await;
    until_written(&mut rig.writer, &rig.records).await;
    assert_eq!(rig.entries(), ["a", "b"]);
}

/// The thread that hung may need a moment to end.
async fn until_written(writer: &mut Writer, records: &Records) {
    for _ in 0..1000 {
        writer.write(false).await;
        if records.complaint.borrow().is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it was never written");
}

#[tokio::test(start_paused = true)]
async fn lines_reach_the_disk_itself_once_a_minute_and_at_the_end() {
    let mut rig = Rig::new();
    let syncs = |rig: &Rig| {
        rig.script
            .calls()
            .iter()
            .filter(|verb| **verb == Verb::Sync)
            .count()
    };
    for name in ["/a", "/b", "/c"] {
        rig.give(name);
        rig.writer.write(false).await;
    }
    assert_eq!((rig.entries().len(), syncs(&rig)), (3, 0));
    tokio::time::advance(Duration::from_secs(60)).await;
    rig.writer.write(false).await;
    rig.writer.write(false).await;
    assert_eq!(syncs(&rig), 1);
    let calls = rig.script.calls().len();
    tokio::time::advance(Duration::from_secs(6000)).await;
    rig.writer.write(false).await;
    assert_eq!(
        rig.script.calls().len(),
        calls,
        "with nothing to write the disk is left alone"
    );
    rig.give("/d");
    rig.writer.write(true).await;
    assert_eq!((rig.entries().len(), syncs(&rig)), (4, 2));
}

#[expect(clippy::disallowed_methods, reason = "a test's task is joined by the test")]
#[tokio::test(start_paused = true)]
async fn what_is_handed_out_while_the_agent_stops_has_its_line() {
    let rig = Rig::new();
    let stop = CancellationToken::new();
    let running = tokio::spawn(rig.writer.run(stop.clone()));
    let Rig { hand_outs, dir, .. } = rig;
    let me = rig.me;
    let note = |path: &str| {
        let served = ServedX509 {
            svid: rig.ca.svid(&id(path), NOON, at(3600)),
            hint: String::new(),
            entry_id: path[1..].to_owned(),
            told: true,
            reserve: false,
        };
        let to = Party {
            process: Some(&me),
            selectors: &rig.known,
        };
        hand_outs.note(&HandOut {
            way: Way::Sds,
            to,
            of: None,
            given: Given::X509(&served),
        });
    };
    note("/a");
    let first = dir.path().to_owned();
    until("the first is written", || lines(&first).len() == 1).await;
    note("/b");
    stop.cancel();
    until("what waited is written at once", || lines(&first).len() == 2).await;
    note("/c");
    drop(hand_outs);
    running.await.unwrap().unwrap();
    assert_eq!(lines(dir.path()).len(), 3);
}

/// A power cut leaves half a line: the next begins a new one, and the agent starts.
#[tokio::test]
async fn a_torn_line_is_ended() {
    let mut rig = Rig::new();
    crate::testing::write_private(&rig.dir.path().join(NAME), b"{\"v\":1,\"ti");
    rig.give("/a");
    rig.writer.write(false).await;
    assert_eq!(rig.entries(), ["torn", "a"]);
}

/// Twenty entries, each with one stream, of a life of an hour: renewed each half hour.
#[tokio::test]
async fn a_day_of_lines_is_small() {
    let mut rig = Rig::new();
    for _ in 0..48 {
        for number in 0..20 {
            rig.give(&format!("/workload-{number}"));
        }
        rig.writer.write(false).await;
    }
    let written = rig.script.written();
    assert!(written < 1_000_000, "{written} bytes");
    assert_eq!(rig.records.unwritten(), 0);
}

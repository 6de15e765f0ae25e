//! The journal on disks that work, fail and rot.

#![expect(clippy::disallowed_methods, reason = "what a test damages is none of ours")]

use std::io::ErrorKind;

use landfast_lifecycle::{GuardedClock, SimBoot, SimClock};
use landfast_store::Store;
use landfast_store::faulty::{FaultyFiles, Script, Verb};
use serde_json::Value;

use super::*;
use crate::testing::{NOON, at, td, until};

/// Where nobody looks.
pub(crate) fn desk() -> Desk {
    let boot = Arc::new(SimBoot::new("boot", Duration::ZERO));
    let skew = Duration::from_secs(300);
    Desk::new(GuardedClock::new(
        Arc::new(SimClock::new(NOON)),
        boot,
        at(-86_400),
        skew,
        None,
    ))
}

struct Rig {
    dir: tempfile::TempDir,
    script: Script,
    files: Arc<NodeFiles>,
    desk: Desk,
    status: channels::Receiver<String>,
    stop: CancellationToken,
    running: Option<tokio::task::JoinHandle<Result<(), Infallible>>>,
    channel: channels::Sender<Option<Channel>>,
}

impl Rig {
    fn new() -> Self {
        let (dir, script) = (tempfile::tempdir().unwrap(), Script::default());
        let store = Store::open_with(dir.path(), |files| FaultyFiles::new(files, script.clone()));
        let files = Arc::new(NodeFiles::over(store.unwrap(), &td()));
        Self {
            dir,
            script,
            files,
            desk: desk(),
            status: channels::channel(String::new()).1,
            stop: CancellationToken::new(),
            running: None,
            channel: channels::channel(None).0,
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the test joins it")]
    fn start(&mut self) {
        self.desk = desk();
        self.stop = CancellationToken::new();
        let files = Arc::clone(&self.files);
        let (keeper, status) = Keeper::new(self.desk.clone(), files, 64 << 10, self.channel.subscribe());
        self.status = status;
        self.running = Some(tokio::spawn(keeper.run(self.stop.clone())));
    }

    async fn stop(&mut self) {
        self.stop.cancel();
        self.desk = desk();
        let Ok(()) = self.running.take().unwrap().await.unwrap();
    }

    /// The records in the file, the head aside.
    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join(JOURNAL)).unwrap_or_default();
        text.lines()
            .skip(1)
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn kinds(&self) -> Vec<String> {
        let kind = |line: &Value| line["type"].as_str().unwrap().to_owned();
        self.lines().iter().map(kind).collect()
    }
}

#[tokio::test]
async fn what_was_noted_is_there_after_restarts_in_order() {
    let mut rig = Rig::new();
    rig.start();
    rig.desk.note(Event::new(LEDGER_NEW).with("ledger", "a"));
    rig.stop().await;
    rig.start();
    rig.desk.count(HANDED_OUT);
    rig.stop().await;
    let expected = [BEGUN, LEDGER_NEW, STARTED, STOPPED, STARTED, STOPPED];
    let mut kinds = rig.kinds();
    kinds.sort();
    let mut wanted: Vec<_> = expected.iter().map(ToString::to_string).collect();
    wanted.push("journal.gap".to_owned());
    wanted.sort();
    assert_eq!(kinds, wanted);
    let mut next = 0;
    for line in rig.lines() {
        assert_eq!(line["seq"], next);
        next = line["last"].as_u64().unwrap_or(next) + 1;
    }
    assert_eq!(next, 7);
}

#[tokio::test]
async fn a_damaged_journal_is_told_put_aside_and_begun_anew_with_what_was_whole() {
    let mut rig = Rig::new();
    rig.start();
    rig.stop().await;
    let file = rig.dir.path().join(JOURNAL);
    let text = std::fs::read_to_string(&file).unwrap();
    let before: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    // Somebody edits the last but one record.
    let damaged = text.replacen(STARTED, "agent.startes", 1);
    assert_ne!(damaged, text);
    std::fs::write(&file, &damaged).unwrap();
    rig.start();
    rig.stop().await;
    assert_eq!(
        rig.kinds(),
        [BEGUN, BEGUN, "agent.startes", STARTED, STOPPED],
        "a record that was edited follows from the one before: the next one tells"
    );
    let anew = &rig.lines()[0]["detail"];
    assert_eq!(anew["before"], before["journal"]);
    assert!(
        anew["why"].as_str().unwrap().starts_with("damaged: line 4"),
        "{anew}"
    );
    let aside = std::fs::read_to_string(rig.dir.path().join("journal.log.damaged")).unwrap();
    assert_eq!(aside, damaged);
    // Nor does one of which nothing can be read.
    std::fs::write(&file, b"\0\0\0").unwrap();
    rig.start();
    rig.stop().await;
    assert_eq!(rig.kinds(), [BEGUN, STARTED, STOPPED]);
}

#[tokio::test(start_paused = true)]
async fn while_the_disk_fails_nobody_waits_and_then_all_of_it_is_there() {
    let mut rig = Rig::new();
    rig.start();
    until("it is begun", || rig.kinds() == [BEGUN, STARTED]).await;
    rig.script.break_down(Verb::Write, ErrorKind::StorageFull);
    for _ in 0..20 {
        rig.desk.note(Event::new(LEDGER_NEW));
    }
    until("it is told", || rig.status.borrow().contains("cannot be written")).await;
    rig.script.mend();
    until("it is there", || rig.kinds().len() == 22).await;
    assert!(
        rig.status.borrow().starts_with("22 records wait"),
        "{}",
        *rig.status.borrow()
    );
    rig.stop().await;
}

#[tokio::test(start_paused = true)]
async fn however_much_happens_the_disk_is_written_to_a_little() {
    let mut rig = Rig::new();
    rig.start();
    until("it is begun", || rig.kinds() == [BEGUN, STARTED]).await;
    let before = rig.script.written();
    for _ in 0..3600 {
        for _ in 0..10 {
            rig.desk
                .note(Event::new(HANDED_OUT).with("entry", "x".repeat(200)));
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let written = rig.script.written() - before;
    assert!(written < 4 << 20, "{written} bytes in an hour");
    rig.stop().await;
    let (mut next, mut sum) = (0, 0);
    for line in rig.lines() {
        assert_eq!(line["seq"], next);
        next = line["last"].as_u64().unwrap_or(next) + 1;
        sum += if line["type"] == HANDED_OUT { 1 } else { 0 };
    }
    assert_eq!(next, 36_000 + 3);
    assert!(sum > 50, "the newest are there: {sum}");
}

/// The file.
const JOURNAL: &str = "journal.log";

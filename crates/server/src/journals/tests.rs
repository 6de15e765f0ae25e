//! Journals into a real ledger, over restarts and kills.

use std::path::Path;
use std::sync::Arc;

use landfast_audit::{CheckpointKey, Log};
use landfast_lifecycle::SimClock;
use landfast_store::faulty::{FaultyFiles, Script, Verb};
use serde_json::Value;

use super::*;
use crate::core::fixture::{START, copy, id, td};
use crate::ledger;
use crate::ledger::tests::read;

/// Lines as an agent writes them.
fn lines(from: u64, to: u64) -> Vec<bytes::Bytes> {
    let (mut prev, mut lines) = (vec![0; 32], Vec::new());
    for number in 0..to {
        let text = format!(
            r#"{{"v":1,"seq":{number},"prev":"{}","type":"svid.denied","time":"2026-11-27T10:00:00Z","quality":"doubted","detail":{{"to":{{"pid":7,"path":"/bin/a\u001b"}},"of":{{"later":1}}}}}}"#,
            crate::random::hex(&prev)
        );
        prev = ring::digest::digest(&ring::digest::SHA256, text.as_bytes())
            .as_ref()
            .to_vec();
        lines.push(text.into());
    }
    lines.split_off(usize::try_from(from).unwrap())
}

fn open(data: &Path) -> Journals {
    let store = Store::open(data).unwrap();
    let clock = Arc::new(SimClock::new(START));
    let ledger = ledger::open(&store, (&data.join("ledger"), None), &td(), clock.clone()).unwrap();
    Journals::open(ledger, clock)
}

async fn send(journals: &Journals, journal: char, lines: Vec<bytes::Bytes>) -> Result<Taken, TakeError> {
    let (journal, node) = (journal.to_string().repeat(32), id("/spire/agent/x"));
    let batch = Batch {
        node: &node,
        attestation: "join_token",
        journal: &journal,
        lines,
        acknowledged_by: "plant.test/landfast/ledger/other",
    };
    journals.take(batch).await
}

/// Numbers of the records that are there, and what else was noticed.
fn found(data: &Path) -> (Vec<u64>, Vec<String>) {
    let (mut numbers, mut noticed) = (Vec::new(), Vec::new());
    for record in read(&data.join("ledger")) {
        match record["type"].as_str().unwrap() {
            "agent.denied" => numbers.push(record["detail"]["seq"].as_u64().unwrap()),
            other if other.starts_with("agent.") => noticed.push(other.to_owned()),
            _ => {}
        }
    }
    (numbers, noticed)
}

#[tokio::test]
async fn what_comes_again_is_in_the_ledger_once_also_over_a_restart_and_a_kill() {
    let dir = tempfile::tempdir().unwrap();
    let journals = open(dir.path());
    let taken = send(&journals, 'a', lines(0, 5)).await.unwrap();
    assert_eq!((taken.next, taken.begin_anew), (5, false));
    send(&journals, 'a', lines(0, 6)).await.unwrap();
    let killed = tempfile::tempdir().unwrap();
    copy(dir.path(), killed.path());
    drop(journals);
    for place in [dir.path(), killed.path()] {
        let journals = open(place);
        let taken = send(&journals, 'a', lines(0, 9)).await.unwrap();
        assert_eq!(taken.next, 9);
        drop(journals);
        assert_eq!(found(place), ((0..9).collect(), vec![]));
    }
}

#[tokio::test]
async fn a_record_says_when_and_where_it_was_and_that_the_node_said_it() {
    let dir = tempfile::tempdir().unwrap();
    let journals = open(dir.path());
    send(&journals, 'a', lines(0, 1)).await.unwrap();
    drop(journals);
    let records = read(&dir.path().join("ledger"));
    let record: &Value = records
        .iter()
        .find(|record| record["type"] == "agent.denied")
        .unwrap();
    assert_eq!(record["actor"]["class"], "node");
    assert_eq!(record["actor"]["id"], id("/spire/agent/x").to_string());
    assert_eq!(record["actor"]["how"]["attestation"], "join_token");
    assert_eq!(
        (&record["time"], &record["time_quality"]),
        (&"2026-11-27T10:00:00Z".into(), &"doubted".into())
    );
    assert_eq!(
        (&record["decision"], &record["result"]),
        (&"deny".into(), &"refused".into())
    );
    let detail = &record["detail"];
    assert_eq!((&detail["to_pid"], &detail["seq"]), (&7.into(), &0.into()));
    assert_eq!(detail["more"], r#"{"of_later":1}"#, "what is not known is kept");
    assert!(detail["received"].is_string() && detail["chain"].as_str().unwrap().len() == 64);
}

#[tokio::test]
async fn holes_other_journals_and_contradictions_are_recorded() {
    let dir = tempfile::tempdir().unwrap();
    let journals = open(dir.path());
    send(&journals, 'a', lines(0, 2)).await.unwrap();
    send(&journals, 'a', lines(4, 6)).await.unwrap();
    send(&journals, 'b', lines(0, 1)).await.unwrap();
    let mut edited = lines(0, 3);
    edited[2] = String::from_utf8(edited[2].to_vec())
        .unwrap()
        .replace("\"prev\":\"", "\"prev\":\"0")
        .into();
    assert!(matches!(
        send(&journals, 'b', edited).await,
        Err(TakeError::Malformed(_))
    ));
    let mut edited = lines(0, 3);
    let text = String::from_utf8(edited[1].to_vec()).unwrap();
    edited[1] = text.replace("/bin/a", "/bin/b").into();
    let taken = send(&journals, 'b', edited.clone()).await.unwrap();
    assert!(taken.begin_anew);
    assert!(send(&journals, 'b', edited).await.unwrap().begin_anew);
    drop(journals);
    let (numbers, noticed) = found(dir.path());
    assert_eq!(numbers, [0, 1, 4, 5, 0, 1]);
    assert_eq!(
        noticed,
        [
            "agent.journal-hole",
            "agent.journal-other",
            "agent.journal-broken"
        ]
    );
    let records = read(&dir.path().join("ledger"));
    let hole = records
        .iter()
        .find(|record| record["type"] == "agent.journal-hole")
        .unwrap();
    assert_eq!(
        (&hole["detail"]["from"], &hole["detail"]["to"]),
        (&2.into(), &3.into())
    );
    assert_eq!(
        hole["detail"]["acknowledged_by"],
        "plant.test/landfast/ledger/other"
    );
    // Also after a restart nothing more is taken of it.
    let journals = open(dir.path());
    assert!(send(&journals, 'b', lines(0, 9)).await.unwrap().begin_anew);
    assert!(!send(&journals, 'c', lines(0, 9)).await.unwrap().begin_anew);
}

#[tokio::test]
async fn what_is_no_journal_is_refused_whole() {
    let dir = tempfile::tempdir().unwrap();
    let journals = open(dir.path());
    let mut twice = lines(0, 2);
    twice.push(twice[1].clone());
    for bad in [
        twice,
        vec!["{}".into()],
        vec![vec![b' '; 5000].into()],
        vec![bytes::Bytes::new(); 257],
    ] {
        assert!(matches!(
            send(&journals, 'a', bad).await,
            Err(TakeError::Malformed(_))
        ));
    }
    assert!(matches!(
        send(&journals, '/', lines(0, 1)).await,
        Err(TakeError::Malformed(_))
    ));
    drop(journals);
    assert_eq!(found(dir.path()), (vec![], vec![]));
    let none = Journals::open(Ledger::none(), Arc::new(SimClock::new(START)));
    assert!(matches!(
        send(&none, 'a', lines(0, 1)).await,
        Err(TakeError::NoLedger)
    ));
}

#[tokio::test]
async fn nothing_is_acknowledged_that_the_ledger_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let (script, log_dir) = (Script::default(), dir.path().join("ledger"));
    let data = Store::open(&dir.path().join("data")).unwrap();
    let store = Store::open_with(&log_dir, |files| FaultyFiles::new(files, script.clone())).unwrap();
    let der = CheckpointKey::generate().unwrap();
    let key = CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", &der).unwrap();
    let clock = Arc::new(SimClock::new(START));
    let log = Log::begin(store, key).unwrap();
    let ledger = Ledger::of_test(log, (&data, &log_dir), clock.clone());
    let journals = Journals::open(ledger, clock);
    script.break_down(Verb::Write, std::io::ErrorKind::StorageFull);
    let refused = send(&journals, 'a', lines(0, 3)).await;
    assert!(matches!(refused, Err(TakeError::Ledger { .. })));
    script.mend();
    let taken = send(&journals, 'a', lines(0, 3)).await.unwrap();
    assert_eq!(taken.next, 3);
    drop(journals);
    let there = read(&log_dir)
        .iter()
        .filter(|record| record["type"] == "agent.denied")
        .count();
    assert_eq!(there, 3, "what was refused came again and is there");
}

/// A ledger on a disk that fails on script, with its data.
struct Scripted {
    dir: tempfile::TempDir,
    der: Vec<u8>,
    script: Script,
}

impl Scripted {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            der: CheckpointKey::generate().unwrap().to_vec(),
            script: Script::default(),
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("ledger")
    }

    fn log(&self) -> (Store, CheckpointKey) {
        let script = self.script.clone();
        let store = Store::open_with(&self.path(), |files| FaultyFiles::new(files, script)).unwrap();
        let key = CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", &self.der).unwrap();
        (store, key)
    }

    fn journals(&self, log: Log) -> Journals {
        let data = Store::open(&self.dir.path().join("data")).unwrap();
        let clock = Arc::new(SimClock::new(START));
        Journals::open(Ledger::of_test(log, (&data, &self.path()), clock.clone()), clock)
    }

    /// Numbers of the records in it, and what else was noticed, when all of it has ended.
    fn found(&self) -> (Vec<u64>, Vec<String>) {
        let (store, key) = self.log();
        drop(Log::open(store, key).unwrap());
        found(self.dir.path())
    }
}

#[tokio::test]
async fn what_is_sent_again_by_who_hung_up_is_in_the_ledger_once() {
    let scripted = Scripted::new();
    let (store, key) = scripted.log();
    let journals = scripted.journals(Log::begin(store, key).unwrap());
    send(&journals, 'a', lines(0, 2)).await.unwrap();
    let before = scripted.script.calls().len();
    scripted.script.hang(Verb::Sync);
    {
        let mut first = Box::pin(send(&journals, 'a', lines(0, 5)));
        while !scripted.script.calls()[before..].contains(&Verb::Sync) {
            let waits = tokio::time::timeout(Duration::from_millis(5), &mut first).await;
            assert!(waits.is_err(), "it waits for the disk");
        }
    }
    // Whoever comes meanwhile waits for it, and may hang up as well: nothing is left of that one.
    let second = tokio::time::timeout(Duration::from_millis(50), send(&journals, 'a', lines(0, 7))).await;
    assert!(second.is_err(), "of one node one batch is taken at a time");
    scripted.script.mend();
    let taken = send(&journals, 'a', lines(0, 9)).await.unwrap();
    assert_eq!((taken.next, taken.begin_anew), (9, false));
    drop(journals);
    assert_eq!(scripted.found(), ((0..9).collect(), vec![]));
}

#[tokio::test]
async fn what_a_start_on_a_full_disk_found_is_neither_taken_twice_nor_missed() {
    let scripted = Scripted::new();
    let (store, key) = scripted.log();
    let journals = scripted.journals(Log::begin(store, key).unwrap());
    send(&journals, 'a', lines(0, 5)).await.unwrap();
    let killed = Scripted {
        dir: tempfile::tempdir().unwrap(),
        der: scripted.der.clone(),
        script: Script::default(),
    };
    copy(scripted.dir.path(), killed.dir.path());
    drop(journals);
    killed
        .script
        .break_down(Verb::Write, std::io::ErrorKind::StorageFull);
    let (store, key) = killed.log();
    let journals = killed.journals(Log::open(store, key).unwrap().0);
    let refused = send(&journals, 'a', lines(3, 7)).await;
    assert!(matches!(refused, Err(TakeError::Ledger { .. })));
    killed.script.mend();
    let again = async {
        loop {
            match send(&journals, 'a', lines(3, 7)).await {
                Ok(taken) => return taken.next,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    };
    let next = tokio::time::timeout(Duration::from_secs(60), again).await;
    assert_eq!(next, Ok(7));
    drop(journals);
    assert_eq!(killed.found(), ((0..7).collect(), vec![]));
}

#[tokio::test]
async fn the_last_tenth_of_the_ledgers_room_is_for_no_journal() {
    let dir = tempfile::tempdir().unwrap();
    let journals = open(dir.path());
    send(&journals, 'a', lines(0, 2)).await.unwrap();
    journals.ledger.fill(70);
    send(&journals, 'a', lines(0, 4)).await.unwrap();
    journals.ledger.fill(90);
    let refused = send(&journals, 'a', lines(0, 6)).await;
    assert!(matches!(refused, Err(TakeError::NoRoom)));
    journals.ledger.fill(0);
    let taken = send(&journals, 'a', lines(0, 6)).await.unwrap();
    assert_eq!(taken.next, 6);
    drop(journals);
    assert_eq!(found(dir.path()), ((0..6).collect(), vec![]));
}

/// Who has a node's key sends as much as the server takes.
#[tokio::test]
async fn a_node_that_brings_more_than_its_part_is_told_to_come_again() {
    let dir = tempfile::tempdir().unwrap();
    let journals = open(dir.path());
    let (text, mut prev, mut lines) = ("x".repeat(3600), vec![0; 32], Vec::new());
    for number in 0..20 * 256 {
        let line = format!(
            r#"{{"v":1,"seq":{number},"prev":"{}","type":"svid.denied","detail":{{"by":"{text}"}}}}"#,
            crate::random::hex(&prev)
        );
        let hash = ring::digest::digest(&ring::digest::SHA256, line.as_bytes());
        prev = hash.as_ref().to_vec();
        lines.push(bytes::Bytes::from(line));
    }
    let (mut wait, mut taken) = (None, 0);
    for batch in lines.chunks(256) {
        match send(&journals, 'a', batch.to_vec()).await {
            Ok(_) => taken += 1,
            Err(TakeError::TooMuch { wait: time }) => wait = wait.or(Some(time)),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_eq!(taken, 16, "of a megabyte each");
    assert!(wait.is_some_and(|wait| wait > Duration::ZERO));
    // What was taken is acknowledged again for nothing.
    let again = send(&journals, 'a', lines[..256].to_vec()).await.unwrap();
    assert_eq!(again.next, 16 * 256);
}

#[tokio::test]
async fn whatever_a_later_version_says_is_kept_wherever_it_stands() {
    let dir = tempfile::tempdir().unwrap();
    let journals = open(dir.path());
    let line = format!(
        r#"{{"v":1,"seq":0,"prev":"{}","type":"svid.denied","detail":{{"of":{{"later":1,"to":{{"x":3}}}},"zone":"north","to":{{"shade":2,"pid":7}}}}}}"#,
        "0".repeat(64)
    );
    send(&journals, 'a', vec![line.into()]).await.unwrap();
    drop(journals);
    let records = read(&dir.path().join("ledger"));
    let record = records
        .iter()
        .find(|record| record["type"] == "agent.denied")
        .unwrap();
    let more: Value = serde_json::from_str(record["detail"]["more"].as_str().unwrap()).unwrap();
    let expected = serde_json::json!({"of_later": 1, "of_to": {"x": 3}, "to_shade": 2, "zone": "north"});
    assert_eq!((more, &record["detail"]["to_pid"]), (expected, &7.into()));
}

//! Ledgers that go on, and ledgers that do not, made by the writer itself.

use std::path::Path;

use landfast_audit::verify::DirSource;
use landfast_audit::{Actor, ActorClass, Category, CheckpointKey, Log, Prover, Record};
use landfast_store::Store;
use prost::bytes::Bytes;

use super::*;

mod silent;

struct Rig {
    dir: tempfile::TempDir,
    der: Vec<u8>,
}

struct Answer {
    note: String,
    key: String,
    proof: Vec<Bytes>,
}

impl Answer {
    fn shown(&self) -> Shown<'_> {
        Shown {
            note: &self.note,
            key: &self.key,
            proof: &self.proof,
        }
    }
}

fn td() -> TrustDomain {
    TrustDomain::parse("plant.test").unwrap()
}

fn key(der: &[u8]) -> CheckpointKey {
    CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", der).unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for found in std::fs::read_dir(from).unwrap() {
        let found = found.unwrap();
        let to = to.join(found.file_name());
        match found.file_type().unwrap().is_dir() {
            true => copy(&found.path(), &to),
            false => drop(std::fs::copy(found.path(), to).unwrap()),
        }
    }
}

impl Rig {
    fn new() -> Self {
        Self::of(CheckpointKey::generate().unwrap().to_vec())
    }

    fn of(der: Vec<u8>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = Log::begin(Store::open(&dir.path().join("log")).unwrap(), key(&der)).unwrap();
        drop(log);
        Self { dir, der }
    }

    fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("log")
    }

    fn grow(&self, by: usize, what: &'static str) {
        let (mut log, _) = Log::open(Store::open(&self.path()).unwrap(), key(&self.der)).unwrap();
        let record = Record::new(Category::System, what, Actor::new(ActorClass::Server, None));
        log.append(&vec![record; by]).unwrap();
        log.checkpoint().unwrap();
    }

    /// As a server shows it to who has seen so many records.
    fn answer(&self, seen: u64) -> Answer {
        let note = std::fs::read_to_string(self.path().join("checkpoint")).unwrap();
        let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
        let source = DirSource::new(&self.path());
        let proof = match seen < size {
            true => Prover::new(&source, size, size)
                .unwrap()
                .consistency(seen)
                .unwrap(),
            false => Vec::new(),
        };
        Answer {
            note,
            key: key(&self.der).verifier_key(),
            proof: proof.into_iter().map(|hash| hash.to_vec().into()).collect(),
        }
    }
}

/// A witness that has seen so many records of it.
fn having_seen(rig: &Rig, by: usize) -> Seen {
    rig.grow(by, "test.first");
    let mut seen = Seen::default();
    match judge::judge(&seen, &td(), &rig.answer(0).shown()) {
        Verdict::New { head, before: None } => seen.keep(head),
        other => panic!("{other:?}"),
    }
    seen
}

fn what(verdict: Verdict) -> String {
    match verdict {
        Verdict::Fork(fork) => fork.what,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ledger_that_goes_on_is_good_over_any_sizes() {
    let rig = Rig::new();
    let mut seen = having_seen(&rig, 3);
    let mut size = 3;
    assert_eq!(
        judge::judge(&seen, &td(), &rig.answer(size).shown()),
        Verdict::Same
    );
    for by in [1, 4, 250, 300, 1] {
        rig.grow(by, "test.more");
        match judge::judge(&seen, &td(), &rig.answer(size).shown()) {
            Verdict::Grown(head) => seen.keep(head),
            other => panic!("{other:?}"),
        }
        size += by as u64;
    }
    assert_eq!(seen.last().unwrap().size, size);
    assert!(!seen.report().fork);
}

#[test]
fn a_ledger_that_was_put_back_is_a_fork_at_once_and_when_it_has_grown_again() {
    let rig = Rig::new();
    drop(having_seen(&rig, 2));
    let (old, elsewhere) = (rig.dir.path().join("old"), rig.path());
    copy(&elsewhere, &old);
    let mut seen = having_seen(&rig, 3);
    assert_eq!(seen.last().unwrap().size, 5);
    std::fs::remove_dir_all(&elsewhere).unwrap();
    copy(&old, &elsewhere);
    let text = what(judge::judge(&seen, &td(), &rig.answer(5).shown()));
    assert!(text.contains("fewer records"), "{text}");
    rig.grow(3, "test.other");
    let text = what(judge::judge(&seen, &td(), &rig.answer(5).shown()));
    assert!(text.contains("as many"), "{text}");
    rig.grow(4, "test.other");
    let verdict = judge::judge(&seen, &td(), &rig.answer(5).shown());
    let Verdict::Fork(fork) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(fork.what.contains("does not go on"), "{fork:?}");
    assert!(seen.accuse(fork.clone()) && !seen.accuse(fork), "told once");
    let report = seen.report();
    assert!(report.fork && report.text.contains("FORK"), "{report:?}");
    // Who leaves the proof out avoids it.
    let silent = Answer {
        proof: Vec::new(),
        ..rig.answer(5)
    };
    let verdict = judge::judge(&seen, &td(), &silent.shown());
    assert!(
        matches!(verdict, Verdict::Unproven { suspect: Some(_), .. }),
        "{verdict:?}"
    );
    assert_eq!(seen.last().unwrap().size, 5, "what was seen stays");
}

#[test]
fn another_key_under_the_same_name_is_a_fork_and_a_new_name_is_another_ledger() {
    let (rig, other) = (Rig::new(), Rig::new());
    let seen = having_seen(&rig, 2);
    other.grow(4, "test.other");
    let foreign = other.answer(0);
    match judge::judge(&seen, &td(), &foreign.shown()) {
        Verdict::New {
            before: Some(before), ..
        } => assert_eq!(before, seen.last().unwrap().origin()),
        verdict => panic!("{verdict:?}"),
    }
    let name = key(&rig.der).origin().to_owned();
    let forged = Answer {
        note: foreign.note.replace(key(&other.der).origin(), &name),
        key: foreign.key.replace(key(&other.der).origin(), &name),
        ..foreign
    };
    let text = what(judge::judge(&seen, &td(), &forged.shown()));
    assert!(text.contains("was signed by"), "{text}");
    let verdict = judge::judge(&Seen::default(), &td(), &forged.shown());
    assert!(
        matches!(verdict, Verdict::Unproven { .. }),
        "a name that is not its key's: {verdict:?}"
    );
    let elsewhere = TrustDomain::parse("other.test").unwrap();
    let verdict = judge::judge(&Seen::default(), &elsewhere, &rig.answer(0).shown());
    assert!(matches!(verdict, Verdict::Unproven { .. }), "{verdict:?}");
    let mut edited = rig.answer(2);
    edited.note = edited.note.replacen("\n2\n", "\n9\n", 1);
    let text = what(judge::judge(&seen, &td(), &edited.shown()));
    assert!(text.contains("changed after it was signed"), "{text}");
}

/// Whatever stands beside it, what is kept has the signature that convicts, and stands whole in a record of the journal.
#[test]
fn a_note_that_is_padded_convicts_all_the_same_or_is_none() {
    let rig = Rig::new();
    let seen = having_seen(&rig, 3);
    let (kept, signer) = (seen.last().unwrap().note.clone(), key(&rig.der));
    let verifier = landfast_audit::verify::VerifierKey::parse(&signer.verifier_key()).unwrap();
    let fork = Rig::of(rig.der.clone());
    fork.grow(3, "test.other");
    let honest = fork.answer(3);
    let (text, own) = honest.note.split_once("\n\n").unwrap();
    let foreign = format!("\u{2014} {} {}\n", "w".repeat(200), "AAAA".repeat(30));
    let padded = |before: usize, after: usize| Answer {
        note: format!(
            "{text}\n\n{}{own}{}",
            foreign.repeat(before),
            foreign.repeat(after)
        ),
        key: honest.key.clone(),
        proof: honest.proof.clone(),
    };
    for (before, after) in [(0, 0), (9, 0), (0, 9), (3, 4)] {
        let Verdict::Fork(fork) = judge::judge(&seen, &td(), &padded(before, after).shown()) else {
            panic!("{before} {after}");
        };
        assert_eq!(fork.seen, kept);
        assert!(fork.shown.len() < 1000);
        assert!(
            verifier.checkpoint(fork.shown.as_bytes()).is_ok(),
            "it is signed still"
        );
    }
    // What is too long, also in what is signed, is no answer; when it stays so, that is told.
    let extended = Answer {
        note: format!("{text}\n{}\n\n{own}", "\"".repeat(600)),
        ..padded(0, 0)
    };
    for long in [extended, padded(40, 0)] {
        match judge::judge(&seen, &td(), &long.shown()) {
            Verdict::Unproven {
                suspect: Some(fork), ..
            } => assert!(fork.shown.len() < 1000),
            other => panic!("{other:?}"),
        }
    }
    let first = judge::judge(&Seen::default(), &td(), &padded(9, 0).shown());
    let Verdict::New { head, .. } = first else {
        panic!("{first:?}")
    };
    assert!(verifier.checkpoint(head.note.as_bytes()).is_ok() && head.note.len() < 1000);
}

#[test]
fn nothing_that_was_seen_is_forgotten_for_new_names() {
    let rig = Rig::new();
    let mut seen = having_seen(&rig, 2);
    for _ in 1..seen::MOST {
        let other = Rig::new();
        match judge::judge(&seen, &td(), &other.answer(0).shown()) {
            Verdict::New { head, .. } => seen.keep(head),
            verdict => panic!("{verdict:?}"),
        }
    }
    let late = Rig::new();
    match judge::judge(&seen, &td(), &late.answer(0).shown()) {
        Verdict::Crowd(head) => seen.keep(head),
        verdict => panic!("{verdict:?}"),
    }
    assert_eq!(seen.sizes().len(), seen::MOST);
    assert!(
        seen.of(key(&rig.der).origin()).is_some(),
        "what was pinned first is still there"
    );
    rig.grow(5, "test.more");
    match judge::judge(&seen, &td(), &rig.answer(2).shown()) {
        Verdict::Grown(head) => seen.keep(head),
        verdict => panic!("{verdict:?}"),
    }
    assert_eq!(seen.last().unwrap().size, 7);
}

#[test]
fn what_was_seen_is_kept_and_a_file_that_was_changed_is_not_believed() {
    let rig = Rig::new();
    let seen = having_seen(&rig, 2);
    let file = seen.file();
    assert_eq!(Seen::parse(&file), Ok(seen));
    let text = String::from_utf8(file).unwrap();
    for (from, to) in [
        ("\"size\":2", "\"size\":3"),
        ("\"version\":1", "\"version\":2"),
        ("{", ""),
    ] {
        assert!(
            Seen::parse(text.replacen(from, to, 1).as_bytes()).is_err(),
            "{to}"
        );
    }
}

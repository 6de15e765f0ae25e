//! Each kind of tampering, by somebody who has the files, or the key as well.

use super::*;
use crate::log::Log;
use crate::log::tests::rig::{self, Rig, record, unframed};
use crate::tree::leaf;

/// 600 records, with the checkpoint of the first 300.
fn log() -> (Rig, Vec<u8>) {
    let rig = Rig::new();
    let mut log = rig.begin();
    log.append(&rig::records(0, 300)).unwrap();
    log.checkpoint().unwrap();
    let kept = rig.checkpoint();
    log.append(&rig::records(300, 300)).unwrap();
    log.checkpoint().unwrap();
    (rig, kept)
}

fn framed(records: &[Vec<u8>]) -> Vec<u8> {
    let framed =
        |record: &Vec<u8>| [&u16::try_from(record.len()).unwrap().to_be_bytes(), &record[..]].concat();
    records.iter().flat_map(framed).collect()
}

/// Changes the bundle of 256 to 511, and its hashes when they are to agree.
fn tamper(rig: &Rig, with_hashes: bool, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut records = unframed(&std::fs::read(rig.path("tile/entries/001")).unwrap());
    change(&mut records);
    rig.put("tile/entries/001", &framed(&records));
    if with_hashes {
        let mut hashes: Vec<_> = records.iter().map(|record| leaf(record)).collect();
        hashes.resize(256, [0; 32]);
        rig.put("tile/0/001", &hashes.concat());
        let mut above = std::fs::read(rig.path("tile/1/000.p/2")).unwrap();
        above[32..].copy_from_slice(&merkle::root_of(&hashes));
        rig.put("tile/1/000.p/2", &above);
    }
}

fn first(report: &Report) -> (Kind, Option<u64>) {
    let finding = report.findings.first().expect("a finding");
    (finding.kind, finding.record)
}

#[test]
fn a_whole_log_is_good_and_says_what_it_spans() {
    let (rig, kept) = log();
    let report = rig.verify(&[kept]);
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!((report.records, report.remembered), (600, 1));
    assert_eq!(report.first_time.as_deref(), Some("2026-11-23T08:00:00Z"));
    assert_eq!(report.time_quality["unconfirmed"], 600);
}

#[test]
fn an_edit_is_found_and_named() {
    let edit = |records: &mut Vec<Vec<u8>>| records[44] = record(9999).encode(300);
    let (rig, kept) = log();
    tamper(&rig, false, edit);
    assert_eq!(first(&rig.verify(&[])), (Kind::Edit, Some(300)));
    // With its hashes: it does not add up to what was signed, from a checkpoint on that somebody has kept.
    tamper(&rig, true, edit);
    assert_eq!(first(&rig.verify(&[])), (Kind::Rewritten, None));
    assert_eq!(first(&rig.verify(&[kept])), (Kind::Rewritten, Some(300)));
}

#[test]
fn a_deletion_is_found_and_named() {
    for with_hashes in [false, true] {
        let (rig, _) = log();
        tamper(&rig, with_hashes, |records| drop(records.remove(44)));
        assert_eq!(
            first(&rig.verify(&[])),
            (Kind::Deletion, Some(300)),
            "{with_hashes}"
        );
        let (rig, _) = log();
        tamper(&rig, with_hashes, |records| drop(records.pop()));
        assert_eq!(first(&rig.verify(&[])).1, Some(511), "{with_hashes}");
    }
    let (rig, _) = log();
    std::fs::remove_file(rig.path("tile/entries/001")).unwrap();
    assert_eq!(first(&rig.verify(&[])), (Kind::Missing, Some(256)));
}

#[test]
fn reordering_is_found_and_named() {
    for with_hashes in [false, true] {
        let (rig, _) = log();
        tamper(&rig, with_hashes, |records| records.swap(44, 45));
        assert_eq!(
            first(&rig.verify(&[])),
            (Kind::Reordering, Some(300)),
            "{with_hashes}"
        );
        let (rig, _) = log();
        tamper(&rig, with_hashes, |records| records.swap(44, 200));
        assert_eq!(first(&rig.verify(&[])).0, Kind::Reordering, "{with_hashes}");
    }
}

#[test]
fn what_was_put_in_is_found_and_named() {
    let (rig, _) = log();
    tamper(&rig, false, |records| records.insert(44, record(7).encode(300)));
    assert_eq!(first(&rig.verify(&[])), (Kind::Insertion, Some(300)));
}

#[test]
fn what_is_no_record_is_found_and_named() {
    let (rig, _) = log();
    tamper(&rig, false, |records| records[44] = b"not a record".to_vec());
    let report = rig.verify(&[]);
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|finding| (finding.kind, finding.record))
        .collect();
    assert_eq!(found, [(Kind::Edit, Some(300)), (Kind::Malformed, Some(300))]);
    let (rig, _) = log();
    let bytes = std::fs::read(rig.path("tile/entries/001")).unwrap();
    rig.put("tile/entries/001", &[&bytes[..], &[9]].concat());
    assert_eq!(first(&rig.verify(&[])), (Kind::Malformed, Some(512)));
}

#[test]
fn hashes_that_were_changed_are_told_from_records_that_were() {
    for (file, begins) in [("tile/0/001", 256), ("tile/1/000.p/2", 0)] {
        let (rig, _) = log();
        let mut bytes = std::fs::read(rig.path(file)).unwrap();
        bytes[40] ^= 1;
        rig.put(file, &bytes);
        assert_eq!(first(&rig.verify(&[])), (Kind::Hashes, Some(begins)), "{file}");
        std::fs::remove_file(rig.path(file)).unwrap();
        assert_eq!(first(&rig.verify(&[])), (Kind::Missing, Some(begins)), "{file}");
        rig.put(file, &bytes[..33]);
        assert_eq!(first(&rig.verify(&[])), (Kind::Hashes, Some(begins)), "{file}");
    }
}

#[test]
fn truncation_shows_against_a_checkpoint_that_was_kept() {
    let rig = Rig::new();
    let mut log = rig.begin();
    log.append(&rig::records(0, 300)).unwrap();
    log.checkpoint().unwrap();
    let before = rig.copy();
    log.append(&rig::records(300, 300)).unwrap();
    log.checkpoint().unwrap();
    assert!(before.verify(&[]).is_good());
    assert_eq!(
        first(&before.verify(&[rig.checkpoint()])),
        (Kind::Truncation, Some(300))
    );
    // With the newer checkpoint before it, the records are missing.
    before.put("checkpoint", &rig.checkpoint());
    assert_eq!(first(&before.verify(&[])).0, Kind::Missing);
}

#[test]
fn a_fork_shows_against_a_checkpoint_that_was_kept() {
    let (rig, kept) = log();
    for more in [0, 50] {
        // Who has the key and the first 300 goes on otherwise.
        let other = fork_of(&rig, more);
        let report = other.verify(&[kept.clone(), rig.checkpoint()]);
        assert_eq!(first(&report), (Kind::Fork, Some(300)), "{:?}", report.findings);
        assert_eq!(report.remembered, 1);
        assert!(other.verify(std::slice::from_ref(&kept)).is_good());
    }
}

/// The first 300 records of the other, then 300 and more others.
fn fork_of(rig: &Rig, more: u64) -> Rig {
    let fork = rig.empty_copy();
    let mut log = Log::begin(fork.store(), fork.key()).unwrap();
    log.append(&rig::records(0, 300)).unwrap();
    log.append(&rig::records(1000, 300 + more)).unwrap();
    log.checkpoint().unwrap();
    fork
}

#[test]
fn another_key_is_found_and_so_is_a_checkpoint_that_was_changed() {
    let ((rig, kept), (other, _)) = (log(), log());
    rig.put("checkpoint", &other.checkpoint());
    assert_eq!(first(&rig.verify(&[])), (Kind::ForeignKey, None));
    // What is remembered holds up to where it goes.
    let report = rig.verify(std::slice::from_ref(&kept));
    assert_eq!(
        (first(&report).0, report.records, report.remembered),
        (Kind::ForeignKey, 300, 1)
    );
    let (rig, _) = log();
    let changed = String::from_utf8(rig.checkpoint())
        .unwrap()
        .replacen("\n600\n", "\n599\n", 1);
    rig.put("checkpoint", changed.as_bytes());
    assert_eq!(first(&rig.verify(&[])), (Kind::Checkpoint, None));
    std::fs::remove_file(rig.path("checkpoint")).unwrap();
    assert_eq!(first(&rig.verify(&[])), (Kind::Checkpoint, None));
    let (rig, _) = log();
    assert_eq!(first(&rig.verify(&[kept])), (Kind::Remembered, None));
}

#[test]
fn what_others_have_signed_beside_the_key_is_passed_over() {
    let (rig, kept) = log();
    let other = Rig::new();
    drop(other.begin());
    let cosigned = String::from_utf8(other.checkpoint()).unwrap();
    let line = cosigned.lines().last().unwrap();
    let note = [&rig.checkpoint()[..], line.as_bytes(), b"\n"].concat();
    rig.put("checkpoint", &note);
    assert!(rig.verify(&[kept]).is_good());
}

#[test]
fn records_are_read_from_any_one_on() {
    let (rig, _) = log();
    let source = DirSource::new(&rig.path(""));
    for from in [0, 255, 256, 299, 599, 600, 700] {
        let mut seen = Vec::new();
        let size = read(&source, from, &mut |sequence, bytes| {
            assert_eq!(bytes, record(sequence).encode(sequence));
            seen.push(sequence);
            true
        });
        assert_eq!(size, Ok(600));
        assert_eq!(seen, (from..600).collect::<Vec<_>>());
    }
    let mut count = 0;
    let enough = &mut |_: u64, _: &[u8]| {
        count += 1;
        count < 3
    };
    read(&source, 0, enough).unwrap();
    assert_eq!(count, 3);
    std::fs::remove_file(rig.path("tile/entries/001")).unwrap();
    assert!(matches!(
        read(&source, 0, &mut |_, _| true),
        Err(ReadError::Missing(_))
    ));
    rig.put("tile/entries/000", b"\xff\xff");
    assert_eq!(read(&source, 0, &mut |_, _| true), Err(ReadError::Malformed(0)));
    std::fs::remove_file(rig.path("checkpoint")).unwrap();
    assert!(matches!(
        read(&source, 0, &mut |_, _| true),
        Err(ReadError::Checkpoint(_))
    ));
}

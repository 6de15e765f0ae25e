//! A log that is archived and pruned, and what is found when somebody helps.

use super::*;
use crate::log::tests::rig::{self, Rig};
use crate::verify::{DirSource, Kind, LayeredSource, read, verify_consistency, verify_inclusion};
use crate::{Log, Prover};

/// A thousand records in a log that goes on, and its archive.
struct Both {
    rig: Rig,
    log: Log,
    dir: tempfile::TempDir,
}

impl Both {
    fn new() -> Self {
        let rig = Rig::new();
        let mut log = rig.begin();
        log.append(&rig::records(0, 1000)).unwrap();
        log.checkpoint().unwrap();
        let dir = tempfile::tempdir().unwrap();
        Self { rig, log, dir }
    }

    fn add(&mut self, first: u64, count: u64) {
        self.log.append(&rig::records(first, count)).unwrap();
        self.log.checkpoint().unwrap();
    }

    fn to(&self) -> std::path::PathBuf {
        self.dir.path().join("archive")
    }

    fn archive(&self) -> Result<Archived, ArchiveError> {
        let ledger = DirSource::new(&self.rig.path(""));
        archive(&ledger, &self.to(), &self.rig.verifier_key())
    }

    fn prune(&self, before: u64) -> Result<Pruned, ArchiveError> {
        prune(&self.rig.path(""), &self.to(), &self.rig.verifier_key(), before)
    }

    fn together(&self, kept: &[(String, Vec<u8>)]) -> Report {
        let both = LayeredSource::new(&self.rig.path(""), &[self.to()]);
        verify(&both, &self.rig.verifier_key(), kept)
    }

    fn alone(&self) -> Report {
        self.rig.verify(&[])
    }
}

fn kept(note: Vec<u8>) -> Vec<(String, Vec<u8>)> {
    vec![("kept".to_owned(), note)]
}

#[test]
fn an_archive_is_a_whole_log_by_itself_and_grows_by_what_is_new() {
    let mut both = Both::new();
    let first = both.archive().unwrap();
    assert_eq!(first.records, 1000);
    // Four bundles, as many tiles above them, and one above those.
    assert_eq!(first.files, 9);
    both.add(1000, 600);
    let second = both.archive().unwrap();
    assert_eq!(
        (second.records, second.files),
        (1600, 9),
        "the first three are there"
    );
    assert_eq!(
        both.archive().unwrap().files,
        3,
        "those that are not full are new each time"
    );
    let key = both.rig.verifier_key();
    let report = verify(&DirSource::new(&both.to()), &key, &kept(both.rig.checkpoint()));
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!((report.records, report.remembered), (1600, 1));
}

#[test]
fn what_was_pruned_is_in_the_archive_and_the_rest_stands_alone() {
    let mut both = Both::new();
    let early = both.rig.checkpoint();
    both.archive().unwrap();
    both.add(1000, 600);
    assert_eq!(
        both.prune(1000).unwrap(),
        Pruned {
            before: 768,
            files: 3
        }
    );
    assert_eq!(
        both.prune(500).unwrap(),
        Pruned {
            before: 768,
            files: 0
        },
        "never less"
    );
    let alone = both.alone();
    assert!(alone.is_good(), "{:?}", alone.findings);
    assert_eq!((alone.records, alone.pruned), (1600, 768));
    let mut first = None;
    let source = DirSource::new(&both.rig.path(""));
    read(&source, 0, &mut |sequence, _| {
        first.get_or_insert(sequence);
        true
    })
    .unwrap();
    assert_eq!(first, Some(768));
    let together = both.together(&kept(early));
    assert!(together.is_good(), "{:?}", together.findings);
    assert_eq!(
        (together.records, together.pruned, together.remembered),
        (1600, 0, 1)
    );
    // The log goes on, also from what it finds, and what it has is proven.
    both.add(1600, 10);
    drop(both.log);
    let (log, _) = both.rig.open().unwrap();
    both.log = log;
    both.add(1610, 10);
    let alone = both.alone();
    assert!(alone.is_good(), "{:?}", alone.findings);
    let prover = Prover::new(&source, 1620, 1620).unwrap();
    let root = prover.root().unwrap();
    // Also of what is only in the archive.
    for record in [800, 5] {
        let (bytes, proof) = (
            rig::record(record).encode(record),
            prover.inclusion(record).unwrap(),
        );
        assert!(verify_inclusion(&bytes, record, (1620, &root), &proof));
    }
    // And whoever has seen no more than what was pruned is shown that it goes on (T-36).
    let then = Prover::new(&source, 100, 1620).unwrap().root().unwrap();
    let proof = prover.consistency(100).unwrap();
    assert!(verify_consistency((100, &then), (1620, &root), &proof));
    // And the archive follows, with what it has already and the ledger not.
    assert_eq!(both.archive().unwrap().records, 1620);
}

#[test]
fn a_checkpoint_that_ends_in_what_was_pruned_is_compared_as_long_as_its_hashes_are_there() {
    let both = Both::new();
    let early = both.rig.empty_copy();
    let mut log = early.begin();
    log.append(&rig::records(0, 100)).unwrap();
    log.checkpoint().unwrap();
    let note = early.checkpoint();
    both.archive().unwrap();
    both.prune(512).unwrap();
    let report = both.rig.verify(std::slice::from_ref(&note));
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!((report.pruned, report.unseen, report.remembered), (512, 0, 1));
    let fork = both.rig.empty_copy();
    let mut log = fork.begin();
    log.append(&rig::records(1, 100)).unwrap();
    log.checkpoint().unwrap();
    let report = both.rig.verify(&[fork.checkpoint()]);
    assert_eq!(report.findings.first().map(|found| found.kind), Some(Kind::Fork));
    // Of one that somebody took these from as well, nothing is said.
    for tile in ["tile/0/000", "tile/0/001"] {
        std::fs::remove_file(both.rig.path(tile)).unwrap();
    }
    let report = both.rig.verify(std::slice::from_ref(&note));
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!((report.pruned, report.unseen, report.remembered), (512, 1, 0));
    assert_eq!(both.together(&kept(note)).remembered, 1);
}

/// By its own name, by a link, by a link within: what goes would be the only copy.
#[test]
fn a_ledger_is_not_its_own_archive() {
    let mut both = Both::new();
    both.add(1000, 600);
    let ledger = both.rig.path("");
    let refused = |archive: &Path| {
        let refused = prune(&ledger, archive, &both.rig.verifier_key(), 1024).unwrap_err();
        assert!(matches!(refused, ArchiveError::Itself { .. }), "{refused:?}");
        assert!(both.rig.path("tile/entries/000").exists(), "all of it is there");
        assert!(
            !both.rig.path("pruned").exists(),
            "and nothing says that it is not"
        );
    };
    refused(&ledger);
    let by_a_link = both.dir.path().join("link");
    std::os::unix::fs::symlink(&ledger, &by_a_link).unwrap();
    refused(&by_a_link);
    let made_of_links = both.dir.path().join("made");
    for within in ["tile", "tile/entries", "tile/entries/001"] {
        both.archive().unwrap();
        std::fs::rename(both.to(), &made_of_links).unwrap();
        let linked = made_of_links.join(within);
        match linked.is_dir() {
            true => std::fs::remove_dir_all(&linked).unwrap(),
            false => std::fs::remove_file(&linked).unwrap(),
        }
        std::os::unix::fs::symlink(both.rig.path(within), &linked).unwrap();
        refused(&made_of_links);
        std::fs::remove_dir_all(&made_of_links).unwrap();
    }
    // A second name of the same file is a copy as far as its disk goes.
    both.archive().unwrap();
    let second = both.to().join("tile/entries/001");
    std::fs::remove_file(&second).unwrap();
    std::fs::hard_link(both.rig.path("tile/entries/001"), &second).unwrap();
    assert_eq!(both.prune(1024).unwrap().files, 4);
    assert!(second.exists());
}

#[test]
fn a_hole_behind_what_is_there_is_no_beginning() {
    let mut both = Both::new();
    both.add(1000, 600);
    both.archive().unwrap();
    both.prune(256).unwrap();
    assert!(both.alone().is_good());
    both.rig.put("pruned", b"1280\n");
    std::fs::remove_file(both.rig.path("tile/entries/003")).unwrap();
    let report = both.alone();
    let found: Vec<_> = report
        .findings
        .iter()
        .map(|found| (found.kind, found.record))
        .collect();
    assert_eq!(found, [(Kind::Missing, Some(768))], "{:?}", report.findings);
    std::fs::remove_file(both.rig.path("tile/0/003")).unwrap();
    let report = both.alone();
    assert_eq!(report.findings.first().map(|found| found.record), Some(Some(768)));
}

#[test]
fn not_all_of_a_log_is_ever_pruned() {
    let mut both = Both::new();
    both.add(1000, 24);
    both.archive().unwrap();
    assert_eq!(both.prune(1024).unwrap().before, 768);
    assert!(both.alone().is_good());
    std::fs::remove_file(both.rig.path("tile/entries/003")).unwrap();
    both.rig.put("pruned", b"1024\n");
    assert!(!both.alone().is_good(), "nothing of it is here");
    // Nor is a number believed that no log comes to.
    both.rig
        .put("pruned", format!("{}\n", u64::MAX / 256 * 256).as_bytes());
    let bundle = both.to().join("tile/entries/003");
    std::fs::copy(bundle, both.rig.path("tile/entries/003")).unwrap();
    assert_eq!(both.prune(512).unwrap().before, 512);
}

#[test]
fn a_smaller_archive_does_not_stand_for_what_went_before() {
    let mut both = Both::new();
    let smaller = both.dir.path().join("smaller");
    let ledger = DirSource::new(&both.rig.path(""));
    archive(&ledger, &smaller, &both.rig.verifier_key()).unwrap();
    both.add(1000, 600);
    both.archive().unwrap();
    both.prune(1536).unwrap();
    // As a prune leaves it that was stopped behind its mark.
    let bundle = both.rig.path("tile/entries/004");
    std::fs::copy(both.to().join("tile/entries/004"), &bundle).unwrap();
    prune(&both.rig.path(""), &smaller, &both.rig.verifier_key(), 256).unwrap_err();
    assert!(bundle.exists(), "the smaller archive does not have it");
    assert_eq!(both.prune(256).unwrap().files, 1);
}

#[test]
fn a_log_says_itself_from_where_on_it_was_whole() {
    let both = &mut Both::new();
    both.archive().unwrap();
    both.prune(512).unwrap();
    let report = both.alone();
    assert_eq!((report.pruned, report.pruned_recorded), (512, 0));
    let said = rig::of_type("log.pruned").with("first_record", 512_u64);
    both.log.append(&[said]).unwrap();
    both.log.checkpoint().unwrap();
    let report = both.alone();
    assert!(report.is_good(), "{:?}", report.findings);
    assert_eq!((report.pruned, report.pruned_recorded), (512, 512));
}

#[test]
fn nothing_goes_that_the_archive_does_not_have_as_it_was_signed() {
    let mut both = Both::new();
    assert!(
        matches!(both.prune(256), Err(ArchiveError::Missing { .. })),
        "no archive"
    );
    both.archive().unwrap();
    both.add(1000, 600);
    let behind = both.prune(1600).unwrap_err();
    assert!(matches!(
        behind,
        ArchiveError::Behind {
            archived: 1000,
            before: 1536
        }
    ));
    let bundle = both.to().join("tile/entries/001");
    let whole = std::fs::read(&bundle).unwrap();
    let mut edited = whole.clone();
    edited[600] ^= 1;
    overwrite(&bundle, &edited);
    assert!(matches!(both.prune(512), Err(ArchiveError::NotGood { .. })));
    assert!(matches!(both.archive(), Err(ArchiveError::NotGood { .. })));
    std::fs::remove_file(&bundle).unwrap();
    assert!(matches!(both.prune(512), Err(ArchiveError::NotGood { .. })));
    overwrite(&bundle, &whole);
    // Nor from a ledger that is not what it was.
    let own = both.rig.path("tile/entries/005");
    let was = std::fs::read(&own).unwrap();
    both.rig.put("tile/entries/005", &was[..was.len() - 700]);
    assert!(matches!(both.prune(512), Err(ArchiveError::NotGood { .. })));
    both.rig.put("tile/entries/005", &was);
    assert!(both.rig.path("tile/entries/000").exists(), "all of it is there");
    both.prune(512).unwrap();
    assert!(!both.rig.path("tile/entries/000").exists());
}

#[test]
fn a_pruned_log_is_not_believed_to_be_what_it_was_not() {
    let both = Both::new();
    both.archive().unwrap();
    both.prune(512).unwrap();
    let finding = |both: &Both| both.alone().findings.first().map(|finding| finding.kind);
    // A record that is there is still one that was signed.
    let bundle = std::fs::read(both.rig.path("tile/entries/002")).unwrap();
    let mut edited = bundle.clone();
    edited[600] ^= 1;
    both.rig.put("tile/entries/002", &edited);
    assert!(finding(&both).is_some());
    // Also when the claim is made that it was pruned.
    both.rig.put("pruned", b"768\n");
    assert!(finding(&both).is_some());
    both.rig.put("tile/entries/002", &bundle);
    assert_eq!(finding(&both), None);
    // What stayed of the pruned ones has to be there, and right.
    both.rig.put("pruned", b"256\n");
    assert_eq!(finding(&both), Some(Kind::Missing));
    both.rig.put("pruned", b"512\n");
    let below = both.rig.path("tile/0/001");
    let right = std::fs::read(&below).unwrap();
    let mut hashes = right.clone();
    hashes[0] ^= 1;
    overwrite(&below, &hashes);
    assert!(finding(&both).is_some());
    overwrite(&below, &right);
    assert_eq!(finding(&both), None);
    let above = both.rig.path("tile/1/000.p/3");
    let mut hashes = std::fs::read(&above).unwrap();
    hashes[0] ^= 1;
    overwrite(&above, &hashes);
    assert!(finding(&both).is_some());
}

#[test]
fn how_old_records_are_says_where_to_prune() {
    let both = Both::new();
    let source = DirSource::new(&both.rig.path(""));
    assert_eq!(age(&source, "2026-11-23T08:00:00Z").unwrap(), 0);
    assert_eq!(age(&source, "2027").unwrap(), 1000);
}

#[test]
fn a_node_whose_clock_runs_ahead_keeps_nothing_from_being_pruned() {
    let both = &mut Both::new();
    let then = landfast_identity::UnixTime::from_secs(4_000_000_000);
    let ahead = || crate::Record {
        time: Some(then),
        ..rig::of_type("agent.denied").with("chain", "00".repeat(32))
    };
    let received = landfast_identity::UnixTime::from_secs(1_795_420_801);
    both.log
        .append(&[ahead().with("received", received), ahead()])
        .unwrap();
    both.add(1002, 300);
    let source = DirSource::new(&both.rig.path(""));
    assert_eq!(age(&source, "2027").unwrap(), 1302);
    assert_eq!(age(&source, "2026-11-23T08:00:01Z").unwrap(), 1000);
    let report = both.alone();
    assert_eq!(report.time_went_back, 1, "its own clock");
}

fn overwrite(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    std::fs::File::create(path).unwrap().write_all(bytes).unwrap();
}

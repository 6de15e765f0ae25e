use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::log::tests::rig::{Rig, records};
use crate::tree::Edge;
use crate::verify::{DirSource, verify_consistency, verify_inclusion};

/// The hashes of a log of this size, and nothing else.
#[derive(Default)]
struct Hashes(HashMap<String, Vec<u8>>);

impl Source for Hashes {
    fn read(&self, path: &str, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let found = self.0.get(path).cloned();
        assert!(found.as_ref().is_none_or(|bytes| bytes.len() as u64 <= limit));
        Ok(found)
    }

    fn describe(&self, path: &str) -> String {
        path.to_owned()
    }
}

fn hashes(size: u64) -> Hashes {
    let (mut edge, mut files) = (Edge::default(), Hashes::default());
    for index in 0..size {
        for full in edge.push(index, tree::leaf(&record(index))) {
            let name = tile::hashes(full.level, full.index, WIDTH);
            files.0.insert(name, full.hashes.concat());
        }
    }
    let mut index = size / WIDTH;
    for (level, partial) in edge.levels().iter().enumerate() {
        let name = tile::hashes(level, index, partial.len() as u64);
        files.0.insert(name, partial.concat());
        index /= WIDTH;
    }
    files
}

fn record(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

/// As the verifier has them: it shares nothing with this.
fn check(files: &Hashes, present: u64, size: u64, index: u64, first: u64) {
    let prover = Prover::new(files, size, present).unwrap();
    let root = prover.root().unwrap();
    let proof = prover.inclusion(index).unwrap();
    assert!(verify_inclusion(&record(index), index, (size, &root), &proof));
    assert!(!verify_inclusion(
        &record(index + 1),
        index,
        (size, &root),
        &proof
    ));
    let earlier = Prover::new(files, first, present).unwrap().root().unwrap();
    let proof = prover.consistency(first).unwrap();
    assert!(
        verify_consistency((first, &earlier), (size, &root), &proof),
        "{first} of {size}"
    );
    let other = [7; 32];
    assert!(first == 0 || !verify_consistency((first, &other), (size, &root), &proof));
}

#[test]
fn the_root_is_what_the_writer_has() {
    for size in [0, 1, 2, 3, 255, 256, 257, 1000, 65_536, 65_800] {
        let (files, mut edge) = (hashes(size), Edge::default());
        for index in 0..size {
            drop(edge.push(index, tree::leaf(&record(index))));
        }
        let prover = Prover::new(&files, size, size).unwrap();
        assert_eq!(prover.root().unwrap(), edge.root(), "{size}");
    }
}

#[test]
fn all_proofs_of_small_trees_hold() {
    for size in 1..40 {
        let files = hashes(size);
        for index in 0..size {
            for first in 0..=size {
                check(&files, size, size, index, first);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn proofs_of_large_trees_hold_also_of_what_they_were(
        present in 1..140_000_u64, size in 0.0..1.0_f64, index in 0.0..1.0_f64, first in 0.0..1.0_f64
    ) {
        let part = |of: u64, part: f64| (of as f64 * part) as u64;
        let size = part(present, size) + 1;
        check(&hashes(present), present, size, part(size, index), part(size, first));
    }
}

#[test]
fn a_log_on_a_disk_proves_its_records() {
    let rig = Rig::new();
    let mut log = rig.begin();
    log.append(&records(0, 300)).unwrap();
    log.checkpoint().unwrap();
    let head = rig.verifier_key().checkpoint(&rig.checkpoint()).unwrap();
    let source = DirSource::new(&rig.path(""));
    let prover = Prover::new(&source, head.size, head.size).unwrap();
    assert_eq!(prover.root().unwrap(), head.root);
    for (index, record) in (0..).zip(rig.read_all()) {
        let proof = prover.inclusion(index).unwrap();
        assert!(
            verify_inclusion(&record, index, (head.size, &head.root), &proof),
            "{index}"
        );
    }
}

#[test]
fn what_is_not_there_is_named() {
    let mut files = hashes(300);
    let beyond = Prover::new(&files, 301, 300).unwrap_err();
    assert!(matches!(
        beyond,
        ProveError::Beyond {
            asked: 301,
            size: 300
        }
    ));
    let prover = Prover::new(&files, 300, 300).unwrap();
    assert!(matches!(prover.inclusion(300), Err(ProveError::Beyond { .. })));
    assert!(matches!(prover.consistency(301), Err(ProveError::Beyond { .. })));
    let tile = files.0.remove("tile/0/000").unwrap();
    let missing = Prover::new(&files, 300, 300).unwrap().inclusion(5).unwrap_err();
    assert!(matches!(&missing, ProveError::Missing(what) if what == "tile/0/000"));
    files.0.insert("tile/0/000".into(), tile[1..].to_vec());
    let malformed = Prover::new(&files, 300, 300).unwrap().inclusion(5).unwrap_err();
    assert!(matches!(malformed, ProveError::Malformed(_)));
}

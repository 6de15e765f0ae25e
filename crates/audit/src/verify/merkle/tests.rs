//! Proofs made as RFC 6962 §2.1.1 and §2.1.2 say, for every pair of small trees.

use super::*;

fn split(n: usize) -> usize {
    n.next_power_of_two() / 2
}

fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() <= 1 {
        return Vec::new();
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut below, beside) = match index < left.len() {
        true => (path(index, left), root_of(right)),
        false => (path(index - left.len(), right), root_of(left)),
    };
    below.push(beside);
    below
}

fn subproof(first: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
    if first == leaves.len() {
        return if whole { Vec::new() } else { vec![root_of(leaves)] };
    }
    let (left, right) = leaves.split_at(split(leaves.len()));
    let (mut below, beside) = match first <= left.len() {
        true => (subproof(first, left, whole), root_of(right)),
        false => (subproof(first - left.len(), right, false), root_of(left)),
    };
    below.push(beside);
    below
}

fn leaves(count: usize) -> Vec<Hash> {
    (0..count).map(|n| of_leaf(&n.to_be_bytes())).collect()
}

#[test]
fn the_peaks_of_a_tree_have_its_root() {
    let (mut peaks, all) = (Peaks::default(), leaves(300));
    for (count, leaf) in all.iter().enumerate() {
        assert_eq!(peaks.root(), root_of(&all[..count]));
        peaks.add(*leaf);
    }
    let mut by_subtree = Peaks::default();
    by_subtree.add_subtree(root_of(&all[..256]), 8);
    all[256..].iter().for_each(|leaf| by_subtree.add(*leaf));
    assert_eq!((by_subtree.root(), by_subtree.size()), (peaks.root(), 300));
}

#[test]
fn a_record_is_included_where_it_is_and_nowhere_else() {
    let all = leaves(40);
    for size in 1..all.len() {
        let root = root_of(&all[..size]);
        for index in 0..size {
            let proof = path(index, &all[..size]);
            let record = index.to_be_bytes();
            let verify = |index: usize, size: usize, proof: &[Hash]| {
                verify_inclusion(&record, index as u64, (size as u64, &root), proof)
            };
            assert!(verify(index, size, &proof), "{index} of {size}");
            assert!(!verify_inclusion(
                b"another",
                index as u64,
                (size as u64, &root),
                &proof
            ));
            for other in (0..size).filter(|other| *other != index) {
                assert!(!verify(other, size, &proof), "{other} for {index} of {size}");
            }
            assert!(!verify(size, size, &proof) && !verify(index, index, &proof));
            assert!(!verify(index, size, &[proof.clone(), vec![[0; 32]]].concat()));
            if let Some((_, shorter)) = proof.split_last() {
                assert!(!verify(index, size, shorter));
            }
        }
    }
}

#[test]
fn a_tree_is_the_beginning_of_those_that_grew_from_it_and_of_no_other() {
    let all = leaves(40);
    let mut others = all.clone();
    others[3] = of_leaf(b"another");
    for second in 1..all.len() {
        let second_root = root_of(&all[..second]);
        for first in 1..=second {
            let proof = subproof(first, &all[..second], true);
            let first_root = root_of(&all[..first]);
            let verify = |first_root: &Hash, proof: &[Hash]| {
                verify_consistency((first as u64, first_root), (second as u64, &second_root), proof)
            };
            assert!(verify(&first_root, &proof), "{first} of {second}");
            assert!(!verify(&first_root, &[proof.clone(), vec![[0; 32]]].concat()));
            if first > 3 {
                assert!(!verify(&root_of(&others[..first]), &proof));
                let made_up = subproof(first, &others[..second], true);
                assert!(
                    !verify(&root_of(&others[..first]), &made_up),
                    "{first} of {second}"
                );
            }
            assert!(!verify_consistency(
                (second as u64 + 1, &first_root),
                (second as u64, &second_root),
                &proof
            ));
        }
        assert!(verify_consistency(
            (0, &of_nothing()),
            (second as u64, &second_root),
            &[]
        ));
        assert!(!verify_consistency(
            (0, &[7; 32]),
            (second as u64, &second_root),
            &[]
        ));
    }
}

//! Hashes of a tree, and proofs in it (RFC 6962, RFC 9162 §2.1.3 and 2.1.4). Invariant: written from the standards, not from the writer.

use ring::digest::{Context, SHA256};

/// A SHA-256.
pub(super) type Hash = [u8; 32];

pub(super) fn of_leaf(data: &[u8]) -> Hash {
    sha256(0, data, &[])
}

pub(super) fn of_node(left: &Hash, right: &Hash) -> Hash {
    sha256(1, left, right)
}

pub(super) fn of_nothing() -> Hash {
    to_hash(Context::new(&SHA256))
}

fn sha256(kind: u8, first: &[u8], second: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[kind]);
    context.update(first);
    context.update(second);
    to_hash(context)
}

fn to_hash(context: Context) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The root over these hashes of equal subtrees, and of no more than these.
pub(super) fn root_of(hashes: &[Hash]) -> Hash {
    match hashes.len() {
        0 => of_nothing(),
        1 => hashes[0],
        n => {
            // The largest power of two below n.
            let left = 1 << (usize::BITS - 1 - (n - 1).leading_zeros());
            of_node(&root_of(&hashes[..left]), &root_of(&hashes[left..]))
        }
    }
}

/// The whole subtrees of a tree that is read from the left, the tallest first.
#[derive(Clone, Default)]
pub(super) struct Peaks {
    size: u64,
    peaks: Vec<Hash>,
}

impl Peaks {
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn add(&mut self, leaf: Hash) {
        self.merge(leaf, 0);
        self.size += 1;
    }

    /// A whole subtree of this height; only where one may begin.
    pub(super) fn add_subtree(&mut self, root: Hash, height: u32) {
        self.merge(root, height);
        self.size += 1 << height;
    }

    fn merge(&mut self, mut hash: Hash, height: u32) {
        // As in an addition with carries: each 1 of the size from this height on is a peak that is completed.
        for _ in 0..(self.size >> height).trailing_ones() {
            if let Some(left) = self.peaks.pop() {
                hash = of_node(&left, &hash);
            }
        }
        self.peaks.push(hash);
    }

    pub(super) fn root(&self) -> Hash {
        let mut peaks = self.peaks.iter().rev();
        let Some(last) = peaks.next() else {
            return of_nothing();
        };
        peaks.fold(*last, |right, left| of_node(left, &right))
    }
}

/// Whether a record is the one at `index` in the tree of this size and root.
#[must_use]
pub fn verify_inclusion(
    record: &[u8],
    index: u64,
    (size, root): (u64, &[u8; 32]),
    proof: &[[u8; 32]],
) -> bool {
    if index >= size {
        return false;
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = of_leaf(record);
    for sibling in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            hash = of_node(sibling, &hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = of_node(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && hash == *root
}

/// Whether the tree of the first size and root is the beginning of the second.
#[must_use]
pub fn verify_consistency(
    (first, first_root): (u64, &[u8; 32]),
    (second, second_root): (u64, &[u8; 32]),
    proof: &[[u8; 32]],
) -> bool {
    if first == second {
        return proof.is_empty() && first_root == second_root;
    }
    if first == 0 {
        return proof.is_empty() && *first_root == of_nothing() && second > 0;
    }
    if first > second {
        return false;
    }
    let (mut node, mut last) = (first - 1, second - 1);
    while node & 1 == 1 {
        (node, last) = (node >> 1, last >> 1);
    }
    let mut proof = proof.iter();
    // A first tree that is a whole subtree of the second is not in the proof.
    let begins = match node {
        0 => first_root,
        _ => match proof.next() {
            Some(hash) => hash,
            None => return false,
        },
    };
    let (mut old, mut new) = (*begins, *begins);
    for hash in proof {
        if last == 0 {
            return false;
        }
        if node & 1 == 1 || node == last {
            (old, new) = (of_node(hash, &old), of_node(hash, &new));
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new = of_node(&new, hash);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    last == 0 && old == *first_root && new == *second_root
}

#[cfg(test)]
mod tests;

//! The Merkle tree as it grows (RFC 6962, SHA-256). Invariant: the edge holds exactly the hashes of the tiles that are not full yet.

use ring::digest::{Context, SHA256, digest};

use crate::tile::WIDTH;

/// A hash of the tree.
pub type Hash = [u8; 32];

/// The hash of a record.
pub(crate) fn leaf(record: &[u8]) -> Hash {
    hash(&[&[0], record])
}

pub(crate) fn node(left: &Hash, right: &Hash) -> Hash {
    hash(&[&[1], left, right])
}

fn hash(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    bytes(context.finish().as_ref())
}

fn bytes(digest: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest);
    hash
}

/// The right edge of a tree: the hashes of each level's partial tile, the leaves' first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Edge {
    levels: Vec<Vec<Hash>>,
}

/// A tile that has become full.
#[derive(Debug)]
pub(crate) struct FullTile {
    pub(crate) level: usize,
    pub(crate) index: u64,
    pub(crate) hashes: Vec<Hash>,
}

impl Edge {
    /// From the partial tiles, the leaves' first.
    pub(crate) fn new(levels: Vec<Vec<Hash>>) -> Self {
        Self { levels }
    }

    /// The partial tile of each level.
    pub(crate) fn levels(&self) -> &[Vec<Hash>] {
        &self.levels
    }

    /// Adds the leaf that has this index, and gives the tiles that it fills.
    pub(crate) fn push(&mut self, index: u64, leaf: Hash) -> Vec<FullTile> {
        let (mut full, mut carried, mut index) = (Vec::new(), leaf, index);
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let hashes = &mut self.levels[level];
            hashes.push(carried);
            if (hashes.len() as u64) < WIDTH {
                break;
            }
            let hashes = std::mem::take(hashes);
            index /= WIDTH;
            carried = whole(&hashes);
            full.push(FullTile { level, index, hashes });
        }
        full
    }

    /// The root of the tree.
    pub(crate) fn root(&self) -> Hash {
        // From the right: the smallest whole subtree first.
        let mut root: Option<Hash> = None;
        for hashes in &self.levels {
            let mut end = hashes.len();
            while end > 0 {
                let width = 1 << end.trailing_zeros();
                let subtree = whole(&hashes[end - width..end]);
                root = Some(match root {
                    Some(right) => node(&subtree, &right),
                    None => subtree,
                });
                end -= width;
            }
        }
        root.unwrap_or_else(of_nothing)
    }
}

/// The root of a tree without records.
pub(crate) fn of_nothing() -> Hash {
    bytes(digest(&SHA256, b"").as_ref())
}

/// The hash above a power of two of hashes.
pub(crate) fn whole(hashes: &[Hash]) -> Hash {
    match hashes {
        [one] => *one,
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            node(&whole(left), &whole(right))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6962 §2.1 as it is written.
    fn mth(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => bytes(digest(&SHA256, b"").as_ref()),
            [one] => *one,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node(&mth(&leaves[..half]), &mth(&leaves[half..]))
            }
        }
    }

    #[test]
    fn the_root_is_that_of_the_rfc_at_each_size() {
        let (mut edge, mut leaves) = (Edge::default(), Vec::new());
        assert_eq!(edge.root(), mth(&leaves));
        for index in 0..70_000_u64 {
            let hash = leaf(&index.to_be_bytes());
            leaves.push(hash);
            for tile in edge.push(index, hash) {
                assert_eq!(tile.hashes.len(), 256);
                assert_eq!((tile.index + 1) * 256_u64.pow(tile.level as u32 + 1), index + 1);
            }
            if index < 1100 || index % 9973 == 0 {
                assert_eq!(edge.root(), mth(&leaves), "{index}");
            }
        }
        assert_eq!(
            edge.levels().iter().map(Vec::len).collect::<Vec<_>>(),
            [112, 17, 1]
        );
    }

    #[test]
    fn hashes_are_those_that_others_have() {
        // The vectors of the RFC's reference implementation: the empty leaf, and the tree of the empty leaf and of 00.
        let hex = |hash: Hash| hash.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mut edge = Edge::default();
        edge.push(0, leaf(b""));
        assert_eq!(
            hex(edge.root()),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        edge.push(1, leaf(b"\0"));
        assert_eq!(
            hex(edge.root()),
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
        );
    }
}

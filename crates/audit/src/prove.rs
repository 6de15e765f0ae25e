//! Proofs out of the files of a log (RFC 6962 §2.1.1, §2.1.2): that a record is in it, and that one checkpoint goes on from another.
//!
//! Invariant: nothing is verified here; what the files hold is what is proven, and whoever is given a proof verifies it against a signed checkpoint.

use std::io;

use crate::tile::{self, WIDTH};
use crate::tree::{self, Hash};
use crate::verify::Source;

/// Why there is no proof.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The log has not so many records.
    #[error("the log has {size} records, and {asked} is asked for: give a number below")]
    Beyond {
        /// What was asked for.
        asked: u64,
        /// Records in the log.
        size: u64,
    },
    /// A file of hashes is not there.
    #[error("{0} is missing, so nothing can be proven: landfast audit verify says more")]
    Missing(String),
    /// A file of hashes does not hold what it should.
    #[error("{0} is not made of hashes: landfast audit verify says more")]
    Malformed(String),
    /// A file cannot be read.
    #[error("{what} cannot be read")]
    Read {
        /// The file.
        what: String,
        /// Why.
        source: io::Error,
    },
}

/// A tree of `size` records, in the files of a log that may have more by now.
pub struct Prover<'a> {
    source: &'a dyn Source,
    size: u64,
    /// Records of the log whose files these are.
    present: u64,
}

impl<'a> Prover<'a> {
    /// For the tree of the first `size` records of a log that has `present` by its own checkpoint.
    ///
    /// # Errors
    /// The log has fewer.
    pub fn new(source: &'a dyn Source, size: u64, present: u64) -> Result<Self, ProveError> {
        match size <= present {
            true => Ok(Self {
                source,
                size,
                present,
            }),
            false => Err(ProveError::Beyond {
                asked: size,
                size: present,
            }),
        }
    }

    /// The root of the tree.
    ///
    /// # Errors
    /// A file is missing or is none.
    pub fn root(&self) -> Result<Hash, ProveError> {
        self.range(0, self.size)
    }

    /// That the record of this number is in the tree, for [`verify_inclusion`](crate::verify::verify_inclusion).
    ///
    /// # Errors
    /// There is no such record in the tree; a file is missing or is none.
    pub fn inclusion(&self, index: u64) -> Result<Vec<Hash>, ProveError> {
        if index >= self.size {
            return Err(ProveError::Beyond {
                asked: index,
                size: self.size,
            });
        }
        let (mut begin, mut end, mut proof) = (0, self.size, Vec::new());
        while end - begin > 1 {
            let middle = begin + left_of(end - begin);
            if index < middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(begin, middle)?);
                begin = middle;
            }
        }
        proof.reverse();
        Ok(proof)
    }

    /// That the tree goes on from its first `first` records, for [`verify_consistency`](crate::verify::verify_consistency).
    ///
    /// # Errors
    /// The tree has fewer; a file is missing or is none.
    pub fn consistency(&self, first: u64) -> Result<Vec<Hash>, ProveError> {
        if first > self.size {
            return Err(ProveError::Beyond {
                asked: first,
                size: self.size,
            });
        }
        if first == 0 || first == self.size {
            return Ok(Vec::new());
        }
        let (mut begin, mut end, mut proof) = (0, self.size, Vec::new());
        // Down to where the first tree ends.
        while end != first {
            let middle = begin + left_of(end - begin);
            if first <= middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(begin, middle)?);
                begin = middle;
            }
        }
        // A first tree that is a whole subtree is known to the verifier.
        if begin > 0 {
            proof.push(self.range(begin, end)?);
        }
        proof.reverse();
        Ok(proof)
    }

    /// The hash over these records; `begin` is where a subtree of so many may begin.
    fn range(&self, begin: u64, end: u64) -> Result<Hash, ProveError> {
        let count = end - begin;
        if count == 0 {
            return Ok(tree::of_nothing());
        }
        if count.is_power_of_two() {
            return self.subtree(begin, count.trailing_zeros());
        }
        let middle = begin + left_of(count);
        Ok(tree::node(&self.range(begin, middle)?, &self.range(middle, end)?))
    }

    /// The hash of the whole subtree of this height that begins here, out of the tile that has its hashes.
    fn subtree(&self, begin: u64, height: u32) -> Result<Hash, ProveError> {
        let (level, within) = (height / TILE_HEIGHT, height % TILE_HEIGHT);
        let first = begin >> (level * TILE_HEIGHT);
        let hashes = self.tile(level, first / WIDTH)?;
        // Below the width of a tile.
        let place = usize::try_from(first % WIDTH).unwrap_or_default();
        let part = hashes.get(place..place + (1 << within));
        part.map(tree::whole).ok_or_else(|| {
            let name = tile::hashes(level as usize, first / WIDTH, WIDTH);
            ProveError::Malformed(self.source.describe(&name))
        })
    }

    fn tile(&self, level: u32, index: u64) -> Result<Vec<Hash>, ProveError> {
        let width = WIDTH.min((self.present >> (level * TILE_HEIGHT)) - index * WIDTH);
        let name = tile::hashes(level as usize, index, width);
        let what = || self.source.describe(&name);
        let bytes = self.source.read(&name, width * HASH_BYTES);
        let bytes = bytes.map_err(|source| ProveError::Read { what: what(), source })?;
        let bytes = bytes.ok_or_else(|| ProveError::Missing(what()))?;
        let (hashes, rest) = bytes.as_chunks();
        match rest.is_empty() && hashes.len() as u64 == width {
            true => Ok(hashes.to_vec()),
            false => Err(ProveError::Malformed(what())),
        }
    }
}

impl std::fmt::Debug for Prover<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Prover({} of {})", self.size, self.present)
    }
}

/// The largest power of two below.
fn left_of(count: u64) -> u64 {
    1 << (u64::BITS - 1 - (count - 1).leading_zeros())
}

/// A tile has the hashes of so many levels of the tree.
const TILE_HEIGHT: u32 = 8;
const HASH_BYTES: u64 = 32;

#[cfg(test)]
mod tests;

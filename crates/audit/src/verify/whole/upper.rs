//! The tiles above the leaves, checked as they fill. Invariant: at most one tile a level is in memory.

use super::bundle::{file, hashes, path};
use super::{MOST_FINDINGS, WIDTH, root_of};
use crate::verify::Source;
use crate::verify::finding::{Finding, Kind};
use crate::verify::merkle::Hash;

/// From level 1 on. Of each tile below its root as the records have it, and as its hashes have it: a tile above has one of them, and when it is not
/// the right one, the tile below is reported.
#[derive(Default)]
pub(super) struct Upper {
    levels: Vec<(u64, Vec<Hash>, Vec<Hash>)>,
}

impl Upper {
    /// The roots of the next full tile of level 0.
    pub(super) fn push(&mut self, source: &dyn Source, roots: (Hash, Hash), findings: &mut Vec<Finding>) {
        let mut carried = roots;
        for level in 0.. {
            if self.levels.len() == level {
                self.levels.push((0, Vec::new(), Vec::new()));
            }
            let (index, ours, theirs) = &mut self.levels[level];
            ours.push(carried.0);
            theirs.push(carried.1);
            if (ours.len() as u64) < WIDTH {
                break;
            }
            check(source, (level + 1, *index), (ours, theirs), findings);
            carried = (root_of(ours), root_of(theirs));
            *index += 1;
            (*ours, *theirs) = (Vec::new(), Vec::new());
        }
    }

    pub(super) fn finish(&self, source: &dyn Source, findings: &mut Vec<Finding>) {
        for (level, (index, ours, theirs)) in self.levels.iter().enumerate() {
            if !ours.is_empty() {
                check(source, (level + 1, *index), (ours, theirs), findings);
            }
        }
    }
}

fn check(
    source: &dyn Source,
    (level, index): (usize, u64),
    (ours, theirs): (&[Hash], &[Hash]),
    findings: &mut Vec<Finding>,
) {
    if findings.len() >= MOST_FINDINGS {
        return;
    }
    let spans = WIDTH.saturating_pow(u32::try_from(level).unwrap_or(u32::MAX));
    let begins = index.saturating_mul(spans).saturating_mul(WIDTH);
    let (tile, width) = (format!("tile/{level}/{}", path(index)), ours.len() as u64);
    let Some(bytes) = file(source, &tile, width, begins, findings) else {
        return;
    };
    let found = hashes(&bytes, width).unwrap_or_default();
    let is_one = |(place, hash)| ours.get(place) == Some(hash) || theirs.get(place) == Some(hash);
    if found.len() != ours.len() || !found.iter().enumerate().all(is_one) {
        let what = format!(
            "{} does not hold the hashes of the tiles below it",
            source.describe(&tile)
        );
        findings.push(Finding::new(Kind::Hashes, Some(begins), what));
    }
}

//! Which records were taken away. Invariant: what the file says is believed of nothing but which files may be missing; what is there has to add up to
//! the checkpoint all the same.

use super::source::Source;

/// Records before this one may be missing, when their tiles of level 1 are there.
pub(super) fn pruned(source: &dyn Source) -> u64 {
    let text = source.read(PRUNED, MAX_BYTES).ok().flatten();
    let text = text.and_then(|bytes| String::from_utf8(bytes).ok());
    let before = text.and_then(|text| text.trim().parse::<u64>().ok());
    before.filter(|before| before % WIDTH == 0).unwrap_or(0)
}

const PRUNED: &str = "pruned";
const MAX_BYTES: u64 = 64;
const WIDTH: u64 = 256;

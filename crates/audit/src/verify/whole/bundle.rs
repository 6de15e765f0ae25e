//! One bundle of records and its tile, read beside others. Invariant: what is returned was read from the bundle, or is not there.

use std::borrow::Cow;
use std::ops::Range;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::WIDTH;
use crate::verify::Source;
use crate::verify::finding::{Finding, Kind};
use crate::verify::merkle::{Hash, of_leaf};
use crate::verify::source::MAX_FILE_BYTES;

pub(super) struct Bundle {
    pub(super) index: u64,
    /// The hashes of its records; `None`: they cannot be read.
    pub(super) records: Option<Vec<Hash>>,
    /// Those in its tile; `None`: it cannot be read.
    pub(super) tile: Option<Vec<Hash>>,
    /// The number that each record says it has.
    pub(super) numbers: Vec<Option<u64>>,
    /// Place in the bundle, time and its quality.
    pub(super) times: Vec<(u64, Option<String>, String)>,
    pub(super) findings: Vec<Finding>,
    /// Its records are not here, and may be missing.
    pub(super) is_pruned: bool,
    /// The root of its tile, when that was pruned too.
    pub(super) above: Option<Hash>,
    /// From where on the log says that it is whole.
    pub(super) said: u64,
}

/// What the verifier reads of a record; the rest is passed over.
#[derive(Deserialize)]
struct Seen<'a> {
    seq: u64,
    #[serde(borrow, default)]
    time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    time_quality: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    detail: Detail<'a>,
}

#[derive(Deserialize, Default)]
struct Detail<'a> {
    /// When a node's record came: the time beside it is the node's.
    #[serde(borrow, default)]
    received: Option<Cow<'a, str>>,
    /// Of a line of a node's journal.
    #[serde(default)]
    chain: Option<IgnoredAny>,
    #[serde(default)]
    first_record: Option<u64>,
}

impl Seen<'_> {
    /// By the clock of this log's server, as far as it says.
    fn time(&mut self) -> Option<String> {
        let is_of_a_node = self
            .kind
            .as_deref()
            .is_some_and(|kind| kind.starts_with("agent."));
        let time = match is_of_a_node && self.detail.chain.is_some() {
            true => self.detail.received.take(),
            false => self.time.take(),
        };
        time.map(Cow::into_owned)
    }

    fn said(&self) -> u64 {
        match self.kind.as_deref() {
            Some("log.pruned" | "log.started") => self.detail.first_record.unwrap_or(0),
            _ => 0,
        }
    }
}

/// These bundles, in order.
pub(super) fn read_all(source: &dyn Source, (size, pruned): (u64, u64), bundles: Range<u64>) -> Vec<Bundle> {
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get().min(8)) as u64;
    let each = (bundles.end - bundles.start).div_ceil(workers).max(1);
    let read = |part: Range<u64>| {
        part.map(|index| read(source, (size, pruned), index))
            .collect::<Vec<_>>()
    };
    std::thread::scope(|scope| {
        let mut parts = Vec::new();
        let mut start = bundles.start;
        while start < bundles.end {
            let part = start..bundles.end.min(start + each);
            start = part.end;
            parts.push(scope.spawn(move || read(part)));
        }
        let joined = parts.into_iter().map(std::thread::ScopedJoinHandle::join);
        let joined = joined.map(|part| part.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        joined.flatten().collect()
    })
}

fn read(source: &dyn Source, (size, pruned): (u64, u64), index: u64) -> Bundle {
    let width = WIDTH.min(size - index * WIDTH);
    let mut bundle = Bundle {
        index,
        records: None,
        tile: None,
        numbers: Vec::new(),
        times: Vec::new(),
        findings: Vec::new(),
        is_pruned: false,
        above: None,
        said: 0,
    };
    let (number, begins) = (path(index), index * WIDTH);
    let (entries, tile) = (format!("tile/entries/{number}"), format!("tile/0/{number}"));
    bundle.is_pruned = begins < pruned && matches!(source.read(&entries, MAX_FILE_BYTES), Ok(None));
    if bundle.is_pruned && matches!(source.read(&tile, MAX_FILE_BYTES), Ok(None)) {
        bundle.above = root_above(source, size, index, &mut bundle.findings);
        return bundle;
    }
    if !bundle.is_pruned
        && let Some(bytes) = file(source, &entries, width, begins, &mut bundle.findings)
    {
        records(&bytes, width, begins, &mut bundle);
    }
    if let Some(bytes) = file(source, &tile, width, begins, &mut bundle.findings) {
        bundle.tile = hashes(&bytes, width);
        if bundle.tile.is_none() {
            let what = format!("{} is too short", source.describe(&tile));
            bundle
                .findings
                .push(Finding::new(Kind::Hashes, Some(begins), what));
        }
    }
    bundle
}

/// What the tile of level 1 has for this one of level 0, which is not there.
fn root_above(source: &dyn Source, size: u64, index: u64, findings: &mut Vec<Finding>) -> Option<Hash> {
    let (above, place) = (index / WIDTH, index % WIDTH);
    let width = (size / WIDTH - above * WIDTH).min(WIDTH);
    let tile = format!("tile/1/{}", path(above));
    let bytes = file(source, &tile, width, index * WIDTH, findings)?;
    let found = hashes(&bytes, width).and_then(|found| found.get(usize::try_from(place).ok()?).copied());
    if found.is_none() {
        let what = format!("{} is too short", source.describe(&tile));
        findings.push(Finding::new(Kind::Hashes, Some(index * WIDTH), what));
    }
    found
}

/// The partial file, or the full one that has taken its place.
pub(in crate::verify) fn file(
    source: &dyn Source,
    full: &str,
    width: u64,
    begins: u64,
    findings: &mut Vec<Finding>,
) -> Option<Vec<u8>> {
    let partial = format!("{full}.p/{width}");
    let named = if width < WIDTH { &partial } else { full };
    let found = source.read(named, MAX_FILE_BYTES).and_then(|found| match found {
        None if width < WIDTH => source.read(full, MAX_FILE_BYTES),
        found => Ok(found),
    });
    let what = match found {
        Ok(Some(bytes)) => return Some(bytes),
        Ok(None) => format!("{} is missing", source.describe(named)),
        Err(error) => format!("{} cannot be read: {error}", source.describe(named)),
    };
    findings.push(Finding::new(Kind::Missing, Some(begins), what));
    None
}

fn records(bytes: &[u8], width: u64, begins: u64, bundle: &mut Bundle) {
    let (mut rest, mut hashes) = (bytes, Vec::new());
    // A full bundle may stand for the partial one.
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let is_partial = width < WIDTH && hashes.len() as u64 == width;
        let Some((record, after)) = after.split_at_checked(u16::from_be_bytes(*length).into()) else {
            break;
        };
        if is_partial {
            rest = &[];
            break;
        }
        let place = hashes.len() as u64;
        hashes.push(of_leaf(record));
        match serde_json::from_slice::<Seen<'_>>(record) {
            Ok(mut seen) => {
                bundle.numbers.push(Some(seen.seq));
                bundle.said = bundle.said.max(seen.said());
                let time = seen.time();
                let quality = seen.time_quality.map_or_else(String::new, Cow::into_owned);
                bundle.times.push((place, time, quality));
            }
            Err(_) => {
                bundle.numbers.push(None);
                let what = format!(
                    "record {} is not one: it is no JSON, or has no number",
                    begins + place
                );
                let finding = Finding::new(Kind::Malformed, Some(begins + place), what);
                // The first says it.
                if !bundle.findings.iter().any(|known| known.kind == Kind::Malformed) {
                    bundle.findings.push(finding);
                }
            }
        }
        rest = after;
    }
    if !rest.is_empty() {
        let place = begins + hashes.len() as u64;
        let what = format!("behind record {place} the bundle is not made of records");
        bundle
            .findings
            .push(Finding::new(Kind::Malformed, Some(place), what));
    }
    bundle.records = Some(hashes);
}

/// The first `width` hashes of a tile.
pub(super) fn hashes(bytes: &[u8], width: u64) -> Option<Vec<Hash>> {
    let (chunks, odd) = bytes.as_chunks::<32>();
    let width = usize::try_from(width).ok()?;
    (odd.is_empty() && chunks.len() >= width).then(|| chunks[..width].to_vec())
}

/// Three digits an element, all but the last after an `x`.
pub(in crate::verify) fn path(index: u64) -> String {
    let digits = format!("{index}");
    let padded = format!("{}{digits}", "0".repeat((3 - digits.len() % 3) % 3));
    let mut out = String::new();
    for at in (0..padded.len()).step_by(3) {
        let last = at + 3 == padded.len();
        out.push_str(if last { "" } else { "x" });
        out.push_str(&padded[at..at + 3]);
        out.push_str(if last { "" } else { "/" });
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_are_those_of_the_specification() {
        let paths = [0, 7, 999, 1000, 1_234_067].map(super::path);
        assert_eq!(paths, ["000", "007", "999", "x001/000", "x001/x234/067"]);
    }
}

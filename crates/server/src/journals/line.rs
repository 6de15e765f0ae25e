//! A line of a node's journal, as it is sent (`docs/formats/journal.md`). Invariant: what is not as it says is refused whole.

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde::Deserialize;
use serde_json::{Map, Value};

pub(super) type Hash = [u8; 32];

/// A record, or the count of some.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// In bytes.
    pub(super) length: usize,
    pub(super) first: u64,
    pub(super) last: u64,
    /// Of what stands before it.
    pub(super) prev: Hash,
    /// Of the last that it stands for.
    pub(super) chain: Hash,
    pub(super) kind: String,
    pub(super) time: Option<String>,
    pub(super) quality: String,
    /// `None`: a record.
    pub(super) counts: Option<BTreeMap<String, u64>>,
    pub(super) detail: Map<String, Value>,
}

#[derive(Deserialize)]
struct Wire {
    v: u64,
    seq: u64,
    prev: String,
    #[serde(rename = "type")]
    kind: String,
    time: Option<String>,
    #[serde(default)]
    quality: String,
    last: Option<u64>,
    chain: Option<String>,
    counts: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    detail: Map<String, Value>,
}

impl Line {
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, &'static str> {
        if bytes.len() > LONGEST {
            return Err("a record of a journal has 4096 bytes at most");
        }
        let wire: Wire = serde_json::from_slice(bytes)
            .map_err(|_cause| "a record of a journal is none: see docs/formats/journal.md")?;
        if wire.v != 1 {
            return Err(
                "records of journals of this version are not known here: the server is older than the node",
            );
        }
        let prev = unhex(&wire.prev).ok_or("a record names no hash of the one before")?;
        let (last, chain, counts) = match wire.kind == GAP {
            true => gap(&wire)?,
            false => {
                let mut hash = [0; 32];
                hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
                (wire.seq, hash, None)
            }
        };
        if last >= u64::MAX / 2 {
            return Err("a record has a number that no journal comes to");
        }
        Ok(Self {
            // In the ledger it is escaped, in six bytes.
            length: bytes.len() + 5 * bytes.iter().filter(|byte| **byte == 0x7f).count(),
            first: wire.seq,
            last,
            prev,
            chain,
            kind: wire.kind,
            time: wire.time,
            quality: wire.quality,
            counts,
            detail: wire.detail,
        })
    }
}

type Gap = (u64, Hash, Option<BTreeMap<String, u64>>);

fn gap(wire: &Wire) -> Result<Gap, &'static str> {
    const WRONG: &str = "a count of a journal does not count what it stands for";
    let (last, chain, counts) = (
        wire.last,
        wire.chain.as_deref().and_then(unhex),
        wire.counts.clone(),
    );
    let (Some(last), Some(chain), Some(counts)) = (last, chain, counts) else {
        return Err(WRONG);
    };
    let sum = counts.values().try_fold(0_u64, |sum, one| sum.checked_add(*one));
    match last >= wire.seq && sum == (last - wire.seq).checked_add(1) {
        true => Ok((last, chain, Some(counts))),
        false => Err(WRONG),
    }
}

pub(super) fn unhex(text: &str) -> Option<Hash> {
    let mut hash = [0; 32];
    // A number may have a sign, a hash has not.
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, place) in hash.iter_mut().zip(0..) {
        *byte = u8::from_str_radix(&text[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(hash)
}

pub(super) const GAP: &str = "journal.gap";
const LONGEST: usize = 4096;

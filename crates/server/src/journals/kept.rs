//! What the ledger of this server has of each node's journal, over restarts: read out of the ledger itself, from where it was read last.
//!
//! Invariant: the ledger is what counts; the file only says from where on it has to be read again, and one that is lost or damaged costs reading all of it.

use std::collections::HashMap;
use std::path::Path;

use landfast_audit::verify::{DirSource, ReadError, Source as _, read};
use landfast_store::Store;
use serde::{Deserialize, Serialize};

use super::line::unhex;
use super::records::BROKEN;
use super::step::Known;
use crate::random;

/// By node.
pub(super) type Nodes = HashMap<String, Known>;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: u32,
    /// The name of the ledger.
    ledger: String,
    /// Records of it that this is of.
    size: u64,
    nodes: Vec<Row>,
    /// Of all before.
    digest: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    node: String,
    journal: String,
    next: u64,
    chain: String,
    broken: bool,
}

/// What is there, in the ledger of this directory.
pub(super) fn open(data: &Store, dir: &Path) -> Result<Nodes, ReadError> {
    let (ledger, size) = head(dir).unwrap_or_default();
    let kept = data.read(NAME).ok().flatten();
    let kept = kept.and_then(|bytes| parse(&bytes, &ledger, size));
    let (from, mut nodes) = kept.unwrap_or_default();
    read(&DirSource::new(dir), from, &mut |_, record| {
        learn(&mut nodes, record);
        true
    })?;
    Ok(nodes)
}

/// Keeps it. Everything below the last checkpoint has to be in `nodes`.
pub(super) fn save(data: &Store, dir: &Path, nodes: &Nodes) -> Result<(), landfast_store::StoreError> {
    let (ledger, size) = head(dir).unwrap_or_default();
    let rows = nodes.iter().map(|(node, known)| Row {
        node: node.clone(),
        journal: known.journal.clone(),
        next: known.next,
        chain: random::hex(&known.chain),
        broken: known.broken,
    });
    let mut file = File {
        version: VERSION,
        ledger,
        size,
        nodes: rows.collect(),
        digest: String::new(),
    };
    file.digest = digest(&file);
    data.replace(NAME, &serde_json::to_vec(&file).unwrap_or_default())
}

/// Its name and size, as its last checkpoint says.
pub(super) fn head(dir: &Path) -> Option<(String, u64)> {
    let checkpoint = DirSource::new(dir).read("checkpoint", LONGEST).ok()??;
    let text = String::from_utf8(checkpoint).ok()?;
    let mut lines = text.lines();
    Some((lines.next()?.to_owned(), lines.next()?.parse().ok()?))
}

fn parse(bytes: &[u8], ledger: &str, size: u64) -> Option<(u64, Nodes)> {
    let mut file: File = serde_json::from_slice(bytes).ok()?;
    let said = std::mem::take(&mut file.digest);
    // One that is ahead is of a ledger that was put back.
    let good = file.version == VERSION && file.ledger == ledger && file.size <= size && digest(&file) == said;
    let nodes = file.nodes.into_iter().map(|row| {
        let known = Known {
            journal: row.journal,
            next: row.next,
            chain: unhex(&row.chain)?,
            broken: row.broken,
        };
        Some((row.node, known))
    });
    let nodes: Option<Nodes> = nodes.collect();
    nodes.filter(|_| good).map(|nodes| (file.size, nodes))
}

/// From a record of the ledger.
pub(super) fn learn(nodes: &mut Nodes, record: &[u8]) {
    let is_of_a_journal = record.windows(FORWARDED.len()).any(|part| part == FORWARDED);
    if !is_of_a_journal {
        return;
    }
    let Ok(record) = serde_json::from_slice::<serde_json::Value>(record) else {
        return;
    };
    let (node, detail) = (record["actor"]["id"].as_str(), &record["detail"]);
    let (Some(node), Some(journal)) = (node, detail["journal"].as_str()) else {
        return;
    };
    if record["type"] == BROKEN {
        if let Some(known) = nodes.get_mut(node).filter(|known| known.journal == journal) {
            known.broken = true;
        }
        return;
    }
    let last = detail["last"].as_u64().or_else(|| detail["seq"].as_u64());
    let chain = detail["chain"].as_str().and_then(unhex);
    if let (Some(last), Some(chain)) = (last, chain) {
        let known = Known {
            journal: journal.to_owned(),
            next: last + 1,
            chain,
            broken: false,
        };
        nodes.insert(node.to_owned(), known);
    }
}

fn digest(file: &File) -> String {
    let text = serde_json::to_vec(&File {
        digest: String::new(),
        nodes: file
            .nodes
            .iter()
            .map(|row| Row {
                node: row.node.clone(),
                journal: row.journal.clone(),
                next: row.next,
                chain: row.chain.clone(),
                broken: row.broken,
            })
            .collect(),
        ledger: file.ledger.clone(),
        ..*file
    });
    let hash = ring::digest::digest(&ring::digest::SHA256, &text.unwrap_or_default());
    random::hex(hash.as_ref())
}

const NAME: &str = "journals.json";
const VERSION: u32 = 1;
const LONGEST: u64 = 64 << 10;
/// In each record of a journal.
const FORWARDED: &[u8] = b"\"type\":\"agent.";

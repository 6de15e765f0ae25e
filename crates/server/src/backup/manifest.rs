//! What a backup says of itself (docs/formats/backup.md). Invariant: what is not known here is refused; a new field is a new version.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ArchiveError;
use super::make::PASSPHRASE;

/// The last part but one.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    pub(super) trust_domain: String,
    pub(super) epoch: i64,
    pub(super) revision: i64,
    pub(super) bundle_sequence: u64,
    /// Number of the last migration of the database.
    pub(super) schema: i64,
    /// Unix seconds.
    pub(super) made_at: i64,
    /// Program and version.
    pub(super) made_by: String,
    pub(super) parts: Vec<Part>,
    pub(super) authorities: Vec<Authority>,
    /// `None`: there are no keys in it.
    pub(super) keys: Option<Keys>,
}

/// A table, or the keys.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) sha256: String,
    /// Of a table.
    pub(super) rows: Option<u64>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Authority {
    pub(super) kind: String,
    pub(super) id: String,
    /// SHA-256 of its public key.
    pub(super) fingerprint: String,
    pub(super) slot: String,
    /// Unix seconds.
    pub(super) not_after: i64,
    /// Whether its key is in the backup.
    pub(super) key: bool,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Keys {
    /// Recipients, or `passphrase`.
    pub(super) sealed_for: Vec<String>,
}

impl Keys {
    /// As people read it: `sealed for age1…`, `sealed with a passphrase`.
    pub(super) fn sealed(&self) -> String {
        match self.sealed_for.iter().any(|name| name == PASSPHRASE) {
            true => "sealed with a passphrase".to_owned(),
            false => format!("sealed for {}", self.sealed_for.join(", ")),
        }
    }
}

impl Manifest {
    pub(super) fn read(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let unreadable = |error| ArchiveError::damaged(format!("its manifest cannot be read: {error}"));
        let value: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
        // It is shown to people before anything shows who made it.
        if !is_plain(&value) {
            return Err(ArchiveError::damaged(
                "its manifest has characters that could mislead who reads it",
            ));
        }
        serde_json::from_slice(bytes).map_err(unreadable)
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("strings and numbers are JSON");
        bytes.push(b'\n');
        bytes
    }

    /// All of it but the part of the keys, which are sealed with the digest of this.
    pub(super) fn bound(&self) -> Vec<u8> {
        let mut bound = self.clone();
        bound.parts.retain(|part| part.name != KEYS);
        bound.to_bytes()
    }

    /// These authorities, for people.
    pub(super) fn named(&self, fingerprints: &[String]) -> String {
        let name = |fingerprint: &String| {
            let known = self
                .authorities
                .iter()
                .find(|known| known.fingerprint == *fingerprint);
            match known {
                Some(known) => format!("{} authority {}, fingerprint {fingerprint}", known.kind, known.id),
                None => format!("fingerprint {fingerprint}"),
            }
        };
        fingerprints.iter().map(name).collect::<Vec<_>>().join("; ")
    }

    pub(super) fn rows(&self, table: &str) -> u64 {
        let name = table_part(table);
        let part = self.parts.iter().find(|part| part.name == name);
        part.and_then(|part| part.rows).unwrap_or(0)
    }
}

/// Whether each text in it is of printable ASCII, as all that we write.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::String(text) => text.chars().all(|c| (' '..='~').contains(&c)),
        Value::Array(values) => values.iter().all(is_plain),
        // Unknown names are refused, with their names, afterwards.
        Value::Object(fields) => fields
            .iter()
            .all(|(name, value)| is_plain(&Value::from(name.as_str())) && is_plain(value)),
        _ => true,
    }
}

/// The part that holds this table.
pub(super) fn table_part(table: &str) -> String {
    format!("{TABLES}{table}{JSON_LINES}")
}

/// The first part: what it is, and the version of the format.
pub(super) const FORMAT: &str = "format";
pub(super) const FORMAT_1: &[u8] = b"landfast-backup 1\n";
pub(super) const FORMAT_ANY: &[u8] = b"landfast-backup ";
pub(super) const KEYS: &str = "keys.age";
pub(super) const MANIFEST: &str = "manifest.json";
/// The last part, as `sha256sum` writes it.
pub(super) const DIGEST: &str = "manifest.json.sha256";
pub(super) const TABLES: &str = "tables/";
pub(super) const JSON_LINES: &str = ".jsonl";

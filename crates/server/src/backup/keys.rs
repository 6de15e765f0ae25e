//! The keys of authorities as a backup holds them: under a seal, with the digests of the tables that they belong to.
//!
//! Invariant: whoever can change the tables but does not have the keys cannot make a seal that fits them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfast_identity::PrivateKey;
use landfast_store::read_beside;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::error::{ArchiveError, BackupError};
use crate::authority::{AuthorityRow, DiskKeys, Journal, Slot};
use crate::random::hex;

/// By name, PKCS#8 DER.
#[derive(Default)]
pub(super) struct Keys(BTreeMap<String, Zeroizing<Vec<u8>>>);

impl Keys {
    /// Those of these authorities, out of a directory that a server may be using. Of authorities that sign no more a key may be missing.
    pub(super) fn beside(dir: &Path, journal: &Journal) -> Result<Self, BackupError> {
        let mut keys = Self::default();
        for row in &journal.rows {
            if let Some(key) = read_beside(dir, &DiskKeys::file_name(&row.key_name))? {
                keys.0.insert(row.key_name.clone(), key);
            }
        }
        keys.verify(journal)?;
        Ok(keys)
    }

    /// Whether each is the key of its authority, and none is missing that signs or will.
    pub(super) fn verify(&self, journal: &Journal) -> Result<(), BackupError> {
        for row in &journal.rows {
            match self.0.get(&row.key_name) {
                Some(der) => {
                    let key = PrivateKey::from_pkcs8_der(der.to_vec());
                    if key.is_ok_and(|key| key.public_key() == row.public_key) {
                        continue;
                    }
                    return Err(BackupError::OtherKey {
                        authority: named(row),
                    });
                }
                None if row.slot == Slot::Old => {}
                None => {
                    return Err(BackupError::NoKey {
                        authority: named(row),
                    });
                }
            }
        }
        let known = |name: &String| journal.rows.iter().any(|row| row.key_name == *name);
        match self.0.keys().find(|name| !known(name)) {
            Some(name) => Err(BackupError::StrayKey { name: name.clone() }),
            None => Ok(()),
        }
    }

    pub(super) fn holds(&self, row: &AuthorityRow) -> bool {
        self.0.contains_key(&row.key_name)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.0.iter().map(|(name, key)| (name.as_str(), key.as_slice()))
    }

    /// What is sealed.
    pub(super) fn to_text(&self, digests: &str) -> Zeroizing<String> {
        // Room for all of it at once: growing would leave copies of a secret behind.
        let room: usize = self
            .0
            .iter()
            .map(|(name, key)| name.len() + 2 * key.len() + 16)
            .sum();
        let mut text = Zeroizing::new(String::with_capacity(room + 128));
        let tables = hex(digest(&SHA256, digests.as_bytes()).as_ref());
        text.push_str(HEAD);
        writeln!(text, "{TABLES}{tables}").expect("writing to a String cannot fail");
        for (name, key) in &self.0 {
            let key = Zeroizing::new(STANDARD.encode(key));
            writeln!(text, "{KEY}{name} {}", *key).expect("writing to a String cannot fail");
        }
        text
    }

    /// Reads it again. The tables must have these digests.
    pub(super) fn from_text(text: &[u8], digests: &str) -> Result<Self, ArchiveError> {
        let damaged = || ArchiveError::damaged("what is sealed in keys.age cannot be read");
        let text = std::str::from_utf8(text).map_err(|_bytes| damaged())?;
        let mut lines = text.strip_prefix(HEAD).ok_or_else(damaged)?.lines();
        let tables = lines.next().and_then(|line| line.strip_prefix(TABLES));
        if tables.ok_or_else(damaged)? != hex(digest(&SHA256, digests.as_bytes()).as_ref()) {
            return Err(ArchiveError::OtherTables);
        }
        let mut keys = Self::default();
        for line in lines {
            let key = line.strip_prefix(KEY).and_then(|key| key.split_once(' '));
            let (name, key) = key.ok_or_else(damaged)?;
            let key = Zeroizing::new(STANDARD.decode(key).map_err(|_bytes| damaged())?);
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            if name.is_empty() || !name.bytes().all(plain) || keys.0.insert(name.to_owned(), key).is_some() {
                return Err(damaged());
            }
        }
        Ok(keys)
    }
}

fn named(row: &AuthorityRow) -> String {
    format!("{} authority {}", row.kind.as_str(), row.id)
}

const HEAD: &str = "landfast-keys 1\n";
const TABLES: &str = "tables ";
const KEY: &str = "key ";

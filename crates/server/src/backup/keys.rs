//! The keys of authorities as a backup holds them: under a seal, with the digest of the manifest that they belong to.
//!
//! Invariant: tables and manifest are those that these keys were sealed with. Who sealed them is another question: a recipient is public.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfast_identity::{PrivateKey, PublicKey};
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

    /// The fingerprints of the authorities whose keys these are.
    pub(super) fn fingerprints(&self) -> Vec<String> {
        let public = self.0.values().filter_map(|der| public_key(der));
        public.map(|key| fingerprint(&key)).collect()
    }

    /// Whether one of them is in this directory as well. Whoever has only the recipient cannot bring that about.
    pub(super) fn meet(&self, dir: &Path) -> bool {
        self.0.iter().any(|(name, der)| {
            let there = read_beside(dir, &DiskKeys::file_name(name)).ok().flatten();
            let there = there.and_then(|der| public_key(&der));
            there.is_some() && there == public_key(der)
        })
    }

    /// What is sealed. `bound`: what the manifest says.
    pub(super) fn to_text(&self, bound: &[u8]) -> Zeroizing<String> {
        // Room for all of it at once: growing would leave copies of a secret behind.
        let room: usize = self
            .0
            .iter()
            .map(|(name, key)| name.len() + 2 * key.len() + 16)
            .sum();
        let mut text = Zeroizing::new(String::with_capacity(room + 128));
        text.push_str(HEAD);
        writeln!(text, "{MANIFEST}{}", sha256(bound)).expect("writing to a String cannot fail");
        for (name, key) in &self.0 {
            let key = Zeroizing::new(STANDARD.encode(key));
            writeln!(text, "{KEY}{name} {}", *key).expect("writing to a String cannot fail");
        }
        text
    }

    /// Reads it again. The manifest must say this.
    pub(super) fn from_text(text: &[u8], bound: &[u8]) -> Result<Self, ArchiveError> {
        let damaged = || ArchiveError::damaged("what is sealed in keys.age cannot be read");
        let text = std::str::from_utf8(text).map_err(|_bytes| damaged())?;
        let mut lines = text.strip_prefix(HEAD).ok_or_else(damaged)?.lines();
        let manifest = lines.next().and_then(|line| line.strip_prefix(MANIFEST));
        if manifest.ok_or_else(damaged)? != sha256(bound) {
            return Err(ArchiveError::OtherManifest);
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

/// By what people know an authority: SHA-256 of its public key (SPKI).
pub(super) fn fingerprint(key: &PublicKey) -> String {
    sha256(key.spki_der())
}

fn public_key(der: &[u8]) -> Option<PublicKey> {
    PrivateKey::from_pkcs8_der(der.to_vec())
        .ok()
        .map(|key| key.public_key())
}

fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

fn named(row: &AuthorityRow) -> String {
    format!("{} authority {}", row.kind.as_str(), row.id)
}

const HEAD: &str = "landfast-keys 1\n";
const MANIFEST: &str = "manifest ";
const KEY: &str = "key ";

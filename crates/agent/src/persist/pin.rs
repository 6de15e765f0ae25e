//! Where the node stands in the bundle chain, and which root keys it believes.
//!
//! Invariant: a file that is not what we wrote is damaged, whatever it says: one bit of a root key more or less would be another's.

use landfast_identity::chain::{Position, RootKey, StepDigest};
use serde::{Deserialize, Serialize};

use super::{NodeFiles, PersistError, VERSION, Versioned};

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PinFile {
    version: u32,
    bootstrap: String,
    trust_domain: String,
    epoch: u64,
    sequence: u64,
    bundle_sequence: u64,
    step: String,
    root_keys: Vec<String>,
    /// Of all that stands before it.
    digest: String,
}

impl PinFile {
    fn digest(&self) -> String {
        let Self {
            version,
            bootstrap,
            trust_domain,
            epoch,
            sequence,
            bundle_sequence,
            step,
            root_keys,
            digest: _,
        } = self;
        let keys = root_keys.join(",");
        let all = format!(
            "{version} {bootstrap} {trust_domain} {epoch} {sequence} {bundle_sequence} {step} {keys}"
        );
        hex(ring::digest::digest(&ring::digest::SHA256, all.as_bytes()).as_ref())
    }
}

impl Versioned for PinFile {
    fn version(&self) -> u32 {
        self.version
    }
}

impl NodeFiles {
    /// Where the node stood, unless the operator has replaced the bootstrap bundle since: that is how a root key that was stolen is left behind.
    pub(crate) fn pin(&self, bootstrap: &str) -> Result<Option<Position>, PersistError> {
        let Some(bytes) = self.read(PIN)? else {
            return Ok(None);
        };
        let file: PinFile = self.parse(PIN, &bytes)?;
        if file.digest != file.digest() {
            return Err(self.damaged(PIN, "its digest is of something else"));
        }
        if file.bootstrap != bootstrap || file.trust_domain != self.trust_domain.as_str() {
            return Ok(None);
        }
        let keys = file.root_keys.iter().map(|key| key.parse::<RootKey>().ok());
        let read = keys.collect::<Option<Vec<_>>>().zip(digest_in(&file.step));
        let (root_keys, digest) = read.ok_or_else(|| self.damaged(PIN, "a key or digest cannot be read"))?;
        Ok(Some(Position {
            epoch: file.epoch,
            sequence: file.sequence,
            bundle_sequence: file.bundle_sequence,
            digest,
            root_keys,
        }))
    }

    pub(crate) fn save_pin(&self, at: &Position, bootstrap: &str) -> Result<(), PersistError> {
        let mut file = PinFile {
            version: VERSION,
            bootstrap: bootstrap.to_owned(),
            trust_domain: self.trust_domain.as_str().to_owned(),
            epoch: at.epoch,
            sequence: at.sequence,
            bundle_sequence: at.bundle_sequence,
            step: hex(&at.digest),
            root_keys: at.root_keys.iter().map(ToString::to_string).collect(),
            digest: String::new(),
        };
        file.digest = file.digest();
        self.write(PIN, &file)
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A digest is written as a root key is.
fn digest_in(text: &str) -> Option<StepDigest> {
    text.parse::<RootKey>().ok().map(|bytes| *bytes.as_bytes())
}

pub(crate) const PIN: &str = "root-pin.json";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::td;
    use std::os::unix::fs::PermissionsExt as _;

    fn position() -> Position {
        Position {
            epoch: 7,
            sequence: 12,
            bundle_sequence: 1012,
            digest: [0xa5; 32],
            root_keys: vec![
                RootKey::from_bytes(&[3; 32]).unwrap(),
                RootKey::from_bytes(&[4; 32]).unwrap(),
            ],
        }
    }

    #[test]
    fn it_comes_back_as_it_was_until_the_operator_gives_another_bundle() {
        let dir = tempfile::tempdir().unwrap();
        let open = || NodeFiles::open(dir.path(), &td()).unwrap();
        assert_eq!(open().pin("one").unwrap(), None);
        open().save_pin(&position(), "one").unwrap();
        assert_eq!(open().pin("one").unwrap(), Some(position()));
        assert_eq!(open().pin("another").unwrap(), None);
    }

    #[test]
    fn a_damaged_file_pins_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = NodeFiles::open(dir.path(), &td()).unwrap();
        files.save_pin(&position(), "").unwrap();
        let path = dir.path().join(PIN);
        let good = std::fs::read(&path).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a test's own damage")]
        let write = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        };
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            write(&bad);
            let read = files.pin("");
            assert!(
                matches!(read, Err(PersistError::Damaged { .. })),
                "{bit}: {read:?}"
            );
        }
    }
}

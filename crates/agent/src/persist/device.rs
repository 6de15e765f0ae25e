//! The device key of the node, and how far it has been used.
//!
//! Invariant: a counter is on disk with the key that it is asked with before anybody hears of it: the server takes the same counter with another key
//! for a copy of this node. A file that is not what we wrote is damaged, whatever it says: a counter less would make this node a copy of itself.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use landfast_identity::{KeyType, PrivateKey, SpiffeId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{NodeFiles, PersistError, VERSION, Versioned};

/// See the file.
#[derive(Clone, Debug)]
pub(crate) struct DeviceKey {
    pub(crate) key: Arc<PrivateKey>,
    /// The node for which the server has registered it; none before that.
    pub(crate) agent_id: Option<SpiffeId>,
    /// The last that was asked with.
    pub(crate) counter: u64,
    /// SHA-256 of the key that it was asked with.
    pub(crate) asked: Option<[u8; 32]>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct DeviceFile {
    version: u32,
    key: String,
    agent_id: Option<String>,
    counter: u64,
    asked: Option<String>,
    /// Of all that stands before it. Files from before there was one are believed.
    digest: Option<String>,
}

impl DeviceFile {
    fn digest(&self) -> String {
        let Self {
            version,
            key,
            agent_id,
            counter,
            asked,
            digest: _,
        } = self;
        // Stored: docs/formats/device-key.md has it. Not by `{:?}`, which may change.
        let or_none = |text: &Option<String>| match text {
            Some(text) => format!("Some(\"{text}\")"),
            None => "None".to_owned(),
        };
        let (agent_id, asked) = (or_none(agent_id), or_none(asked));
        let mut all = ring::digest::Context::new(&ring::digest::SHA256);
        all.update(format!("{version} {counter} {agent_id} {asked} ").as_bytes());
        all.update(key.as_bytes());
        BASE64.encode(all.finish())
    }
}

impl Versioned for DeviceFile {
    fn version(&self) -> u32 {
        self.version
    }
}

impl DeviceKey {
    /// One that nobody knows yet; counters go on, so that none is ever used twice.
    fn generate(counter: u64) -> Result<Self, PersistError> {
        let key = PrivateKey::generate_as(KeyType::EcP256).map_err(PersistError::Key)?;
        Ok(Self {
            key: Arc::new(key),
            agent_id: None,
            counter,
            asked: None,
        })
    }
}

impl NodeFiles {
    /// The device key, if there is one.
    pub(crate) fn device_key(&self) -> Result<Option<DeviceKey>, PersistError> {
        let Some(bytes) = self.read(DEVICE)? else {
            return Ok(None);
        };
        let file: DeviceFile = self.parse(DEVICE, &bytes)?;
        if file
            .digest
            .as_ref()
            .is_some_and(|digest| *digest != file.digest())
        {
            return Err(self.damaged(DEVICE, "its digest is of something else"));
        }
        let key = self.key(DEVICE, Zeroizing::new(file.key))?;
        if key.key_type() != KeyType::EcP256 {
            return Err(self.damaged(DEVICE, "the device key is not of P-256"));
        }
        let agent_id = file.agent_id.map(|id| SpiffeId::parse(&id)).transpose();
        let agent_id = agent_id.map_err(|_cause| self.damaged(DEVICE, "agent_id is no SPIFFE ID"))?;
        let ours = |id: &SpiffeId| id.is_agent() && *id.trust_domain() == self.trust_domain;
        if !agent_id.as_ref().is_none_or(ours) {
            return Err(self.damaged(DEVICE, "agent_id is not an agent of this trust domain"));
        }
        let asked = file.asked.map(|text| self.digest(&text)).transpose()?;
        Ok(Some(DeviceKey {
            key,
            agent_id,
            counter: file.counter,
            asked,
        }))
    }

    /// A new device key in the place of any other, on disk when this returns.
    pub(crate) fn new_device_key(&self, counter: u64) -> Result<DeviceKey, PersistError> {
        let made = DeviceKey::generate(counter)?;
        self.save_device_key(&made)?;
        Ok(made)
    }

    pub(crate) fn save_device_key(&self, device: &DeviceKey) -> Result<(), PersistError> {
        let mut file = DeviceFile {
            version: VERSION,
            key: BASE64.encode(device.key.as_pkcs8_der()),
            agent_id: device.agent_id.as_ref().map(ToString::to_string),
            counter: device.counter,
            asked: device.asked.map(|asked| BASE64.encode(asked)),
            digest: None,
        };
        file.digest = Some(file.digest());
        let saved = self.write(DEVICE, &file);
        zeroize::Zeroize::zeroize(&mut file.key);
        saved
    }

    /// The next counter for this key of an SVID, or the last one if it was asked with this very key: on disk when this returns.
    pub(crate) fn count(&self, device: &DeviceKey, csr_key: [u8; 32]) -> Result<DeviceKey, PersistError> {
        if device.asked == Some(csr_key) {
            return Ok(device.clone());
        }
        let counted = DeviceKey {
            counter: device.counter.saturating_add(1),
            asked: Some(csr_key),
            ..device.clone()
        };
        self.save_device_key(&counted)?;
        Ok(counted)
    }

    fn digest(&self, base64: &str) -> Result<[u8; 32], PersistError> {
        let bytes = BASE64.decode(base64).ok();
        let digest = bytes.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        digest.ok_or_else(|| self.damaged(DEVICE, "asked is no SHA-256"))
    }
}

pub(crate) const DEVICE: &str = "device-key.json";

#[cfg(test)]
mod tests {
    use landfast_store::{Store, faulty};

    use super::*;
    use crate::testing::{id, td};

    fn files(dir: &std::path::Path) -> (NodeFiles, faulty::Script) {
        let disk = faulty::Script::default();
        let script = disk.clone();
        let store = Store::open_with(dir, |files| faulty::FaultyFiles::new(files, script)).unwrap();
        (NodeFiles::over(store, &td()), disk)
    }

    #[test]
    fn it_comes_back_as_it_was_and_counts_each_key_once() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = files(dir.path());
        assert!(files.device_key().unwrap().is_none());
        let mut device = files.new_device_key(4).unwrap();
        device.agent_id = Some(id("/spire/agent/join_token/x"));
        files.save_device_key(&device).unwrap();
        let first = files.count(&device, [1; 32]).unwrap();
        assert_eq!((first.counter, first.asked), (5, Some([1; 32])));
        let read = files.device_key().unwrap().unwrap();
        assert_eq!(
            (read.counter, read.asked, &read.agent_id),
            (5, first.asked, &device.agent_id)
        );
        assert_eq!(read.key.public_key(), device.key.public_key());
        assert_eq!(
            files.count(&read, [1; 32]).unwrap().counter,
            5,
            "the same key again"
        );
        assert_eq!(files.count(&read, [2; 32]).unwrap().counter, 6);
    }

    #[test]
    fn nothing_is_asked_with_a_counter_that_is_not_on_disk() {
        let dir = tempfile::tempdir().unwrap();
        let (files, disk) = files(dir.path());
        let device = files.new_device_key(0).unwrap();
        disk.break_down(faulty::Verb::CreateTemp, std::io::ErrorKind::StorageFull);
        files.count(&device, [1; 32]).unwrap_err();
        disk.mend();
        assert_eq!(files.device_key().unwrap().unwrap().counter, 0);
    }

    #[test]
    fn a_damaged_one_is_named_and_none_of_another_trust_domain_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = files(dir.path());
        let mut device = files.new_device_key(0).unwrap();
        device.agent_id = Some(SpiffeId::parse("spiffe://other.test/spire/agent/join_token/x").unwrap());
        files.save_device_key(&device).unwrap();
        let wrong = files.device_key().unwrap_err().to_string();
        assert!(wrong.contains(DEVICE), "{wrong}");
        for content in ["", "{}", "{\"version\":2}"] {
            files.write_raw(content);
            assert!(
                matches!(files.device_key(), Err(PersistError::Damaged { .. })),
                "{content}"
            );
        }
    }

    /// As others compute it, by docs/formats/device-key.md.
    #[test]
    fn its_digest_is_of_a_text_that_does_not_change() {
        let mut file = DeviceFile {
            version: 1,
            key: "a2V5".to_owned(),
            agent_id: None,
            counter: 7,
            asked: None,
            digest: None,
        };
        let of = |text: &str| BASE64.encode(ring::digest::digest(&ring::digest::SHA256, text.as_bytes()));
        assert_eq!(file.digest(), of("1 7 None None a2V5"));
        file.agent_id = Some("spiffe://plant.test/spire/agent/one".to_owned());
        file.asked = Some("YXNrZWQ=".to_owned());
        let text = "1 7 Some(\"spiffe://plant.test/spire/agent/one\") Some(\"YXNrZWQ=\") a2V5";
        assert_eq!(file.digest(), of(text));
    }

    #[test]
    fn each_bit_of_it_counts() {
        let dir = tempfile::tempdir().unwrap();
        let (files, _) = files(dir.path());
        let mut device = files.new_device_key(4).unwrap();
        device.agent_id = Some(id("/spire/agent/join_token/x"));
        files.count(&device, [1; 32]).unwrap();
        let good = files.read(DEVICE).unwrap().unwrap().to_vec();
        let path = dir.path().join(DEVICE);
        #[expect(
            clippy::disallowed_methods,
            reason = "a test's own damage; nobody waits for the disk"
        )]
        let write = |bytes: &[u8]| std::fs::write(&path, bytes).unwrap();
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            write(&bad);
            let read = files.device_key().map(drop);
            assert!(matches!(read, Err(PersistError::Damaged { .. })), "{bit}");
        }
        // Of a version that wrote none.
        let text = String::from_utf8(good).unwrap();
        let (before, _) = text.split_once(",\"digest\"").unwrap();
        files.write_raw(&format!("{before}}}"));
        assert_eq!(files.device_key().unwrap().unwrap().counter, 5);
    }

    impl NodeFiles {
        fn write_raw(&self, content: &str) {
            self.store.replace(DEVICE, content.as_bytes()).unwrap();
        }
    }
}

//! The key of a log, and the checkpoints it signs (C2SP signed-note and tlog-checkpoint). Invariant: the name of the key is the origin of the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::tree::Hash;

/// Signs the checkpoints of one log.
pub struct CheckpointKey {
    origin: String,
    pair: Ed25519KeyPair,
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The random source failed.
    #[error("the random source failed")]
    Random,
    /// Not a private key of Ed25519 in PKCS#8.
    #[error("it holds no private key of Ed25519")]
    Damaged,
}

/// What a checkpoint says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub(crate) size: u64,
    pub(crate) root: Hash,
}

impl CheckpointKey {
    /// A new private key, PKCS#8 DER.
    ///
    /// # Errors
    /// The random source fails.
    pub fn generate() -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_cause| KeyError::Random)?;
        Ok(Zeroizing::new(made.as_ref().to_vec()))
    }

    /// The key in this PKCS#8 DER. The origin of its log is `prefix`, a slash, and what 16 digits of the hash of the public key are: a log that begins
    /// anew with a new key is never taken for the one before.
    ///
    /// # Errors
    /// It holds no such key.
    pub fn from_pkcs8_der(prefix: &str, der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_cause| KeyError::Damaged)?;
        let hash = digest(&SHA256, pair.public_key().as_ref());
        let id = crate::record::hex(&hash.as_ref()[..8]);
        Ok(Self {
            origin: format!("{prefix}/{id}"),
            pair,
        })
    }

    /// The name of the log and of its key.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What verifies the log, as `sumdb/note` of Go writes it: name, key ID and key in one line.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        let key = [&[ED25519_NOTE], self.pair.public_key().as_ref()].concat();
        let id = crate::record::hex(&self.key_id());
        format!("{}+{id}+{}", self.origin, STANDARD.encode(key))
    }

    /// The checkpoint of a tree.
    pub(crate) fn sign(&self, head: &Head) -> String {
        let text = self.text(head);
        let signature = self.pair.sign(text.as_bytes());
        let line = STANDARD.encode([&self.key_id()[..], signature.as_ref()].concat());
        format!("{text}\n\u{2014} {} {line}\n", self.origin)
    }

    /// What a checkpoint says that this key has signed; `None` of anything else.
    pub(crate) fn open(&self, checkpoint: &[u8]) -> Option<Head> {
        let checkpoint = std::str::from_utf8(checkpoint).ok()?;
        let mut lines = checkpoint.lines();
        let (origin, size, root) = (lines.next()?, lines.next()?, lines.next()?);
        let root = STANDARD.decode(root).ok()?.try_into().ok()?;
        let head = Head {
            size: size.parse().ok()?,
            root,
        };
        let (text, signed) = checkpoint.split_once("\n\n")?;
        let signed = signed.strip_prefix(&format!("\u{2014} {origin} "))?.trim_end();
        let signature = STANDARD.decode(signed).ok()?;
        let signature = signature.strip_prefix(&self.key_id())?;
        let ours = format!("{text}\n") == self.text(&head);
        let public = UnparsedPublicKey::new(&ED25519, self.pair.public_key().as_ref());
        let verified = public.verify(self.text(&head).as_bytes(), signature);
        (ours && verified.is_ok()).then_some(head)
    }

    fn text(&self, head: &Head) -> String {
        format!("{}\n{}\n{}\n", self.origin, head.size, STANDARD.encode(head.root))
    }

    fn key_id(&self) -> [u8; 4] {
        let named = [
            self.origin.as_bytes(),
            &[b'\n', ED25519_NOTE],
            self.pair.public_key().as_ref(),
        ];
        let hash = digest(&SHA256, &named.concat());
        let mut id = [0; 4];
        id.copy_from_slice(&hash.as_ref()[..4]);
        id
    }
}

impl std::fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CheckpointKey({})", self.origin)
    }
}

/// The signature type of signed notes.
const ED25519_NOTE: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> CheckpointKey {
        CheckpointKey::from_pkcs8_der("plant.test/landfast/ledger", &CheckpointKey::generate().unwrap())
            .unwrap()
    }

    #[test]
    fn a_checkpoint_says_to_its_key_what_was_signed_and_nothing_to_others() {
        let (key, head) = (
            key(),
            Head {
                size: 7,
                root: [3; 32],
            },
        );
        let note = key.sign(&head);
        assert_eq!(key.open(note.as_bytes()), Some(head));
        assert_eq!(self::key().open(note.as_bytes()), None);
        for (from, to) in [
            ("\n7\n", "\n8\n"),
            ("\n7\n", "\n07\n"),
            ("AwMD", "BwMD"),
            ("ledger/", "ledgers/"),
        ] {
            assert!(note.contains(from));
            assert_eq!(key.open(note.replacen(from, to, 1).as_bytes()), None, "{to}");
        }
    }

    #[test]
    fn a_key_of_another_kind_is_none() {
        assert!(matches!(
            CheckpointKey::from_pkcs8_der("a", b"nothing"),
            Err(KeyError::Damaged)
        ));
    }
}

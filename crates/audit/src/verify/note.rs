//! Signed notes and checkpoints (C2SP signed-note, tlog-checkpoint). Invariant: nothing of a note is believed before its signature is verified.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::signature::{ED25519, UnparsedPublicKey};

use super::merkle::Hash;

/// What verifies a log: `name+ID+key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    id: [u8; 4],
    key: [u8; 32],
}

/// A checkpoint whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedHead {
    /// Records that it names.
    pub size: u64,
    /// The root of their tree.
    pub root: [u8; 32],
}

/// Why a key or a checkpoint is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The line is no verifier key.
    #[error(
        "not a verifier key: name, a plus, eight digits, a plus, and an Ed25519 key in base64 are expected"
    )]
    Key,
    /// The ID is not that of the key.
    #[error("a verifier key whose ID {found} is not the one of its key, {expected}: it was changed or cut")]
    KeyId {
        /// In the line.
        found: String,
        /// Of the key.
        expected: String,
    },
    /// The text is no checkpoint.
    #[error("not a checkpoint: {0}")]
    Malformed(&'static str),
    /// It is of another log.
    #[error("a checkpoint of {found}, not of {expected}")]
    OtherLog {
        /// Its origin.
        found: String,
        /// The name of the key.
        expected: String,
    },
    /// Others have signed it.
    #[error("a checkpoint that was signed by {by}, and not by the key of this log")]
    OtherKey {
        /// Names and key IDs.
        by: String,
    },
    /// The key is named, and has not signed this.
    #[error(
        "a checkpoint whose signature is not that of the key: it was changed after it was signed, or made up"
    )]
    Signature,
}

impl VerifierKey {
    /// From the line that `sumdb/note` of Go reads too.
    ///
    /// # Errors
    /// It is none, or its ID is not that of its key.
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        let mut parts = line.trim().splitn(3, '+');
        let (Some(name), Some(found), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::Key);
        };
        let key = STANDARD.decode(encoded).map_err(|_cause| NoteError::Key)?;
        let key: [u8; 33] = key.try_into().map_err(|_cause| NoteError::Key)?;
        let (1, key) = (key[0], &key[1..]) else {
            return Err(NoteError::Key);
        };
        if name.is_empty() || name.contains(char::is_whitespace) || found.len() != 8 {
            return Err(NoteError::Key);
        }
        let hash = digest(&SHA256, &[name.as_bytes(), b"\n\x01", key].concat());
        let mut made = Self {
            name: name.to_owned(),
            id: [0; 4],
            key: [0; 32],
        };
        made.id.copy_from_slice(&hash.as_ref()[..4]);
        made.key.copy_from_slice(key);
        let expected = digits(&made.id);
        match found.eq_ignore_ascii_case(&expected) {
            true => Ok(made),
            false => Err(NoteError::KeyId {
                found: found.chars().filter(char::is_ascii_alphanumeric).collect(),
                expected,
            }),
        }
    }

    /// The name of the log.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its key ID.
    #[must_use]
    pub fn id(&self) -> String {
        digits(&self.id)
    }

    /// What a checkpoint of this log says.
    ///
    /// # Errors
    /// It is none, or this key has not signed it.
    pub fn checkpoint(&self, note: &[u8]) -> Result<SignedHead, NoteError> {
        let note = std::str::from_utf8(note).map_err(|_cause| NoteError::Malformed("it is not UTF-8"))?;
        if note.chars().any(|c| c.is_control() && c != '\n') {
            return Err(NoteError::Malformed("it has control characters"));
        }
        let at = note
            .rfind("\n\n")
            .ok_or(NoteError::Malformed("it has no signatures"))?;
        let (text, signatures) = (&note[..=at], &note[at + 2..]);
        self.signed(text, signatures)?;
        let mut lines = text.lines();
        let origin = lines.next().unwrap_or_default();
        if origin != self.name {
            return Err(NoteError::OtherLog {
                found: origin.to_owned(),
                expected: self.name.clone(),
            });
        }
        let size = lines.next().ok_or(NoteError::Malformed("it has no size"))?;
        let is_plain = size == "0" || (!size.starts_with('0') && size.bytes().all(|b| b.is_ascii_digit()));
        let size = size.parse().ok().filter(|_| is_plain);
        let root = lines.next().and_then(|root| STANDARD.decode(root).ok());
        let root: Option<Hash> = root.and_then(|root| root.try_into().ok());
        match (size, root) {
            (Some(size), Some(root)) => Ok(SignedHead { size, root }),
            (None, _) => Err(NoteError::Malformed("its size is no number")),
            (_, None) => Err(NoteError::Malformed("its root is no SHA-256")),
        }
    }

    /// One signature of this key is there, and holds; those of others are passed over.
    fn signed(&self, text: &str, signatures: &str) -> Result<(), NoteError> {
        let (mut others, mut holds) = (Vec::new(), false);
        for line in signatures.lines().take(MOST_SIGNATURES) {
            let parts = line
                .strip_prefix("\u{2014} ")
                .and_then(|line| line.split_once(' '));
            let (name, encoded) = parts.ok_or(NoteError::Malformed("a line of its signatures is none"))?;
            let signature = STANDARD.decode(encoded).unwrap_or_default();
            let (id, signature) = signature
                .split_at_checked(4)
                .ok_or(NoteError::Malformed("a signature is too short"))?;
            if name != self.name || id != self.id {
                others.push(format!("{name}+{}", digits(id)));
                continue;
            }
            let key = UnparsedPublicKey::new(&ED25519, &self.key);
            let verified = key.verify(text.as_bytes(), signature);
            verified.map_err(|_cause| NoteError::Signature)?;
            holds = true;
        }
        match holds {
            true => Ok(()),
            false => Err(NoteError::OtherKey {
                by: others.join(", "),
            }),
        }
    }
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Sixteen have to be accepted at least.
const MOST_SIGNATURES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    /// From the documentation of Go's sumdb/note.
    const KEY: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";

    #[test]
    fn a_key_of_go_is_read_and_one_that_was_changed_is_not() {
        let key = VerifierKey::parse(KEY).unwrap();
        assert_eq!((key.name(), key.id().as_str()), ("PeterNeumann", "c74f20a3"));
        assert!(matches!(
            VerifierKey::parse(&KEY.replace("c74f20a3", "c74f20a4")),
            Err(NoteError::KeyId { .. })
        ));
        assert!(matches!(
            VerifierKey::parse(&KEY.replace("Peter", "Pater")),
            Err(NoteError::KeyId { .. })
        ));
        for bad in [
            "",
            "a+b",
            "a+00000000+AA==",
            "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        ] {
            assert_eq!(VerifierKey::parse(bad), Err(NoteError::Key), "{bad}");
        }
    }

    #[test]
    fn a_note_of_go_verifies_and_is_no_checkpoint() {
        let note = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n\
                    \u{2014} PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
        let key = VerifierKey::parse(KEY).unwrap();
        assert!(matches!(
            key.checkpoint(note.as_bytes()),
            Err(NoteError::OtherLog { .. })
        ));
        let changed = note.replace("problem is", "problem was");
        assert_eq!(key.checkpoint(changed.as_bytes()), Err(NoteError::Signature));
        let unsigned = note.replace("PeterNeumann", "SomebodyElse");
        assert!(matches!(
            key.checkpoint(unsigned.as_bytes()),
            Err(NoteError::OtherKey { .. })
        ));
    }
}

//! How far a destination has the records. Invariant: it names a ledger and the last record that was taken, so that a new one, and one that was put back and
//! has gone on otherwise, is sent from its beginning.

use landfast_store::{Store, StoreError};
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The ledger.
    pub(super) origin: String,
    /// The first record that was not taken.
    pub(super) next: u64,
    /// SHA-256 of the record before it, in hexadecimal; empty: not known.
    #[serde(default)]
    pub(super) last: String,
}

impl Cursor {
    /// The beginning when there is none, or it is damaged: what is in doubt is sent again.
    pub(super) fn load(store: &Store, name: &str) -> Result<Self, StoreError> {
        let Some(bytes) = store.read(name)? else {
            return Ok(Self::default());
        };
        Ok(serde_json::from_slice(&bytes).unwrap_or_else(|error| {
            tracing::warn!(to = name, %error, "how far records were forwarded cannot be read: all are sent again");
            Self::default()
        }))
    }

    pub(super) fn save(&self, store: &Store, name: &str) -> Result<(), StoreError> {
        let text = serde_json::json!({ "last": self.last, "next": self.next, "origin": self.origin });
        store.replace(name, format!("{text}\n").as_bytes())
    }
}

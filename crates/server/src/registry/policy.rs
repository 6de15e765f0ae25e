//! What an entry has beside SPIRE's fields. Invariant: a policy lives and dies with its entry, and changes to the entry leave it alone.

use std::sync::Arc;

use super::validate::EntryError;
use super::{Registry, RegistryError, Versioned};

/// The policy of one entry. An entry that has none has the defaults: every field empty.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryPolicy {
    /// Whose it is.
    pub entry_id: String,
    /// For people.
    pub description: String,
    /// The number of its last change; 0: never set.
    pub revision: u64,
}

impl EntryPolicy {
    /// What an entry has until somebody sets it.
    pub(crate) fn defaults(entry_id: &str) -> Self {
        Self {
            entry_id: entry_id.to_owned(),
            description: String::new(),
            revision: 0,
        }
    }
}

/// What is to change; `None` leaves a field as it is.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PolicyPatch {
    /// See [`EntryPolicy`].
    pub description: Option<String>,
}

impl PolicyPatch {
    fn validate(&self) -> Result<(), EntryError> {
        let Some(description) = &self.description else {
            return Ok(());
        };
        if description.len() > MAX_DESCRIPTION {
            return Err(EntryError::DescriptionTooLong {
                length: description.len(),
            });
        }
        if description.chars().any(char::is_control) {
            return Err(EntryError::DescriptionCharacter);
        }
        Ok(())
    }

    /// The policy with this patch, at this revision.
    pub(crate) fn apply(self, old: EntryPolicy, revision: u64) -> EntryPolicy {
        EntryPolicy {
            description: self.description.unwrap_or(old.description),
            revision,
            ..old
        }
    }
}

impl Registry {
    /// Changes the policy of an entry; with `if_revision`, only while it is at this one.
    ///
    /// # Errors
    /// The patch breaks a rule, there is no such entry, [`RegistryError::PolicyChanged`], or the datastore fails.
    pub async fn set_entry_policy(
        &self,
        id: &str,
        patch: PolicyPatch,
        if_revision: Option<u64>,
    ) -> Result<Arc<EntryPolicy>, RegistryError> {
        patch.validate()?;
        self.datastore.set_policy(id.to_owned(), patch, if_revision).await
    }

    /// The entry of this ID with its revision and policy.
    pub fn versioned(&self, id: &str) -> Option<Arc<Versioned>> {
        self.read().versioned(id)
    }
}

pub(crate) const MAX_DESCRIPTION: usize = 1024;

//! What a request of any database can end with. Invariant: a refusal is told from a failure of the database by its type.

use super::DatastoreError;
use crate::registry::{RegistryError, TokenError};

/// What can come of a request besides its result.
pub(in crate::datastore) trait Failure: From<DatastoreError> + Send + 'static {
    /// The failure of the datastore behind it, if that is what it is.
    fn storage(&self) -> Option<&DatastoreError>;
}

impl Failure for DatastoreError {
    fn storage(&self) -> Option<&DatastoreError> {
        Some(self)
    }
}

impl Failure for RegistryError {
    fn storage(&self) -> Option<&DatastoreError> {
        if let Self::Storage { source } = self {
            Some(source)
        } else {
            None
        }
    }
}

impl Failure for TokenError {
    fn storage(&self) -> Option<&DatastoreError> {
        if let Self::Storage { source } = self {
            Some(source)
        } else {
            None
        }
    }
}

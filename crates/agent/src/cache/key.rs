//! Where the cache's key comes from.
//!
//! Invariant: a key is made only where none can be missing: at the first start, or when the server has just made the old cache worthless and the
//! key's place is ours to decide.

use std::sync::Arc;

use landfast_store::seal::{FileSealKey, SealKey, SealKeyError};

use super::Place;

/// What there is of a key.
pub(super) enum Found {
    Key(Arc<dyn SealKey>),
    /// Why there is none, and what to do.
    None(String),
}

/// Looks for the key. `begun`: there is a cache already. `worthless`: nothing would be lost with it.
pub(super) fn find(place: &Place, begun: bool, worthless: bool) -> Found {
    let path = place.key.display();
    match FileSealKey::open(&place.key) {
        Ok(Some(key)) => Found::Key(Arc::new(key)),
        Ok(None) if !begun || (worthless && !place.key_elsewhere) => make(place),
        Ok(None) if place.key_elsewhere => Found::None(format!(
            "the seal key {path} is not there: bring its medium back, or remove {} to begin anew with another key",
            place.dir.display()
        )),
        Ok(None) => Found::None(format!(
            "the seal key {path} is gone, so the cache cannot be opened; one is made when the server has been reached"
        )),
        Err(SealKeyError::Damaged { .. }) if worthless && !place.key_elsewhere => {
            // It opens nothing any more.
            match std::fs::remove_file(&place.key) {
                Ok(()) => make(place),
                Err(error) => Found::None(format!("the damaged seal key {path} cannot be removed: {error}")),
            }
        }
        Err(error) => Found::None(landfast_daemon::error_chain(&error)),
    }
}

fn make(place: &Place) -> Found {
    match FileSealKey::create(&place.key) {
        Ok(key) => {
            tracing::info!(path = %place.key.display(), id = %key.id(), "a seal key for the cache is made");
            Found::Key(Arc::new(key))
        }
        Err(error) => Found::None(format!(
            "no seal key can be made at {}: {}",
            place.key.display(),
            landfast_daemon::error_chain(&error)
        )),
    }
}

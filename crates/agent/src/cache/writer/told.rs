//! What is said of how the cache stands. Invariant: it is said once in the log, and for as long as it is so everywhere else.

use landfast_daemon::error_chain;

use super::Keeping;
use crate::cache::CacheState;
use crate::cache::shelf::{Shelf, ShelfError};
use crate::cache::state::{keys_stay, on_disk};

impl Keeping {
    pub(super) fn tell(&self, result: Result<(), &ShelfError>) {
        let key = self.shelf.as_ref().map(Shelf::key_id).unwrap_or_default();
        let text = match self.destroyed {
            true => "destroyed, since the node is banned".to_owned(),
            false => on_disk(&key),
        };
        let complaint = match result {
            Ok(()) => String::new(),
            Err(ShelfError::Rest(error)) if matches!(**error, ShelfError::NoKey(_)) => {
                format!(
                    "{error}; what is held is sealed for its return, and it is looked for again by itself"
                )
            }
            Err(ShelfError::Rest(error)) => format!(
                "what is held is on disk, but not all that goes with it ({}): JWT-SVIDs may be missing after a restart, or files stay that \
                 nobody needs; it is tried again by itself",
                error_chain(&**error)
            ),
            Err(error) if self.banned => keys_stay(error),
            Err(error) => format!(
                "what is held is not on disk ({}): it is served all the same, but a restart without a server would cost what has come since; \
                 make room, or the disk writable, and it is written by itself",
                error_chain(error)
            ),
        };
        self.writer_state.send_if_modified(|state| {
            match (state.complaint == complaint, complaint.is_empty()) {
                (true, _) => {}
                (false, true) => tracing::info!("the cache is on disk again"),
                (false, false) => tracing::error!("{complaint}"),
            }
            let now = CacheState { text, complaint };
            let differs = *state != now;
            *state = now;
            differs
        });
    }
}

//! What the cache says of itself, for `agent status`, health and metrics.

use landfast_daemon::error_chain;

use super::shelf::ShelfError;

/// How it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CacheState {
    /// What is kept where.
    pub(crate) text: String,
    /// What is wrong, and what to do; empty when nothing is.
    pub(crate) complaint: String,
}

impl CacheState {
    /// Both, for people.
    pub(crate) fn in_words(&self) -> String {
        match self.complaint.as_str() {
            "" => self.text.clone(),
            complaint => complaint.to_owned(),
        }
    }
}

/// In words, when a ban is not done with.
pub(super) fn keys_stay(error: &ShelfError) -> String {
    format!(
        "the keys of this banned node could not be removed from disk ({}); remove the folder cache in the data directory",
        error_chain(error)
    )
}

/// In words, while all is well.
pub(super) fn on_disk(key: &str) -> String {
    match key {
        "" => "on disk".to_owned(),
        key => format!("on disk, sealed under key {key}"),
    }
}

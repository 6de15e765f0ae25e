//! What the cache says of itself, for `agent status`, health and metrics.

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

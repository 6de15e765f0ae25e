//! Whether the process does its work. The component that knows publishes it through a `watch`.

/// What `/ready` answers. Being alive needs no field: a dead process does not answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Health {
    /// It does what it is for.
    pub ready: bool,
    /// Why not; when ready, what is amiss all the same. Empty when all is well. For operators.
    pub reason: String,
}

impl Health {
    /// All is well.
    #[must_use]
    pub const fn ready() -> Self {
        Self {
            ready: true,
            reason: String::new(),
        }
    }

    /// It does what it is for, and yet something needs a hand.
    #[must_use]
    pub fn degraded(reason: impl Into<String>) -> Self {
        Self {
            ready: true,
            reason: reason.into(),
        }
    }

    /// Not yet, or not any more.
    #[must_use]
    pub fn not_ready(reason: impl Into<String>) -> Self {
        Self {
            ready: false,
            reason: reason.into(),
        }
    }
}

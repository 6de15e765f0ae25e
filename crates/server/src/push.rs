//! Agents are told what concerns them, as it happens: `landfast.sync.v1`.
//!
//! Invariant: what an agent is told is the difference between what it has and what it is to have at one moment, computed when there is room
//! for it. No change is kept for anybody, so a slow agent costs what a quick one does, and is told to begin anew in the end.

mod difference;
mod digests;
mod slot;
mod stale;
mod subscription;

use std::time::Duration;

pub(crate) use difference::{Held, version};
pub(crate) use digests::Digests;
pub(crate) use slot::{Answers, Slot, slot};
pub(crate) use stale::{Stale, keep};
pub(crate) use subscription::{Grounds, Subscription};

/// How long what an agent is told may wait for room.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A refused agent is told why first. Then its connection ends, whatever it does.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;

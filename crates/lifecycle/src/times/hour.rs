//! How long a server's time has to stay so before it counts for more.
//!
//! Invariant: a first and a last voice are not enough, and nothing here asks a wall clock.

use std::time::Duration;

use landfast_identity::UnixTime;

/// An hour in which servers say the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Hour {
    /// When it began, by the boot clock.
    pub since: Duration,
    /// When the last voice that counts was heard.
    pub last: Duration,
    /// How many count.
    pub voices: u32,
}

impl Hour {
    /// With a first voice.
    pub(super) fn begin(elapsed: Duration) -> Self {
        Self {
            since: elapsed,
            last: elapsed,
            voices: 1,
        }
    }

    /// One more voice, which counts when it is not too soon after the last.
    pub(super) fn hear(&mut self, elapsed: Duration) {
        if elapsed.saturating_sub(self.last) >= APART {
            self.last = elapsed;
            self.voices = self.voices.saturating_add(1);
        }
    }

    pub(super) fn is_over(&self, elapsed: Duration) -> bool {
        self.gone(elapsed) >= CONFIRMED_AFTER && self.voices >= VOICES
    }

    pub(super) fn gone(&self, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.since)
    }
}

/// A time at one moment of the boot clock, which goes on with that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark {
    /// It was this time...
    pub time: UnixTime,
    /// ... when the boot had gone on for so long.
    pub at: Duration,
}

impl Mark {
    pub(super) fn now(&self, elapsed: Duration) -> UnixTime {
        self.time.saturating_add(elapsed.saturating_sub(self.at))
    }
}

/// The estimate is the first time that a server said in a boot, and has not stayed so for long enough.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unconfirmed {
    /// Since the server that counts now said so.
    pub hour: Hour,
    /// The estimate that there would be without it; the moment is that of the adoption.
    pub before: Mark,
}

/// A server's time that leapt, and is not believed yet.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    pub(super) said: Mark,
    pub(super) hour: Hour,
}

impl Doubt {
    pub(super) fn begin(said: UnixTime, elapsed: Duration) -> Self {
        Self {
            said: Mark {
                time: said,
                at: elapsed,
            },
            hour: Hour::begin(elapsed),
        }
    }

    pub(super) fn agrees(&self, said: UnixTime, elapsed: Duration, skew: Duration) -> bool {
        apart(self.said.now(elapsed), said) <= skew
    }
}

pub(super) fn apart(one: UnixTime, other: UnixTime) -> Duration {
    one.since(other).max(other.since(one))
}

/// A server's clock that was set wrong is mended in less; the floor never goes back.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(3600);
/// So many voices make an hour...
const VOICES: u32 = 4;
/// ... each at least so long after the one before: a server that is mended in between is heard.
const APART: Duration = Duration::from_secs(600);

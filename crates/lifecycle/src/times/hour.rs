//! How long a server's time has to stay so before it counts for more.
//!
//! Invariant: a first and a last voice are not enough, and nothing here asks a wall clock.

use std::time::Duration;

use landfast_identity::UnixTime;

/// For how long servers have said the same.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Hour {
    /// When it began, by the boot clock.
    pub since: Duration,
    /// When the last voice that counts was heard.
    pub last: Duration,
    /// How many count.
    pub voices: u32,
}

impl Hour {
    /// One more voice, which counts when it is not too soon after the last.
    pub(super) fn hear(&mut self, elapsed: Duration) {
        if self.voices == 0 {
            self.since = elapsed;
        }
        if self.voices == 0 || elapsed.saturating_sub(self.last) >= APART {
            self.last = elapsed;
            self.voices = self.voices.saturating_add(1);
        }
    }

    pub(super) fn is_over(&self, elapsed: Duration) -> bool {
        self.gone(elapsed) >= CONFIRMED_AFTER && self.voices >= VOICES
    }

    /// It has become a day, with a voice for each hour.
    pub(super) fn is_a_day(&self, elapsed: Duration) -> bool {
        self.gone(elapsed) >= DAY && self.voices >= VOICES_OF_A_DAY
    }

    fn gone(&self, elapsed: Duration) -> Duration {
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
        self.time.saturating_add(self.gone(elapsed))
    }

    /// The same, from now on.
    pub(super) fn moved(&self, elapsed: Duration) -> Self {
        Self {
            time: self.now(elapsed),
            at: elapsed.max(self.at),
        }
    }

    /// How far it may be off meanwhile, when both began at one.
    pub(super) fn drift(&self, elapsed: Duration) -> Duration {
        self.gone(elapsed) / DRIFT
    }

    fn gone(&self, elapsed: Duration) -> Duration {
        elapsed.saturating_sub(self.at)
    }
}

/// What a server has said, and is not what is known: that follows when it has stayed so.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// When it was first said.
    pub said: Mark,
    /// Since then.
    pub hour: Hour,
    /// It is the estimate meanwhile: nothing else was confirmed in that boot, and no clock that could be right was against it.
    pub counts: bool,
}

impl Candidate {
    pub(super) fn begin(said: UnixTime, elapsed: Duration) -> Self {
        Self {
            said: Mark {
                time: said,
                at: elapsed,
            },
            hour: Hour::default(),
            counts: false,
        }
    }

    pub(super) fn agrees(&self, said: UnixTime, elapsed: Duration, skew: Duration) -> bool {
        let tolerance = skew.saturating_add(self.said.drift(elapsed));
        apart(self.said.now(elapsed), said) <= tolerance
    }
}

pub(super) fn apart(one: UnixTime, other: UnixTime) -> Duration {
    one.since(other).max(other.since(one))
}

/// A server's clock that was set wrong is mended in less; the floor never goes back.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(3600);
/// Is the machine's clock against it, one of both is wrong for longer: somebody is to look.
const DAY: Duration = Duration::from_secs(86_400);
/// So many voices make an hour...
const VOICES: u32 = 4;
const VOICES_OF_A_DAY: u32 = 24;
/// ... each at least so long after the one before: a server that is mended in between is heard.
const APART: Duration = Duration::from_secs(600);
/// A clock that is wrong by more than one part in so many is broken: nobody corrects a crystal by more (`adjtimex`, 500 ppm).
const DRIFT: u32 = 2000;

//! The clock that a whole program is given: the wall clock, unless that shows a time that cannot be.
//!
//! Invariant: whoever holds this as his [`Clock`] never sees a time further below the floor than the skew, and hears of no other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_identity::UnixTime;

use crate::boot::SharedBoot;
use crate::clock::{Clock, SharedClock};
use crate::times::{Begin, Heard, Judged, Quality, TimeRecord, Times, Verdict};

/// Clones are one clock.
#[derive(Clone, Debug)]
pub struct GuardedClock(Arc<Guarded>);

#[derive(Debug)]
struct Guarded {
    wall: SharedClock,
    boot: SharedBoot,
    times: Mutex<Times>,
    unsaved: AtomicBool,
}

/// Everything about the time at one moment, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeReport {
    /// What counts.
    pub judged: Judged,
    /// It cannot be earlier.
    pub floor: UnixTime,
    /// About what time it is at least.
    pub estimate: UnixTime,
    /// By how much a server's time that is not believed yet is ahead.
    pub doubted: Option<Duration>,
    /// By how much the last time that a server said lay below what is known.
    pub below_floor: Option<Duration>,
    /// What is known could not be kept for the next start.
    pub unsaved: bool,
}

impl GuardedClock {
    /// Over the wall clock, from what was kept when the program last ran.
    pub fn new(
        wall: SharedClock,
        boot: SharedBoot,
        built: UnixTime,
        skew: Duration,
        record: Option<&TimeRecord>,
    ) -> Self {
        let begin = Begin {
            built,
            skew,
            boot_id: boot.id(),
            elapsed: boot.elapsed(),
        };
        let times = Mutex::new(Times::begin(begin, record));
        let unsaved = AtomicBool::new(false);
        Self(Arc::new(Guarded {
            wall,
            boot,
            times,
            unsaved,
        }))
    }

    /// Says whether what is known could be kept for the next start.
    pub fn kept(&self, kept: bool) {
        self.0.unsaved.store(!kept, Ordering::Relaxed);
    }

    /// Takes in what a server says of the time. Only what came over a verified connection may come here.
    pub fn hear(&self, said: UnixTime, heard: Heard) -> Verdict {
        let (wall, elapsed) = (self.0.wall.now(), self.0.boot.elapsed());
        self.times().hear(said, heard, wall, elapsed)
    }

    /// It cannot be earlier.
    pub fn floor(&self) -> UnixTime {
        self.times().floor()
    }

    /// No server that is right says less.
    pub fn least(&self) -> UnixTime {
        let elapsed = self.0.boot.elapsed();
        self.times().least(elapsed)
    }

    /// The time that counts is one that a server said and that nothing confirms: a server that says otherwise may be right.
    pub fn can_go_back(&self) -> bool {
        let (wall, elapsed) = (self.0.wall.now(), self.0.boot.elapsed());
        self.times().can_go_back(wall, elapsed)
    }

    /// How it stands.
    pub fn report(&self) -> TimeReport {
        let (wall, elapsed) = (self.0.wall.now(), self.0.boot.elapsed());
        let times = self.times();
        TimeReport {
            judged: times.judge(wall, elapsed),
            floor: times.floor(),
            estimate: times.estimate(elapsed),
            doubted: times.doubted(wall, elapsed),
            below_floor: times.below_floor(),
            unsaved: self.0.unsaved.load(Ordering::Relaxed),
        }
    }

    /// What time it is, and what that is worth.
    pub fn stamp(&self) -> (UnixTime, Quality) {
        let (wall, elapsed) = (self.0.wall.now(), self.0.boot.elapsed());
        let times = self.times();
        (times.judge(wall, elapsed).now, times.quality(wall, elapsed))
    }

    /// What to keep for the next start.
    pub fn record(&self) -> TimeRecord {
        let elapsed = self.0.boot.elapsed();
        self.times().record(elapsed)
    }

    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for GuardedClock {
    fn now(&self) -> Option<UnixTime> {
        let (wall, elapsed) = (self.0.wall.now(), self.0.boot.elapsed());
        Some(self.times().judge(wall, elapsed).now)
    }
}

#[cfg(test)]
mod tests;

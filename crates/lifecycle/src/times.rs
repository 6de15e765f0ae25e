//! What time it is at least: a floor that only authenticated time raises, and an estimate that goes on from there with the machine's boot
//! clock. Pure.
//!
//! Invariant: nothing raises the floor but [`Times::hear`], and only to what a server has said: a wall clock can hold it back, and never raises
//! it. The estimate is never below the floor, and whatever the wall clock shows, [`Times::judge`] never answers a time further below the floor
//! than the skew.

mod hour;
mod words;

use std::time::Duration;

use landfast_identity::UnixTime;

pub use hour::{CONFIRMED_AFTER, Hour, Mark, Unconfirmed};
use hour::{Doubt, apart};
pub use words::{Heard, Judged, Verdict, Wrong};

/// How to begin.
#[derive(Clone, Debug)]
pub struct Begin {
    /// When this program was built: it cannot be earlier.
    pub built: UnixTime,
    /// How far the wall clock may lie below the estimate, and a server's time beyond it.
    pub skew: Duration,
    /// The name of this boot; empty when it is not known.
    pub boot_id: String,
    /// How long this boot has gone on.
    pub elapsed: Duration,
}

/// What is kept over restarts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimeRecord {
    /// It cannot be earlier.
    pub floor: UnixTime,
    /// It was about this time...
    pub estimate: UnixTime,
    /// ... when the boot of this name...
    pub boot_id: String,
    /// ... had gone on for so long.
    pub elapsed: Duration,
    /// A server's time was believed in that boot.
    pub told: bool,
    /// A server's time has been confirmed: it is not only the build date that is known.
    pub known: bool,
    /// What leaps are measured from in that boot.
    pub anchor: Mark,
    /// The estimate waits for more of its kind before the floor follows.
    pub unconfirmed: Option<Unconfirmed>,
}

/// The floor and the estimate.
#[derive(Clone, Debug)]
pub struct Times {
    skew: Duration,
    boot_id: String,
    floor: UnixTime,
    /// The estimate is this time and what the boot clock has gone on since.
    base: Mark,
    /// Of the estimate, once an hour at most: small steps are one leap.
    anchor: Mark,
    told: bool,
    known: bool,
    unconfirmed: Option<Unconfirmed>,
    doubted: Option<Doubt>,
    below_floor: Option<Duration>,
}

impl Times {
    /// From what was kept. Of another boot only the values count: how long the machine was off nobody knows.
    pub fn begin(begin: Begin, record: Option<&TimeRecord>) -> Self {
        let Begin {
            built,
            skew,
            boot_id,
            elapsed,
        } = begin;
        let base = Mark {
            time: built,
            at: elapsed,
        };
        let mut times = Self {
            skew,
            boot_id,
            floor: built,
            base,
            anchor: base,
            told: false,
            known: false,
            unconfirmed: None,
            doubted: None,
            below_floor: None,
        };
        if let Some(record) = record {
            times.take(record, elapsed);
        }
        times
    }

    fn take(&mut self, record: &TimeRecord, elapsed: Duration) {
        self.floor = self.floor.max(record.floor);
        self.known = record.known;
        let same_boot = !self.boot_id.is_empty() && self.boot_id == record.boot_id;
        let gone_on = match same_boot {
            true => elapsed.saturating_sub(record.elapsed),
            false => Duration::ZERO,
        };
        self.base.time = record.estimate.saturating_add(gone_on).max(self.floor);
        self.anchor = self.base;
        self.unconfirmed = record.unconfirmed;
        if same_boot {
            self.told = record.told;
            self.anchor = record.anchor;
        } else if let Some(unconfirmed) = &mut self.unconfirmed {
            // What the boot clock has gone on between the adoption and the record counts; the hour begins anew.
            let gone_on = record.elapsed.saturating_sub(unconfirmed.before.at);
            unconfirmed.before = Mark {
                time: unconfirmed.before.time.saturating_add(gone_on),
                at: elapsed,
            };
            unconfirmed.hour = Hour::begin(elapsed);
        }
    }

    /// It cannot be earlier.
    pub fn floor(&self) -> UnixTime {
        self.floor
    }

    /// About what time it is at least.
    pub fn estimate(&self, elapsed: Duration) -> UnixTime {
        self.base.now(elapsed)
    }

    /// No server that is right says less: the floor, and what was known before a first time was adopted that is not confirmed.
    pub fn least(&self, elapsed: Duration) -> UnixTime {
        let before = self
            .unconfirmed
            .map(|unconfirmed| unconfirmed.before.now(elapsed));
        before.map_or(self.floor, |before| before.max(self.floor))
    }

    /// The time that counts is one that a server said lately and that has not stayed so for long enough: a server that says otherwise may be
    /// right. Not where the wall clock counts, and not for ever: a server's key that ended years ago must not take a node back to then.
    pub fn can_go_back(&self, wall: Option<UnixTime>, elapsed: Duration) -> bool {
        let lately = |unconfirmed: Unconfirmed| elapsed.saturating_sub(unconfirmed.before.at) < MENDED_IN;
        self.unconfirmed.is_some_and(lately) && self.judge(wall, elapsed).estimated
    }

    /// By how much a server's time leapt that is not believed yet.
    pub fn doubted(&self, wall: Option<UnixTime>, elapsed: Duration) -> Option<Duration> {
        let estimate = self.estimate(elapsed);
        if let Some(doubt) = self.doubted {
            return Some(doubt.said.now(elapsed).since(estimate));
        }
        let by = estimate.since(wall?);
        (by > self.skew && !self.judge(wall, elapsed).estimated).then_some(by)
    }

    /// By how much the last time that a server said lay below the floor.
    pub fn below_floor(&self) -> Option<Duration> {
        self.below_floor
    }

    /// What time counts, given what the wall clock shows.
    pub fn judge(&self, wall: Option<UnixTime>, elapsed: Duration) -> Judged {
        let estimate = self.estimate(elapsed);
        let Some(wall) = wall else {
            return Judged {
                now: estimate,
                estimated: true,
                wrong: Some(Wrong::Absent),
            };
        };
        let behind = estimate.since(wall);
        if behind > self.skew && !self.holds(wall, elapsed) {
            return Judged {
                now: estimate,
                estimated: true,
                wrong: Some(Wrong::Behind(behind)),
            };
        }
        let ahead = wall.since(estimate);
        Judged {
            // Also below the floor: a server that is a little ahead must not have what it signs for later handed out now.
            now: wall,
            estimated: false,
            // Before a server has said so in this boot, it is only how long the machine may have been off.
            wrong: (self.told && ahead > self.skew).then_some(Wrong::Ahead(ahead)),
        }
    }

    /// One server that nobody confirms does not overrule a wall clock that may be right by all that was known before. What the system set a
    /// clock to that stood still without power is just that, and holds for the hour; a later time is of a clock of its own, and holds.
    fn holds(&self, wall: UnixTime, elapsed: Duration) -> bool {
        let Some(unconfirmed) = self.plausible(wall, elapsed) else {
            return false;
        };
        !unconfirmed.hour.is_over(elapsed) || self.is_of_its_own(wall, &unconfirmed, elapsed)
    }

    /// What waits to be confirmed, where the wall clock may be right instead.
    fn plausible(&self, wall: UnixTime, elapsed: Duration) -> Option<Unconfirmed> {
        let unconfirmed = self.unconfirmed.filter(|_| self.known)?;
        (self.least(elapsed).since(wall) <= self.skew).then_some(unconfirmed)
    }

    fn is_of_its_own(&self, wall: UnixTime, unconfirmed: &Unconfirmed, elapsed: Duration) -> bool {
        // The boot may have gone on for so long before the estimate did.
        let written = WRITTEN_BEFORE.saturating_add(unconfirmed.before.at);
        wall.since(unconfirmed.before.now(elapsed)) > written
    }

    /// The wall clock speaks against what waits to be confirmed.
    fn disputes(&self, wall: Option<UnixTime>, elapsed: Duration) -> bool {
        let Some(wall) = wall.filter(|wall| self.estimate(elapsed).since(*wall) > self.skew) else {
            return false;
        };
        self.plausible(wall, elapsed).is_some_and(|unconfirmed| {
            unconfirmed.hour.gone(elapsed) < MENDED_IN || self.is_of_its_own(wall, &unconfirmed, elapsed)
        })
    }

    /// Takes in what a server says over a verified connection. The wall clock can only speak against it.
    pub fn hear(
        &mut self,
        said: UnixTime,
        heard: Heard,
        wall: Option<UnixTime>,
        elapsed: Duration,
    ) -> Verdict {
        let least = match heard {
            Heard::Answer => self.least(elapsed),
            Heard::Message => self.floor,
        };
        let below = least.since(said);
        self.below_floor = (below > self.skew).then_some(below);
        if let Some(below) = self.below_floor {
            return Verdict::BelowFloor(below);
        }
        let leap = said.since(self.anchor.now(elapsed));
        if leap > self.skew {
            return self.hear_leap(said, leap, wall, elapsed);
        }
        let early = self.estimate(elapsed).since(said) > self.skew;
        if early && heard == Heard::Message {
            // It confirms nothing: it may be what was true when it was sent.
            return Verdict::Agreed;
        }
        self.doubted = None;
        self.told = true;
        if heard == Heard::Answer || said > self.estimate(elapsed) {
            self.set(said, elapsed);
        }
        let taken_back = self.unconfirmed.as_mut().filter(|_| early);
        if let Some(unconfirmed) = taken_back {
            unconfirmed.hour = Hour::begin(elapsed);
            self.anchor = self.base;
        }
        self.confirm(said, wall, elapsed);
        if elapsed.saturating_sub(self.anchor.at) >= CONFIRMED_AFTER {
            self.anchor = Mark {
                time: self.estimate(elapsed),
                at: elapsed,
            };
        }
        Verdict::Agreed
    }

    fn confirm(&mut self, said: UnixTime, wall: Option<UnixTime>, elapsed: Duration) {
        let disputed = self.disputes(wall, elapsed);
        if let Some(unconfirmed) = &mut self.unconfirmed {
            unconfirmed.hour.hear(elapsed);
            if disputed || !unconfirmed.hour.is_over(elapsed) {
                return;
            }
        }
        self.raise(said);
    }

    /// The first time of a boot has to be believed, or a node without a clock could never come back; one that leaps later is a server's
    /// clock that was set wrong, or right, and an hour shows which. Not while the wall clock and what was said before are at one against it.
    fn hear_leap(
        &mut self,
        said: UnixTime,
        leap: Duration,
        wall: Option<UnixTime>,
        elapsed: Duration,
    ) -> Verdict {
        let estimate = self.estimate(elapsed);
        if !self.told {
            self.told = true;
            let before = Mark {
                time: self.unconfirmed.map_or(estimate, |_| self.least(elapsed)),
                at: elapsed,
            };
            let hour = Hour::begin(elapsed);
            self.unconfirmed = Some(Unconfirmed { hour, before });
            self.leap_to(said, elapsed);
            return Verdict::Adopted(leap);
        }
        let mut doubt = match self.doubted {
            Some(doubt) if doubt.agrees(said, elapsed, self.skew) => doubt,
            _ => Doubt::begin(said, elapsed),
        };
        doubt.hour.hear(elapsed);
        self.doubted = Some(doubt);
        let vetoed = wall.is_some_and(|wall| apart(wall, estimate) <= self.skew);
        if vetoed || !doubt.hour.is_over(elapsed) {
            return Verdict::Doubted(leap);
        }
        self.doubted = None;
        self.leap_to(said, elapsed);
        self.raise(said);
        Verdict::Adopted(leap)
    }

    fn leap_to(&mut self, said: UnixTime, elapsed: Duration) {
        self.set(said, elapsed);
        self.anchor = self.base;
    }

    fn set(&mut self, said: UnixTime, elapsed: Duration) {
        self.base = Mark {
            time: said.max(self.least(elapsed)),
            at: elapsed,
        };
    }

    fn raise(&mut self, said: UnixTime) {
        self.unconfirmed = None;
        self.known = true;
        self.floor = self.floor.max(said);
    }

    /// To be kept.
    pub fn record(&self, elapsed: Duration) -> TimeRecord {
        TimeRecord {
            floor: self.floor,
            estimate: self.estimate(elapsed),
            boot_id: self.boot_id.clone(),
            elapsed: elapsed.max(self.base.at),
            told: self.told,
            known: self.known,
            anchor: self.anchor,
            unconfirmed: self.unconfirmed,
        }
    }
}

/// When this program was built: `SOURCE_DATE_EPOCH`, where the builder has set it, and never before the release was written.
pub fn built() -> UnixTime {
    let set = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    set.map_or(WRITTEN, UnixTime::from_secs).max(WRITTEN)
}

/// 2026-11-01.
const WRITTEN: UnixTime = UnixTime::from_secs(1_793_491_200);
/// What is known of the time is written every ten minutes, and what systems keep for the lack of a clock is not newer than that.
const WRITTEN_BEFORE: Duration = Duration::from_secs(900);
/// A server's clock that was wrong at the first contact of a boot is set right in less, or the node goes on from it.
const MENDED_IN: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests;

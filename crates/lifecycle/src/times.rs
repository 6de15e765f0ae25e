//! What time it is at least: a floor that only authenticated time raises, and an estimate that goes on from there with the machine's boot
//! clock. Pure.
//!
//! Invariant: nothing raises the floor but [`Times::hear`], and only to what a server has said: a wall clock can hold it back, and never raises
//! it. The estimate is never below the floor, and whatever the wall clock shows, [`Times::judge`] never answers a time further below the
//! estimate than the skew.

mod hour;
mod words;

use std::time::Duration;

use landfast_identity::UnixTime;

use hour::apart;
pub use hour::{CONFIRMED_AFTER, Candidate, Hour, Mark};
pub use words::{Heard, Judged, Quality, Verdict, Wrong};

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
    /// About what time it was when this was kept, but for the candidate.
    pub estimate: Mark,
    /// The boot in which it was kept.
    pub boot_id: String,
    /// A server's time was confirmed in that boot.
    pub told: bool,
    /// The wall clock was right when a server last said the time: it may speak for itself.
    pub witness: bool,
    /// What leaps are measured from in that boot.
    pub anchor: Mark,
    /// What a server has said and has to stay so.
    pub candidate: Option<Candidate>,
}

/// The floor and the estimate.
#[derive(Clone, Debug)]
pub struct Times {
    skew: Duration,
    boot_id: String,
    floor: UnixTime,
    /// The estimate is this time and what the boot clock has gone on since, unless a candidate is.
    base: Mark,
    /// Of that, once an hour at most: small steps are one leap.
    anchor: Mark,
    told: bool,
    witness: bool,
    candidate: Option<Candidate>,
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
            witness: false,
            candidate: None,
            below_floor: None,
        };
        if let Some(record) = record {
            times.take(record, elapsed);
        }
        times
    }

    fn take(&mut self, record: &TimeRecord, elapsed: Duration) {
        self.floor = self.floor.max(record.floor);
        self.witness = record.witness;
        if !self.boot_id.is_empty() && self.boot_id == record.boot_id {
            self.told = record.told;
            self.anchor = record.anchor;
            self.candidate = record.candidate;
            self.set(record.estimate.now(elapsed), elapsed);
            return;
        }
        self.set(record.estimate.time, elapsed);
        self.anchor = self.base;
        // What only the boot clock of then was against is over; what counted goes on, and the hour begins anew.
        let counted = record.candidate.filter(|candidate| candidate.counts);
        self.candidate = counted.map(|candidate| Candidate {
            said: Mark {
                time: candidate.said.time,
                at: elapsed,
            },
            hour: Hour::default(),
            counts: true,
        });
    }

    /// It cannot be earlier.
    pub fn floor(&self) -> UnixTime {
        self.floor
    }

    /// About what time it is at least.
    pub fn estimate(&self, elapsed: Duration) -> UnixTime {
        let counted = self.candidate.filter(|candidate| candidate.counts);
        let said = counted.map(|candidate| candidate.said.now(elapsed));
        self.least(elapsed).max(said.unwrap_or(self.floor))
    }

    /// No server that is right says less: what is known without what only a candidate says.
    pub fn least(&self, elapsed: Duration) -> UnixTime {
        self.base.now(elapsed)
    }

    /// The time that counts is one that a server said and that has not stayed so for long enough: a server that says otherwise may be
    /// right.
    pub fn can_go_back(&self, wall: Option<UnixTime>, elapsed: Duration) -> bool {
        self.candidate.is_some_and(|candidate| candidate.counts) && self.judge(wall, elapsed).estimated
    }

    /// By how much a server's time that is not believed yet is ahead of the time that counts.
    pub fn doubted(&self, wall: Option<UnixTime>, elapsed: Duration) -> Option<Duration> {
        let said = self.candidate?.said.now(elapsed);
        let by = said.since(self.judge(wall, elapsed).now);
        (by > self.skew).then_some(by)
    }

    /// By how much the last time that a server said lay below what is known.
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
        if behind > self.skew {
            return Judged {
                now: estimate,
                estimated: true,
                wrong: Some(Wrong::Behind(behind)),
            };
        }
        let ahead = wall.since(estimate);
        // Before a server has said so in this boot, it is only how long the machine may have been off.
        let said = |candidate: Candidate| candidate.counts && candidate.hour.voices > 0;
        let told = self.told || self.candidate.is_some_and(said);
        Judged {
            // Also below the floor: a server that is a little ahead must not have what it signs for later handed out now.
            now: wall,
            estimated: false,
            wrong: (told && ahead > self.skew).then_some(Wrong::Ahead(ahead)),
        }
    }

    /// What the time that counts is worth.
    pub fn quality(&self, wall: Option<UnixTime>, elapsed: Duration) -> Quality {
        let judged = self.judge(wall, elapsed);
        let doubted = self.doubted(wall, elapsed).is_some() || self.below_floor.is_some();
        let doubted = doubted || judged.wrong.is_some();
        match (judged.estimated, doubted, self.told) {
            (true, _, _) => Quality::Estimated,
            (false, true, _) => Quality::Doubted,
            (false, false, true) => Quality::Confirmed,
            (false, false, false) => Quality::Unconfirmed,
        }
    }

    /// Takes in what a server says over a verified connection. The wall clock can only speak against it.
    pub fn hear(
        &mut self,
        said: UnixTime,
        heard: Heard,
        wall: Option<UnixTime>,
        elapsed: Duration,
    ) -> Verdict {
        let below = self.floor.since(said);
        self.below_floor = (below > self.skew).then_some(below);
        if let Some(below) = self.below_floor {
            return Verdict::BelowFloor(below);
        }
        if heard == Heard::Message && self.estimate(elapsed).since(said) > self.skew {
            // It confirms nothing: it may be what was true when it was sent.
            return Verdict::Agreed;
        }
        let known = self.anchor.now(elapsed);
        let off = apart(known, said);
        if off > self.skew.saturating_add(self.anchor.drift(elapsed)) {
            return self.consider(said, off, wall, elapsed);
        }
        if heard == Heard::Answer || said > self.least(elapsed) {
            self.set(said, elapsed);
        }
        self.confirm(said, wall, elapsed);
        if elapsed.saturating_sub(self.anchor.at) >= CONFIRMED_AFTER {
            self.anchor = self.base.moved(elapsed);
        }
        Verdict::Agreed
    }

    /// Before one is confirmed in a boot, the last time that was said has to count, or a node without a clock could never come back; one
    /// that leaps later is a server's clock that was set wrong, or right. An hour shows which; or a day, when the wall clock says otherwise.
    fn consider(
        &mut self,
        said: UnixTime,
        off: Duration,
        wall: Option<UnixTime>,
        elapsed: Duration,
    ) -> Verdict {
        let least = self.least(elapsed);
        let early = said < least;
        if early {
            self.below_floor = Some(off);
            if self.candidate.is_some_and(|candidate| candidate.counts) {
                return Verdict::BelowFloor(off);
            }
        }
        let same = self.candidate;
        let same = same.filter(|candidate| candidate.agrees(said, elapsed, self.skew));
        let mut candidate = same.unwrap_or_else(|| Candidate::begin(said, elapsed));
        candidate.hour.hear(elapsed);
        let counted = candidate.counts;
        // By what is known without a candidate, the wall clock can be right instead.
        let can_be = wall.filter(|wall| least.since(*wall) <= self.skew);
        let against = can_be.is_some_and(|wall| {
            let by = if early { wall.since(said) } else { said.since(wall) };
            by > self.skew
        });
        let an_hour = candidate.hour.is_over(elapsed);
        if an_hour && !against || candidate.hour.is_a_day(elapsed) {
            self.below_floor = None;
            self.set(said, elapsed);
            self.anchor = self.base;
            self.confirm(said, wall, elapsed);
            candidate.counts = true;
        } else {
            let held = against && self.witness && !self.judge(wall, elapsed).estimated;
            candidate.counts |= !self.told && !early && (an_hour || !held);
            // A clock that a whole hour is against holds nothing up in the next boot.
            self.witness = self.is_right(wall, said) || self.witness && !(candidate.counts && an_hour);
            self.candidate = Some(candidate);
        }
        match (candidate.counts, counted) {
            (false, _) if early => Verdict::BelowFloor(off),
            (false, _) => Verdict::Doubted(off),
            (true, false) => Verdict::Adopted(off),
            (true, true) => Verdict::Agreed,
        }
    }

    fn set(&mut self, time: UnixTime, elapsed: Duration) {
        self.base = Mark {
            time: time.max(self.floor),
            at: elapsed,
        };
    }

    fn confirm(&mut self, said: UnixTime, wall: Option<UnixTime>, elapsed: Duration) {
        (self.told, self.candidate) = (true, None);
        self.floor = self.floor.max(said);
        self.witness = self.is_right(wall, self.least(elapsed));
    }

    /// Within half of the skew: a clock that is hardly right will not be after a week without power.
    fn is_right(&self, wall: Option<UnixTime>, time: UnixTime) -> bool {
        wall.is_some_and(|wall| apart(wall, time) <= self.skew / 2)
    }

    /// To be kept.
    pub fn record(&self, elapsed: Duration) -> TimeRecord {
        TimeRecord {
            floor: self.floor,
            estimate: self.base.moved(elapsed),
            boot_id: self.boot_id.clone(),
            told: self.told,
            witness: self.witness,
            anchor: self.anchor,
            candidate: self.candidate.map(|candidate| Candidate {
                said: candidate.said.moved(elapsed),
                ..candidate
            }),
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

#[cfg(test)]
mod tests;

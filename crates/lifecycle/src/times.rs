//! What time it is at least: a floor that only authenticated time raises, and an estimate that goes on from there with the machine's boot
//! clock. Pure.
//!
//! Invariant: nothing raises the floor but [`Times::hear`], and no wall clock is an argument of that. The estimate is never below the floor,
//! and whatever the wall clock shows, [`Times::judge`] never answers a time further below the estimate than the skew.

use std::time::Duration;

use landfast_identity::UnixTime;

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
    /// Since when in that boot the estimate waits for more of its kind before the floor follows.
    pub unconfirmed_since: Option<Duration>,
}

/// The floor and the estimate.
#[derive(Clone, Debug)]
pub struct Times {
    skew: Duration,
    boot_id: String,
    floor: UnixTime,
    /// The estimate is this time...
    base: UnixTime,
    /// ... and what the boot clock has gone on since then.
    at: Duration,
    told: bool,
    unconfirmed_since: Option<Duration>,
    doubted: Option<Doubt>,
    below_floor: Option<Duration>,
}

/// A server's time that leapt, and is not believed yet.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    said: UnixTime,
    since: Duration,
}

/// The time that counts, and how it was come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// What time it is for everybody.
    pub now: UnixTime,
    /// The wall clock does not count: it shows too early a time, or none.
    pub estimated: bool,
    /// How wrong the wall clock is, when that is more than the skew.
    pub wrong: Option<Wrong>,
}

/// How wrong the wall clock is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It shows no time.
    Absent,
    /// It is behind by so much, or more.
    Behind(Duration),
    /// It is ahead by so much of what a server has said since the machine was started.
    Ahead(Duration),
}

/// How new a server's time is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Of the answer to a question that was asked just now.
    Answer,
    /// It may have been under way for long: it can show that it is later, and not that it is earlier.
    Message,
}

/// What became of a server's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is about what was expected.
    Agreed,
    /// It is so much later than could be known, as after a time without power. It counts; the floor follows when it has stayed so.
    Adopted(Duration),
    /// It is so much later than it can be, by what a server has said and the boot clock since. It counts when it has stayed so.
    Doubted(Duration),
    /// It is so much earlier than what this node has been told: it does not count.
    BelowFloor(Duration),
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
        let mut times = Self {
            skew,
            boot_id,
            floor: built,
            base: built,
            at: elapsed,
            told: false,
            unconfirmed_since: None,
            doubted: None,
            below_floor: None,
        };
        if let Some(record) = record {
            times.floor = built.max(record.floor);
            let same_boot = !times.boot_id.is_empty() && times.boot_id == record.boot_id;
            let gone_on = match same_boot {
                true => elapsed.saturating_sub(record.elapsed),
                false => Duration::ZERO,
            };
            times.base = record.estimate.saturating_add(gone_on).max(times.floor);
            times.told = same_boot && record.told;
            // In another boot the hour begins anew.
            times.unconfirmed_since = record
                .unconfirmed_since
                .map(|since| if same_boot { since } else { elapsed });
        }
        times
    }

    /// It cannot be earlier.
    pub fn floor(&self) -> UnixTime {
        self.floor
    }

    /// About what time it is at least.
    pub fn estimate(&self, elapsed: Duration) -> UnixTime {
        self.base.saturating_add(elapsed.saturating_sub(self.at))
    }

    /// The estimate is a server's time that has not stayed so for long enough: a server that says otherwise may be right.
    pub fn is_unconfirmed(&self) -> bool {
        self.unconfirmed_since.is_some()
    }

    /// By how much a server's time leapt that is not believed yet.
    pub fn doubted(&self, elapsed: Duration) -> Option<Duration> {
        let doubt = self.doubted?;
        Some(doubt.now(elapsed).since(self.estimate(elapsed)))
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
        if behind > self.skew {
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

    /// Takes in what a server says over a verified connection.
    pub fn hear(&mut self, said: UnixTime, heard: Heard, elapsed: Duration) -> Verdict {
        let below = self.floor.since(said);
        self.below_floor = (below > self.skew).then_some(below);
        if let Some(below) = self.below_floor {
            return Verdict::BelowFloor(below);
        }
        let leap = said.since(self.estimate(elapsed));
        if leap > self.skew {
            return self.hear_leap(said, leap, elapsed);
        }
        self.doubted = None;
        self.told = true;
        let early = self.estimate(elapsed).since(said);
        if early > self.skew && self.unconfirmed_since.is_some() && heard == Heard::Answer {
            // What was adopted has been taken back.
            self.unconfirmed_since = Some(elapsed);
        }
        if heard == Heard::Answer || said > self.estimate(elapsed) {
            self.set(said, elapsed);
        }
        match self.unconfirmed_since {
            Some(since) if elapsed.saturating_sub(since) < CONFIRMED_AFTER => {}
            _ => self.raise(said),
        }
        Verdict::Agreed
    }

    /// The first time of a boot has to be believed, or a node without a clock could never come back; one that leaps later is a server's
    /// clock that was set wrong, or right, and an hour shows which.
    fn hear_leap(&mut self, said: UnixTime, leap: Duration, elapsed: Duration) -> Verdict {
        if !self.told {
            self.told = true;
            self.set(said, elapsed);
            self.unconfirmed_since = Some(elapsed);
            return Verdict::Adopted(leap);
        }
        let doubt = match self
            .doubted
            .filter(|doubt| doubt.agrees(said, elapsed, self.skew))
        {
            Some(doubt) => doubt,
            None => Doubt { said, since: elapsed },
        };
        self.doubted = Some(doubt);
        if elapsed.saturating_sub(doubt.since) < CONFIRMED_AFTER {
            return Verdict::Doubted(leap);
        }
        self.doubted = None;
        self.set(said, elapsed);
        self.raise(said);
        Verdict::Adopted(leap)
    }

    fn set(&mut self, said: UnixTime, elapsed: Duration) {
        self.base = said.max(self.floor);
        self.at = elapsed;
    }

    fn raise(&mut self, said: UnixTime) {
        self.unconfirmed_since = None;
        self.floor = self.floor.max(said);
    }

    /// To be kept.
    pub fn record(&self, elapsed: Duration) -> TimeRecord {
        TimeRecord {
            floor: self.floor,
            estimate: self.estimate(elapsed),
            boot_id: self.boot_id.clone(),
            elapsed: elapsed.max(self.at),
            told: self.told,
            unconfirmed_since: self.unconfirmed_since,
        }
    }
}

impl Doubt {
    fn now(&self, elapsed: Duration) -> UnixTime {
        self.said.saturating_add(elapsed.saturating_sub(self.since))
    }

    fn agrees(&self, said: UnixTime, elapsed: Duration, skew: Duration) -> bool {
        let expected = self.now(elapsed);
        expected.since(said).max(said.since(expected)) <= skew
    }
}

/// When this program was built: `SOURCE_DATE_EPOCH`, where the builder has set it, and never before the release was written.
pub fn built() -> UnixTime {
    let set = option_env!("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok());
    set.map_or(WRITTEN, UnixTime::from_secs).max(WRITTEN)
}

/// 2026-11-01.
const WRITTEN: UnixTime = UnixTime::from_secs(1_793_491_200);
/// A server's clock that was set wrong is mended in less; the floor never goes back.
pub const CONFIRMED_AFTER: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;

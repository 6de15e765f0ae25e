//! A reserve for when the server is away: rungs, credentials whose times follow one another with overlap. Which are missing, and whose turn it is.
//!
//! Invariant: pure. A rung is never anybody's turn before it begins nor after it ends. While all that [`missing`] names is had, every moment of
//! the reserve has a rung that is valid, and the one after it begins before that ends.

use std::time::Duration;

use landfast_identity::UnixTime;

/// From when until when something is valid; the end is not part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Window {
    /// The first moment.
    pub begins: UnixTime,
    /// The first moment after it.
    pub ends: UnixTime,
}

impl Window {
    /// Whether it is valid at this moment.
    #[must_use]
    pub fn holds(&self, now: UnixTime) -> bool {
        self.begins <= now && now < self.ends
    }

    /// Whether it is valid, and not so near its end that it is always replaced: what takes its place may come a moment later.
    #[must_use]
    pub fn lasts(&self, now: UnixTime) -> bool {
        self.holds(now) && now < self.last_part()
    }

    fn life(&self) -> Duration {
        self.ends.since(self.begins)
    }

    fn last_part(&self) -> UnixTime {
        self.ends.saturating_sub(self.life() / LAST_PART)
    }
}

/// What is to be had so that a reserve is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// When each of the missing rungs begins, the first first. At most [`MOST`].
    pub begins: Vec<UnixTime>,
    /// When the far end asks for another, if nothing is missing.
    pub next: UnixTime,
}

/// Which rungs are missing of a reserve of this length. `rungs` are those that are held, in the order in which they begin; each lives for `life`.
///
/// The first one is of now, so that nothing else needs to be valid; each of the others begins half a life after the one before it.
#[must_use]
pub fn missing(now: UnixTime, reserve: Duration, life: Duration, rungs: &[Window]) -> Missing {
    let step = step(life);
    // What begins then, or a step before, is still valid when the reserve is over.
    let ahead = reserve.saturating_sub(step).min(step * (MOST - 1));
    let far_end = now.saturating_add(ahead);
    let mut begins = Vec::new();
    let mut at = match turn(now, rungs) {
        Some(current) => rungs[current].begins,
        None => {
            begins.push(now);
            now
        }
    };
    let mut rest = rungs;
    loop {
        let target = at.saturating_add(step).max(now);
        if target > far_end {
            let next = target.saturating_sub(ahead);
            return Missing { begins, next };
        }
        // Not each second of a difference is worth another rung.
        let near_enough = target.saturating_add(step / SLACK);
        rest = &rest[rest.partition_point(|rung| rung.begins <= at)..];
        let within = rest.partition_point(|rung| rung.begins <= near_enough);
        at = match within.checked_sub(1) {
            Some(last) => rest[last].begins,
            None => {
                begins.push(target);
                target
            }
        };
    }
}

/// Half a life, at least a second.
#[must_use]
pub fn step(life: Duration) -> Duration {
    Duration::from_secs((life.as_secs() / 2).max(1))
}

/// Whose turn it is: of those that are valid the one that began last. `rungs` are in the order in which they begin.
#[must_use]
pub fn turn(now: UnixTime, rungs: &[Window]) -> Option<usize> {
    let begun = rungs.partition_point(|rung| rung.begins <= now);
    (0..begun).rev().find(|rung| rungs[*rung].holds(now))
}

/// What is served now, and when it is due to be renewed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// When it is valid.
    pub window: Window,
    /// When it is to be renewed.
    pub due: UnixTime,
}

/// Which rung takes the place of what is served, if one does. `alone`: nobody renews it otherwise; else it is given until shortly before its end.
#[must_use]
pub fn successor(now: UnixTime, served: Option<Served>, alone: bool, rungs: &[Window]) -> Option<usize> {
    let next = turn(now, rungs)?;
    let Some(served) = served.filter(|served| served.window.holds(now)) else {
        return Some(next);
    };
    (now >= served.until(alone) && served.window.ends < rungs[next].ends).then_some(next)
}

/// When [`successor`] may say something else, by the time alone.
#[must_use]
pub fn next_turn(now: UnixTime, served: Option<Served>, alone: bool, rungs: &[Window]) -> Option<UnixTime> {
    let begun = rungs.partition_point(|rung| rung.begins <= now);
    let next = rungs.get(begun).map(|rung| rung.begins);
    let served = served
        .into_iter()
        .flat_map(|served| [served.until(alone), served.window.ends]);
    next.into_iter().chain(served).filter(|at| *at > now).min()
}

impl Served {
    fn until(&self, alone: bool) -> UnixTime {
        match alone {
            true => self.due,
            false => self.window.last_part(),
        }
    }
}

/// Until when something is valid without a gap: what is served, then one rung after the other.
#[must_use]
pub fn covered_until(now: UnixTime, served: Option<Window>, rungs: &[Window]) -> Option<UnixTime> {
    let first = turn(now, rungs).map(|current| rungs[current].ends);
    let served = served
        .filter(|served| served.holds(now))
        .map(|served| served.ends);
    let mut until = first.max(served)?;
    let begun = rungs.partition_point(|rung| rung.begins <= now);
    for rung in &rungs[begun..] {
        if rung.begins > until {
            break;
        }
        until = until.max(rung.ends);
    }
    Some(until)
}

/// Rungs of one entry.
pub const MOST: u32 = 512;
/// Part of a step that a rung may begin later than it should.
const SLACK: u32 = 8;
/// Part of a life that is left when a rung steps in for a server that is there and does not sign.
const LAST_PART: u32 = 8;

#[cfg(test)]
mod tests;

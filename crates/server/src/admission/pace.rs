//! How fast signatures are made, and when who is refused shall come again.
//!
//! Invariant: the refused come back one after the other, as fast as they can be served and no faster, and each before it is too late for it.

use std::hash::{BuildHasher as _, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// The pace, and the calendar of those who come again.
pub(super) struct Pace {
    /// Signatures a second, while there was always somebody waiting.
    rate: f64,
    /// Whether that was ever seen: until then it is a guess.
    seen: bool,
    /// For how long it was.
    watched: Duration,
    /// Since when `made` counts.
    since: Option<Instant>,
    made: usize,
    /// Whether all that time somebody waited: else it was not our pace that was seen.
    pressed: bool,
    /// Until when the calendar is full.
    booked: Option<Instant>,
    refused: Option<Instant>,
    draws: u64,
    random: RandomState,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            rate: FIRST_GUESS,
            seen: false,
            watched: Duration::ZERO,
            since: None,
            made: 0,
            pressed: false,
            booked: None,
            refused: None,
            draws: 0,
            random: RandomState::new(),
        }
    }
}

impl Pace {
    /// Work begins after a rest.
    pub(super) fn begin(&mut self, now: Instant) {
        (self.since, self.made, self.pressed) = (Some(now), 0, true);
    }

    /// So many were made; `pressed` when somebody waits.
    pub(super) fn done(&mut self, now: Instant, count: usize, pressed: bool) {
        self.made += count;
        self.pressed &= pressed;
        let elapsed = self.since.map_or(Duration::ZERO, |since| now - since);
        if elapsed < if self.seen { SAMPLE } else { FIRST_SAMPLE } {
            return;
        }
        let made = self.made as f64 / elapsed.as_secs_f64();
        // Who rests now and then may be quicker than that, but is no slower: better than a guess.
        if self.pressed || (!self.seen && made > self.rate) {
            self.watched += elapsed;
            self.learn(now, made);
        }
        (self.since, self.made, self.pressed) = (Some(now), 0, pressed);
    }

    /// What is in the calendar is signatures: at another pace they take another time. Else who came before anything was known would have got
    /// times for which nothing else is left to do, and who comes later would come after all of these.
    fn learn(&mut self, now: Instant, seen: f64) {
        let before = self.rate();
        self.rate = match self.seen {
            true => (self.rate + seen) / 2.0,
            false => seen.max(SLOWEST),
        };
        self.seen = true;
        let slower = before / self.rate();
        if let Some(booked) = &mut self.booked {
            let left = booked.saturating_duration_since(now).mul_f64(slower);
            *booked = now + left.min(FARTHEST);
        }
    }

    /// How long so many will take.
    pub(super) fn time_for(&self, signatures: usize) -> Duration {
        Duration::from_secs_f64(signatures as f64 / self.rate())
    }

    /// What is reckoned with. A storm begins with handshakes, beside which few signatures are made: who is sent away by what was seen then comes
    /// when there has long been nothing to do.
    fn rate(&self) -> f64 {
        let least = if self.watched < STEADY {
            FIRST_GUESS
        } else {
            SLOWEST
        };
        self.rate.max(least)
    }

    /// When somebody who is refused now, with so many that wait, shall come again for `count` signatures: in the first free time of the
    /// calendar, a little later or sooner by chance. Who has something to lose comes while there is time to serve it.
    pub(super) fn come_again(
        &mut self,
        now: Instant,
        waiting: usize,
        count: usize,
        needed_in: Option<Duration>,
    ) -> Duration {
        self.refused = Some(now);
        let room_is_empty = now + self.time_for(waiting);
        let begins = self
            .booked
            .map_or(room_is_empty, |booked| booked.max(room_is_empty));
        let ends = (begins + self.time_for(count)).min(now + FARTHEST);
        self.booked = Some(ends);
        let share = self.share();
        let free = ends - now;
        let latest = needed_in.map_or(FARTHEST, |needed| (needed / 2).max(room_is_empty - now));
        let (at, spread) = match latest.min(FARTHEST) {
            latest if free < latest => (free, (free / 10).max(SPREAD)),
            // They would all come at this time.
            latest => (latest, latest / 2),
        };
        (at.saturating_sub(spread) + spread.mul_f64(share)).max(SOONEST)
    }

    /// The same for somebody who asks for what nobody needs now: after everybody who is in the calendar, and without a place in it. It is no sign of
    /// trouble either.
    pub(super) fn put_off(&mut self, now: Instant, waiting: usize) -> Duration {
        let room_is_empty = now + self.time_for(waiting);
        let free = self
            .booked
            .map_or(room_is_empty, |booked| booked.max(room_is_empty));
        (free - now).min(FARTHEST) + SPREAD_AHEAD.mul_f64(self.share()).max(SOONEST)
    }

    fn share(&mut self) -> f64 {
        self.draws = self.draws.wrapping_add(1);
        self.random.hash_one(self.draws) as f64 / u64::MAX as f64
    }

    /// Whether somebody was refused within this time.
    pub(super) fn refused_within(&self, now: Instant, within: Duration) -> bool {
        self.refused.is_some_and(|at| now - at <= within)
    }
}

/// Before anything was measured.
const FIRST_GUESS: f64 = 500.0;
/// However slow the disk, time goes on.
const SLOWEST: f64 = 1.0;
/// What the pace is measured over.
const SAMPLE: Duration = Duration::from_secs(1);
/// The first time: those who come in the first second after a start are to be told something better than a guess.
const FIRST_SAMPLE: Duration = Duration::from_millis(100);
/// Watched for so long, a pace below the guess is believed.
const STEADY: Duration = Duration::from_secs(2);
const SOONEST: Duration = Duration::from_millis(250);
const FARTHEST: Duration = Duration::from_secs(300);
/// Those who come at one time are at least so far apart.
const SPREAD: Duration = Duration::from_secs(1);
/// The same for those who have all the time.
const SPREAD_AHEAD: Duration = Duration::from_secs(60);

//! Whether the wall clock runs evenly. Pure. Invariant: a clock is steady when it has kept step with the monotonic one for half an hour, or
//! is no further than one that had: so whoever removes by a steady clock removes nothing by an hour that was wrong and mended in time.

use std::time::Duration;

use landfast_identity::UnixTime;
use tokio::time::Instant;

use crate::authority::Trust;

/// Both clocks at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct At {
    pub(super) wall: UnixTime,
    pub(super) mono: Instant,
}

/// Watches the wall clock. A new one has seen nothing: a machine that was off for long and a clock that is wrong look the same.
#[derive(Debug, Default)]
pub(super) struct LeapWatch {
    steady: Option<At>,
    trial: Option<Trial>,
}

/// A time that is not believed yet.
#[derive(Clone, Copy, Debug)]
struct Trial {
    since: Instant,
    last: At,
}

/// What to say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Noticed {
    /// It is this far ahead of where it should be.
    Leapt(Duration),
    /// It is where it was before it leapt.
    Back,
    /// It has run evenly for long enough.
    Held,
}

impl LeapWatch {
    pub(super) fn observe(&mut self, at: At) -> Option<Noticed> {
        let leap = self.steady.map(|steady| ahead(steady, at));
        if leap.is_some_and(|by| by <= TOLERANCE) {
            // Also when it was set back: less is over by an earlier time.
            self.steady = Some(at);
            return self.trial.take().map(|_| Noticed::Back);
        }
        let even = |trial: &Trial| ahead(trial.last, at).max(ahead(at, trial.last)) <= TOLERANCE;
        let before = self.trial.filter(even);
        let since = before.map_or(at.mono, |trial| trial.since);
        if at.mono.saturating_duration_since(since) >= HOLD {
            self.steady = Some(at);
            self.trial = None;
            return Some(Noticed::Held);
        }
        self.trial = Some(Trial { since, last: at });
        leap.filter(|_| before.is_none()).map(Noticed::Leapt)
    }

    pub(super) fn trust(&self) -> Trust {
        match (self.steady, self.trial) {
            (Some(_), None) => Trust::Steady,
            _ => Trust::Doubtful,
        }
    }
}

/// How much further the wall clock went than the monotonic one; zero when it fell behind. Works in either direction of time.
fn ahead(from: At, to: At) -> Duration {
    let forward = to.mono.saturating_duration_since(from.mono);
    let backward = from.mono.saturating_duration_since(to.mono);
    to.wall
        .saturating_add(backward)
        .since(from.wall.saturating_add(forward))
}

/// Leap seconds, a slow look, a clock that is set by hand: nothing that lives shorter than this is removed early by it.
const TOLERANCE: Duration = Duration::from_secs(3600);
/// For so long a clock that is wrong can be mended before anything is removed by it.
const HOLD: Duration = Duration::from_secs(1800);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::fixture::{DAY, START};

    const MINUTE: Duration = Duration::from_secs(60);

    /// Looks once a minute at clocks that run evenly but for the leaps, in seconds; says what was noticed in which minute.
    struct Machine {
        watch: LeapWatch,
        at: At,
        minute: u32,
    }

    impl Machine {
        fn new() -> Self {
            let at = At {
                wall: START,
                mono: Instant::now(),
            };
            Self {
                watch: LeapWatch::default(),
                at,
                minute: 0,
            }
        }

        fn steady() -> Self {
            let mut machine = Self::new();
            assert_eq!(machine.run(31), [(30, Noticed::Held)]);
            machine
        }

        fn leap(&mut self, seconds: i64) {
            self.at.wall = UnixTime::from_secs(self.at.wall.as_secs() + seconds);
        }

        fn run(&mut self, minutes: u32) -> Vec<(u32, Noticed)> {
            let mut noticed = Vec::new();
            for _ in 0..minutes {
                noticed.extend(self.watch.observe(self.at).map(|what| (self.minute, what)));
                self.at.wall = self.at.wall.saturating_add(MINUTE);
                self.at.mono += MINUTE;
                self.minute += 1;
            }
            noticed
        }
    }

    const FORTY_DAYS: i64 = 40 * 86_400;

    #[test]
    fn a_server_that_has_just_started_believes_its_clock_after_half_an_hour() {
        let mut machine = Machine::new();
        assert_eq!(machine.watch.trust(), Trust::Doubtful);
        assert_eq!(machine.run(30), []);
        assert_eq!(machine.watch.trust(), Trust::Doubtful);
        assert_eq!(machine.run(1), [(30, Noticed::Held)]);
        assert_eq!(machine.watch.trust(), Trust::Steady);
    }

    #[test]
    fn a_leap_is_not_believed_and_forgotten_when_the_clock_is_back() {
        let mut machine = Machine::steady();
        machine.leap(FORTY_DAYS);
        assert_eq!(machine.run(29), [(31, Noticed::Leapt(40 * DAY))]);
        assert_eq!(machine.watch.trust(), Trust::Doubtful);
        machine.leap(-FORTY_DAYS);
        assert_eq!(machine.run(100), [(60, Noticed::Back)]);
        assert_eq!(machine.watch.trust(), Trust::Steady);
    }

    #[test]
    fn a_leap_that_holds_is_believed() {
        let mut machine = Machine::steady();
        machine.leap(FORTY_DAYS);
        assert_eq!(
            machine.run(31),
            [(31, Noticed::Leapt(40 * DAY)), (61, Noticed::Held)]
        );
        assert_eq!(machine.watch.trust(), Trust::Steady);
    }

    #[test]
    fn a_second_leap_begins_the_half_hour_anew() {
        for second in [FORTY_DAYS, -FORTY_DAYS / 2] {
            let mut machine = Machine::steady();
            machine.leap(FORTY_DAYS);
            machine.run(20);
            machine.leap(second);
            let noticed = machine.run(30);
            assert!(matches!(noticed[..], [(51, Noticed::Leapt(_))]), "{noticed:?}");
            assert_eq!(machine.run(1), [(81, Noticed::Held)]);
        }
    }

    #[test]
    fn a_leap_in_the_first_half_hour_begins_it_anew() {
        for by in [FORTY_DAYS, -FORTY_DAYS] {
            let mut machine = Machine::new();
            machine.run(20);
            machine.leap(by);
            assert_eq!(machine.run(31), [(50, Noticed::Held)]);
        }
    }

    #[test]
    fn small_corrections_and_steps_back_are_no_leaps() {
        let mut machine = Machine::steady();
        for by in [3600, -3600, -FORTY_DAYS, 3000] {
            machine.leap(by);
            assert_eq!(machine.run(5), []);
            assert_eq!(machine.watch.trust(), Trust::Steady);
        }
        machine.leap(3601);
        assert!(matches!(machine.run(1)[..], [(_, Noticed::Leapt(_))]));
    }

    #[test]
    fn a_clock_that_is_not_seen_for_days_but_ran_is_no_leap() {
        let mut machine = Machine::steady();
        machine.at.wall = machine.at.wall.saturating_add(3 * DAY);
        machine.at.mono += 3 * DAY;
        assert_eq!(machine.run(5), []);
        assert_eq!(machine.watch.trust(), Trust::Steady);
    }
}

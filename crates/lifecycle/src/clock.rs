//! The wall clock as a seam. Invariant: a simulated clock moves with tokio's paused time, so both never disagree by accident.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use landfast_identity::UnixTime;
use tokio::time::Instant;

/// Wall time. Monotonic time is tokio's. May be stepped, may be wrong, may be absent.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The wall time in whole seconds; `None` when nothing is known about it.
    fn now(&self) -> Option<UnixTime>;

    /// Monotonic time. Only a test that cannot pause tokio's, for it talks to real programs, shows another.
    fn monotonic(&self) -> Instant {
        Instant::now()
    }
}

/// A clock that several components share.
pub type SharedClock = Arc<dyn Clock>;

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Option<UnixTime> {
        #[expect(
            clippy::disallowed_methods,
            reason = "the one place that reads the wall clock; all others ask Clock"
        )]
        let now = SystemTime::now();
        let secs = match now.duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_secs()).ok()?,
            Err(before) => -i64::try_from(before.duration().as_secs()).ok()?,
        };
        Some(UnixTime::from_secs(secs))
    }
}

/// A clock for tests: a base, plus tokio's (paused) time since its creation, plus the steps taken.
///
/// Inside a tokio runtime only, as tokio's time is. Clones show the same time.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Sim>);

#[derive(Debug)]
struct Sim {
    base: UnixTime,
    started: Instant,
    stepped: AtomicI64,
    passed: AtomicI64,
    absent: AtomicBool,
}

impl SimClock {
    /// A clock that shows `base` now.
    pub fn new(base: UnixTime) -> Self {
        let sim = Sim {
            base,
            started: Instant::now(),
            stepped: AtomicI64::new(0),
            passed: AtomicI64::new(0),
            absent: AtomicBool::new(false),
        };
        Self(Arc::new(sim))
    }

    /// Moves the wall by whole seconds, forwards or backwards; monotonic time does not notice.
    pub fn step(&self, seconds: i64) {
        self.0.stepped.fetch_add(seconds, Ordering::SeqCst);
    }

    /// Lets whole seconds pass, on the wall and of monotonic time, where tokio's cannot be paused.
    pub fn pass(&self, seconds: i64) {
        self.0.passed.fetch_add(seconds, Ordering::SeqCst);
        self.step(seconds);
    }

    /// From now on nothing is known about the time, or again something.
    pub fn set_absent(&self, absent: bool) {
        self.0.absent.store(absent, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now(&self) -> Option<UnixTime> {
        if self.0.absent.load(Ordering::SeqCst) {
            return None;
        }
        let wall = self.0.base.saturating_add(self.0.started.elapsed());
        Some(UnixTime::from_secs(
            wall.as_secs()
                .saturating_add(self.0.stepped.load(Ordering::SeqCst)),
        ))
    }

    fn monotonic(&self) -> Instant {
        let passed = self.0.passed.load(Ordering::SeqCst);
        Instant::now() + Duration::from_secs(passed.unsigned_abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_paused_sleep_moves_the_wall_and_a_step_moves_only_the_wall() {
        let clock = SimClock::new(UnixTime::from_secs(1_000_000));
        let monotonic = Instant::now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(clock.now(), Some(UnixTime::from_secs(1_003_600)));
        clock.step(-3 * 3600);
        assert_eq!(clock.now(), Some(UnixTime::from_secs(992_800)));
        assert_eq!(monotonic.elapsed(), Duration::from_secs(3600));
        assert_eq!(clock.clone().now(), clock.now());
        let (monotonic, wall) = (clock.monotonic(), clock.now().unwrap());
        clock.pass(30);
        assert_eq!(clock.monotonic() - monotonic, Duration::from_secs(30));
        assert_eq!(clock.now().unwrap().since(wall), Duration::from_secs(30));
        clock.step(-30);
        clock.set_absent(true);
        assert_eq!(clock.now(), None);
        clock.set_absent(false);
        assert_eq!(clock.now(), Some(UnixTime::from_secs(992_800)));
    }

    #[test]
    fn the_machine_shows_a_time_after_this_was_written() {
        assert!(SystemClock.now().unwrap() > UnixTime::from_secs(1_700_000_000));
    }
}

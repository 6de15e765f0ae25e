//! Time since the machine was started, as a seam: it goes on while the machine sleeps, and nobody can set it. Invariant: two readings are
//! compared only when they are of one boot.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

/// Which boot it is, and for how long.
pub trait BootTime: Send + Sync + fmt::Debug {
    /// Since the machine was started, its sleep included.
    fn elapsed(&self) -> Duration;
    /// A name that this boot has alone; empty when that is not known.
    fn id(&self) -> String;
}

/// A boot clock that several components share.
pub type SharedBoot = Arc<dyn BootTime>;

/// The machine's.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemBoot;

impl BootTime for SystemBoot {
    fn elapsed(&self) -> Duration {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (secs, nanos) = (u64::try_from(now.tv_sec), u32::try_from(now.tv_nsec));
        Duration::new(secs.unwrap_or(0), nanos.unwrap_or(0))
    }

    fn id(&self) -> String {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        id.trim().chars().take(64).collect()
    }
}

/// A boot for tests: it goes with tokio's (paused) time, as [`super::SimClock`] does. Inside a tokio runtime only.
#[derive(Clone, Debug)]
pub struct SimBoot {
    id: String,
    before: Duration,
    started: Instant,
}

impl SimBoot {
    /// A boot of this name that has gone on for `elapsed` now.
    pub fn new(id: &str, elapsed: Duration) -> Self {
        Self {
            id: id.to_owned(),
            before: elapsed,
            started: Instant::now(),
        }
    }
}

impl BootTime for SimBoot {
    fn elapsed(&self) -> Duration {
        self.before.saturating_add(self.started.elapsed())
    }

    fn id(&self) -> String {
        self.id.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_has_been_on_for_a_while_and_its_boot_has_a_name() {
        let first = SystemBoot.elapsed();
        assert!(first > Duration::ZERO && SystemBoot.elapsed() >= first);
        assert!(!SystemBoot.id().is_empty() && SystemBoot.id() == SystemBoot.id());
    }

    #[tokio::test(start_paused = true)]
    async fn a_simulated_boot_goes_with_paused_time() {
        let boot = SimBoot::new("one", Duration::from_secs(5));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((boot.elapsed().as_secs(), boot.id().as_str()), (65, "one"));
    }
}

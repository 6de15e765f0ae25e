//! How long to wait after a failure. Invariant: never longer than [`LONGEST`], however long it fails.

use std::time::Duration;

#[derive(Debug, Default)]
pub(super) struct Pace(Option<Duration>);

impl Pace {
    pub(super) fn is_well(&self) -> bool {
        self.0.is_none()
    }

    /// The pause before the next attempt.
    pub(super) fn fail(&mut self) -> Duration {
        let pause = self.0.map_or(FIRST, |last| (last * 2).min(LONGEST));
        self.0 = Some(pause);
        pause
    }

    /// Whether it had failed.
    pub(super) fn mend(&mut self) -> bool {
        self.0.take().is_some()
    }
}

const FIRST: Duration = Duration::from_secs(1);
pub(super) const LONGEST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_waited_for_longer_and_longer_and_forgotten_when_it_is_over() {
        let mut pace = Pace::default();
        let seconds: Vec<_> = (0..8).map(|_| pace.fail().as_secs()).collect();
        assert_eq!(seconds, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert!(pace.mend() && !pace.mend() && pace.is_well());
        assert_eq!(pace.fail(), FIRST);
    }
}

//! How long a server that had shown a ledger has shown nothing of it. Invariant: only time in which there was a connection counts, so an island is no
//! silence; and it is told once, until something is shown again.

use std::time::Duration;

use tokio::time::Instant;

#[derive(Debug, Default)]
pub(super) struct Silence {
    asked: Option<Instant>,
    lasted: Duration,
    is_told: bool,
}

impl Silence {
    /// An answer, or none to a question that was asked. Gives how long it lasts, when that is to be told now.
    pub(super) fn heard(&mut self, now: Instant, shown: bool) -> Option<Duration> {
        let since = self.asked.replace(now);
        if shown {
            (self.lasted, self.is_told) = (Duration::ZERO, false);
            return None;
        }
        // Between two questions there may have been no connection.
        let passed = since.map(|since| now.saturating_duration_since(since));
        self.lasted += passed.unwrap_or_default().min(APART);
        let is_due = self.lasted >= LONG && !self.is_told;
        self.is_told |= is_due;
        is_due.then_some(self.lasted)
    }

    /// How long, when it is too long.
    pub(super) fn is_long(&self) -> Option<Duration> {
        Some(self.lasted).filter(|lasted| *lasted >= LONG)
    }
}

/// A server that is mended, or of which the ledger was put back, has a day.
const LONG: Duration = Duration::from_secs(86_400);
/// Questions of one connection are not further apart.
const APART: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_of_questions_without_an_answer_is_told_once_and_an_island_is_none() {
        let (mut silence, mut now) = (Silence::default(), Instant::now());
        let mut ask = |silence: &mut Silence, after: u64, shown: bool| {
            now += Duration::from_secs(after);
            silence.heard(now, shown)
        };
        for shown in [true, false] {
            assert_eq!(ask(&mut silence, 300, shown), None);
        }
        // Thirty days alone are ten minutes of it.
        assert_eq!(ask(&mut silence, 30 * 86_400, false), None);
        for _ in 0..283 {
            assert_eq!(ask(&mut silence, 300, false), None);
            assert_eq!(silence.is_long(), None);
        }
        let told: Vec<_> = (0..300).filter_map(|_| ask(&mut silence, 300, false)).collect();
        assert_eq!(told, [LONG], "once");
        assert!(silence.is_long().is_some());
        assert_eq!(ask(&mut silence, 300, true), None);
        assert_eq!(silence.is_long(), None);
        let told = (0..300).filter_map(|_| ask(&mut silence, 300, false)).count();
        assert_eq!(told, 1, "and when it begins again");
    }
}

//! Durations of one kind, and what is told of them. Invariant: a percentile is a value that was measured, not one between two.

use std::time::Duration;

/// Sorted when asked.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples(Vec<Duration>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Duration) {
        self.0.push(sample);
    }

    pub(crate) fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The smallest that is not exceeded by `percent` of all, in milliseconds (nearest rank); nothing of nothing.
    pub(crate) fn percentile(&self, percent: f64) -> Option<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (percent / 100.0 * sorted.len() as f64).ceil() as usize;
        let at = rank.clamp(1, sorted.len().max(1)) - 1;
        sorted.get(at).map(|sample| sample.as_secs_f64() * 1e3)
    }
}

impl FromIterator<Duration> for Samples {
    fn from_iter<I: IntoIterator<Item = Duration>>(samples: I) -> Self {
        Self(samples.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(millis: &[u64]) -> Samples {
        millis.iter().map(|ms| Duration::from_millis(*ms)).collect()
    }

    #[test]
    fn a_percentile_is_the_nearest_rank() {
        let hundred = of(&(1..=100).rev().collect::<Vec<_>>());
        for (percent, value) in [
            (0.0, 1.0),
            (1.0, 1.0),
            (50.0, 50.0),
            (99.0, 99.0),
            (99.1, 100.0),
            (100.0, 100.0),
        ] {
            assert_eq!(hundred.percentile(percent), Some(value), "{percent}");
        }
        assert_eq!(of(&[7, 3]).percentile(50.0), Some(3.0));
        assert_eq!(of(&[7, 3]).percentile(51.0), Some(7.0));
        assert_eq!(of(&[5]).percentile(99.0), Some(5.0));
    }

    #[test]
    fn of_nothing_there_is_no_percentile() {
        assert_eq!(of(&[]).percentile(50.0), None);
        assert!(of(&[]).is_empty());
    }
}

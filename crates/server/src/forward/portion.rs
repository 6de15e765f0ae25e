//! How much is sent at once. Invariant: it shrinks until it passes in the time that a batch has, so that a slow way is slow and never an endless repetition;
//! and it grows slower than it shrinks.

/// Bytes of records.
#[derive(Debug)]
pub(super) struct Portion(usize);

impl Default for Portion {
    fn default() -> Self {
        Self(MOST)
    }
}

impl Portion {
    pub(super) fn bytes(&self) -> usize {
        self.0
    }

    /// It did not pass.
    pub(super) fn less(&mut self) {
        self.0 = (self.0 / 2).max(LEAST);
    }

    /// It did.
    pub(super) fn more(&mut self) {
        self.0 = (self.0 + self.0 / 8).min(MOST);
    }
}

const MOST: usize = 2 * 1024 * 1024;
/// A record of the greatest length: one always goes.
const LEAST: usize = 16 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_portion_that_does_not_pass_is_halved_and_one_that_does_grows_slowly() {
        let mut portion = Portion::default();
        portion.more();
        assert_eq!(portion.bytes(), MOST);
        portion.less();
        assert_eq!(portion.bytes(), MOST / 2);
        portion.more();
        assert_eq!(portion.bytes(), MOST / 2 / 8 * 9);
        for _ in 0..20 {
            portion.less();
        }
        assert_eq!(portion.bytes(), LEAST);
        for _ in 0..60 {
            portion.more();
        }
        assert_eq!(portion.bytes(), MOST);
    }
}

//! How many descriptors of callers are looked at where the kernel does not hand out the peer's pidfd (before Linux 6.5).
//!
//! Invariant: one caller costs at most [`Bounds::each`] looks and one user at most [`Bounds::rate`] a second beyond its first
//! [`Bounds::burst`], so no user's descriptors keep the accept loop from the others.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

/// What may be spent on the search.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Descriptors of one caller.
    pub(crate) each: u32,
    /// Descriptors of all callers of one user at once.
    pub(crate) burst: u32,
    /// What a user gets back in a second.
    pub(crate) rate: u32,
}

/// What each user has left.
#[derive(Debug)]
pub(crate) struct Budgets {
    pub(crate) bounds: Bounds,
    users: Mutex<Users>,
}

#[derive(Debug, Default)]
struct Users {
    /// Users who have spent lately: those who have all back are swept when it has doubled.
    accounts: HashMap<u32, Account>,
    sweep_at: usize,
}

#[derive(Clone, Copy, Debug)]
struct Account {
    left: u32,
    at: Instant,
}

impl Budgets {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let users = Mutex::default();
        Self { bounds, users }
    }

    /// How many descriptors may be looked at for this user now.
    pub(crate) fn left(&self, uid: u32) -> u32 {
        let users = self.lock();
        let account = users.accounts.get(&uid);
        account.map_or(self.bounds.burst, |account| {
            self.bounds.refilled(*account, Instant::now())
        })
    }

    /// Charges what was looked at.
    pub(crate) fn charge(&self, uid: u32, looked: u32) {
        let now = Instant::now();
        let mut users = self.lock();
        let account = users.accounts.get(&uid);
        let left = account.map_or(self.bounds.burst, |account| self.bounds.refilled(*account, now));
        let left = left.saturating_sub(looked);
        users.accounts.insert(uid, Account { left, at: now });
        if users.accounts.len() > users.sweep_at {
            let full = |account: &Account| self.bounds.refilled(*account, now) == self.bounds.burst;
            users.accounts.retain(|_, account| !full(account));
            users.sweep_at = (users.accounts.len() * 2).max(SWEEP_AT_LEAST);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Users> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::new(BOUNDS)
    }
}

impl Bounds {
    fn refilled(&self, account: Account, now: Instant) -> u32 {
        let passed = (now - account.at).as_millis();
        let back = passed.saturating_mul(self.rate.into()) / 1000;
        let left = back.saturating_add(account.left.into());
        u32::try_from(left).map_or(self.burst, |left| left.min(self.burst))
    }
}

/// A look takes one to several microseconds: 4,096 take some milliseconds, and a user some hundredths of the accept loop's time.
const BOUNDS: Bounds = Bounds {
    each: 4096,
    burst: 32_768,
    rate: 16_384,
};
const SWEEP_AT_LEAST: usize = 64;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_who_has_spent_all_waits_and_the_others_do_not() {
        let budgets = Budgets::default();
        while budgets.left(1000) > 0 {
            budgets.charge(1000, BOUNDS.each);
        }
        assert_eq!(budgets.left(1001), BOUNDS.burst);
        budgets.charge(1001, 10);
        assert_eq!(budgets.left(1001), BOUNDS.burst - 10);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(
            (budgets.left(1000), budgets.left(1001)),
            (BOUNDS.rate / 2, BOUNDS.burst)
        );
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(budgets.left(1000), BOUNDS.burst, "nobody saves up more");
    }

    #[tokio::test(start_paused = true)]
    async fn users_who_have_all_back_are_forgotten() {
        let budgets = Budgets::default();
        for uid in 0..100_000 {
            budgets.charge(uid, 1);
            tokio::time::advance(Duration::from_millis(1)).await;
        }
        assert!(budgets.lock().accounts.len() <= SWEEP_AT_LEAST + 1);
    }
}

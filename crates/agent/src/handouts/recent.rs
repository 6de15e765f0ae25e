//! Which hand-outs have a line of their own: not the same thing given again to the same process, as by clients that ask for a token before each
//! request of theirs, and not more than a user may have written, so that no program wears the flash or turns the file over.
//!
//! Invariant: what is over a user's rate is counted, and said in his next line; what one user writes takes no line from another; memory is bounded.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher as _, Hash};
use std::time::Duration;

use tokio::time::Instant;

pub(super) struct Recent {
    hasher: RandomState,
    /// Digests of what had a line since `since`, and of what had one in the half hour before.
    seen: HashSet<u64>,
    before: HashSet<u64>,
    since: Instant,
    users: HashMap<u32, User>,
}

struct User {
    left: f64,
    at: Instant,
    left_out: u64,
}

/// What becomes of a hand-out.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// It was written down a while ago.
    Again,
    /// It is over its user's rate.
    LeftOut,
    /// It gets a line, which says how many before it have none.
    Line { left_out: u64 },
}

impl Default for Recent {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            seen: HashSet::new(),
            before: HashSet::new(),
            since: Instant::now(),
            users: HashMap::new(),
        }
    }
}

impl Recent {
    pub(super) fn turn(&mut self, uid: u32, key: &impl Hash) -> Turn {
        let now = Instant::now();
        if self.seen.len() >= MOST_SEEN || now.duration_since(self.since) >= HALF {
            let long = now.duration_since(self.since) >= 2 * HALF;
            self.before = std::mem::take(&mut self.seen);
            if long {
                self.before.clear();
            }
            self.since = now;
        }
        let digest = self.hasher.hash_one(key);
        if self.seen.contains(&digest) || self.before.contains(&digest) {
            return Turn::Again;
        }
        let user = self.user(uid, now);
        user.left = user.filled(now);
        user.at = now;
        if user.left < 1.0 {
            user.left_out += 1;
            return Turn::LeftOut;
        }
        user.left -= 1.0;
        let left_out = std::mem::take(&mut user.left_out);
        self.seen.insert(digest);
        Turn::Line { left_out }
    }

    /// A full bucket says nothing any more. Who was over his rate and never came back, as users that are made for one run, leaves his count to nobody.
    fn forget(&mut self, now: Instant) {
        let mut left_out = 0;
        self.users.retain(|_, user| {
            let stays = user.filled(now) < BURST;
            left_out += if stays { 0 } else { user.left_out };
            stays
        });
        if left_out > 0 {
            self.bucket(super::NOBODY, now).left_out += left_out;
        }
    }

    fn user(&mut self, uid: u32, now: Instant) -> &mut User {
        let full = self.users.len() >= MOST_USERS && !self.users.contains_key(&uid);
        if full {
            self.forget(now);
        }
        let crowded = full && self.users.len() >= MOST_USERS;
        self.bucket(if crowded { super::NOBODY } else { uid }, now)
    }

    fn bucket(&mut self, uid: u32, now: Instant) -> &mut User {
        self.users.entry(uid).or_insert(User {
            left: BURST,
            at: now,
            left_out: 0,
        })
    }
}

impl User {
    fn filled(&self, now: Instant) -> f64 {
        let passed = now.duration_since(self.at).as_secs_f64();
        (self.left + passed / PER_LINE.as_secs_f64()).min(BURST)
    }
}

/// So many at once, as when a thousand streams of one program get their new SVID,
const BURST: f64 = 2000.0;
/// and one in so long after that: below 9 MB a day of one user.
const PER_LINE: Duration = Duration::from_secs(5);
/// What was given again has no line for half an hour at least, and for an hour at most.
const HALF: Duration = Duration::from_secs(1800);
const MOST_SEEN: usize = 8192;
const MOST_USERS: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: Turn = Turn::Line { left_out: 0 };

    #[tokio::test(start_paused = true)]
    async fn the_same_again_has_no_line_for_half_an_hour() {
        let mut recent = Recent::default();
        assert_eq!(recent.turn(1, &"a"), LINE);
        assert_eq!(recent.turn(1, &"a"), Turn::Again);
        assert_eq!(recent.turn(1, &"b"), LINE);
        tokio::time::advance(HALF - Duration::from_secs(1)).await;
        assert_eq!(recent.turn(1, &"a"), Turn::Again);
        tokio::time::advance(2 * HALF).await;
        assert_eq!(recent.turn(1, &"a"), LINE);
        tokio::time::advance(HALF).await;
        assert_eq!(recent.turn(1, &"a"), Turn::Again, "of the half hour before");
        tokio::time::advance(HALF).await;
        assert_eq!(recent.turn(1, &"a"), LINE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_user_over_his_rate_is_counted_and_takes_nothing_from_others() {
        let mut recent = Recent::default();
        let lines = |recent: &mut Recent, from: usize| {
            let turns = (from..from + 3000).map(|number| recent.turn(1, &number));
            turns.filter(|turn| *turn == LINE).count()
        };
        assert_eq!(lines(&mut recent, 0), 2000);
        assert_eq!(recent.turn(2, &0), LINE);
        tokio::time::advance(PER_LINE).await;
        assert_eq!(recent.turn(1, &"x"), Turn::Line { left_out: 1000 });
        assert_eq!(recent.turn(1, &"y"), Turn::LeftOut);
        tokio::time::advance(PER_LINE).await;
        assert_eq!(recent.turn(1, &"y"), Turn::Line { left_out: 1 });
    }

    /// As units with users that are made for each run.
    #[tokio::test(start_paused = true)]
    async fn users_that_never_come_back_keep_no_other_from_lines_of_his_own() {
        let mut recent = Recent::default();
        let over = BURST as usize + 1;
        for user in 0..MOST_USERS as u32 {
            for number in 0..over {
                recent.turn(1000 + user, &(user, number));
            }
        }
        assert_eq!(recent.turn(1, &"a"), LINE);
        assert!(!recent.users.contains_key(&1), "their rates count still");
        tokio::time::advance(PER_LINE * (over as u32 + 1)).await;
        for user in 2..100 {
            assert_eq!(recent.turn(user, &user), LINE);
            assert!(recent.users.contains_key(&user));
        }
        let left_out = MOST_USERS as u64;
        assert_eq!(
            recent.turn(super::super::NOBODY, &"b"),
            Turn::Line { left_out },
            "what was counted is said"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded() {
        let mut recent = Recent::default();
        for number in 0..100_000_u32 {
            recent.turn(number, &number);
        }
        assert!(recent.seen.len() + recent.before.len() <= 2 * MOST_SEEN);
        assert!(recent.users.len() <= MOST_USERS + 1);
    }
}

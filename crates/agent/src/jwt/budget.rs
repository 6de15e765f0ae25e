//! How many new tokens one user may ask the server for. Invariant: what one uses up no other lacks, and memory is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use landfast_identity::SelectorSet;
use tokio::time::Instant;

/// A token bucket for each user: each audience asked for anew is a signature at the server.
#[derive(Default)]
pub(crate) struct Budget(Mutex<HashMap<SelectorSet, Bucket>>);

/// Who is charged. Not the program: a copy of it under another name would have a budget of its own.
fn payer(selectors: &SelectorSet) -> SelectorSet {
    let uid = selectors
        .iter()
        .find(|selector| selector.kind() == "unix" && selector.value().starts_with("uid:"));
    uid.map_or_else(|| selectors.clone(), |uid| SelectorSet::from_iter([uid.clone()]))
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Bucket {
    fn filled(&self, now: Instant) -> f64 {
        (self.left + now.duration_since(self.at).as_secs_f64() * PER_SECOND).min(BURST)
    }
}

impl Budget {
    /// Takes one, if there is one.
    pub(crate) fn take(&self, selectors: &SelectorSet) -> bool {
        let (now, payer) = (Instant::now(), payer(selectors));
        let mut buckets = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_PAYERS && !buckets.contains_key(&payer) {
            // A full bucket says nothing any more.
            buckets.retain(|_, bucket| bucket.filled(now) < BURST);
            if buckets.len() >= MAX_PAYERS {
                return false;
            }
        }
        let bucket = buckets.entry(payer).or_insert(Bucket { left: BURST, at: now });
        let filled = bucket.filled(now);
        let passes = filled >= 1.0;
        *bucket = Bucket {
            left: if passes { filled - 1.0 } else { filled },
            at: now,
        };
        passes
    }
}

/// Far below what a server signs for one agent.
const PER_SECOND: f64 = 50.0;
const BURST: f64 = 200.0;
/// As many as there can be users with connections, about.
const MAX_PAYERS: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use landfast_identity::Selector;
    use std::time::Duration;

    fn user(uid: usize) -> SelectorSet {
        SelectorSet::from_iter([Selector::parse(&format!("unix:uid:{uid}")).unwrap()])
    }

    #[tokio::test(start_paused = true)]
    async fn one_workload_cannot_use_up_what_another_needs() {
        let budget = Budget::default();
        let served = (0..1000).filter(|_| budget.take(&user(1))).count();
        assert_eq!(served, 200);
        assert!(budget.take(&user(2)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((0..1000).filter(|_| budget.take(&user(1))).count(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn a_copy_of_the_program_is_charged_to_the_same_user() {
        let budget = Budget::default();
        let program = |n: usize| {
            let texts = [
                "unix:gid:1".to_owned(),
                format!("unix:path:/tmp/{n}"),
                format!("unix:sha256:{n:064}"),
                "unix:uid:1".to_owned(),
            ];
            texts.iter().map(|text| Selector::parse(text).unwrap()).collect()
        };
        assert_eq!((0..1000).filter(|n| budget.take(&program(*n))).count(), 200);
        assert!(budget.take(&user(2)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_buckets_is_bounded() {
        let budget = Budget::default();
        for uid in 0..MAX_PAYERS {
            assert!(budget.take(&user(uid)));
        }
        assert!(!budget.take(&user(MAX_PAYERS)));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(budget.take(&user(MAX_PAYERS)));
        assert_eq!(budget.0.lock().unwrap().len(), 1);
    }
}

//! How much of a ledger is a node's. Invariant: in the long run no node brings more than [`A_SECOND`], whatever it sends, so one that is stolen fills no
//! disk in days; what it has brought before costs nothing again; and what is remembered of nodes is bounded.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// By node: what is left, and when that was so. One that has rested is not remembered.
#[derive(Debug, Default)]
pub(super) struct Budget(Mutex<HashMap<String, (f64, Instant)>>);

impl Budget {
    /// Takes so many bytes; else how long until there are enough.
    pub(super) fn draw(&self, node: &str, bytes: usize) -> Result<(), Duration> {
        let now = Instant::now();
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if nodes.len() >= MOST_NODES && !nodes.contains_key(node) {
            nodes.retain(|_, (left, at)| now_left(*left, *at, now) < AT_ONCE);
            if nodes.len() >= MOST_NODES {
                return Err(CROWDED);
            }
        }
        let (left, at) = nodes.entry(node.to_owned()).or_insert((AT_ONCE, now));
        (*left, *at) = (now_left(*left, *at, now), now);
        // Exact: a batch is far below 2^52.
        let bytes = bytes as f64;
        if bytes > *left {
            return Err(Duration::from_secs_f64((bytes - *left) / A_SECOND));
        }
        *left -= bytes;
        Ok(())
    }

    /// It was not taken.
    pub(super) fn give_back(&self, node: &str, bytes: usize) {
        let mut nodes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((left, _)) = nodes.get_mut(node) {
            *left = (*left + bytes as f64).min(AT_ONCE);
        }
    }
}

fn now_left(left: f64, at: Instant, now: Instant) -> f64 {
    (left + now.duration_since(at).as_secs_f64() * A_SECOND).min(AT_ONCE)
}

/// What stands around a line in the ledger.
pub(super) const AROUND: usize = 256;
/// A record of a hole, of another journal, of a contradiction.
pub(super) const NOTICED: usize = 1024;
/// Bytes, in the long run: eighty times what an agent writes.
const A_SECOND: f64 = 2048.0;
/// And at once: the longest journal, of short lines, after an island.
const AT_ONCE: f64 = (16 << 20) as f64;
/// As many as a server is made for, and more.
const MOST_NODES: usize = 65_536;
const CROWDED: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_node_brings_an_islands_journal_at_once_and_then_little_and_none_uses_up_anothers() {
        let budget = Budget::default();
        let batch = 256 << 10;
        let batches = |node| (0..1000).filter(|_| budget.draw(node, batch).is_ok()).count();
        assert_eq!(batches("a"), 64);
        assert_eq!(budget.draw("a", batch), Err(Duration::from_secs(128)));
        assert_eq!(batches("b"), 64);
        tokio::time::advance(Duration::from_secs(128)).await;
        assert_eq!(batches("a"), 1);
        budget.give_back("a", batch);
        assert_eq!(batches("a"), 1, "what was not taken costs nothing");
        // A day of it, whoever has the node's key: below 200 MB.
        let mut day = 0;
        for _ in 0..24 {
            tokio::time::advance(Duration::from_secs(3600)).await;
            day += batches("a") * batch;
        }
        assert!(day < 200_000_000, "{day}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_remembered_of_nodes_is_bounded() {
        let budget = Budget::default();
        for node in 0..MOST_NODES {
            assert!(budget.draw(&node.to_string(), 1).is_ok());
        }
        assert_eq!(budget.draw("one more", 1), Err(CROWDED));
        assert!(budget.draw("7", 1).is_ok());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(budget.draw("one more", 1).is_ok(), "who has rested is forgotten");
    }
}

//! Turns for what strangers have the server read, where signatures are recorded as well.
//!
//! Invariant: one reads at a time, and of one address one waits for that: the others of that address wait behind it, and not in the way of anybody else.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use crate::endpoints::network;

/// See the module.
pub(crate) struct Turns {
    one: Semaphore,
    /// Who waits or reads: no more than there are calls under way.
    waiting: Mutex<HashMap<String, Waiting>>,
}

struct Waiting {
    /// Of this address, with the one that reads.
    count: usize,
    first: Arc<Semaphore>,
}

/// While it is held nobody else reads.
pub(crate) struct Turn<'a> {
    _place: Place<'a>,
    _held: (OwnedSemaphorePermit, SemaphorePermit<'a>),
}

struct Place<'a> {
    turns: &'a Turns,
    address: String,
}

impl Turns {
    pub(crate) fn new() -> Self {
        Self {
            one: Semaphore::new(1),
            waiting: Mutex::default(),
        }
    }

    /// The turn of somebody there. `None` when it has not come for too long.
    pub(crate) async fn take(&self, address: &str) -> Option<Turn<'_>> {
        // An IPv6 network is one customer's.
        let address = match address.parse::<IpAddr>() {
            Ok(address) => network(address).to_string(),
            Err(_no_address) => address.to_owned(),
        };
        let first = {
            let mut waiting = self.waiting();
            let of = waiting.entry(address.clone()).or_insert_with(|| Waiting {
                count: 0,
                first: Arc::new(Semaphore::new(1)),
            });
            of.count += 1;
            Arc::clone(&of.first)
        };
        let place = Place { turns: self, address };
        let held = async {
            let first = first.acquire_owned().await.ok()?;
            Some((first, self.one.acquire().await.ok()?))
        };
        let held = tokio::time::timeout(PATIENCE, held).await.ok()??;
        Some(Turn {
            _place: place,
            _held: held,
        })
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<String, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut waiting = self.turns.waiting();
        if let Some(of) = waiting.get_mut(&self.address) {
            of.count -= 1;
            if of.count == 0 {
                waiting.remove(&self.address);
            }
        }
    }
}

/// For who waits for others.
const PATIENCE: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;

    use super::*;

    /// T-46c.
    #[tokio::test(start_paused = true)]
    async fn an_address_that_asks_much_waits_behind_itself() {
        let turns = Turns::new();
        let order = Mutex::new(Vec::new());
        let ask = async |address: &'static str| {
            let turn = turns.take(address).await.expect("a turn");
            order.lock().unwrap().push(address);
            tokio::time::sleep(Duration::from_millis(10)).await;
            drop(turn);
        };
        let crowd = ["10.0.0.1", "2001:db8::1", "2001:db8::2"].into_iter().cycle();
        let all = crowd.take(60).chain(["10.0.0.9"]);
        join_all(all.map(ask)).await;
        let order = order.into_inner().unwrap();
        assert_eq!(order.len(), 61);
        let at = order.iter().position(|address| *address == "10.0.0.9");
        assert!(at < Some(4), "{at:?}");
        assert!(turns.waiting().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_too_long_is_told_and_leaves_nothing() {
        let turns = Turns::new();
        let held = turns.take("10.0.0.1").await;
        assert!(turns.take("10.0.0.2").await.is_none());
        assert!(turns.take("10.0.0.1").await.is_none());
        assert_eq!(turns.waiting().len(), 1);
        drop(held);
        assert!(turns.waiting().is_empty());
        assert!(turns.take("10.0.0.2").await.is_some());
    }
}

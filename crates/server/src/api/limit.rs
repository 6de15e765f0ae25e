//! How often an address may ask. Invariant: bounded memory, whatever the number of addresses.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;
use tonic::Status;

use crate::endpoints::TlsPeer;

/// A token bucket per address; the admin socket is not limited.
pub(crate) struct RateLimit {
    per_second: u32,
    what: &'static str,
    buckets: Mutex<HashMap<IpAddr, Bucket>>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl RateLimit {
    pub(crate) fn new(per_second: u32, what: &'static str) -> Self {
        Self {
            per_second,
            what,
            buckets: Mutex::default(),
        }
    }

    /// Charges `count`. A burst may be as large as two seconds' worth.
    ///
    /// # Errors
    /// ResourceExhausted naming the limit.
    pub(crate) fn charge<T>(&self, request: &tonic::Request<T>, count: usize) -> Result<(), Status> {
        let Some(peer) = request.extensions().get::<TlsPeer>() else {
            return Ok(());
        };
        if self.take(peer.ip(), count) {
            return Ok(());
        }
        metrics::counter!("landfast_server_rate_limited_total", "what" => self.what).increment(1);
        Err(Status::resource_exhausted(format!(
            "rate limit exceeded: {} {} a second from one address; wait and try again",
            self.per_second, self.what
        )))
    }

    fn take(&self, address: IpAddr, count: usize) -> bool {
        let now = Instant::now();
        let burst = f64::from(self.per_second) * 2.0;
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= MAX_ADDRESSES {
            let rate = f64::from(self.per_second);
            // A bucket that has filled up again says nothing any more.
            buckets
                .retain(|_, bucket| bucket.left + now.duration_since(bucket.at).as_secs_f64() * rate < burst);
            if buckets.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let bucket = buckets.entry(address).or_insert(Bucket { left: burst, at: now });
        let filled = bucket.left + now.duration_since(bucket.at).as_secs_f64() * f64::from(self.per_second);
        bucket.left = filled.min(burst);
        bucket.at = now;
        // A batch larger than the burst passes a full bucket and leaves a debt.
        let wanted = u32::try_from(count).map_or(f64::MAX, f64::from);
        let passes = bucket.left >= wanted.min(burst);
        if passes {
            bucket.left -= wanted;
        }
        passes
    }
}

/// Addresses that are remembered; more at a time are refused.
const MAX_ADDRESSES: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_when_its_burst_is_gone_and_served_again_later() {
        let limit = RateLimit::new(2, "things");
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        for _ in 0..4 {
            assert!(limit.take(one, 1));
        }
        assert!(!limit.take(one, 1));
        assert!(limit.take(other, 1));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(limit.take(one, 1));
        assert!(!limit.take(one, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_batch_passes_once_and_leaves_a_debt() {
        let limit = RateLimit::new(10, "things");
        let address = IpAddr::from([127, 0, 0, 1]);
        assert!(limit.take(address, 100));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!limit.take(address, 1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limit.take(address, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_addresses_is_bounded() {
        let limit = RateLimit::new(1, "things");
        for n in 0..u32::try_from(MAX_ADDRESSES).unwrap() {
            assert!(limit.take(IpAddr::from(n.to_be_bytes()), 1));
        }
        let late = IpAddr::from([255, 255, 255, 255]);
        assert!(!limit.take(late, 1));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limit.take(late, 1));
        assert!(limit.buckets.lock().unwrap().len() < MAX_ADDRESSES);
    }
}

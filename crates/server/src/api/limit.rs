//! How often one may ask. Invariant: bounded memory, whatever the number of callers; no agent uses up what another may have.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use landfast_identity::{SpiffeId, TrustDomain};
use landfast_lifecycle::spread_within;
use tokio::time::Instant;
use tonic::Status;

use crate::admission::come_again;
use crate::endpoints::{TlsPeer, network};
use crate::random;

/// A token bucket per agent, or per address for who shows no certificate; the admin socket is not limited.
pub(crate) struct RateLimit {
    per_second: u32,
    burst: u32,
    what: &'static str,
    buckets: Mutex<Buckets>,
}

/// Bounded by [`MAX_CALLERS`].
#[derive(Default)]
struct Buckets {
    of: HashMap<Who, Bucket>,
    /// When the full ones were last thrown away.
    cleaned: Option<Instant>,
}

/// What becomes of a caller that is new when as many as possible are remembered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Crowd {
    Refuse,
    /// For what else bounds.
    Admit,
}

/// Whose bucket.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Who {
    Peer(SpiffeId),
    Network(IpAddr),
}

struct Bucket {
    left: f64,
    at: Instant,
    /// When it was last in the log.
    complained: Option<Instant>,
}

impl RateLimit {
    /// So many a second in the long run, and so many at once after a rest.
    pub(crate) fn new(per_second: u32, burst: u32, what: &'static str) -> Self {
        Self {
            per_second,
            burst,
            what,
            buckets: Mutex::default(),
        }
    }

    /// Charges `count`.
    ///
    /// # Errors
    /// ResourceExhausted naming the limit, with when to come again.
    pub(crate) fn charge<T>(&self, request: &tonic::Request<T>, count: usize) -> Result<(), Status> {
        let Some(who) = who(request) else { return Ok(()) };
        let Err(wait) = self.draw(who, count, Crowd::Refuse) else {
            return Ok(());
        };
        metrics::counter!("landfast_server_rate_limited_total", "what" => self.what).increment(1);
        let status = Status::resource_exhausted(format!(
            "rate limit exceeded: {} {} a second; wait and try again",
            self.per_second, self.what
        ));
        // Many nodes may share an address, and with it the limit.
        let spread = spread_within(wait.max(SPREAD), &random::bytes::<8>().unwrap_or_default());
        Err(come_again(status, wait + spread))
    }

    /// Gives back what was charged for a request that came to nothing.
    pub(crate) fn give_back<T>(&self, request: &tonic::Request<T>, count: usize) {
        let Some(who) = who(request) else { return };
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = buckets.of.get_mut(&who) {
            bucket.left += u32::try_from(count).map_or(0.0, f64::from);
        }
    }

    /// Charges one for a connection of which nothing is known but where it comes from. Who cannot be remembered is admitted: else an attacker
    /// with many addresses closes the door to everybody, and connections are bounded as well.
    pub(crate) fn admits(&self, address: IpAddr) -> bool {
        let admitted = self.draw(Who::Network(network(address)), 1, Crowd::Admit).is_ok();
        if !admitted {
            metrics::counter!("landfast_server_rate_limited_total", "what" => self.what).increment(1);
        }
        admitted
    }

    /// Else how long it takes until there is enough.
    fn draw(&self, who: Who, count: usize, crowd: Crowd) -> Result<(), Duration> {
        let now = Instant::now();
        let burst = f64::from(self.burst);
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.of.len() >= MAX_CALLERS && !buckets.of.contains_key(&who) {
            buckets.clean(now, f64::from(self.per_second), burst);
            if buckets.of.len() >= MAX_CALLERS {
                return match crowd {
                    Crowd::Admit => Ok(()),
                    Crowd::Refuse => Err(CLEANING),
                };
            }
        }
        let bucket = buckets.of.entry(who.clone()).or_insert(Bucket {
            left: burst,
            at: now,
            complained: None,
        });
        let filled = bucket.left + now.duration_since(bucket.at).as_secs_f64() * f64::from(self.per_second);
        bucket.left = filled.min(burst);
        bucket.at = now;
        // A batch larger than the burst passes a full bucket and leaves a debt.
        let wanted = u32::try_from(count).map_or(f64::MAX, f64::from);
        let missing = wanted.min(burst) - bucket.left;
        if missing <= 0.0 {
            bucket.left -= wanted;
            return Ok(());
        }
        if bucket
            .complained
            .is_none_or(|last| now.duration_since(last) >= COMPLAINTS)
        {
            bucket.complained = Some(now);
            let (what, per_second, burst) = (self.what, self.per_second, self.burst);
            tracing::warn!(
                ?who,
                what,
                per_second,
                burst,
                "a caller reached its limit (`limits` in the configuration)"
            );
        }
        Err(Duration::from_secs_f64(
            missing / f64::from(self.per_second.max(1)),
        ))
    }
}

fn who<T>(request: &tonic::Request<T>) -> Option<Who> {
    let peer = request.extensions().get::<TlsPeer>()?;
    Some(match peer.verified() {
        Some(peer) => Who::Peer(peer.id.clone()),
        None => Who::Network(network(peer.ip())),
    })
}

/// The network that it comes from; empty on the admin socket.
pub(crate) fn address<T>(request: &tonic::Request<T>) -> String {
    let peer = request.extensions().get::<TlsPeer>();
    peer.map_or_else(String::new, |peer| network(peer.ip()).to_string())
}

/// A name for whom it comes from, also for who shows no certificate: all of an address have one. `None` on the admin socket.
pub(crate) fn named<T>(request: &tonic::Request<T>, trust_domain: &TrustDomain) -> Option<SpiffeId> {
    match who(request)? {
        Who::Peer(id) => Some(id),
        Who::Network(address) => {
            let address = address.to_string().replace(':', "_");
            SpiffeId::from_parts(trust_domain, &format!("/spire/server/stranger/{address}")).ok()
        }
    }
}

impl Buckets {
    /// A bucket that has filled up again says nothing any more. All are looked at for it, so not for each caller.
    fn clean(&mut self, now: Instant, rate: f64, burst: f64) {
        if self
            .cleaned
            .is_some_and(|last| now.duration_since(last) < CLEANING)
        {
            return;
        }
        self.cleaned = Some(now);
        self.of
            .retain(|_, bucket| bucket.left + now.duration_since(bucket.at).as_secs_f64() * rate < burst);
    }
}

/// Callers that are remembered.
const MAX_CALLERS: usize = 16_384;
const CLEANING: Duration = Duration::from_secs(1);
/// Those who are told to wait come again at least so far apart.
const SPREAD: Duration = Duration::from_secs(1);
/// Of one caller in the log.
const COMPLAINTS: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    impl RateLimit {
        fn take(&self, who: Who, count: usize, crowd: Crowd) -> bool {
            self.draw(who, count, crowd).is_ok()
        }
    }

    fn at(address: [u8; 4]) -> Who {
        Who::Network(IpAddr::from(address))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_when_its_burst_is_gone_and_served_again_later() {
        let limit = RateLimit::new(2, 5, "things");
        let (one, other) = (at([127, 0, 0, 1]), at([127, 0, 0, 2]));
        for _ in 0..5 {
            assert!(limit.take(one.clone(), 1, Crowd::Refuse));
        }
        assert!(!limit.take(one.clone(), 1, Crowd::Refuse));
        assert!(limit.take(other.clone(), 1, Crowd::Refuse));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!(limit.take(one.clone(), 1, Crowd::Refuse));
        assert!(!limit.take(one.clone(), 1, Crowd::Refuse));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_refused_learns_when_there_is_enough_again() {
        let limit = RateLimit::new(10, 20, "things");
        let one = at([127, 0, 0, 1]);
        assert_eq!(limit.draw(one.clone(), 15, Crowd::Refuse), Ok(()));
        assert_eq!(
            limit.draw(one.clone(), 10, Crowd::Refuse),
            Err(Duration::from_millis(500))
        );
        tokio::time::advance(Duration::from_millis(499)).await;
        assert!(!limit.take(one.clone(), 10, Crowd::Refuse));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert!(limit.take(one, 10, Crowd::Refuse));
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_batch_passes_once_and_leaves_a_debt() {
        let limit = RateLimit::new(10, 20, "things");
        let address = at([127, 0, 0, 1]);
        assert!(limit.take(address.clone(), 100, Crowd::Refuse));
        tokio::time::advance(Duration::from_secs(7)).await;
        assert!(!limit.take(address.clone(), 1, Crowd::Refuse));
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limit.take(address.clone(), 1, Crowd::Refuse));
    }

    /// T-17d.
    #[tokio::test(start_paused = true)]
    async fn an_agent_with_many_entries_starts_twice_and_then_goes_on_slowly() {
        let defaults = crate::config::ServerLimits::default();
        let limit = RateLimit::new(defaults.signatures, defaults.signatures_burst, "things");
        let agent = Who::Peer(SpiffeId::parse("spiffe://plant.test/spire/agent/x").unwrap());
        let batches = |count| {
            (0..count)
                .filter(|_| limit.take(agent.clone(), 500, Crowd::Refuse))
                .count()
        };
        assert_eq!(batches(50), 40);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(batches(50), 40, "rested");
        let mut an_hour = 0;
        for _ in 0..3600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            an_hour += batches(50);
        }
        // 10,000 entries renewed each half hour are 40 of these.
        assert_eq!(an_hour, 72);
    }

    #[tokio::test(start_paused = true)]
    async fn the_number_of_addresses_is_bounded() {
        let limit = RateLimit::new(1, 2, "things");
        for n in 0..u32::try_from(MAX_CALLERS).unwrap() {
            assert!(limit.take(at(n.to_be_bytes()), 1, Crowd::Refuse));
        }
        let late = at([255, 255, 255, 255]);
        assert!(!limit.take(late.clone(), 1, Crowd::Refuse));
        assert!(
            limit.take(at([0, 0, 0, 0]), 1, Crowd::Refuse),
            "who is known has its own"
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(limit.take(late.clone(), 1, Crowd::Refuse));
        assert!(limit.buckets.lock().unwrap().of.len() < MAX_CALLERS);
    }

    #[tokio::test(start_paused = true)]
    async fn a_crowd_keeps_no_connection_out_and_those_that_are_known_are_limited_all_the_same() {
        let limit = RateLimit::new(1, 2, "things");
        for n in 0..u32::try_from(MAX_CALLERS).unwrap() {
            assert!(limit.admits(IpAddr::from(n.to_be_bytes())));
        }
        let late = IpAddr::from([255, 255, 255, 255]);
        assert!((0..10).all(|_| limit.admits(late)));
        assert_eq!(limit.buckets.lock().unwrap().of.len(), MAX_CALLERS);
        let known = IpAddr::from([0, 0, 0, 1]);
        assert!(limit.admits(known) && !limit.admits(known));
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_is_walked_once_a_second_at_most() {
        let limit = RateLimit::new(100, 2, "things");
        for n in 0..u32::try_from(MAX_CALLERS).unwrap() {
            limit.admits(IpAddr::from(n.to_be_bytes()));
        }
        let (late, known) = (IpAddr::from([255, 255, 255, 255]), || {
            limit.buckets.lock().unwrap().of.len()
        });
        limit.admits(late);
        // All have filled up again, but somebody has just looked.
        tokio::time::advance(Duration::from_millis(900)).await;
        limit.admits(late);
        assert_eq!(known(), MAX_CALLERS);
        tokio::time::advance(Duration::from_millis(100)).await;
        limit.admits(late);
        assert_eq!(known(), 1);
    }
}

//! Places of connections, counted by whose they are. Invariant: no address and no identity takes more than its share, and who shows nothing
//! cannot take the places of those who do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use landfast_identity::SpiffeId;
use tokio::time::Instant;

use super::intake::{Intake, Total};

/// The counts. At most as many as there are connections.
#[derive(Clone)]
pub(crate) struct Places(Arc<Inner>);

struct Inner {
    /// What anybody may have of all connections, whatever else is said.
    share: usize,
    /// What one address may have in the handshake.
    arriving: usize,
    /// Messages of those who show nothing, and of the others: the ones take no room from the others.
    strangers: Arc<Total>,
    known: Arc<Total>,
    taken: Mutex<HashMap<Who, Taken>>,
    complained: Mutex<Option<Instant>>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
enum Who {
    /// Has not shown yet who it is.
    Arriving(IpAddr),
    /// Has shown no certificate, or one that opens nothing here.
    Stranger(IpAddr),
    Known(SpiffeId),
}

struct Taken {
    connections: usize,
    intake: Arc<Intake>,
}

/// One connection's place, given back when dropped.
pub(crate) struct Place {
    places: Places,
    who: Who,
    intake: Arc<Intake>,
}

impl Places {
    /// Of so many connections in all.
    pub(crate) fn new(connections: usize) -> Self {
        Self(Arc::new(Inner {
            share: (connections / 4).max(1),
            arriving: (connections / 16).max(ARRIVING),
            strangers: Total::of(STRANGERS_BYTES),
            known: Total::of(KNOWN_BYTES),
            taken: Mutex::default(),
            complained: Mutex::default(),
        }))
    }

    /// For the time of the handshake, unless the address has all it may have; so the others.
    pub(super) fn arrive(&self, address: IpAddr) -> Option<Place> {
        self.enter(Who::Arriving(network(address)), self.0.arriving)
    }

    pub(crate) fn stranger(&self, address: IpAddr) -> Option<Place> {
        self.enter(Who::Stranger(network(address)), STRANGERS)
    }

    pub(super) fn known(&self, id: &SpiffeId) -> Option<Place> {
        self.enter(Who::Known(id.clone()), KNOWN)
    }

    fn enter(&self, who: Who, most: usize) -> Option<Place> {
        let mut all = self.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = all.entry(who.clone()).or_insert_with(|| Taken {
            connections: 0,
            intake: Intake::within(match who {
                Who::Known(_) => &self.0.known,
                Who::Arriving(_) | Who::Stranger(_) => &self.0.strangers,
            }),
        });
        if taken.connections >= most.min(self.0.share) {
            drop(all);
            self.complain(&who);
            return None;
        }
        taken.connections += 1;
        Some(Place {
            places: self.clone(),
            who,
            intake: Arc::clone(&taken.intake),
        })
    }

    /// Once a minute: who floods the server shall not flood its log.
    fn complain(&self, who: &Who) {
        metrics::counter!("landfast_server_connections_refused_total").increment(1);
        let mut last = self.0.complained.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if last.is_none_or(|last| now.duration_since(last) >= Duration::from_secs(60)) {
            *last = Some(now);
            tracing::warn!(?who, "too many connections of one peer; refusing further ones");
        }
    }
}

impl Place {
    /// What the holder makes us hold, on all its connections together.
    pub(super) fn intake(&self) -> Arc<Intake> {
        Arc::clone(&self.intake)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.places.0.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(taken) = all.get_mut(&self.who) {
            taken.connections -= 1;
            if taken.connections == 0 {
                all.remove(&self.who);
            }
        }
    }
}

/// What one customer holds: an IPv4 address, an IPv6 /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(v4) => IpAddr::V4(v4),
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
    }
}

/// A plant of agents behind one address may come back all at once. A handshake takes two round trips: over half a second of them, that is
/// still 512 agents a second. A server that is made for more connections has more of these: a sixteenth.
const ARRIVING: usize = 256;
/// Messages: 8 addresses that each hold all they may.
const STRANGERS_BYTES: usize = 32 << 20;
/// 24 agents likewise, or 30,000 with a batch of ten CSRs.
const KNOWN_BYTES: usize = 96 << 20;
/// A site behind one address joins a few nodes at a time.
const STRANGERS: usize = 32;
/// An agent needs two; the scripts of an administrator may share one identity.
const KNOWN: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let places = Places::new(4096);
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut held: Vec<_> = (0..STRANGERS).map(|_| places.stranger(one).unwrap()).collect();
        assert!(places.stranger(one).is_none());
        assert!(places.stranger(other).is_some());
        assert!(places.arrive(one).is_some(), "counted apart");
        held.pop();
        assert!(places.stranger(one).is_some());
        drop(held);
        assert!(places.0.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn an_identity_has_so_many_places_wherever_it_calls_from() {
        let places = Places::new(4096);
        let id = |text: &str| SpiffeId::parse(text).unwrap();
        let one = id("spiffe://plant.test/one");
        let held: Vec<_> = (0..KNOWN).map(|_| places.known(&one).unwrap()).collect();
        assert!(places.known(&one).is_none());
        assert!(places.known(&id("spiffe://plant.test/other")).is_some());
        drop(held);
        assert!(places.known(&one).is_some());
    }

    #[test]
    fn nobody_has_more_than_a_quarter_of_a_small_server() {
        let places = Places::new(8);
        let address = IpAddr::from([127, 0, 0, 1]);
        let _held = (places.arrive(address).unwrap(), places.arrive(address).unwrap());
        assert!(places.arrive(address).is_none());
        assert!(Places::new(1).arrive(address).is_some());
    }

    #[test]
    fn an_ipv6_customer_is_one_whatever_address_it_takes() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8:0:1::1"), parse("2001:db8:0:1:ffff::2"));
        assert_ne!(parse("2001:db8:0:1::1"), parse("2001:db8:0:2::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
    }
}

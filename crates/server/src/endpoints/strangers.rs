//! Connections without a certificate, counted by address. Invariant: who shows nothing cannot take the places of those who do.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// The counts. At most as many addresses as there are connections.
#[derive(Clone, Default)]
pub(crate) struct Strangers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One stranger's place, given back when dropped.
pub(crate) struct Place {
    strangers: Strangers,
    address: IpAddr,
}

impl Strangers {
    /// A place, unless the address has all it may have.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Place> {
        let address = network(address);
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(address).or_default();
        if *count >= PER_ADDRESS {
            return None;
        }
        *count += 1;
        Some(Place {
            strangers: self.clone(),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.strangers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.address);
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

/// A site behind one address joins a few nodes at a time.
const PER_ADDRESS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_gets_them_back() {
        let strangers = Strangers::default();
        let (one, other) = (IpAddr::from([127, 0, 0, 1]), IpAddr::from([127, 0, 0, 2]));
        let mut places: Vec<_> = (0..PER_ADDRESS).map(|_| strangers.enter(one).unwrap()).collect();
        assert!(strangers.enter(one).is_none());
        assert!(strangers.enter(other).is_some());
        places.pop();
        assert!(strangers.enter(one).is_some());
        drop(places);
        assert!(strangers.0.lock().unwrap().is_empty());
    }

    #[test]
    fn an_ipv6_customer_is_one_whatever_address_it_takes() {
        let parse = |text: &str| network(text.parse().unwrap());
        assert_eq!(parse("2001:db8:0:1::1"), parse("2001:db8:0:1:ffff::2"));
        assert_ne!(parse("2001:db8:0:1::1"), parse("2001:db8:0:2::1"));
        assert_eq!(parse("::ffff:10.0.0.1"), parse("10.0.0.1"));
    }
}

//! What all simulated agents share: where the server is, whom they believe, and the tallies of what they did.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use landfast_identity::{Bundle, BundleSet, SpiffeId, TrustDomain};
use landfast_lifecycle::{Clock as _, SystemClock};
use landfast_tls::{BundleStore, Expect, IdentityStore, client_config};
use rustls::ClientConfig;

use crate::BoxError;
use crate::meter::Meter;

/// One server and its trust domain.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    pub(crate) trust_domain: TrustDomain,
    bundles: BundleStore,
    /// For those that have no SVID yet.
    pub(crate) stranger: Arc<ClientConfig>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) connects: Tally,
    pub(crate) follows: Tally,
    pub(crate) signs: Tally,
}

/// How often something was tried, and with what success.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) attempts: AtomicU64,
    pub(crate) successes: AtomicU64,
    /// Refusals that said when to come again.
    pub(crate) pushed_back: AtomicU64,
}

impl Site {
    pub(crate) fn new(address: SocketAddr, bundle: Bundle) -> Result<Self, BoxError> {
        let trust_domain = bundle.trust_domain().clone();
        let bundles = BundleStore::new(BundleSet::from_iter([bundle]));
        let stranger = config(&trust_domain, &bundles, None)?;
        Ok(Self {
            address,
            trust_domain,
            bundles,
            stranger,
            meter: Arc::default(),
            connects: Tally::default(),
            follows: Tally::default(),
            signs: Tally::default(),
        })
    }

    /// For one that shows what is in the store.
    pub(crate) fn tls(&self, identity: IdentityStore) -> Result<Arc<ClientConfig>, BoxError> {
        config(&self.trust_domain, &self.bundles, Some(identity))
    }

    /// Each agent has an address of its own when all are on the loopback: servers limit what comes from one, and a fleet does not.
    pub(crate) fn source(&self, number: usize) -> Option<IpAddr> {
        let IpAddr::V4(server) = self.address.ip() else {
            return None;
        };
        let number = u32::try_from(number).ok()?;
        server
            .is_loopback()
            .then(|| IpAddr::V4(Ipv4Addr::from_bits(FIRST.to_bits() + number)))
    }

    pub(crate) fn now(&self) -> i64 {
        SystemClock.now().map_or(0, landfast_identity::UnixTime::as_secs)
    }
}

impl Tally {
    pub(crate) fn attempt(&self) {
        self.attempts.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn success(&self) {
        self.successes.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> [u64; 3] {
        [&self.attempts, &self.successes, &self.pushed_back].map(|count| count.load(Ordering::Relaxed))
    }

    pub(crate) fn reset(&self) {
        for count in [&self.attempts, &self.successes, &self.pushed_back] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

fn config(
    trust_domain: &TrustDomain,
    bundles: &BundleStore,
    identity: Option<IdentityStore>,
) -> Result<Arc<ClientConfig>, BoxError> {
    let expect = Expect::Exactly(SpiffeId::server(trust_domain));
    Ok(client_config(
        expect,
        bundles.clone(),
        identity,
        Arc::new(SystemClock),
    )?)
}

const FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_have_addresses_of_their_own_on_the_loopback_alone() {
        let bundle = || Bundle::new(TrustDomain::parse("bench.test").unwrap());
        let site = Site::new("127.0.0.1:8081".parse().unwrap(), bundle()).unwrap();
        assert_eq!(site.source(0), Some("127.1.0.1".parse().unwrap()));
        assert_eq!(site.source(15_000), Some("127.1.58.153".parse().unwrap()));
        let elsewhere = Site::new("192.0.2.7:8081".parse().unwrap(), bundle()).unwrap();
        assert_eq!(elsewhere.source(0), None);
    }
}

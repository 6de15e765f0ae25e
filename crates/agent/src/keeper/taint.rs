//! When what a tainted authority signed is replaced.
//!
//! Invariant: soon, but each certificate at a time of its own: 10,000 nodes learn of it at one time, and one server signs for them. What
//! comes back under a tainted authority again is not asked for at once again.

use std::collections::HashMap;
use std::time::Duration;

use landfast_identity::{Bundle, UnixTime, X509Svid};
use landfast_lifecycle::spread_within;

/// A bundle's tainted authorities by their key identifiers, and since when each is known to be one.
#[derive(Default)]
pub(crate) struct Taints(HashMap<Vec<u8>, UnixTime>);

impl Taints {
    /// Takes the place of what was known. An authority that is no longer tainted, or gone, is forgotten.
    pub(crate) fn adopt(&mut self, bundle: &Bundle, now: UnixTime) {
        let before = std::mem::take(&mut self.0);
        let tainted = bundle
            .x509_authorities()
            .iter()
            .filter(|authority| authority.tainted);
        self.0 = tainted
            .filter_map(|authority| authority.certificate.subject_key_id())
            .map(|key| {
                let since = before.get(&key).copied().unwrap_or(now);
                // A clock that was set back since then must not put the replacement off until it is there again.
                (key, since.min(now))
            })
            .collect();
    }

    /// The clock was set back to `now`: nothing was learned later than that.
    pub(crate) fn turn_back(&mut self, now: UnixTime) {
        for since in self.0.values_mut() {
            *since = (*since).min(now);
        }
    }

    /// When this SVID, held since `received`, is to be replaced; `None` when nothing in its chain is tainted.
    pub(crate) fn replace_at(&self, svid: &X509Svid, received: UnixTime) -> Option<UnixTime> {
        if self.0.is_empty() {
            return None;
        }
        let signers = svid
            .chain()
            .iter()
            .filter_map(|certificate| certificate.authority_key_id());
        let since = signers.filter_map(|key| self.0.get(&key)).min()?;
        let begin = match received <= *since {
            true => *since,
            false => received.saturating_add(TRY_AGAIN),
        };
        Some(begin.saturating_add(spread_within(SPREAD, svid.serial_hex().as_bytes())))
    }
}

/// Whether something in its chain is tainted in this bundle.
pub(crate) fn is_tainted(bundle: &Bundle, svid: &X509Svid) -> bool {
    let mut taints = Taints::default();
    taints.adopt(bundle, UnixTime::from_secs(0));
    taints.replace_at(svid, UnixTime::from_secs(0)).is_some()
}

pub(crate) const SPREAD: Duration = Duration::from_secs(5);
/// The server signs with a tainted authority still.
const TRY_AGAIN: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ca, NOON, at, id};
    use landfast_identity::X509Authority;

    fn bundle(authorities: &[(&Ca, bool)]) -> Bundle {
        let authorities = authorities.iter().map(|(ca, tainted)| X509Authority {
            certificate: ca.certificate.clone(),
            tainted: *tainted,
        });
        Bundle::new(crate::testing::td())
            .with_x509_authorities(authorities.collect())
            .unwrap()
    }

    #[test]
    fn what_a_tainted_authority_signed_is_replaced_within_seconds_each_at_its_own_time() {
        let (bad, good) = (Ca::new("bad"), Ca::new("good"));
        let mut taints = Taints::default();
        let svids: Vec<_> = (0..64).map(|_| bad.svid(&id("/a"), NOON, at(3600))).collect();
        let other = good.svid(&id("/a"), NOON, at(3600));
        taints.adopt(&bundle(&[(&bad, false), (&good, false)]), at(5));
        assert_eq!(taints.replace_at(&svids[0], NOON), None);
        taints.adopt(&bundle(&[(&bad, true), (&good, false)]), at(10));
        // Another bundle: what was known before is not put off.
        taints.adopt(&bundle(&[(&bad, true), (&good, false)]), at(1000));
        let times: std::collections::BTreeSet<_> = svids
            .iter()
            .map(|svid| taints.replace_at(svid, NOON).unwrap())
            .collect();
        assert!(
            times.iter().all(|time| (at(10)..=at(15)).contains(time)),
            "{times:?}"
        );
        assert!(times.len() >= 4, "spread over seconds: {times:?}");
        assert_eq!(taints.replace_at(&other, NOON), None);
        assert!(
            taints.replace_at(&svids[0], at(11)).unwrap() >= at(71),
            "what came under it again is not asked for every second"
        );
        // The clock was set back, and a round noticed.
        taints.adopt(&bundle(&[(&bad, true), (&good, false)]), at(-5000));
        assert!(taints.replace_at(&svids[0], at(-5000)).unwrap() <= at(-4995));
        taints.adopt(&bundle(&[(&good, false)]), at(1001));
        assert_eq!(taints.replace_at(&svids[0], NOON), None, "it is gone");
    }
}

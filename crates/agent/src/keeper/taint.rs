//! When what an authority signed that is tainted, or gone from the bundle, is replaced.
//!
//! Invariant: soon, but each certificate at a time of its own: 10,000 nodes learn of it at one time, and one server signs for them. What
//! comes back under such an authority again is not asked for at once again.

use std::collections::HashMap;
use std::time::Duration;

use landfast_identity::{Bundle, Certificate, UnixTime, X509Svid};
use landfast_lifecycle::spread_within;

/// What a bundle says of authorities.
#[derive(Default)]
pub(crate) struct Taints {
    /// Those that are tainted by their key identifiers, and since when each is known to be one.
    tainted: HashMap<Vec<u8>, UnixTime>,
    /// All of them. A node that was away, or slow, may not have heard that one was tainted before it went.
    all: Vec<Certificate>,
    /// Since when it is these.
    since: Option<UnixTime>,
}

impl Taints {
    /// Takes the place of what was known. An authority that is no longer tainted is forgotten.
    pub(crate) fn adopt(&mut self, bundle: &Bundle, now: UnixTime) {
        let before = std::mem::take(&mut self.tainted);
        let authorities = bundle.x509_authorities().iter();
        let all: Vec<_> = authorities
            .clone()
            .map(|authority| authority.certificate.clone())
            .collect();
        let same = self.since.filter(|_| all == self.all);
        self.since = Some(same.map_or(now, |since| since.min(now)));
        self.all = all;
        self.tainted = authorities
            .filter(|authority| authority.tainted)
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
        self.since = self.since.map(|since| since.min(now));
        for since in self.tainted.values_mut() {
            *since = (*since).min(now);
        }
    }

    /// When this SVID, held since `received`, is to be replaced; `None` when nothing in its chain is tainted, and its authority is there.
    pub(crate) fn replace_at(&self, svid: &X509Svid, received: UnixTime) -> Option<UnixTime> {
        self.replace_after(svid, received, 0)
    }

    /// The same of one that was signed anew so many times in vain, since its authority is not there: a server whose bundle does not have what it signs
    /// with is asked more and more seldom.
    pub(crate) fn replace_after(
        &self,
        svid: &X509Svid,
        received: UnixTime,
        in_vain: u32,
    ) -> Option<UnixTime> {
        // Of each SVID that is held this is asked with each event, and the answer is no as good as always.
        let tainted = match self.tainted.is_empty() {
            true => None,
            false => self.tainted_since(svid),
        };
        let (since, pause) = match tainted {
            Some(since) => (since, TRY_AGAIN),
            None if self.is_rooted(svid) => return None,
            None => (self.since?, pause_after(in_vain)),
        };
        let begin = match received <= since {
            true => since,
            false => received.saturating_add(pause),
        };
        Some(begin.saturating_add(spread_within(SPREAD, svid.serial_hex().as_bytes())))
    }

    /// Whether its authority is one of those that are known; also when none is.
    pub(crate) fn is_rooted(&self, svid: &X509Svid) -> bool {
        let named = |certificate: &Certificate| self.all.iter().any(|one| certificate.names_as_issuer(one));
        self.all.is_empty() || svid.chain().iter().any(named)
    }

    fn tainted_since(&self, svid: &X509Svid) -> Option<UnixTime> {
        let signers = svid
            .chain()
            .iter()
            .filter_map(|certificate| certificate.authority_key_id());
        signers.filter_map(|key| self.tainted.get(&key).copied()).min()
    }
}

fn pause_after(in_vain: u32) -> Duration {
    let times = 1_u32.checked_shl(in_vain).unwrap_or(u32::MAX);
    TRY_AGAIN.saturating_mul(times).min(LONGEST)
}

/// Whether something in its chain is tainted in this bundle, or its authority is not there.
pub(crate) fn is_tainted(bundle: &Bundle, svid: &X509Svid) -> bool {
    let mut taints = Taints::default();
    taints.adopt(bundle, UnixTime::from_secs(0));
    taints.replace_at(svid, UnixTime::from_secs(0)).is_some()
}

pub(crate) const SPREAD: Duration = Duration::from_secs(5);
/// The server signs with a tainted authority still.
const TRY_AGAIN: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

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
    }

    #[test]
    fn a_server_that_signs_with_what_its_bundle_lacks_is_asked_more_and_more_seldom() {
        let (ours, unknown) = (Ca::new("ours"), Ca::new("unknown"));
        let svid = unknown.svid(&id("/a"), NOON, at(86_400));
        let mut taints = Taints::default();
        taints.adopt(&bundle(&[(&ours, false)]), NOON);
        let pauses = [0, 1, 2, 3, 6, 40, u32::MAX].map(|in_vain| {
            let again = taints.replace_after(&svid, at(100), in_vain).unwrap();
            again.since(at(100)).as_secs() / 10 * 10
        });
        assert_eq!(pauses, [60, 120, 240, 480, 3600, 3600, 3600]);
        // Another bundle may be the remedy, and what is tainted may be revoked before long.
        taints.adopt(&bundle(&[(&ours, false), (&Ca::new("more"), false)]), at(200));
        assert!(taints.replace_after(&svid, at(100), 6).unwrap() <= at(205));
        taints.adopt(&bundle(&[(&unknown, true)]), at(10));
        assert!(taints.replace_after(&svid, at(100), 6).unwrap() <= at(165));
    }

    /// The server may revoke what it has just tainted, or a node may have slept through both.
    #[test]
    fn what_an_authority_signed_that_is_gone_is_replaced_as_soon() {
        let (bad, good) = (Ca::new("bad"), Ca::new("good"));
        let (svid, other) = (
            bad.svid(&id("/a"), NOON, at(3600)),
            good.svid(&id("/a"), NOON, at(3600)),
        );
        let mut taints = Taints::default();
        assert_eq!(
            taints.replace_at(&svid, NOON),
            None,
            "no bundle says anything yet"
        );
        taints.adopt(&bundle(&[(&bad, false), (&good, false)]), at(5));
        assert_eq!(taints.replace_at(&svid, NOON), None);
        taints.adopt(&bundle(&[(&good, false)]), at(10));
        // Another bundle of the same authorities: it is not put off.
        taints.adopt(&bundle(&[(&good, true)]), at(1000));
        let due = taints.replace_at(&svid, NOON).unwrap();
        assert!((at(10)..=at(15)).contains(&due), "{due}");
        assert!(
            taints.replace_at(&svid, at(11)).unwrap() >= at(71),
            "what came under it again is not asked for every second"
        );
        taints.adopt(&bundle(&[(&good, false)]), at(1001));
        assert_eq!(taints.replace_at(&other, NOON), None);
        taints.turn_back(at(-5000));
        assert!(taints.replace_at(&svid, at(-5000)).unwrap() <= at(-4995));
    }
}

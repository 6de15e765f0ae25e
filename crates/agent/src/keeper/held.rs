//! One SVID that is held, and when it is to be replaced.
//!
//! Invariant: the time depends on what is known of the SVID and of its authority alone; a clock that is set back does not put off what a taint asks for.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{UnixTime, X509Svid};
use landfast_lifecycle::renewal_due;
use landfast_lifecycle::reserve::Window;

use super::taint::Taints;

/// One workload X.509-SVID and the revision of the entry it was issued for.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) svid: Arc<X509Svid>,
    pub(crate) revision: i64,
    pub(crate) renew_at: UnixTime,
    received: UnixTime,
    /// It was a rung of a reserve; not known of what was held before a restart.
    was_rung: bool,
    /// How many times in a row it was signed by an authority that is not in the bundle; not known of what was held before a restart.
    in_vain: u32,
}

impl Held {
    /// Its life begins when it is received: servers date back, by more than a short SVID lives.
    pub(crate) fn new(svid: Arc<X509Svid>, revision: i64, received: UnixTime) -> Self {
        let begins = svid.not_before().max(received);
        let renew_at = renewal_due(begins, svid.not_after(), svid.serial_hex().as_bytes());
        Self {
            svid,
            revision,
            renew_at,
            received,
            was_rung: false,
            in_vain: 0,
        }
    }

    /// As the turn of a rung.
    pub(super) fn of_reserve(self) -> Self {
        Self {
            was_rung: true,
            ..self
        }
    }

    /// In the place of this one.
    pub(super) fn after(self, before: Option<&Self>, taints: &Taints) -> Self {
        let in_vain = match taints.is_rooted(&self.svid) {
            true => 0,
            false => before.map_or(0, |before| match taints.is_rooted(&before.svid) {
                true => 0,
                false => before.in_vain.saturating_add(1),
            }),
        };
        Self { in_vain, ..self }
    }

    pub(crate) fn was_rung(&self) -> bool {
        self.was_rung
    }

    pub(crate) fn life(&self) -> Duration {
        self.svid.not_after().since(self.svid.not_before())
    }

    pub(crate) fn window(&self) -> Window {
        Window {
            begins: self.svid.not_before(),
            ends: self.svid.not_after(),
        }
    }

    /// Since when it is held.
    pub(crate) fn received(&self) -> UnixTime {
        self.received
    }

    /// When it is to be replaced, by the clock alone.
    pub(super) fn due(&self, taints: &Taints) -> UnixTime {
        let replace = taints.replace_after(&self.svid, self.received, self.in_vain);
        replace.map_or(self.renew_at, |at| self.renew_at.min(at))
    }

    /// Whether it is to be replaced before its time.
    pub(super) fn is_tainted(&self, taints: &Taints) -> bool {
        taints.replace_at(&self.svid, self.received).is_some()
    }

    /// Of an entry that is there no more, though another has its ID: due at once.
    pub(super) fn of_no_entry(&self) -> Self {
        Self {
            revision: NO_REVISION,
            ..self.clone()
        }
    }

    /// As if received no later than `now`, if that is not so: the clock was set back.
    pub(super) fn turned_back(&self, now: UnixTime) -> Option<Self> {
        (now < self.received).then(|| Self {
            received: now,
            ..self.clone()
        })
    }
}

/// Servers count from 0.
const NO_REVISION: i64 = -1;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Ca, NOON, at, id};

    #[test]
    fn what_is_signed_in_vain_is_counted_until_it_is_not() {
        let (ours, unknown) = (Ca::new("ours"), Ca::new("unknown"));
        let mut taints = Taints::default();
        taints.adopt(&ours.bundle(), NOON);
        let signed = |ca: &Ca| Held::new(ca.svid(&id("/a"), NOON, at(86_400)), 0, at(100));
        let mut held = signed(&unknown).after(None, &taints);
        let mut pauses = Vec::new();
        for _ in 0..3 {
            pauses.push(held.due(&taints).since(at(100)).as_secs() / 10 * 10);
            held = signed(&unknown).after(Some(&held), &taints);
        }
        assert_eq!(pauses, [60, 120, 240]);
        held = signed(&ours).after(Some(&held), &taints);
        assert!(!held.is_tainted(&taints));
        held = signed(&unknown).after(Some(&held), &taints);
        assert!(held.due(&taints) <= at(165), "from the beginning");
    }
}

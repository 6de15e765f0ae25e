//! What is remembered of the authority above: how it fares, when it is asked again, for how long a server beside us is waited for.
//!
//! Invariant: who fails is asked again, later each time, and nothing of it is stored.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_lifecycle::Backoff;
use tokio::time::Instant;

use super::above::Above;
use super::doubt::Doubt;
use super::error::UpstreamFailure;
use super::following::{LEAST_WAIT, MOST_WAIT};
use super::publishing::Unpublished;

/// How the upstream authority fares.
#[derive(Default)]
pub(super) struct Reach(Mutex<Fare>);

#[derive(Default)]
pub(super) struct Fare {
    /// Since it last did not sign.
    pub(super) refused: Option<Refused>,
    /// Why its bundle is not known now.
    pub(super) unseen: Option<String>,
    pub(super) unpublished: Unpublished,
    /// Until when servers beside this one keep something that the upstream authority has given up.
    pub(super) lent_until: Option<Instant>,
    pub(super) doubt: Doubt,
}

pub(super) struct Refused {
    pub(super) why: UpstreamFailure,
    backoff: Backoff,
    not_before: Instant,
    /// There is time enough: nobody has to look after it yet.
    pub(super) quiet: bool,
}

impl Reach {
    pub(super) fn lock(&self) -> MutexGuard<'_, Fare> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why it is not asked to sign yet.
    pub(super) fn held(&self) -> Option<UpstreamFailure> {
        let fare = self.lock();
        let refused = fare.refused.as_ref()?;
        (Instant::now() < refused.not_before).then(|| refused.why.clone())
    }

    pub(super) fn signed(&self) {
        self.lock().refused = None;
    }

    pub(super) fn refused(&self, why: UpstreamFailure) {
        let mut fare = self.lock();
        let before = fare.refused.take();
        let mut backoff = before.map_or_else(|| Backoff::new(LEAST_WAIT, MOST_WAIT), |before| before.backoff);
        let not_before = Instant::now() + backoff.next();
        fare.refused = Some(Refused {
            why,
            backoff,
            not_before,
            quiet: false,
        });
    }

    /// It would sign, but nothing that lasts longer than what signs now.
    pub(super) fn no_gain(&self, why: UpstreamFailure, left: Duration, quiet: bool) {
        let wait = (left / 24).clamp(LEAST_PAUSE, MOST_PAUSE);
        self.lock().refused = Some(Refused {
            why,
            backoff: Backoff::new(LEAST_WAIT, MOST_WAIT),
            not_before: Instant::now() + wait,
            quiet,
        });
    }

    pub(super) fn with_unpublished<T>(&self, with: impl FnOnce(&mut Unpublished) -> T) -> T {
        with(&mut self.lock().unpublished)
    }

    /// Whether servers beside this one may keep what they need a little longer, now that they do or do not.
    pub(super) fn lends(&self, needed: bool) -> bool {
        let until = &mut self.lock().lent_until;
        match needed {
            false => *until = None,
            true => return Instant::now() < *until.get_or_insert_with(|| Instant::now() + LENT),
        }
        true
    }

    /// See [`Doubt::said`].
    pub(super) fn said(&self, before: &Above, stored: &Above) {
        self.lock().doubt.said(before, stored);
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.lock().refused.as_ref().is_some_and(|refused| refused.quiet)
    }

    /// Something has changed above: what failed may do now.
    pub(super) fn ask_again(&self) {
        if let Some(refused) = &mut self.lock().refused {
            refused.not_before = Instant::now();
        }
    }
}

/// How long a root that was given up stays for a server beside us: it notices within a minute, and waits for half of one until everybody knows the
/// root of its next authority.
const LENT: Duration = Duration::from_secs(180);
/// Between attempts to have something that lasts longer: each is a certificate that the parent records.
const LEAST_PAUSE: Duration = Duration::from_secs(60);
const MOST_PAUSE: Duration = Duration::from_secs(6 * 3600);

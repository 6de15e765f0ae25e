//! How the authorities keep to the one above them: what it signs, what it believes, what it is to know.
//!
//! Invariant: whatever it does or fails to do, what signs now goes on until it ends; who fails is asked again, later each time.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::{Signer, UnixTime};
use landfast_lifecycle::Backoff;

use super::above::{Above, follow};
use super::descent::{Judged, judge};
use super::error::UpstreamFailure;
use super::journal::{AuthorityRow, Journal, Kind, Slot};
use super::making::{Life, Made};
use super::upstream::{Seen, Upstream, UpstreamError, Wish};
use super::{Authorities, AuthorityError, Trust};

impl Authorities {
    /// What is wrong with the upstream authority, for operators; nothing is while it does what it is for.
    pub(crate) fn upstream_trouble(&self) -> Option<String> {
        let fare = self.reach.lock();
        let refused = fare.refused.as_ref().filter(|refused| !refused.quiet);
        let refused = refused.map(|refused| error_chain(&refused.why));
        refused
            .or_else(|| fare.unseen.clone())
            .or_else(|| fare.unpublished.trouble())
    }

    /// Whether another signs our X.509 authorities.
    pub(crate) fn has_upstream(&self) -> bool {
        self.upstream.is_some()
    }

    /// The first rotation of this process. With something to sign with, an upstream authority that fails is no obstacle; without, it is
    /// waited for.
    pub(super) async fn first_tick(&self, now: UnixTime) -> Result<(), AuthorityError> {
        let mut now = now;
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
        loop {
            let failure = match self.tick(now, Trust::Doubtful).await {
                Err(AuthorityError::Upstream(failure)) => failure,
                done => return done,
            };
            let (error, name) = (error_chain(&failure), self.upstream_name());
            if self
                .active_x509()
                .is_some_and(|active| now < active.not_after && now >= active.certificate.not_before())
            {
                tracing::warn!(
                    error,
                    upstream = name,
                    "starting with the authority of before: no new one can be had now"
                );
                return Ok(());
            }
            if !failure.0.may_pass() {
                return Err(AuthorityError::Upstream(failure));
            }
            let wait = backoff.next();
            tracing::error!(
                error,
                upstream = name,
                again_in_s = wait.as_secs(),
                "waiting for the upstream authority: without it there is nothing to sign with"
            );
            tokio::time::sleep(wait).await;
            self.reach.ask_again();
            now = self.clock.now().unwrap_or(now);
        }
    }

    /// As [`Self::prepare`], but not while the upstream authority rests after a failure, nor for one that would end no later than the
    /// one that signs.
    pub(super) async fn prepare_in_turn(
        &self,
        kind: Kind,
        journal: &Journal,
        now: UnixTime,
    ) -> Result<Made, AuthorityError> {
        if kind != Kind::X509 || self.upstream.is_none() {
            return self.prepare(kind, journal, now).await;
        }
        if let Some(failure) = self.reach.held() {
            return Err(AuthorityError::Upstream(failure));
        }
        let made = self.prepare(kind, journal, now).await?;
        let signs = |row: &&AuthorityRow| row.kind == kind && row.slot == Slot::Active && !row.tainted;
        let active = journal.rows.iter().find(signs);
        let useless =
            |active: &&AuthorityRow| now < active.not_after && made.row.not_after <= active.not_after;
        let Some(active) = active.filter(useless) else {
            return Ok(made);
        };
        // Regular where a parent's own authority is about to be followed by its next: then the next but one attempt is better.
        let life = active.not_after.since(active.created_at);
        let left = active.not_after.since(now);
        let ends = made.row.not_after;
        let failure = UpstreamFailure(Arc::new(UpstreamError::NoGain { ends }));
        self.reach.no_gain(failure.clone(), left, left > life / 6);
        Err(AuthorityError::Upstream(failure))
    }

    /// A good certificate for this key, and what is known above with it.
    pub(super) async fn signed_above(
        &self,
        upstream: &Arc<dyn Upstream>,
        signer: &Arc<dyn Signer>,
        known: &Above,
        life: Life,
    ) -> Result<(Judged, Above), AuthorityError> {
        let trust_domain = &self.params.trust_domain;
        let wish = Wish {
            trust_domain,
            signer,
            now: life.now,
            not_before: life.not_before,
            not_after: life.not_after,
        };
        let signed = upstream.sign(&wish).await.map_err(|error| self.failed(error))?;
        let above = known.clone().with(&signed.roots);
        let judged = judge(signed, &**signer, trust_domain, known, life.now);
        let judged = judged.map_err(|source| self.failed(source.into()))?;
        self.reach.signed();
        if judged.ends < life.not_after {
            tracing::warn!(
                ends = %judged.ends,
                upstream = upstream.name(),
                "the new authority ends before ttl.ca is over: what is above it ends then, or allows no more"
            );
        }
        Ok((judged, above))
    }

    fn failed(&self, error: UpstreamError) -> AuthorityError {
        metrics::counter!("landfast_server_upstream_failures_total").increment(1);
        let failure = UpstreamFailure(Arc::new(error));
        self.reach.refused(failure.clone());
        AuthorityError::Upstream(failure)
    }

    /// Follows what the upstream authority believes, for ever.
    pub(crate) async fn keep_to_upstream(self: Arc<Self>) {
        let Some(upstream) = self.upstream.clone() else {
            return std::future::pending().await;
        };
        let every = if upstream.is_complete() { POLL } else { LOOK };
        let mut backoff = Backoff::new(every, MOST_BETWEEN_LOOKS);
        loop {
            let outcome = self.look_above(&*upstream).await;
            self.heed(&*upstream, &outcome);
            let wait = match outcome {
                Ok(news) => {
                    backoff.reset();
                    if news {
                        self.rotate_at_once().await;
                    }
                    // What has changed may allow the next change: a taint that waits for a rotation.
                    if news { SOON } else { every }
                }
                // Files are looked at as often as before: whoever mends them waits for it.
                Err(_heeded) if !upstream.is_complete() => every,
                Err(_heeded) => backoff.next().max(every),
            };
            tokio::time::sleep(wait).await;
        }
    }

    /// As if the time was over for which a server beside us may need what was given up above.
    #[cfg(all(test, feature = "postgres-tests"))]
    pub(super) fn lend_no_longer(&self) {
        self.reach.lock().lent_until = Some(tokio::time::Instant::now());
    }

    /// One look, as [`Self::keep_to_upstream`] looks.
    #[cfg(test)]
    pub(crate) async fn look_as_kept(&self) -> Result<bool, AuthorityError> {
        let upstream = self.upstream.clone().unwrap();
        let outcome = self.look_above(&*upstream).await;
        self.heed(&*upstream, &outcome);
        outcome
    }

    /// What signs may be doomed. If this fails, maintenance tries again, and says so.
    async fn rotate_at_once(&self) {
        let Some(now) = self.clock.now() else { return };
        if let Err(error) = self.tick(now, Trust::Doubtful).await {
            let error = error_chain(&error);
            tracing::debug!(error, "no rotation after news from above");
        }
    }

    fn heed(&self, upstream: &dyn Upstream, outcome: &Result<bool, AuthorityError>) {
        let text = outcome.as_ref().err().map(|error| match error {
            AuthorityError::Upstream(failure) => error_chain(failure),
            other => error_chain(other),
        });
        metrics::gauge!("landfast_server_upstream_up").set(f64::from(u8::from(text.is_none())));
        let before = std::mem::replace(&mut self.reach.lock().unseen, text.clone());
        match (before, &text) {
            (Some(_), None) => {
                tracing::info!(
                    upstream = upstream.name(),
                    "the upstream authority is of use again"
                );
                self.reach.ask_again();
            }
            (before, Some(error)) if before.as_ref() != Some(error) => {
                metrics::counter!("landfast_server_upstream_failures_total").increment(1);
                tracing::error!(
                    error,
                    upstream = upstream.name(),
                    "the upstream authority is of no use: what we have is kept until it ends; trying again"
                );
            }
            _ => {}
        }
        if matches!(outcome, Ok(true)) {
            self.reach.ask_again();
        }
    }

    /// Looks once, and lets everybody above know our JWT keys; `true` when something was new.
    async fn look_above(&self, upstream: &dyn Upstream) -> Result<bool, AuthorityError> {
        let Some(now) = self.clock.now() else {
            return Ok(false);
        };
        let above = |error| AuthorityError::Upstream(UpstreamFailure(Arc::new(error)));
        let complete = upstream.is_complete();
        let mut news = false;
        for _ in 0..MAX_TRIES {
            // Before the upstream authority is asked: an answer that a server beside us has overtaken is not taken for the later one.
            let journal = self.datastore.journal().await?;
            let seen = upstream.look(now).await.map_err(above)?;
            if seen.roots.is_empty() {
                return Err(above(UpstreamError::Empty));
            }
            if seen.fresh {
                self.reach.ask_again();
            }
            let (rows, known) = self.followed(&journal, &seen, complete, now);
            let doomed = |rows: &[AuthorityRow]| rows.iter().filter(|row| row.tainted).count();
            if known == journal.above && doomed(&rows) == doomed(&journal.rows) {
                self.reach.lock().doubt.agree(seen.sequence, &known);
                break;
            }
            if self.is_doubtful(&seen, &journal) {
                break;
            }
            // A bundle that cannot be built is not stored.
            let next = Journal {
                above: known.clone(),
                ..journal.clone()
            };
            next.bundle(&self.params.trust_domain)?;
            if let Some(saved) = self.commit(&journal, rows, Some(known)).await? {
                self.reach.lock().doubt.agree(seen.sequence, &saved.above);
                tracing::info!(
                    sequence = saved.sequence,
                    upstream = upstream.name(),
                    "took over what the upstream authority believes"
                );
                news = true;
                break;
            }
        }
        self.publish_above(upstream, now).await?;
        Ok(news)
    }

    /// Whether it may be old news, from a parent that lags behind the one of a server beside us.
    fn is_doubtful(&self, seen: &Seen, journal: &Journal) -> bool {
        let (beside, now) = (!journal.others.is_empty(), self.clock.monotonic());
        let mut fare = self.reach.lock();
        let held = fare.doubt.holds(seen.sequence, &journal.above, beside, now);
        if held {
            tracing::info!(
                sequence = seen.sequence,
                "the upstream authority may lag behind what is known already: waiting until it says so again"
            );
        }
        held
    }

    /// As [`follow`], and not for ever for the sake of a server beside us: one that is gone would keep a root that was revoked.
    fn followed(
        &self,
        journal: &Journal,
        seen: &Seen,
        complete: bool,
        now: UnixTime,
    ) -> (Vec<AuthorityRow>, Above) {
        let together = follow(journal, seen, complete, now);
        let alone = Journal {
            others: Vec::new(),
            ..journal.clone()
        };
        let alone = follow(&alone, seen, complete, now);
        let needed = alone.1 != together.1;
        match self.reach.lends(needed) {
            true => together,
            false => {
                tracing::warn!(
                    "another server of this database signs under a root that the upstream authority has given up, and does not replace it: \
                     the root goes, and that server signs no more until it can reach the upstream authority"
                );
                alone
            }
        }
    }

    /// Without an upstream authority, what is left of one: roots that something of ours stands under, and nothing of others.
    pub(super) async fn leave_above(
        &self,
        journal: Journal,
        now: UnixTime,
    ) -> Result<Journal, AuthorityError> {
        if self.has_upstream() || journal.above.is_empty() {
            return Ok(journal);
        }
        // A server beside us may have one, and keeps what it says.
        let follows = |row: &AuthorityRow| {
            row.kind == Kind::X509 && row.slot != Slot::Old && row.descent.is_some() && now < row.not_after
        };
        if journal.others.iter().any(follows) {
            return Ok(journal);
        }
        let (rows, left) = follow(&journal, &Seen::default(), false, now);
        if left == journal.above {
            return Ok(journal);
        }
        let Some(saved) = self.commit(&journal, rows, Some(left)).await? else {
            return Ok(journal); // the next tick looks again
        };
        tracing::warn!(
            sequence = saved.sequence,
            roots = saved.above.roots.len(),
            "there is no upstream authority any more: what it believed is out of the bundle, but for roots that something of ours stands under"
        );
        Ok(saved)
    }

    fn upstream_name(&self) -> String {
        self.upstream
            .as_ref()
            .map(|upstream| upstream.name())
            .unwrap_or_default()
    }
}

/// As SPIRE asks its parent.
const POLL: Duration = Duration::from_secs(5);
/// At files.
const LOOK: Duration = Duration::from_secs(10);
const MOST_BETWEEN_LOOKS: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(1);
pub(super) const LEAST_WAIT: Duration = Duration::from_secs(5);
pub(super) const MOST_WAIT: Duration = Duration::from_secs(300);
/// The server's own rotation can be in the way once or twice, not for ever.
const MAX_TRIES: usize = 8;

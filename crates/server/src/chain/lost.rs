//! Whether steps that a node shows prove that the registry went back.
//!
//! Invariant: only what a root key has signed that signs here now proves anything: no node's word does, and no root key that was replaced; and never a step that
//! is stored here, nor one that was given out to be signed and has not come back.

use landfast_identity::Bundle;
use landfast_identity::chain::SignedStep;

use super::{BYTES, Chain, MakeError};
use crate::datastore::StepPlace;

/// What this registry must have known, and does not.
pub(super) struct Lost {
    /// Of the last such step.
    pub(super) place: StepPlace,
    /// What was in force where they begin, as far as that is known.
    pub(super) before: Option<Bundle>,
    /// What was in force at the last of them.
    pub(super) last: Bundle,
}

impl Chain {
    /// The steps among these that were signed for this registry, or a later one, and are not stored here, whatever else there is to say of them: that
    /// they lead nowhere, or to others' root keys, makes them no less true. `None` when there is no such step.
    pub(super) async fn lost(&self, shown: &[SignedStep]) -> Result<Option<Lost>, MakeError> {
        self.is_on()?;
        let newest = self.datastore.newest_step().await?;
        let keys = match &newest {
            Some(newest) => newest.step().root_keys.clone(),
            // Who made the key that lies here has signed no step that this registry does not have.
            None => self
                .own_key()
                .await
                .map(|own| own.public_key())
                .into_iter()
                .collect(),
        };
        let epoch = self.registry.revision().epoch;
        let proves = |step: &&SignedStep| {
            step.step().epoch >= epoch
                && step.trust_domain() == &self.trust_domain
                && self.is_of_our_time(step).is_ok()
                && keys.iter().any(|key| step.is_signed_by(*key))
        };
        let mut signed: Vec<_> = shown.iter().filter(proves).collect();
        signed.sort_by_key(|step| StepPlace::of(step));
        // What follows one of these, and was given out after it had come back, proves it as well.
        let mut left = Vec::with_capacity(signed.len());
        for step in signed {
            if !self.prepared.has(step).await {
                left.push(step);
            }
        }
        let signed = left;
        let lost = self.not_stored(&signed).await?;
        let (Some(first), Some(last)) = (lost.first(), lost.last()) else {
            return Ok(None);
        };
        Ok(Some(Lost {
            place: StepPlace::of(last),
            before: self.before(first, newest).await?,
            last: last.step().bundle.clone(),
        }))
    }

    /// Whether it was given out to be signed, and is not stored: somebody has its file, and no node has it of this server.
    pub(super) async fn never_came_back(&self, step: &SignedStep) -> Result<bool, MakeError> {
        Ok(self.prepared.has(step).await && !self.not_stored(&[step]).await?.is_empty())
    }

    /// Those of these, in their order, that are not stored here.
    async fn not_stored<'a>(&self, steps: &[&'a SignedStep]) -> Result<Vec<&'a SignedStep>, MakeError> {
        let (mut ours, mut read_to) = (Vec::new(), None);
        let mut lost = Vec::new();
        for step in steps {
            if read_to.is_none_or(|read| read < StepPlace::of(step)) {
                // What is shown follows one another for the most part: one read does.
                let page = self.datastore.steps(StepPlace::of(step), steps.len(), BYTES);
                let mut end = StepPlace {
                    epoch: u64::MAX,
                    sequence: u64::MAX,
                };
                for bytes in page.await? {
                    // Each has some certificates.
                    tokio::task::yield_now().await;
                    let own = SignedStep::from_bytes(&bytes)?;
                    end = StepPlace::of(&own);
                    ours.push(own.digest());
                }
                read_to = Some(end);
            }
            if !ours.contains(&step.digest()) {
                lost.push(*step);
            }
        }
        Ok(lost)
    }

    /// What was in force before this step. Our own fork says nothing of what others had.
    async fn before(
        &self,
        first: &SignedStep,
        newest: Option<SignedStep>,
    ) -> Result<Option<Bundle>, MakeError> {
        if let Some(newest) = newest.filter(|newest| StepPlace::of(newest) < StepPlace::of(first)) {
            return Ok(Some(newest.step().bundle.clone()));
        }
        let mut place = StepPlace::of(first);
        place.sequence = place.sequence.saturating_sub(1);
        let before = self.datastore.steps(place, 1, BYTES).await?.pop();
        let before = before.map(|bytes| SignedStep::from_bytes(&bytes)).transpose()?;
        let before = before.filter(|before| first.step().previous == Some(before.digest()));
        Ok(before.map(|before| before.step().bundle.clone()))
    }
}

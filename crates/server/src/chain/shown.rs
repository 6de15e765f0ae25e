//! Steps that a node shows to a server that has forgotten them, after a restoration say.
//!
//! Invariant: a step is added only where a walk from the newest one leads to it, so the chain has no gaps; and who signs from there on is who signed
//! before, or somebody to whom the root key of this server, or an operator on its machine, has agreed.

use std::sync::PoisonError;

use landfast_identity::chain::{RootKey, SignedStep, Walker};
use landfast_identity::{Bundle, SpiffeId};

use super::{Chain, MakeError, sorted};
use crate::datastore::StepPlace;
use crate::quarantine::Quarantine;

/// What steps that were shown are worth.
enum Worth {
    /// They are known here, or later ones.
    Known,
    /// They lead on from the newest one. To be stored in this order.
    Onward(Vec<SignedStep>),
    /// A root key that is known has signed the last of them, and steps between are missing, or the chain was forked: it proves something and leads nowhere.
    Proof,
}

/// See [`Chain::weigh`].
struct Weighed {
    worth: Worth,
    /// What the newest step here says, and what the last one says that was shown: `None` when there is nothing new in it.
    bundles: Option<(Bundle, Bundle)>,
}

impl Chain {
    /// What a node shows is taken for what it is worth; whether anything was stored.
    ///
    /// # Errors
    /// As [`Self::weigh`]; or others have changed the chain meanwhile.
    pub(crate) async fn take(
        &self,
        quarantine: &Quarantine,
        agent: &SpiffeId,
        shown: Vec<SignedStep>,
    ) -> Result<bool, MakeError> {
        let mut proves = false;
        let taken = self.judge(quarantine, agent, &shown, &mut proves).await;
        let result = in_a_word(taken.as_ref().ok().copied(), proves);
        metrics::counter!("landfast_server_steps_shown_total", "result" => result).increment(1);
        let is_of_ours = matches!(taken, Ok(_) | Err(MakeError::NotAgreed { .. }));
        // Who stands before the newest one here says nothing of what came after it.
        if is_of_ours && shown.last().is_some_and(|last| self.is_at_end(last)) {
            quarantine.showed(agent);
        }
        taken
    }

    fn is_at_end(&self, step: &SignedStep) -> bool {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.as_ref().is_none_or(|(end, _)| StepPlace::of(step) >= *end)
    }

    /// What it proves of this registry, and says of our authorities, is noted before anything else, for it is said once, and may lead nowhere.
    async fn judge(
        &self,
        quarantine: &Quarantine,
        agent: &SpiffeId,
        shown: &[SignedStep],
        proves: &mut bool,
    ) -> Result<bool, MakeError> {
        let here = (&*self.registry, &*self.authorities);
        if quarantine.is_kept()
            && let Some(lost) = self.lost(shown).await?
        {
            *proves = true;
            let bundles = (lost.before.as_ref(), &lost.last);
            quarantine.shown(agent, lost.place, bundles, here).await;
        }
        let weighed = self.weigh(agent, shown).await?;
        *proves |= matches!(weighed.worth, Worth::Proof);
        if let (Some((before, last)), Some(step)) = (&weighed.bundles, shown.last()) {
            let place = StepPlace::of(step);
            quarantine.shown(agent, place, (Some(before), last), here).await;
        }
        let Worth::Onward(steps) = weighed.worth else {
            return Ok(false);
        };
        let (count, last) = (steps.len(), steps.last().map(StepPlace::of));
        self.adopt(steps).await?;
        tracing::warn!(
            %agent, count, ?last,
            "adopted steps of the bundle chain that a node has shown: this server had forgotten them"
        );
        Ok(true)
    }

    /// What these steps are worth. Nothing is changed by it.
    ///
    /// # Errors
    /// They lead nowhere, or to root keys that nobody here has agreed to.
    async fn weigh(&self, agent: &SpiffeId, shown: &[SignedStep]) -> Result<Weighed, MakeError> {
        self.is_on()?;
        let known = Weighed {
            worth: Worth::Known,
            bundles: None,
        };
        let newest = self.datastore.newest_step().await?;
        let Some(last) = shown.last() else {
            return Ok(known);
        };
        self.is_of_our_time(last)?;
        if self.never_came_back(last).await? {
            return Err(MakeError::Outdated);
        }
        let Some(newest) = newest else {
            // Nothing but our own root key can say whose chain it is.
            self.walk(None, shown)?;
            self.agreed(agent, &[], shown).await?;
            return Ok(Weighed {
                worth: Worth::Onward(shown.to_vec()),
                ..known
            });
        };
        let place = |step: &SignedStep| (step.step().epoch, step.step().sequence);
        if last.digest() == newest.digest() || place(last) < place(&newest) {
            return Ok(known);
        }
        let bundles = Some((newest.step().bundle.clone(), last.step().bundle.clone()));
        let after = |step: &SignedStep| step.step().previous == Some(newest.digest());
        let Some(from) = shown.iter().position(after) else {
            let is_ours = last.trust_domain() == &self.trust_domain;
            let mut keys = newest.step().root_keys.iter();
            if is_ours && keys.any(|key| last.is_signed_by(*key)) {
                let worth = Worth::Proof;
                return Ok(Weighed { worth, bundles });
            }
            // It says which rule is broken.
            self.walk(Some(&newest), std::slice::from_ref(last))?;
            return Err(MakeError::Outdated);
        };
        let onward = shown.get(from..).unwrap_or_default();
        self.walk(Some(&newest), onward)?;
        self.agreed(agent, &newest.step().root_keys, onward).await?;
        Ok(Weighed {
            worth: Worth::Onward(onward.to_vec()),
            bundles,
        })
    }

    /// Stores steps that lead on. From here on the next one is made after them.
    ///
    /// # Errors
    /// Others have changed the chain meanwhile.
    async fn adopt(&self, steps: Vec<SignedStep>) -> Result<(), MakeError> {
        let newest = self.datastore.newest_step().await?;
        self.append(newest.as_ref(), steps).await
    }

    /// Whether they follow one another, by the rules that nodes walk by.
    fn walk(&self, from: Option<&SignedStep>, steps: &[SignedStep]) -> Result<(), MakeError> {
        let trust_domain = self.trust_domain.clone();
        let mut steps = steps.iter();
        let first = from.or_else(|| steps.next());
        let Some(first) = first else { return Ok(()) };
        let mut walker = Walker::begin(trust_domain, first)?;
        for step in steps {
            walker.walk(step)?;
        }
        Ok(())
    }

    /// One from the future, or with numbers that leave no room, would be in the way of each later one.
    pub(super) fn is_of_our_time(&self, last: &SignedStep) -> Result<(), MakeError> {
        let now = self.clock.now().ok_or(MakeError::NoClock)?;
        let step = last.step();
        let epoch = self.registry.revision().epoch;
        let epochs = epoch.max(now.as_secs().unsigned_abs());
        let (sequence, bundle) = (step.sequence, step.bundle.sequence());
        match step.epoch <= epochs && sequence.max(bundle) <= MOST {
            true => Ok(()),
            false => Err(MakeError::Future {
                epoch: step.epoch,
                sequence,
            }),
        }
    }

    /// Whether who signs after these steps is who signed before. Else the root key of this server has to be among them, and to have signed the change:
    /// whoever has stolen one that was replaced since, and a node, could else show a change of his own to a server that has forgotten the right one.
    async fn agreed(
        &self,
        agent: &SpiffeId,
        before: &[RootKey],
        steps: &[SignedStep],
    ) -> Result<(), MakeError> {
        let mut keys = before;
        let mut change = None;
        for step in steps {
            if sorted(keys) != sorted(&step.step().root_keys) {
                change = Some(step);
            }
            keys = &step.step().root_keys;
        }
        let Some(change) = change.filter(|_| sorted(before) != sorted(keys)) else {
            return Ok(());
        };
        if let Ok(own) = self.own_key().await
            && keys.contains(&own.public_key())
            && change.is_signed_by(own.public_key())
        {
            return Ok(());
        }
        if before.is_empty() {
            // Whoever makes a key can show a chain of it, where none is known: nobody is to be asked about that.
            return Err(MakeError::NotOurs);
        }
        let claims = || self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims().add(agent, keys, steps);
        let keys = named(keys);
        tracing::error!(
            root_keys = keys,
            "a node shows that the root keys were changed, and nobody here has agreed to that: if it is so, put the new root key in its place, or \
             say landfast root pending --root-key for each of them"
        );
        Err(MakeError::NotAgreed { keys })
    }

    /// Whether nodes show another who is to sign after this step: then the one of before signs no more, until an operator has decided.
    pub(super) fn not_claimed(&self, newest: Option<&SignedStep>) -> Result<(), MakeError> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = claims.keys_after(newest).into_iter().map(named).collect();
        match keys.is_empty() {
            true => Ok(()),
            false => Err(MakeError::NotAgreed {
                keys: keys.join(", or "),
            }),
        }
    }

    /// Steps after this one that nodes have shown, to root keys that an operator names.
    pub(super) fn claim_to(&self, keys: &[RootKey], newest: Option<&SignedStep>) -> Vec<SignedStep> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        claims.to(keys, newest)
    }
}

/// For the counter. `adopted` is `None` where they were refused.
fn in_a_word(adopted: Option<bool>, proves: bool) -> &'static str {
    match adopted {
        Some(true) => "adopted",
        // This or no more is said of them, and the server may have gone into quarantine by it.
        _ if proves => "proof",
        Some(false) => "known",
        None => "refused",
    }
}

fn named(keys: &[RootKey]) -> String {
    let keys: Vec<_> = keys.iter().map(ToString::to_string).collect();
    keys.join(", ")
}

/// Of a number that has to grow for as long as there is a plant.
const MOST: u64 = 1 << 60;

#[cfg(test)]
mod tests {
    use super::in_a_word;

    #[test]
    fn what_proves_something_is_told_apart() {
        for (adopted, proves, expected) in [
            (Some(true), true, "adopted"),
            (Some(true), false, "adopted"),
            (Some(false), true, "proof"),
            (Some(false), false, "known"),
            (None, true, "proof"),
            (None, false, "refused"),
        ] {
            assert_eq!(in_a_word(adopted, proves), expected);
        }
    }
}

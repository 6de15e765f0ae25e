//! What the bundle chain proves of a registry that went back. Invariant: a step that a root key of ours has signed is no node's word: it is kept with the
//! quarantine, and its authorities are named; none of them is taken or given up by it.

use landfast_identity::{Bundle, SpiffeId, UnixTime};

use super::Quarantine;
use super::state::{CauseKind, FILE, Finding, FindingKind, MARK, Mark};
use crate::authority::Authorities;
use crate::datastore::StepPlace;
use crate::random::hex;
use crate::registry::Registry;

impl Quarantine {
    /// A node has shown a step that is later than what the server knew: from one bundle, if that is known, to another. One of an epoch that has not been left here is of a
    /// registry that is newer than this one.
    pub(crate) async fn shown(
        &self,
        agent: &SpiffeId,
        place: StepPlace,
        (before, last): (Option<&Bundle>, &Bundle),
        (registry, authorities): (&Registry, &Authorities),
    ) {
        let Some(home) = &self.home else { return };
        let own = authorities.bundle();
        // A restoration has begun an epoch, and this may be of a later one: then its end has to begin another.
        if !self.state().needs_epoch() && place.epoch >= registry.revision().epoch {
            let detail = format!(
                "{agent} shows step {}.{} of the bundle chain, which a root key has signed and which is not known here: the machine or its disk was put back",
                place.epoch, place.sequence
            );
            let at = Mark::new(registry.revision(), own.sequence());
            self.begin(CauseKind::RolledBack, at, detail).await;
        }
        self.was_at(Mark::new(registry.revision(), own.sequence()), last.sequence())
            .await;
        let now = home.clock.now().unwrap_or(UnixTime::EPOCH);
        let gone = before.map(|before| gone(agent, (before, last, &own), now));
        let gone = gone.unwrap_or_default();
        if gone.is_empty() {
            return;
        }
        if !self.holds() {
            let _how_many = self.tell_of(gone);
            return;
        }
        let mut noted = self.changing.lock().await;
        let bytes = {
            let mut state = self.state();
            state.note(gone);
            state.to_bytes()
        };
        noted.unsaved = home.write(FILE, bytes).await.is_err();
    }

    /// The bundle has been of this sequence, though it is not now: the end of the quarantine makes it greater. Who follows the bundle knows no epochs.
    async fn was_at(&self, now: Mark, sequence: u64) {
        let Some(home) = self.home.as_ref().filter(|_| self.holds()) else {
            return;
        };
        let mut noted = self.changing.lock().await;
        let known = noted.mark.unwrap_or(now);
        if sequence > known.sequence {
            let mark = Mark { sequence, ..known };
            noted.mark = Some(mark);
            // It holds in memory; what fails is said there, and nodes show it again.
            let _is_said = home.write(MARK, mark.to_bytes()).await;
        }
    }

    /// Once of each: nodes show their steps again and again. How many were told.
    fn tell_of(&self, gone: Vec<Finding>) -> usize {
        let mut evidence = self.evidence();
        let is_new = |one: &Finding| evidence.told.insert(one.object.clone());
        let gone: Vec<_> = gone.into_iter().filter(is_new).collect();
        drop(evidence);
        if !gone.is_empty() {
            tracing::warn!(
                ?gone,
                "authorities that were tainted or revoked are in force again"
            );
        }
        gone.len()
    }
}

/// Authorities of ours that the chain had, and then had no more or as tainted. Those that it never had it says nothing of: it may lag behind.
fn gone(agent: &SpiffeId, (before, last, own): (&Bundle, &Bundle, &Bundle), now: UnixTime) -> Vec<Finding> {
    let find = |object: String, was: Option<bool>, is: Option<bool>| {
        let detail = match (was, is) {
            (Some(false), Some(true)) => "tainted since, as the bundle chain says",
            (Some(_), None) => "revoked since, or over, as the bundle chain says",
            _ => return None,
        };
        Some(Finding {
            kind: FindingKind::AuthorityGone,
            object,
            detail: format!("{detail}; {agent} has shown it"),
        })
    };
    let x509 = own.x509_authorities().iter();
    let x509 = x509.filter(|one| !one.tainted && now < one.certificate.not_after());
    let x509 = x509.filter_map(|one| {
        let of = |bundle: &Bundle| {
            let mut all = bundle.x509_authorities().iter();
            all.find(|known| known.certificate == one.certificate)
                .map(|known| known.tainted)
        };
        find(hex(&one.certificate.subject_key_id()?), of(before), of(last))
    });
    let jwt = own.jwt_authorities().iter();
    let jwt = jwt.filter(|one| !one.tainted && one.expires_at.is_none_or(|end| now < end));
    let jwt = jwt.filter_map(|one| {
        let of = |bundle: &Bundle| {
            let mut all = bundle.jwt_authorities().iter();
            all.find(|known| known.key_id == one.key_id)
                .map(|known| known.tainted)
        };
        find(one.key_id.clone(), of(before), of(last))
    });
    x509.chain(jwt).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_that_is_in_force_again_is_told_of_once() {
        let quarantine = Quarantine::none();
        let gone = |objects: &[&str]| {
            let of = objects.iter().map(|object| Finding {
                kind: FindingKind::AuthorityGone,
                object: (*object).to_owned(),
                detail: "a node has shown it".to_owned(),
            });
            of.collect::<Vec<_>>()
        };
        assert_eq!(quarantine.tell_of(gone(&["a", "b"])), 2);
        assert_eq!(quarantine.tell_of(gone(&["a", "b"])), 0);
        assert_eq!(quarantine.tell_of(gone(&["a", "c"])), 1);
    }
}

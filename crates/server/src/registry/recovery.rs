//! Nodes that come back by their device key. Invariant: a claim, a key or a person's word is judged in the transaction that stores what came of it.

use std::time::Duration;

use landfast_identity::{PublicKey, SpiffeId, UnixTime};
use landfast_lifecycle::recovery::{Answer, Claim, Decision, Entered, KeyName, Offer, Recovery, Verdict};

use super::{Registry, RegistryError};
use crate::datastore::DatastoreError;

/// What happens to the recovery of a node.
#[derive(Clone, Debug)]
pub(crate) enum RecoveryStep {
    /// Somebody who has signed with the device key of this name asks to be the node.
    Claim {
        proved: KeyName,
        claim: Claim,
        automatic: Duration,
    },
    /// The node registers a device key.
    Register(Offer),
    /// A person has decided about the request of this key.
    Decide {
        request: KeyName,
        answer: Answer,
        now: UnixTime,
    },
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stepped {
    Claimed(Verdict),
    Entered(Entered),
    /// Whether there was such a request.
    Decided(bool),
}

impl RecoveryStep {
    pub(crate) fn apply(self, recovery: &mut Recovery) -> Stepped {
        match self {
            Self::Claim {
                proved,
                claim,
                automatic,
            } => Stepped::Claimed(recovery.claim(&proved, claim, automatic)),
            Self::Register(offer) => Stepped::Entered(recovery.register(offer)),
            Self::Decide { request, answer, now } => Stepped::Decided(recovery.decide(&request, answer, now)),
        }
    }
}

impl Registry {
    /// Takes the step, durably, and answers what came of it and how the node stands then.
    ///
    /// # Errors
    /// There is no such agent, it is banned, or the datastore fails.
    pub(crate) async fn recover(
        &self,
        id: &SpiffeId,
        step: RecoveryStep,
    ) -> Result<(Stepped, Recovery), RegistryError> {
        self.datastore.recover(id.clone(), step).await
    }

    /// The device key by which a node may come back, and the request of it that a person has approved, if it has not come back since.
    pub(crate) async fn device_key(
        &self,
        id: &SpiffeId,
    ) -> Result<Option<(PublicKey, Option<KeyName>)>, DatastoreError> {
        let recovery = self.datastore.recovery(id.clone()).await?;
        Ok(recovery.and_then(|recovery| {
            let key = PublicKey::from_spki_der(&recovery.key?.spki).ok()?;
            let approved = recovery
                .last
                .filter(|(_, decision)| *decision == Decision::Approved);
            Some((key, approved.map(|(claim, _)| claim.key)))
        }))
    }

    /// Nodes about which a person is to decide, in the order of their IDs.
    pub(crate) async fn waiting_recoveries(
        &self,
        after: &str,
        limit: usize,
    ) -> Result<Vec<(SpiffeId, Recovery)>, DatastoreError> {
        self.datastore.waiting_recoveries(after.to_owned(), limit).await
    }
}

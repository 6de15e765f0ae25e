//! What operators order of the authorities above ours: taint, revoke.
//!
//! Invariant: as with our own, only one that has signed before and does not sign now is tainted, and only a tainted one revoked.

use std::sync::Arc;

use landfast_daemon::TaskHandle;
use landfast_identity::UnixTime;

use super::above::RootTrust;
use super::journal::{AuthorityRow, Journal, Kind, Slot};
use super::orders::wholly;
use super::{Authorities, AuthorityError};
use crate::issuance::Requester;

/// What is to be done with the root of this key identifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum UpstreamOrder {
    /// What is below it is to be replaced; it still verifies.
    Taint,
    /// Nothing below it verifies any more, whatever the upstream authority says.
    Revoke,
}

impl Authorities {
    /// Carries out an order whatever becomes of who gave it, as [`Self::order_wholly`]. The log says who it was.
    ///
    /// # Errors
    /// As [`Self::order_above`], or the server is stopping.
    pub(crate) async fn order_above_wholly(
        self: &Arc<Self>,
        tasks: &TaskHandle,
        order: UpstreamOrder,
        key_id: String,
        by: Requester,
    ) -> Result<(), UpstreamOrderError> {
        let authorities = Arc::clone(self);
        wholly(tasks, async move {
            let done = authorities.order_above(order, &key_id).await;
            match &done {
                Ok(()) => tracing::warn!(?order, key_id, %by, "an operator's order for an upstream authority was carried out"),
                Err(error) => {
                    let error = landfast_daemon::error_chain(error);
                    tracing::warn!(?order, key_id, error, %by, "an operator's order for an upstream authority was refused");
                }
            }
            done
        })
        .await
    }

    /// Carries out an order.
    ///
    /// # Errors
    /// When there is no upstream authority, the root is not in the state that the order needs, or nothing can be stored; then nothing has
    /// changed.
    pub(crate) async fn order_above(
        &self,
        order: UpstreamOrder,
        key_id: &str,
    ) -> Result<(), UpstreamOrderError> {
        for _ in 0..MAX_TRIES {
            let journal = self.datastore.journal().await.map_err(AuthorityError::from)?;
            // One that is no longer configured may still have roots here.
            if !self.has_upstream() && journal.above.is_empty() {
                return Err(UpstreamOrderError::NoUpstream);
            }
            signed_an_old_one(&journal, key_id, self.clock.now())?;
            let (mut rows, mut above) = (journal.rows.clone(), journal.above.clone());
            let mut named: Vec<_> = above
                .roots
                .iter_mut()
                .filter(|root| root.id() == key_id)
                .collect();
            let held = |trust| named.iter().all(|root| root.trust == trust);
            match order {
                _ if held(RootTrust::Revoked) => return Err(UpstreamOrderError::Unknown),
                UpstreamOrder::Taint if held(RootTrust::Tainted) => {
                    return Err(UpstreamOrderError::AlreadyTainted);
                }
                UpstreamOrder::Revoke if !held(RootTrust::Tainted) => {
                    return Err(UpstreamOrderError::NotTainted);
                }
                UpstreamOrder::Taint | UpstreamOrder::Revoke => {}
            }
            for root in &mut named {
                root.trust = match order {
                    UpstreamOrder::Taint => RootTrust::Tainted,
                    UpstreamOrder::Revoke => RootTrust::Revoked,
                };
            }
            for row in rows.iter_mut().filter(|row| stands_under(row, key_id)) {
                row.tainted = true;
            }
            if self.commit(&journal, rows, Some(above)).await?.is_some() {
                return Ok(());
            }
        }
        Err(UpstreamOrderError::Busy)
    }
}

fn signed_an_old_one(
    journal: &Journal,
    key_id: &str,
    now: Option<UnixTime>,
) -> Result<(), UpstreamOrderError> {
    if key_id.is_empty() {
        return Err(UpstreamOrderError::NoId);
    }
    let below = |row: &&AuthorityRow| row.kind == Kind::X509 && stands_under(row, key_id);
    // Its nodes would replace what it signs as often as it signs. One that is gone for good is in the way until its authority has ended.
    let signs = |row: &AuthorityRow| row.slot == Slot::Active && now.is_none_or(|now| now < row.not_after);
    if journal.others.iter().filter(below).any(signs) {
        return Err(UpstreamOrderError::SignsElsewhere);
    }
    let under = |slot| journal.rows.iter().filter(below).any(|row| row.slot == slot);
    if under(Slot::Active) {
        return Err(UpstreamOrderError::Signs);
    }
    if under(Slot::Prepared) {
        return Err(UpstreamOrderError::Prepared);
    }
    match under(Slot::Old) || journal.others.iter().any(|row| below(&row)) {
        true => Ok(()),
        false => Err(UpstreamOrderError::NotOld),
    }
}

fn stands_under(row: &AuthorityRow, key_id: &str) -> bool {
    row.descent.as_ref().is_some_and(|descent| descent.root == key_id)
}

/// Why an order was not carried out, in the words that SPIRE's clients know.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamOrderError {
    #[error("upstream authority is not configured")]
    NoUpstream,
    #[error("no subject key ID provided")]
    NoId,
    #[error(
        "unable to use upstream authority singing current authority: prepare and activate one under another first"
    )]
    Signs,
    #[error(
        "another server of this database signs under it: have that one prepare and activate an authority under another first, or taint it above"
    )]
    SignsElsewhere,
    #[error("only upstream authorities signing an old authority can be used")]
    Prepared,
    #[error("upstream authority didn't sign the old local authority")]
    NotOld,
    #[error("no ca found with provided subject key ID")]
    Unknown,
    #[error("root CA is already tainted")]
    AlreadyTainted,
    #[error("it is not possible to revoke an untainted root CA")]
    NotTainted,
    #[error("the authorities keep changing: try again")]
    Busy,
    #[error("the order cannot be carried out")]
    Failed {
        #[from]
        source: AuthorityError,
    },
}

const MAX_TRIES: usize = 8;

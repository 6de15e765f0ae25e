//! Whether those who may be cut off know the next X.509 authority. Invariant: while another can sign, one that a node with a reserve may not know does
//! not: a node that was cut off before a rotation and one that is cut off after it accept each other.

use std::sync::PoisonError;
use std::time::Duration;

use landfast_identity::UnixTime;

use super::above::root_of;
use super::journal::{AuthorityRow, Journal, Kind, Slot};
use super::{Authorities, AuthorityError};

/// Why an authority does not sign yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Unheard {
    /// Nodes that have not said that they know it.
    pub(super) nodes: usize,
    /// Then it has been in the bundle for as long as the longest reserve lasts, and whoever has not heard of it has nothing left.
    pub(super) left: Duration,
}

impl Authorities {
    /// Why the prepared authority of this kind is not to sign yet; `None` when it may. Tokens are asked for while a node is online, so their keys are
    /// not waited for.
    ///
    /// # Errors
    /// What nodes have said cannot be read.
    pub(super) async fn unheard(
        &self,
        kind: Kind,
        journal: &Journal,
        now: UnixTime,
    ) -> Result<Option<Unheard>, AuthorityError> {
        let (Kind::X509, Some(next)) = (kind, journal.newcomer()) else {
            return Ok(None);
        };
        let longest = self.params.longest_reserve;
        let left = longest.saturating_sub(self.ages.of(next, &*self.clock, now));
        let left = left.max(
            self.longer(next)
                .await?
                .map_or(Duration::ZERO, |end| end.since(now)),
        );
        if left.is_zero() || !journal.another_signs(now) || journal.root_has_signed(next) {
            return Ok(None);
        }
        // Of a bundle that is newer than the authority: of an older one nobody has kept which it was.
        let nodes = self.datastore.unacknowledged(journal.sequence, now).await?;
        metrics::gauge!("landfast_server_authority_unheard_nodes").set(nodes as f64);
        if nodes == 0 {
            return Ok(None);
        }
        if self.said_unheard(&next.id) {
            tracing::info!(
                authority = next.id,
                nodes,
                seconds = left.as_secs(),
                "an authority is ready to sign and waits until every node has said that it knows it, or for so long: those that do not come back are not \
                 waited for once they are banned or evicted"
            );
        }
        Ok(Some(Unheard { nodes, left }))
    }

    /// Until when nodes have something of before this authority that reaches further than reserves may today: they may have been longer.
    async fn longer(&self, next: &AuthorityRow) -> Result<Option<UnixTime>, AuthorityError> {
        let known = {
            let known = self.longer.lock().unwrap_or_else(PoisonError::into_inner);
            known.clone().filter(|(id, _)| *id == next.id)
        };
        // Once for each authority: it looks through all that nodes have, and grows no more.
        if let Some((_, end)) = known {
            return Ok(end);
        }
        let reach = next.created_at.saturating_add(self.params.longest_reserve);
        let end = self.datastore.last_rung(next.created_at, reach).await?;
        *self.longer.lock().unwrap_or_else(PoisonError::into_inner) = Some((next.id.clone(), end));
        Ok(end)
    }

    /// `true` the first time that it is about this one.
    fn said_unheard(&self, id: &str) -> bool {
        let mut said = self.unheard_said.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = *said != id;
        id.clone_into(&mut said);
        is_new
    }
}

impl Journal {
    /// The X.509 authority that is prepared and has never signed.
    fn newcomer(&self) -> Option<&AuthorityRow> {
        let x509 = self.rows.iter().filter(|row| row.kind == Kind::X509);
        let next = x509
            .filter(|row| row.slot == Slot::Prepared)
            .max_by_key(|row| row.created_at);
        next.filter(|row| row.activated_at.is_none())
    }

    /// Else nothing is left that a node could have had signed before, and the next one is all there is.
    fn another_signs(&self, now: UnixTime) -> bool {
        let signs = |row: &AuthorityRow| {
            let is_good = row.not_before <= now && now < row.not_after && !row.tainted;
            row.kind == Kind::X509 && row.activated_at.is_some() && is_good
        };
        let ours = self.rows.iter().filter(|row| row.slot == Slot::Active);
        ours.chain(&self.others).any(signs)
    }

    /// Of one that another signed, the root is what everybody has to know: one that signs has waited for it.
    fn root_has_signed(&self, next: &AuthorityRow) -> bool {
        let root = root_of(next).filter(|root| self.above.trusts(root));
        let under = |row: &AuthorityRow| {
            row.id != next.id && !row.tainted && row.activated_at.is_some() && root_of(row) == root
        };
        root.is_some() && self.signing().any(under)
    }
}

//! What is issued also while the ledger cannot be written. Invariant: only what an entry's policy says, and without which such an entry could not be
//! fetched: the node's own SVID and the server's. Never by an administrator's order, and never an authority.

use landfast_identity::SpiffeId;

use super::record::IssuanceRecord;
use super::{IssueError, Issuer, Requester, RequesterKind};
use crate::ledger;

impl Issuer {
    pub(super) fn goes_on(&self, who: &Requester, id: &SpiffeId, entry_id: Option<&str>) -> bool {
        let Some(registry) = &self.registry else {
            return false;
        };
        match (entry_id, &who.kind) {
            (Some(entry), _) => !id.path().is_empty() && registry.is_availability_first(entry),
            (None, RequesterKind::Server) => registry.any_is_availability_first(),
            (None, RequesterKind::Agent(_) | RequesterKind::Attestation(_)) => {
                id.is_agent() && registry.node_is_availability_first(id)
            }
            (None, _) => false,
        }
    }

    /// Whether each of these may leave: its record is on the disk, or it goes on without.
    pub(super) async fn recorded(
        &self,
        who: &Requester,
        leaving: &[&IssuanceRecord],
    ) -> Vec<Result<(), IssueError>> {
        let goes_on =
            |signed: &IssuanceRecord| self.goes_on(who, &signed.spiffe_id, signed.entry_id.as_deref());
        let goes_on: Vec<bool> = leaving.iter().map(|signed| goes_on(signed)).collect();
        let these = |which: bool| {
            let these = leaving
                .iter()
                .zip(&goes_on)
                .filter(|(_, goes_on)| **goes_on == which);
            these.map(|(signed, _)| ledger::issued(who, signed)).collect()
        };
        let (strict, others) = tokio::join!(
            self.ledger.append(these(false)),
            self.ledger.append_or_keep(these(true))
        );
        for refused in [&strict, &others]
            .into_iter()
            .filter_map(|done| done.as_ref().err())
        {
            let error = landfast_daemon::error_chain(refused);
            tracing::debug!(error, "nothing is issued: it cannot be recorded");
            metrics::counter!("landfast_server_issuance_refused_total").increment(1);
        }
        let answer = |goes_on: &bool| if *goes_on { others.clone() } else { strict.clone() };
        goes_on.iter().map(|goes_on| Ok(answer(goes_on)?)).collect()
    }
}

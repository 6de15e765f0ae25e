//! What operators and nodes have changed goes into the ledger, with who did it. Invariant: the record is on the disk before the answer leaves; but a
//! change is not undone for want of one: a ban has to be possible while the disk is full. Then it is kept, and written behind the gap.

use std::net::IpAddr;

use landfast_audit::Record;
use landfast_daemon::error_chain;

use super::Api;
use crate::issuance::Requester;
use crate::ledger::{self, Failure};

impl Api {
    /// A node was not let in, and all that is known of it is where it comes from.
    pub(super) fn failed(&self, address: &str, reason: &str) {
        // On the admin socket there is none, nor anybody unknown.
        if let Ok(source) = address.parse::<IpAddr>() {
            self.ledger.failed(Failure::Attestation, source, reason);
        }
    }

    /// `by` has done this.
    pub(super) async fn did(&self, by: &Requester, what: Record) {
        let what = Record {
            actor: ledger::actor(by),
            reason: what.reason.clone().or_else(|| by.reason.clone()),
            ..ledger::at(self.clock.now(), what)
        };
        let kind = what.kind;
        if let Err(error) = self.ledger.append_or_keep(vec![what]).await {
            let error = error_chain(&error);
            tracing::error!(error, kind, %by, "a change has no record in the ledger");
        }
    }
}

//! A node that has proved itself goes into the registry. Invariant: it is there before its answer leaves, and when it is there that is recorded, also
//! when the node has hung up meanwhile.

use landfast_identity::PublicKey;
use tonic::Status;

use crate::api::{Api, status};
use crate::attestation::Attested;
use crate::authz::to_the_end;
use crate::issuance::{IssuedX509, Requester};
use crate::ledger;
use crate::registry::AgentRecord;

/// A node, and what it gets.
pub(super) struct Entry<'a> {
    pub(super) attested: Attested,
    pub(super) method: &'a str,
    pub(super) issued: &'a IssuedX509,
    pub(super) key: &'a PublicKey,
}

impl Api {
    pub(super) async fn enter(&self, entry: Entry<'_>, who: Requester) -> Result<(), Status> {
        let Entry {
            attested,
            method,
            issued,
            key,
        } = entry;
        let returns = attested.returned.is_some();
        let entered = ledger::node("node.attested").about(&attested.agent_id);
        let entered = landfast_audit::Record {
            approval: attested.approval,
            ..entered
                .with("returned", returns)
                .with("serial", issued.serial_hex())
        };
        let record = AgentRecord {
            id: attested.agent_id,
            attestation_type: attested.returned.unwrap_or_else(|| method.to_owned()),
            serial: issued.serial_hex(),
            not_after: issued.not_after,
            new_serial: None,
            new_not_after: None,
            selectors: attested.selectors,
            can_reattest: attested.can_reattest,
            agent_version: String::new(),
            key_hash: key.sha256(),
        };
        let api = self.clone();
        // The commit goes on without us.
        let work = async move {
            let stored = match returns {
                true => api.registry.return_agent(record).await,
                false => api.registry.upsert_agent_on_attest(record).await,
            };
            stored.map_err(|error| status::registry(&error))?;
            api.did(&who, entered).await;
            Ok(())
        };
        to_the_end(work).await
    }
}

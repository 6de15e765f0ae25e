//! `join_token`: whoever shows the token first is the node. Invariant: exactly one key, ever, gets in by a token.

use tonic::Status;

use super::{Attested, Evidence};
use crate::api::status;
use crate::registry::{Registry, alias_selector};

pub(super) async fn attest(evidence: &Evidence<'_>, registry: &Registry) -> Result<Attested, Status> {
    let token = std::str::from_utf8(evidence.payload)
        .ok()
        .filter(|token| !token.is_empty())
        .ok_or_else(|| Status::invalid_argument("failed to attest: missing join token"))?;
    let redeemed = registry
        .redeem_join_token(token, evidence.key.sha256(), evidence.now)
        .await;
    let redeemed = redeemed.map_err(|refused| status::token(&refused))?;
    if !redeemed.first {
        tracing::info!(agent = %redeemed.agent_id, "a node asks again with its join token and the same key: its answer was lost");
    }
    let selectors = alias_selector(&redeemed.agent_id);
    let selectors = selectors.ok_or_else(|| status::internal("an agent ID that is no selector"))?;
    Ok(Attested {
        agent_id: redeemed.agent_id,
        selectors,
        can_reattest: false,
        returned: None,
        approval: None,
    })
}

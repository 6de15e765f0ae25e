//! What operators take away, and what they ask for ahead.

use landfast_proto::landfast::entry::v1 as entries;
use landfast_proto::spire::api::server::agent::v1::{self as agent_api, agent_client::AgentClient};
use landfast_proto::spire::api::server::entry::v1::{self as entry_api, entry_client::EntryClient};
use landfast_proto::spire::api::types;

use crate::{NodeAgent, Plant, TRUST_DOMAIN};

impl Plant {
    /// Deletes an entry.
    pub async fn delete_entry(&self, id: &str) {
        let request = entry_api::BatchDeleteEntryRequest {
            ids: vec![id.to_owned()],
        };
        let done = EntryClient::new(self.admin().await)
            .batch_delete_entry(request)
            .await;
        let result = done.expect("an answer").into_inner().results.remove(0);
        assert_eq!(result.status.map(|status| status.code), Some(0));
    }

    /// Sets the masked fields of an entry's policy.
    pub async fn set_policy(&self, policy: entries::EntryPolicy, mask: entries::EntryPolicyMask) {
        let request = entries::SetEntryPolicyRequest {
            policy: Some(policy),
            mask: Some(mask),
            if_revision: 0,
        };
        entries::entry_policies_client::EntryPoliciesClient::new(self.admin().await)
            .set_entry_policy(request)
            .await
            .expect("the policy");
    }

    /// Evicts a node: it has to attest again.
    pub async fn evict(&self, agent: &NodeAgent) {
        let path = agent
            .id
            .strip_prefix("spiffe://")
            .and_then(|id| id.strip_prefix(TRUST_DOMAIN));
        let id = Some(types::Spiffeid {
            trust_domain: TRUST_DOMAIN.to_owned(),
            path: path.expect("an agent of this trust domain").to_owned(),
        });
        AgentClient::new(self.admin().await)
            .delete_agent(agent_api::DeleteAgentRequest { id })
            .await
            .expect("the eviction");
    }

    /// Bans a node.
    pub async fn ban(&self, agent: &NodeAgent) {
        let path = agent
            .id
            .strip_prefix("spiffe://")
            .and_then(|id| id.strip_prefix(TRUST_DOMAIN));
        let path = path.expect("an agent of this trust domain").to_owned();
        let id = Some(types::Spiffeid {
            trust_domain: TRUST_DOMAIN.to_owned(),
            path,
        });
        AgentClient::new(self.admin().await)
            .ban_agent(agent_api::BanAgentRequest { id })
            .await
            .expect("the ban");
    }
}

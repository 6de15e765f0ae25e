//! The registry's agents. Invariant: a ban outlives everything but the deletion of the agent.

use std::sync::Arc;

use landfast_identity::{Certificate, SpiffeId, UnixTime};

use super::agent::judge;
use super::{AgentFilter, AgentRecord, AgentStanding, Registry, RegistryError, page};
use crate::datastore::{AgentChange, Entering};

impl Registry {
    /// Stores an agent that has attested; an agent of this ID is replaced, its old SVID is over at once.
    ///
    /// # Errors
    /// [`RegistryError::Banned`], [`RegistryError::TokenRevoked`], or the datastore fails.
    pub async fn upsert_agent_on_attest(&self, record: AgentRecord) -> Result<(), RegistryError> {
        let entering = Entering::Attested { at: self.now()? };
        self.datastore.attest_agent(record, entering).await
    }

    /// Stores the new SVID of an agent that has come back by its device key; its old SVID is over at once.
    ///
    /// # Errors
    /// [`RegistryError::Banned`], [`RegistryError::NoSuchAgent`] when it was evicted meanwhile, or the datastore fails.
    pub async fn return_agent(&self, record: AgentRecord) -> Result<(), RegistryError> {
        self.datastore.attest_agent(record, Entering::Returned).await
    }

    /// The agent of this ID.
    pub fn agent(&self, id: &SpiffeId) -> Option<Arc<AgentRecord>> {
        self.read().agent(id)
    }

    /// A page of agents in the order of their IDs, from after `after`; 0 is one page of all.
    pub fn list_agents(
        &self,
        filter: &AgentFilter,
        page_size: usize,
        after: Option<&str>,
    ) -> (Vec<Arc<AgentRecord>>, Option<String>) {
        page(self.read().agents(filter, after), page_size, |agent| {
            agent.id.to_string()
        })
    }

    /// How many agents match.
    pub fn count_agents(&self, filter: &AgentFilter) -> usize {
        self.read().agents(filter, None).count()
    }

    /// Evicts an agent, with the alias entry of its join token; `false` when there was none. It may attest anew, but its token is spent.
    ///
    /// # Errors
    /// The datastore fails.
    pub async fn delete_agent(&self, id: &SpiffeId) -> Result<bool, RegistryError> {
        self.datastore.delete_agent(id.clone(), self.now()?).await
    }

    /// Bans an agent until it is deleted.
    ///
    /// # Errors
    /// There is none of this ID, or the datastore fails.
    pub async fn ban_agent(&self, id: &SpiffeId) -> Result<(), RegistryError> {
        self.change(id, AgentChange::Ban).await
    }

    /// Notes what an agent says it runs.
    ///
    /// # Errors
    /// There is none of this ID, or the datastore fails.
    pub async fn set_agent_version(&self, id: &SpiffeId, version: &str) -> Result<(), RegistryError> {
        let version: String = version
            .chars()
            .filter(|c| !c.is_control())
            .take(MAX_VERSION)
            .collect();
        if self.agent(id).is_some_and(|agent| agent.agent_version == version) {
            return Ok(());
        }
        self.change(id, AgentChange::Version(version)).await
    }

    /// Notes a renewed SVID; the old one stays current until the new one is first used.
    ///
    /// # Errors
    /// There is none of this ID, it is banned, or the datastore fails.
    pub async fn stage_renewal(
        &self,
        id: &SpiffeId,
        new_serial: &str,
        new_not_after: UnixTime,
    ) -> Result<(), RegistryError> {
        let change = AgentChange::Stage {
            serial: new_serial.to_owned(),
            not_after: new_not_after,
            at: self.now()?,
        };
        self.change(id, change).await
    }

    /// Whether the holder of the SVID with this serial may act as this agent at `now`. The first use of a renewed SVID ends the old
    /// one, durably. Should that not be storable, the agent is let in all the same, and the next use tries again: a full disk
    /// must not cut off every node that has just renewed.
    pub async fn standing(&self, id: &SpiffeId, serial_hex: &str, now: UnixTime) -> AgentStanding {
        let (standing, promote) = judge(self.read().agent(id).as_deref(), serial_hex, now);
        if promote {
            let change = AgentChange::Promote {
                serial: serial_hex.to_owned(),
            };
            match self.change(id, change).await {
                Ok(()) => {}
                // It was banned, evicted, or renewed once more in the meantime: ask again, without another promotion.
                Err(RegistryError::NoSuchAgent { .. } | RegistryError::Banned) => {
                    return judge(self.read().agent(id).as_deref(), serial_hex, now).0;
                }
                Err(error) => {
                    let error = landfast_daemon::error_chain(&error);
                    tracing::warn!(agent = %id, error, "the renewed SVID of an agent is in use, but that cannot be stored");
                }
            }
        }
        standing
    }

    /// Takes the SVID that an agent shows for its current one, if the registry was restored and the agent was renewed after the backup; `false`:
    /// it was not. It is taken once, and only of an agent that the backup knows: else every node that has been renewed since would have to be
    /// enrolled by hand.
    pub async fn adopt_after_restoration(
        &self,
        id: &SpiffeId,
        shown: &Certificate,
        serial_hex: &str,
    ) -> bool {
        let taken = |agent: Arc<AgentRecord>| agent.may_have_renewed(shown.not_before());
        if !self.agent(id).is_some_and(taken) {
            return false;
        }
        let change = AgentChange::Adopt {
            serial: serial_hex.to_owned(),
            not_before: shown.not_before(),
            not_after: shown.not_after(),
        };
        match self.change(id, change).await {
            Ok(()) => {
                tracing::info!(agent = %id, serial = serial_hex, "an agent was renewed after the backup: its SVID is the current one");
                true
            }
            // Another call with it was faster, or with another one.
            Err(RegistryError::NoSuchAgent { .. } | RegistryError::Banned) => {
                self.agent(id).is_some_and(|agent| agent.serial == serial_hex)
            }
            Err(error) => {
                let error = landfast_daemon::error_chain(&error);
                tracing::warn!(agent = %id, error, "an agent was renewed after the backup, but that cannot be stored");
                true
            }
        }
    }

    async fn change(&self, id: &SpiffeId, change: AgentChange) -> Result<(), RegistryError> {
        if self.datastore.change_agent(id.clone(), change).await? {
            Ok(())
        } else {
            Err(RegistryError::NoSuchAgent { id: id.clone() })
        }
    }
}

const MAX_VERSION: usize = 255;

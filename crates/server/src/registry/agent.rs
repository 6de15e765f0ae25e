//! Attested nodes. Invariant: an empty serial means banned, and only deleting the agent ends that.

use landfast_identity::{SelectorSet, SpiffeId, UnixTime};

use super::filter::MatchKind;

/// An attested node.
#[derive(Clone, Debug, PartialEq)]
pub struct AgentRecord {
    /// Its SPIFFE ID.
    pub id: SpiffeId,
    /// How it attested.
    pub attestation_type: String,
    /// Serial of its current SVID, lower-case hex; empty when banned.
    pub serial: String,
    /// When its current SVID ends.
    pub not_after: UnixTime,
    /// Serial of a renewed SVID that it has not used yet. After a restoration: from when on one may be that is not known here.
    pub new_serial: Option<String>,
    /// When that one ends.
    pub new_not_after: Option<UnixTime>,
    /// What attestation found out about the node.
    pub selectors: SelectorSet,
    /// Whether it can attest again by itself.
    pub can_reattest: bool,
    /// What it says it runs.
    pub agent_version: String,
    /// SHA-256 of the SPKI it attested with.
    pub key_hash: [u8; 32],
}

impl AgentRecord {
    /// Whether it is banned.
    pub fn is_banned(&self) -> bool {
        self.serial.is_empty()
    }

    /// Whether an SVID of it that begins then may be one that was issued after the backup which this registry was restored from.
    pub(crate) fn may_have_renewed(&self, not_before: UnixTime) -> bool {
        let since = self
            .new_serial
            .as_ref()
            .and_then(|new| new.strip_prefix(RENEWED_SINCE));
        let since = since.and_then(|since| since.parse().ok());
        !self.is_banned() && since.is_some_and(|since| not_before.as_secs() >= since)
    }
}

/// What stands for the serial of a renewed SVID then. No serial is like it.
pub(crate) fn renewed_since(secs: i64) -> String {
    format!("{RENEWED_SINCE}{secs}")
}

const RENEWED_SINCE: &str = "renewed-since:";

/// Whether the holder of an agent SVID may act as that agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AgentStanding {
    /// Yes.
    Active,
    /// The SVID has expired.
    Expired,
    /// No such agent: never attested, or evicted.
    NotAttested,
    /// Another SVID is the agent's current one.
    NotActive,
    /// The agent is banned.
    Banned,
}

/// Which agents.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Attested this way.
    pub attestation_type: Option<String>,
    /// Banned, or not.
    pub banned: Option<bool>,
    /// Able to re-attest, or not.
    pub can_reattest: Option<bool>,
    /// With an SVID that ends before this.
    pub expires_before: Option<UnixTime>,
    /// With selectors that match these.
    pub selectors: Option<(SelectorSet, MatchKind)>,
}

impl AgentFilter {
    pub(crate) fn matches(&self, agent: &AgentRecord) -> bool {
        self.attestation_type
            .as_ref()
            .is_none_or(|t| *t == agent.attestation_type)
            && self.banned.is_none_or(|b| b == agent.is_banned())
            && self.can_reattest.is_none_or(|c| c == agent.can_reattest)
            && self.expires_before.is_none_or(|t| agent.not_after < t)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(set, kind)| kind.holds(&agent.selectors, set))
    }
}

/// What a holder of this serial may do, and whether its renewed SVID has just come into use.
pub(crate) fn judge(agent: Option<&AgentRecord>, serial: &str, now: UnixTime) -> (AgentStanding, bool) {
    let Some(agent) = agent else {
        return (AgentStanding::NotAttested, false);
    };
    let alive = |end: UnixTime| {
        if now < end {
            AgentStanding::Active
        } else {
            AgentStanding::Expired
        }
    };
    if agent.is_banned() {
        (AgentStanding::Banned, false)
    } else if agent.serial == serial {
        (alive(agent.not_after), false)
    } else if agent.new_serial.as_deref() == Some(serial) && !serial.is_empty() {
        let standing = alive(agent.new_not_after.unwrap_or(agent.not_after));
        (standing, standing == AgentStanding::Active)
    } else {
        (AgentStanding::NotActive, false)
    }
}

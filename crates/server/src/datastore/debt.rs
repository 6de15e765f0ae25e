//! What nodes still have: rungs that are neither spent nor revoked. And the text that audiences are stored as.

use std::time::Duration;

use landfast_identity::UnixTime;

use crate::registry::JwtOffline;

/// Which; of what is given, all must fit.
#[derive(Clone, Debug)]
pub(crate) struct DebtQuery {
    /// Of these agents, by their SPIFFE IDs; empty: of all.
    pub(crate) agents: Vec<String>,
    /// Of these entries; empty: of all.
    pub(crate) entries: Vec<String>,
    /// Signed by one of these; empty: by any.
    pub(crate) authorities: Vec<String>,
    /// None of those whose authority is tainted: their nodes give them up.
    pub(crate) untainted: bool,
    pub(crate) now: UnixTime,
    /// From after this agent and entry.
    pub(crate) after: (String, String),
    pub(crate) limit: usize,
}

/// What one agent has for one entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Debt {
    pub(crate) agent: String,
    pub(crate) entry: String,
    pub(crate) rungs: u64,
    /// When the last of them ends.
    pub(crate) ends: UnixTime,
}

/// Who asks for rungs, as a record has it.
pub(super) fn requester(agent: &str) -> String {
    format!("{AGENT}{agent}")
}

/// The other way.
pub(super) fn agent(requester: &str) -> String {
    requester.strip_prefix(AGENT).unwrap_or(requester).to_owned()
}

/// As `Requester` writes it.
const AGENT: &str = "agent ";

pub(super) type AudienceText = Vec<(String, u64)>;

pub(super) fn audiences(tokens: &[JwtOffline]) -> AudienceText {
    let text = |token: &JwtOffline| (token.audience.clone(), token.ttl.as_secs());
    tokens.iter().map(text).collect()
}

pub(super) fn read_audiences(text: AudienceText) -> Vec<JwtOffline> {
    let token = |(audience, seconds)| JwtOffline {
        audience,
        ttl: Duration::from_secs(seconds),
    };
    text.into_iter().map(token).collect()
}

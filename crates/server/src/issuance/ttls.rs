//! How long what is signed lives. Invariant: every default is a time that an operator can read here.

use std::time::Duration;

/// How long things live when nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ttls {
    /// Authorities.
    pub ca: Duration,
    /// SVIDs of agents.
    pub agent: Duration,
    /// X.509-SVIDs.
    pub x509: Duration,
    /// JWT-SVIDs.
    pub jwt: Duration,
    /// WIT-SVIDs.
    pub wit: Duration,
    /// How far validity starts in the past, for slow clocks.
    pub backdate: Duration,
}

impl Default for Ttls {
    fn default() -> Self {
        Self {
            ca: Duration::from_secs(30 * 86_400),
            agent: Duration::from_secs(7 * 86_400),
            x509: Duration::from_secs(3600),
            jwt: Duration::from_secs(300),
            wit: Duration::from_secs(3600),
            backdate: Duration::from_secs(300),
        }
    }
}

impl Ttls {
    /// What an operator should know about these, a sentence each. An authority signs until its last sixth: SVIDs that live longer
    /// than that are cut short before a rotation. For workloads and tokens that is a warning; agents renew at half-life and lose little,
    /// so theirs is one only from half of the authority's life on.
    pub fn warnings(&self) -> Vec<String> {
        let sixth = self.ca / 6;
        let mut found = Vec::new();
        for (name, ttl, limit) in [
            ("ttl.x509", self.x509, sixth),
            ("ttl.jwt", self.jwt, sixth),
            ("ttl.wit", self.wit, sixth),
            ("ttl.agent", self.agent, self.ca / 2),
        ] {
            // By default the same as `ttl.x509`, and then said once.
            if ttl > limit && !(name == "ttl.wit" && ttl == self.x509) {
                found.push(format!(
                    "{name} is {} s, but with ttl.ca = {} s SVIDs are cut short when they live longer than {} s",
                    ttl.as_secs(),
                    self.ca.as_secs(),
                    limit.as_secs()
                ));
            }
        }
        found
    }
}

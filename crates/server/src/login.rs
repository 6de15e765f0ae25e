//! Logins from another machine. Invariant: a certificate is for the key that the question was asked for, and for who has answered it; the server keeps
//! nothing of a question that nobody has answered.

mod challenge;
mod provider;

use std::sync::Arc;
use std::time::Duration;

use landfast_lifecycle::SharedClock;

use crate::federation::DangerNetworks;

pub(crate) use challenge::{ChallengeError, Challenges, LONGEST, SOON};
pub use provider::ProviderConfig;
pub(crate) use provider::{Provider, ProviderError};

/// How persons log in from elsewhere.
#[derive(Clone, Debug)]
pub struct LoginConfig {
    /// For how long a certificate may be asked for.
    pub longest: Duration,
    /// Providers whose word is taken. At most eight.
    pub providers: Vec<ProviderConfig>,
}

impl LoginConfig {
    /// The life of a certificate that is asked for without saying for how long.
    pub(crate) fn usual(&self) -> Duration {
        USUAL.min(self.longest)
    }
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            longest: Duration::from_secs(8 * 3600),
            providers: Vec::new(),
        }
    }
}

/// What the service works on.
pub(crate) struct Logins {
    pub(crate) config: LoginConfig,
    pub(crate) challenges: Challenges,
    pub(crate) providers: Vec<Provider>,
}

impl Logins {
    /// `danger`: networks where providers may be although by default nobody is asked there. `None` when the random source fails.
    pub(crate) fn new(
        config: LoginConfig,
        danger: &DangerNetworks,
        clock: &SharedClock,
    ) -> Option<Arc<Self>> {
        let provider = |one: &ProviderConfig| Provider::new(one.clone(), danger.clone(), Arc::clone(clock));
        Some(Arc::new(Self {
            challenges: Challenges::new()?,
            providers: config.providers.iter().map(provider).collect(),
            config,
        }))
    }

    /// The one that a token says it is of: nothing of it is believed for that.
    pub(crate) fn provider(&self, issuer: &str) -> Option<&Provider> {
        self.providers
            .iter()
            .find(|provider| provider.config.issuer == issuer)
    }
}

pub(crate) const MAX_PROVIDERS: usize = 8;
const USUAL: Duration = Duration::from_secs(3600);

//! What leaves for a caller, told to whoever keeps a record of it.
//!
//! Invariant: told of each SVID once for each stream that it is sent on, after the last look at the process and before it leaves; and never
//! waited for.

use std::sync::Arc;

use landfast_identity::{SelectorSet, X509Svid};
use landfast_uds::PinnedProcess;

use crate::{FetchedJwt, FetchedWit, ServedX509};

/// Which of the node's services hands out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Way {
    /// The SPIFFE Workload API.
    WorkloadApi,
    /// Envoy's SDS.
    Sds,
    /// SPIRE's DelegatedIdentity.
    DelegatedIdentity,
    /// The SPIFFE Broker API.
    Broker,
}

impl Way {
    /// For records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WorkloadApi => "workload-api",
            Self::Sds => "sds",
            Self::DelegatedIdentity => "delegated-identity",
            Self::Broker => "broker",
        }
    }
}

/// A process that gets something, or for which another gets it.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// Whom it is about; nobody, when only selectors were named.
    pub process: Option<&'a PinnedProcess>,
    /// What is known of it.
    pub selectors: &'a SelectorSet,
}

/// One SVID.
#[derive(Clone, Copy, Debug)]
pub enum Given<'a> {
    /// With its key.
    X509(&'a ServedX509),
    /// A bearer's token.
    Jwt(&'a FetchedJwt),
    /// With its key.
    Wit(&'a FetchedWit),
}

/// One SVID on its way.
#[derive(Clone, Copy, Debug)]
pub struct HandOut<'a> {
    /// By which service.
    pub way: Way,
    /// To whom.
    pub to: Party<'a>,
    /// Whose it is, where that is somebody else.
    pub of: Option<Party<'a>>,
    /// What.
    pub given: Given<'a>,
}

/// What a stream was given last: messages are the whole state, most of which is not new.
#[derive(Default, Debug)]
pub struct GivenBefore(Vec<Arc<X509Svid>>);

impl GivenBefore {
    /// Which of those that are sent now were not sent with the last message.
    pub fn new_among<'s>(&mut self, sent: impl Iterator<Item = &'s ServedX509>) -> Vec<&'s ServedX509> {
        let sent: Vec<_> = sent.collect();
        let known = |served: &&ServedX509| !self.0.iter().any(|before| same(before, &served.svid));
        let new = sent.iter().copied().filter(known).collect();
        self.0 = sent.iter().map(|served| Arc::clone(&served.svid)).collect();
        new
    }
}

fn same(one: &Arc<X509Svid>, other: &Arc<X509Svid>) -> bool {
    Arc::ptr_eq(one, other) || one.chain() == other.chain()
}

#[cfg(test)]
mod tests {
    use landfast_identity::{PrivateKey, SpiffeId};

    use super::*;

    #[test]
    fn no_token_is_in_what_a_log_would_print() {
        let id = SpiffeId::parse("spiffe://plant.test/a").unwrap();
        let jwt = FetchedJwt {
            id: id.clone(),
            token: "a.bearers.token".to_owned(),
            hint: "of a".to_owned(),
            entry_id: "entry-a".to_owned(),
            reserve: false,
        };
        let wit = FetchedWit {
            id,
            token: "a.bound.token".to_owned(),
            key: Arc::new(PrivateKey::generate().unwrap()),
            hint: "of a".to_owned(),
            entry_id: "entry-a".to_owned(),
        };
        let selectors = SelectorSet::default();
        for given in [Given::Jwt(&jwt), Given::Wit(&wit)] {
            let to = Party {
                process: None,
                selectors: &selectors,
            };
            let out = HandOut {
                way: Way::WorkloadApi,
                to,
                of: None,
                given,
            };
            let printed = format!("{out:?}");
            assert!(!printed.contains(".token"), "{printed}");
            assert!(
                printed.contains("plant.test/a") && printed.contains("entry-a"),
                "{printed}"
            );
        }
    }
}

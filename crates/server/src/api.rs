//! The published API, one file a service: decode, call, encode. Who may call what was decided before (`authz`).

pub(crate) mod agent;
mod allowed;
mod batch;
pub(crate) mod bundle;
pub(crate) mod chain;
pub(crate) mod convert;
pub(crate) mod debug;
pub(crate) mod entry;
pub(crate) mod filter;
pub(crate) mod health;
pub(crate) mod ids;
pub(crate) mod info;
pub(crate) mod ledger;
pub(crate) mod limit;
pub(crate) mod local_authority;
pub(crate) mod logger;
pub(crate) mod login;
pub(crate) mod page;
pub(crate) mod people;
pub(crate) mod policy;
pub(crate) mod push;
pub(crate) mod quarantine;
pub(crate) mod recovery;
pub(crate) mod reserve;
mod selftest;
pub(crate) mod status;
pub(crate) mod svid;
pub(crate) mod sync;
mod told;
pub(crate) mod trust_domain;
pub(crate) mod wit;

use std::sync::Arc;

use landfast_daemon::TaskHandle;
use landfast_identity::TrustDomain;
use landfast_lifecycle::SharedClock;
use landfast_tls::IdentityStore;

use crate::admission::Admission;
use crate::answers::Budget;
use crate::attestation::Attestors;
use crate::authority::Authorities;
use crate::chain::Chain;
use crate::datastore::Datastore;
use crate::federation::Federation;
use crate::issuance::Issuer;
use crate::journals::Journals;
use crate::ledger::Ledger;
use crate::login::Logins;
use crate::peers::Peers;
use crate::push::{Digests, Stale};
use crate::quarantine::Quarantine;
use crate::registry::Registry;
use limit::RateLimit;

/// What every service works on.
pub(crate) struct Shared {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) registry: Arc<Registry>,
    pub(crate) authorities: Arc<Authorities>,
    pub(crate) issuer: Arc<Issuer>,
    /// For what the registry does not keep in memory.
    pub(crate) datastore: Arc<dyn Datastore>,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) ledger: Ledger,
    /// Of nodes, on their way into it.
    pub(crate) journals: Journals,
    pub(crate) attestors: Attestors,
    pub(crate) federation: Federation,
    /// Each change of the bundle, signed by the root key.
    pub(crate) chain: Arc<Chain>,
    /// For what has to be done whole once it is begun.
    pub(crate) tasks: TaskHandle,
    /// The server's own SVID.
    pub(crate) own: IdentityStore,
    pub(crate) started: tokio::time::Instant,
    pub(crate) clock: SharedClock,
    /// Whose signatures are made next.
    pub(crate) admission: Admission,
    /// Room for what synchronisations and subscriptions send.
    pub(crate) answers: Budget,
    /// How persons log in from elsewhere.
    pub(crate) logins: Arc<Logins>,
    /// Logins an address may begin and finish.
    pub(crate) login_limit: RateLimit,
    /// Attestations an address may begin.
    pub(crate) attest_limit: RateLimit,
    /// X.509-SVIDs an agent may ask for, its own among them.
    pub(crate) sign_limit: RateLimit,
    /// JWT-SVIDs an agent may ask for: apart, so that a flood of these never delays a renewal.
    pub(crate) jwt_limit: RateLimit,
    /// What an agent may ask for ahead, apart likewise.
    pub(crate) ahead_limit: RateLimit,
    /// Keys a server below this one may publish.
    pub(crate) publish_limit: RateLimit,
    /// WIT-SVIDs an agent may ask for, apart likewise.
    pub(crate) wit_limit: RateLimit,
    /// Subscriptions an agent may begin.
    pub(crate) subscribe_limit: RateLimit,
    /// Of what agents are told.
    pub(crate) digests: Arc<Digests>,
    pub(crate) stale: Stale,
    /// What agents say of themselves.
    pub(crate) peers: Arc<Peers>,
    /// Steps of the bundle chain an address, or an agent, may ask for.
    pub(crate) chain_limit: RateLimit,
    /// Steps that an agent shows.
    pub(crate) show_limit: RateLimit,
    /// Checkpoints that an agent may ask for.
    pub(crate) witness_limit: RateLimit,
    /// Batches of its journal.
    pub(crate) journal_limit: RateLimit,
    /// Reports of an agent that are stored.
    pub(crate) status_limit: RateLimit,
}

/// The services. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Api(pub(crate) Arc<Shared>);

impl std::ops::Deref for Api {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}

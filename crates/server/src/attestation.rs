//! How nodes prove what they are. One file an attestor.
//!
//! Invariant: an attestor decides from verified bytes alone, and caps their size before any cryptography. Issuing is not its business.

pub(crate) mod device_key;
pub(crate) mod join_token;
mod turnstile;
pub(crate) mod x509pop;

use landfast_identity::{PublicKey, SelectorSet, SpiffeId, TrustDomain, UnixTime};
use tonic::{Status, async_trait};

use crate::registry::Registry;

/// A node that has proved itself.
pub(crate) struct Attested {
    /// Who it is from now on.
    pub(crate) agent_id: SpiffeId,
    /// What was found out about it.
    pub(crate) selectors: SelectorSet,
    /// Whether it can do so again by itself.
    pub(crate) can_reattest: bool,
    /// How it attested at first, if it is one that comes back.
    pub(crate) returned: Option<String>,
    /// The request that a person has approved, if it comes back under one.
    pub(crate) approval: Option<String>,
}

/// What an attestor is given.
pub(crate) struct Evidence<'a> {
    pub(crate) payload: &'a [u8],
    /// The key the node wants its SVID for; it has proved that it holds it.
    pub(crate) key: &'a PublicKey,
    pub(crate) trust_domain: &'a TrustDomain,
    pub(crate) now: UnixTime,
    /// From where it asks, for people.
    pub(crate) address: String,
}

/// The way back to the node: sends a challenge, waits for the answer.
#[async_trait]
pub(crate) trait Challenge: Send {
    async fn ask(&mut self, challenge: Vec<u8>) -> Result<Vec<u8>, Status>;
}

/// The attestors that are switched on.
pub(crate) struct Attestors {
    pub(crate) join_token: bool,
    pub(crate) x509pop: Option<x509pop::X509Pop>,
    pub(crate) device_key: Option<device_key::DeviceKey>,
}

impl Attestors {
    /// Attests a node by the method it names.
    ///
    /// # Errors
    /// InvalidArgument with a reason that the node may know.
    pub(crate) async fn attest(
        &self,
        method: &str,
        evidence: &Evidence<'_>,
        registry: &Registry,
        challenge: &mut dyn Challenge,
    ) -> Result<Attested, Status> {
        if evidence.payload.len() > MAX_PAYLOAD {
            return Err(Status::invalid_argument(format!(
                "failed to attest: payload larger than {MAX_PAYLOAD} bytes"
            )));
        }
        match (method, &self.x509pop, &self.device_key) {
            ("join_token", ..) if self.join_token => join_token::attest(evidence, registry).await,
            ("x509pop", Some(x509pop), _) => x509pop.attest(evidence, challenge).await,
            ("device_key", _, Some(device_key)) => device_key.attest(evidence, registry, challenge).await,
            // The peer's text is not repeated.
            _ => Err(Status::failed_precondition(
                "failed to attest: this server has no such node attestor switched on; see [attestation] in its configuration",
            )),
        }
    }
}

const MAX_PAYLOAD: usize = 64 * 1024;

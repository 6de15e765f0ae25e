//! What the node holds when the agent starts. Invariant: what is damaged is named; only what is worth less than a node that serves is gone on without.

use std::sync::Arc;

use landfast_identity::chain::{Position, SignedStep};
use landfast_identity::{Bundle, SpiffeId, UnixTime};
use landfast_lifecycle::TimeRecord;
use landfast_store::OpenStore;

use crate::bootstrap::Bootstrap;
use crate::cache::{Begun, Own, whose};
use crate::config::{AgentConfig, Evidence};
use crate::error::AgentError;
use crate::link::revision::Revision;
use crate::persist::{NodeFiles, NodeIdentity, PersistError};

/// What is on disk when the agent starts.
pub(super) struct NodeState {
    pub(super) files: Arc<NodeFiles>,
    pub(super) node: Option<NodeIdentity>,
    /// Which node this is, as far as it is in; also when its SVID is lost.
    pub(super) agent_id: Option<SpiffeId>,
    pub(super) bundle: Bundle,
    pub(super) bootstrap: String,
    pub(super) newest: Option<Revision>,
    pub(super) pin: Option<Position>,
    pub(super) steps: Vec<SignedStep>,
    pub(super) cache: Begun,
    pub(super) times: Option<TimeRecord>,
}

impl NodeState {
    /// The newest bundle there is: the server's last, unless the operator has given another since.
    /// `now` answers what time it is, given what is known of it.
    pub(super) fn read(
        config: &AgentConfig,
        open: &OpenStore,
        now: impl FnOnce(Option<&TimeRecord>) -> Option<UnixTime>,
    ) -> Result<Self, AgentError> {
        let files = NodeFiles::open_by(&config.data_dir, &config.trust_domain, &**open)?;
        let banned = files.was_banned()?;
        let undestroyed = banned && !go_on_with_ban(&files);
        let (node, agent_id) = match banned {
            true => (None, None),
            false => own_identity(&files, config, open)?,
        };
        let bootstrap = Bootstrap::read(&config.trust_bundle, &config.trust_domain)?;
        let mut bundle = newest_bundle(&files, &bootstrap.digest)?.unwrap_or(bootstrap.bundle);
        let mut newest = match files.revision(&bootstrap.digest) {
            // It is worth less than a node that serves.
            Err(error @ PersistError::Damaged { .. }) => {
                tracing::error!(
                    error = landfast_daemon::error_chain(&error),
                    "it is not known any more how new a registry this node has seen: until it has heard of a newer one, an old copy of the \
                     registry would be believed; the file is written anew, nothing needs to be done"
                );
                None
            }
            newest => newest?,
        };
        let pin = match files.pin(&bootstrap.digest) {
            Err(error) => {
                tracing::error!(
                    error = landfast_daemon::error_chain(&error),
                    "it is not known any more which root keys this node has pinned: they are pinned anew at the next verified synchronisation; until \
                     then it would not come back by itself from a sleep over a change of authorities"
                );
                None
            }
            Ok(pin) => pin,
        };
        let steps = files.steps().unwrap_or_else(|error| {
            let error = landfast_daemon::error_chain(&error);
            tracing::warn!(
                error,
                "the steps that this node could show to a server that was restored are lost; they are kept anew"
            );
            Vec::new()
        });
        let times = match files.times() {
            // Nor may one that cannot be read keep the agent from starting.
            Err(error) => {
                tracing::error!(
                    error = landfast_daemon::error_chain(&error),
                    "what was known of the time is lost: until a server says it, the machine's clock is believed from the day on which this \
                     program was built; the file is written anew. If it cannot be, the disk or the data directory needs looking after"
                );
                None
            }
            Ok(times) => times,
        };
        let returns = || matches!(files.device_key(), Ok(Some(device)) if device.agent_id.is_some());
        if node.is_none() && agent_id.is_none() && !returns() {
            // A node that is in already does not need it before the next attestation; a new one had better know now.
            drop(config.attestation.prepare().map_err(AgentError::Evidence)?);
        }
        let own = Own {
            agent_id: agent_id.as_ref(),
            bootstrap: &bootstrap.digest,
            bundle: &mut bundle,
            newest: &mut newest,
            now: now(times.as_ref()),
        };
        let cache = match banned {
            true => Begun::banned(config, Arc::clone(open)),
            false => Begun::read(config, own, Arc::clone(open)),
        };
        if undestroyed && let Err(error) = files.mark() {
            // The cache, when it was destroyed, took the mark along.
            tracing::error!(
                error = landfast_daemon::error_chain(&error),
                "it cannot be written down that this node is banned: a restart would leave what is left of its keys"
            );
        }
        Ok(Self {
            files: Arc::new(files),
            node,
            agent_id,
            bundle,
            newest,
            pin,
            steps,
            times,
            bootstrap: bootstrap.digest,
            cache,
        })
    }
}

/// The node's own SVID, and which node this is. A damaged one does not keep the agent from serving: its device key knows which node it is, or its cache,
/// which is sealed under a key of this node.
///
/// # Errors
/// It cannot be read, or is damaged and nothing else says whose it was: the operator had better know than have it attest as another.
fn own_identity(
    files: &NodeFiles,
    config: &AgentConfig,
    open: &OpenStore,
) -> Result<(Option<NodeIdentity>, Option<SpiffeId>), PersistError> {
    let damaged = match files.identity() {
        Err(error @ PersistError::Damaged { .. }) => error,
        node => {
            let node = node?;
            let agent_id = node.as_ref().map(|node| node.svid.id().clone());
            return Ok((node, agent_id));
        }
    };
    let device = files.device_key().ok().flatten();
    let returns = device.and_then(|device| device.agent_id);
    let by_itself = returns.is_some() || !matches!(config.attestation, Evidence::JoinToken(_));
    let Some(agent_id) = returns.or_else(|| whose(config, Arc::clone(open))) else {
        return Err(damaged);
    };
    tracing::error!(
        error = landfast_daemon::error_chain(&damaged),
        %agent_id,
        "the node's own SVID is lost: what it held is served, and {}",
        match by_itself {
            true => "it attests again as soon as its server can be reached, without anybody; the file is written anew",
            false => "it has no device key to come back by: give it a new join token before that ends",
        }
    );
    Ok((None, Some(agent_id)))
}

/// What cannot be read may not keep the agent from starting: in its place is the cache's, else that with which the node began, and from there the
/// bundle chain leads on.
fn newest_bundle(files: &NodeFiles, bootstrap: &str) -> Result<Option<Bundle>, PersistError> {
    match files.bundle(bootstrap) {
        Err(error @ PersistError::Damaged { .. }) => {
            tracing::error!(
                error = landfast_daemon::error_chain(&error),
                "the bundle that the server gave last is lost: that of the cache is used, or the one with which this node was set up; the file is \
                 written anew, nothing needs to be done unless the server is refused from now on"
            );
            Ok(None)
        }
        bundle => bundle,
    }
}

/// Whether nothing is left of the node's own keys.
fn go_on_with_ban(files: &NodeFiles) -> bool {
    tracing::error!(
        "the server had banned this node when it last ran: what is left of its keys is destroyed, and it attests anew"
    );
    let gone = files.go_on_with_ban();
    if let Err(error) = &gone {
        tracing::error!(
            error = landfast_daemon::error_chain(error),
            "keys of this banned node are still on disk; they are not used"
        );
    }
    gone.is_ok()
}

//! The bundle chain: the node pins the root keys at its first verified synchronisation, follows the chain while it is connected, and walks it when it
//! comes back to servers that its bundle does not verify.
//!
//! Invariant: over a connection that was not verified the node sends where it stands and nothing else, and believes what its root keys have signed and
//! nothing else. The bundle is on disk before the node says that it stands there; what cannot be walked changes nothing.

mod pinned;
mod shown;

use std::sync::Arc;

use landfast_daemon::error_chain;
use landfast_identity::chain::{ChainError, Position, SignedStep, Walker};
use landfast_identity::{Bundle, BundleSet, verify_x509_svid};
use landfast_proto::landfast::chain::v1::{GetStepsRequest, chain_client::ChainClient};
use landfast_proto::speaks::CHAIN;
use tonic::Code;
use tonic::transport::Channel;

use super::connection::channel_over;
use super::dial::{AttemptError, DialError, Dialler, ServerAddress};
use super::failure::LinkError;
use super::revision::Revision;
use super::{Link, rpc};
use crate::keeper::state::Event;
use crate::persist::PIN;
use crate::telemetry;
pub(super) use pinned::Pinned;
pub(super) use shown::Kept;

/// Why the node stays where it is.
#[derive(Debug, thiserror::Error)]
enum WalkError {
    #[error("no steps can be had")]
    Link(#[from] LinkError),
    #[error("what came is no step, or none that the root keys of this node lead to")]
    Chain(#[from] ChainError),
    #[error(
        "the server does not show the step {epoch}.{sequence} that this node stands on, nor a later one: it is an older copy, or signs no steps any more"
    )]
    NotShown { epoch: u64, sequence: u64 },
    #[error("there are more steps than are walked at once")]
    TooFar,
    #[error(
        "the newest step there, {epoch}.{sequence}, says nothing that is newer than the trust bundle of this node"
    )]
    NothingNew { epoch: u64, sequence: u64 },
}

/// How far a walk led, and what is in force there.
struct Walk {
    walker: Walker,
    bundle: Bundle,
    /// The last that were walked; bounded by one answer.
    steps: Vec<SignedStep>,
}

impl Link {
    /// Over a verified connection: pins the root keys, or moves on. A chain that is wrong or missing is told, and is in the way of nothing.
    pub(super) async fn keep_to_chain(&mut self, channel: &Channel) {
        let own = self.known.own_bundle().map(|own| own.sequence());
        let epoch = self.floor.newest().map(|newest| newest.epoch);
        if !self.pinned.is_due(own, epoch) {
            return;
        }
        // It stays due: the next server, or this one when it was upgraded, may have it.
        if self.floor.server.told().lacks(CHAIN) {
            return self.tell_of_chain("none: the server does not have it", "");
        }
        self.pinned.ask(own, epoch);
        let followed = match self.pinned.at.clone() {
            Some(at) => self.walk(channel.clone(), at).await.map(Some),
            None => self.begin(channel.clone()).await,
        };
        match followed {
            Ok(Some(walk)) => self.stand_on(walk.walker.position().clone(), walk.steps).await,
            Ok(None) => self.tell_of_chain(
                "none: the server signs no steps ([root_key] in its configuration)",
                "",
            ),
            Err(WalkError::Link(LinkError::Refused {
                code: Code::Unimplemented,
                ..
            })) => self.tell_of_chain("none: the server is SPIRE's, or older than the bundle chain", ""),
            // The next turn meets it as well, and says so.
            Err(WalkError::Link(error)) => {
                tracing::debug!(
                    error = error_chain(&error),
                    "the bundle chain could not be asked for"
                );
            }
            Err(error) => {
                // One that was put back may sign with a root key that was replaced since: what this node holds shows it.
                let is_behind = matches!(
                    error,
                    WalkError::NotShown { .. }
                        | WalkError::Chain(ChainError::Forked { .. } | ChainError::NotSigned { .. })
                );
                if is_behind && self.show_steps(channel.clone()).await {
                    // It leads on now.
                    self.pinned.asked = None;
                    return;
                }
                let trouble = format!(
                    "the bundle chain cannot be followed: {}; the node goes on with the bundle of the verified connection, but would not come back by \
                     itself after a long sleep. If the root key was replaced without the old one, give the node the present bundle as trust_bundle, \
                     or remove {PIN} from its data directory and restart it",
                    error_chain(&error)
                );
                let words = self.pinned.in_words();
                self.tell_of_chain(&words, &trouble);
            }
        }
    }

    /// Servers are there and none of them is of an authority that this node knows: perhaps it has slept through a rotation. Whether it knows one now.
    pub(super) async fn walk_to_servers(&mut self, error: &DialError) -> bool {
        let Some(at) = self.pinned.at.clone() else {
            return false;
        };
        let of_another = |server: &ServerAddress| {
            let mut attempts = error.attempts.iter();
            attempts.any(|(address, why)| {
                *address == server.to_string() && matches!(why, AttemptError::UnknownAuthority)
            })
        };
        let servers = self.settings.dialler.servers.iter();
        let servers: Vec<_> = servers.filter(|server| of_another(server)).cloned().collect();
        let mut in_vain = Vec::new();
        for server in servers {
            let address = server.to_string();
            let walk = self.walk_at(server, at.clone()).await;
            let adopted = match walk {
                Ok(walk) => self.adopt_walked(walk, at.epoch, &address).await,
                Err(error) => Err(error),
            };
            match adopted {
                Ok(()) => return true,
                Err(error) => in_vain.push(format!("{address}: {}", error_chain(&error))),
            }
        }
        if !in_vain.is_empty() {
            self.pinned.lost = true;
            self.pinned.asked = None;
            let words = self.pinned.in_words();
            let trouble = format!(
                "the bundle chain leads this node to no server: {}",
                in_vain.join("; ")
            );
            self.tell_of_chain(&words, &trouble);
        }
        false
    }

    /// Asks whoever is there, without believing or telling him anything.
    async fn walk_at(&self, server: ServerAddress, at: Position) -> Result<Walk, WalkError> {
        let tls = landfast_tls::danger_unverified_client_config(Arc::clone(&self.clock))
            .map_err(|error| LinkError::protocol("TLS", error_chain(&error)))?;
        let dialler = Dialler {
            servers: vec![server],
            proxy: self.settings.dialler.proxy.clone(),
        };
        let dialled = dialler
            .dial(0, &tls, self.now()?)
            .await
            .map_err(LinkError::Dial)?;
        let channel = channel_over(dialled, &self.settings.trust_domain, self.settings.keep_alive).await?;
        self.walk(channel, at).await
    }

    /// From where the node stands to the end of the chain, which may be there. Where it was forked, as by a server whose disk was put back, only a later
    /// epoch leads on, which needs the root key and no step before it.
    async fn walk(&self, channel: Channel, at: Position) -> Result<Walk, WalkError> {
        let (epoch, sequence) = (at.epoch, at.sequence);
        let mut walker = Walker::resume(self.settings.trust_domain.clone(), at);
        let (mut bundle, mut fork, mut walked) = (None, None, Vec::new());
        for _ in 0..MAX_PAGES {
            let at = walker.position();
            let from = match fork {
                None => (at.epoch, at.sequence),
                Some(_) => (at.epoch.saturating_add(1), 0),
            };
            let (steps, more) = steps(channel.clone(), from).await?;
            let before = walker.position().digest;
            let mut refused = None;
            walked.drain(..walked.len().saturating_sub(MAX_STEPS));
            for step in steps {
                if let Err(error) = walker.walk(&step) {
                    refused = Some(error);
                    break;
                }
                bundle = Some(step.step().bundle.clone());
                walked.push(step);
            }
            let moved = walker.position().digest != before;
            match (refused, fork.take()) {
                (Some(error @ (ChainError::Forked { .. } | ChainError::NotNext { .. })), None) => {
                    fork = Some(error);
                    continue;
                }
                (Some(error), None) => return Err(error.into()),
                (refused, Some(fork)) if refused.is_some() || !moved => return Err(fork.into()),
                _ => {}
            }
            match bundle {
                Some(bundle) if !more || !moved => {
                    return Ok(Walk {
                        walker,
                        bundle,
                        steps: walked,
                    });
                }
                None => return Err(WalkError::NotShown { epoch, sequence }),
                Some(_) => {}
            }
        }
        Err(WalkError::TooFar)
    }

    /// The newest step of a server that was verified; `None` when it has none.
    async fn begin(&self, channel: Channel) -> Result<Option<Walk>, WalkError> {
        let (steps, _) = steps(channel, (0, 0)).await?;
        let Some(step) = steps.last() else {
            return Ok(None);
        };
        Ok(Some(Walk {
            walker: Walker::begin(self.settings.trust_domain.clone(), step)?,
            bundle: step.step().bundle.clone(),
            steps: vec![step.clone()],
        }))
    }

    /// On disk, then in use. `Err` when it is not newer than what the node has, which may be ahead of the chain, or verifies nobody that the present one
    /// does not.
    async fn adopt_walked(&mut self, walk: Walk, epoch: u64, address: &str) -> Result<(), WalkError> {
        let (walker, bundle, steps) = (walk.walker, walk.bundle, walk.steps);
        let at = walker.position().clone();
        let current = self.bundles.load();
        let current = current.get(&self.settings.trust_domain);
        let held = (epoch, current.map_or(0, |held| held.sequence()));
        let newer = self.floor.is_newer_bundle((at.epoch, bundle.sequence()), held);
        let known = |certificate| {
            current.is_some_and(|current| {
                current
                    .x509_authorities()
                    .iter()
                    .any(|known| known.certificate == certificate)
            })
        };
        let mut authorities = bundle.x509_authorities().iter();
        if !newer || authorities.all(|one| known(one.certificate.clone())) {
            let (epoch, sequence) = (at.epoch, at.sequence);
            return Err(WalkError::NothingNew { epoch, sequence });
        }
        tracing::warn!(
            address,
            epoch = at.epoch,
            sequence = at.sequence,
            authorities = bundle.x509_authorities().len(),
            "the authorities have changed while this node was away: it has walked the bundle chain to the present ones"
        );
        telemetry::walked();
        let (files, to_save, bootstrap) = (
            Arc::clone(&self.files),
            bundle.clone(),
            self.settings.bootstrap.clone(),
        );
        let saved = self
            .disk
            .run(move || files.save_bundle(&to_save, &bootstrap))
            .await;
        let revision = Revision {
            epoch: at.epoch,
            number: 0,
        };
        self.floor.hold_bundle(Some(revision), bundle.sequence());
        let bundles = BundleSet::from_iter([bundle.clone()]);
        if let Some(now) = self.clock.now() {
            self.taints.adopt(&bundle, now);
        }
        if let (Some(node), Some(now)) = (&self.node, self.clock.now()) {
            // Nobody takes an SVID of an authority that is gone.
            let chain: Vec<_> = node.svid.chain().iter().map(|link| link.as_der()).collect();
            self.must_attest |= verify_x509_svid(&chain, &bundles, now).is_err();
        }
        self.bundles.store(bundles);
        if matches!(saved, Ok(Ok(()))) {
            self.stand_on(at, steps).await;
        }
        // Programs need not wait until the node is let in again to verify who is.
        self.keeper.tell(Event::Bundle(Arc::new(bundle))).await;
        Ok(())
    }

    /// The node stands there from now on. One that could not be written down is walked to again after a restart.
    async fn stand_on(&mut self, at: Position, walked: Vec<SignedStep>) {
        self.pinned.lost = false;
        self.keep_steps(walked).await;
        if self.pinned.saved && self.pinned.at.as_ref() == Some(&at) {
            let words = self.pinned.in_words();
            self.tell_of_chain(&words, "");
            return;
        }
        if let Some(asked) = &mut self.pinned.asked {
            asked.in_vain = 0;
        }
        if self.pinned.at.is_none() {
            let keys: Vec<_> = at.root_keys.iter().map(ToString::to_string).collect();
            tracing::info!(
                root_keys = keys.join(", "),
                "pinned the root keys of the trust domain"
            );
        }
        let (files, to_save, bootstrap) = (
            Arc::clone(&self.files),
            at.clone(),
            self.settings.bootstrap.clone(),
        );
        let saved = self.disk.run(move || files.save_pin(&to_save, &bootstrap)).await;
        self.pinned.saved = matches!(saved, Ok(Ok(())));
        if let Ok(Err(error)) = &saved {
            tracing::warn!(
                error = error_chain(error),
                "where this node stands in the bundle chain cannot be written; it is tried again"
            );
        }
        self.pinned.at = Some(at);
        let words = self.pinned.in_words();
        self.tell_of_chain(&words, "");
    }

    fn tell_of_chain(&self, words: &str, trouble: &str) {
        self.status.send_if_modified(|status| {
            if !trouble.is_empty() && status.chain_trouble != trouble {
                tracing::error!("{trouble}");
            }
            let differs = status.chain != words || status.chain_trouble != trouble;
            words.clone_into(&mut status.chain);
            trouble.clone_into(&mut status.chain_trouble);
            differs
        });
    }
}

async fn steps(
    channel: Channel,
    (epoch, sequence): (u64, u64),
) -> Result<(Vec<SignedStep>, bool), WalkError> {
    let mut client = ChainClient::new(channel).max_decoding_message_size(MAX_ANSWER);
    let answer = rpc::call(GET_STEPS, client.get_steps(GetStepsRequest { epoch, sequence })).await?;
    if answer.steps.len() > MAX_STEPS {
        return Err(LinkError::protocol(GET_STEPS, "more steps than one answer has").into());
    }
    let steps = answer.steps.iter().map(|step| SignedStep::from_bytes(step));
    Ok((steps.collect::<Result<_, _>>()?, answer.more))
}

const GET_STEPS: &str = "GetSteps";
/// Of one answer: our servers stop at half of that.
const MAX_ANSWER: usize = 2 * 1024 * 1024;
const MAX_STEPS: usize = 512;
/// Answers of one walk: decades of rotations.
const MAX_PAGES: usize = 256;

//! The bundle chain: the node pins the root keys at its first verified synchronisation, follows the chain while it is connected, and walks it when it
//! comes back to servers that its bundle does not verify.
//!
//! Invariant: over a connection that was not verified the node sends where it stands and nothing else, and believes what its root keys have signed and
//! nothing else. The bundle is on disk before the node says that it stands there; what cannot be walked changes nothing.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::chain::{ChainError, Position, SignedStep, Walker};
use landfast_identity::{Bundle, BundleSet, verify_x509_svid};
use landfast_proto::landfast::chain::v1::{GetStepsRequest, chain_client::ChainClient};
use tokio::time::Instant;
use tonic::Code;
use tonic::transport::Channel;

use super::connection::channel_over;
use super::dial::{AttemptError, DialError, Dialler, ServerAddress};
use super::failure::LinkError;
use super::revision::Revision;
use super::status::LinkStatus;
use super::{Link, rpc};
use crate::persist::PIN;
use crate::telemetry;

/// Where the node stands.
pub(super) struct Pinned {
    at: Option<Position>,
    /// Of this what is on disk.
    saved: bool,
    asked: Option<Instant>,
}

impl Pinned {
    /// From what is on disk.
    pub(super) fn new(at: Option<Position>, status: &mut LinkStatus) -> Self {
        let pinned = Self {
            at,
            saved: true,
            asked: None,
        };
        status.chain = pinned.in_words();
        pinned
    }

    /// In words, for `landfast agent status`.
    fn in_words(&self) -> String {
        self.at.as_ref().map_or_else(String::new, |at| {
            let keys: Vec<_> = at.root_keys.iter().map(ToString::to_string).collect();
            format!(
                "pinned at step {}.{}, root key {}",
                at.epoch,
                at.sequence,
                keys.join(", ")
            )
        })
    }

    /// Whether it is time to ask: soon when the bundle is newer than where the node stands, or it stands nowhere; else now and then, for root keys may
    /// have changed and nothing else.
    fn is_due(&self, bundle: Option<u64>, epoch: Option<u64>) -> bool {
        let behind = self.at.as_ref().is_none_or(|at| {
            let later = bundle.is_some_and(|sequence| sequence > at.bundle_sequence);
            later || epoch.is_some_and(|epoch| epoch > at.epoch)
        });
        let wait = if behind || !self.saved {
            ASK_AGAIN
        } else {
            LOOK_AGAIN
        };
        self.asked.is_none_or(|asked| asked.elapsed() >= wait)
    }
}

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
}

/// How far a walk led, and what is in force there.
struct Walk {
    walker: Walker,
    bundle: Bundle,
}

impl Link {
    /// Over a verified connection: pins the root keys, or moves on. A chain that is wrong or missing is told, and is in the way of nothing.
    pub(super) async fn keep_to_chain(&mut self, channel: &Channel) {
        let own = self.known.own_bundle().map(|own| own.sequence());
        let epoch = self.floor.newest().map(|newest| newest.epoch);
        if !self.pinned.is_due(own, epoch) {
            return;
        }
        self.pinned.asked = Some(Instant::now());
        let followed = match self.pinned.at.clone() {
            Some(at) => self.walk(channel.clone(), at).await.map(Some),
            None => self.begin(channel.clone()).await,
        };
        match followed {
            Ok(Some(walk)) => self.stand_on(walk.walker.position().clone()).await,
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
        for server in servers {
            let address = server.to_string();
            match self.walk_at(server, at.clone()).await {
                Ok(walk) => {
                    if self.adopt_walked(walk, &address).await {
                        return true;
                    }
                }
                Err(error) => tracing::debug!(
                    %address, error = error_chain(&error),
                    "no server there by this node's bundle, and no steps that lead to another"
                ),
            }
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

    /// From where the node stands to the end of the chain, which may be there.
    async fn walk(&self, channel: Channel, at: Position) -> Result<Walk, WalkError> {
        let (epoch, sequence) = (at.epoch, at.sequence);
        let mut walker = Walker::resume(self.settings.trust_domain.clone(), at);
        let mut bundle = None;
        for _ in 0..MAX_PAGES {
            let at = walker.position();
            let (steps, more) = steps(channel.clone(), at.epoch, at.sequence).await?;
            let before = walker.position().digest;
            for step in steps {
                walker.walk(&step)?;
                bundle = Some(step.step().bundle.clone());
            }
            let moved = walker.position().digest != before;
            match bundle {
                Some(bundle) if !more || !moved => return Ok(Walk { walker, bundle }),
                None => return Err(WalkError::NotShown { epoch, sequence }),
                Some(_) => {}
            }
        }
        Err(WalkError::TooFar)
    }

    /// The newest step of a server that was verified; `None` when it has none.
    async fn begin(&self, channel: Channel) -> Result<Option<Walk>, WalkError> {
        let (steps, _) = steps(channel, 0, 0).await?;
        let Some(step) = steps.last() else {
            return Ok(None);
        };
        Ok(Some(Walk {
            walker: Walker::begin(self.settings.trust_domain.clone(), step)?,
            bundle: step.step().bundle.clone(),
        }))
    }

    /// On disk, then in use. `false` when it verifies nobody that the present one does not.
    async fn adopt_walked(&mut self, walk: Walk, address: &str) -> bool {
        let (walker, bundle) = (walk.walker, walk.bundle);
        let current = self.bundles.load();
        let current = current.get(&self.settings.trust_domain);
        let known = |certificate| {
            current.is_some_and(|current| {
                current
                    .x509_authorities()
                    .iter()
                    .any(|known| known.certificate == certificate)
            })
        };
        if bundle
            .x509_authorities()
            .iter()
            .all(|one| known(one.certificate.clone()))
        {
            return false;
        }
        let at = walker.position().clone();
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
        let bundles = BundleSet::from_iter([bundle]);
        if let (Some(node), Some(now)) = (&self.node, self.clock.now()) {
            // Nobody takes an SVID of an authority that is gone.
            let chain: Vec<_> = node.svid.chain().iter().map(|link| link.as_der()).collect();
            self.must_attest |= verify_x509_svid(&chain, &bundles, now).is_err();
        }
        self.bundles.store(bundles);
        if matches!(saved, Ok(Ok(()))) {
            self.stand_on(at).await;
        }
        true
    }

    /// The node stands there from now on. One that could not be written down is walked to again after a restart.
    async fn stand_on(&mut self, at: Position) {
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

async fn steps(channel: Channel, epoch: u64, sequence: u64) -> Result<(Vec<SignedStep>, bool), WalkError> {
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
/// Between two questions to a server that does not say what it should.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Between two questions for nothing in particular: each brings one step.
const LOOK_AGAIN: Duration = Duration::from_secs(3600);

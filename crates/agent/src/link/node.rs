//! The node's own SVID within the link: had by attestation, renewed, and destroyed when the server bans the node.
//!
//! Invariant: on disk, then in use, then told (T-13; `keeping` says what holds while the disk fails); a failed renewal leaves everything as
//! it was.

use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::{PrivateKey, UnixTime};
use landfast_lifecycle::Disposition;
use tokio::time::Instant;
use tonic::transport::Channel;

use super::attest::Attested;
use super::evidence::{Evidence, Ready};
use super::failure::{LinkError, Refusal};
use super::issue::is_of_now;
use super::keeping::Unsaved;
use super::retry::Retry;
use super::status::{LinkStatus, Phase};
use super::{Link, attest, blocking};
use crate::keeper::state::Event;
use crate::persist::{DEVICE, IDENTITY, NodeIdentity, PENDING};
use crate::telemetry;

impl Link {
    pub(super) async fn attest(&mut self) -> Result<(), LinkError> {
        // However this ends: if what we have is still valid, it is tried again in the next turn, for the denial may have been lifted.
        let denied = std::mem::take(&mut self.must_attest);
        self.set_phase(Phase::Attesting);
        let Some((device, agent_id)) = self.way_back().await? else {
            return self.attest_as_at_first(denied).await;
        };
        let returned = self.come_back(device, agent_id.clone(), denied).await;
        let Err(LinkError::NotBack { refusal, message }) = returned else {
            return returned;
        };
        let not_back = LinkError::NotBack { refusal, message };
        if refusal == Refusal::Unknown {
            // Evicted, most likely: what the operator gives then is a token.
            return self.attest_as_at_first(denied).await;
        }
        // One that is new says that a person has decided, though otherwise.
        if !self.has_another_token(&agent_id).await? {
            return Err(not_back);
        }
        self.attest_as_at_first(denied).await.map_err(|_worse| not_back)
    }

    /// Whether to attest though the node has an SVID: servers do not take one of an authority that is gone, as it is when power was cut, or the disk full,
    /// after the node had walked to the present ones; nor one that the node still believes in, when it has not heard. In each other turn: a bundle that an
    /// operator gave may not have all there are.
    pub(super) fn is_to_return(&mut self) -> bool {
        let bundles = self.bundles.load();
        let authorities = bundles
            .get(&self.settings.trust_domain)
            .map(|own| own.x509_authorities());
        let (Some(node), Some(authorities @ [_, ..])) = (&self.node, authorities) else {
            return false;
        };
        let mut chain = node.svid.chain().iter();
        let is_rooted = chain.any(|link| {
            let mut authorities = authorities.iter();
            authorities.any(|authority| link.names_as_issuer(&authority.certificate))
        });
        self.returning.has_a_turn(Instant::now(), &node.svid, is_rooted)
    }

    async fn attest_as_at_first(&mut self, denied: bool) -> Result<(), LinkError> {
        let evidence = self.settings.evidence.clone();
        let ready = blocking(move || evidence.prepare())
            .await?
            .map_err(LinkError::Evidence)?;
        let token = matches!(self.settings.evidence, Evidence::JoinToken(_));
        let key = self.pending_key(!token).await?;
        let kind = self.settings.evidence.kind();
        // Without a client certificate: whatever we had is not believed, or has run out.
        let channel = self.connect(false).await?;
        match self.attest_over(channel, kind, ready, &key).await {
            Ok(attested) => self.take_in(attested, key, denied, kind).await,
            Err(error) if token && error.server_answered() && !error.another_server_may_help() => {
                Err(LinkError::Token(Box::new(error)))
            }
            Err(error) => Err(error),
        }
    }

    pub(super) async fn attest_over(
        &self,
        channel: Channel,
        kind: &'static str,
        ready: Ready,
        key: &Arc<PrivateKey>,
    ) -> Result<Attested, LinkError> {
        let trust_domain = &self.settings.trust_domain;
        let attested = attest::attest(channel, kind, &ready, Arc::clone(key), trust_domain).await;
        telemetry::attestation(attested.is_ok());
        attested
    }

    pub(super) async fn take_in(
        &mut self,
        attested: Attested,
        key: Arc<PrivateKey>,
        denied: bool,
        kind: &str,
    ) -> Result<(), LinkError> {
        self.worth_having(&attested, denied)?;
        let node = NodeIdentity {
            svid: Arc::new(attested.svid),
            key,
            reattestable: attested.reattestable,
        };
        tracing::info!(agent_id = %node.svid.id(), not_after = %node.svid.not_after(), "node attested by {kind}");
        self.adopt_node(node, denied).await
    }

    /// Refuses an SVID that is not valid now while there is a better one, or may be.
    fn worth_having(&mut self, attested: &Attested, denied: bool) -> Result<(), LinkError> {
        let now = self.now()?;
        let error = LinkError::OtherClock {
            method: attest::ATTEST,
        };
        let good = !denied && self.node.as_ref().is_some_and(|held| is_of_now(&held.svid, now));
        // A token may have been spent by this.
        let another = attested.reattestable && self.goes_elsewhere(&error);
        if is_of_now(&attested.svid, now) || !(good || another) {
            return Ok(());
        }
        // What there was is not believed by the next one either.
        self.must_attest = denied;
        Err(error)
    }

    /// A failed renewal is told and put off, nothing more, unless the server says the node itself is out.
    pub(super) async fn renew(&mut self, now: UnixTime) -> Result<(), LinkError> {
        let Some(node) = self.node.clone() else {
            return Ok(());
        };
        let renewed = if node.reattestable {
            self.attest().await
        } else {
            self.renew_by_svid(&node).await
        };
        telemetry::renewal("agent", renewed.is_ok());
        let Err(error) = renewed else { return Ok(()) };
        if self.goes_elsewhere(&error)
            || matches!(error.disposition(), Disposition::Fatal | Disposition::Reattest)
        {
            return Err(error);
        }
        if matches!(error, LinkError::OtherClock { .. }) {
            self.rota.last_is_of_another_time();
        }
        let next_try = self.retry.failed(now, error.pushback());
        let tainted = self.taints.replace_at(&node.svid, self.node_since).is_some();
        let (why, valid_until) = (error_chain(&error), node.svid.not_after());
        tracing::warn!(
            error = why, %valid_until, %next_try, tainted,
            "the node's SVID could not be renewed; the present one is kept"
        );
        let because = if tainted {
            "signed by a tainted authority, "
        } else {
            ""
        };
        self.status.send_modify(|status| {
            status.renewal = format!(
                "the node's own SVID, {because}valid until {valid_until}, could not be renewed: {why}"
            );
        });
        Ok(())
    }

    async fn renew_by_svid(&mut self, node: &NodeIdentity) -> Result<(), LinkError> {
        let spare = !self.stands_on_disk(self.now()?);
        let key = self.pending_key(spare).await?;
        let channel = self.channel().await?;
        let svid = attest::renew(channel, Arc::clone(&key), &self.settings.trust_domain).await?;
        if svid.id() != node.svid.id() {
            return Err(LinkError::protocol(
                "RenewAgent",
                format!("the new SVID is for {}", svid.id()),
            ));
        }
        let now = self.now()?;
        if !is_of_now(&svid, now) {
            // Nobody would take it, and one that had ended would have the node attest again.
            return Err(LinkError::OtherClock {
                method: attest::RENEW,
            });
        }
        let node = NodeIdentity {
            svid: Arc::new(svid),
            key,
            reattestable: false,
        };
        self.adopt_node(node, false).await
    }

    /// `denied`: the server does not take what there was before.
    async fn adopt_node(&mut self, node: NodeIdentity, denied: bool) -> Result<(), LinkError> {
        self.keep(&node, denied).await?;
        // What a walk of the bundle chain found out of the one before.
        self.must_attest = false;
        // It lies where those were.
        self.unsaved.undestroyed = false;
        self.identity.set(Arc::clone(&node.svid));
        self.status.send_modify(|status| status.set_node(&node));
        self.node = Some(node);
        self.retry = Retry::default();
        self.node_since = self.clock.now().unwrap_or(self.node_since);
        // The next connection shows the new SVID.
        self.hang_up();
        Ok(())
    }

    /// The one case in which keys are destroyed. The process lives on and asks now and then: a ban can be lifted.
    pub(super) async fn banned(&mut self) {
        tracing::error!(
            "the server has banned this node: nothing is served any more and its keys are destroyed"
        );
        self.keeper.tell(Event::Banned).await;
        self.known.clear();
        self.hang_up();
        self.identity.clear();
        self.node = None;
        self.unsaved = Unsaved::default();
        self.forget_device();
        self.status.send_modify(LinkStatus::forget_node);
        self.destroy_keys().await;
    }

    /// What could not be removed from disk then is tried again with every turn.
    pub(super) async fn destroy_again(&mut self) {
        if self.unsaved.undestroyed {
            self.destroy_keys().await;
        }
    }

    async fn destroy_keys(&mut self) {
        let files = Arc::clone(&self.files);
        let destroyed = self
            .disk
            .run(move || files.destroy_keys())
            .await
            .and_then(|done| done.map_err(LinkError::from));
        self.unsaved.undestroyed = destroyed.is_err();
        let disk = match destroyed {
            Ok(()) => String::new(),
            Err(error) => format!(
                "the keys of this banned node could not be removed from disk ({}); it is tried again; else remove {IDENTITY}, {PENDING} and {DEVICE} in \
                 the data directory",
                error_chain(&error)
            ),
        };
        if !disk.is_empty() {
            tracing::error!("{disk}");
        }
        self.status.send_modify(|status| status.disk = disk);
    }

    /// How long a banned node waits before it asks again: less while its keys are on disk still.
    pub(super) fn banned_wait(&self) -> Duration {
        match self.unsaved.undestroyed {
            true => self.settings.retry.1,
            false => BANNED_RETRY,
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.status.send_modify(|status| {
            // A node that serves goes on serving while it attests again; a banned one stays banned until let in.
            if matches!(status.phase, Phase::Starting | Phase::Attesting) {
                status.phase = phase;
            }
        });
    }
}

/// A ban can be lifted.
const BANNED_RETRY: Duration = Duration::from_secs(300);

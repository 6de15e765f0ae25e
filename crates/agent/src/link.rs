//! The task that owns the connection to the server: it attests, renews the node's SVID, and keeps in step: subscribed where that can be had,
//! in rounds elsewhere.
//!
//! Invariant: whatever goes wrong here, nothing valid is dropped and the process goes on; only the server's word that
//! the node is banned destroys keys.

mod asking;
mod attest;
pub(crate) mod bundle_wire;
mod busy;
mod chain;
mod connection;
mod device;
pub(crate) mod dial;
pub(crate) mod disk;
pub(crate) mod evidence;
pub(crate) mod failure;
mod handle;
mod issue;
mod keeping;
mod known;
mod node;
mod orders;
mod outcome;
mod push;
mod reserve;
mod rest;
mod restored;
mod retry;
mod returning;
pub(crate) mod revision;
mod rota;
pub(crate) mod rpc;
mod rungs;
pub(crate) mod speaks;
pub(crate) mod status;
mod step;
mod sync;
mod time;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::chain::{Position, SignedStep};
use landfast_identity::{KeyType, TrustDomain, UnixTime};
use landfast_lifecycle::{Backoff, SharedClock, renewal_due};
use landfast_tls::{BundleStore, IdentityStore};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub(crate) use busy::Question;
use dial::Dialler;
use disk::blocking;
use evidence::Evidence;
use failure::LinkError;
pub(crate) use handle::LinkHandle;
use rest::Wait;
use revision::Revision;
use rota::Rota;
use status::LinkStatus;
pub(crate) use sync::CONFIRM_AFTER;

use crate::keeper::KeeperHandle;
use crate::keeper::state::{Event, Order};
use crate::keeper::taint::Taints;
use crate::persist::{NodeFiles, NodeIdentity};
use crate::telemetry;
use crate::time::Ear;

/// What the link is told once.
pub(crate) struct Settings {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) dialler: Dialler,
    pub(crate) evidence: Evidence,
    pub(crate) node_key: KeyType,
    pub(crate) workload_key: KeyType,
    /// Between two rounds while there is no subscription.
    pub(crate) interval: Duration,
    /// Between two looks whether a subscription has brought everything.
    pub(crate) backstop: Duration,
    /// Between two signs of life.
    pub(crate) keep_alive: Duration,
    pub(crate) retry: (Duration, Duration),
    /// See [`known::Known::new`].
    pub(crate) confirm_after: Duration,
    /// Digest of the operator's bootstrap bundle; see [`NodeFiles::bundle`].
    pub(crate) bootstrap: String,
    /// The newest revision that the node has seen before this run.
    pub(crate) newest: Option<Revision>,
    /// Where the node stands in the bundle chain.
    pub(crate) pin: Option<Position>,
    /// The steps that have led there.
    pub(crate) steps: Vec<SignedStep>,
    /// Who is told of the server's time.
    pub(crate) ear: Option<Ear>,
}

/// The link's task before it runs.
pub(crate) struct Link {
    settings: Settings,
    clock: SharedClock,
    files: Arc<NodeFiles>,
    keeper: KeeperHandle,
    bundles: BundleStore,
    identity: IdentityStore,
    node: Option<NodeIdentity>,
    unsaved: keeping::Unsaved,
    disk: disk::Disk,
    known: known::Known,
    push: push::Push,
    floor: revision::Floor,
    rota: Rota,
    pinned: chain::Pinned,
    kept: chain::Kept,
    must_attest: bool,
    /// For when the node's SVID is of no authority that the node knows.
    returning: returning::Returning,
    /// When the last renewal of the node's SVID failed.
    retry: retry::Retry,
    device: device::Device,
    busy: busy::Busy,
    reserve: reserve::Reserve,
    taints: Taints,
    /// Since when the node's own SVID is held; of one from before this run, not known.
    node_since: UnixTime,
    status: watch::Sender<LinkStatus>,
    channel: watch::Sender<Option<Channel>>,
    /// The server asks for another connection. Until there is one, questions go over this one.
    leaving: bool,
    acknowledged: outcome::Acknowledged,
    nudge: Arc<Notify>,
}

impl Link {
    pub(crate) fn new(
        settings: Settings,
        clock: SharedClock,
        files: Arc<NodeFiles>,
        keeper: KeeperHandle,
        bundles: BundleStore,
        node: Option<NodeIdentity>,
    ) -> (Self, LinkHandle) {
        let identity = IdentityStore::new();
        let mut first = LinkStatus::new();
        first.newest = settings.newest;
        let pinned = chain::Pinned::new(settings.pin.clone(), &mut first);
        let kept = chain::Kept::new(settings.steps.clone(), settings.pin.as_ref());
        if let Some(node) = &node {
            identity.set(Arc::clone(&node.svid));
            first.set_node(node);
        }
        let (status, channel, nudge) = (
            watch::Sender::new(first),
            watch::Sender::new(None),
            Arc::<Notify>::default(),
        );
        let handle = LinkHandle {
            status: status.subscribe(),
            channel: channel.subscribe(),
            nudge: Arc::clone(&nudge),
            pauses: busy::Pauses::default(),
        };
        let known = known::Known::new(settings.confirm_after);
        let push = push::Push::new(settings.retry, settings.backstop);
        let mut floor = revision::Floor::new(settings.newest);
        floor.listener.ear.clone_from(&settings.ear);
        if let Some(own) = bundles.load().get(&settings.trust_domain) {
            floor.hold_bundle(settings.newest, own.sequence());
        }
        let rota = Rota::new(settings.dialler.servers.len());
        let link = Self {
            settings,
            clock,
            files,
            keeper,
            bundles,
            identity,
            node,
            unsaved: keeping::Unsaved::default(),
            disk: disk::Disk::default(),
            known,
            push,
            floor,
            rota,
            pinned,
            kept,
            must_attest: false,
            returning: returning::Returning::default(),
            retry: retry::Retry::default(),
            device: device::Device::default(),
            busy: busy::Busy::default(),
            reserve: reserve::Reserve::default(),
            taints: Taints::default(),
            node_since: UnixTime::EPOCH,
            status,
            channel,
            leaving: false,
            acknowledged: outcome::Acknowledged::default(),
            nudge,
        };
        (link, handle)
    }

    /// Runs until `stop`. Never ends because of a server.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let mut backoff = Backoff::new(self.settings.retry.0, self.settings.retry.1);
        let mut jitter = Backoff::new(self.settings.interval / 5, self.settings.interval / 5);
        let mut wait = Wait::Whole(Duration::ZERO);
        loop {
            let turn = tokio::select! {
                () = stop.cancelled() => break,
                turn = self.go_on(wait) => turn,
            };
            wait = match turn {
                Ok(()) => {
                    backoff.reset();
                    self.note_success().await;
                    // Between 0.9 and 1.1 of the interval: many agents started together drift apart.
                    jitter.reset();
                    let pause = self.settings.interval.mul_f64(0.9) + jitter.next();
                    Wait::OrRenewal(self.until_next_turn(pause))
                }
                Err(error) => {
                    let told = self.handle(&error).await.or_else(|| error.pushback());
                    Wait::Whole(told.unwrap_or_else(|| backoff.next()))
                }
            };
            telemetry::link(&self.status.borrow(), self.clock.now());
        }
        // Not worth an error: it is only not as new as it could be.
        drop(self.save_revision(true).await);
        Ok(())
    }

    async fn go_on(&mut self, wait: Wait) -> Result<(), LinkError> {
        let at_once = match wait {
            Wait::OrRenewal(_) => {
                self.acknowledge().await;
                self.top_up().await?
            }
            Wait::Whole(_) => false,
        };
        if !at_once {
            self.rest(wait).await?;
        }
        self.turn_with_any_server().await
    }

    /// When the node's own SVID is to be renewed, after a failure not before the next attempt.
    fn own_renewal(&self) -> Option<UnixTime> {
        let svid = &self.node.as_ref()?.svid;
        let due = renewal_due(svid.not_before(), svid.not_after(), svid.serial_hex().as_bytes());
        let replace = self.taints.replace_at(svid, self.node_since);
        let due = replace.map_or(due, |at| due.min(at));
        Some(self.retry.not_before(due, replace.is_some()))
    }

    /// Servers close connections by age. One that was open before and broke is replaced before anything is called a failure; and
    /// while a server that was reached is of no use, the next one is asked.
    async fn turn_with_any_server(&mut self) -> Result<(), LinkError> {
        self.rota.turn_begins();
        let reused = self.channel.borrow().is_some();
        let mut done = self.turn().await;
        if reused && done.as_ref().is_err_and(LinkError::connection_broke) {
            // It may be dead: waiting for it first would cost each dial of this turn, and a renewed node dials twice.
            self.rota.pass_over();
            self.hang_up();
            done = self.turn().await;
        }
        loop {
            match done {
                Err(error) if self.goes_elsewhere(&error) => {
                    self.give_up_server(&error);
                    done = self.turn().await;
                }
                Err(error) => {
                    // Nobody else is left to be asked first.
                    self.show_steps_after(&error).await;
                    return Err(error);
                }
                Ok(()) => {
                    self.rota.served();
                    self.kept.served();
                    return Ok(());
                }
            }
        }
    }

    /// Whether the next server of the list is asked for this. Not when what each of them signs was of another time a moment ago: then the
    /// clock that is wrong is most likely ours, and going round would only have all of it signed twice.
    fn goes_elsewhere(&self, error: &LinkError) -> bool {
        let in_vain = matches!(error, LinkError::OtherClock { .. }) && self.rota.is_of_another_time();
        error.another_server_may_help() && self.rota.has_another() && !in_vain
    }

    fn give_up_server(&mut self, error: &LinkError) {
        let (address, text) = (self.status.borrow().address.clone(), error_chain(error));
        if self.status.borrow().last_error.is_empty() {
            tracing::warn!(%address, error = text, "the server is of no use; the next one is asked");
        } else {
            tracing::debug!(%address, error = text, "the server is of no use; the next one is asked");
        }
        self.alarm_if_stale(error);
        self.rota.go_on(matches!(error, LinkError::OtherClock { .. }));
        self.hang_up();
    }

    /// One turn: have an SVID of our own, then a round of synchronisation, then what is due.
    async fn turn(&mut self) -> Result<(), LinkError> {
        self.destroy_again().await;
        let begins = self.node.as_ref().map(|node| node.svid.not_before());
        if let Some(begins) = begins.filter(|begins| self.clock.now().is_some_and(|now| now < *begins)) {
            self.ask_the_time_after(begins).await;
        }
        let now = self.now()?;
        self.must_attest |= self.is_to_return();
        match &self.node {
            Some(node) if now < node.svid.not_before() => {
                let (not_before, seconds) = (
                    node.svid.not_before(),
                    node.svid.not_before().since(now).as_secs(),
                );
                return Err(LinkError::ClockBehind { seconds, not_before });
            }
            Some(node) if !self.must_attest && now < node.svid.not_after() => {
                if self.own_renewal().is_some_and(|due| due <= now) {
                    self.renew(now).await?;
                }
            }
            _ => self.attest().await?,
        }
        self.round().await
    }

    async fn round(&mut self) -> Result<(), LinkError> {
        self.save_again().await?;
        let channel = self.channel().await?;
        // After a clock that was set back.
        let now = self.now()?;
        self.node_since = self.node_since.min(now);
        self.retry.turn_back(now);
        let orders = match self.subscribed(&channel).await? {
            Some(orders) => orders,
            None => self.poll(&channel).await?,
        };
        self.save_revision(false).await?;
        if let Some(end) = self.issue_all(&channel, orders).await? {
            self.keeper.tell(end).await;
        }
        self.keep_to_chain(&channel).await;
        Ok(())
    }

    async fn poll(&mut self, channel: &Channel) -> Result<Vec<Order>, LinkError> {
        let trust_domain = &self.settings.trust_domain;
        let synced = self.known.refresh(channel, trust_domain, &mut self.floor).await?;
        self.adopt_bundle(&synced.bundle).await?;
        self.taints.adopt(&synced.bundle, self.now()?);
        let orders = self.keeper.tell(Event::Synced(synced)).await;
        let (newest, told) = (self.floor.newest(), self.floor.server.told());
        self.status.send_modify(|status| {
            status.last_sync = self.clock.now().or(status.last_sync);
            status.newest = newest;
            status.told = told;
        });
        Ok(orders)
    }

    fn now(&self) -> Result<UnixTime, LinkError> {
        self.clock.now().ok_or(LinkError::NoClock)
    }
}

#[cfg(test)]
pub(crate) mod tests;

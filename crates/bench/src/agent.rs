//! A simulated agent: follows what the server says of it, and gets an SVID for each entry it is told of. Nothing is handed on to anybody.
//!
//! Invariant: what it holds is what the server said last; each thing it has acted on is an [`Event`] with the moment.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_lifecycle::Backoff;
use landfast_proto::landfast::entry::v1::Revision;
use landfast_proto::landfast::sync::v1::{
    HeldBundle, HeldEntry, Standing, SubscribeRequest, SubscribeResponse, sync_client::SyncClient,
};
use landfast_proto::spire::api::types;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};
use tonic::transport::Channel;

use crate::args::Mode;
use crate::node::{Node, Trouble, call};

/// One of a fleet.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) number: usize,
    pub(crate) node: Node,
    habits: Habits,
    /// The server has said that it does not push.
    polls: AtomicBool,
    state: Mutex<State>,
    /// As many as there are changes; whoever measures takes them out as they come.
    events: UnboundedSender<Event>,
}

/// How it learns of changes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) mode: Mode,
    pub(crate) interval: Duration,
}

/// Something that an agent has done.
#[derive(Debug)]
pub(crate) struct Event {
    pub(crate) agent: usize,
    pub(crate) at: Instant,
    pub(crate) what: What,
}

/// What it was.
#[derive(Debug)]
pub(crate) enum What {
    /// It has an SVID for each of these entries.
    Signed(Vec<String>),
    /// It has learned that these are gone.
    Gone(Vec<String>),
    /// It has learned that it is shut out.
    ShutOut,
}

#[derive(Debug, Default)]
struct State {
    channel: Option<Channel>,
    following: bool,
    /// What it failed of last.
    trouble: Option<String>,
    /// By entry ID.
    held: HashMap<String, Held>,
    newest: Option<Revision>,
    bundles: HashMap<String, HeldBundle>,
}

#[derive(Debug)]
struct Held {
    version: u64,
    signed: bool,
}

impl Agent {
    pub(crate) fn new(number: usize, node: Node, habits: Habits, events: UnboundedSender<Event>) -> Self {
        Self {
            number,
            node,
            habits,
            polls: AtomicBool::new(habits.mode == Mode::Poll),
            state: Mutex::default(),
            events,
        }
    }

    /// Follows the server until it shuts this agent out, beginning after `delay`.
    pub(crate) async fn run(self: Arc<Self>, delay: Duration) {
        sleep(delay).await;
        let mut backoff = Backoff::new(RETRY_MIN, RETRY_MAX);
        loop {
            let ended = self.follow(&mut backoff).await;
            self.disconnect();
            let pause = match ended {
                Err(Trouble::ShutOut) => return self.happened(What::ShutOut),
                Err(Trouble::DoesNotPush) if self.habits.mode == Mode::Auto => {
                    self.polls.store(true, Ordering::Relaxed);
                    continue;
                }
                Err(Trouble::PushedBack(pause)) => pause,
                Err(Trouble::Failed(why)) => {
                    self.state().trouble = Some(error_chain(why.as_ref()));
                    backoff.next()
                }
                Err(Trouble::DoesNotPush) => {
                    self.state().trouble = Some("the server does not push".to_owned());
                    backoff.next()
                }
                Ok(()) => backoff.next(),
            };
            sleep(pause).await;
        }
    }

    /// Forgets the connection; whoever uses it still sees it end.
    pub(crate) fn disconnect(&self) {
        let mut state = self.state();
        state.channel = None;
        state.following = false;
    }

    /// As after an outage that was longer than its SVIDs lived.
    pub(crate) fn expire(&self) {
        self.state()
            .held
            .values_mut()
            .for_each(|held| held.signed = false);
    }

    /// Whether it follows the server and has so many SVIDs, and none is missing.
    pub(crate) fn is_served(&self, entries: usize) -> bool {
        let state = self.state();
        state.following && state.held.len() >= entries && state.held.values().all(|held| held.signed)
    }

    /// What it failed of last, for who wants to know why it is not served.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.state().trouble.clone()
    }

    pub(crate) fn polls(&self) -> bool {
        self.polls.load(Ordering::Relaxed)
    }

    /// Replaces one SVID, as at half its life. `None` when it is not connected or has no such.
    pub(crate) async fn renew(&self, nth: usize, life: Duration) -> Option<Result<Duration, Trouble>> {
        let (channel, id) = {
            let state = self.state();
            (state.channel.clone()?, state.held.keys().nth(nth)?.clone())
        };
        let begin = Instant::now();
        let needed_by = self.node.site.now() + i64::try_from(life.as_secs() / 2).unwrap_or(0);
        Some(
            self.node
                .sign(&channel, &[id], needed_by)
                .await
                .map(|()| begin.elapsed()),
        )
    }

    async fn follow(&self, backoff: &mut Backoff) -> Result<(), Trouble> {
        let channel = self.state().channel.clone();
        let channel = match channel {
            Some(channel) => channel,
            None => self.node.connect().await?,
        };
        self.state().channel = Some(channel.clone());
        if self.polls() {
            self.poll(&channel, backoff).await
        } else {
            let followed = self.subscribe(&channel, backoff).await;
            if matches!(followed, Err(Trouble::DoesNotPush)) && self.habits.mode == Mode::Auto {
                self.polls.store(true, Ordering::Relaxed);
                return self.poll(&channel, backoff).await;
            }
            followed
        }
    }

    async fn poll(&self, channel: &Channel, backoff: &mut Backoff) -> Result<(), Trouble> {
        let mut pause = self.habits.interval.mul_f64(share());
        loop {
            self.node.site.follows.attempt();
            let entries = self.node.synchronise(channel).await?;
            self.node.site.follows.success();
            backoff.reset();
            self.adopt_all(entries);
            self.sign_missing(channel, backoff).await?;
            sleep(pause).await;
            pause = self.habits.interval;
        }
    }

    async fn subscribe(&self, channel: &Channel, backoff: &mut Backoff) -> Result<(), Trouble> {
        self.node.site.follows.attempt();
        let mut client = SyncClient::new(channel.clone()).max_decoding_message_size(MESSAGE);
        let request = self.holding();
        let mut stream = call(client.subscribe(request)).await?.into_inner();
        self.node.site.follows.success();
        backoff.reset();
        self.state().following = true;
        self.sign_missing(channel, backoff).await?;
        let mut backstop = interval_at(Instant::now() + BACKSTOP.mul_f64(share()), BACKSTOP);
        backstop.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut step = Vec::new();
        loop {
            let message = tokio::select! {
                message = stream.message() => message.map_err(Trouble::from)?,
                // What it says is known already; that it is asked for is what counts.
                _ = backstop.tick() => {
                    self.node.synchronise(channel).await?;
                    continue;
                }
            };
            let Some(message) = message else { return Ok(()) };
            let more = message.more;
            step.push(message);
            if !more {
                self.adopt(std::mem::take(&mut step))?;
                self.sign_missing(channel, backoff).await?;
            }
        }
    }

    fn holding(&self) -> SubscribeRequest {
        let state = self.state();
        let entries = state.held.iter().map(|(id, held)| HeldEntry {
            id: id.clone(),
            version: held.version,
        });
        SubscribeRequest {
            newest: state.newest,
            entries: entries.collect(),
            bundles: state.bundles.values().cloned().collect(),
        }
    }

    /// One step, whole.
    fn adopt(&self, step: Vec<SubscribeResponse>) -> Result<(), Trouble> {
        let mut gone = Vec::new();
        let mut state = self.state();
        for message in step {
            if message.standing() != Standing::Good {
                return Err(Trouble::ShutOut);
            }
            state.newest = message.revision.or(state.newest);
            for put in message.put {
                let id = put.entry.unwrap_or_default().id;
                state.hold(id, put.version);
            }
            for tombstone in message.gone {
                if state.held.remove(&tombstone.entry_id).is_some() {
                    gone.push(tombstone.entry_id);
                }
            }
            for bundle in message.bundles {
                let trust_domain = bundle.bundle.unwrap_or_default().trust_domain;
                let held = HeldBundle {
                    trust_domain: trust_domain.clone(),
                    digest: bundle.digest,
                };
                state.bundles.insert(trust_domain, held);
            }
            for trust_domain in message.bundles_gone {
                state.bundles.remove(&trust_domain);
            }
        }
        drop(state);
        self.are_gone(gone);
        Ok(())
    }

    /// What a synchronisation says: all there is.
    fn adopt_all(&self, entries: Vec<types::Entry>) {
        let mut state = self.state();
        state.following = true;
        let mut before = std::mem::take(&mut state.held);
        for entry in entries {
            if let Some(held) = before.remove(&entry.id) {
                state.held.insert(entry.id.clone(), held);
            }
            let version = u64::try_from(entry.revision_number).unwrap_or(0);
            state.hold(entry.id, version);
        }
        drop(state);
        self.are_gone(before.into_keys().collect());
    }

    fn are_gone(&self, ids: Vec<String>) {
        if !ids.is_empty() {
            self.happened(What::Gone(ids));
        }
    }

    /// Asks until there is an SVID for each entry. What the server cannot give now is asked for again without a new connection.
    async fn sign_missing(&self, channel: &Channel, backoff: &mut Backoff) -> Result<(), Trouble> {
        let mut failures = 0;
        loop {
            let wanted = self.missing();
            if wanted.is_empty() {
                backoff.reset();
                return Ok(());
            }
            let ids: Vec<String> = wanted.iter().map(|(id, _)| id.clone()).collect();
            match self.node.sign(channel, &ids, 0).await {
                Ok(()) => {
                    self.have_signed(&wanted);
                    self.happened(What::Signed(ids));
                }
                Err(Trouble::PushedBack(pause)) => sleep(pause).await,
                Err(Trouble::Failed(why)) if failures < PATIENCE => {
                    self.state().trouble = Some(error_chain(why.as_ref()));
                    failures += 1;
                    sleep(backoff.next()).await;
                }
                Err(trouble) => return Err(trouble),
            }
        }
    }

    fn missing(&self) -> Vec<(String, u64)> {
        let state = self.state();
        let missing = state.held.iter().filter(|(_, held)| !held.signed);
        missing
            .take(BATCH)
            .map(|(id, held)| (id.clone(), held.version))
            .collect()
    }

    fn have_signed(&self, ids: &[(String, u64)]) {
        let mut state = self.state();
        for (id, version) in ids {
            // It may have changed meanwhile, or be gone.
            if let Some(held) = state.held.get_mut(id).filter(|held| held.version == *version) {
                held.signed = true;
            }
        }
    }

    fn happened(&self, what: What) {
        let event = Event {
            agent: self.number,
            at: Instant::now(),
            what,
        };
        // Nobody listens any more when the run is over.
        drop(self.events.send(event));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn hold(&mut self, id: String, version: u64) {
        let held = self.held.entry(id).or_insert(Held {
            version,
            signed: false,
        });
        if held.version != version {
            *held = Held {
                version,
                signed: false,
            };
        }
    }
}

/// A part of one, by chance.
pub(crate) fn share() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

/// As landfast-agent's.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(60);
/// How often one that is pushed to synchronises nevertheless.
const BACKSTOP: Duration = Duration::from_secs(300);
/// Failed calls for signatures until the connection is given up.
const PATIENCE: u32 = 5;
const BATCH: usize = 500;
const MESSAGE: usize = 16 << 20;

//! Makes the bundle chain: after each change of the bundle the next step, signed by the root key of this server or prepared for one elsewhere.
//!
//! Invariant: whoever stands on the newest step can walk to the next one, or it is not stored; of several servers one makes it.

mod asked;
mod claims;
mod error;
mod keep;
mod lost;
mod prepared;
mod root_key;
mod shown;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use landfast_daemon::error_chain;
use landfast_identity::chain::{ChainError, RootKey, SignedStep, Step, Walked, Walker};
use landfast_identity::{TrustDomain, UnixTime};
use landfast_lifecycle::SharedClock;
use tokio::sync::Notify;

use crate::authority::Authorities;
use crate::datastore::{Datastore, StepPlace};
use crate::registry::Registry;
use crate::turns::Turns;

use claims::Claims;
pub(crate) use error::MakeError;
pub(crate) use prepared::Prepared;
use root_key::RootFile;

/// Where the root key is. See `[root_key]`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum RootKeyConfig {
    /// There is none: nothing is signed, and a node that sleeps through a rotation has to be given the bundle by hand.
    #[default]
    None,
    /// In this file, made at the first start.
    File(PathBuf),
    /// Elsewhere: somebody carries each step there and back.
    Offline,
}

/// See the module.
pub(crate) struct Chain {
    trust_domain: TrustDomain,
    authorities: Arc<Authorities>,
    registry: Arc<Registry>,
    datastore: Arc<dyn Datastore>,
    clock: SharedClock,
    slot: Slot,
    /// Why the newest step lags behind the authorities.
    trouble: Mutex<Option<String>>,
    /// The newest step as was last seen: most who ask stand there already.
    end: Mutex<Option<(StepPlace, Vec<u8>)>>,
    /// Reads of who has shown nothing.
    strangers: Turns,
    /// What nodes show that nobody here has agreed to.
    claims: Mutex<Claims>,
    prepared: Prepared,
    changed: Notify,
}

enum Slot {
    None,
    File(RootFile),
    Offline,
}

/// How the chain stands.
pub(crate) struct Outlook {
    /// What is to be signed; `None` when the newest step says all of it.
    pub(crate) next: Option<SignedStep>,
    pub(crate) newest: Option<SignedStep>,
    pub(crate) own: Option<RootKey>,
    pub(crate) trouble: Option<String>,
}

impl Chain {
    pub(crate) fn new(
        config: &RootKeyConfig,
        (authorities, registry): (Arc<Authorities>, Arc<Registry>),
        datastore: Arc<dyn Datastore>,
        clock: SharedClock,
    ) -> Self {
        Self {
            trust_domain: registry.trust_domain().clone(),
            authorities,
            registry,
            datastore,
            clock,
            slot: match config {
                RootKeyConfig::None => Slot::None,
                RootKeyConfig::File(path) => Slot::File(RootFile::new(path.clone())),
                RootKeyConfig::Offline => Slot::Offline,
            },
            trouble: Mutex::new(None),
            end: Mutex::new(None),
            strangers: Turns::new(),
            claims: Mutex::default(),
            prepared: Prepared::default(),
            changed: Notify::new(),
        }
    }

    /// What it gives out to be signed it notes there.
    pub(crate) fn noting(mut self, prepared: Prepared) -> Self {
        self.prepared = prepared;
        self
    }

    /// What is to be signed next, with these root keys from then on, or those of before when none is given.
    pub(crate) async fn outlook(&self, root_keys: Vec<RootKey>) -> Result<Outlook, MakeError> {
        self.is_on()?;
        let newest = self.datastore.newest_step().await?;
        let own = self.own_key().await.map(|key| key.public_key());
        let (own, unusable) = match own {
            Ok(own) => (Some(own), None),
            Err(MakeError::NoOwnKey) => (None, None),
            Err(error) => (None, Some(error)),
        };
        let given = (!root_keys.is_empty()).then_some(root_keys);
        // Who names them here agrees to what nodes have shown of them.
        let claimed = given.as_ref().map(|keys| self.claim_to(keys, newest.as_ref()));
        let before = claimed.unwrap_or_default().pop().or_else(|| newest.clone());
        let keys = given
            .or_else(|| Some(newest.as_ref()?.step().root_keys.clone()))
            .or_else(|| own.map(|own| vec![own]));
        let next = match keys.map(|keys| self.next(before.as_ref(), keys)) {
            None => Ok(None),
            // It stands there as a trouble: how the chain stands is to be seen all the same.
            Some(Err(error @ MakeError::Ahead { .. })) => Err(error),
            Some(next) => match next? {
                Some(next) => self
                    .prepared
                    .give_out(next)
                    .await
                    .map(Some)
                    .map_err(MakeError::from),
                None => Ok(None),
            },
        };
        let (next, kept_back) = match next {
            Ok(next) => (next, None),
            Err(error) => (None, Some(error)),
        };
        let unusable = kept_back.or(unusable).map(|error| error_chain(&error));
        let trouble = self.trouble().or(unusable);
        Ok(Outlook {
            next,
            newest,
            own,
            trouble,
        })
    }

    /// Adds a step that was signed elsewhere. Our own root key signs too where the step needs it.
    pub(crate) async fn import(&self, mut step: SignedStep) -> Result<StepPlace, MakeError> {
        self.is_on()?;
        let stored = self.datastore.newest_step().await?;
        let place = StepPlace::of(&step);
        let claimed = self.claim_to(&step.step().root_keys, stored.as_ref());
        if stored
            .as_ref()
            .is_some_and(|newest| newest.digest() == step.digest())
        {
            self.prepared.settle(&BTreeSet::from([step.digest()])).await;
            return Ok(place);
        }
        let follows = |last: &&SignedStep| step.step().previous == Some(last.digest());
        let claimed_end = claimed.last().filter(follows).cloned();
        let mut steps = if claimed_end.is_some() {
            claimed
        } else {
            Vec::new()
        };
        let newest = claimed_end.or_else(|| stored.clone());
        // It may have lain on somebody's desk.
        let now = self.next(newest.as_ref(), step.step().root_keys.clone())?;
        if now.as_ref().map(|now| said(now.step())) != Some(said(step.step())) {
            return Err(MakeError::Outdated);
        }
        if let Ok(own) = self.own_key().await
            && !step.is_signed_by(own.public_key())
            && names(newest.as_ref(), &step, own.public_key())
        {
            step.sign(&own)?;
        }
        steps.push(step);
        self.append(stored.as_ref(), steps).await?;
        Ok(place)
    }

    /// The step that follows, without signatures; `None` when there is nothing new to say.
    ///
    /// # Errors
    /// [`MakeError::Ahead`], of several servers also for a moment.
    fn next(
        &self,
        newest: Option<&SignedStep>,
        root_keys: Vec<RootKey>,
    ) -> Result<Option<SignedStep>, MakeError> {
        self.authorities.current()?;
        let (bundle, epoch) = (self.authorities.bundle(), self.registry.revision().epoch);
        if bundle.x509_authorities().is_empty() {
            // Nobody has signed for us yet.
            return Ok(None);
        }
        let before = newest.map(SignedStep::step);
        let same = |before: &Step| {
            before.epoch == epoch
                && before.bundle.x509_authorities() == bundle.x509_authorities()
                && before.bundle.jwt_authorities() == bundle.jwt_authorities()
                && before.root_keys == root_keys
        };
        if before.is_some_and(same) {
            return Ok(None);
        }
        let ahead = |before: &&Step| (before.epoch, before.bundle.sequence()) > (epoch, bundle.sequence());
        if let Some(before) = before.filter(ahead) {
            return Err(MakeError::Ahead {
                said: (before.epoch, before.bundle.sequence()),
                here: (epoch, bundle.sequence()),
            });
        }
        let step = Step {
            epoch,
            sequence: before.map_or(1, |before| before.sequence + 1),
            previous: newest.map(SignedStep::digest),
            bundle: (*bundle).clone(),
            root_keys,
            time: self.clock.now().ok_or(MakeError::NoClock)?,
        };
        Ok(Some(SignedStep::unsigned(&step)?))
    }

    /// Stores them, if whoever stands on the newest one can walk to each: all or none. `Err` also when another server was faster.
    async fn append(&self, newest: Option<&SignedStep>, steps: Vec<SignedStep>) -> Result<(), MakeError> {
        let begin = |step: &SignedStep| Walker::begin(self.trust_domain.clone(), step);
        let mut walker = newest.map(begin).transpose()?;
        let mut new = Vec::with_capacity(steps.len());
        for step in steps {
            let is_new = match &mut walker {
                Some(walker) => walker.walk(&step)? != Walked::Here,
                None => {
                    walker = Some(begin(&step)?);
                    true
                }
            };
            if is_new {
                new.push(Arc::new(step));
            }
        }
        let Some(last) = new.last().map(Arc::clone) else {
            return Ok(());
        };
        let digests = new.iter().map(|step| step.digest()).collect();
        let (after, count) = (newest.map(SignedStep::digest), new.len());
        if !self.datastore.append_steps(after, new).await? {
            return Err(MakeError::Outdated);
        }
        let place = StepPlace::of(&last);
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some((place, last.to_bytes()));
        tracing::info!(
            epoch = place.epoch,
            sequence = place.sequence,
            count,
            "a step of the bundle chain is signed and stored"
        );
        self.prepared.settle(&digests).await;
        self.changed.notify_one();
        Ok(())
    }

    /// Whether it does at all.
    pub(crate) fn signs(&self) -> bool {
        self.is_on().is_ok()
    }

    fn is_on(&self) -> Result<(), MakeError> {
        match self.slot {
            Slot::None => Err(MakeError::Off),
            Slot::File(_) | Slot::Offline => Ok(()),
        }
    }

    async fn own_key(&self) -> Result<Arc<landfast_identity::chain::RootPrivateKey>, MakeError> {
        match &self.slot {
            Slot::None | Slot::Offline => Err(MakeError::NoOwnKey),
            Slot::File(file) => file.read().await,
        }
    }

    /// Why the newest step lags behind the authorities, for operators.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// But for its time: it may lie on somebody's desk.
fn said(step: &Step) -> Step {
    Step {
        time: UnixTime::EPOCH,
        ..step.clone()
    }
}

fn sorted(keys: &[RootKey]) -> Vec<RootKey> {
    let mut keys = keys.to_vec();
    keys.sort_unstable();
    keys
}

/// Whether this key has a say in this step.
fn names(newest: Option<&SignedStep>, step: &SignedStep, key: RootKey) -> bool {
    let before = newest.into_iter().flat_map(|newest| &newest.step().root_keys);
    before.chain(&step.step().root_keys).any(|named| *named == key)
}

impl From<ChainError> for MakeError {
    fn from(source: ChainError) -> Self {
        Self::Chain { source }
    }
}

/// Of steps in one answer, unless two are larger.
const BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;

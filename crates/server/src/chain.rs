//! Makes the bundle chain: after each change of the bundle the next step, signed by the root key of this server or prepared for one elsewhere.
//!
//! Invariant: whoever stands on the newest step can walk to the next one, or it is not stored; of several servers one makes it.

mod error;
mod keep;
mod lost;
mod root_key;
mod shown;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use landfast_identity::TrustDomain;
use landfast_identity::chain::{ChainError, RootKey, SignedStep, Step, Walked, Walker};
use landfast_lifecycle::SharedClock;
use tokio::sync::{Notify, Semaphore};

use crate::authority::Authorities;
use crate::datastore::{Datastore, StepPlace};
use crate::registry::Registry;

pub(crate) use error::MakeError;
use root_key::RootFile;
use shown::Claims;

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
    /// Reads of who has shown nothing: one at a time, for they wait where signatures are recorded.
    strangers: Semaphore,
    /// What nodes show that nobody here has agreed to.
    claims: Mutex<Claims>,
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
            strangers: Semaphore::new(1),
            claims: Mutex::default(),
            changed: Notify::new(),
        }
    }

    /// How many bytes the steps from this place on will about have, at most [`BYTES`].
    pub(crate) fn room_for(&self, from: StepPlace) -> usize {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let steps = |count: u64, length: usize| {
            let count = usize::try_from(count).unwrap_or(AT_ONCE).clamp(2, AT_ONCE);
            count.saturating_mul(length.saturating_mul(2)).min(BYTES)
        };
        match &*end {
            Some((_, step)) if from.epoch == 0 => steps(1, step.len()),
            Some((end, step)) if from.epoch == end.epoch => {
                steps(end.sequence.saturating_sub(from.sequence) + 1, step.len())
            }
            _ => BYTES,
        }
    }

    /// Steps as they were signed, from this place on; the newest alone when the place is none. At most [`AT_ONCE`] or so many bytes, and whether there
    /// are more.
    pub(crate) async fn steps(
        &self,
        from: StepPlace,
        bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, bool), MakeError> {
        // The end is looked at once in a minute at least, and with each step that is added here.
        let end = self.end_at(from);
        if end.is_some() || from.epoch == 0 {
            return Ok((end.into_iter().collect(), false));
        }
        let mut steps = self.datastore.steps(from, AT_ONCE + 1, bytes).await?;
        let mut room = bytes;
        // Two at least: whoever asks has the first of them already.
        let fit = steps.iter().enumerate().take_while(|(place, step)| {
            room = room.saturating_sub(step.len());
            *place < 2 || room > 0
        });
        let fit = fit.count().min(AT_ONCE);
        let more = steps.len() > fit;
        steps.truncate(fit);
        Ok((steps, more))
    }

    /// The same for who has shown nothing.
    ///
    /// # Errors
    /// Others read just now, for too long.
    pub(crate) async fn steps_for_strangers(
        &self,
        from: StepPlace,
        bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, bool), MakeError> {
        let turn = tokio::time::timeout(TURN, self.strangers.acquire()).await;
        let Ok(Ok(_turn)) = turn else {
            return Err(MakeError::Crowded);
        };
        self.steps(from, bytes).await
    }

    /// The newest step, if it is this one. It may be newest no longer: whoever asks hears of that another time.
    fn end_at(&self, place: StepPlace) -> Option<Vec<u8>> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.as_ref()
            .filter(|(end, _)| *end == place || place.epoch == 0)
            .map(|(_, step)| step.clone())
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
        let next = match keys {
            Some(keys) => self.next(before.as_ref(), keys)?,
            None => None,
        };
        let trouble = self.trouble();
        let trouble = trouble.or_else(|| unusable.map(|error| landfast_daemon::error_chain(&error)));
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
        let mut newest = self.datastore.newest_step().await?;
        let place = StepPlace::of(&step);
        let claimed = self.claim_to(&step.step().root_keys, newest.as_ref());
        if newest
            .as_ref()
            .is_some_and(|newest| newest.digest() == step.digest())
        {
            return Ok(place);
        }
        let follows = |last: &&SignedStep| step.step().previous == Some(last.digest());
        let claimed_end = claimed.last().filter(follows).cloned();
        let adopts = claimed_end.is_some();
        newest = claimed_end.or(newest);
        // It may have lain on somebody's desk.
        let now = self.next(newest.as_ref(), step.step().root_keys.clone())?;
        let said = |step: &Step| Step {
            time: landfast_identity::UnixTime::EPOCH,
            ..step.clone()
        };
        if now.as_ref().map(|now| said(now.step())) != Some(said(step.step())) {
            return Err(MakeError::Outdated);
        }
        if let Ok(own) = self.own_key().await
            && !step.is_signed_by(own.public_key())
            && names(newest.as_ref(), &step, own.public_key())
        {
            step.sign(&own)?;
        }
        if adopts {
            self.adopt(claimed).await?;
        }
        self.append(newest.as_ref(), step).await?;
        Ok(place)
    }

    /// The step that follows, without signatures; `None` when there is nothing new to say.
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
        // Another server may know more, and has said it.
        let ahead = |before: &Step| (before.epoch, before.bundle.sequence()) > (epoch, bundle.sequence());
        if before.is_some_and(|before| same(before) || ahead(before)) {
            return Ok(None);
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

    /// Stores it, if whoever stands on the newest one can walk to it. `Err` also when another server was faster.
    async fn append(&self, newest: Option<&SignedStep>, step: SignedStep) -> Result<(), MakeError> {
        let trust_domain = self.trust_domain.clone();
        match newest {
            None => drop(Walker::begin(trust_domain, &step)?),
            Some(newest) => {
                let mut walker = Walker::begin(trust_domain, newest)?;
                if walker.walk(&step)? == Walked::Here {
                    return Ok(());
                }
            }
        }
        let place = StepPlace::of(&step);
        let after = newest.map(SignedStep::digest);
        let bytes = step.to_bytes();
        match self.datastore.append_step(after, Arc::new(step)).await? {
            true => {
                *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some((place, bytes));
                tracing::info!(
                    epoch = place.epoch,
                    sequence = place.sequence,
                    "a step of the bundle chain is signed and stored"
                );
                self.changed.notify_one();
                Ok(())
            }
            false => Err(MakeError::Outdated),
        }
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

/// For a stranger who waits for others.
const TURN: std::time::Duration = std::time::Duration::from_secs(5);
/// Steps of one answer: a year of rotations is four or five of these.
const AT_ONCE: usize = 256;
/// Bytes of one answer, unless two steps are larger.
const BYTES: usize = 1024 * 1024;

#[cfg(test)]
mod tests;

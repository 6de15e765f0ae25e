//! The task that signs each change. Invariant: what fails is said once, and tried again; nothing else waits for it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use landfast_daemon::error_chain;
use tokio::time::Instant;

use super::{Chain, MakeError, Slot};
use crate::datastore::StepPlace;

impl Chain {
    /// Makes a step after each change, for ever.
    pub(crate) async fn keep(self: Arc<Self>) {
        let mut bundle = self.authorities.bundle_updates();
        let mut lag = Lag::default();
        loop {
            bundle.borrow_and_update();
            let made = self.make().await;
            let lags = lag.is_short(matches!(made, Err(MakeError::Ahead { .. })));
            let raced = lags || matches!(made, Err(MakeError::Outdated));
            if !lags {
                self.heed(made);
            }
            tokio::select! {
                changed = bundle.changed() => {
                    if changed.is_err() {
                        return;
                    }
                }
                // Brought by hand.
                () = self.changed.notified() => {}
                () = tokio::time::sleep(if raced { SOON } else { LOOK }) => {}
            }
        }
    }

    /// Makes the step that is due, if one is.
    pub(crate) async fn make(&self) -> Result<(), MakeError> {
        let newest = self.datastore.newest_step().await?;
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = newest
            .as_ref()
            .map(|newest| (StepPlace::of(newest), newest.to_bytes()));
        if !matches!(self.slot, Slot::None) {
            self.not_claimed(newest.as_ref())?;
        }
        let file = match &self.slot {
            Slot::None if newest.is_none() => return Ok(()),
            Slot::None => return Err(MakeError::SwitchedOff),
            Slot::Offline => {
                let keys = newest.as_ref().map(|newest| newest.step().root_keys.clone());
                let due = match keys {
                    Some(keys) => self.next(newest.as_ref(), keys)?.is_some(),
                    None => true,
                };
                return if due { Err(MakeError::Unsigned) } else { Ok(()) };
            }
            Slot::File(file) => file,
        };
        let (key, keys) = match &newest {
            None => {
                let key = file.read_or_make().await?;
                let keys = vec![key.public_key()];
                (key, keys)
            }
            Some(newest) => (file.read().await?, newest.step().root_keys.clone()),
        };
        if !keys.contains(&key.public_key()) {
            let known: Vec<_> = keys.iter().map(ToString::to_string).collect();
            return Err(MakeError::OtherKey {
                path: file.path.clone(),
                own: key.public_key(),
                known: known.join(", "),
            });
        }
        let Some(mut step) = self.next(newest.as_ref(), keys)? else {
            return Ok(());
        };
        step.sign(&key)?;
        self.append(newest.as_ref(), vec![step]).await
    }

    fn heed(&self, made: Result<(), MakeError>) {
        let trouble = match &made {
            // Another server made it, or makes it: looked at again in a second.
            Err(MakeError::Outdated) => return,
            Err(MakeError::Storage { .. }) => return,
            made => made.as_ref().err().map(|error| error_chain(error)),
        };
        let lags = f64::from(u8::from(trouble.is_some()));
        metrics::gauge!("landfast_server_chain_behind").set(lags);
        let mut said = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *said == trouble {
            return;
        }
        match &trouble {
            Some(error) => tracing::warn!(error, "the bundle chain lags behind the authorities"),
            None => tracing::info!("the bundle chain says what the authorities are"),
        }
        *said = trouble;
    }
}

/// Of several servers each hears of a new bundle a moment after the one that made it, and that one's step may be there before.
#[derive(Default)]
struct Lag(Option<Instant>);

impl Lag {
    /// Whether it lags, and not for long.
    fn is_short(&mut self, lags: bool) -> bool {
        self.0 = lags.then(|| self.0.unwrap_or_else(Instant::now));
        self.0.is_some_and(|since| since.elapsed() < CATCH_UP)
    }
}

#[cfg(test)]
impl Chain {
    pub(super) async fn newest(&self) -> Option<landfast_identity::chain::SignedStep> {
        self.datastore.newest_step().await.unwrap()
    }
}

/// A medium may have come, or an epoch.
const LOOK: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(1);
/// Servers that share a database are seconds apart at most, or answer nobody.
const CATCH_UP: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_hears_of_a_bundle_after_its_step_is_given_a_minute() {
        let mut lag = Lag::default();
        assert!(!lag.is_short(false));
        assert!(lag.is_short(true));
        tokio::time::advance(CATCH_UP - SOON).await;
        assert!(lag.is_short(true));
        tokio::time::advance(SOON).await;
        assert!(!lag.is_short(true), "it does not catch up");
        assert!(!lag.is_short(false));
        assert!(lag.is_short(true), "another one");
    }
}

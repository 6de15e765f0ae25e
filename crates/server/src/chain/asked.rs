//! Steps for whoever asks.
//!
//! Invariant: an answer is bounded, and strangers are in the way of nobody but one another.

use std::sync::PoisonError;

use super::{BYTES, Chain, MakeError};
use crate::datastore::StepPlace;

impl Chain {
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
    /// Others have read for too long.
    pub(crate) async fn steps_for_strangers(
        &self,
        address: &str,
        from: StepPlace,
        bytes: usize,
    ) -> Result<(Vec<Vec<u8>>, bool), MakeError> {
        // Most stand on the newest one, and nothing has to be read for them.
        if let Some(end) = self.end_at(from) {
            return Ok((vec![end], false));
        }
        let turn = self.strangers.take(address).await;
        let _turn = turn.ok_or(MakeError::Crowded)?;
        self.steps(from, bytes).await
    }

    /// The newest step, if it is this one. It may be newest no longer: whoever asks hears of that another time.
    fn end_at(&self, place: StepPlace) -> Option<Vec<u8>> {
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        end.as_ref()
            .filter(|(end, _)| *end == place || place.epoch == 0)
            .map(|(_, step)| step.clone())
    }
}

/// Steps of one answer: a year of rotations is four or five of these.
pub(super) const AT_ONCE: usize = 256;

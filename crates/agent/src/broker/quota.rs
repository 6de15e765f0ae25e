//! How much one broker may have under way, however many processes it is.
//!
//! Invariant: a place counts until it is dropped; brokers without places are not kept, so there are as many as have requests at most.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use landfast_identity::SpiffeId;
use tonic::Status;

/// The counts of all brokers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Quotas(Arc<Mutex<HashMap<SpiffeId, [u32; 2]>>>);

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// A request that is not answered yet.
    Request,
    /// An open stream.
    Stream,
}

impl Kind {
    fn most(self) -> u32 {
        match self {
            Self::Request => MAX_REQUESTS,
            Self::Stream => MAX_STREAMS,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Request => "requests_per_broker",
            Self::Stream => "streams_per_broker",
        }
    }
}

/// One of them. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Place {
    quotas: Quotas,
    id: SpiffeId,
    kind: Kind,
}

impl Quotas {
    /// Counts one more.
    ///
    /// # Errors
    /// ResourceExhausted, when that is too many.
    pub(super) fn take(&self, id: &SpiffeId, kind: Kind) -> Result<Place, Status> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let has = counts.get(id).map_or(0, |counts| counts[kind as usize]);
        if has >= kind.most() {
            return Err(Status::resource_exhausted(format!(
                "limit {} reached",
                kind.name()
            )));
        }
        counts.entry(id.clone()).or_default()[kind as usize] += 1;
        Ok(Place {
            quotas: self.clone(),
            id: id.clone(),
            kind,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.quotas.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = counts.get_mut(&self.id) {
            held[self.kind as usize] = held[self.kind as usize].saturating_sub(1);
            if *held == [0, 0] {
                counts.remove(&self.id);
            }
        }
    }
}

/// They attest processes and wait for the server.
pub(super) const MAX_REQUESTS: u32 = 64;
/// Half of what all brokers may have open; three for each workload is usual.
pub(super) const MAX_STREAMS: u32 = crate::delegate::office::MAX_SUBJECTS / 2;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::id;

    #[test]
    fn each_broker_has_its_own_places_and_gets_them_back() {
        let quotas = Quotas::default();
        for (kind, most) in [(Kind::Request, MAX_REQUESTS), (Kind::Stream, MAX_STREAMS)] {
            let mut places: Vec<_> = (0..most)
                .map(|_| quotas.take(&id("/mesh"), kind).unwrap())
                .collect();
            let refused = quotas.take(&id("/mesh"), kind).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted);
            let _others = quotas.take(&id("/other"), kind).unwrap();
            places.pop();
            let _again = quotas.take(&id("/mesh"), kind).unwrap();
        }
        assert!(quotas.0.lock().unwrap().is_empty(), "nothing is kept");
    }
}

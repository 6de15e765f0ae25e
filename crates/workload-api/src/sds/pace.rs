//! How fast a client may speak on one stream.
//!
//! Invariant: who answers each response and asks for what it needs is never stopped; one that speaks without end is, whatever it says.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;

use crate::{Limits, limits::Limit};

pub(super) struct Pace {
    at_once: u32,
    per_second: u32,
    /// When all that was said would have been said at an even pace.
    even: Instant,
}

impl Pace {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            at_once: limits.sds_messages_at_once.max(1),
            per_second: limits.sds_messages_per_second.max(1),
            even: Instant::now(),
        }
    }

    /// Whether one more message may be heard now.
    pub(super) fn take(&mut self) -> bool {
        let (now, each) = (Instant::now(), Duration::from_secs(1) / self.per_second);
        let even = self.even.max(now);
        if even - now >= each * self.at_once {
            return false;
        }
        self.even = even + each;
        true
    }

    pub(super) fn refusal(&self) -> Status {
        Status::resource_exhausted(format!(
            "limit {} reached: {} messages on a stream, and {} more each second; answer each response once, and ask for several names at once",
            Limit::SdsMessages.name(),
            self.at_once,
            self.per_second,
        ))
    }
}

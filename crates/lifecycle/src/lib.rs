//! Decisions over time: clocks, renewal, back-off, jitter.
//!
//! Invariant: everything here is pure but [`SystemClock`], the one place in the workspace that reads the wall clock.

mod backoff;
mod clock;
pub mod island;
mod renewal;

pub use backoff::Backoff;
pub use clock::{Clock, SharedClock, SimClock, SystemClock};
pub use landfast_identity::UnixTime;
pub use renewal::{Action, Disposition, RenewalPlan, Validity, renewal_due, spread_within, validity};

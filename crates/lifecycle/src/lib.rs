//! Decisions over time: clocks, floor and estimate, renewal, back-off, jitter.
//!
//! Invariant: everything here is pure but [`SystemClock`], the one place in the workspace that reads the wall clock, and [`SystemBoot`].

mod backoff;
mod boot;
mod clock;
mod guarded;
pub mod island;
pub mod recovery;
mod renewal;
pub mod reserve;
mod times;

pub use backoff::Backoff;
pub use boot::{BootTime, SharedBoot, SimBoot, SystemBoot};
pub use clock::{Clock, SharedClock, SimClock, SystemClock};
pub use guarded::{GuardedClock, TimeReport};
pub use landfast_identity::UnixTime;
pub use renewal::{Action, Disposition, RenewalPlan, Validity, renewal_due, spread_within, validity};
pub use times::{
    Begin, CONFIRMED_AFTER, Candidate, Heard, Hour, Judged, Mark, Quality, TimeRecord, Times, Verdict, Wrong,
    built,
};

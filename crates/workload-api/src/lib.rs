//! The SPIFFE Workload API and Envoy's SDS: server over any source, limits; a client of the former.
//!
//! Invariant: nothing is handed out but to a pinned process that was attested and has not changed since.

mod body;
pub mod client;
mod connection;
mod encode;
mod entitled;
mod gauges;
mod guard;
mod ledger;
mod limits;
mod punctual;
mod sds;
mod serve;
mod service;
mod source;
#[cfg(test)]
mod tests;

pub use gauges::Gauges;
pub use limits::Limits;
pub use sds::Sds;
pub use serve::{ServeError, serve};
pub use source::{
    AttestError, Attested, Attestor, FetchedJwt, IdentitySource, ServedJwtIdentity, ServedX509, SourceError,
    ViewState, WorkloadView,
};

//! The SPIFFE Workload API and Envoy's SDS: server over any source, limits; a client of the former.
//!
//! Invariant: nothing is handed out but to a pinned process that was attested and has not changed since.

mod body;
mod caller;
pub mod client;
mod connection;
mod desk;
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

pub use caller::Caller;
pub use desk::Desk;
pub use gauges::Gauges;
pub use guard::METHODS;
pub use limits::Limits;
pub use sds::Sds;
pub use serve::{ServeError, Surface, serve, serve_surface};
pub use service::audience_refused;
pub use source::{
    AttestError, Attested, Attestor, FetchedJwt, IdentitySource, ServedJwtIdentity, ServedX509, SourceError,
    ViewState, WorkloadView,
};

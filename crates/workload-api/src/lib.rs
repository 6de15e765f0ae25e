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
mod front;
mod gauges;
mod guard;
mod handout;
mod ledger;
mod limits;
mod punctual;
mod sds;
mod serve;
mod service;
mod source;
#[cfg(test)]
mod tests;
mod wit;

pub use caller::Caller;
pub use desk::Desk;
pub use front::{Begun, Carrier, Front};
pub use gauges::Gauges;
pub use guard::{Header, METHODS};
pub use handout::{Given, GivenBefore, HandOut, Party, Way};
pub use limits::Limits;
/// Views and tokens as messages, for services that say the same in messages of their own.
pub mod messages {
    pub use crate::encode::{jwt_bundles, jwt_svids, told, x509_bundles, x509_svids};
}
pub use sds::Sds;
pub use serve::{ServeError, Surface, serve, serve_surface};
pub use service::{audience_refused, wanted_id};
pub use source::{
    AttestError, Attested, Attestor, FetchedJwt, FetchedWit, FetchedWits, IdentitySource, ServedJwtIdentity,
    ServedX509, SourceError, ViewState, WorkloadView,
};

//! The Workload API over real sockets: our client, raw HTTP/2 and raw bytes against a scripted source.

mod attestation;
mod handout;
mod limits;
mod protocol;
mod rig;
mod sds;
mod streams;
mod wit;

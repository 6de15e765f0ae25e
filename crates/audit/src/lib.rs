//! The ledger: records in an append-only Merkle tree, as files that any file server can serve, and a verifier of them.
//!
//! Invariant: what was acknowledged is on the disk, and a checkpoint never names what is not. `verify` uses nothing of the writer.

mod log;
mod note;
mod prove;
mod record;
mod tile;
mod tree;
pub mod verify;

pub use log::{Committed, Log, LogError, Recovered};
pub use note::{CheckpointKey, KeyError};
pub use prove::{ProveError, Prover};
pub use record::{
    Actor, ActorClass, Category, Decision, MAX_RECORD_BYTES, Outcome, Record, TimeQuality, Value,
};
pub use tree::Hash;

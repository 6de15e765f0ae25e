//! Why no step was made. Invariant: each says what to do.

use std::path::PathBuf;

use landfast_identity::KeyError;
use landfast_identity::chain::{ChainError, RootKey};
use landfast_store::StoreError;

use crate::datastore::DatastoreError;

/// Why no step was made, or none was added.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MakeError {
    #[error("the datastore failed")]
    Storage {
        #[from]
        source: DatastoreError,
    },
    #[error("the step does not lead on")]
    Chain { source: ChainError },
    #[error(
        "the chain or the authorities have changed since this step was prepared: prepare the next one, and sign that"
    )]
    Outdated,
    #[error(
        "the newest step says more (epoch {}, bundle {}) than this server knows of (epoch {}, bundle {}): its database was put back to an older state, and no \
         step is signed until it has caught up; bring the newer data back, or begin a new epoch: landfast-server accept-loss with PostgreSQL, else \
         landfast-server backup and restore",
        said.0, said.1, here.0, here.1
    )]
    Ahead {
        /// Epoch and sequence of the bundle.
        said: (u64, u64),
        here: (u64, u64),
    },
    #[error("what is to be signed cannot be noted, and does not leave this server before")]
    Unnoted {
        #[from]
        source: StoreError,
    },
    #[error("others are shown steps: come again in a while")]
    Crowded,
    #[error("the step {epoch}.{sequence} is of a time that has not come")]
    Future { epoch: u64, sequence: u64 },
    #[error(
        "the root keys would be {keys}, and nobody here has agreed to that: put the new root key in its place, or say landfast root pending with --root-key for each"
    )]
    NotAgreed { keys: String },
    #[error(
        "this server has no step of its own yet, and its root key has not signed these: put the root key in its place, or sign the first step"
    )]
    NotOurs,
    #[error("the clock of this server shows no time")]
    NoClock,
    #[error("this server signs no steps: configure [root_key]")]
    Off,
    #[error("this server has no root key of its own")]
    NoOwnKey,
    #[error(
        "the newest step waits for the root key: `landfast root pending` writes it to a file, `landfast root sign` signs it, `landfast root import` brings it back"
    )]
    Unsigned,
    #[error(
        "steps were signed, and this server signs none any more: nodes that sleep through a rotation do not come back; configure [root_key]"
    )]
    SwitchedOff,
    #[error(
        "the root key {} is missing: put it back, or copy it from the other server; a new one is not made, since nodes know the old one",
        path.display()
    )]
    Missing { path: PathBuf },
    #[error("the root key {} cannot be read or made", path.display())]
    Store { path: PathBuf, source: StoreError },
    #[error("{} holds no root key (Ed25519, PKCS#8 PEM)", path.display())]
    Damaged { path: PathBuf, source: KeyError },
    #[error("{} names no file", path.display())]
    NoFile { path: PathBuf },
    #[error("{} does not answer: is its medium there?", path.display())]
    Hangs { path: PathBuf },
    #[error(
        "{} is the root key {own}, and nodes know {known}: put that one back, or change root keys (docs/operations.md, \"The root key\")",
        path.display()
    )]
    OtherKey {
        path: PathBuf,
        own: RootKey,
        known: String,
    },
}

//! Durable files: temp, fsync, rename, fsync directory.
//!
//! Invariant: a file of ours has either its old content or its new one, whole, whatever fails in between; and but for those that are made for
//! others ([`PublicFile`]) nobody but its owner can read it.

mod beside;
mod error;
pub mod faulty;
mod files;
mod fresh;
mod place;
mod public;
pub mod seal;
mod store;

pub use beside::read_beside;
pub use error::StoreError;
pub use files::{Contents, DirFiles, Files, Growing};
pub use fresh::FreshFile;
pub use public::PublicFile;
pub use store::{MAX_FILE_BYTES, OpenStore, Store};

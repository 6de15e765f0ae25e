//! Durable files: temp, fsync, rename, fsync directory.
//!
//! Invariant: a file of ours has either its old content or its new one, whole, whatever fails in between; and nobody but its
//! owner can read it.

mod error;
pub mod faulty;
mod files;
mod store;

pub use error::StoreError;
pub use files::{Contents, DirFiles, Files};
pub use store::{MAX_FILE_BYTES, Store};

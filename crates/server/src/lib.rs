//! Landfast's signing server.

pub mod authority;
mod core;
pub mod datastore;
pub mod issuance;
mod random;
pub mod registry;

pub use core::{Core, CoreError, CoreParams};

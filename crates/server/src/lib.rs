//! Landfast's signing server.

mod api;
mod attestation;
pub mod authority;
mod authz;
mod config;
mod core;
pub mod datastore;
mod endpoints;
pub mod issuance;
mod random;
pub mod registry;
mod server;

pub use config::{ServerConfig, ServerLimits, X509PopConfig};
pub use core::{Core, CoreError, CoreParams};
pub use server::{Server, ServerError, ServerHandle, ServerParts};

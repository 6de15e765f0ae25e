//! Landfast's node agent: attests the node to its server, attests the node's workloads, and holds, renews and serves their
//! identities.
//!
//! Four owners with bounded queues between them: the Workload API accepts, the keeper owns what is held, the link owns the
//! connection to the server, and everybody else only watches.

mod access;
mod admin;
mod admin_server;
mod agent;
mod attestor;
mod bootstrap;
mod broker;
mod cache;
mod command_line;
pub mod config;
mod delegate;
mod entry;
mod error;
mod handouts;
mod health;
mod journal;
mod jwt;
mod keeper;
mod link;
mod persist;
mod source;
mod standing;
mod telemetry;
mod time;
mod why;
mod wit;
mod witness;

#[cfg(test)]
mod testing;

pub use agent::{Agent, AgentHandle, AgentParts};
pub use command_line::{CommandLine, Verb};
pub use config::AgentConfig;
pub use delegate::rights::{Delegate, Delegates};
pub use error::AgentError;
pub use persist::PersistError;

//! The skeleton of every process: configuration, tasks, signals, logging, metrics.
//!
//! Invariant: nothing runs without a name and an owner, and nothing is configured outside the file (the log filter aside).

pub mod config;
mod descriptors;
mod error_chain;
mod health;
mod http;
pub mod log;
mod metrics;
pub mod notify;
mod service;
mod signal;
mod task_tree;

pub use descriptors::{descriptor_limit, raise_descriptor_limit};
pub use error_chain::error_chain;
pub use health::Health;
pub use http::serve_http;
pub use metrics::Metrics;
pub use service::serve_until_asked;
pub use signal::{shutdown_signal, terminal_signal};
pub use task_tree::{TaskError, TaskHandle, TaskOutcome, TaskTree, TreeError};

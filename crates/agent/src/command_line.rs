//! What `landfast-agent` is told when it is started. In the library, so that `landfast man` can make the manual of it.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Landfast's node agent: gives the programs of this machine their SPIFFE identities.
#[derive(Parser, Debug)]
#[command(name = "landfast-agent", version, propagate_version = true)]
pub struct CommandLine {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What landfast-agent can be asked to do.
#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Run the agent in the foreground.
    Run {
        /// The configuration file (see examples/agent.toml).
        #[arg(long, default_value = "/etc/landfast/agent.toml")]
        config: PathBuf,
    },
    /// Check a configuration file without starting.
    Check {
        /// The configuration file.
        file: PathBuf,
    },
}

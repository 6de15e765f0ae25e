//! `landfast server`.

use std::path::PathBuf;

use clap::Subcommand;

use crate::check;
use crate::cli::Globals;
use crate::failure::Failure;

#[derive(Subcommand, Debug)]
pub(crate) enum ServerCommand {
    /// Check a configuration of landfast-server without starting it [local file].
    Check {
        /// The configuration file.
        file: PathBuf,
    },
}

pub(crate) fn run(command: ServerCommand, globals: &Globals) -> Result<(), Failure> {
    let ServerCommand::Check { file } = command;
    check::server(&file, globals)
}

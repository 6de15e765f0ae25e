//! `landfast server`: checks a configuration itself, and leaves all else to `landfast-server`.
//!
//! Invariant: what `landfast-server` is asked reaches it as it was typed, and from then on there is no `landfast`: status, signals and
//! terminal are its own.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use clap::{Args, Subcommand};

use crate::check;
use crate::cli::Globals;
use crate::failure::Failure;
use crate::output::Format;

// No help, version or `help` of clap's: those are answered by landfast-server, as its commands are.
#[derive(Args, Debug)]
#[command(
    disable_help_flag = true,
    disable_version_flag = true,
    disable_help_subcommand = true,
    after_help = "All but check is passed on to landfast-server(8); landfast server --help shows what that knows."
)]
pub(crate) struct ServerArgs {
    /// The help of landfast-server.
    #[arg(short, long)]
    help: bool,
    /// The version of landfast-server.
    #[arg(short = 'V', long)]
    version: bool,
    #[command(subcommand)]
    command: Option<ServerCommand>,
}

#[derive(Subcommand, Debug)]
pub(crate) enum ServerCommand {
    /// Check a configuration of landfast-server without starting it [local file].
    Check {
        /// The configuration file.
        file: PathBuf,
        /// Have landfast-server look at the database as well, and say what it would migrate.
        #[arg(long)]
        database: bool,
    },
    #[command(external_subcommand)]
    Daemon(Vec<OsString>),
}

pub(crate) fn run(args: ServerArgs, globals: &Globals) -> Result<(), Failure> {
    match args.command {
        Some(ServerCommand::Check {
            file,
            database: false,
        }) => check::server(&file, globals),
        Some(ServerCommand::Check { file, database: true }) => {
            pass_on(&["check".into(), "--database".into(), file.into()], globals)
        }
        Some(ServerCommand::Daemon(words)) => pass_on(&words, globals),
        None if args.version => pass_on(&["--version".into()], globals),
        None if args.help => pass_on(&["--help".into()], globals),
        None => Err(Failure::usage(
            "landfast server wants a command",
            "landfast server --help shows those of landfast-server",
        )),
    }
}

/// Becomes `landfast-server`: the one beside us, so that versions fit, else the one in PATH. Comes back only when there is none.
fn pass_on(words: &[OsString], globals: &Globals) -> Result<(), Failure> {
    if globals.server.is_some() || globals.output != Format::Table {
        return Err(Failure::usage(
            "landfast-server works on this machine alone, and knows no options of landfast",
            "leave --server and --output out; where a command of it has an --output of its own, that stands behind the command",
        ));
    }
    // Without /proc we do not know where we lie; PATH is left.
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name(DAEMON));
    let candidates = beside.into_iter().chain([PathBuf::from(DAEMON)]);
    for candidate in candidates {
        let error = Command::new(&candidate).args(words).exec();
        if error.kind() != ErrorKind::NotFound {
            return Err(Failure::failed(
                format!("cannot run {}: {error}", candidate.display()),
                "is it a program of this machine, and may you execute it?",
            ));
        }
    }
    Err(Failure::failed(
        format!("there is no {DAEMON} beside landfast, nor in PATH"),
        "it is in the Debian package landfast-server, which belongs on the server's machine",
    ))
}

const DAEMON: &str = "landfast-server";

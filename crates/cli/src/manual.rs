//! What is made from the definitions of the command lines: `landfast completion` and `landfast man`.
//!
//! Invariant: nothing here names a command, so neither can fall behind.

use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory as _};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::Cli;
use crate::failure::Failure;
use crate::output;

#[derive(Args, Debug)]
#[command(
    after_help = "bash:  landfast completion bash > ~/.local/share/bash-completion/completions/landfast\n\
    zsh:   landfast completion zsh > a directory of $fpath, as _landfast\n\
    fish:  landfast completion fish > ~/.config/fish/completions/landfast.fish\n\
    The Debian package brings those of bash, zsh and fish."
)]
pub(crate) struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Args, Debug)]
pub(crate) struct ManArgs {
    /// Where the pages go; made when it is missing.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn completion(args: &CompletionArgs) -> Result<(), Failure> {
    let mut script = Vec::new();
    // `landfast server` passes on what landfast-server knows, so a shell offers that too.
    let mut whole = Cli::command().mut_subcommand("server", |server| {
        let daemon = landfast_server::CommandLine::command();
        let passed_on = daemon.get_subcommands().filter(|verb| verb.get_name() != "check");
        server.subcommands(passed_on.cloned().collect::<Vec<_>>())
    });
    clap_complete::generate(args.shell, &mut whole, "landfast", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

/// A page for each program and each of its commands: section 1 for what people type, 8 for daemons.
pub(crate) fn man(args: &ManArgs) -> Result<(), Failure> {
    let written = std::fs::create_dir_all(&args.directory)
        .and_then(|()| pages(Cli::command(), "1", &args.directory))
        .and_then(|()| pages(landfast_agent::CommandLine::command(), "8", &args.directory))
        .and_then(|()| pages(landfast_server::CommandLine::command(), "8", &args.directory));
    written.map_err(|error| {
        let directory = args.directory.display();
        Failure::failed(
            format!("cannot write manual pages to {directory}: {error}"),
            "give a directory that you may write to",
        )
    })
}

fn pages(program: Command, section: &str, directory: &Path) -> std::io::Result<()> {
    // Gives every command its full name, as landfast-entry-create.
    let mut program = program.disable_help_subcommand(true);
    program.build();
    let source = program.render_version().trim().to_owned();
    page(&program, section, &source, directory)
}

fn page(command: &Command, section: &str, source: &str, directory: &Path) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        page(below, section, source, directory)?;
    }
    Man::new(command.clone())
        .section(section)
        .source(source)
        .manual("Landfast")
        .generate_to(directory)
        .map(|_path| ())
}

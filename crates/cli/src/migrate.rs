//! `landfast migrate`: from SPIRE's configuration to ours.
//!
//! Invariant: every setting of SPIRE's file is carried over, held anyway, or listed; a file that is there is replaced only with `--force`.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use landfast_agent::AgentConfig;
use landfast_daemon::error_chain;
use landfast_server::ServerConfig;
use serde_json::json;

use crate::cli::Globals;
use crate::failure::Failure;
use crate::{hcl, inspect, output};

mod advice;
mod agent;
mod both;
mod environment;
mod federation;
mod mapping;
mod programs;
mod report;
mod server;
mod settings;
mod toml;
mod upstream;
mod values;

use mapping::Mapping;
use report::Report;
use settings::Settings;

#[derive(Subcommand, Debug)]
pub(crate) enum MigrateCommand {
    /// Read a SPIRE server's or agent's configuration, write ours, and list what has no counterpart [local file].
    Spire(SpireArgs),
}

#[derive(Args, Debug)]
#[command(
    after_help = "What has no counterpart is listed on standard error, one line each, and does not change the exit code: 0 once ours is written."
)]
pub(crate) struct SpireArgs {
    /// SPIRE's server.conf or agent.conf, in HCL or JSON; `-` for standard input.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where server.toml or agent.toml goes; made when it is missing. `-` prints the file instead.
    #[arg(long, value_name = "DIR", default_value = "-")]
    output_dir: PathBuf,
    /// Replace a file that is there already.
    #[arg(long)]
    force: bool,
    /// Put variables of the environment in place of $NAME and ${NAME}, as SPIRE does with -expandEnv.
    #[arg(long)]
    expand_env: bool,
}

pub(crate) fn run(command: MigrateCommand, globals: &Globals) -> Result<(), Failure> {
    let MigrateCommand::Spire(args) = command;
    let file = args.config.display().to_string();
    let mut text = inspect::read_text(&args.config)?;
    if args.expand_env {
        let from_environment = |name: &str| std::env::var_os(name).and_then(|value| value.into_string().ok());
        text = environment::expand(&file, &text, from_environment)?;
    }
    let mut ours = convert(&file, &text)?;
    if !args.expand_env && ours.mentions_environment {
        let hint = "values with $ are taken as they are; SPIRE fills them in with -expandEnv, this command with --expand-env";
        ours.report.note(None, hint);
    }
    let printed = args.output_dir == Path::new("-");
    if !printed {
        let path = write(&args.output_dir, ours.name, &ours.text, args.force)?;
        if let Some(wrong) = ours.refused_by_the_daemon(&path) {
            ours.report.note(None, &format!("not ready to start: {wrong}"));
        }
    }
    if globals.json() {
        let mut files = serde_json::Map::new();
        files.insert(ours.name.to_owned(), ours.text.into());
        return output::print_json(&json!({
            "files": files, "mapped": ours.report.mapped_json(), "unmapped": ours.report.unmapped_json(),
            "notes": ours.report.notes_json(),
        }));
    }
    output::complain(&ours.report.text(&file, ours.name));
    if printed {
        return output::print(&ours.text);
    }
    output::print(&format!("written: {}", args.output_dir.join(ours.name).display()))
}

/// Our file, and what became of theirs.
struct Ours {
    name: &'static str,
    text: String,
    report: Report,
    mentions_environment: bool,
}

impl Ours {
    fn refused_by_the_daemon(&self, path: &Path) -> Option<String> {
        let checked = if self.name == SERVER {
            ServerConfig::load(path).map(drop)
        } else {
            AgentConfig::load(path).map(drop)
        };
        checked.err().map(|error| error_chain(&error))
    }
}

/// Pure: the text of SPIRE's file in, ours out.
fn convert(file: &str, text: &str) -> Result<Ours, Failure> {
    let body = hcl::parse(file, text).map_err(|error| {
        Failure::failed(
            error,
            "SPIRE's HCL or its JSON form is wanted; spire-server validate checks it",
        )
    })?;
    let settings = Settings::of(file, &body);
    let mentions_environment = settings.any_text(|text| text.contains('$'));
    let name = match (settings.has("server"), settings.has("agent")) {
        (true, false) => SERVER,
        (false, true) => AGENT,
        (true, true) => {
            return Err(Failure::failed(
                format!("{file} has both server and agent"),
                "give each a file of its own",
            ));
        }
        (false, false) => {
            return Err(Failure::failed(
                format!("{file} has neither a server nor an agent block"),
                "SPIRE's server.conf or agent.conf is wanted",
            ));
        }
    };
    let mut mapping = Mapping::new(settings);
    both::switched_off(&mut mapping);
    if name == SERVER {
        server::map(&mut mapping)?;
    } else {
        agent::map(&mut mapping)?;
    }
    let (document, report) = mapping.finish();
    Ok(Ours {
        name,
        text: document.render(file, name),
        report,
        mentions_environment,
    })
}

/// The file appears whole or not at all: a daemon may be told to read it meanwhile.
fn write(dir: &Path, name: &str, text: &str, force: bool) -> Result<PathBuf, Failure> {
    let path = dir.join(name);
    let shown = path.display();
    let failed = |error: std::io::Error| {
        Failure::failed(
            format!("cannot write {shown}: {error}"),
            "give a directory that you may write to",
        )
    };
    if !force && path.symlink_metadata().is_ok() {
        return Err(exists(&path));
    }
    fs::create_dir_all(dir).map_err(failed)?;
    let draft = dir.join(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&draft)
        .map_err(failed)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    let placed = written.and_then(|()| {
        if force {
            fs::rename(&draft, &path)
        } else {
            // A link is made only where nothing is; a rename would replace what came meanwhile.
            fs::hard_link(&draft, &path)
        }
    });
    // After a rename there is no draft any more.
    drop(fs::remove_file(&draft));
    match placed {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(exists(&path)),
        placed => placed.map(|()| path.clone()).map_err(failed),
    }
}

fn exists(path: &Path) -> Failure {
    Failure::failed(
        format!("{} is there already", path.display()),
        "--force replaces it",
    )
}

const SERVER: &str = "server.toml";
const AGENT: &str = "agent.toml";

#[cfg(test)]
mod tests;

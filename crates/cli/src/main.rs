//! `landfast`: everything a person types.
//!
//! Invariant: whatever fails ends with one `error:` line, one `hint:` line and the exit code of its kind.

#![expect(
    rustdoc::broken_intra_doc_links,
    reason = "help texts: [server] and [agent] say whom a command asks"
)]

mod agent;
mod audit;
mod authority;
mod bundle;
mod check;
mod cli;
mod connect;
mod debts;
mod debug;
mod dev;
mod entry;
mod evidence;
mod failure;
mod federation;
mod hcl;
mod inspect;
mod jwt;
mod listing;
mod log;
mod login;
mod manual;
mod migrate;
mod mint;
mod mint_wit;
mod output;
mod person;
mod quarantine;
mod root;
mod selftest;
mod server;
mod svid;
mod svid_files;
mod token;
mod whoami;
mod why;
mod wire;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::failure::Failure;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // `dev` is a server and an agent; everything else is one caller.
    let runtime = match &cli.command {
        Command::Dev(_) => tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build(),
        _ => tokio::runtime::Builder::new_current_thread().enable_all().build(),
    };
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(Box::pin(run(cli))),
        Err(error) => Err(Failure::failed(
            format!("cannot start: {error}"),
            "the system may be out of threads or files",
        )),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<u8, Failure> {
    let globals = cli.globals;
    match cli.command {
        Command::Entry(command) => entry::run(command, &globals).await.map(|()| 0),
        Command::Agent(command) => agent::run(command, &globals).await.map(|()| 0),
        Command::Token(command) => token::run(command, &globals).await.map(|()| 0),
        Command::Bundle(command) => bundle::run(command, &globals).await.map(|()| 0),
        Command::Authority(command) => authority::run(command, &globals).await.map(|()| 0),
        Command::Quarantine(command) => quarantine::run(command, &globals).await.map(|()| 0),
        Command::Person(command) => person::run(command, &globals).await.map(|()| 0),
        Command::Login(args) => login::run(args, &globals).await.map(|()| 0),
        Command::Whoami => whoami::run(&globals).await.map(|()| 0),
        Command::Root(command) => root::run(command, &globals).await.map(|()| 0),
        Command::Log(command) => log::run(command, &globals).await.map(|()| 0),
        Command::Debug(command) => debug::run(command, &globals).await.map(|()| 0),
        Command::Federation(command) => federation::run(command, &globals).await.map(|()| 0),
        Command::Audit(command) => audit::run(command, &globals),
        Command::Evidence(command) => evidence::run(command, &globals),
        Command::Selftest(args) => selftest::run(&args, &globals).await,
        Command::Svid(command) => svid::run(command, &globals).await.map(|()| 0),
        Command::Jwt(command) => jwt::run(command, &globals).await.map(|()| 0),
        Command::Mint(command) => mint::run(command, &globals).await.map(|()| 0),
        Command::Why(args) => why::run(&args, &globals).await.map(|()| 0),
        Command::Server(args) => server::run(args, &globals).map(|()| 0),
        Command::Migrate(command) => migrate::run(command, &globals).map(|()| 0),
        Command::Dev(args) => dev::run(args, &globals).await,
        Command::Completion(args) => manual::completion(&args).map(|()| 0),
        Command::Man(args) => manual::man(&args).map(|()| 0),
    }
}

fn usage(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() {
        return match output::print(&error.render().to_string()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.report(),
        };
    }
    let text = error.render().to_string();
    let text = text.split("\n\nFor more information").next().unwrap_or(&text);
    output::complain(&format!(
        "{}\nhint: landfast COMMAND --help shows what can be given",
        text.trim_end()
    ));
    ExitCode::from(failure::USAGE)
}

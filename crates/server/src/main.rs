//! Thin entry point of `landfast-server`: reads the command line, starts the server, waits for its end.

use std::io::{IsTerminal as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser as _;
use landfast_daemon::{TaskTree, error_chain, log};
use landfast_server::backup::{self, BackupArgs, BackupError, MigrateArgs, RestoreArgs};
use landfast_server::{CommandLine, DatabaseReport, Output, Server, ServerConfig, ServerParts, Verb};

fn main() -> ExitCode {
    match CommandLine::parse().verb {
        Verb::Run { config } => run(&config),
        Verb::AcceptLoss { config } => accept_loss(&config),
        Verb::Check {
            file,
            database,
            output,
        } => check(&file, database, output),
        Verb::Backup(args) => backup(&args),
        Verb::Restore(args) => restore(&args),
        Verb::Migrate(args) => migrate(&args),
    }
}

fn check(file: &Path, database: bool, output: Output) -> ExitCode {
    let config = match ServerConfig::load(file) {
        Ok(config) => config,
        Err(error) => return fail(&error, "examples/server.toml shows every key"),
    };
    if let Err(error) = config.check_upstream() {
        return fail(&error, "docs/nested.md says how these files are made");
    }
    let report = match database.then(|| look(&config)).transpose() {
        Ok(report) => report,
        Err(code) => return code,
    };
    let name = file.display().to_string();
    match output {
        Output::Json => {
            let mut said = serde_json::json!({ "file": name, "fine": true });
            if let Some(report) = report {
                said["database"] = report.json();
            }
            say(&format!("{said:#}"));
        }
        Output::Text => {
            say(&format!("{name}: fine"));
            if let Some(report) = report {
                say(&report.to_string());
            }
        }
    }
    ExitCode::SUCCESS
}

/// What a start would do to the database.
fn look(config: &ServerConfig) -> Result<DatabaseReport, ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| fail(&error, "the system may be out of threads"))?;
    let looked = runtime.block_on(landfast_server::check_database(config));
    looked.map_err(|error| fail(&error, "a start would refuse it as well; nothing was changed"))
}

fn backup(args: &BackupArgs) -> ExitCode {
    let config = match args.config().map(ServerConfig::load_to_run).transpose() {
        Ok(config) => config,
        Err(error) => return fail(&error, CHECK),
    };
    let terminal = std::io::stderr().is_terminal();
    let mut progress = |table: &str, rows: u64| {
        if terminal {
            drop(write!(std::io::stderr(), "\r\x1b[K{table}: {rows} rows"));
        }
    };
    let done = backup::backup(args, config.as_ref(), &mut progress);
    if terminal {
        drop(write!(std::io::stderr(), "\r\x1b[K"));
    }
    end(done)
}

fn restore(args: &RestoreArgs) -> ExitCode {
    let config = match ServerConfig::load_to_run(args.config()) {
        Ok(config) => config,
        Err(error) => return fail(&error, CHECK),
    };
    log::init(config.log_level.as_str(), config.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread().build();
    match runtime {
        Ok(runtime) => end(runtime.block_on(backup::restore(args, &config))),
        Err(error) => fail(&error, "the system may be out of threads"),
    }
}

fn migrate(args: &MigrateArgs) -> ExitCode {
    let config = match ServerConfig::load_to_run(args.config()) {
        Ok(config) => config,
        Err(error) => return fail(&error, CHECK),
    };
    log::init(config.log_level.as_str(), config.log_format);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime {
        Ok(runtime) => end(runtime.block_on(backup::migrate(args, &config))),
        Err(error) => fail(&error, "the system may be out of threads"),
    }
}

fn end(done: Result<String, BackupError>) -> ExitCode {
    match done {
        Ok(text) => {
            say(text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, error.hint()),
    }
}

fn run(path: &Path) -> ExitCode {
    let config = match ServerConfig::load_to_run(path) {
        Ok(config) => config,
        Err(error) => return fail(&error, CHECK),
    };
    log::init(config.log_level.as_str(), config.log_format);
    landfast_daemon::raise_descriptor_limit(config.descriptors_wanted(), "limits.connections");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime {
        Ok(runtime) => runtime.block_on(serve(config)),
        Err(error) => fail(&error, "the system may be out of threads"),
    }
}

fn accept_loss(path: &Path) -> ExitCode {
    let target = match ServerConfig::load_to_run(path).map(|config| config.postgres) {
        Ok(Some(target)) => target,
        Ok(None) => {
            let error = std::io::Error::other(format!("{} has no datastore.postgres", path.display()));
            return fail(
                &error,
                "only a database that fails over loses changes; restore SQLite from a backup",
            );
        }
        Err(error) => return fail(&error, "check it with: landfast-server check FILE"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let begun = match runtime {
        Ok(runtime) => runtime.block_on(landfast_server::accept_loss(&target)),
        Err(error) => return fail(&error, "the system may be out of threads"),
    };
    match begun {
        Ok(epoch) => {
            say(&format!(
                "what the database has now is in force, in epoch {epoch}"
            ));
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error, "nothing was changed; the database has to accept writes"),
    }
}

async fn serve(config: ServerConfig) -> ExitCode {
    let tree = TaskTree::new();
    let parts = ServerParts {
        metrics: config.http_listen.map(|_| landfast_daemon::Metrics::install()),
        ..ServerParts::default()
    };
    let handle = match Server::start(config, parts, &tree.handle()).await {
        Ok(handle) => handle,
        Err(error) => return fail(&error, "mend it and start again; what was there is as it was"),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), admin_socket = %handle.admin_socket().display(), "server started");
    match landfast_daemon::serve_until_asked(tree, DRAIN).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, "this is a fault of the program; please report it"),
    }
}

fn fail(error: &dyn std::error::Error, hint: &str) -> ExitCode {
    let mut out = std::io::stderr().lock();
    // Nowhere is left to report that standard error is closed.
    drop(writeln!(out, "error: {}\nhint: {hint}", error_chain(error)));
    ExitCode::FAILURE
}

fn say(text: &str) {
    drop(writeln!(std::io::stdout().lock(), "{text}"));
}

const CHECK: &str = "check it with: landfast-server check FILE";
/// Open requests have this long to end.
const DRAIN: Duration = Duration::from_secs(5);

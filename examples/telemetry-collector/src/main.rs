//! A telemetry collector and the receiver it pushes to, as a user of SPIFFE would write them: with public crates, and nothing of
//! Landfast's.
//!
//! `telemetry-collector collector` and `telemetry-collector receiver` speak mTLS with their X509-SVIDs. The receiver lets in the
//! one SPIFFE ID it is told, and asks for a JWT-SVID in one of the messages.

#![expect(
    clippy::print_stdout,
    reason = "a demonstration: what it prints is what it is for"
)]

mod collector;
mod receiver;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Pushes readings over mTLS, with identities from SPIFFE_ENDPOINT_SOCKET.
#[derive(Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Push readings until the SVID was renewed often enough.
    Collector {
        /// Where the receiver listens.
        #[arg(long)]
        to: String,
        /// Who the receiver must be.
        #[arg(long)]
        receiver_id: String,
        /// End after this many renewals of the SVID.
        #[arg(long, default_value_t = 2)]
        rotations: u32,
        /// Give up after this many seconds.
        #[arg(long, default_value_t = 50)]
        give_up: u64,
    },
    /// Take readings from one collector.
    Receiver {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: String,
        /// Who the collector must be.
        #[arg(long)]
        collector_id: String,
    },
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What the receiver calls itself as the audience of JWT-SVIDs.
const AUDIENCE: &str = "telemetry-receiver";
/// One connection, from dialling to the answer.
const DEADLINE: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Collector {
                to,
                receiver_id,
                rotations,
                give_up,
            } => {
                let run = collector::run(&to, &receiver_id, rotations);
                match tokio::time::timeout(Duration::from_secs(give_up), run).await {
                    Ok(outcome) => outcome,
                    Err(_elapsed) => Err(format!("not done after {give_up} s").into()),
                }
            }
            Command::Receiver { listen, collector_id } => receiver::run(&listen, &collector_id).await,
        }
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

fn fail(error: &BoxError) -> ExitCode {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(inner) = cause {
        eprintln!("  because: {inner}");
        cause = inner.source();
    }
    ExitCode::FAILURE
}

//! `landfast svid`: what the Workload API gives to this very process.

use std::convert::Infallible;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use landfast_identity::{Bundle, SpiffeId, UnixTime, X509Svid, jwt};
use landfast_lifecycle::{Backoff, Clock as _, SystemClock, renewal_due};
use landfast_workload_api::FetchedJwt;
use landfast_workload_api::client::{ClientError, HeldWit, WorkloadClient, X509Context};
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;

use crate::cli::Globals;
use crate::failure::{Failure, NOT_READY};
use crate::{connect, inspect, output, svid_files};

#[derive(Subcommand, Debug)]
pub(crate) enum SvidCommand {
    /// Fetch the SVIDs of this process once [local agent].
    Fetch(FetchArgs),
    /// Fetch, and again whenever they change, until interrupted; an agent that is away is waited for, one that refuses ends it [local agent].
    Watch(FetchArgs),
    /// Show what a file holds: certificates, a key, a token, a bundle; nothing is verified [local file].
    Inspect {
        /// The file, PEM or DER; `-` for standard input.
        file: PathBuf,
    },
}

#[derive(Args, Debug)]
pub(crate) struct FetchArgs {
    /// Which kind.
    #[arg(value_enum, default_value = "x509")]
    kind: Kind,
    /// Whom a JWT-SVID is meant for; can be repeated.
    #[arg(long, required_if_eq("kind", "jwt"))]
    audience: Vec<String>,
    /// Only this identity; the default one when not given and files are written.
    #[arg(long, value_name = "SPIFFE-ID")]
    id: Option<SpiffeId>,
    /// Write svid.pem, key.pem and bundle.pem (or jwt.token; or wit.token and wit.jwk, its key) here, mode 0600, each replaced whole.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Kind {
    /// X509-SVIDs.
    X509,
    /// JWT-SVIDs.
    Jwt,
    /// WIT-SVIDs, where the server issues them (incubating).
    Wit,
}

pub(crate) async fn run(command: SvidCommand, globals: &Globals) -> Result<(), Failure> {
    let args = match command {
        SvidCommand::Inspect { file } => return inspect::run(&file, globals),
        SvidCommand::Fetch(args) => args,
        SvidCommand::Watch(args) => return watch(&args, globals).await,
    };
    let mut client = connect::workload(globals).await?;
    match args.kind {
        Kind::X509 => show_x509(&client.fetch_x509().await.map_err(failure)?, &args, globals),
        Kind::Jwt => fetch_jwt(&mut client, &args, globals).await.map(drop),
        Kind::Wit => {
            let svids = client.fetch_wit(args.id.as_ref()).await.map_err(failure)?;
            show_wit(&svids, &args, globals)
        }
    }
}

fn failure(error: ClientError) -> Failure {
    connect::workload_failure(&error)
}

/// Until something is wrong that waiting does not mend: the agent refuses, or nothing can be written.
async fn watch(args: &FetchArgs, globals: &Globals) -> Result<(), Failure> {
    let mut away = Away::new();
    loop {
        let ended = match args.kind {
            Kind::X509 => watch_x509(args, globals, &mut away).await,
            Kind::Jwt => watch_jwt(args, globals, &mut away).await,
            Kind::Wit => watch_wit(args, globals, &mut away).await,
        };
        match ended {
            Err(failure) if failure.code == NOT_READY => away.wait(&failure).await,
            Err(failure) => return Err(failure),
            Ok(never) => match never {},
        }
    }
}

async fn watch_x509(args: &FetchArgs, globals: &Globals, away: &mut Away) -> Result<Infallible, Failure> {
    let mut updates = connect::workload(globals)
        .await?
        .x509_svids()
        .await
        .map_err(failure)?;
    while let Some(update) = updates.next().await {
        show_x509(&update.map_err(failure)?, args, globals)?;
        away.is_over();
    }
    Err(failure(ClientError::Closed))
}

async fn watch_wit(args: &FetchArgs, globals: &Globals, away: &mut Away) -> Result<Infallible, Failure> {
    let mut client = connect::workload(globals).await?;
    let mut updates = client.wit_svids(args.id.as_ref()).await.map_err(failure)?;
    while let Some(update) = updates.next().await {
        show_wit(&update.map_err(failure)?, args, globals)?;
        away.is_over();
    }
    Err(failure(ClientError::Closed))
}

async fn watch_jwt(args: &FetchArgs, globals: &Globals, away: &mut Away) -> Result<Infallible, Failure> {
    let mut client = connect::workload(globals).await?;
    loop {
        let tokens = fetch_jwt(&mut client, args, globals).await?;
        away.is_over();
        sleep_until_due(&tokens).await;
    }
}

/// The agent being away: said once, asked for again and again.
struct Away {
    backoff: Backoff,
    said: bool,
}

impl Away {
    fn new() -> Self {
        Self {
            backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(30)),
            said: false,
        }
    }

    fn is_over(&mut self) {
        *self = Self::new();
    }

    async fn wait(&mut self, why: &Failure) {
        if !self.said {
            output::complain(&format!(
                "waiting for the agent: {}\nhint: {}",
                why.message, why.hint
            ));
            self.said = true;
        }
        tokio::time::sleep(self.backoff.next()).await;
    }
}

fn show_x509(context: &X509Context, args: &FetchArgs, globals: &Globals) -> Result<(), Failure> {
    let wanted = |svid: &&X509Svid| args.id.as_ref().is_none_or(|id| id == svid.id());
    let svids: Vec<&X509Svid> = context.svids.iter().filter(wanted).collect();
    let Some(first) = svids.first() else {
        return Err(Failure::failed(
            "the agent has no such identity for this process",
            "landfast svid fetch shows those it has",
        ));
    };
    if let Some(dir) = &args.write {
        let bundle = context.bundles.get(first.id().trust_domain());
        let bundle = bundle.map_or_else(
            || Bundle::new(first.id().trust_domain().clone()),
            |bundle| (**bundle).clone(),
        );
        svid_files::write_x509(dir, first, &bundle)?;
        if !globals.json() {
            let until = output::when(first.not_after().as_secs(), "-");
            return output::print(&format!(
                "{}: written to {}, until {until}",
                first.id(),
                dir.display()
            ));
        }
    }
    if globals.json() {
        return output::print_json(&svids.iter().map(|svid| x509_json(svid)).collect());
    }
    let rows = svids.iter().map(|svid| {
        vec![
            svid.id().to_string(),
            output::when(svid.not_after().as_secs(), "-"),
            svid.serial_hex(),
            svid.hint().to_owned(),
        ]
    });
    output::print(&output::table(&["SPIFFE ID", "UNTIL", "SERIAL", "HINT"], rows))
}

/// Without the key: it leaves this program only into a file.
fn x509_json(svid: &X509Svid) -> Value {
    json!({
        "spiffe_id": svid.id().as_str(), "hint": svid.hint(), "serial": svid.serial_hex(),
        "not_before": svid.not_before().to_string(), "not_after": svid.not_after().to_string(),
        "certificates": landfast_identity::chain_to_pem(svid.chain()),
    })
}

/// Without the keys, as with [`x509_json`].
fn show_wit(svids: &[HeldWit], args: &FetchArgs, globals: &Globals) -> Result<(), Failure> {
    if let (Some(dir), Some(first)) = (&args.write, svids.first()) {
        svid_files::write_wit(dir, first.svid.token(), first.private_jwk())?;
        if !globals.json() {
            let until = output::when(first.svid.expires_at().as_secs(), "-");
            let (id, dir) = (first.svid.id(), dir.display());
            return output::print(&format!("{id}: written to {dir}, until {until}"));
        }
    }
    if globals.json() {
        let each = svids.iter().map(|held| {
            json!({
                "spiffe_id": held.svid.id().as_str(), "hint": held.hint, "token": held.svid.token(),
                "expires_at": held.svid.expires_at().to_string(), "key_id": held.svid.key_id(),
            })
        });
        return output::print_json(&each.collect());
    }
    let rows = svids.iter().map(|held| {
        vec![
            held.svid.id().to_string(),
            output::when(held.svid.expires_at().as_secs(), "-"),
            held.svid.key_id().to_owned(),
            held.hint.clone(),
        ]
    });
    output::print(&output::table(&["SPIFFE ID", "UNTIL", "SIGNED BY", "HINT"], rows))
}

async fn fetch_jwt(
    client: &mut WorkloadClient,
    args: &FetchArgs,
    globals: &Globals,
) -> Result<Vec<FetchedJwt>, Failure> {
    let fetched = client.fetch_jwt(&args.audience, args.id.as_ref()).await;
    let tokens = fetched.map_err(|error| connect::workload_failure(&error))?;
    if let (Some(dir), Some(first)) = (&args.write, tokens.first()) {
        svid_files::write_jwt(dir, &first.token)?;
        if !globals.json() {
            output::print(&format!(
                "{}: written to {}",
                first.id,
                dir.join("jwt.token").display()
            ))?;
            return Ok(tokens);
        }
    }
    if globals.json() {
        let each = tokens
            .iter()
            .map(|svid| json!({"spiffe_id": svid.id.as_str(), "hint": svid.hint, "token": svid.token}));
        output::print_json(&each.collect())?;
    } else {
        output::print(&output::lines(tokens.iter().map(|svid| &svid.token), ""))?;
    }
    Ok(tokens)
}

/// At half of the first token's life, looking at the wall clock each minute at least.
async fn sleep_until_due(tokens: &[FetchedJwt]) {
    let due = tokens
        .first()
        .and_then(|svid| jwt::parse_unverified(&svid.token).ok())
        .and_then(|token| {
            let issued = token.issued_at().or_else(|| SystemClock.now())?;
            Some(renewal_due(issued, token.expires_at(), token.token().as_bytes()))
        });
    loop {
        let left = match (due, SystemClock.now()) {
            (Some(due), Some(now)) => due.since(now),
            _ => Duration::from_secs(30),
        };
        // Never two fetches within a second, however the clocks differ.
        tokio::time::sleep(left.clamp(Duration::from_secs(1), Duration::from_secs(60))).await;
        let now = SystemClock.now().unwrap_or(UnixTime::EPOCH);
        if due.is_none_or(|due| now >= due) {
            return;
        }
    }
}

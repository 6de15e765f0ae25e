//! `landfast dev`: a server and an agent in one process, for CI and laptops.
//!
//! Invariant: it issues only for names that can never be anybody's (RFC 6761), keeps its keys in memory, ends after a day, and
//! leaves nothing behind.

mod child;
mod directory;
mod plant;

use std::time::Duration;

use clap::Args;
use landfast_daemon::log::LogFormat;
use landfast_daemon::{TaskTree, TreeError, error_chain, log, shutdown_signal, terminal_signal};
use landfast_identity::{Selector, SpiffeId, TrustDomain};
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::entry::doubts;
use crate::failure::Failure;
use crate::output;
use directory::Directory;
use plant::Plant;

#[derive(Args, Debug)]
pub(crate) struct DevArgs {
    /// Ends in .test, .example, .invalid or .localhost. Default: that of the first --entry, else dev.test.
    #[arg(long, value_parser = harmless)]
    trust_domain: Option<TrustDomain>,
    /// Who gets which identity: SPIFFE-ID=SELECTOR[,SELECTOR…]; can be repeated. Default: spiffe://…/dev for your own user.
    #[arg(long = "entry", value_name = "ID=SELECTORS")]
    entries: Vec<DevEntry>,
    /// How long X509-SVIDs are valid; at most 24h.
    #[arg(long, default_value = "1h", value_parser = at_most_a_day)]
    x509_ttl: Duration,
    /// Issue WIT-SVIDs too (incubating).
    #[arg(long)]
    wit_svid: bool,
    /// How much is logged to standard error: error, warn, info, debug or trace.
    #[arg(long, default_value = "warn", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,
    /// Run this with SPIFFE_ENDPOINT_SOCKET set (and, for landfast itself, LANDFAST_SERVER_SOCKET and LANDFAST_AGENT_ADMIN_SOCKET), pass signals on, and end with its exit code.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<std::ffi::OsString>,
}

/// What finds the run: for its command, and printed.
type Environment = [(&'static str, String)];

/// What `--entry` says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct DevEntry {
    pub(crate) id: SpiffeId,
    pub(crate) selectors: Vec<Selector>,
}

impl std::str::FromStr for DevEntry {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, selectors) = text
            .split_once('=')
            .ok_or("ID=SELECTOR is wanted, as spiffe://ci.test/collector=unix:uid:1000")?;
        let id = SpiffeId::parse(id).map_err(|error| error.to_string())?;
        let selectors = selectors.split(',').map(|text| {
            let selector = Selector::parse(text).map_err(|error| error_chain(&error))?;
            doubts::never(selector.kind(), selector.value()).map_or(Ok(selector), Err)
        });
        Ok(Self {
            id,
            selectors: selectors.collect::<Result<_, _>>()?,
        })
    }
}

pub(crate) async fn run(args: DevArgs, globals: &Globals) -> Result<u8, Failure> {
    let trust_domain = trust_domain(&args)?;
    log::init(&args.log, LogFormat::Text);
    // From here on a signal ends the run in order, which means that nothing is left behind.
    let mut asked = std::pin::pin!(asked_to_stop());
    let directory = Directory::create()?;
    let tree = TaskTree::new();
    let named = entries(&args, &trust_domain);
    warn_of(&kept_out(&named, nix::unistd::geteuid().as_raw()));
    let handle = tree.handle();
    let plant = tokio::select! {
        biased;
        () = &mut asked => return Err(Failure::failed("asked to stop before it was ready", "run it again")),
        plant = Plant::start(&trust_domain, &named, args.x509_ttl, args.wit_svid, &directory, &handle) => plant?,
    };
    let outcome = tokio::time::timeout(LIFE, live(&args, globals, &plant.environment(), &tree, asked))
        .await
        .unwrap_or_else(|_elapsed| {
            Err(Failure::failed(
                "ended after 24 hours",
                "landfast dev is for tests; a server and an agent have no such limit",
            ))
        });
    let ended = tree.join_with_deadline(DRAIN).await;
    drop(directory);
    let code = outcome?;
    match ended {
        // As for the daemons: a client that does not let go is not our failure.
        Ok(()) | Err(TreeError::Unfinished { .. }) => Ok(code),
        Err(error) => Err(Failure::failed(
            error_chain(&error),
            "run it again with --log debug",
        )),
    }
}

async fn asked_to_stop() {
    tokio::select! {
        () = shutdown_signal() => {}
        () = terminal_signal() => {}
    }
}

/// Until the command ends, or somebody asks us to. A command is passed the signals, and decides itself.
async fn live(
    args: &DevArgs,
    globals: &Globals,
    environment: &Environment,
    tree: &TaskTree,
    asked: impl Future<Output = ()>,
) -> Result<u8, Failure> {
    let failed = tree.handle();
    if args.command.is_empty() {
        announce(environment, globals)?;
        tokio::select! {
            () = asked => {}
            () = failed.cancelled() => {}
        }
        return Ok(0);
    }
    tokio::select! {
        code = child::run(&args.command, environment) => code,
        // The command is killed when its handle is dropped: without identities it cannot go on.
        () = failed.cancelled() => Ok(1),
    }
}

/// On lines that a shell can read, or in one line of JSON: the reader does not wait for an end.
fn announce(environment: &Environment, globals: &Globals) -> Result<(), Failure> {
    if globals.json() {
        let fields = environment
            .iter()
            .map(|(name, value)| ((*name).to_owned(), json!(value)));
        return output::print(&Value::Object(fields.collect()).to_string());
    }
    let lines = environment.iter().map(|(name, value)| format!("{name}={value}"));
    output::print(&output::lines(lines, ""))
}

/// Whom of the named users the private directory keeps out: it is for its owner, and root.
fn kept_out(entries: &[DevEntry], own: u32) -> Vec<u32> {
    let uids = entries
        .iter()
        .flat_map(|entry| &entry.selectors)
        .filter_map(|selector| {
            let number = (selector.kind() == "unix").then(|| selector.value().strip_prefix("uid:"))??;
            number.parse().ok()
        });
    let mut uids: Vec<u32> = uids.filter(|uid| *uid != own && *uid != 0).collect();
    uids.sort_unstable();
    uids.dedup();
    uids
}

fn warn_of(kept_out: &[u32]) {
    for uid in kept_out {
        output::complain(&format!(
            "warning: uid {uid} cannot reach the sockets of this run: their directory is for your own user alone\n             hint: run landfast dev as that user (sudo -u '#{uid}' landfast dev …); for several users at once a server and an agent are needed"
        ));
    }
}

fn trust_domain(args: &DevArgs) -> Result<TrustDomain, Failure> {
    let first = args.entries.first().map(|entry| entry.id.trust_domain().clone());
    let trust_domain = match args.trust_domain.clone().or(first) {
        Some(given) => given,
        None => TrustDomain::parse("dev.test")
            .map_err(|error| Failure::failed(error_chain(&error), "please report this"))?,
    };
    let hint = "landfast dev issues only for .test, .example, .invalid and .localhost";
    harmless(trust_domain.as_str()).map_err(|error| Failure::usage(error, hint))?;
    let foreign = args
        .entries
        .iter()
        .find(|entry| *entry.id.trust_domain() != trust_domain);
    match foreign {
        Some(entry) => Err(Failure::usage(
            format!("{} is not of {trust_domain}", entry.id),
            "all entries are of one trust domain",
        )),
        None => Ok(trust_domain),
    }
}

fn entries(args: &DevArgs, trust_domain: &TrustDomain) -> Vec<DevEntry> {
    if !args.entries.is_empty() {
        return args.entries.clone();
    }
    let uid = nix::unistd::geteuid();
    let id = SpiffeId::from_parts(trust_domain, "/dev");
    let selector = Selector::new("unix", &format!("uid:{uid}"));
    id.ok()
        .zip(selector.ok())
        .map(|(id, selector)| DevEntry {
            id,
            selectors: vec![selector],
        })
        .into_iter()
        .collect()
}

/// Names that no registry gives away, so that nothing issued here is believed anywhere else.
fn harmless(text: &str) -> Result<TrustDomain, String> {
    let trust_domain = TrustDomain::parse(text).map_err(|error| error_chain(&error))?;
    let last = trust_domain.as_str().rsplit('.').next().unwrap_or_default();
    if ["test", "example", "invalid", "localhost"].contains(&last) {
        return Ok(trust_domain);
    }
    Err(format!(
        "{trust_domain} does not end in .test, .example, .invalid or .localhost"
    ))
}

fn at_most_a_day(text: &str) -> Result<Duration, String> {
    crate::wire::duration(text).and_then(|ttl| {
        (ttl <= LIFE)
            .then_some(ttl)
            .ok_or_else(|| "at most 24h".to_owned())
    })
}

/// Nothing made here lives longer.
const LIFE: Duration = Duration::from_secs(24 * 3600);
/// More than the Workload API takes for a client that does not read.
const DRAIN: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_can_own_are_issued_for() {
        for name in [
            "dev.test",
            "a.example",
            "x.invalid",
            "me.localhost",
            "test",
            "spiffe://ci.test",
        ] {
            assert!(harmless(name).is_ok(), "{name}");
        }
        for name in [
            "plant.com",
            "test.com",
            "mytest",
            "dev.tests",
            "example.org",
            "a.test.",
            "",
            "test.local",
        ] {
            assert!(harmless(name).is_err(), "{name}");
        }
    }

    #[test]
    fn an_entry_is_an_id_and_selectors() {
        let entry: DevEntry = "spiffe://ci.test/a=unix:uid:1,unix:path:/bin/x".parse().unwrap();
        assert_eq!(entry.id.as_str(), "spiffe://ci.test/a");
        assert_eq!(entry.selectors.len(), 2);
        for wrong in [
            "spiffe://ci.test/a",
            "ci.test/a=unix:uid:1",
            "spiffe://ci.test/a=",
            "spiffe://ci.test/a=unix",
            "spiffe://ci.test/a=unix:uiid:0",
        ] {
            assert!(wrong.parse::<DevEntry>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_cannot_reach_the_sockets_is_known() {
        let entries: Vec<DevEntry> = [
            "unix:uid:7",
            "unix:uid:0",
            "unix:uid:9,unix:gid:8",
            "unix:uid:9",
            "x:uid:3",
        ]
        .iter()
        .map(|selectors| format!("spiffe://ci.test/a={selectors}").parse().unwrap())
        .collect();
        assert_eq!(kept_out(&entries, 0), [7, 9]);
        assert_eq!(kept_out(&entries, 7), [9]);
    }

    #[test]
    fn nothing_lives_longer_than_a_day() {
        assert!(at_most_a_day("24h").is_ok());
        assert!(at_most_a_day("25h").is_err());
    }
}

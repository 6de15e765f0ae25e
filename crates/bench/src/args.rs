//! The command line. Invariant: whatever is accepted is bounded, in how much and in how long.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Loads a server of SPIRE's API, or a Workload API, and reports what it took.
///
/// Without --server, each run starts a landfast-server of its own from --bin-dir, and everything it made is gone afterwards.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub(crate) struct CommandLine {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Whom to load, and what becomes of the figures.
#[derive(Debug, Args)]
pub(crate) struct Globals {
    /// Folder with the landfast-server (and, for `propagation --workload`, the landfast-agent) to start.
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        default_value = "target/release",
        conflicts_with = "server"
    )]
    pub(crate) bin_dir: PathBuf,
    /// A server that runs already, of any make: where agents connect. It keeps what the run makes there: agents, entries, records.
    #[arg(long, global = true, value_name = "ADDRESS:PORT", requires = "admin_socket")]
    pub(crate) server: Option<SocketAddr>,
    /// Its admin socket (SPIRE: socket_path): tokens, entries and the bundle come from there.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) admin_socket: Option<PathBuf>,
    /// Its process on this machine, whose CPU time and memory are reported.
    #[arg(long, global = true, value_name = "PID", requires = "server")]
    pub(crate) server_pid: Option<u32>,
    /// How agents learn of changes: `push` subscribes to landfast.sync.v1; `poll` synchronises as SPIRE's agents do; `auto` polls a server that does not push.
    #[arg(long, global = true, value_enum, default_value_t = Mode::Auto)]
    pub(crate) mode: Mode,
    /// Seconds between two polls of an agent; one that is pushed to looks every 5 minutes.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 5, value_parser = RangedU64ValueParser::<u64>::new().range(1..=3600))]
    pub(crate) interval: u64,
    /// Agents a second that come to the server when a fleet grows. One that cannot follow is overloaded before anything is measured.
    #[arg(long, global = true, value_name = "AGENTS", default_value_t = 1000, value_parser = RangedU64ValueParser::<u64>::new().range(1..=100_000))]
    pub(crate) arrivals: u64,
    /// What is printed at the end.
    #[arg(long, global = true, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
    /// Folder for report.txt, report.json, report.md (tables a load a column) and the charts.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) report: Option<PathBuf>,
    /// Ends the run after so many seconds, with what was measured until then.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = 1800, value_parser = RangedU64ValueParser::<u64>::new().range(1..=86_400))]
    pub(crate) deadline: u64,
}

/// What to measure.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// From an operator's change until agents have acted on it: entry to SVID, deletion, ban
    Propagation(Propagation),
    /// What a fleet at rest costs: renewals at their real rate, for a slice of time
    Steady(Steady),
    /// Bytes on the wire for an agent and day
    Wire(Wire),
    /// What entries cost: creation, cold start, memory, list, lookup
    Registry(Registry),
    /// A fleet that comes back in the same second, to a server held to a share of the machine
    Storm(Storm),
    /// Load on a Workload API socket
    Workload(Workload),
    /// Everything but `workload`: one fleet that grows, so that it takes a quarter of an hour
    All(All),
}

#[derive(Debug, Args)]
pub(crate) struct Propagation {
    /// Sizes of the fleet, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1,1000,5000", value_parser = agents())]
    pub(crate) agents: Vec<u64>,
    /// Entries that each agent has.
    #[arg(long, default_value_t = 10, value_parser = entries())]
    pub(crate) entries: u64,
    #[command(flatten)]
    pub(crate) rounds: Rounds,
}

/// How often each thing is tried, at each size.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Rounds {
    /// Entries of one agent that are created and deleted, one after the other.
    #[arg(long, default_value_t = 200, value_parser = RangedU64ValueParser::<u64>::new().range(1..=10_000))]
    pub(crate) samples: u64,
    /// Entries of all agents that are created and deleted.
    #[arg(long, default_value_t = 5, value_parser = RangedU64ValueParser::<u64>::new().range(0..=100))]
    pub(crate) fleet_samples: u64,
    /// Agents that are banned; they are additional ones.
    #[arg(long, default_value_t = 100, value_parser = RangedU64ValueParser::<u64>::new().range(0..=1000))]
    pub(crate) bans: u64,
    /// Also through a real landfast-agent to a program's stream (a server of ours only: needs landfast-agent in --bin-dir).
    #[arg(long)]
    pub(crate) workload: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Steady {
    /// Sizes of the fleet, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000", value_parser = agents())]
    pub(crate) agents: Vec<u64>,
    /// Entries, and so SVIDs, that each agent has.
    #[arg(long, default_value_t = 10, value_parser = entries())]
    pub(crate) entries: u64,
    /// Length of the slice.
    #[arg(long, default_value_t = 60, value_parser = seconds())]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Wire {
    /// Agents at each size.
    #[arg(long, default_value_t = 500, value_parser = agents())]
    pub(crate) agents: u64,
    /// SVIDs of each agent: sizes.
    #[arg(long, value_delimiter = ',', default_value = "0,10,100", value_parser = RangedU64ValueParser::<u64>::new().range(0..=400))]
    pub(crate) entries: Vec<u64>,
    /// Length of the slice of a day, for each size.
    #[arg(long, default_value_t = 60, value_parser = seconds())]
    pub(crate) seconds: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Registry {
    /// Sizes of the registry, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000,100000", value_parser = RangedU64ValueParser::<u64>::new().range(1..=1_000_000))]
    pub(crate) entries: Vec<u64>,
}

#[derive(Debug, Args)]
pub(crate) struct Storm {
    /// Sizes of the fleet that comes back, ascending.
    #[arg(long, value_delimiter = ',', default_value = "1000,5000,10000", value_parser = agents())]
    pub(crate) agents: Vec<u64>,
    /// SVIDs that each agent lacks when it comes back: the outage was longer than they lived.
    #[arg(long, default_value_t = 10, value_parser = entries())]
    pub(crate) entries: u64,
    #[command(flatten)]
    pub(crate) held: Held,
    /// For how long to wait until all are served.
    #[arg(long, default_value_t = 120, value_parser = seconds())]
    pub(crate) patience: u64,
}

/// A control group for the server; needs root. Of a server that runs already nothing is held.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Held {
    /// Cores that the server may use, in hundredths.
    #[arg(long, default_value_t = 100, value_parser = RangedU64ValueParser::<u64>::new().range(5..=6400))]
    pub(crate) percent_of_core: u64,
    /// Memory that the server may have, in MiB.
    #[arg(long, default_value_t = 1024, value_parser = RangedU64ValueParser::<u64>::new().range(16..=1_048_576))]
    pub(crate) memory_mib: u64,
}

#[derive(Debug, Args)]
pub(crate) struct Workload {
    /// The socket, of any agent. This program must match an entry.
    #[arg(long, value_name = "unix:///PATH")]
    pub(crate) socket: String,
    /// Streams that are held meanwhile, each on a connection of its own: sizes.
    #[arg(long, value_delimiter = ',', default_value = "10,100,1000", value_parser = RangedU64ValueParser::<u64>::new().range(0..=15_000))]
    pub(crate) streams: Vec<u64>,
    /// Fetches at each size, half of them on new connections.
    #[arg(long, default_value_t = 2000, value_parser = RangedU64ValueParser::<u64>::new().range(2..=1_000_000))]
    pub(crate) fetches: u64,
    /// Clients that fetch at the same time.
    #[arg(long, default_value_t = 4, value_parser = RangedU64ValueParser::<u64>::new().range(1..=256))]
    pub(crate) clients: u64,
}

#[derive(Debug, Args)]
pub(crate) struct All {
    /// A tenth of each fleet and of each registry, and shorter slices: to see that it works here.
    #[arg(long)]
    pub(crate) quick: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    Auto,
    Push,
    Poll,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

impl Globals {
    pub(crate) fn json(&self) -> bool {
        self.output == Output::Json
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_secs(self.deadline)
    }

    pub(crate) fn interval(&self) -> Duration {
        Duration::from_secs(self.interval)
    }
}

/// One process has a descriptor for each; most systems let it have 20,000 or more.
fn agents() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=15_000)
}

/// What fits the first page of a synchronisation, with room for those that a run adds.
fn entries() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=400)
}

fn seconds() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=3600)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_its_defaults_are_those_of_the_documentation() {
        CommandLine::command().debug_assert();
        let line = CommandLine::try_parse_from(["landfast-bench", "storm"]).unwrap();
        let Command::Storm(storm) = line.command else {
            panic!("not a storm")
        };
        assert_eq!((storm.agents, storm.entries), (vec![1000, 5000, 10_000], 10));
        assert_eq!((storm.held.percent_of_core, storm.held.memory_mib), (100, 1024));
    }

    #[test]
    fn everything_that_takes_time_or_memory_is_bounded() {
        let refused = [
            "propagation --agents 0",
            "propagation --agents 15001",
            "propagation --entries 401",
            "propagation --samples 0",
            "propagation --bans 1001",
            "steady --seconds 3601",
            "steady --entries 0",
            "wire --entries 401",
            "registry --entries 1000001",
            "storm --memory-mib 15",
            "storm --percent-of-core 4",
            "workload --socket unix:///a --streams 15001",
            "workload --socket unix:///a --clients 0",
            "workload",
            "--interval 0 all",
            "--arrivals 0 all",
            "--deadline 86401 all",
            "--server 127.0.0.1:1 all",
            "--server not-an-address --admin-socket /a all",
            "--server-pid 1 all",
            "--mode both all",
        ];
        for text in refused {
            let words = std::iter::once("landfast-bench").chain(text.split(' '));
            assert!(CommandLine::try_parse_from(words).is_err(), "{text}");
        }
        let taken =
            "landfast-bench --server 127.0.0.1:1 --admin-socket /a --server-pid 7 --output json all --quick";
        CommandLine::try_parse_from(taken.split(' ')).unwrap();
    }
}

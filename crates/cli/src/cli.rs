//! The command line: global options and the nouns. Each noun's file holds its own.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::output::Format;

/// SPIFFE identities for the programs of industrial edge nodes.
#[derive(Parser, Debug)]
#[command(
    name = "landfast",
    version,
    propagate_version = true,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 fine, 1 failed, 2 usage, 3 not ready."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) globals: Globals,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Where to ask, and how to show the answer.
#[derive(Args, Debug)]
pub(crate) struct Globals {
    /// How results are shown.
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub(crate) output: Format,
    /// Why: the server keeps it beside what you do.
    #[arg(long, global = true, value_name = "TEXT", value_parser = landfast_proto::Reason::parse)]
    pub(crate) reason: Option<landfast_proto::Reason>,
    /// The server's admin socket.
    #[arg(long, global = true, value_name = "PATH", env = SERVER_SOCKET, default_value = "/run/landfast/server/admin.sock", help_heading = WHERE)]
    pub(crate) server_socket: PathBuf,
    /// Ask a remote server over mTLS instead of the admin socket.
    #[arg(long, global = true, value_name = "HOST:PORT", help_heading = WHERE)]
    pub(crate) server: Option<String>,
    /// With --server: where svid.pem, key.pem and bundle.pem are. Default: what landfast login has got for this server; else the Workload API is asked.
    #[arg(long, global = true, value_name = "DIR", requires = "server", help_heading = WHERE)]
    pub(crate) identity_dir: Option<PathBuf>,
    /// The agent's Workload API. Default: SPIFFE_ENDPOINT_SOCKET, else /run/landfast/agent/public/api.sock.
    #[arg(long, global = true, value_name = "PATH", help_heading = WHERE)]
    pub(crate) agent_socket: Option<String>,
    /// The agent's admin socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = AGENT_ADMIN_SOCKET,
        default_value = "/run/landfast/agent/private/admin.sock",
        help_heading = WHERE
    )]
    pub(crate) agent_admin_socket: PathBuf,
}

impl Globals {
    pub(crate) fn json(&self) -> bool {
        self.output == Format::Json
    }

    /// The Workload API's address (Workload Endpoint §4).
    pub(crate) fn workload_api(&self) -> String {
        let from_environment =
            || std::env::var_os("SPIFFE_ENDPOINT_SOCKET").map(|value| value.to_string_lossy().into_owned());
        let given = self
            .agent_socket
            .clone()
            .or_else(from_environment)
            .filter(|value| !value.is_empty());
        given.unwrap_or_else(|| "/run/landfast/agent/public/api.sock".to_owned())
    }
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Registration entries: who gets which identity [speaks to the server].
    #[command(subcommand)]
    Entry(crate::entry::EntryCommand),
    /// Nodes: list, show, evict, ban [server]; status [local agent]; check a configuration.
    #[command(subcommand)]
    Agent(crate::agent::AgentCommand),
    /// Join tokens for new nodes [speaks to the server].
    #[command(subcommand)]
    Token(crate::token::TokenCommand),
    /// Trust bundles, our own and federated ones [speaks to the server].
    #[command(subcommand)]
    Bundle(crate::bundle::BundleCommand),
    /// The keys that sign: show, prepare, activate, taint, revoke [speaks to the server].
    #[command(subcommand)]
    Authority(crate::authority::AuthorityCommand),
    /// After a restore of an old backup the server signs nothing before somebody has looked: show, end [speaks to the server's admin socket].
    #[command(subcommand)]
    Quarantine(crate::quarantine::QuarantineCommand),
    /// Who operates, by which logins, and what each may do: list, add, grant, confirm, forget [speaks to the server].
    #[command(subcommand)]
    Person(crate::person::PersonCommand),
    /// Log in to a server elsewhere, by your SSH key or at an OIDC provider: for the commands that follow with the same --server [speaks to the server].
    Login(crate::login::LoginArgs),
    /// Whom the server takes you for, and what you may do [speaks to the server].
    Whoami,
    /// The root key, by which nodes that slept for long find the present authorities: show, make, sign [speaks to the server].
    #[command(subcommand)]
    Root(crate::root::RootCommand),
    /// How much the server or the local agent logs [speaks to the admin socket of either].
    #[command(subcommand)]
    Log(crate::log::LogCommand),
    /// What the server or the local agent is and how much it holds [speaks to the admin socket of either].
    #[command(subcommand)]
    Debug(crate::debug::DebugCommand),
    /// Other trust domains whose bundles are fetched [speaks to the server].
    #[command(subcommand)]
    Federation(crate::federation::FederationCommand),
    /// The ledger of a server, read from its files: verify, search, export [speaks to neither server nor agent].
    #[command(subcommand)]
    Audit(crate::audit::AuditCommand),
    /// Who had access, by which rule, and how far that can be believed; packs for who was not there [speaks to neither server nor agent].
    #[command(subcommand)]
    Evidence(crate::evidence::EvidenceCommand),
    /// Tries what must be refused (an expired SVID, another trust domain, a join token twice, callers without a right) [speaks to the server and the local agent].
    Selftest(crate::selftest::SelfTestArgs),
    /// SVIDs of the calling process [speaks to the local agent]; inspect files.
    #[command(subcommand)]
    Svid(crate::svid::SvidCommand),
    /// Validate JWT-SVIDs [speaks to the local agent].
    #[command(subcommand)]
    Jwt(crate::jwt::JwtCommand),
    /// Mint SVIDs without an entry, as an administrator [speaks to the server].
    #[command(subcommand)]
    Mint(crate::mint::MintCommand),
    /// Why a process gets the identities it gets, or none [speaks to the local agent's admin socket].
    Why(crate::why::WhyArgs),
    /// The program landfast-server: backup, restore, migrate, run, and whatever else it knows; check a configuration.
    Server(crate::server::ServerArgs),
    /// Coming from SPIRE: its configuration becomes ours [speaks to neither server nor agent].
    #[command(subcommand)]
    Migrate(crate::migrate::MigrateCommand),
    /// A server and an agent in one process, for CI and laptops [speaks to neither: it is both].
    Dev(crate::dev::DevArgs),
    /// A completion script for your shell, on standard output [speaks to neither server nor agent].
    Completion(crate::manual::CompletionArgs),
    /// The manual pages of all three programs, into a directory [speaks to neither server nor agent].
    #[command(hide = true)]
    Man(crate::manual::ManArgs),
}

/// As `landfast dev` sets them for its command.
pub(crate) const SERVER_SOCKET: &str = "LANDFAST_SERVER_SOCKET";
pub(crate) const AGENT_ADMIN_SOCKET: &str = "LANDFAST_AGENT_ADMIN_SOCKET";

/// How `--help` groups the options that say where to ask.
pub(crate) const WHERE: &str = "Where to ask";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_help_of_each_command_says_whom_it_asks() {
        for noun in Cli::command().get_subcommands() {
            let about = noun.get_about().map(ToString::to_string).unwrap_or_default();
            let says = ["server", "agent", "neither"]
                .iter()
                .any(|who| about.contains(who));
            assert!(says, "{}: {about}", noun.get_name());
            for verb in noun.get_subcommands() {
                let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
                let says = ["[server]", "[local agent]", "[local file]"]
                    .iter()
                    .any(|who| about.ends_with(who));
                assert!(says, "{} {}: {about}", noun.get_name(), verb.get_name());
            }
        }
    }
}

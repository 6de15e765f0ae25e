//! The server under load: one of our own that this program starts, stops and holds, or one that runs already.
//!
//! Invariant: a server that was started here ends with this value, and so does its folder.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::BoxError;
use crate::args::{Globals, Held};
use crate::cgroup::{Cgroup, Counted};
use crate::host::{self, Usage};
use crate::operator::Operator;
use crate::site::Site;

/// Where the load goes.
#[derive(Debug)]
pub(crate) struct Target {
    address: SocketAddr,
    admin_socket: PathBuf,
    /// Of a server that runs already, when it was named.
    pid: Option<u32>,
    own: Option<Own>,
}

/// A server of our own.
#[derive(Debug)]
struct Own {
    program: PathBuf,
    folder: tempfile::TempDir,
    child: Option<Child>,
    cgroup: Option<Cgroup>,
}

impl Target {
    /// Starts a server, or takes the one that was named.
    ///
    /// # Errors
    /// There is no such program, it does not start, or nobody answers.
    pub(crate) async fn start(globals: &Globals) -> Result<Self, BoxError> {
        if let (Some(address), Some(socket)) = (globals.server, &globals.admin_socket) {
            return Ok(Self {
                address,
                admin_socket: socket.clone(),
                pid: globals.server_pid,
                own: None,
            });
        }
        let program = globals.bin_dir.join("landfast-server");
        if !program.is_file() {
            return Err(format!(
                "{} is not there: cargo build --release, or name --bin-dir",
                program.display()
            )
            .into());
        }
        let folder = tempfile::Builder::new().prefix("landfast-bench-").tempdir()?;
        let address = free_address()?;
        let admin_socket = folder.path().join("admin.sock");
        std::fs::write(
            folder.path().join("server.toml"),
            configuration(folder.path(), address),
        )?;
        let mut target = Self {
            address,
            admin_socket,
            pid: None,
            own: Some(Own {
                program,
                folder,
                child: None,
                cgroup: None,
            }),
        };
        target.launch().await?;
        Ok(target)
    }

    /// Whether it can be stopped and started.
    pub(crate) fn is_own(&self) -> bool {
        self.own.is_some()
    }

    /// A word for reports.
    pub(crate) fn name(&self) -> String {
        match &self.own {
            Some(own) => format!("{} started here", own.program.display()),
            None => format!("the server at {}", self.address),
        }
    }

    /// Its folder, for what must lie beside it. None of a server that runs already.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.folder.path())
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) async fn operator(&self) -> Result<Operator, BoxError> {
        Operator::connect(&self.admin_socket).await
    }

    /// What agents need to know of it.
    pub(crate) async fn site(&self) -> Result<Arc<Site>, BoxError> {
        let bundle = self.operator().await?.bundle().await?;
        Ok(Arc::new(Site::new(self.address, bundle)?))
    }

    /// Nothing of a server on another machine, or one whose process was not named.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let child = self.own.as_ref().and_then(|own| own.child.as_ref());
        host::usage(child.map(Child::id).or(self.pid)?)
    }

    /// Of the control group it runs in.
    pub(crate) fn counted(&self) -> Option<Counted> {
        Some(self.own.as_ref()?.cgroup.as_ref()?.counted())
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(&mut self) {
        if let Some(own) = &mut self.own {
            own.kill();
        }
    }

    /// Kills it and starts it again, held if that is wanted. Answers how long it took from its start to its first answer.
    ///
    /// # Errors
    /// It is not ours, does not start again, or cannot be held here.
    pub(crate) async fn restart(&mut self, held: Option<Held>) -> Result<Duration, BoxError> {
        self.kill();
        if let Some(own) = &mut self.own {
            // The old one first: it may have the same name.
            own.cgroup = None;
            own.cgroup = held
                .map(|held| Cgroup::create(&format!("landfast-bench-{}", std::process::id()), held))
                .transpose()?;
        }
        self.launch().await
    }

    async fn launch(&mut self) -> Result<Duration, BoxError> {
        let own = self
            .own
            .as_mut()
            .ok_or("a server that runs already is not started here")?;
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(own.log())?;
        let doors = own.cgroup.as_ref().map_or_else(Vec::new, Cgroup::doors);
        let begin = Instant::now();
        // The shell enters the groups and becomes the server: nothing of it runs outside.
        let child = Command::new("sh")
            .args(["-c", ENTER, "sh", &doors.len().to_string()])
            .args(doors)
            .arg(&own.program)
            .args(["run", "--config"])
            .arg(own.folder.path().join("server.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        own.child = Some(child);
        while begin.elapsed() < START {
            // It answers when the registry is in memory; the socket is there a moment before.
            if let Ok(operator) = Operator::connect(&self.admin_socket).await
                && operator.count().await.is_ok()
            {
                return Ok(begin.elapsed());
            }
            if !own.is_alive() {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        let said = std::fs::read_to_string(own.log()).unwrap_or_default();
        let said: Vec<_> = said.lines().rev().take(5).collect();
        Err(format!(
            "the server did not start within {} s: {}",
            START.as_secs(),
            said.join(" | ")
        )
        .into())
    }
}

impl Own {
    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn is_alive(&mut self) -> bool {
        self.child
            .as_mut()
            .is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only when it has ended.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Nothing but the number of connections differs from what a site gets that configures nothing.
fn configuration(folder: &Path, address: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{folder}/data\"\nlisten = [\"{address}\"]\nadmin_socket = \"{folder}/admin.sock\"\n[limits]\nconnections = {CONNECTIONS}\n[log]\nlevel = \"warn\"\n"
    )
}

/// One that nobody has now. That nobody takes it until the server does cannot be promised.
fn free_address() -> Result<SocketAddr, BoxError> {
    Ok(std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}

/// Writes a file that a program beside the server reads.
pub(crate) fn put(path: &Path, text: &str) -> Result<(), BoxError> {
    Ok(std::fs::File::create(path)?.write_all(text.as_bytes())?)
}

/// Of servers that are started here.
const TRUST_DOMAIN: &str = "bench.test";
/// Of limits.connections: the largest fleet, and some more for those that come back before they are missed.
pub(crate) const CONNECTIONS: usize = 16_000;
const ENTER: &str =
    r#"n=$1; shift; while [ "$n" -gt 0 ]; do echo $$ > "$1" || exit 1; shift; n=$((n-1)); done; exec "$@""#;
const START: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(2);

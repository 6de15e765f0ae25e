//! A server and an agent as processes of their own, for tests and measurements from outside: other users, limits, rigs.
//!
//! Invariant: everything lives in one temporary folder that other users can enter but not change, and nothing outlives the [`Site`].

#![expect(clippy::disallowed_methods, reason = "real processes live in real time")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// The trust domain of every site.
pub const TRUST_DOMAIN: &str = "site.test";

/// A running server and agent.
#[derive(Debug)]
pub struct Site {
    /// The agent, when it runs.
    pub agent: Daemon,
    /// The server.
    pub server: Daemon,
    dir: TempDir,
    bin: PathBuf,
    agent_id: String,
    address: String,
}

/// How a site differs from the usual one.
#[derive(Debug, Default, Clone)]
pub struct Plan<'a> {
    /// Tables for the server's configuration (`[limits]`, say).
    pub server_tables: &'a str,
    /// Lines for the top of the agent's configuration.
    pub agent: &'a str,
    /// A program, with arguments, that is the server: `run --config FILE` are added. The one in the folder when empty.
    pub server: &'a [&'a str],
    /// Tables for the agent's configuration (`[limits]`, say).
    pub agent_tables: &'a str,
    /// A program, with arguments, that starts the agent: its path is added as the last but two arguments.
    pub agent_under: &'a [&'a str],
}

/// A child that does not outlive its owner.
#[derive(Debug)]
pub struct Daemon(Child);

impl Daemon {
    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Open descriptors.
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).map_or(0, Iterator::count)
    }

    /// CPU time used so far.
    pub fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap_or_default();
        // After the name, which may hold anything: the state, and then numbers (`proc_pid_stat(5)`).
        let fields = text
            .rsplit_once(") ")
            .map(|(_, rest)| rest.split(' '))
            .into_iter()
            .flatten();
        // utime and stime, the 14th and 15th of all, in ticks of 10 ms.
        let ticks: u64 = fields
            .skip(11)
            .take(2)
            .filter_map(|field| field.parse::<u64>().ok())
            .sum();
        Duration::from_millis(ticks * 10)
    }

    /// Memory of its own and its share of common pages, in bytes.
    pub fn pss(&self) -> u64 {
        self.memory("smaps_rollup", "Pss:")
    }

    /// Resident memory in bytes.
    pub fn rss(&self) -> u64 {
        self.memory("status", "VmRSS:")
    }

    /// The most resident memory there ever was, in bytes.
    pub fn peak(&self) -> u64 {
        self.memory("status", "VmHWM:")
    }

    /// Threads.
    pub fn threads(&self) -> u64 {
        self.field("status", "Threads:")
    }

    fn memory(&self, file: &str, name: &str) -> u64 {
        self.field(file, name) * 1024
    }

    fn field(&self, file: &str, name: &str) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/{file}", self.pid())).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|line| line.split_whitespace().next()?.parse().ok())
            .unwrap_or(0)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A stopped process takes the signal too. Both fail only when it has ended.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Site {
    /// Starts the programs in `bin` and enrols the agent with a join token.
    pub fn start(bin: &Path, plan: &Plan<'_>) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("landfast-site-")
            .tempdir()
            .expect("a folder");
        let d = dir.path();
        open_to_all(d);
        for name in ["server", "agent"] {
            fs::create_dir(d.join(name)).expect("a folder");
            open_to_all(&d.join(name));
        }
        let port = free_port();
        let admin = d.join("server/admin.sock");
        write(
            &d.join("server.toml"),
            &format!(
                "trust_domain = \"{TRUST_DOMAIN}\"\ndata_dir = \"{0}/server/data\"\nlisten = [\"127.0.0.1:{port}\"]\nadmin_socket = \"{1}\"\n[log]\nlevel = \"warn\"\n{2}\n",
                d.display(),
                admin.display(),
                plan.server_tables,
            ),
        );
        let (under, program) = match plan.server {
            [under @ .., program] => (under, PathBuf::from(program)),
            [] => (&[][..], bin.join("landfast-server")),
        };
        let server = daemon(under, &program, &d.join("server.toml"));
        until("the server's admin socket", || admin.exists());
        let bundle = landfast(bin, &admin, &["bundle", "show"]);
        write(&d.join("bundle.pem"), &bundle);
        let token = json(&landfast(bin, &admin, &["--output", "json", "token", "create"]));
        let token = token["token"].as_str().expect("a token");
        write(
            &d.join("agent.toml"),
            &format!(
                "trust_domain = \"{TRUST_DOMAIN}\"\nserver = [\"127.0.0.1:{port}\"]\ndata_dir = \"{0}/agent/data\"\nsocket = \"{0}/agent/api.sock\"\nadmin_socket = \"{0}/agent/admin.sock\"\ntrust_bundle = \"{0}/bundle.pem\"\n{1}\n[attestation]\nmethod = \"join_token\"\ntoken = \"{token}\"\n[sync]\ninterval = \"200ms\"\n[log]\nlevel = \"warn\"\n{2}\n",
                d.display(),
                plan.agent,
                plan.agent_tables,
            ),
        );
        let agent = daemon(
            plan.agent_under,
            &bin.join("landfast-agent"),
            &d.join("agent.toml"),
        );
        let site = Self {
            agent,
            server,
            agent_id: format!("spiffe://{TRUST_DOMAIN}/spire/agent/join_token/{token}"),
            address: format!("127.0.0.1:{port}"),
            bin: bin.to_owned(),
            dir,
        };
        site.agent_is_up();
        site
    }

    /// The folder of everything.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The Workload API.
    pub fn socket(&self) -> PathBuf {
        self.path().join("agent/api.sock")
    }

    /// The server's admin socket.
    pub fn admin_socket(&self) -> PathBuf {
        self.path().join("server/admin.sock")
    }

    /// Where the server listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The agent's SPIFFE ID.
    pub fn agent_id(&self) -> &str {
        &self.agent_id
    }

    /// A join token for another node.
    pub fn token(&self) -> String {
        let made = json(&self.operator(&["--output", "json", "token", "create"]));
        made["token"].as_str().expect("a token").to_owned()
    }

    /// What the agent has written to its log.
    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.path().join("agent.toml.log")).unwrap_or_default()
    }

    /// Gives an identity to whoever has the selectors, and waits until the agent holds it. Answers the entry's ID.
    pub fn entry(&self, path: &str, selectors: &[&str]) -> String {
        let held = self.held();
        let spiffe_id = format!("spiffe://{TRUST_DOMAIN}{path}");
        let mut args = vec![
            "entry",
            "create",
            "--spiffe-id",
            &spiffe_id,
            "--parent-id",
            &self.agent_id,
        ];
        args.extend(selectors.iter().flat_map(|selector| ["--selector", selector]));
        let made = json(&self.operator(&[&["--output", "json"], args.as_slice()].concat()));
        until("the identity at the agent", || self.held() > held);
        let id = made["id"].as_str().or_else(|| made[0]["id"].as_str());
        id.expect("the entry's ID").to_owned()
    }

    /// Has every SVID of an entry replaced, with a change that means nothing else.
    pub fn renew(&self, entry: &str, round: usize) {
        self.operator(&["entry", "update", entry, "--hint", &format!("round-{round}")]);
    }

    /// Waits until the agent holds what the server has now. Its rounds follow one another, and its status names the second in which the last
    /// one synchronised: that which is seen to end first may have begun before the last change, the next one has not, and when a third
    /// one ends the SVIDs of the second are there.
    pub fn settle(&self) {
        let mut seen = vec![self.status()["last_sync"].clone()];
        until("an agent at rest", || {
            let now = self.status()["last_sync"].clone();
            if seen.last() != Some(&now) {
                seen.push(now);
            }
            seen.len() > 3
        });
    }

    /// Runs `landfast` at the server's admin socket.
    pub fn operator(&self, args: &[&str]) -> String {
        landfast(&self.bin, &self.admin_socket(), args)
    }

    /// `landfast agent status`.
    pub fn status(&self) -> serde_json::Value {
        self.try_status().expect("the agent's status")
    }

    /// Kills the agent, as a power cut would.
    pub fn stop_agent(&mut self) {
        drop(self.agent.0.kill());
        drop(self.agent.0.wait());
    }

    /// Starts the agent that was stopped; does not wait for it.
    pub fn start_agent(&mut self, under: &[&str]) {
        let (program, config) = (self.bin.join("landfast-agent"), self.path().join("agent.toml"));
        self.agent = daemon(under, &program, &config);
    }

    /// Kills the server, as a power cut would.
    pub fn stop_server(&mut self) {
        drop(self.server.0.kill());
        drop(self.server.0.wait());
    }

    /// Starts the server of the folder, when it was stopped; waits until it answers.
    pub fn start_server(&mut self) {
        let (program, config) = (self.bin.join("landfast-server"), self.path().join("server.toml"));
        self.server = daemon(&[], &program, &config);
        until("the server", || {
            let mut asked = Command::new(self.bin.join("landfast"));
            asked.arg("--server-socket").arg(self.admin_socket());
            let out = asked.args(["entry", "list"]).output().expect("landfast runs");
            out.status.success()
        });
    }

    /// What the server has written to its log.
    pub fn server_log(&self) -> String {
        fs::read_to_string(self.path().join("server.toml.log")).unwrap_or_default()
    }

    fn agent_is_up(&self) {
        until("an agent that serves", || {
            self.try_status()
                .is_some_and(|status| status["state"] == "serving")
        });
    }

    /// How many SVIDs the agent holds.
    pub fn held(&self) -> usize {
        let status = self.try_status().unwrap_or_default();
        let identities = status["identities"].as_array().map_or(&[][..], Vec::as_slice);
        identities.iter().filter(|held| held["serial"] != "").count()
    }

    fn try_status(&self) -> Option<serde_json::Value> {
        let out = Command::new(self.bin.join("landfast"))
            .arg("--agent-admin-socket")
            .arg(self.path().join("agent/admin.sock"))
            .args(["--output", "json", "agent", "status"])
            .output()
            .expect("landfast runs");
        serde_json::from_slice(&out.stdout).ok()
    }
}

/// Waits for something, for [`crate::PATIENCE`].
pub fn until(what: &str, mut there: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !there() {
        assert!(
            begin.elapsed() < crate::PATIENCE,
            "{what}: not within {:?}",
            crate::PATIENCE
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn daemon(under: &[&str], program: &Path, config: &Path) -> Daemon {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(format!("{}.log", config.display()));
    let mut words: Vec<&std::ffi::OsStr> = under.iter().map(std::ffi::OsStr::new).collect();
    words.extend([
        program.as_os_str(),
        "run".as_ref(),
        "--config".as_ref(),
        config.as_os_str(),
    ]);
    let child = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log.expect("a log"))
        .spawn();
    Daemon(child.unwrap_or_else(|error| panic!("{}: {error}", program.display())))
}

fn landfast(bin: &Path, admin: &Path, args: &[&str]) -> String {
    let out = Command::new(bin.join("landfast"))
        .arg("--server-socket")
        .arg(admin)
        .args(args)
        .output();
    let out = out.expect("landfast runs");
    assert!(
        out.status.success(),
        "landfast {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    String::from_utf8(out.stdout).expect("text")
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).expect("JSON")
}

fn open_to_all(dir: &Path) {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).expect("our own folder");
}

fn free_port() -> u16 {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    socket.local_addr().expect("its number").port()
}

fn write(path: &Path, text: &str) {
    crate::put(path, text);
}

//! A PostgreSQL of a test's own, on a socket in a temporary directory, that can be stopped, hung and set back.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use super::super::{Opening, PostgresConfig, PostgresDatastore};
use crate::core::fixture::td;
use crate::datastore::OpenError;

pub(crate) struct Cluster {
    pub(super) dir: tempfile::TempDir,
    settings: Vec<String>,
    process: Option<Child>,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap())
    }

    /// In this directory.
    pub(crate) fn start_in(dir: tempfile::TempDir) -> Self {
        if Uid::effective().is_root() {
            nix::unistd::chown(dir.path(), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
        }
        let mut cluster = Self {
            dir,
            settings: Vec::new(),
            process: None,
        };
        let data = cluster.data();
        let made = program("initdb")
            .args(["-N", "-A", "trust", "-U", "landfast", "-D"])
            .arg(&data)
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        cluster.go();
        cluster.sql_of("postgres", "CREATE DATABASE landfast");
        cluster
    }

    /// Where its socket is.
    pub(crate) fn place(&self) -> &Path {
        self.dir.path()
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Starts it, and waits until it answers.
    pub(super) fn go(&mut self) {
        let at = self.dir.path().to_owned();
        self.go_at(&at);
    }

    fn go_at(&mut self, at: &Path) {
        let child = program("postgres")
            .arg("-D")
            .arg(self.data())
            .arg("-k")
            .arg(at)
            .args([
                "-p",
                "5432",
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "shared_buffers=16MB",
                "-c",
                "log_min_messages=fatal",
            ])
            .args(&self.settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.process = Some(child);
        for _ in 0..600 {
            if self.psql_at(at, "postgres", "SELECT 1").status.success() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the database does not come up");
    }

    /// From its next start on it listens on this port of the loopback, over TLS.
    pub(super) fn secure(&mut self, certificate: &str, key: &str) -> u16 {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let (certificate, key) = (self.file("server.pem", certificate), self.file("server.key", key));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        for setting in [
            "listen_addresses=localhost".to_owned(),
            format!("port={port}"),
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
        ] {
            self.settings.extend(["-c".to_owned(), setting]);
        }
        port
    }

    /// The same without TLS.
    pub(super) fn unsecure(&mut self) {
        self.settings
            .iter_mut()
            .filter(|s| *s == "ssl=on")
            .for_each(|s| *s = "ssl=off".to_owned());
    }

    /// A file that the database may read.
    pub(super) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::File::create(&path)
            .unwrap()
            .write_all(text.as_bytes())
            .unwrap();
        if Uid::effective().is_root() {
            nix::unistd::chown(&path, Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
        }
        path
    }

    fn port(&self) -> &str {
        let mut ports = self
            .settings
            .iter()
            .filter_map(|setting| setting.strip_prefix("port="));
        ports.next().unwrap_or("5432")
    }

    /// As a power cut would.
    pub(super) fn cut(&mut self) {
        if let Some(mut process) = self.process.take() {
            kill(pid(&process), Signal::SIGQUIT).unwrap();
            process.wait().unwrap();
        }
    }

    /// Every process of it, so that connections hang that are open.
    pub(super) fn signal(&self, signal: Signal) {
        let server = pid(self.process.as_ref().unwrap());
        let children = std::fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
        for child in children.split_whitespace() {
            // One may have ended meanwhile.
            kill(Pid::from_raw(child.parse().unwrap()), signal).ok();
        }
        kill(server, signal).unwrap();
    }

    /// Everything that is in it now, to be put back.
    pub(super) fn keep(&mut self) {
        self.cut();
        self.copy("data", "kept");
        self.go();
    }

    pub(super) fn put_back(&mut self) {
        self.put_back_with("SELECT 1");
    }

    /// And changed before anybody sees it.
    pub(super) fn put_back_with(&mut self, sql: &str) {
        self.put_back_and(|cluster, hidden| {
            let done = cluster.psql_at(hidden, "landfast", sql);
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        });
    }

    /// Changed by whoever is told where it is.
    pub(super) fn put_back_and(&mut self, change: impl FnOnce(&Self, &Path)) {
        self.cut();
        std::fs::remove_dir_all(self.data()).unwrap();
        self.copy("kept", "data");
        let hidden = self.dir.path().join("hidden");
        std::fs::create_dir(&hidden).unwrap();
        if Uid::effective().is_root() {
            nix::unistd::chown(&hidden, Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
        }
        self.go_at(&hidden);
        change(self, &hidden);
        self.cut();
        self.go();
    }

    fn copy(&self, from: &str, to: &str) {
        let copied = Command::new("cp")
            .arg("-a")
            .args([from, to])
            .current_dir(self.dir.path())
            .status();
        assert!(copied.unwrap().success());
    }

    pub(crate) fn sql(&self, sql: &str) -> String {
        self.sql_of("landfast", sql)
    }

    fn sql_of(&self, database: &str, sql: &str) -> String {
        let done = self.psql(database, sql);
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }

    fn psql(&self, database: &str, sql: &str) -> std::process::Output {
        self.psql_at(self.dir.path(), database, sql)
    }

    fn psql_at(&self, at: &Path, database: &str, sql: &str) -> std::process::Output {
        let mut psql = Command::new(binary("psql"));
        psql.args([
            "-qtAX",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "landfast",
            "-p",
            self.port(),
            "-d",
            database,
            "-h",
        ])
        .arg(at);
        psql.env("PGOPTIONS", "-c default_transaction_read_only=off");
        psql.args(["-c", sql]).output().unwrap()
    }

    pub(crate) fn target(&self) -> PostgresConfig {
        self.target_at(self.dir.path())
    }

    pub(crate) fn target_at(&self, host: &Path) -> PostgresConfig {
        let text = format!("host={} user=landfast dbname=landfast", host.display());
        PostgresConfig::parse(&text, None, None).unwrap()
    }

    pub(crate) async fn open(&self, server: &str) -> PostgresDatastore {
        self.try_open(&self.target(), server, false).await.unwrap()
    }

    pub(super) async fn try_open(
        &self,
        target: &PostgresConfig,
        server: &str,
        initialised: bool,
    ) -> Result<PostgresDatastore, OpenError> {
        PostgresDatastore::open(Opening {
            target,
            trust_domain: &td(),
            server: server.to_owned(),
            initialised,
            lock: None,
        })
        .await
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if self.process.is_some() {
            self.signal(Signal::SIGCONT);
        }
        self.cut();
    }
}

fn pid(process: &Child) -> Pid {
    Pid::from_raw(process.id().try_into().unwrap())
}

/// PostgreSQL refuses to run as root.
fn program(name: &str) -> Command {
    let program = binary(name);
    if !Uid::effective().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    let nobody = NOBODY.to_string();
    command.args(["--reuid", &nobody, "--regid", &nobody, "--clear-groups"]);
    command.arg(program);
    command
}

/// Debian keeps them out of PATH.
fn binary(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(name)))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

const NOBODY: u32 = 65_534;

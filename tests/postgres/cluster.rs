//! A PostgreSQL of a test's own, on a socket in a temporary directory.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tempfile::TempDir;

/// Ends with its process.
pub(crate) struct Cluster {
    dir: TempDir,
    process: Child,
}

impl Cluster {
    /// Starts it, with an empty database.
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        if Uid::effective().is_root() {
            nix::unistd::chown(dir.path(), Some(NOBODY.into()), Some(NOBODY.into())).unwrap();
        }
        let data = dir.path().join("data");
        let mut initdb = program("initdb");
        let made = initdb
            .args(["-N", "-A", "trust", "-U", "landfast", "-D"])
            .arg(&data);
        assert!(made.output().unwrap().status.success());
        let process = program("postgres")
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(dir.path())
            .args([
                "-c",
                "listen_addresses=",
                "-c",
                "fsync=off",
                "-c",
                "shared_buffers=16MB",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let cluster = Self { dir, process };
        for _ in 0..600 {
            if cluster.sql("postgres", "CREATE DATABASE landfast").is_ok() {
                return cluster;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the database does not come up");
    }

    /// What a server's configuration says of it.
    pub(crate) fn table(&self) -> String {
        let dir = self.dir.path().display();
        format!("[datastore]\npostgres = \"host={dir} user=landfast dbname=landfast\"")
    }

    /// Rows as text, or what is wrong.
    pub(crate) fn sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let mut psql = Command::new(binary("psql"));
        psql.args([
            "-qtAX",
            "-v",
            "ON_ERROR_STOP=1",
            "-U",
            "landfast",
            "-d",
            database,
            "-h",
        ]);
        let done = psql.arg(self.dir.path()).args(["-c", sql]).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        match done.status.success() {
            true => Ok(text(&done.stdout)),
            false => Err(text(&done.stderr)),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.process.id().try_into().unwrap());
        kill(pid, Signal::SIGQUIT).ok();
        self.process.wait().ok();
    }
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
    let versions = std::fs::read_dir(Path::new("/usr/lib/postgresql"))
        .into_iter()
        .flatten();
    let mut found: Vec<_> = versions
        .filter_map(|version| Some(version.ok()?.path().join("bin").join(name)))
        .filter(|path| path.exists())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| PathBuf::from(name))
}

const NOBODY: u32 = 65_534;

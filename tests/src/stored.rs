//! Servers and agents from files that another version has written: `tests/compat` has those of each.
//!
//! Invariant: what is recorded is copied and never written to, and nobody who opens it asks the machine what time it is.

mod seen;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_identity::UnixTime;
use landfast_lifecycle::{SimBoot, SimClock};
use landfast_server::ServerParts;
use serde_json::Value;

use super::{NodeAgent, Plant, put};

/// The files of one version.
pub struct Stored {
    /// `expected.json`: what was true when they were written.
    pub expected: Value,
    dir: PathBuf,
}

impl Stored {
    /// Those of every version that is recorded.
    pub fn all() -> Vec<Self> {
        let folders = fs::read_dir(recorded()).expect("tests/compat");
        let folders = folders.map(|entry| entry.expect("an entry").path());
        let mut folders: Vec<PathBuf> = folders.filter(|path| path.is_dir()).collect();
        folders.sort();
        assert!(!folders.is_empty(), "nothing is recorded");
        folders.iter().map(|path| Self::open(path)).collect()
    }

    /// Those in this folder.
    pub fn open(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join("expected.json")).expect("expected.json");
        Self {
            expected: serde_json::from_str(&text).expect("JSON"),
            dir: dir.to_owned(),
        }
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A clock that shows how late it was then, and so much more.
    pub fn clock(&self, later: Duration) -> SimClock {
        let at = self.expected["at"].as_i64().expect("at of expected.json");
        SimClock::new(UnixTime::from_secs(at).saturating_add(later))
    }

    /// A server, not started, with the files of then.
    pub fn plant(&self) -> Plant {
        let plant = self.empty_plant();
        copy(&self.dir.join("server"), &plant.server_data());
        plant
    }

    /// The same without its data.
    pub fn empty_plant(&self) -> Plant {
        let plant = Plant {
            dir: tempfile::tempdir().expect("a temporary folder"),
            port: 0,
            server: None,
            handle: None,
        };
        self.configure(&plant, "server.toml", &plant.path().join("server.toml"));
        fs::copy(self.dir.join("bundle.pem"), plant.path().join("bundle.pem")).expect("the bundle");
        plant
    }

    /// An agent, not started, with the files of then.
    pub fn agent(&self, plant: &Plant, name: &str) -> NodeAgent {
        let dir = plant.path().join(name);
        copy(&self.dir.join(name), &dir.join("data"));
        let config = dir.join("agent.toml");
        self.configure(plant, &format!("{name}.toml"), &config);
        let id = &self.expected["agents"][name];
        NodeAgent {
            id: id.as_str().expect("agents of expected.json").to_owned(),
            config,
            socket: dir.join("api.sock"),
            data: dir.join("data"),
            tree: None,
        }
    }

    fn configure(&self, plant: &Plant, name: &str, to: &Path) {
        let text = fs::read_to_string(self.dir.join(name)).expect("a configuration");
        // Nobody listens on port 1: there is no server then.
        let port = plant.port.max(1).to_string();
        let dir = plant.path().display().to_string();
        put(to, &text.replace("@DIR@", &dir).replace("@PORT@", &port));
    }
}

/// Where all of it is.
pub fn recorded() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("compat")
}

/// For a server.
pub fn server_at(clock: &SimClock) -> ServerParts {
    ServerParts {
        clock: Arc::new(clock.clone()),
        ..ServerParts::default()
    }
}

/// For an agent on a machine that was just started. It was built before everything: its files alone say what time it is at least.
pub fn agent_at(clock: &SimClock) -> AgentParts {
    AgentParts {
        clock: Arc::new(clock.clone()),
        boot: Arc::new(SimBoot::new("another", Duration::from_secs(9))),
        built: UnixTime::from_secs(0),
        ..AgentParts::default()
    }
}

/// All files of a folder, as only their owner may read them: git does not keep that.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("our own folder");
    for entry in fs::read_dir(from).unwrap_or_else(|error| panic!("{}: {error}", from.display())) {
        let entry = entry.expect("an entry");
        let (kind, path, to) = (
            entry.file_type().expect("its type"),
            entry.path(),
            to.join(entry.file_name()),
        );
        if kind.is_dir() {
            copy(&path, &to);
        } else if kind.is_file() {
            fs::copy(&path, &to).expect("a copy");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("our own file");
        }
    }
}

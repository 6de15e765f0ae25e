//! A plant from files that another version has written: `tests/compat` has those of each release.
//!
//! Invariant: the files are copied; nothing is written beside them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast_agent::AgentParts;
use landfast_identity::UnixTime;
use landfast_lifecycle::SimClock;
use landfast_server::ServerParts;
use serde_json::Value;

use super::{NodeAgent, Plant, put};

/// The files of one release, and what was true when they were written.
pub struct Stored {
    /// `made.json`.
    pub made: Value,
    dir: std::path::PathBuf,
}

impl Stored {
    /// Reads what `made.json` says.
    pub fn open(dir: &Path) -> Self {
        let text = fs::read_to_string(dir.join("made.json")).expect("made.json");
        Self {
            made: serde_json::from_str(&text).expect("JSON"),
            dir: dir.to_owned(),
        }
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A text of `made.json`.
    pub fn text(&self, name: &str) -> &str {
        self.made[name].as_str().unwrap_or_else(|| panic!("{name} of made.json"))
    }

    /// A clock that shows how late it was then, and so much more.
    pub fn clock(&self, later: Duration) -> SimClock {
        let at = self.made["at"].as_i64().expect("at of made.json");
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
        NodeAgent {
            id: self.made["agents"][name].as_str().expect("the agent of made.json").to_owned(),
            config,
            socket: dir.join("api.sock"),
            data: dir.join("data"),
            tree: None,
        }
    }

    fn configure(&self, plant: &Plant, name: &str, to: &Path) {
        let text = fs::read_to_string(self.dir.join(name)).expect("a configuration");
        // Nobody listens on port 1 while there is no server.
        let port = plant.port.max(1).to_string();
        put(to, &text.replace("@DIR@", &plant.path().display().to_string()).replace("@PORT@", &port));
    }
}

/// For a server.
pub fn server_at(clock: &SimClock) -> ServerParts {
    ServerParts {
        clock: Arc::new(clock.clone()),
        ..ServerParts::default()
    }
}

/// For an agent that was built when the files were written: it is never earlier than that.
pub fn agent_at(clock: &SimClock) -> AgentParts {
    AgentParts {
        clock: Arc::new(clock.clone()),
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
        let (kind, path, to) = (entry.file_type().expect("its type"), entry.path(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&path, &to);
        } else if kind.is_file() {
            fs::copy(&path, &to).expect("a copy");
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("our own file");
        }
    }
}

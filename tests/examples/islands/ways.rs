//! How an agent is started: as it is, with a clock of 1970, from a disk of which nothing is in memory.
//!
//! Invariant: nothing of the machine is changed for longer than a start: no clock is touched, and what is dropped the kernel reads again.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::BoxError;

/// One of them.
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// Whether the agent has to say that its time is estimated.
    pub(crate) estimated: bool,
    under: Vec<String>,
    /// The program, when its disk is to be cold.
    cold: Option<PathBuf>,
}

impl Way {
    /// The program that starts the agent, with its arguments.
    pub(crate) fn under(&self) -> Vec<&str> {
        self.under.iter().map(String::as_str).collect()
    }

    /// Before each start.
    pub(crate) fn prepare(&self) -> Result<(), BoxError> {
        let Some(program) = &self.cold else {
            return Ok(());
        };
        nix::unistd::sync();
        std::fs::write(DROP_CACHES, "3")?;
        // The question is what the reserve costs, not how large a debug build is.
        Command::new(program).arg("--version").output()?;
        Ok(())
    }
}

/// Those that this machine and user can do; what is left out is said.
pub(crate) fn all(bin: &Path) -> Result<Vec<Way>, BoxError> {
    let as_it_is = Way {
        name: "as it is",
        estimated: false,
        under: Vec::new(),
        cold: None,
    };
    let library = library().ok_or("libfaketime is missing\nhint: apt-get install faketime")?;
    let fake = [
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        "FAKETIME=@1970-01-01 00:00:05".to_owned(),
        // Else waiting would be another matter, too, and the question is the wall clock. The boot clock is the machine's.
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "TZ=UTC".to_owned(),
    ];
    let long_ago = Way {
        name: "in 1970",
        estimated: true,
        under: fake.to_vec(),
        cold: None,
    };
    let mut ways = vec![as_it_is, long_ago];
    match nix::unistd::geteuid().is_root() && std::fs::metadata(DROP_CACHES).is_ok() {
        true => ways.push(Way {
            name: "from a cold disk",
            estimated: false,
            under: Vec::new(),
            cold: Some(bin.join("landfast-agent")),
        }),
        false => println!(
            "NOTICE: only root can have the kernel forget a disk: starts from a cold one are left out"
        ),
    }
    Ok(ways)
}

fn library() -> Option<PathBuf> {
    let machines = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    let mut each = machines.map(|machine| machine.path().join("faketime/libfaketimeMT.so.1"));
    each.find(|library| library.exists())
}

const DROP_CACHES: &str = "/proc/sys/vm/drop_caches";

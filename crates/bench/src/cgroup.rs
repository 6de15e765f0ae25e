//! A control group of its own for the server, by version 1 or 2. Invariant: it is gone when this value is, if the kernel lets it go.

use std::fs;
use std::path::{Path, PathBuf};

use crate::BoxError;
use crate::args::Held;

/// Where a process is held.
#[derive(Debug)]
pub(crate) struct Cgroup {
    /// One with version 2; with version 1 one a controller: cpu, memory.
    folders: Vec<PathBuf>,
    unified: bool,
}

/// What the kernel counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    /// The most memory at a time, pages of files included; 0 where the kernel does not say.
    pub(crate) peak: u64,
    pub(crate) oom_kills: u64,
    /// Periods in which it would have run on and could not.
    pub(crate) throttled: u64,
}

impl Cgroup {
    /// Holds whoever joins.
    ///
    /// # Errors
    /// Not root, or no such controllers here.
    pub(crate) fn create(name: &str, held: Held) -> Result<Self, BoxError> {
        let root = Path::new(ROOT);
        let (quota, memory) = (held.percent_of_core * PERIOD / 100, held.memory_mib << 20);
        let unified = root.join("cgroup.controllers").exists();
        let folders = if unified {
            // Already so on most systems.
            drop(fs::write(root.join("cgroup.subtree_control"), "+cpu +memory"));
            vec![root.join(name)]
        } else {
            vec![root.join("cpu").join(name), root.join("memory").join(name)]
        };
        let mut made = Self {
            folders: Vec::new(),
            unified,
        };
        for folder in folders {
            fs::create_dir(&folder).map_err(|error| {
                format!(
                    "cannot make the control group {}: {error}; it takes root",
                    folder.display()
                )
            })?;
            made.folders.push(folder);
        }
        if unified {
            made.set("cpu.max", &format!("{quota} {PERIOD}"))?;
            made.set("memory.max", &memory.to_string())?;
            made.set("memory.swap.max", "0")?;
        } else {
            made.set("cpu.cfs_period_us", &PERIOD.to_string())?;
            made.set("cpu.cfs_quota_us", &quota.to_string())?;
            made.set("memory.limit_in_bytes", &memory.to_string())?;
        }
        Ok(made)
    }

    /// The files into which a process writes its ID to be held.
    pub(crate) fn doors(&self) -> Vec<PathBuf> {
        self.folders
            .iter()
            .map(|folder| folder.join("cgroup.procs"))
            .collect()
    }

    pub(crate) fn counted(&self) -> Counted {
        let read = |name: &str| {
            let found = self
                .folders
                .iter()
                .find_map(|folder| fs::read_to_string(folder.join(name)).ok());
            found.unwrap_or_default()
        };
        let (peak, oom) = match self.unified {
            true => ("memory.peak", "memory.events"),
            false => ("memory.max_usage_in_bytes", "memory.oom_control"),
        };
        Counted {
            peak: read(peak).trim().parse().unwrap_or(0),
            oom_kills: field(&read(oom), "oom_kill"),
            throttled: field(&read("cpu.stat"), "nr_throttled"),
        }
    }

    fn set(&self, name: &str, value: &str) -> Result<(), BoxError> {
        let file = self
            .folders
            .iter()
            .map(|folder| folder.join(name))
            .find(|file| file.exists());
        let file =
            file.ok_or_else(|| format!("no {name} in the control group: its controller is missing"))?;
        Ok(fs::write(&file, value)
            .map_err(|error| format!("cannot write {value} to {}: {error}", file.display()))?)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            // Whoever was in it has been waited for. One that stays is empty and holds nobody.
            drop(fs::remove_dir(folder));
        }
    }
}

fn field(text: &str, name: &str) -> u64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

const ROOT: &str = "/sys/fs/cgroup";
/// Microseconds.
const PERIOD: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_no_group_can_be_made_it_is_said_which_and_what_it_takes() {
        let held = Held {
            percent_of_core: 100,
            memory_mib: 512,
        };
        let refused = Cgroup::create("no/such/group", held).unwrap_err().to_string();
        assert!(
            refused.contains("no/such/group") && refused.contains("root"),
            "{refused}"
        );
    }

    #[test]
    fn a_name_that_begins_like_another_is_another() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(field(text, "oom_kill"), 3);
        assert_eq!(field(text, "oom_group_kill"), 0);
    }
}

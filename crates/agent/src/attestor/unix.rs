//! Selectors of the operating system: user, groups, program.
//!
//! Invariant: everything is read through the pinned process's own `/proc` handle, never through a path or a PID again;
//! what cannot be read is left out, never guessed.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;

use super::digest::{Digests, HashLimits};
use super::names::Names;
use super::place::Places;
use super::threads::Threads;
use super::{Found, SelectorSource, SourceFailure, Subject};
use crate::keeper::views::Views;

/// The `unix` attestor.
pub(crate) struct UnixAttestor {
    names: Names,
    digests: Digests,
    places: Places,
    views: Views,
    said_unreadable: AtomicBool,
}

impl UnixAttestor {
    /// `views` tells whether any entry asks for the hash of a binary.
    pub(crate) fn new(limits: HashLimits, views: Views) -> Self {
        let threads = Threads::new();
        Self {
            names: Names::system(),
            digests: Digests::new(limits, threads.clone()),
            places: Places::new(threads),
            views,
            said_unreadable: AtomicBool::new(false),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_names(limits: HashLimits, views: Views, names: Names) -> Self {
        Self {
            names,
            ..Self::new(limits, views)
        }
    }

    async fn users_and_groups(&self, subject: &Subject, groups: &BTreeSet<u32>, out: &mut Found) {
        let (uid, gid) = (subject.uid, subject.gid);
        out.add(KIND, "uid", uid);
        out.add(KIND, "gid", gid);
        for group in groups {
            out.add(KIND, "supplementary_gid", group);
        }
        // The name service may be slow or dead: names are extra, and have their own deadline.
        let named: Vec<u32> = groups.iter().copied().take(MAX_NAMED_GROUPS).collect();
        let names = self.names.look_up(uid, gid, named).await;
        if names.late {
            out.miss(
                "the name service did not answer in time; names of users and groups are missing".to_owned(),
            );
        }
        if let Some(user) = names.user {
            out.add(KIND, "user", user);
        }
        if let Some(group) = names.group {
            out.add(KIND, "group", group);
        }
        for group in names.supplementary {
            out.add(KIND, "supplementary_group", group);
        }
    }

    async fn program(&self, subject: &Subject, out: &mut Found) {
        match subject.files.program_path() {
            Ok(path) => match path_selector(&path) {
                Some(text) => match self.places.agree(&path, subject).await {
                    Ok(true) => out.add(KIND, "path", text),
                    Ok(false) => {}
                    Err(error) => out.miss(format!(
                        "where its path leads is not known, its path selector is missing: {}",
                        landfast_daemon::error_chain(&error)
                    )),
                },
                // A program without a name on disk: neither a path nor a hash would say what an operator means.
                None => return,
            },
            Err(error) => return self.note_unreadable(subject, error.as_ref()),
        }
        if !self.views.snapshot().entries.uses_hashes() {
            return;
        }
        match self.digests.of(subject).await {
            Ok(hex) => out.add(KIND, "sha256", hex),
            Err(error) => {
                let chain = landfast_daemon::error_chain(&error);
                out.left_out.push(format!(
                    "the program is not hashed, its sha256 selector is missing: {chain}"
                ));
                out.incomplete |= error.may_pass();
            }
        }
    }

    fn note_unreadable(&self, subject: &Subject, error: &dyn std::error::Error) {
        let error = landfast_daemon::error_chain(error);
        if self.said_unreadable.swap(true, Ordering::Relaxed) {
            tracing::debug!(pid = subject.pid, error, "the program cannot be read");
        } else {
            tracing::warn!(
                pid = subject.pid,
                error,
                "the program of a workload cannot be read: its path and sha256 selectors are left out (CAP_SYS_PTRACE gives them)"
            );
        }
    }
}

#[async_trait]
impl SelectorSource for UnixAttestor {
    async fn selectors(&self, subject: &Subject) -> Result<Found, SourceFailure> {
        let groups = subject.files.groups();
        let groups = groups.map_err(|error| SourceFailure {
            kind: KIND,
            what: landfast_daemon::error_chain(error.as_ref()),
        });
        let mut groups: BTreeSet<u32> = groups?.into_iter().collect();
        while groups.len() > MAX_GROUPS {
            groups.pop_last();
        }
        let mut out = Found::default();
        self.users_and_groups(subject, &groups, &mut out).await;
        self.program(subject, &mut out).await;
        Ok(out)
    }
}

/// The path of a program, unless it has none: deleted, or made in memory (`memfd_create`). The kernel marks both.
fn path_selector(path: &Path) -> Option<&str> {
    let path = path.to_str()?;
    let nameless = path.ends_with(" (deleted)") || path.starts_with("/memfd:") || !path.starts_with('/');
    (!nameless).then_some(path)
}

/// What this process lacks to see everything, by capability and by selector. Empty when nothing is missing.
pub(crate) fn missing() -> Missing {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    missing_in(&status)
}

/// What an agent cannot see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    pub(crate) capabilities: Vec<String>,
    pub(crate) selectors: Vec<String>,
}

fn missing_in(status: &str) -> Missing {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let has = |bit: u32| effective >> bit & 1 == 1;
    let mut missing = Missing::default();
    if !has(CAP_DAC_READ_SEARCH) {
        missing.capabilities.push("CAP_DAC_READ_SEARCH".to_owned());
        missing.selectors.push("unix:sha256".to_owned());
    }
    if !has(CAP_SYS_PTRACE) {
        missing.capabilities.push("CAP_SYS_PTRACE".to_owned());
        missing.selectors = vec!["unix:path".to_owned(), "unix:sha256".to_owned()];
    }
    missing
}

const KIND: &str = "unix";
/// Supplementary groups taken into account; the kernel allows 65,536. What is beyond grants nothing.
const MAX_GROUPS: usize = 4096;
const MAX_NAMED_GROUPS: usize = 64;
/// `capabilities(7)`.
const CAP_DAC_READ_SEARCH: u32 = 2;
const CAP_SYS_PTRACE: u32 = 19;

#[cfg(test)]
mod tests;

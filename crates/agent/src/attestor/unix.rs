//! Selectors of the operating system: user, groups, program.
//!
//! Invariant: everything is read through the pinned process's own `/proc` handle, never through a path or a PID again;
//! what cannot be read is left out, never guessed.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use landfast_identity::Selector;

use super::digest::{Digests, HashLimits};
use super::names::Names;
use super::place::Places;
use super::{SelectorSource, SourceFailure, Subject};
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
        Self {
            names: Names::system(),
            digests: Digests::new(limits),
            places: Places::new(),
            views,
            said_unreadable: AtomicBool::new(false),
        }
    }

    #[cfg(test)]
    pub(crate) fn with_names(limits: HashLimits, views: Views, names: Names) -> Self {
        Self {
            names,
            digests: Digests::new(limits),
            places: Places::new(),
            views,
            said_unreadable: AtomicBool::new(false),
        }
    }

    async fn users_and_groups(&self, subject: &Subject, groups: &BTreeSet<u32>, out: &mut Out) {
        let (uid, gid) = (subject.uid, subject.gid);
        out.add("uid", uid);
        out.add("gid", gid);
        for group in groups {
            out.add("supplementary_gid", group);
        }
        // The name service may be slow or dead: names are extra, and have their own deadline.
        let named: Vec<u32> = groups.iter().copied().take(MAX_NAMED_GROUPS).collect();
        let names = self.names.look_up(uid, gid, named).await;
        if let Some(user) = names.user {
            out.add("user", user);
        }
        if let Some(group) = names.group {
            out.add("group", group);
        }
        for group in names.supplementary {
            out.add("supplementary_group", group);
        }
    }

    async fn program(&self, subject: &Subject, out: &mut Out) {
        match subject.files.program_path() {
            Ok(path) => match path_selector(&path) {
                Some(text) => {
                    if self.places.agree(&path, subject.files.as_ref()).await {
                        out.add("path", text);
                    }
                }
                // A program without a name on disk: neither a path nor a hash would say what an operator means.
                None => return,
            },
            Err(error) => return self.note_unreadable(subject, error.as_ref()),
        }
        if !self.views.snapshot().entries.uses_hashes() {
            return;
        }
        match self.digests.of(subject.uid, subject.files.as_ref()).await {
            Ok(hex) => out.add("sha256", hex),
            Err(error) => {
                tracing::warn!(
                    pid = subject.pid,
                    uid = subject.uid,
                    error = landfast_daemon::error_chain(&error),
                    "the program is not hashed; its sha256 selector is left out"
                );
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
    async fn selectors(&self, subject: &Subject) -> Result<Vec<Selector>, SourceFailure> {
        let groups = subject.files.groups();
        let groups = groups.map_err(|error| SourceFailure {
            kind: KIND,
            what: landfast_daemon::error_chain(error.as_ref()),
        });
        let mut groups: BTreeSet<u32> = groups?.into_iter().collect();
        while groups.len() > MAX_GROUPS {
            groups.pop_last();
        }
        let mut out = Out(Vec::with_capacity(groups.len() + 8));
        self.users_and_groups(subject, &groups, &mut out).await;
        self.program(subject, &mut out).await;
        Ok(out.0)
    }
}

struct Out(Vec<Selector>);

impl Out {
    /// A value no selector can hold (a path that is not UTF-8, say) is left out.
    fn add(&mut self, what: &str, value: impl Display) {
        if let Ok(selector) = Selector::new(KIND, &format!("{what}:{value}")) {
            self.0.push(selector);
        }
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

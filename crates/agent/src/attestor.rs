//! From a pinned process to the selectors it has: several attestors, one answer.
//!
//! Invariant: a selector is in the answer only if an attestor saw it on the pinned process. An attestor that fails leaves
//! its selectors out; when all fail, so does the attestation.

pub(crate) mod digest;
pub(crate) mod look;
pub(crate) mod names;
mod place;
mod threads;
pub(crate) mod unix;

use std::fmt::Display;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use landfast_identity::Selector;
use landfast_uds::{PinnedProcess, ProcDir};
use landfast_workload_api::{AttestError, Attested, Attestor};

use crate::keeper::views::Views;
use crate::telemetry;

/// What a source may look at. Reads come from one `/proc` folder, held open; a workload's belongs to a pidfd.
pub(crate) struct Subject {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) files: Arc<dyn ProcFiles>,
}

/// The files of one process.
pub(crate) trait ProcFiles: Send + Sync {
    /// Its supplementary groups.
    fn groups(&self) -> Result<Vec<u32>, BoxError>;
    /// Where the link to its program leads.
    fn program_path(&self) -> Result<PathBuf, BoxError>;
    /// Its program, by the kernel's handle and not by that path.
    fn open_program(&self) -> Result<File, BoxError>;
    /// Which mount namespace it lives in, as the kernel names it.
    fn mount_namespace(&self) -> Result<PathBuf, BoxError>;
}

pub(crate) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A pinned process. Its groups were read when it was pinned, and it counts as changed when they do.
struct Pinned {
    dir: ProcDir,
    process: Arc<PinnedProcess>,
}

impl ProcFiles for Pinned {
    fn groups(&self) -> Result<Vec<u32>, BoxError> {
        Ok(self.process.groups().to_vec())
    }

    fn program_path(&self) -> Result<PathBuf, BoxError> {
        Ok(self.dir.read_link("exe")?)
    }

    fn open_program(&self) -> Result<File, BoxError> {
        Ok(self.dir.open_exe()?)
    }

    fn mount_namespace(&self) -> Result<PathBuf, BoxError> {
        Ok(self.dir.read_link("ns/mnt")?)
    }
}

/// One source of selectors. To add one: a file beside `unix.rs`, and a line where the agent is put together.
#[async_trait]
pub(crate) trait SelectorSource: Send + Sync + 'static {
    /// The selectors of a process. `Err` says why none can be told.
    async fn selectors(&self, subject: &Subject) -> Result<Found, SourceFailure>;
}

/// What a source found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) selectors: Vec<Selector>,
    /// What is missing, and why.
    pub(crate) left_out: Vec<String>,
    /// Whether some of that may be there another time.
    pub(crate) incomplete: bool,
}

impl Found {
    /// A value no selector can hold (a path that is not UTF-8, say) is left out.
    fn add(&mut self, kind: &str, what: &str, value: impl Display) {
        if let Ok(selector) = Selector::new(kind, &format!("{what}:{value}")) {
            self.selectors.push(selector);
        }
    }

    /// Notes what is missing now and may be there at another look.
    fn miss(&mut self, what: String) {
        self.left_out.push(what);
        self.incomplete = true;
    }
}

/// Why a source has nothing to say about a process.
#[derive(Debug, thiserror::Error)]
#[error("{kind} attestor: {what}")]
pub(crate) struct SourceFailure {
    pub(crate) kind: &'static str,
    pub(crate) what: String,
}

/// All configured sources, asked one after the other.
pub(crate) struct Attestors {
    sources: Vec<Box<dyn SelectorSource>>,
    views: Views,
}

impl Attestors {
    /// `views` tells when more is to be looked for than before.
    pub(crate) fn new(sources: Vec<Box<dyn SelectorSource>>, views: Views) -> Self {
        Self { sources, views }
    }

    pub(crate) async fn look_at(&self, subject: &Subject) -> Result<Attested, Vec<SourceFailure>> {
        // Before the first look: what is asked for from here on may be seen, and what was asked for before is.
        let outdated = self.views.outdated();
        let mut all = Found::default();
        let mut failures = Vec::new();
        for source in &self.sources {
            match source.selectors(subject).await {
                Ok(found) => {
                    all.selectors.extend(found.selectors);
                    all.left_out.extend(found.left_out);
                    all.incomplete |= found.incomplete;
                }
                Err(failure) => {
                    all.miss(failure.to_string());
                    failures.push(failure);
                }
            }
        }
        if failures.len() == self.sources.len() {
            return Err(failures);
        }
        Ok(Attested {
            selectors: all.selectors.into_iter().collect(),
            left_out: all.left_out,
            incomplete: all.incomplete,
            outdated,
        })
    }
}

#[async_trait]
impl Attestor for Attestors {
    async fn attest(&self, process: &Arc<PinnedProcess>) -> Result<Attested, AttestError> {
        let proc_dir = process
            .proc_dir()
            .map_err(|error| refused(landfast_daemon::error_chain(&error)))?;
        let files = Arc::new(Pinned {
            dir: proc_dir,
            process: Arc::clone(process),
        });
        let subject = Subject {
            pid: process.pid(),
            uid: process.uid(),
            gid: process.gid(),
            files,
        };
        let found = self.look_at(&subject).await;
        // It may have exited or executed another program meanwhile; then what was read is a mixture (T-01, T-06).
        if let Some(change) = process.verify() {
            return Err(refused(format!("it changed while it was attested: {change:?}")));
        }
        telemetry::workload_attestation(found.is_ok());
        found.map_err(|failures| {
            refused(
                failures
                    .iter()
                    .map(|failure| failure.to_string())
                    .collect::<Vec<_>>()
                    .join("; "),
            )
        })
    }
}

fn refused(reason: String) -> AttestError {
    AttestError { reason }
}

#[cfg(test)]
mod tests;

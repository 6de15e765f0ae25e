//! From a pinned process to the selectors it has: several attestors, one answer.
//!
//! Invariant: a selector is in the answer only if an attestor saw it on the pinned process. An attestor that fails leaves
//! its selectors out; when all fail, so does the attestation.

pub(crate) mod digest;
pub(crate) mod look;
pub(crate) mod names;
mod place;
pub(crate) mod unix;

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use landfast_identity::{Selector, SelectorSet};
use landfast_uds::{PinnedProcess, ProcDir};
use landfast_workload_api::{AttestError, Attestor};

use crate::telemetry;

/// What a source may look at. Reads come from one `/proc` folder, held open; a workload's belongs to a pidfd.
pub(crate) struct Subject {
    pub(crate) pid: i32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) files: Box<dyn ProcFiles>,
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
    async fn selectors(&self, subject: &Subject) -> Result<Vec<Selector>, SourceFailure>;
}

/// Why a source has nothing to say about a process.
#[derive(Debug, thiserror::Error)]
#[error("{kind} attestor: {what}")]
pub(crate) struct SourceFailure {
    pub(crate) kind: &'static str,
    pub(crate) what: String,
}

/// All configured sources, asked one after the other.
pub(crate) struct Attestors(Vec<Box<dyn SelectorSource>>);

impl Attestors {
    pub(crate) fn new(sources: Vec<Box<dyn SelectorSource>>) -> Self {
        Self(sources)
    }

    pub(crate) async fn selectors(&self, subject: &Subject) -> Result<SelectorSet, Vec<SourceFailure>> {
        let mut all = Vec::new();
        let mut failures = Vec::new();
        for source in &self.0 {
            match source.selectors(subject).await {
                Ok(selectors) => all.extend(selectors),
                Err(failure) => failures.push(failure),
            }
        }
        for failure in &failures {
            tracing::warn!(pid = subject.pid, %failure, "attestation is incomplete");
        }
        if failures.len() == self.0.len() {
            Err(failures)
        } else {
            Ok(all.into_iter().collect())
        }
    }
}

#[async_trait]
impl Attestor for Attestors {
    async fn attest(&self, process: &Arc<PinnedProcess>) -> Result<SelectorSet, AttestError> {
        let proc_dir = process
            .proc_dir()
            .map_err(|error| refused(landfast_daemon::error_chain(&error)))?;
        let files = Box::new(Pinned {
            dir: proc_dir,
            process: Arc::clone(process),
        });
        let subject = Subject {
            pid: process.pid(),
            uid: process.uid(),
            gid: process.gid(),
            files,
        };
        let selectors = self.selectors(&subject).await;
        // It may have exited or executed another program meanwhile; then what was read is a mixture (T-01, T-06).
        if let Some(change) = process.verify() {
            return Err(refused(format!("it changed while it was attested: {change:?}")));
        }
        telemetry::workload_attestation(selectors.is_ok());
        selectors.map_err(|failures| {
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

//! Steps that were given out to be signed elsewhere, and have not come back by an operator's hand.
//!
//! Invariant: each is noted on the disk before it is given out, beside the database and not in it. A file with a signature is no proof that this server
//! ever had the step: until it is imported, it is nobody's to show.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use landfast_daemon::error_chain;
use landfast_identity::chain::{SignedStep, StepDigest};
use landfast_store::{DirFiles, Files as _, StoreError};
use serde::{Deserialize, Serialize};

use super::said;
use crate::quarantine::replace;
use crate::random::hex;

/// See the module.
#[derive(Default)]
pub(crate) struct Prepared {
    /// `None`: nothing is kept here.
    home: Option<Home>,
    /// One change at a time, the writing with it.
    known: tokio::sync::Mutex<Known>,
}

struct Home {
    path: PathBuf,
    files: Arc<DirFiles>,
}

#[derive(Default)]
struct Known {
    /// The newest last; at most [`MOST`].
    digests: VecDeque<String>,
    /// The last few as they were given out: whoever asks again has the same. At most [`LAST`].
    last: VecDeque<SignedStep>,
}

#[derive(Serialize, Deserialize)]
struct Noted {
    digests: VecDeque<String>,
}

impl Prepared {
    /// What this data directory says. What cannot be understood there is said, and counts as nothing.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        let opened = File::open(dir).map_err(|source| StoreError::Directory {
            path: dir.into(),
            source,
        })?;
        let files = DirFiles::new(opened.into());
        let path = dir.join(FILE);
        let found = files.read(FILE, LIMIT).map_err(|source| StoreError::CannotRead {
            path: path.clone(),
            source,
        })?;
        let mut known = Known::default();
        if let Some(found) = found {
            match serde_json::from_slice::<Noted>(&found.bytes) {
                Ok(noted) => known.digests = noted.digests,
                Err(error) => tracing::error!(
                    %error, path = %path.display(),
                    "the file of the steps that were given out to be signed cannot be read: destroy those that were signed and not imported"
                ),
            }
        }
        Ok(Self {
            home: Some(Home {
                path,
                files: Arc::new(files),
            }),
            known: tokio::sync::Mutex::new(known),
        })
    }

    /// This step, or one that says the same and was given out before. It may leave the server.
    ///
    /// # Errors
    /// It cannot be noted: it may not.
    pub(super) async fn give_out(&self, step: SignedStep) -> Result<SignedStep, StoreError> {
        let mut known = self.known.lock().await;
        let same = |given: &&SignedStep| said(given.step()) == said(step.step());
        if let Some(given) = known.last.iter().find(same) {
            return Ok(given.clone());
        }
        let mut digests = known.digests.clone();
        digests.push_back(hex(&step.digest()));
        let extra = digests.len().saturating_sub(MOST);
        digests.drain(..extra);
        self.write(&digests).await?;
        known.digests = digests;
        known.last.push_back(step.clone());
        let extra = known.last.len().saturating_sub(LAST);
        known.last.drain(..extra);
        Ok(step)
    }

    /// These are stored now: from here on they are as all others. Where that cannot be noted, it is said, and noted with the next.
    pub(super) async fn settle(&self, stored: &BTreeSet<StepDigest>) {
        let mut known = self.known.lock().await;
        let stored: BTreeSet<_> = stored.iter().map(|digest| hex(digest)).collect();
        let is_given = |digest: &String| stored.contains(digest);
        if !known.digests.iter().any(is_given) {
            return;
        }
        known.digests.retain(|digest| !stored.contains(digest));
        known.last.retain(|step| !stored.contains(&hex(&step.digest())));
        if let Err(error) = self.write(&known.digests).await {
            tracing::warn!(
                error = error_chain(&error),
                "that a step was imported cannot be noted beside the database"
            );
        }
    }

    /// Whether it was given out, and has not come back as far as is noted.
    pub(super) async fn has(&self, step: &SignedStep) -> bool {
        let known = self.known.lock().await;
        !known.digests.is_empty() && known.digests.contains(&hex(&step.digest()))
    }

    async fn write(&self, digests: &VecDeque<String>) -> Result<(), StoreError> {
        let Some(home) = &self.home else { return Ok(()) };
        let noted = Noted {
            digests: digests.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&noted).expect("strings are JSON");
        bytes.push(b'\n');
        let files = Arc::clone(&home.files);
        let written = tokio::task::spawn_blocking(move || replace(&*files, FILE, &bytes)).await;
        let written = written.unwrap_or_else(|_stopping| Err(io::Error::other("the process ends")));
        written.map_err(|source| StoreError::CannotWrite {
            path: home.path.clone(),
            source,
        })
    }
}

/// In the data directory.
const FILE: &str = "prepared.json";
const LIMIT: u64 = 1024 * 1024;
/// Years of ceremonies: of a file that is older than that many others nobody knows.
const MOST: usize = 1000;
const LAST: usize = 8;

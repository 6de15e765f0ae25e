//! Whether a program's path means here what it means to the process.
//!
//! Invariant: in a mount namespace of its own a process can give its program any path; such a path counts only when, in the agent's
//! view of the files, it leads to the very file that runs.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::threads::{Stuck, Threads, is_forbidden};
use super::{BoxError, ProcFiles, Subject};

/// Compares the paths of programs with the files of this mount namespace.
pub(crate) struct Places {
    own: Option<PathBuf>,
    threads: Threads,
}

/// Why it could not be told now.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("the program cannot be opened")]
    Open(#[source] BoxError),
    #[error(transparent)]
    Stuck(#[from] Stuck),
}

impl Places {
    pub(crate) fn new(threads: Threads) -> Self {
        Self {
            own: std::fs::read_link("/proc/self/ns/mnt").ok(),
            threads,
        }
    }

    /// Whether `path`, as the process has it, leads here to the program it runs.
    ///
    /// # Errors
    /// Another time it may be known.
    pub(crate) async fn agree(&self, path: &Path, subject: &Subject) -> Result<bool, PlaceError> {
        let theirs = subject.files.mount_namespace().ok();
        if theirs.is_some() && theirs == self.own {
            return Ok(true);
        }
        let (path, files) = (path.to_owned(), Arc::clone(&subject.files));
        let same = move || same_file(&path, files.as_ref());
        match self.threads.run(subject.uid, same).await? {
            Err(error) if !is_forbidden(&error) => Err(PlaceError::Open(error)),
            same => Ok(same.unwrap_or(false)),
        }
    }
}

fn same_file(path: &Path, files: &dyn ProcFiles) -> Result<bool, BoxError> {
    let running = files.open_program()?.metadata()?;
    let here = std::fs::symlink_metadata(path);
    Ok(here.is_ok_and(|here| (here.dev(), here.ino()) == (running.dev(), running.ino())))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    /// A process elsewhere that runs a file.
    struct Elsewhere(PathBuf);

    fn elsewhere(program: &Path) -> Subject {
        Subject {
            pid: 1,
            uid: 7,
            gid: 7,
            files: Arc::new(Elsewhere(program.to_owned())),
        }
    }

    impl ProcFiles for Elsewhere {
        fn groups(&self) -> Result<Vec<u32>, BoxError> {
            Ok(Vec::new())
        }

        fn program_path(&self) -> Result<PathBuf, BoxError> {
            Ok(self.0.clone())
        }

        fn open_program(&self) -> Result<File, BoxError> {
            Ok(File::open(&self.0)?)
        }

        fn mount_namespace(&self) -> Result<PathBuf, BoxError> {
            Ok("mnt:[1]".into())
        }
    }

    /// T-05.
    #[tokio::test]
    async fn a_path_of_elsewhere_counts_only_when_it_leads_here_to_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let (good, other) = (dir.path().join("good"), dir.path().join("other"));
        for file in [&good, &other] {
            File::create(file).unwrap();
        }
        let places = Places::new(Threads::new());
        let running = elsewhere(&good);
        assert!(places.agree(&good, &running).await.unwrap(), "the control");
        assert!(!places.agree(&other, &running).await.unwrap());
        assert!(!places.agree(&dir.path().join("none"), &running).await.unwrap());
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&good, &link).unwrap();
        assert!(
            !places.agree(&link, &running).await.unwrap(),
            "the kernel shows no links in such a path"
        );
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_opened_now_may_be_another_time() {
        let places = Places::new(Threads::new());
        let gone = elsewhere(Path::new("/no/such/program"));
        assert!(places.agree(Path::new("/x"), &gone).await.is_err());
    }
}

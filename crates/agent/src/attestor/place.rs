//! Whether a program's path means here what it means to the process.
//!
//! Invariant: in a mount namespace of its own a process can give its program any path; such a path counts only when, in the agent's
//! view of the files, it leads to the very file that runs.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use super::ProcFiles;

/// Compares the paths of programs with the files of this mount namespace.
pub(crate) struct Places {
    own: Option<PathBuf>,
    /// A path can lead to a file system that never answers: then one thread waits for it, and no more.
    turn: Arc<Semaphore>,
}

impl Places {
    pub(crate) fn new() -> Self {
        Self {
            own: std::fs::read_link("/proc/self/ns/mnt").ok(),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// Whether `path`, as the process has it, leads here to the program it runs.
    pub(crate) async fn agree(&self, path: &Path, files: &dyn ProcFiles) -> bool {
        let theirs = files.mount_namespace().ok();
        if theirs.is_some() && theirs == self.own {
            return true;
        }
        let Ok(running) = files.open_program().and_then(|file| Ok(file.metadata()?)) else {
            return false;
        };
        self.same_file(path.to_owned(), running).await
    }

    async fn same_file(&self, path: PathBuf, running: Metadata) -> bool {
        let look = async {
            let turn = Arc::clone(&self.turn).acquire_owned().await.ok()?;
            let looked = tokio::task::spawn_blocking(move || {
                let found = std::fs::symlink_metadata(path);
                drop(turn);
                found
            });
            looked.await.ok()?.ok()
        };
        let found = tokio::time::timeout(PATIENCE, look).await;
        found.is_ok_and(|found| {
            found.is_some_and(|here| (here.dev(), here.ino()) == (running.dev(), running.ino()))
        })
    }
}

const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::attestor::BoxError;

    /// A process elsewhere that runs a file.
    struct Elsewhere(PathBuf);

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
        let places = Places::new();
        let running = Elsewhere(good.clone());
        assert!(places.agree(&good, &running).await, "the control");
        assert!(!places.agree(&other, &running).await);
        assert!(!places.agree(&dir.path().join("none"), &running).await);
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&good, &link).unwrap();
        assert!(
            !places.agree(&link, &running).await,
            "the kernel shows no links in such a path"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_system_that_does_not_answer_costs_the_path_and_nothing_else() {
        let places = Places::new();
        let _hangs = Arc::clone(&places.turn).acquire_owned().await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let running = Elsewhere(file.path().to_owned());
        assert!(!places.agree(file.path(), &running).await);
    }
}

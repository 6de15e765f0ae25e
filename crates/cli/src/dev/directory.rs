//! The private directory of one run.
//!
//! Invariant: it is mode 0700 and locked while its run lives; a run removes those of dead runs, and at its end its own.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::failure::Failure;

/// Removed when dropped.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    _lock: File,
}

impl Directory {
    pub(super) fn create() -> Result<Self, Failure> {
        let parent = parent();
        Self::create_in(&parent).map_err(|error| {
            let hint = "XDG_RUNTIME_DIR or TMPDIR must name a directory that you can write to";
            Failure::failed(
                format!("no private directory in {}: {error}", parent.display()),
                hint,
            )
        })
    }

    fn create_in(parent: &Path) -> io::Result<Self> {
        remove_dead(parent)?;
        let pid = std::process::id();
        for attempt in 0..ATTEMPTS {
            let path = parent.join(format!("{PREFIX}{pid}-{attempt}"));
            match std::fs::DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                made => made?,
            }
            // Between the two another run may have taken it for a dead one's: then it is not ours any more.
            match lock(&path) {
                Ok(Some(held)) => return Ok(Self { path, _lock: held }),
                Ok(None) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many attempts"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the directory");
        }
    }
}

/// Short, for the sake of socket paths (107 bytes).
fn parent() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let usable =
        |path: &PathBuf| path.is_absolute() && path.as_os_str().len() <= LONGEST_PARENT && owned(path);
    runtime.filter(usable).unwrap_or_else(std::env::temp_dir)
}

fn owned(path: &Path) -> bool {
    std::fs::metadata(path)
        .is_ok_and(|found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw())
}

/// Of runs that were killed: directories of ours that nobody holds the lock of.
fn remove_dead(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)?
        .flatten()
        .filter(|entry| is_ours(&entry.file_name()))
    {
        let path = entry.path();
        let real = std::fs::symlink_metadata(&path);
        if !real.is_ok_and(|found| found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw()) {
            continue;
        }
        if let Ok(Some(_held)) = lock(&path)
            && let Err(error) = std::fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), %error, "cannot remove what a dead run left");
        }
    }
    Ok(())
}

fn is_ours(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with(PREFIX))
}

/// `None` when somebody holds it, or it is another directory by now.
fn lock(path: &Path) -> io::Result<Option<File>> {
    let opened = File::open(path)?;
    match flock(&opened, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
        locked => locked?,
    }
    let (held, there) = (opened.metadata()?, std::fs::metadata(path)?);
    Ok(((held.dev(), held.ino()) == (there.dev(), there.ino())).then_some(opened))
}

const PREFIX: &str = "landfast-dev-";
const ATTEMPTS: u32 = 16;
const LONGEST_PARENT: usize = 60;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_directory_of_a_dead_run_is_removed_and_that_of_a_living_one_is_not() {
        let parent = tempfile::tempdir().unwrap();
        let dead = parent.path().join("landfast-dev-1-0");
        std::fs::create_dir(&dead).unwrap();
        std::fs::create_dir(dead.join("agent")).unwrap();
        let alive = Directory::create_in(parent.path()).unwrap();
        assert!(!dead.exists());
        let second = Directory::create_in(parent.path()).unwrap();
        assert!(alive.path().exists());
        assert_eq!(alive.path().metadata().unwrap().mode() & 0o777, 0o700);
        let gone = second.path().to_owned();
        drop(second);
        assert!(!gone.exists() && alive.path().exists());
    }

    #[test]
    fn what_is_not_ours_is_left_alone() {
        let parent = tempfile::tempdir().unwrap();
        let (other, target) = (parent.path().join("somebody"), parent.path().join("target"));
        std::fs::create_dir(&other).unwrap();
        std::fs::create_dir(&target).unwrap();
        std::os::unix::fs::symlink(&target, parent.path().join("landfast-dev-2-0")).unwrap();
        let run = Directory::create_in(parent.path()).unwrap();
        assert!(run.path().exists() && other.exists() && target.exists());
        assert!(parent.path().join("landfast-dev-2-0").is_symlink());
    }
}

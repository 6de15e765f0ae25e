//! A look at any process by its PID, for `landfast why`.
//!
//! Invariant: what is found here explains and never entitles: nobody connected, so nobody is pinned. All reads go through one
//! folder, held open; once its process has ended, they fail rather than show another's.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat, readlinkat};

use super::{BoxError, ProcFiles, Subject};

/// Opens the process's folder and reads whose it is.
///
/// # Errors
/// When there is no such process, or it may not be looked at.
pub(crate) fn at(pid: i32) -> io::Result<Subject> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let files = Folder(openat(CWD, format!("/proc/{pid}"), flags, Mode::empty())?);
    let status = files.status()?;
    let effective = |name| numbers(&status, name).nth(1);
    let (Some(uid), Some(gid)) = (effective("Uid:"), effective("Gid:")) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "its status has no user",
        ));
    };
    Ok(Subject {
        pid,
        uid,
        gid,
        files: Arc::new(files),
    })
}

struct Folder(OwnedFd);

impl Folder {
    fn open(&self, name: &str) -> io::Result<File> {
        Ok(openat(&self.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    }

    fn link(&self, name: &str) -> Result<PathBuf, BoxError> {
        use std::os::unix::ffi::OsStringExt as _;
        let path = readlinkat(&self.0, name, Vec::new())?;
        Ok(std::ffi::OsString::from_vec(path.into_bytes()).into())
    }

    /// Its first line is a name that the process chooses, in any bytes.
    fn status(&self) -> io::Result<String> {
        let mut bytes = Vec::new();
        self.open("status")?.take(MAX_STATUS).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl ProcFiles for Folder {
    fn groups(&self) -> Result<Vec<u32>, BoxError> {
        Ok(numbers(&self.status()?, "Groups:").collect())
    }

    fn program_path(&self) -> Result<PathBuf, BoxError> {
        self.link("exe")
    }

    fn open_program(&self) -> Result<File, BoxError> {
        Ok(self.open("exe")?)
    }

    fn mount_namespace(&self) -> Result<PathBuf, BoxError> {
        self.link("ns/mnt")
    }
}

fn numbers<'a>(status: &'a str, name: &'a str) -> impl Iterator<Item = u32> + 'a {
    let line = status.lines().find_map(move |line| line.strip_prefix(name));
    line.unwrap_or_default()
        .split_ascii_whitespace()
        .filter_map(|word| word.parse().ok())
}

/// 65,536 groups of ten digits fit.
const MAX_STATUS: u64 = 1 << 20;

//! What can go wrong with a socket file and with a peer.
//!
//! Invariant: every error names the path or the process.

use std::{io, path::PathBuf};

/// Why a socket could not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UdsError {
    /// The path is relative or has no file name.
    #[error("socket path {path} is not absolute")]
    NotAbsolute {
        /// The path as given.
        path: PathBuf,
    },
    /// The kernel takes 107 bytes.
    #[error("socket path {path} is {length} bytes long, at most {limit} fit")]
    TooLong {
        /// The path as given.
        path: PathBuf,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A folder on the way belongs to somebody else.
    #[error("folder {path} belongs to uid {owner}, it must belong to root or to this process (uid {own})")]
    ForeignFolder {
        /// The folder.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our effective uid.
        own: u32,
    },
    /// Others could exchange the socket.
    #[error("folder {path} is writable by others (mode {mode:04o})")]
    WritableFolder {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Something that is not a socket of ours has the name.
    #[error("{path} exists and is {what}, it is left alone")]
    Occupied {
        /// The path.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// Somebody answers there.
    #[error("another process serves {path}")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// The group of the configuration does not exist.
    #[error("group {group} does not exist")]
    UnknownGroup {
        /// Its name.
        group: String,
    },
    /// A system call failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl UdsError {
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }
}

/// Why a peer could not be pinned. Such a peer has no selectors.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PinError {
    /// The kernel shows pid 0: the process is not visible from our PID namespace.
    #[error("the process is in a PID namespace that this one cannot see")]
    ForeignNamespace,
    /// It is gone.
    #[error("process {pid} has exited")]
    Exited {
        /// Its pid.
        pid: i32,
    },
    /// The process has other credentials than the one that connected.
    #[error("process {pid} runs as uid {now_uid} gid {now_gid}, but uid {peer_uid} gid {peer_gid} connected")]
    CredentialsDiffer {
        /// Its pid.
        pid: i32,
        /// SO_PEERCRED.
        peer_uid: u32,
        /// SO_PEERCRED.
        peer_gid: u32,
        /// Effective uid now.
        now_uid: u32,
        /// Effective gid now.
        now_gid: u32,
    },
    /// Only in the mode without SO_PEERPIDFD.
    #[error("process {pid} does not hold the other end of the socket")]
    NotTheHolder {
        /// Its pid.
        pid: i32,
    },
    /// Only in the mode without SO_PEERPIDFD: its socket may be among those that were not looked at.
    #[error(
        "the first {looked} descriptors of process {pid} do not include its socket, and no more are looked at: it must connect before it opens so many, or run on Linux 6.5 or later"
    )]
    TooManyDescriptors {
        /// Its pid.
        pid: i32,
        /// How many were looked at.
        looked: u32,
    },
    /// Only in the mode without SO_PEERPIDFD: the search among its user's descriptors has cost too much lately.
    #[error(
        "too many descriptors of processes of uid {uid} were looked at in a short time: process {pid} must come again in a second"
    )]
    TooManySearches {
        /// Its pid.
        pid: i32,
        /// Whose.
        uid: u32,
    },
    /// A file of `/proc` has an unexpected form.
    #[error("cannot understand /proc/{pid}/{file}")]
    Unreadable {
        /// The pid.
        pid: i32,
        /// The file.
        file: &'static str,
    },
    /// A system call failed.
    #[error("cannot {action} of process {pid}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The pid.
        pid: i32,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl PinError {
    pub(crate) fn io(action: &'static str, pid: i32) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, pid, source }
    }
}

//! Who is at the other end of an accepted connection.
//!
//! Invariant: user, group and process are the kernel's words at the time of connecting; a process is pinned only if its pidfd was
//! alive after everything was read and its credentials are those that connected.

use std::{
    os::fd::{AsFd, AsRawFd, OwnedFd},
    sync::Arc,
};

use nix::sys::socket::{getsockopt, sockopt};

use crate::{
    PinError, PinnedProcess,
    procdir::Search,
    process::{ProcessTable, alive},
    search::Budgets,
    sockdiag,
};

/// How a peer is bound to a process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PinMode {
    /// SO_PEERPIDFD, Linux 6.5 and later.
    PeerPidfd,
    /// `pidfd_open`, and the process must itself hold the other end of the socket.
    SockDiag,
}

impl PinMode {
    /// Its name for an operator.
    pub fn name(self) -> &'static str {
        match self {
            Self::PeerPidfd => "peer-pidfd",
            Self::SockDiag => "sock-diag",
        }
    }

    /// What this kernel offers.
    pub(crate) fn detect() -> Self {
        let probe = std::os::unix::net::UnixStream::pair()
            .map(|(ours, _theirs)| getsockopt(&ours, sockopt::PeerPidfd));
        match probe {
            Ok(Err(nix::Error::ENOPROTOOPT | nix::Error::EOPNOTSUPP)) => Self::SockDiag,
            _ => Self::PeerPidfd,
        }
    }
}

/// The peer of one connection. A gRPC service finds it among the extensions of a request.
#[derive(Clone, Debug)]
pub struct PeerInfo {
    /// Effective user at connect.
    pub uid: u32,
    /// Effective group at connect.
    pub gid: u32,
    /// Process at connect; `None` when it is in a PID namespace that we cannot see.
    pub pid: Option<i32>,
    process: Result<Arc<PinnedProcess>, Arc<PinError>>,
}

impl PeerInfo {
    /// The process, if it could be pinned.
    pub fn process(&self) -> Option<&Arc<PinnedProcess>> {
        self.process.as_ref().ok()
    }

    /// Why it could not be pinned.
    pub fn unpinned(&self) -> Option<&PinError> {
        self.process.as_ref().err().map(AsRef::as_ref)
    }

    pub(crate) fn of(socket: &impl AsFd, mode: PinMode, table: &ProcessTable) -> std::io::Result<Self> {
        let credentials = getsockopt(&socket.as_fd(), sockopt::PeerCredentials)?;
        let (uid, gid, pid) = (credentials.uid(), credentials.gid(), credentials.pid());
        let process = pin(socket, mode, &table.searches, pid, uid, gid)
            .map(|fresh| table.share(fresh))
            .map_err(Arc::new);
        Ok(Self {
            uid,
            gid,
            pid: (pid > 0).then_some(pid),
            process,
        })
    }
}

fn pin(
    socket: &impl AsFd,
    mode: PinMode,
    searches: &Budgets,
    pid: i32,
    uid: u32,
    gid: u32,
) -> Result<PinnedProcess, PinError> {
    if pid <= 0 {
        return Err(PinError::ForeignNamespace);
    }
    match mode {
        PinMode::PeerPidfd => {
            let pidfd = getsockopt(&socket.as_fd(), sockopt::PeerPidfd).map_err(|errno| match errno {
                nix::Error::ESRCH | nix::Error::EINVAL | nix::Error::ENODATA => PinError::Exited { pid },
                other => PinError::io("get the pidfd", pid)(other.into()),
            })?;
            match pidfd_pid(&pidfd, pid)? {
                shown if shown == pid => PinnedProcess::pin(pid, pidfd, uid, gid),
                0 => Err(PinError::ForeignNamespace),
                _ => Err(PinError::Exited { pid }),
            }
        }
        PinMode::SockDiag => {
            let raw = rustix::process::Pid::from_raw(pid).ok_or(PinError::ForeignNamespace)?;
            let pidfd = match rustix::process::pidfd_open(raw, rustix::process::PidfdFlags::empty()) {
                Ok(pidfd) => pidfd,
                Err(rustix::io::Errno::SRCH) => return Err(PinError::Exited { pid }),
                Err(errno) => return Err(PinError::io("open the pidfd", pid)(errno.into())),
            };
            let found = find(socket, searches, pid, uid);
            if !alive(&pidfd) {
                return Err(PinError::Exited { pid });
            }
            found?;
            PinnedProcess::pin(pid, pidfd, uid, gid)
        }
    }
}

/// Whether the process holds the other end, at the cost of its user: a process can have a million descriptors, and everybody waits.
fn find(socket: &impl AsFd, searches: &Budgets, pid: i32, uid: u32) -> Result<(), PinError> {
    let (each, left) = (searches.bounds.each, searches.left(uid));
    if left == 0 {
        return Err(PinError::TooManySearches { pid, uid });
    }
    let inode = sockdiag::peer_inode(socket).map_err(PinError::io("find the socket", pid))?;
    let search = crate::ProcDir::open(pid)?
        .find_socket(inode, each.min(left))
        .map_err(PinError::io("list the descriptors", pid))?;
    searches.charge(uid, search.looked());
    match search {
        Search::Found { .. } => Ok(()),
        Search::Absent { .. } => Err(PinError::NotTheHolder { pid }),
        Search::GivenUp { looked } if looked == each => Err(PinError::TooManyDescriptors { pid, looked }),
        Search::GivenUp { .. } => Err(PinError::TooManySearches { pid, uid }),
    }
}

/// The pid the kernel shows for a pidfd: -1 when it was reaped, 0 when it is in a namespace that we cannot see.
fn pidfd_pid(pidfd: &OwnedFd, pid: i32) -> Result<i32, PinError> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).map_err(PinError::io("read the pidfd", pid))?;
    text.lines()
        .find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok())
        .ok_or(PinError::Unreadable { pid, file: "fdinfo" })
}

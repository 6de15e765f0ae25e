//! The file of a socket: created safely, recognised, removed.
//!
//! Invariant: the socket gets its mode before it listens and its name after, so nobody connects to one that is not finished.

use std::{
    fs::Metadata,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
};

use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr};
use tokio::net::UnixListener;

use crate::{SocketMode, UdsError, listener::writable_by_others};

/// A socket file that we made. Removed when dropped, if it is still ours.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SocketFile {
    /// Whether the path still leads to our socket.
    pub(crate) fn is_in_place(&self) -> bool {
        std::fs::symlink_metadata(&self.path)
            .is_ok_and(|now| (now.dev(), now.ino()) == (self.device, self.inode))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_in_place()
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

/// Makes a listening socket at `path`.
pub(crate) fn create(path: &Path, mode: &SocketMode) -> Result<(UnixListener, SocketFile), UdsError> {
    let (true, Some(folder), Some(name)) = (path.is_absolute(), path.parent(), path.file_name()) else {
        return Err(UdsError::NotAbsolute {
            path: path.to_owned(),
        });
    };
    let group = mode.group.as_deref().map(find_group).transpose()?;
    make_folder(folder)?;
    let folder = folder.canonicalize().map_err(UdsError::io("resolve", folder))?;
    check_folders(&folder, own_uid())?;
    let path = folder.join(name);
    let temporary = folder.join(temporary_name(name));
    // The name under which it is bound must fit too.
    let length = path.as_os_str().len().max(temporary.as_os_str().len());
    if length > LONGEST_PATH {
        return Err(UdsError::TooLong {
            path,
            length,
            limit: LONGEST_PATH,
        });
    }
    clear(&path, own_uid())?;
    clear(&temporary, own_uid())?;

    let socket = nix::sys::socket::socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .map_err(|errno| UdsError::io("create a socket for", &path)(errno.into()))?;
    let address = unix_address(&temporary)?;
    nix::sys::socket::bind(socket.as_raw_fd(), &address)
        .map_err(|errno| UdsError::io("bind", &temporary)(errno.into()))?;
    let made = finish(&socket, &temporary, &path, mode.mode, group);
    if made.is_err() {
        // The error that matters is the one before.
        drop(std::fs::remove_file(&temporary));
    }
    let file = made?;
    let listener = UnixListener::from_std(socket.into()).map_err(UdsError::io("listen on", &path))?;
    Ok((listener, file))
}

fn finish(
    socket: &OwnedFd,
    temporary: &Path,
    path: &Path,
    mode: u32,
    group: Option<nix::unistd::Gid>,
) -> Result<SocketFile, UdsError> {
    if group.is_some() {
        nix::unistd::chown(temporary, None, group)
            .map_err(|errno| UdsError::io("change the group of", temporary)(errno.into()))?;
    }
    std::fs::set_permissions(temporary, std::fs::Permissions::from_mode(mode))
        .map_err(UdsError::io("change the mode of", temporary))?;
    // musl's constant for the most is 128, so there the kernel's own bound is asked for.
    let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXALLOWABLE);
    nix::sys::socket::listen(socket, backlog)
        .map_err(|errno| UdsError::io("listen on", path)(errno.into()))?;
    std::fs::rename(temporary, path).map_err(UdsError::io("put in place", path))?;
    let metadata = std::fs::symlink_metadata(path).map_err(UdsError::io("look at", path))?;
    Ok(SocketFile {
        path: path.to_owned(),
        device: metadata.dev(),
        inode: metadata.ino(),
    })
}

/// Removes a dead socket of ours; refuses anything else.
pub(crate) fn clear(path: &Path, own: u32) -> Result<(), UdsError> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(UdsError::io("look at", path)(error)),
    };
    let occupied = |what| {
        Err(UdsError::Occupied {
            path: path.to_owned(),
            what,
        })
    };
    let kind = metadata.file_type();
    if kind.is_symlink() {
        return occupied("a symbolic link");
    }
    if !kind.is_socket() {
        return occupied(if kind.is_dir() { "a folder" } else { "not a socket" });
    }
    if metadata.uid() != own {
        return occupied("a socket of another user");
    }
    if answers(path)? {
        return Err(UdsError::InUse {
            path: path.to_owned(),
        });
    }
    std::fs::remove_file(path).map_err(UdsError::io("remove the dead socket", path))
}

/// Whether somebody listens. Does not wait: a full queue is an answer.
fn answers(path: &Path) -> Result<bool, UdsError> {
    let cannot = |errno: nix::Error| UdsError::io("try to connect to", path)(errno.into());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe =
        nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(cannot)?;
    match nix::sys::socket::connect(probe.as_raw_fd(), &unix_address(path)?) {
        Ok(()) | Err(nix::Error::EAGAIN | nix::Error::EPROTOTYPE) => Ok(true),
        Err(nix::Error::ECONNREFUSED | nix::Error::ENOENT) => Ok(false),
        Err(errno) => Err(cannot(errno)),
    }
}

fn unix_address(path: &Path) -> Result<UnixAddr, UdsError> {
    UnixAddr::new(path).map_err(|errno| UdsError::io("use", path)(errno.into()))
}

fn make_folder(folder: &Path) -> Result<(), UdsError> {
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(folder)
        .map_err(UdsError::io("create", folder))
}

/// The folder itself must belong to us or root and be writable by the owner only. Those above it may also be sticky like
/// `/tmp`: nobody can then exchange what is ours in them.
pub(crate) fn check_folders(folder: &Path, own: u32) -> Result<(), UdsError> {
    for (depth, ancestor) in folder.ancestors().enumerate() {
        let metadata = std::fs::symlink_metadata(ancestor).map_err(UdsError::io("look at", ancestor))?;
        check_folder(ancestor, &metadata, depth == 0, own)?;
    }
    Ok(())
}

fn check_folder(path: &Path, metadata: &Metadata, innermost: bool, own: u32) -> Result<(), UdsError> {
    let owner = metadata.uid();
    if owner != 0 && owner != own {
        return Err(UdsError::ForeignFolder {
            path: path.to_owned(),
            owner,
            own,
        });
    }
    let sticky = metadata.mode() & 0o1000 != 0;
    if writable_by_others(metadata) && (innermost || !sticky) {
        return Err(UdsError::WritableFolder {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
        });
    }
    Ok(())
}

fn find_group(group: &str) -> Result<nix::unistd::Gid, UdsError> {
    if let Ok(number) = group.parse() {
        return Ok(nix::unistd::Gid::from_raw(number));
    }
    match nix::unistd::Group::from_name(group) {
        Ok(Some(found)) => Ok(found.gid),
        Ok(None) => Err(UdsError::UnknownGroup {
            group: group.to_owned(),
        }),
        Err(errno) => Err(UdsError::io("look up the group for", Path::new(group))(
            errno.into(),
        )),
    }
}

fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// A hidden name beside the final one.
fn temporary_name(name: &std::ffi::OsStr) -> std::ffi::OsString {
    let mut temporary = std::ffi::OsString::from(".");
    temporary.push(name);
    temporary.push("~");
    temporary
}

/// `sun_path` less its final zero (unix(7)).
const LONGEST_PATH: usize = 107;
const BACKLOG: i32 = 1024;

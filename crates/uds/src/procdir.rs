//! `/proc/PID` of a pinned process, through one directory descriptor.
//!
//! Invariant: the descriptor was opened while the process's pidfd was alive, so it never shows another process; reads are bounded.

use std::{
    fs::File,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use crate::PinError;

/// An open `/proc/PID`. Meant to be short-lived: it costs a descriptor.
#[derive(Debug)]
pub struct ProcDir {
    pid: i32,
    dir: OwnedFd,
}

/// The credentials of a process, from its `status`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProcStatus {
    /// User IDs.
    pub uid: Ids,
    /// Group IDs.
    pub gid: Ids,
    /// Supplementary groups; the kernel allows 65,536.
    pub groups: Vec<u32>,
    /// In how many PID namespaces it has a number, from ours inwards: 1 is ours alone. 0 when the kernel does not say.
    pub pid_namespaces: usize,
}

/// The four IDs of a `Uid:` or `Gid:` line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ids {
    /// Who started it.
    pub real: u32,
    /// Who it acts as.
    pub effective: u32,
    /// Who it can become again.
    pub saved: u32,
    /// Who it is for files.
    pub filesystem: u32,
}

/// How a search among the descriptors of a process ended, after so many looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Search {
    Found { looked: u32 },
    Absent { looked: u32 },
    GivenUp { looked: u32 },
}

impl Search {
    pub(crate) fn looked(self) -> u32 {
        let (Self::Found { looked } | Self::Absent { looked } | Self::GivenUp { looked }) = self;
        looked
    }
}

impl ProcDir {
    /// Opens `/proc/pid`. The caller must check afterwards that the pidfd is alive.
    pub(crate) fn open(pid: i32) -> Result<Self, PinError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match rustix::fs::open(format!("/proc/{pid}"), flags, Mode::empty()) {
            Ok(dir) => Ok(Self { pid, dir }),
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::SRCH) => Err(PinError::Exited { pid }),
            Err(errno) => Err(PinError::io("open the folder in /proc", pid)(errno.into())),
        }
    }

    /// The process's ID.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Reads a file of the folder, at most 1 MiB of it.
    ///
    /// # Errors
    /// The kernel's: no such file, no permission, or `ESRCH` when the process has exited; `FileTooLarge` beyond the bound.
    pub fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        // Most files fit: one read then, and one that finds the end.
        let mut content = Vec::with_capacity(USUAL_READ);
        self.open_file(name)?
            .take(MAX_READ + 1)
            .read_to_end(&mut content)?;
        if content.len() as u64 > MAX_READ {
            Err(io::ErrorKind::FileTooLarge.into())
        } else {
            Ok(content)
        }
    }

    /// Where a link of the folder (`exe`, `ns/pid`) points. For `exe` only a text: open it with [`Self::open_exe`].
    ///
    /// # Errors
    /// The kernel's; without CAP_SYS_PTRACE, permission for a process of another user.
    pub fn read_link(&self, name: &str) -> io::Result<PathBuf> {
        use std::os::unix::ffi::OsStringExt as _;
        let link = rustix::fs::readlinkat(&self.dir, name, Vec::new())?;
        Ok(std::ffi::OsString::from_vec(link.into_bytes()).into())
    }

    /// Opens the executable itself, whatever its path says now.
    ///
    /// # Errors
    /// The kernel's; without CAP_SYS_PTRACE, permission for a process of another user.
    pub fn open_exe(&self) -> io::Result<File> {
        self.open_file("exe")
    }

    /// Device and inode of the executable.
    ///
    /// # Errors
    /// As [`Self::open_exe`].
    pub fn exe_id(&self) -> io::Result<(u64, u64)> {
        // It runs where others are served: a file system that does not answer (NFS, FUSE) must not be asked, and neither number changes.
        let stat = rustix::fs::statx(&self.dir, "exe", AtFlags::STATX_DONT_SYNC, StatxFlags::INO)?;
        let device = rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor);
        Ok((device, stat.stx_ino))
    }

    /// User, group and supplementary groups.
    ///
    /// # Errors
    /// The process has exited, or the file has an unknown form.
    pub fn status(&self) -> Result<ProcStatus, PinError> {
        let content = self
            .read("status")
            .map_err(PinError::io("read the status", self.pid))?;
        parse_status(&content).ok_or(PinError::Unreadable {
            pid: self.pid,
            file: "status",
        })
    }

    /// Whether it is a thread of the kernel: it runs no program, and as root.
    ///
    /// # Errors
    /// The process has exited, or the file has an unknown form.
    pub fn is_kernel_thread(&self) -> Result<bool, PinError> {
        let stat = self
            .read("stat")
            .map_err(PinError::io("read the state", self.pid))?;
        is_kernel_thread(&stat).ok_or(PinError::Unreadable {
            pid: self.pid,
            file: "stat",
        })
    }

    /// Looks for the socket `inode` among the first `most` descriptors that the process itself has open.
    pub(crate) fn find_socket(&self, inode: u32, most: u32) -> io::Result<Search> {
        let wanted = format!("socket:[{inode}]");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fds = rustix::fs::openat(&self.dir, "fd", flags, Mode::empty())?;
        let mut looked = 0;
        for entry in rustix::fs::Dir::read_from(&fds)? {
            let entry = entry?;
            // The folder itself and the one above it.
            if entry.file_name().to_bytes().starts_with(b".") {
                continue;
            }
            if looked == most {
                return Ok(Search::GivenUp { looked });
            }
            looked += 1;
            // A descriptor may be closed while we look.
            if rustix::fs::readlinkat(&fds, entry.file_name(), Vec::new())
                .is_ok_and(|link| link.as_bytes() == wanted.as_bytes())
            {
                return Ok(Search::Found { looked });
            }
        }
        Ok(Search::Absent { looked })
    }

    fn open_file(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Ok(File::from(rustix::fs::openat(
            &self.dir,
            Path::new(name),
            flags,
            Mode::empty(),
        )?))
    }
}

impl AsFd for ProcDir {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

fn parse_status(content: &[u8]) -> Option<ProcStatus> {
    // The first line carries the process's own name, which it chooses; the kernel escapes line breaks in it.
    let text = String::from_utf8_lossy(content);
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key));
    let numbers = |key: &str| {
        line(key)?
            .split_ascii_whitespace()
            .map(|number| number.parse().ok())
            .collect::<Option<Vec<u32>>>()
    };
    Some(ProcStatus {
        uid: ids(&numbers("Uid:")?)?,
        gid: ids(&numbers("Gid:")?)?,
        groups: numbers("Groups:")?,
        pid_namespaces: numbers("NSpid:").map_or(0, |each| each.len()),
    })
}

/// The seventh field after the name, which may hold anything, parentheses too.
fn is_kernel_thread(stat: &[u8]) -> Option<bool> {
    let after_name = stat.iter().rposition(|byte| *byte == b')')? + 1;
    let fields = std::str::from_utf8(&stat[after_name..]).ok()?;
    let flags: u64 = fields.split_ascii_whitespace().nth(6)?.parse().ok()?;
    Some(flags & KERNEL_THREAD != 0)
}

fn ids(numbers: &[u32]) -> Option<Ids> {
    let [real, effective, saved, filesystem] = *numbers else {
        return None;
    };
    Some(Ids {
        real,
        effective,
        saved,
        filesystem,
    })
}

/// `PF_KTHREAD`, which has been this since Linux 2.6.
const KERNEL_THREAD: u64 = 0x0020_0000;
const USUAL_READ: usize = 4096;
/// 65,536 groups of ten digits fit.
const MAX_READ: u64 = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_cannot_forge_its_status() {
        let status =
            parse_status(b"Name:\tx\\nUid:\t0 0 0 0\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t9 10 \n")
                .unwrap();
        assert_eq!(
            status.uid,
            Ids {
                real: 1,
                effective: 2,
                saved: 3,
                filesystem: 4
            }
        );
        assert_eq!(status.groups, [9, 10]);
        assert_eq!(status.pid_namespaces, 0, "it does not say");
        let nested =
            parse_status(b"Uid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\nGroups:\t\nNSpid:\t4711\t7\n").unwrap();
        assert_eq!(nested.pid_namespaces, 2);
        assert!(parse_status(b"Uid:\t1\t2\t3\nGid:\t5\t6\t7\t8\nGroups:\t\n").is_none());
    }

    #[test]
    fn a_kernel_thread_is_known_by_its_flags_whatever_a_process_calls_itself() {
        let kernels = b"2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0 0 0 0 20 0 1 0 7 0 0\n";
        let ours = b"4711 (x) S 0 0 0 0 -1 2129984 0) S 1 4711 4711 0 -1 4194304 90 0 0 0\n";
        assert_eq!(is_kernel_thread(kernels), Some(true));
        assert_eq!(is_kernel_thread(ours), Some(false));
        for unknown in [
            &b""[..],
            b"2 (kthreadd",
            b"2 (kthreadd) S 0 0",
            b"2 (k) S 0 0 0 0 -1 x",
        ] {
            assert_eq!(is_kernel_thread(unknown), None);
        }
    }

    #[test]
    fn our_own_folder_can_be_read() {
        let dir = ProcDir::open(std::process::id() as i32).unwrap();
        assert_eq!(
            dir.status().unwrap().uid.effective,
            rustix::process::geteuid().as_raw()
        );
        assert_eq!(dir.read_link("exe").unwrap(), std::env::current_exe().unwrap());
        assert!(dir.read("no-such-file").is_err());
        assert_eq!(dir.status().unwrap().pid_namespaces, 1);
        assert!(!dir.is_kernel_thread().unwrap());
    }

    #[test]
    fn a_search_among_descriptors_ends_at_its_bound() {
        let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let inode = u32::try_from(rustix::fs::fstat(&ours).unwrap().st_ino).unwrap();
        let dir = ProcDir::open(std::process::id() as i32).unwrap();
        // Standard input, output and error are before it.
        assert_eq!(dir.find_socket(inode, 3).unwrap(), Search::GivenUp { looked: 3 });
        assert!(matches!(
            dir.find_socket(inode, 4096).unwrap(),
            Search::Found { looked } if looked > 3
        ));
        assert!(matches!(
            dir.find_socket(u32::MAX, 4096).unwrap(),
            Search::Absent { looked } if looked > 3
        ));
    }
}

//! The seam between the store and the disk: one method a system call that can fail on its own.
//!
//! Invariant: every name is resolved inside the directory that was opened, and no link is followed.

use std::fmt::Debug;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, RenameFlags};
use zeroize::Zeroizing;

/// A file as it was found.
#[derive(Debug)]
pub struct Contents {
    /// At most one byte more than asked for.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Owner's uid.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// False for directories, pipes, devices; then `bytes` is empty.
    pub regular: bool,
}

/// A file that is open for more.
#[derive(Debug)]
pub struct Growing {
    /// What is written to it comes at its end.
    pub file: File,
    /// Owner's uid.
    pub owner: u32,
    /// Permission bits.
    pub mode: u32,
    /// False for directories, pipes, devices.
    pub regular: bool,
}

/// What a store does to its directory. Tests put [`crate::faulty::FaultyFiles`] in its place.
pub trait Files: Send + Sync + Debug {
    /// Reads up to `limit` + 1 bytes. `None` when there is no such file; a link is an error (`ELOOP`).
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Contents>>;
    /// Creates a file that does not exist yet, mode `0600`.
    fn create_temp(&self, name: &str) -> io::Result<File>;
    /// Writes all of it.
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()>;
    /// The file's content reaches the disk.
    fn sync(&self, file: &File) -> io::Result<()>;
    /// Gives `from` the name `to`, replacing what has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives `from` the name `to`; fails when that is taken (`AlreadyExists`), and where the file system cannot do that (anything else). Who has no fresh
    /// files need not say how.
    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let _cannot = (from, to);
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Gives `from` the second name `to`; fails when that is taken.
    fn link(&self, from: &str, to: &str) -> io::Result<()>;
    /// The directory's names reach the disk.
    fn sync_dir(&self) -> io::Result<()>;
    /// Removes a name; `NotFound` when there is none.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// All names in the directory, `.` and `..` aside.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Opens a file to add to it, made with mode `0600` when missing; a link is an error (`ELOOP`). What has no file that grows need not say how.
    fn append(&self, name: &str) -> io::Result<Growing> {
        let _nothing_grows_here = name;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// The directory of this name in this one, made with mode `0700` when missing; a link is an error. Its name reaches the disk with
    /// [`Files::sync_dir`] of this one. What has only files in its directory need not say how.
    fn within(&self, name: &str) -> io::Result<Arc<dyn Files>> {
        let _flat = name;
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// The real thing.
#[derive(Debug)]
pub struct DirFiles(OwnedFd);

impl DirFiles {
    /// Works inside this open directory, wherever its path leads later.
    #[must_use]
    pub const fn new(dir: OwnedFd) -> Self {
        Self(dir)
    }
}

impl Files for DirFiles {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Contents>> {
        // NONBLOCK: opening a pipe must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match fs::openat(&self.0, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let stat = fs::fstat(&file)?;
        let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // Room for all of it at once: growing would leave copies of a secret behind.
        let size = u64::try_from(stat.st_size).unwrap_or(0).min(limit) + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(if regular {
            usize::try_from(size).unwrap_or(0)
        } else {
            0
        }));
        if regular {
            file.take(limit + 1).read_to_end(&mut bytes)?;
        }
        Ok(Some(Contents {
            bytes,
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            regular,
        }))
    }

    fn create_temp(&self, name: &str) -> io::Result<File> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(fs::openat(
            &self.0,
            name,
            flags,
            Mode::RUSR | Mode::WUSR,
        )?))
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        file.write_all(bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::renameat(&self.0, from, &self.0, to)?)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let flags = RenameFlags::NOREPLACE;
        Ok(fs::renameat_with(&self.0, from, &self.0, to, flags)?)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(fs::linkat(&self.0, from, &self.0, to, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(fs::fsync(&self.0)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        Ok(fs::unlinkat(&self.0, name, AtFlags::empty())?)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.0)? {
            // Names that are not UTF-8 cannot be ours.
            if let Ok(name) = entry?.file_name().to_str()
                && name != "."
                && name != ".."
            {
                names.push(name.to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn append(&self, name: &str) -> io::Result<Growing> {
        // NONBLOCK as in `read`. RDWR: how it ends is looked at before anything is added.
        let flags = OFlags::RDWR
            | OFlags::APPEND
            | OFlags::CREATE
            | OFlags::NOFOLLOW
            | OFlags::NONBLOCK
            | OFlags::CLOEXEC;
        let file = File::from(fs::openat(&self.0, name, flags, Mode::RUSR | Mode::WUSR)?);
        let stat = fs::fstat(&file)?;
        Ok(Growing {
            file,
            owner: stat.st_uid,
            mode: stat.st_mode & 0o7777,
            regular: FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile,
        })
    }

    fn within(&self, name: &str) -> io::Result<Arc<dyn Files>> {
        Ok(Arc::new(self.open_within(name)?))
    }
}

impl DirFiles {
    /// See [`Files::within`].
    pub(crate) fn open_within(&self, name: &str) -> io::Result<Self> {
        match fs::mkdirat(&self.0, name, Mode::RWXU) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => {}
            Err(error) => return Err(error.into()),
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(Self(fs::openat(&self.0, name, flags, Mode::empty())?))
    }
}

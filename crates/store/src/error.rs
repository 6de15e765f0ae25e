//! What can go wrong with a file of ours, and what the operator should do about it.

use std::io;
use std::path::PathBuf;

/// Each variant names the file. `Display` leaves the cause to the source chain.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory is missing and cannot be made, or cannot be opened.
    #[error("cannot use the directory {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another user could replace our files.
    #[error(
        "the directory {} belongs to uid {owner}, but this process is uid {us}: give it to uid {us} with chown, or choose another",
        path.display()
    )]
    ForeignDirectory {
        /// The directory.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our effective uid.
        us: u32,
    },
    /// Another user could replace our files.
    #[error("others may write to the directory {} (mode {mode:04o}): run `chmod go-w` on it", path.display())]
    WritableDirectory {
        /// The directory.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Somebody has this directory open as a store already.
    #[error("the directory {} is in use by another process: stop that one, or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A bug of the caller: names come from constants.
    #[error("{name:?} is not a name for a file of the store")]
    BadName {
        /// What was asked for.
        name: String,
    },
    /// The file cannot be read.
    #[error("cannot read {}", path.display())]
    CannotRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A link, a directory, a pipe or a device has the name of our file.
    #[error("{} is not a regular file: find out who put it there, then remove it", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Somebody else wrote the file.
    #[error("{} belongs to uid {owner}, but this process is uid {us}: find out who put it there", path.display())]
    ForeignFile {
        /// The file.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Our effective uid.
        us: u32,
    },
    /// A secret that others can read is not one any more.
    #[error(
        "{} can be read or written by others (mode {mode:04o}): run `chmod 600` on it, and replace what it holds if they may have",
        path.display()
    )]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Larger than anything we write.
    #[error("{} is larger than {limit} bytes: it is not one of ours", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// Nothing was changed: the old content, if any, is whole.
    #[error("cannot write {}: its old content is untouched", path.display())]
    CannotWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// `create` found a file; it was left alone.
    #[error("{} exists already", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The new content is in place, but a power cut may bring the old one back.
    #[error("{} is written, but may not survive a power cut", path.display())]
    NotDurable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there, under a second name too.
    #[error(
        "{} is written, but has the second name {} as well: remove that, it is the same file",
        path.display(), other.display()
    )]
    TwoNames {
        /// The file.
        path: PathBuf,
        /// Its other name.
        other: PathBuf,
        /// Why that could not be removed.
        source: io::Error,
    },
    /// The file is still there.
    #[error("cannot remove {}", path.display())]
    CannotRemove {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

//! Where a file is that is named by a path. Invariant: the directory is there, and stays the same one whatever happens to its name.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::Path;

use crate::{DirFiles, StoreError};

/// The directory that the path names, and the name in it.
pub(crate) fn place(path: &Path) -> Result<(DirFiles, String), StoreError> {
    let name = path.file_name().and_then(OsStr::to_str);
    let name = name.ok_or_else(|| StoreError::BadName {
        name: path.display().to_string(),
    })?;
    let fd = File::open(directory(path)).map_err(cannot(path))?;
    if !fd.metadata().map_err(cannot(path))?.is_dir() {
        return Err(cannot(path)(io::ErrorKind::NotADirectory.into()));
    }
    Ok((DirFiles::new(fd.into()), name.to_owned()))
}

/// The directory of this path cannot be used.
pub(crate) fn cannot(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let dir = directory(path).to_owned();
    move |source| StoreError::Directory { path: dir, source }
}

fn directory(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

//! Reading beside the process that has the directory open as a store: it replaces files by renaming, so each is read whole.

use std::fs::File;
use std::path::Path;

use zeroize::Zeroizing;

use crate::{DirFiles, Files, MAX_FILE_BYTES, StoreError};

/// Reads a file of a store without opening it as one; `None` when there is none. Root may read those of others.
///
/// # Errors
/// As [`crate::Store::read`], or the directory cannot be opened.
pub fn read_beside(dir: &Path, name: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
    let fd = File::open(dir).map_err(|source| StoreError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    let path = dir.join(name);
    if name.contains(['/', '\0']) {
        return Err(StoreError::BadName {
            name: name.to_owned(),
        });
    }
    let found = match DirFiles::new(fd.into()).read(name, MAX_FILE_BYTES) {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
            return Err(StoreError::NotAFile { path });
        }
        Err(source) => return Err(StoreError::CannotRead { path, source }),
    };
    let us = rustix::process::geteuid();
    match found {
        found if !found.regular => Err(StoreError::NotAFile { path }),
        found if found.owner != us.as_raw() && !us.is_root() => Err(StoreError::ForeignFile {
            path,
            owner: found.owner,
            us: us.as_raw(),
        }),
        found if found.mode & 0o077 != 0 => Err(StoreError::TooOpen {
            path,
            mode: found.mode,
        }),
        found if found.bytes.len() as u64 > MAX_FILE_BYTES => Err(StoreError::TooLarge {
            path,
            limit: MAX_FILE_BYTES,
        }),
        found => Ok(Some(found.bytes)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;
    use crate::Store;

    #[test]
    fn what_another_process_has_open_is_read_and_only_files_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        store.replace("a.key", b"secret").unwrap();
        let read = |name| read_beside(dir.path(), name);
        assert_eq!(read("a.key").unwrap().unwrap().as_slice(), b"secret");
        assert!(read("b.key").unwrap().is_none());
        assert!(matches!(read("../a.key"), Err(StoreError::BadName { .. })));
        symlink(dir.path().join("a.key"), dir.path().join("link")).unwrap();
        assert!(matches!(read("link"), Err(StoreError::NotAFile { .. })));
        fs::create_dir(dir.path().join("directory")).unwrap();
        assert!(matches!(read("directory"), Err(StoreError::NotAFile { .. })));
        fs::set_permissions(dir.path().join("a.key"), fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(read("a.key"), Err(StoreError::TooOpen { .. })));
    }
}

//! A disk that keeps what was synchronised when its power is cut, and of the rest what the seed says.
//!
//! Invariant: until the power is cut every call that is not refused is done for real. Files that are made or removed past [`Files`] (the seal key is)
//! count as synchronised.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landfast_store::{Contents, DirFiles, Files, MAX_FILE_BYTES, OpenStore, Store};

/// Clones are one disk.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What every write is answered with.
    refuses: Option<ErrorKind>,
    off: bool,
    next: u64,
    dirs: BTreeMap<PathBuf, Dir>,
}

#[derive(Debug, Default)]
struct Dir {
    names: BTreeMap<String, u64>,
    /// The names as the directory was last synchronised with.
    durable: BTreeMap<String, u64>,
    /// Which file an open descriptor leads to: numbers of inodes come back.
    inodes: BTreeMap<u64, u64>,
    written: BTreeMap<u64, Vec<u8>>,
    synced: BTreeMap<u64, Vec<u8>>,
}

/// What becomes of that which was not synchronised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsynced {
    Lost,
    /// The names are there, and half of what was written.
    Torn,
}

impl SimDisk {
    /// For the agent.
    pub(crate) fn opener(&self) -> OpenStore {
        let disk = self.clone();
        Arc::new(move |dir| {
            Store::open_with(dir, |files| {
                disk.attach(dir, &files);
                SimFiles {
                    files,
                    dir: dir.to_owned(),
                    disk: disk.clone(),
                }
            })
        })
    }

    /// From now on nothing can be written, or everything again.
    pub(crate) fn refuse(&self, with: Option<ErrorKind>) {
        self.lock().refuses = with;
    }

    pub(crate) fn is_healthy(&self) -> bool {
        self.lock().refuses.is_none()
    }

    /// From now on nothing reaches it.
    pub(crate) fn cut(&self) {
        self.lock().off = true;
    }

    /// The power is back, and the directories are what they are then.
    pub(crate) fn power_on(&self, unsynced: Unsynced) {
        let mut state = self.lock();
        state.off = false;
        for (path, dir) in std::mem::take(&mut state.dirs) {
            if path.is_dir() {
                dir.leave(&path, unsynced);
            }
        }
    }

    /// Files that are there already are durable.
    fn attach(&self, path: &Path, files: &DirFiles) {
        let mut state = self.lock();
        let mut next = state.next;
        let dir = state.dirs.entry(path.to_owned()).or_default();
        let there = files.list().unwrap_or_default();
        dir.names.retain(|name, _| there.contains(name));
        dir.durable.retain(|name, _| there.contains(name));
        for name in there {
            if dir.names.contains_key(&name) {
                continue;
            }
            if let Ok(Some(found)) = files.read(&name, MAX_FILE_BYTES)
                && found.regular
            {
                next += 1;
                dir.names.insert(name.clone(), next);
                dir.durable.insert(name, next);
                dir.written.insert(next, found.bytes.to_vec());
                dir.synced.insert(next, found.bytes.to_vec());
            }
        }
        state.next = next;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Dir {
    /// Makes the directory what a power cut leaves of it.
    fn leave(self, path: &Path, unsynced: Unsynced) {
        let left = match unsynced {
            Unsynced::Lost => &self.durable,
            Unsynced::Torn => &self.names,
        };
        let is_gone = |name: &String| self.names.contains_key(name) && !path.join(name).exists();
        let gone_otherwise: Vec<_> = self.names.keys().filter(|name| is_gone(name)).cloned().collect();
        for name in self.names.keys().filter(|name| !left.contains_key(*name)) {
            drop(fs::remove_file(path.join(name)));
        }
        for (name, file) in left.iter().filter(|(name, _)| !gone_otherwise.contains(name)) {
            let synced = self.synced.get(file).cloned();
            let content = synced.unwrap_or_else(|| {
                let written = self.written.get(file).map_or(&[][..], Vec::as_slice);
                match unsynced {
                    Unsynced::Lost => Vec::new(),
                    Unsynced::Torn => written[..written.len() / 2].to_vec(),
                }
            });
            put(&path.join(name), &content);
        }
    }

    fn forget(&mut self) {
        let (names, durable) = (&self.names, &self.durable);
        let is_named = |file: &u64| names.values().chain(durable.values()).any(|named| named == file);
        self.written.retain(|file, _| is_named(file));
        self.synced.retain(|file, _| is_named(file));
    }
}

#[derive(Debug)]
struct SimFiles {
    files: DirFiles,
    dir: PathBuf,
    disk: SimDisk,
}

impl SimFiles {
    /// Does something, and notes it, while nothing else is done.
    fn change<T>(
        &self,
        act: impl FnOnce(&DirFiles) -> io::Result<T>,
        note: impl FnOnce(&mut Dir, u64, &T),
    ) -> io::Result<T> {
        let mut state = self.disk.lock();
        if state.off {
            return Err(ErrorKind::Other.into());
        }
        if let Some(kind) = state.refuses {
            return Err(kind.into());
        }
        let done = act(&self.files)?;
        state.next += 1;
        let next = state.next;
        note(state.dirs.entry(self.dir.clone()).or_default(), next, &done);
        Ok(done)
    }
}

impl Files for SimFiles {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Contents>> {
        match self.disk.lock().off {
            true => Err(ErrorKind::Other.into()),
            false => self.files.read(name, limit),
        }
    }

    fn create_temp(&self, name: &str) -> io::Result<File> {
        let create = |files: &DirFiles| {
            let file = files.create_temp(name)?;
            Ok((file.metadata()?.ino(), file))
        };
        let made = self.change(create, |dir, next, (inode, _)| {
            dir.names.insert(name.to_owned(), next);
            dir.inodes.insert(*inode, next);
            dir.written.insert(next, Vec::new());
        });
        made.map(|(_, file)| file)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        self.change(
            |files| files.write(file, bytes),
            |dir, _, ()| {
                if let Some(file) = dir.inodes.get(&inode) {
                    dir.written.entry(*file).or_default().extend_from_slice(bytes);
                }
            },
        )
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        let inode = file.metadata()?.ino();
        // The real one is not waited for: nothing here has to outlive this process.
        self.change(
            |_| Ok(()),
            |dir, _, ()| {
                if let Some(file) = dir.inodes.get(&inode)
                    && let Some(written) = dir.written.get(file)
                {
                    dir.synced.insert(*file, written.clone());
                }
            },
        )
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(
            |files| files.rename(from, to),
            |dir, _, ()| {
                if let Some(file) = dir.names.remove(from) {
                    dir.names.insert(to.to_owned(), file);
                }
            },
        )
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.change(
            |files| files.link(from, to),
            |dir, _, ()| {
                if let Some(file) = dir.names.get(from).copied() {
                    dir.names.insert(to.to_owned(), file);
                }
            },
        )
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.change(
            |_| Ok(()),
            |dir, _, ()| {
                dir.durable.clone_from(&dir.names);
                dir.forget();
            },
        )
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.change(
            |files| files.remove(name),
            |dir, _, ()| {
                dir.names.remove(name);
            },
        )
    }

    fn list(&self) -> io::Result<Vec<String>> {
        match self.disk.lock().off {
            true => Err(ErrorKind::Other.into()),
            false => self.files.list(),
        }
    }
}

fn put(path: &Path, content: &[u8]) {
    #[expect(clippy::disallowed_methods, reason = "this is the disk")]
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

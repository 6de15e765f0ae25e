//! For tests: a disk that fails on script. It decides before each call whether that call fails; all others are real.
//!
//! Invariant: a refused call has no effect.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::{Contents, DirFiles, Files, Growing};

/// One method of [`Files`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// [`Files::read`]
    Read,
    /// [`Files::create_temp`]
    CreateTemp,
    /// [`Files::write`]; half of the bytes are written before it fails.
    Write,
    /// [`Files::sync`]
    Sync,
    /// [`Files::rename`]
    Rename,
    /// [`Files::rename_new`]
    RenameNew,
    /// [`Files::link`]
    Link,
    /// [`Files::sync_dir`]
    SyncDir,
    /// [`Files::remove`]
    Remove,
    /// [`Files::list`]
    List,
    /// [`Files::append`]
    Append,
    /// [`Files::within`]; what is done in that directory goes by the same script.
    Within,
}

impl Verb {
    /// Every one.
    pub const ALL: [Self; 12] = [
        Self::Read,
        Self::CreateTemp,
        Self::Write,
        Self::Sync,
        Self::Rename,
        Self::RenameNew,
        Self::Link,
        Self::SyncDir,
        Self::Remove,
        Self::List,
        Self::Append,
        Self::Within,
    ];
}

/// What fails when. Clones share the script; the test keeps one and gives [`FaultyFiles`] another.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    failures: VecDeque<(Verb, io::ErrorKind)>,
    later: Vec<(Verb, usize, io::ErrorKind)>,
    broken: Vec<(Verb, io::ErrorKind)>,
    hanging: Vec<Verb>,
    calls: Vec<Verb>,
    written: u64,
}

impl Script {
    /// The next call of `verb` fails with `kind`, once. Failures of one verb queue up.
    pub fn fail(&self, verb: Verb, kind: io::ErrorKind) {
        self.state(|state| state.failures.push_back((verb, kind)));
    }

    /// After `count` more calls of `verb` that go well, one fails with `kind`.
    pub fn fail_after(&self, verb: Verb, count: usize, kind: io::ErrorKind) {
        self.state(|state| state.later.push((verb, count, kind)));
    }

    /// From now on every call of `verb` fails with `kind`.
    pub fn break_down(&self, verb: Verb, kind: io::ErrorKind) {
        self.state(|state| state.broken.push((verb, kind)));
    }

    /// From now on every call of `verb` hangs until the disk is mended, and is then done.
    pub fn hang(&self, verb: Verb) {
        self.state(|state| state.hanging.push(verb));
    }

    /// From now on nothing fails.
    pub fn mend(&self) {
        self.state(|state| {
            state.failures.clear();
            state.later.clear();
            state.broken.clear();
            state.hanging.clear();
        });
        self.0.1.notify_all();
    }

    /// Every call so far, failed ones included, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Verb> {
        self.state(|state| state.calls.clone())
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.state(|state| state.written)
    }

    fn check(&self, verb: Verb) -> io::Result<()> {
        self.state(|state| state.calls.push(verb));
        let state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = self.0.1.wait_while(state, |state| state.hanging.contains(&verb));
        drop(state.unwrap_or_else(PoisonError::into_inner));
        self.state(|state| {
            if let Some((_, kind)) = state.broken.iter().find(|(broken, _)| *broken == verb) {
                return Err((*kind).into());
            }
            let mut late = None;
            state.later.retain_mut(|(later, left, kind)| {
                let now = *later == verb && *left == 0;
                if now {
                    late.get_or_insert(*kind);
                }
                *left -= usize::from(*later == verb && !now);
                !now
            });
            if let Some(kind) = late {
                return Err(kind.into());
            }
            let due = state.failures.iter().position(|(failing, _)| *failing == verb);
            match due.and_then(|index| state.failures.remove(index)) {
                Some((_, kind)) => Err(kind.into()),
                None => Ok(()),
            }
        })
    }

    fn state<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Real files under a [`Script`]: `Store::open_with(dir, |files| FaultyFiles::new(files, script.clone()))`.
#[derive(Debug)]
pub struct FaultyFiles {
    files: DirFiles,
    script: Script,
}

impl FaultyFiles {
    /// Fails as `script` says.
    #[must_use]
    pub const fn new(files: DirFiles, script: Script) -> Self {
        Self { files, script }
    }
}

impl Files for FaultyFiles {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Contents>> {
        self.script.check(Verb::Read)?;
        self.files.read(name, limit)
    }

    fn create_temp(&self, name: &str) -> io::Result<File> {
        self.script.check(Verb::CreateTemp)?;
        self.files.create_temp(name)
    }

    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        if let Err(error) = self.script.check(Verb::Write) {
            self.files.write(file, &bytes[..bytes.len() / 2])?;
            return Err(error);
        }
        self.script.state(|state| state.written += bytes.len() as u64);
        self.files.write(file, bytes)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.script.check(Verb::Sync)?;
        self.files.sync(file)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.script.check(Verb::Rename)?;
        self.files.rename(from, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.script.check(Verb::RenameNew)?;
        self.files.rename_new(from, to)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.script.check(Verb::Link)?;
        self.files.link(from, to)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.script.check(Verb::SyncDir)?;
        self.files.sync_dir()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.script.check(Verb::Remove)?;
        self.files.remove(name)
    }

    fn list(&self) -> io::Result<Vec<String>> {
        self.script.check(Verb::List)?;
        self.files.list()
    }

    fn append(&self, name: &str) -> io::Result<Growing> {
        self.script.check(Verb::Append)?;
        self.files.append(name)
    }

    fn within(&self, name: &str) -> io::Result<Arc<dyn Files>> {
        self.script.check(Verb::Within)?;
        Ok(Arc::new(Self::new(
            self.files.open_within(name)?,
            self.script.clone(),
        )))
    }
}

//! The power fails at each step, and at each step of the recovery.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use landfast_store::{Contents, DirFiles, Files, Store};
use tempfile::TempDir;

use super::*;
use crate::backup::fixture::write;

/// After so many calls that change something, nothing is changed any more.
#[derive(Debug, Clone)]
pub(in crate::backup) struct PowerCut {
    left: Arc<AtomicU32>,
}

#[derive(Debug)]
pub(in crate::backup) struct Cut(DirFiles, PowerCut);

impl PowerCut {
    pub(in crate::backup) fn after(calls: u32) -> Self {
        let left = Arc::new(AtomicU32::new(calls));
        Self { left }
    }

    pub(in crate::backup) fn over(&self, files: DirFiles) -> Cut {
        Cut(files, self.clone())
    }

    fn pass(&self) -> io::Result<()> {
        let less = |left: u32| left.checked_sub(1);
        match self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
            Ok(_) => Ok(()),
            Err(_) => Err(io::Error::other("the power is gone")),
        }
    }
}

impl Files for Cut {
    fn read(&self, name: &str, limit: u64) -> io::Result<Option<Contents>> {
        self.0.read(name, limit)
    }
    fn create_temp(&self, name: &str) -> io::Result<File> {
        self.1.pass()?;
        self.0.create_temp(name)
    }
    fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
        self.1.pass()?;
        self.0.write(file, bytes)
    }
    fn sync(&self, file: &File) -> io::Result<()> {
        self.1.pass()?;
        self.0.sync(file)
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.1.pass()?;
        self.0.rename(from, to)
    }
    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.1.pass()?;
        self.0.link(from, to)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.1.pass()?;
        self.0.sync_dir()
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.1.pass()?;
        self.0.remove(name)
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }
}

const NOW: UnixTime = UnixTime::from_secs(1_795_420_800);

/// Old data, and new data that is ready.
fn prepared() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "old",
        &[
            "landfast.db",
            "landfast.db-wal",
            "landfast.db-shm",
            "keys/a.key",
            "keys/b.key",
        ],
    );
    let staging = Swap::open(dir.path()).unwrap().prepare().unwrap();
    put(&staging, "new", &["landfast.db", "keys/a.key", "keys/c.key"]);
    dir
}

fn put(dir: &Path, text: &str, names: &[&str]) {
    fs::create_dir_all(dir.join("keys")).unwrap();
    for name in names {
        write(&dir.join(name), text.as_bytes());
    }
}

/// Every file below, with what is in it; a directory of before once.
fn found(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        match path.is_dir() {
            true => found.extend(self::found(&path).iter().map(|below| format!("{name}/{below}"))),
            false => found.push(format!("{name}={}", fs::read_to_string(&path).unwrap())),
        }
    }
    found.sort();
    found
}

const OLD: [&str; 5] = [
    "keys/a.key=old",
    "keys/b.key=old",
    "landfast.db-shm=old",
    "landfast.db-wal=old",
    "landfast.db=old",
];

fn is_old(dir: &Path) -> bool {
    found(dir) == OLD
}

fn is_new(dir: &Path) -> bool {
    let aside = "before-restore-2026-11-23T080000Z";
    let mut all: Vec<_> = OLD.iter().map(|old| format!("{aside}/{old}")).collect();
    all.extend(["keys/a.key=new", "keys/c.key=new", "landfast.db=new"].map(str::to_owned));
    all.sort();
    found(dir) == all
}

/// What every start does.
fn reboot(dir: &Path) {
    let _lock = Store::open(dir).unwrap();
    recover(dir).unwrap();
}

#[test]
fn wherever_the_power_fails_it_is_the_old_or_the_new() {
    let (mut old, mut new) = (0, 0);
    for calls in 0.. {
        let dir = prepared();
        let cut = PowerCut::after(calls);
        let swap = Swap::open_with(dir.path(), |files| cut.over(files)).unwrap();
        let done = swap.commit(NOW);
        if done.is_ok() {
            assert!(is_new(dir.path()));
            break;
        }
        reboot(dir.path());
        match (is_old(dir.path()), is_new(dir.path())) {
            (true, false) => old += 1,
            (false, true) => new += 1,
            _ => panic!("after {calls} calls: {:?}", found(dir.path())),
        }
    }
    assert!(old > 3 && new > 5, "{old} {new}");
}

#[test]
fn so_it_is_when_it_fails_again_while_that_is_mended() {
    for calls in 0..40 {
        for again in 0..40 {
            let dir = prepared();
            let cut = PowerCut::after(calls);
            let swap = Swap::open_with(dir.path(), |files| cut.over(files)).unwrap();
            let decided = match swap.commit(NOW) {
                Ok(_) => return,
                Err(_) => dir.path().join(MARKER).exists(),
            };
            let cut = PowerCut::after(again);
            let swap = Swap::open_with(dir.path(), |files| cut.over(files)).unwrap();
            let ended = swap.finish();
            reboot(dir.path());
            assert!(if decided {
                is_new(dir.path())
            } else {
                is_old(dir.path()) || is_new(dir.path())
            });
            if ended.is_ok() {
                break;
            }
        }
    }
    panic!("it never ended");
}

#[test]
fn a_marker_that_is_none_of_ours_moves_nothing() {
    for marker in ["", "keys", "before-restore-../../x", "/etc"] {
        let dir = prepared();
        write(&dir.path().join(MARKER), marker.as_bytes());
        let before = found(dir.path());
        assert!(recover(dir.path()).is_err(), "{marker}");
        assert_eq!(found(dir.path()), before);
    }
}

#[test]
fn a_second_restoration_in_the_same_second_keeps_what_the_first_left() {
    let dir = prepared();
    let swap = Swap::open(dir.path()).unwrap();
    let first = swap.commit(NOW).unwrap().unwrap();
    let staging = swap.prepare().unwrap();
    put(&staging, "newer", &["landfast.db"]);
    let second = swap.commit(NOW).unwrap().unwrap();
    assert_ne!(first, second);
    assert_eq!(fs::read_to_string(first.join("landfast.db")).unwrap(), "old");
    assert_eq!(fs::read_to_string(second.join("landfast.db")).unwrap(), "new");
    assert_eq!(
        fs::read_to_string(dir.path().join("landfast.db")).unwrap(),
        "newer"
    );
}

#[test]
fn where_nothing_was_nothing_is_kept_aside() {
    let dir = tempfile::tempdir().unwrap();
    let swap = Swap::open(dir.path()).unwrap();
    let staging = swap.prepare().unwrap();
    put(&staging, "new", &["landfast.db", "keys/a.key"]);
    assert_eq!(swap.commit(NOW).unwrap(), None);
    assert_eq!(found(dir.path()), ["keys/a.key=new", "landfast.db=new"]);
}

#[test]
fn where_an_earlier_run_has_put_the_database_is_found() {
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), "old", &["landfast.db"]);
    let swap = Swap::open(dir.path()).unwrap();
    assert_eq!(swap.moved().unwrap(), None);
    swap.put_aside(NOW).unwrap();
    put(dir.path(), "newer", &["landfast.db"]);
    let last = swap
        .put_aside(NOW.saturating_add(Duration::from_secs(1)))
        .unwrap();
    assert_eq!(swap.moved().unwrap(), Some(last));
}

#[test]
fn a_database_that_another_has_taken_over_goes_away_wherever_the_power_fails() {
    for calls in 0..40 {
        let dir = tempfile::tempdir().unwrap();
        put(
            dir.path(),
            "old",
            &["landfast.db", "landfast.db-wal", "keys/a.key"],
        );
        let cut = PowerCut::after(calls);
        let swap = Swap::open_with(dir.path(), |files| cut.over(files)).unwrap();
        let done = swap.put_aside(NOW);
        // At the very end the marker may be gone already, and that not be durable.
        let moved = !dir.path().join("landfast.db").exists();
        let decided = moved || dir.path().join(MOVING).exists();
        recover(dir.path()).unwrap();
        assert_eq!(
            dir.path().join("landfast.db").exists(),
            !decided,
            "after {calls} calls"
        );
        assert_eq!(
            dir.path().join("landfast.db-wal").exists(),
            !decided,
            "after {calls} calls"
        );
        assert!(dir.path().join("keys/a.key").exists() && !dir.path().join(MOVING).exists());
        if let Ok(aside) = done {
            assert_eq!(fs::read_to_string(aside.join("landfast.db")).unwrap(), "old");
            assert!(calls > 5);
            return;
        }
    }
    panic!("it never ended");
}

//! Full disks, torn lines, and files as somebody else would leave them.

use std::fs::{self, Permissions};
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::faulty::{FaultyFiles, Script, Verb};
use crate::{Contents, DirFiles, Files};

const ASIDE: (&str, u64) = ("log.1", 1000);

/// As somebody else would write it, or a power cut leave it.
fn plant(path: impl AsRef<std::path::Path>, text: &str) {
    use std::io::Write as _;
    fs::File::create(path)
        .unwrap()
        .write_all(text.as_bytes())
        .unwrap();
}

struct Place {
    dir: tempfile::TempDir,
    store: Store,
    script: Script,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::default();
        let store = Store::open_with(dir.path(), |files| FaultyFiles::new(files, script.clone())).unwrap();
        Self { dir, store, script }
    }

    fn add(&self, lines: &str) -> Result<(), StoreError> {
        self.store.append("log", lines.as_bytes(), false, ASIDE)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap()
    }
}

#[test]
fn lines_are_added_for_nobody_else_to_read() {
    let place = Place::new();
    place.add("a\n").unwrap();
    place.add("b\nc\n").unwrap();
    assert_eq!(place.text("log"), "a\nb\nc\n");
    let mode = fs::metadata(place.dir.path().join("log"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o7777, 0o600);
    assert!(!place.script.calls().contains(&Verb::Sync));
    place.store.append("log", b"", true, ASIDE).unwrap();
    assert!(place.script.calls().contains(&Verb::Sync));
    assert_eq!(place.text("log"), "a\nb\nc\n");
}

#[test]
fn a_large_one_is_put_aside_once() {
    let place = Place::new();
    let line = |letter: &str| format!("{}\n", letter.repeat(399));
    for letter in ["a", "b"] {
        place.add(&line(letter)).unwrap();
    }
    assert!(!place.dir.path().join("log.1").exists());
    place.add(&line("c")).unwrap();
    assert_eq!(place.text("log.1"), line("a") + &line("b"));
    assert_eq!(place.text("log"), line("c"));
    for letter in ["d", "e"] {
        place.add(&line(letter)).unwrap();
    }
    assert_eq!(place.text("log.1"), line("c") + &line("d"));
    // What was put aside is on disk.
    let calls = place.script.calls();
    let renamed = calls.iter().position(|verb| *verb == Verb::Rename).unwrap();
    assert_eq!(calls[renamed - 1], Verb::Sync);
    // One that is larger than all may be is a file of its own.
    place.add(&"f".repeat(2000)).unwrap();
    assert_eq!(place.text("log").len(), 2000);
}

#[test]
fn a_full_disk_leaves_no_half_of_a_line_and_what_a_power_cut_left_is_ended() {
    let place = Place::new();
    place.add("a\n").unwrap();
    place.script.fail(Verb::Write, ErrorKind::StorageFull);
    assert!(matches!(place.add("bbbb\n"), Err(StoreError::CannotWrite { .. })));
    assert_eq!(place.text("log"), "a\n");
    place.add("c\n").unwrap();
    plant(place.dir.path().join("log"), "a\nc\n{\"to");
    place.add("d\n").unwrap();
    assert_eq!(place.text("log"), "a\nc\n{\"to\nd\n");
}

#[test]
fn each_step_can_fail_and_loses_nothing_that_was_added() {
    let old = "x".repeat(998) + "\n";
    for verb in [Verb::Append, Verb::Write, Verb::Sync, Verb::Rename, Verb::SyncDir] {
        let place = Place::new();
        place.add(&old).unwrap();
        place.script.fail(verb, ErrorKind::ReadOnlyFilesystem);
        place.add("new\n").unwrap_err();
        place.add("new\n").unwrap();
        assert_eq!(
            (place.text("log.1"), place.text("log")),
            (old.clone(), "new\n".to_owned()),
            "{verb:?}"
        );
    }
}

#[test]
fn one_that_was_removed_is_begun_anew() {
    let place = Place::new();
    place.add("a\n").unwrap();
    fs::remove_file(place.dir.path().join("log")).unwrap();
    place.add("b\n").unwrap();
    assert_eq!(place.text("log"), "b\n");
}

#[test]
fn what_is_no_file_of_ours_is_not_written_to() {
    let place = Place::new();
    let (log, other) = (place.dir.path().join("log"), place.dir.path().join("other"));
    plant(&other, "");
    symlink(&other, &log).unwrap();
    assert!(matches!(place.add("a\n"), Err(StoreError::NotAFile { .. })));
    assert_eq!(fs::read_to_string(&other).unwrap(), "");
    fs::remove_file(&log).unwrap();
    fs::create_dir(&log).unwrap();
    place.add("a\n").unwrap_err();
    fs::remove_dir(&log).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &log,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert!(matches!(place.add("a\n"), Err(StoreError::NotAFile { .. })));
    fs::remove_file(&log).unwrap();
    plant(&log, "");
    fs::set_permissions(&log, Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        place.add("a\n"),
        Err(StoreError::TooOpen { mode: 0o640, .. })
    ));
    assert_eq!(fs::read_to_string(&log).unwrap(), "");
}

#[test]
fn a_file_of_another_user_is_not_written_to() {
    /// As the disk would show it; giving files away needs root.
    #[derive(Debug)]
    struct Foreign(DirFiles);
    impl Files for Foreign {
        fn read(&self, name: &str, limit: u64) -> io::Result<Option<Contents>> {
            self.0.read(name, limit)
        }
        fn create_temp(&self, name: &str) -> io::Result<fs::File> {
            self.0.create_temp(name)
        }
        fn write(&self, file: &mut fs::File, bytes: &[u8]) -> io::Result<()> {
            self.0.write(file, bytes)
        }
        fn sync(&self, file: &fs::File) -> io::Result<()> {
            self.0.sync(file)
        }
        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.rename(from, to)
        }
        fn link(&self, from: &str, to: &str) -> io::Result<()> {
            self.0.link(from, to)
        }
        fn sync_dir(&self) -> io::Result<()> {
            self.0.sync_dir()
        }
        fn remove(&self, name: &str) -> io::Result<()> {
            self.0.remove(name)
        }
        fn list(&self) -> io::Result<Vec<String>> {
            self.0.list()
        }
        fn append(&self, name: &str) -> io::Result<Growing> {
            let growing = self.0.append(name)?;
            let owner = growing.owner + 1;
            Ok(Growing { owner, ..growing })
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open_with(dir.path(), Foreign).unwrap();
    let refused = store.append("log", b"a\n", false, ASIDE);
    assert!(matches!(refused, Err(StoreError::ForeignFile { .. })));
    assert_eq!(fs::read_to_string(dir.path().join("log")).unwrap(), "");
}

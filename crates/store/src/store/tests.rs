//! A disk that refuses at every step, and directories and files as an attacker or a careless copy would leave them.

use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;
use crate::faulty::{FaultyFiles, Script, Verb};

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn chmod(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Writes as somebody would who does not use the store.
fn plant(path: &Path, bytes: &[u8], mode: u32) {
    use std::io::Write as _;
    File::create(path).unwrap().write_all(bytes).unwrap();
    chmod(path, mode);
}

fn faulty(dir: &Path) -> (Store, Script) {
    let script = Script::default();
    let store = Store::open_with(dir, |files| FaultyFiles::new(files, script.clone())).unwrap();
    (store, script)
}

fn content(store: &Store, name: &str) -> Vec<u8> {
    store.read(name).unwrap().unwrap().to_vec()
}

#[test]
fn a_missing_directory_is_made_for_the_owner_alone() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("var/agent");
    let store = Store::open(&dir).unwrap();
    assert_eq!(mode(&dir), 0o700);
    assert_eq!(store.path(), dir);
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
}

#[test]
fn what_is_written_is_read_and_belongs_to_the_owner_alone() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    store.replace("key", b"one").unwrap();
    store.replace("key", b"two").unwrap();
    store.create("certificate", b"three").unwrap();
    assert_eq!(content(&store, "key"), b"two");
    assert_eq!(content(&store, "certificate"), b"three");
    assert_eq!(mode(&root.path().join("key")), 0o600);
    assert_eq!(mode(&root.path().join("certificate")), 0o600);
    assert_eq!(store.list().unwrap(), ["certificate", "key"]);
    assert_eq!(
        std::fs::read_dir(root.path()).unwrap().count(),
        2,
        "no temporary file stays"
    );
    assert!(store.read("other").unwrap().is_none());
}

#[test]
fn bytes_are_on_disk_before_they_get_their_name() {
    let root = tempfile::tempdir().unwrap();
    let (store, script) = faulty(root.path());
    store.replace("key", b"one").unwrap();
    let order = [
        Verb::List,
        Verb::CreateTemp,
        Verb::Write,
        Verb::Sync,
        Verb::Rename,
        Verb::SyncDir,
    ];
    assert_eq!(script.calls(), order);
}

#[test]
fn a_failed_write_keeps_the_old_content_and_leaves_nothing_behind() {
    for verb in [Verb::CreateTemp, Verb::Write, Verb::Sync, Verb::Rename] {
        let root = tempfile::tempdir().unwrap();
        let (store, script) = faulty(root.path());
        store.replace("key", b"the old key").unwrap();
        script.fail(verb, ErrorKind::StorageFull);
        let error = store.replace("key", b"the new key").unwrap_err();
        assert!(
            matches!(error, StoreError::CannotWrite { .. }),
            "{verb:?}: {error:?}"
        );
        assert!(
            error
                .to_string()
                .contains(root.path().join("key").to_str().unwrap())
        );
        assert_eq!(content(&store, "key"), b"the old key", "{verb:?}");
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "{verb:?}");
        store.replace("key", b"the new key").unwrap();
        assert_eq!(content(&store, "key"), b"the new key", "{verb:?}");
    }
}

#[test]
fn a_failed_directory_sync_says_that_the_write_may_be_undone() {
    let root = tempfile::tempdir().unwrap();
    let (store, script) = faulty(root.path());
    store.replace("key", b"old").unwrap();
    script.fail(Verb::SyncDir, ErrorKind::Other);
    assert!(matches!(
        store.replace("key", b"new"),
        Err(StoreError::NotDurable { .. })
    ));
    assert_eq!(content(&store, "key"), b"new");
    script.fail(Verb::SyncDir, ErrorKind::Other);
    assert!(matches!(store.remove("key"), Err(StoreError::NotDurable { .. })));
    assert!(store.read("key").unwrap().is_none());
}

#[test]
fn a_failed_create_makes_nothing() {
    for verb in [Verb::CreateTemp, Verb::Write, Verb::Sync, Verb::Link] {
        let root = tempfile::tempdir().unwrap();
        let (store, script) = faulty(root.path());
        script.fail(verb, ErrorKind::StorageFull);
        assert!(
            matches!(store.create("key", b"k"), Err(StoreError::CannotWrite { .. })),
            "{verb:?}"
        );
        assert!(store.read("key").unwrap().is_none());
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0, "{verb:?}");
    }
}

#[test]
fn failures_of_the_other_verbs_are_reported() {
    let root = tempfile::tempdir().unwrap();
    let (store, script) = faulty(root.path());
    store.replace("key", b"k").unwrap();
    script.fail(Verb::Read, ErrorKind::Other);
    assert!(matches!(store.read("key"), Err(StoreError::CannotRead { .. })));
    script.fail(Verb::Remove, ErrorKind::PermissionDenied);
    assert!(matches!(
        store.remove("key"),
        Err(StoreError::CannotRemove { .. })
    ));
    script.fail(Verb::List, ErrorKind::Other);
    assert!(matches!(store.list(), Err(StoreError::Directory { .. })));
    assert_eq!(content(&store, "key"), b"k");
}

#[test]
fn a_temporary_file_that_cannot_be_removed_goes_at_the_next_start() {
    let root = tempfile::tempdir().unwrap();
    let (store, script) = faulty(root.path());
    script.fail(Verb::Sync, ErrorKind::StorageFull);
    script.fail(Verb::Remove, ErrorKind::Other);
    assert!(store.replace("key", b"secret").is_err());
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
    drop(store);
    Store::open(root.path()).unwrap();
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
}

#[test]
fn a_disk_that_takes_no_change_is_read_whatever_an_interrupted_write_left() {
    let root = tempfile::tempdir().unwrap();
    let (store, script) = faulty(root.path());
    store.replace("key", b"secret").unwrap();
    script.fail(Verb::Sync, ErrorKind::StorageFull);
    script.fail(Verb::Remove, ErrorKind::Other);
    store.replace("key", b"other").unwrap_err();
    drop(store);
    script.break_down(Verb::Remove, ErrorKind::ReadOnlyFilesystem);
    let store = Store::open_with(root.path(), |files| FaultyFiles::new(files, script)).unwrap();
    assert_eq!(content(&store, "key"), b"secret");
}

#[test]
fn several_files_are_as_durable_as_one_and_the_directory_is_written_once() {
    let root = tempfile::tempdir().unwrap();
    let (store, script) = faulty(root.path());
    store
        .replace_all(&[("a", b"1"), ("b", b"2"), ("c", b"3")])
        .unwrap();
    let calls = script.calls();
    let of = |verb| calls.iter().filter(|call| **call == verb).count();
    assert_eq!((of(Verb::Sync), of(Verb::Rename), of(Verb::SyncDir)), (3, 3, 1));
    assert_eq!(calls.last(), Some(&Verb::SyncDir));
    script.fail_after(Verb::Write, 1, ErrorKind::StorageFull);
    store
        .replace_all(&[("a", b"4"), ("b", b"5"), ("c", b"6")])
        .unwrap_err();
    let now = ["a", "b", "c"].map(|name| content(&store, name));
    assert_eq!(now, [b"4", b"2", b"3"]);
    script.fail(Verb::SyncDir, ErrorKind::Other);
    let undurable = store.replace_all(&[("a", b"7")]);
    assert!(matches!(undurable, Err(StoreError::NotDurable { .. })));
    script.fail(Verb::Remove, ErrorKind::Other);
    let kept = store.remove_all(&["a", "b", "missing"]).unwrap_err();
    assert!(matches!(kept, StoreError::CannotRemove { .. }));
    assert_eq!(store.list().unwrap(), ["a", "c"], "one that stays keeps no other");
    store.remove_all(&["a", "c"]).unwrap();
    assert_eq!(store.list().unwrap(), Vec::<String>::new());
}

#[test]
fn create_refuses_to_overwrite() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    store.create("key", b"first").unwrap();
    assert!(matches!(
        store.create("key", b"second"),
        Err(StoreError::Exists { .. })
    ));
    assert!(matches!(
        store.create_idempotent("key", b"second"),
        Err(StoreError::Exists { .. })
    ));
    store.create_idempotent("key", b"first").unwrap();
    assert_eq!(content(&store, "key"), b"first");
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
}

#[test]
fn remove_is_content_with_nothing_to_do() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    store.remove("key").unwrap();
    store.replace("key", b"k").unwrap();
    store.remove("key").unwrap();
    assert!(store.read("key").unwrap().is_none());
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    for bits in [0o777, 0o770, 0o1777, 0o722] {
        let root = tempfile::tempdir().unwrap();
        chmod(root.path(), bits);
        let error = Store::open(root.path()).unwrap_err();
        assert!(
            matches!(error, StoreError::WritableDirectory { mode, .. } if mode == bits),
            "{error:?}"
        );
        assert!(error.to_string().contains("chmod go-w"));
        chmod(root.path(), 0o755);
        Store::open(root.path()).unwrap();
    }
}

#[test]
fn a_directory_of_another_user_is_refused() {
    // As root: one we give away. As anybody else: root's.
    let root = tempfile::tempdir().unwrap();
    let as_root = rustix::process::geteuid().is_root();
    let dir = if as_root { root.path() } else { Path::new("/") };
    if as_root {
        std::os::unix::fs::chown(dir, Some(12345), None).unwrap();
    }
    assert!(matches!(
        Store::open(dir),
        Err(StoreError::ForeignDirectory { .. })
    ));
}

#[test]
fn a_directory_in_use_is_refused_until_its_last_clone_is_gone() {
    let root = tempfile::tempdir().unwrap();
    let first = Store::open(root.path()).unwrap();
    let clone = first.clone();
    drop(first);
    assert!(matches!(Store::open(root.path()), Err(StoreError::InUse { .. })));
    drop(clone);
    Store::open(root.path()).unwrap();
}

/// As a child has it that another thread is starting: a copy of the descriptor.
#[test]
fn a_copy_of_the_lock_in_a_child_keeps_nobody_out() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let child = store.inner.lock.try_clone().unwrap();
    drop(store);
    Store::open(root.path()).unwrap();
    drop(child);
}

#[test]
fn a_file_in_the_directorys_place_is_refused() {
    let root = tempfile::tempdir().unwrap();
    plant(&root.path().join("file"), b"", 0o600);
    assert!(matches!(
        Store::open(&root.path().join("file")),
        Err(StoreError::Directory { .. })
    ));
}

#[test]
fn a_link_is_never_followed() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("store");
    let store = Store::open(&dir).unwrap();
    let outside = root.path().join("outside");
    plant(&outside, b"theirs", 0o600);
    symlink(&outside, dir.join("key")).unwrap();
    assert!(matches!(store.read("key"), Err(StoreError::NotAFile { .. })));
    assert!(matches!(
        store.create("key", b"ours"),
        Err(StoreError::Exists { .. })
    ));
    store.replace("key", b"ours").unwrap();
    assert_eq!(content(&store, "key"), b"ours");
    assert_eq!(std::fs::read(&outside).unwrap(), b"theirs");
}

#[test]
fn what_is_not_a_regular_file_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    std::fs::create_dir(root.path().join("directory")).unwrap();
    rustix::fs::mkfifoat(
        rustix::fs::CWD,
        root.path().join("pipe"),
        rustix::fs::Mode::from_raw_mode(0o600),
    )
    .unwrap();
    assert!(matches!(
        store.read("directory"),
        Err(StoreError::NotAFile { .. })
    ));
    assert!(matches!(store.read("pipe"), Err(StoreError::NotAFile { .. })));
}

#[test]
fn a_file_that_others_may_read_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    for bits in [0o640, 0o604, 0o620, 0o601] {
        plant(&root.path().join("key"), b"k", bits);
        let error = store.read("key").unwrap_err();
        assert!(
            matches!(error, StoreError::TooOpen { mode, .. } if mode == bits),
            "{error:?}"
        );
        assert!(error.to_string().contains("chmod 600"));
    }
    chmod(&root.path().join("key"), 0o400);
    assert_eq!(content(&store, "key"), b"k");
}

#[test]
fn a_file_of_another_user_is_refused() {
    /// As the disk would show it; giving files away needs root.
    #[derive(Debug)]
    struct Foreign(DirFiles);
    impl Files for Foreign {
        fn read(&self, name: &str, limit: u64) -> io::Result<Option<crate::Contents>> {
            Ok(self.0.read(name, limit)?.map(|found| crate::Contents {
                owner: found.owner + 1,
                ..found
            }))
        }
        fn create_temp(&self, name: &str) -> io::Result<File> {
            self.0.create_temp(name)
        }
        fn write(&self, file: &mut File, bytes: &[u8]) -> io::Result<()> {
            self.0.write(file, bytes)
        }
        fn sync(&self, file: &File) -> io::Result<()> {
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
    }
    let root = tempfile::tempdir().unwrap();
    let store = Store::open_with(root.path(), Foreign).unwrap();
    store.replace("key", b"k").unwrap();
    assert!(matches!(store.read("key"), Err(StoreError::ForeignFile { .. })));
}

#[test]
fn a_file_larger_than_the_bound_is_neither_read_nor_written() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    let path = root.path().join("key");
    plant(&path, b"", 0o600);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(MAX_FILE_BYTES).unwrap();
    assert_eq!(content(&store, "key").len() as u64, MAX_FILE_BYTES);
    file.set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(matches!(store.read("key"), Err(StoreError::TooLarge { .. })));
    let large = vec![0; usize::try_from(MAX_FILE_BYTES).unwrap() + 1];
    assert!(matches!(
        store.replace("other", &large),
        Err(StoreError::TooLarge { .. })
    ));
}

#[test]
fn a_name_is_one_visible_path_component() {
    let root = tempfile::tempdir().unwrap();
    let store = Store::open(root.path()).unwrap();
    for name in [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "/etc/passwd",
        "a\0b",
        &"x".repeat(201),
    ] {
        assert!(
            matches!(store.read(name), Err(StoreError::BadName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(store.replace(name, b""), Err(StoreError::BadName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(store.create(name, b""), Err(StoreError::BadName { .. })),
            "{name:?}"
        );
        assert!(
            matches!(store.remove(name), Err(StoreError::BadName { .. })),
            "{name:?}"
        );
    }
}

#[test]
fn a_directory_that_was_removed_or_replaced_is_not_there_any_more() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("dir");
    let store = Store::open(&dir).unwrap();
    assert!(store.is_there());
    let aside = root.path().join("aside");
    std::fs::rename(&dir, &aside).unwrap();
    assert!(!store.is_there());
    std::fs::create_dir(&dir).unwrap();
    assert!(!store.is_there(), "another of the same name");
    std::fs::remove_dir(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    assert!(store.is_there());
}

//! A disk that refuses at every step, and what readers find then.

use std::io::ErrorKind;
use std::os::unix::fs::symlink;

use super::*;
use crate::faulty::{FaultyFiles, Script, Verb};

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap();
    entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_written_is_for_all_to_read() {
    let root = tempfile::tempdir().unwrap();
    std::fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
    let path = root.path().join("bundle.json");
    let file = PublicFile::open(&path).unwrap();
    assert_eq!(file.read().unwrap(), None);
    file.replace(b"one").unwrap();
    file.replace(b"two").unwrap();
    assert_eq!(file.read().unwrap().unwrap(), b"two");
    assert_eq!(
        (mode(&path), names(root.path())),
        (0o644, vec!["bundle.json".to_owned()])
    );
}

#[test]
fn a_disk_that_fails_leaves_the_old_content_whole() {
    for verb in [Verb::CreateTemp, Verb::Write, Verb::Sync, Verb::Rename] {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("bundle.json");
        let script = Script::default();
        let file = PublicFile::open_with(&path, |files| FaultyFiles::new(files, script.clone())).unwrap();
        file.replace(b"old").unwrap();
        script.fail(verb, ErrorKind::StorageFull);
        let refused = file.replace(b"new").unwrap_err();
        assert!(
            matches!(refused, StoreError::CannotWrite { .. }),
            "{verb:?}: {refused:?}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), b"old", "{verb:?}");
        assert_eq!(
            names(root.path()),
            ["bundle.json"],
            "{verb:?}: nothing stays behind"
        );
        file.replace(b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new", "{verb:?}");
    }
}

#[test]
fn the_content_and_then_the_name_reach_the_disk() {
    let root = tempfile::tempdir().unwrap();
    let script = Script::default();
    let path = root.path().join("bundle.json");
    let file = PublicFile::open_with(&path, |files| FaultyFiles::new(files, script.clone())).unwrap();
    file.replace(b"one").unwrap();
    assert_eq!(
        script.calls(),
        [
            Verb::List,
            Verb::CreateTemp,
            Verb::Write,
            Verb::Sync,
            Verb::Rename,
            Verb::SyncDir
        ]
    );
    script.fail(Verb::SyncDir, ErrorKind::Other);
    let doubtful = file.replace(b"two").unwrap_err();
    assert!(matches!(doubtful, StoreError::NotDurable { .. }), "{doubtful:?}");
}

#[test]
fn leftovers_of_the_dead_are_removed_and_those_of_the_living_are_not() {
    let root = tempfile::tempdir().unwrap();
    // The largest process ID there can be is 4194304.
    let (dead, alive) = (".b.4194999.0.tmp", format!(".b.{}.7.tmp", std::process::id()));
    for name in [dead, &alive, ".c.4194999.0.tmp", ".b.x.tmp"] {
        std::fs::File::create(root.path().join(name)).unwrap();
    }
    PublicFile::open(&root.path().join("b")).unwrap();
    let mut left = names(root.path());
    left.sort();
    let mut kept = vec![".b.x.tmp".to_owned(), ".c.4194999.0.tmp".to_owned(), alive];
    kept.sort();
    assert_eq!(left, kept);
}

#[test]
fn what_is_no_file_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let at = |name: &str| root.path().join(name);
    symlink("elsewhere", at("link")).unwrap();
    std::fs::create_dir(at("dir")).unwrap();
    assert!(matches!(
        PublicFile::open(&at("link")).unwrap().read(),
        Err(StoreError::CannotRead { .. })
    ));
    assert!(matches!(
        PublicFile::open(&at("dir")).unwrap().read(),
        Err(StoreError::NotAFile { .. } | StoreError::CannotRead { .. })
    ));
    assert!(matches!(
        PublicFile::open(&at("missing/bundle.json")),
        Err(StoreError::Directory { .. })
    ));
    assert!(matches!(
        PublicFile::open(Path::new("/")),
        Err(StoreError::BadName { .. })
    ));
}

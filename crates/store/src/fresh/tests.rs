//! A file that is begun and not ended leaves nothing.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use crate::faulty::{FaultyFiles, Script, Verb};
use crate::{FreshFile, StoreError};

#[test]
fn it_has_its_name_when_it_is_whole_and_nobody_else_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plant.backup");
    let mut file = FreshFile::begin(&path).unwrap();
    file.write(b"____ and more").unwrap();
    file.overwrite(0, b"size").unwrap();
    file.write(b", then the end").unwrap();
    assert!(!path.exists(), "not yet");
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"size and more, then the end");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside it");
}

#[test]
fn what_has_the_name_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plant.backup");
    let begun_before = FreshFile::begin(&path).unwrap();
    fs::File::create(&path).unwrap();
    for refused in [FreshFile::begin(&path).map(drop), begun_before.commit()] {
        assert!(matches!(refused, Err(StoreError::Exists { .. })), "{refused:?}");
    }
    let dangling = dir.path().join("dangling");
    symlink("nowhere", &dangling).unwrap();
    let refused = FreshFile::begin(&dangling).unwrap_err();
    assert!(matches!(refused, StoreError::Exists { .. }), "{refused:?}");
    assert_eq!(fs::metadata(&path).unwrap().len(), 0);
}

#[test]
fn of_two_that_are_begun_at_once_the_first_that_is_whole_has_the_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.key");
    let names = || fs::read_dir(dir.path()).unwrap().count();
    for _ in 0..20 {
        let barrier = std::sync::Barrier::new(4);
        let write = |text: &'static [u8]| {
            let mut file = FreshFile::begin(&path).unwrap();
            file.write(text).unwrap();
            barrier.wait();
            file.commit().map(|()| text)
        };
        let done: Vec<_> = std::thread::scope(|scope| {
            let texts: [&'static [u8]; 4] = [b"a", b"b", b"c", b"d"];
            let begun = texts.map(|text| scope.spawn(move || write(text)));
            begun.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let won: Vec<_> = done.iter().flatten().collect();
        assert_eq!(won.len(), 1, "{done:?}");
        assert_eq!(fs::read(&path).unwrap(), *won[0]);
        for lost in done.iter().filter_map(|done| done.as_ref().err()) {
            assert!(matches!(lost, StoreError::Exists { .. }), "{lost:?}");
        }
        assert_eq!(names(), 1);
        fs::remove_file(&path).unwrap();
    }
}

/// A key that is moved to a safe is nowhere else: a link would be, where the power is cut before the first name is gone.
#[test]
fn it_is_named_in_one_step_where_that_can_be_had() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.key");
    let script = Script::default();
    let file = FreshFile::begin_with(&path, |files| FaultyFiles::new(files, script.clone())).unwrap();
    file.commit().unwrap();
    let calls = script.calls();
    assert!(calls.contains(&Verb::RenameNew), "{calls:?}");
    for other in [Verb::Link, Verb::Rename, Verb::Remove] {
        assert!(!calls.contains(&other), "{calls:?}");
    }
}

#[test]
fn a_second_name_that_stays_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("root.key");
    let script = Script::default();
    script.fail(Verb::RenameNew, ErrorKind::InvalidInput);
    script.break_down(Verb::Remove, ErrorKind::PermissionDenied);
    let mut file = FreshFile::begin_with(&path, |files| FaultyFiles::new(files, script.clone())).unwrap();
    file.write(b"key").unwrap();
    let said = file.commit().unwrap_err();
    let StoreError::TwoNames { other, .. } = &said else {
        panic!("{said:?}")
    };
    for name in [&path, other] {
        assert_eq!(fs::read(name).unwrap(), b"key");
        assert!(said.to_string().contains(&name.display().to_string()), "{said}");
    }
    assert_ne!(*other, path);
}

#[test]
fn without_a_rename_that_replaces_nothing_it_is_linked_and_the_name_of_others_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plant.backup");
    let script = Script::default();
    script.break_down(Verb::RenameNew, ErrorKind::InvalidInput);
    let begin = || FreshFile::begin_with(&path, |files| FaultyFiles::new(files, script.clone())).unwrap();
    let (mut first, second) = (begin(), begin());
    first.write(b"first").unwrap();
    first.commit().unwrap();
    assert!(matches!(second.commit(), Err(StoreError::Exists { .. })));
    assert_eq!(fs::read(&path).unwrap(), b"first");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn a_file_system_without_links_is_written_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plant.backup");
    let script = Script::default();
    script.fail(Verb::RenameNew, ErrorKind::InvalidInput);
    script.fail(Verb::Link, ErrorKind::PermissionDenied);
    let mut file = FreshFile::begin_with(&path, |files| FaultyFiles::new(files, script.clone())).unwrap();
    file.write(b"bytes").unwrap();
    file.commit().unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn whatever_the_disk_refuses_nothing_is_left() {
    for verb in [
        Verb::Read,
        Verb::CreateTemp,
        Verb::Write,
        Verb::Sync,
        Verb::Rename,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plant.backup");
        let script = Script::default();
        if verb == Verb::Rename {
            script.fail(Verb::RenameNew, ErrorKind::InvalidInput);
            script.fail(Verb::Link, ErrorKind::PermissionDenied);
        }
        script.fail(verb, ErrorKind::StorageFull);
        let written = FreshFile::begin_with(&path, |files| FaultyFiles::new(files, script.clone())).and_then(
            |mut file| {
                file.write(b"bytes")?;
                file.commit()
            },
        );
        assert!(written.is_err(), "{verb:?}");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "{verb:?}");
    }
}

#[test]
fn a_directory_that_does_not_reach_the_disk_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("plant.backup");
    let script = Script::default();
    script.fail(Verb::SyncDir, ErrorKind::Other);
    let file = FreshFile::begin_with(&path, |files| FaultyFiles::new(files, script.clone())).unwrap();
    assert!(matches!(file.commit(), Err(StoreError::NotDurable { .. })));
    assert!(path.exists());
}

//! What a thief, a bad disk and a wrong file get: nothing, and a word about it.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::StoreError;

fn key(dir: &std::path::Path, name: &str) -> Arc<FileSealKey> {
    let path = dir.join(name);
    Arc::new(FileSealKey::create(&path).unwrap())
}

fn sealer(key: &Arc<FileSealKey>) -> Sealer {
    Sealer::new(Arc::clone(key) as Arc<dyn SealKey>, "cache", "plant.test")
}

#[test]
fn what_is_sealed_is_opened_with_the_key_read_again_and_tells_nothing_without() {
    let dir = tempfile::tempdir().unwrap();
    let made = key(dir.path(), "key");
    let plain = b"the private key of the collector".repeat(20);
    let sealed = sealer(&made).seal("svid-1", &plain).unwrap();
    let read = Arc::new(FileSealKey::open(&dir.path().join("key")).unwrap().unwrap());
    assert_eq!(read.id(), made.id());
    assert_eq!(sealer(&read).open("svid-1", &sealed).unwrap().as_slice(), plain);
    assert!(
        !sealed
            .windows(8)
            .any(|part| plain.windows(8).any(|of| of == part))
    );
    let again = sealer(&made).seal("svid-1", &plain).unwrap();
    assert_ne!(again, sealed, "a salt of its own each time");
    assert_eq!(sealed_under(&sealed), Ok(made.id()));
    let mode = fs::metadata(dir.path().join("key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!format!("{made:?}").contains("secret"), "{made:?}");
}

#[test]
fn every_byte_flipped_and_every_length_cut_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let sealer = sealer(&key(dir.path(), "key"));
    let sealed = sealer.seal("index.a", &[7; 300]).unwrap();
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut bad = sealed.clone();
            bad[at] ^= 1 << bit;
            sealer.open("index.a", &bad).unwrap_err();
        }
        sealer.open("index.a", &sealed[..at]).unwrap_err();
    }
    let longer = [sealed.as_slice(), b"\0"].concat();
    assert_eq!(sealer.open("index.a", &longer).unwrap_err(), SealError::Broken);
    sealer.open("index.a", &sealed).unwrap();
}

#[test]
fn it_says_whether_key_file_or_format_is_another() {
    let dir = tempfile::tempdir().unwrap();
    let (one, two) = (key(dir.path(), "one"), key(dir.path(), "two"));
    let sealed = sealer(&one).seal("svid-1", b"x").unwrap();
    let other_key = SealError::OtherKey {
        found: one.id(),
        ours: two.id(),
    };
    assert_eq!(sealer(&two).open("svid-1", &sealed).unwrap_err(), other_key);
    assert_eq!(
        sealer(&one).open("svid-2", &sealed).unwrap_err(),
        SealError::Broken
    );
    for (purpose, realm) in [
        ("journal", "plant.test"),
        ("cache", "plant.tes"),
        ("cachep", "lant.test"),
    ] {
        let other = Sealer::new(one.clone(), purpose, realm);
        assert_eq!(other.open("svid-1", &sealed).unwrap_err(), SealError::Broken);
    }
    let mut later = sealed.clone();
    later[MAGIC.len()] = 2;
    assert_eq!(
        sealer(&one).open("svid-1", &later).unwrap_err(),
        SealError::UnknownFormat(2)
    );
    for foreign in [&b""[..], b"LFSEAL\0", b"{\"version\":1}", &[0; 512]] {
        assert_eq!(
            sealer(&one).open("svid-1", foreign).unwrap_err(),
            SealError::NotSealed
        );
    }
}

#[test]
fn a_key_file_is_a_key_or_damaged_and_never_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("key");
    assert!(FileSealKey::open(&path).unwrap().is_none());
    assert!(
        FileSealKey::open(&dir.path().join("not/mounted"))
            .unwrap()
            .is_none()
    );
    key(dir.path(), "key");
    let whole = fs::read(&path).unwrap();
    let damaged = |bytes: &[u8]| {
        fs::File::create(&path).unwrap().write_all(bytes).unwrap();
        matches!(FileSealKey::open(&path), Err(SealKeyError::Damaged { .. }))
    };
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 1;
        assert!(damaged(&bad), "byte {at}");
        assert!(damaged(&whole[..at]), "cut at {at}");
    }
    assert!(damaged(&[whole.as_slice(), b"\n"].concat()));
    assert!(!damaged(&whole));
    // What is there is not replaced, and what others may read is no secret.
    assert!(matches!(
        FileSealKey::create(&path),
        Err(SealKeyError::Store(StoreError::Exists { .. }))
    ));
    assert_eq!(fs::read(&path).unwrap(), whole);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        FileSealKey::open(&path),
        Err(SealKeyError::Store(StoreError::TooOpen { .. }))
    ));
}

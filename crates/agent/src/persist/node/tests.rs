//! What a disk may do to the node's own keys.

use landfast_store::{Store, faulty};

use super::super::tests::{agent, write};
use super::*;
use crate::testing::td;

/// Harmed like that, most of it is a certificate still, of another node.
#[test]
fn no_letter_of_the_identity_can_be_another_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.save_identity(&agent()).unwrap();
    let good = files.read(IDENTITY).unwrap().unwrap().to_vec();
    for byte in 0..good.len() {
        let mut harmed = good.clone();
        harmed[byte] ^= 1;
        write(dir.path(), IDENTITY, &harmed);
        let read = files.identity();
        assert!(
            matches!(read, Err(PersistError::Damaged { .. })),
            "byte {byte}: {read:?}"
        );
    }
    // As it was written before there was a digest.
    let mut before: serde_json::Value = serde_json::from_slice(&good).unwrap();
    assert!(before.as_object_mut().unwrap().remove("digest").is_some());
    write(dir.path(), IDENTITY, before.to_string().as_bytes());
    assert!(files.identity().unwrap().is_some());
}

/// Each request waits for it: a node that did not ask would need a person.
#[test]
fn a_damaged_pending_key_is_another_one_from_then_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    let key = || files.pending_key(None, KeyType::EcP256).unwrap().public_key();
    let first = key();
    let good = std::fs::read(dir.path().join(PENDING)).unwrap();
    assert_eq!(key(), first, "the positive control");
    for byte in 0..good.len() {
        let mut harmed = good.clone();
        harmed[byte] ^= 1;
        write(dir.path(), PENDING, &harmed);
        let asked = key();
        assert_ne!(asked, first, "byte {byte}");
        assert_eq!(key(), asked, "it is on disk");
    }
}

#[test]
fn a_pending_key_on_a_disk_that_does_not_read_is_not_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let script = faulty::Script::default();
    let disk = script.clone();
    let store = Store::open_with(dir.path(), |files| faulty::FaultyFiles::new(files, disk)).unwrap();
    let files = NodeFiles::over(store, &td());
    let first = files.pending_key(None, KeyType::EcP256).unwrap().public_key();
    script.break_down(faulty::Verb::Read, std::io::ErrorKind::Other);
    let refused = files.pending_key(None, KeyType::EcP256).unwrap_err();
    assert!(matches!(refused, PersistError::Store { .. }), "{refused:?}");
    script.mend();
    let again = files.pending_key(None, KeyType::EcP256).unwrap().public_key();
    assert_eq!(again, first);
}

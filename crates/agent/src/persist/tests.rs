//! What is kept, and what happens when it is damaged.

use std::os::unix::fs::PermissionsExt as _;

use landfast_identity::KeyType;
use landfast_store::faulty;

use super::node::PendingFile;
use super::*;
use crate::testing::{Ca, at, id, td};

fn node(path: &str) -> NodeIdentity {
    let svid = Ca::new("one").svid(&id(path), at(-60), at(3600));
    NodeIdentity {
        key: Arc::clone(svid.key()),
        svid,
        reattestable: true,
    }
}

pub(super) fn agent() -> NodeIdentity {
    node("/spire/agent/join_token/x")
}

#[expect(clippy::disallowed_methods, reason = "a test's own damage")]
pub(super) fn write(dir: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(dir.join(name), bytes).unwrap();
    std::fs::set_permissions(dir.join(name), std::fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn an_identity_comes_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let saved = agent();
    {
        let files = NodeFiles::open(dir.path(), &td()).unwrap();
        assert!(files.identity().unwrap().is_none());
        files.save_identity(&saved).unwrap();
    }
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    let loaded = files.identity().unwrap().unwrap();
    assert_eq!(loaded.svid.serial_hex(), saved.svid.serial_hex());
    assert_eq!(loaded.key.public_key(), saved.key.public_key());
    assert!(loaded.reattestable);
}

#[test]
fn a_key_that_was_shown_to_the_server_is_used_again_until_an_answer_is_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let first = {
        let files = NodeFiles::open(dir.path(), &td()).unwrap();
        files.pending_key(None, KeyType::EcP256).unwrap().public_key()
    };
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    assert_eq!(
        files.pending_key(None, KeyType::EcP256).unwrap().public_key(),
        first,
        "after a restart too (T-13)"
    );
    files.save_identity(&agent()).unwrap();
    assert_ne!(
        files.pending_key(None, KeyType::EcP256).unwrap().public_key(),
        first,
        "a new one for each SVID"
    );
}

#[test]
fn a_pending_key_left_over_from_an_adoption_is_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    let current = agent();
    files
        .write(
            PENDING,
            &PendingFile {
                version: VERSION,
                key: BASE64.encode(current.key.as_pkcs8_der()),
            },
        )
        .unwrap();
    assert_ne!(
        files
            .pending_key(Some(&current), KeyType::EcP256)
            .unwrap()
            .public_key(),
        current.key.public_key()
    );
}

#[test]
fn damaged_files_are_refused_by_name_and_left_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.save_identity(&agent()).unwrap();
    let good = files.read(IDENTITY).unwrap().unwrap().to_vec();
    let swap = |name: &str, value: serde_json::Value| {
        let mut file: serde_json::Value = serde_json::from_slice(&good).unwrap();
        file[name] = value;
        file.to_string().into_bytes()
    };
    let other = BASE64.encode(PrivateKey::generate().unwrap().as_pkcs8_der());
    let damages: Vec<Vec<u8>> = vec![
        Vec::new(),
        good[..good.len() / 2].to_vec(),
        b"garbage".to_vec(),
        swap("version", 2.into()),
        swap("key", "not base64!".into()),
        swap("key", BASE64.encode("no key").into()),
        swap("key", other.into()),
        swap("chain", "no PEM".into()),
        swap("unknown", 1.into()),
    ];
    for damage in damages {
        write(dir.path(), IDENTITY, &damage);
        let error = files.identity().unwrap_err();
        assert!(matches!(error, PersistError::Damaged { .. }), "{error:?}");
        assert!(error.to_string().contains(IDENTITY), "{error}");
        assert_eq!(
            *files.read(IDENTITY).unwrap().unwrap(),
            damage,
            "left for the operator"
        );
    }
    write(dir.path(), IDENTITY, &good);
    assert!(files.identity().unwrap().is_some(), "the positive control");
}

#[test]
fn a_damaged_bundle_or_revision_is_refused_too() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    write(dir.path(), BUNDLE, b"{}");
    assert!(matches!(files.bundle("x"), Err(PersistError::Damaged { .. })));
    let ca = Ca::new("one");
    files.save_bundle(&ca.bundle(), "x").unwrap();
    assert_eq!(
        files.bundle("x").unwrap(),
        Some(ca.bundle()),
        "the positive control"
    );
    let good = std::fs::read(dir.path().join(BUNDLE)).unwrap();
    for byte in 0..good.len() {
        // A letter for another letter: most of these are JSON still, and some of them certificates.
        let mut harmed = good.clone();
        harmed[byte] ^= 1;
        write(dir.path(), BUNDLE, &harmed);
        let read = files.bundle("x");
        assert!(
            matches!(read, Err(PersistError::Damaged { .. })),
            "byte {byte}: {read:?}"
        );
    }
    for bad in [
        &b""[..],
        b"{}",
        br#"{"version":1,"bootstrap":"x","epoch":-1,"number":2}"#,
    ] {
        write(dir.path(), REVISION, bad);
        assert!(matches!(files.revision("x"), Err(PersistError::Damaged { .. })));
    }
}

#[test]
fn no_letter_of_the_newest_revision_can_be_another_unseen() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    let seen = Revision { epoch: 7, number: 50 };
    files.save_revision(seen, "x").unwrap();
    assert_eq!(files.revision("x").unwrap(), Some(seen), "the positive control");
    let good = std::fs::read(dir.path().join(REVISION)).unwrap();
    for byte in 0..good.len() {
        let mut harmed = good.clone();
        harmed[byte] ^= 1;
        write(dir.path(), REVISION, &harmed);
        let read = files.revision("x");
        assert!(
            matches!(read, Err(PersistError::Damaged { .. })),
            "byte {byte}: {read:?}"
        );
    }
    // As it was written before there was a digest.
    write(
        dir.path(),
        REVISION,
        br#"{"version":1,"bootstrap":"x","epoch":7,"number":50}"#,
    );
    assert_eq!(files.revision("x").unwrap(), Some(seen));
}

#[test]
fn an_error_never_quotes_the_key() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    write(
        dir.path(),
        IDENTITY,
        br#"{"version":1,"key":"c2VjcmV0","key":"c2VjcmV0"}"#,
    );
    assert!(!format!("{:?}", files.identity().unwrap_err()).contains("c2VjcmV0"));
}

#[test]
fn an_identity_that_is_not_an_agents_or_of_another_domain_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    {
        let files = NodeFiles::open(dir.path(), &td()).unwrap();
        files.save_identity(&node("/workload")).unwrap();
        assert!(matches!(files.identity(), Err(PersistError::Damaged { .. })));
        files.save_identity(&agent()).unwrap();
    }
    let other = TrustDomain::parse("other.test").unwrap();
    let error = NodeFiles::open(dir.path(), &other)
        .unwrap()
        .identity()
        .unwrap_err();
    assert!(matches!(error, PersistError::OtherTrustDomain { .. }), "{error}");
}

#[test]
fn a_file_others_can_read_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.save_identity(&agent()).unwrap();
    std::fs::set_permissions(dir.path().join(IDENTITY), std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(files.identity(), Err(PersistError::Store { .. })));
}

#[test]
fn destroyed_keys_are_gone() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.save_identity(&agent()).unwrap();
    files.pending_key(None, KeyType::EcP256).unwrap();
    files.destroy_keys().unwrap();
    assert!(!dir.path().join(IDENTITY).exists() && !dir.path().join(PENDING).exists());
}

#[test]
fn a_key_that_cannot_be_removed_does_not_keep_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let disk = faulty::Script::default();
    let store = Store::open_with(dir.path(), |files| faulty::FaultyFiles::new(files, disk.clone()));
    let files = NodeFiles::over(store.unwrap(), &td());
    files.save_identity(&agent()).unwrap();
    files.pending_key(None, KeyType::EcP256).unwrap();
    disk.fail(faulty::Verb::Remove, std::io::ErrorKind::ReadOnlyFilesystem);
    let refused = files.destroy_keys().unwrap_err();
    assert!(refused.to_string().contains(PENDING), "{refused}");
    let left = [IDENTITY, PENDING].map(|name| dir.path().join(name).exists());
    assert_eq!(left, [false, true]);
}

/// Wherever it is cut off: the server says the ban again, or the mark does.
#[test]
fn the_nodes_own_svid_goes_last_and_not_without_a_mark() {
    use faulty::Verb;
    let kinds = [
        Verb::CreateTemp,
        Verb::Write,
        Verb::Sync,
        Verb::Rename,
        Verb::SyncDir,
        Verb::Remove,
    ];
    for verb in kinds {
        for nth in 0..4 {
            let (dir, disk) = (tempfile::tempdir().unwrap(), faulty::Script::default());
            let store = Store::open_with(dir.path(), |files| faulty::FaultyFiles::new(files, disk.clone()));
            let files = NodeFiles::over(store.unwrap(), &td());
            files.save_identity(&agent()).unwrap();
            files.pending_key(None, KeyType::EcP256).unwrap();
            let before = disk.calls().len();
            disk.fail_after(verb, nth, std::io::ErrorKind::StorageFull);
            drop(files.destroy_keys());
            disk.mend();
            let calls = disk.calls().split_off(before);
            let first = |verb| calls.iter().position(|call| *call == verb);
            assert!(first(Verb::CreateTemp) < first(Verb::Remove), "{calls:?}");
            let there = |name: &str| dir.path().join(name).exists();
            assert!(there(IDENTITY) || there(BANNED), "{verb:?} {nth}");
            drop(files);
            let files = NodeFiles::open(dir.path(), &td()).unwrap();
            if files.was_banned().unwrap() {
                files.go_on_with_ban().unwrap();
                assert!(!there(IDENTITY), "{verb:?} {nth}");
            }
            // Let in again, it is not a banned node's any more.
            files.save_identity(&agent()).unwrap();
            assert!(!files.was_banned().unwrap());
            assert!(files.identity().unwrap().is_some());
        }
    }
}

#[test]
fn a_key_that_a_banned_node_asked_with_is_kept_and_one_of_before_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.save_identity(&agent()).unwrap();
    let before = files.pending_key(None, KeyType::EcP256).unwrap().public_key();
    files.destroy_keys().unwrap();
    let asked = files.pending_key(None, KeyType::EcP256).unwrap().public_key();
    assert_ne!(asked, before);
    files.go_on_with_ban().unwrap();
    let again = files.pending_key(None, KeyType::EcP256).unwrap().public_key();
    assert_eq!(again, asked, "an answer to it may be lost (T-13)");
}

/// The one of before could not be removed, the identity could.
#[test]
fn a_device_key_that_outlived_a_ban_goes_with_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    files.destroy_keys().unwrap();
    files.new_device_key(0).unwrap();
    files.go_on_with_ban().unwrap();
    assert!(!dir.path().join(DEVICE).exists());
}

#[test]
fn a_bundle_is_kept_until_the_operator_gives_another() {
    let dir = tempfile::tempdir().unwrap();
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    let bundle = Ca::new("two").bundle();
    assert!(files.bundle("digest").unwrap().is_none());
    files.save_bundle(&bundle, "digest").unwrap();
    assert!(files.bundle("digest").unwrap().unwrap().content_eq(&bundle));
    assert!(files.bundle("another").unwrap().is_none());
}

#[test]
fn the_newest_revision_is_kept_until_the_operator_gives_another_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let newest = Revision {
        epoch: u64::MAX,
        number: 1,
    };
    {
        let files = NodeFiles::open(dir.path(), &td()).unwrap();
        assert!(files.revision("digest").unwrap().is_none());
        files.save_revision(newest, "digest").unwrap();
        files.destroy_keys().unwrap();
    }
    let files = NodeFiles::open(dir.path(), &td()).unwrap();
    assert_eq!(files.revision("digest").unwrap(), Some(newest));
    assert!(files.revision("another").unwrap().is_none());
}

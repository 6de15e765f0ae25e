//! The file: what it holds, what it does not show, and that no change of it goes unseen.

use std::fs;
use std::io::{Seek as _, SeekFrom, Write as _};

use landfast_daemon::error_chain;

use super::archive::Archive;
use super::error::{ArchiveError, BackupError};
use super::fixture::{Site, forge, pack, with_passphrase, write};
use super::manifest::{FORMAT, FORMAT_1, Manifest};
use super::migrate::migrate;
use super::{say, tar};
use crate::backup::Form;
use crate::core::KEYS;
use crate::core::fixture::{START, td};
use crate::datastore::postgres::PostgresConfig;
use crate::datastore::sqlite::SqliteDatastore;

fn refused(path: &std::path::Path) -> ArchiveError {
    match Archive::open(path).unwrap_err() {
        BackupError::Archive { source, .. } => source,
        other => panic!("{}", error_chain(&other)),
    }
}

#[tokio::test(start_paused = true)]
async fn a_running_server_is_backed_up_and_the_backup_says_what_it_holds() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let path = site.backup("1", Some(&site.recipient()));
    let archive = Archive::open(&path).unwrap();
    let manifest = &archive.manifest;
    let revision = core.registry.revision();
    assert_eq!(
        (manifest.epoch, manifest.revision),
        (revision.epoch.cast_signed(), revision.number.cast_signed())
    );
    assert_eq!(manifest.trust_domain, "plant.example");
    let counts = [
        "entries",
        "agents",
        "join_tokens",
        "federated_bundles",
        "authorities",
        "issued",
    ];
    assert_eq!(counts.map(|table| manifest.rows(table)), [1, 2, 2, 1, 2, 1]);
    assert!(manifest.authorities.iter().all(|authority| authority.key));
    let text = say::shown(manifest, Form::Text);
    assert!(text.contains("1 entries, 2 agents, 2 join tokens"), "{text}");
    assert!(text.contains("keys sealed for age1"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&say::shown(manifest, Form::Json)).unwrap();
    assert_eq!(json["backup"]["trust_domain"], "plant.example");
    let bytes = fs::read(&path).unwrap();
    let contains = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
    assert!(contains(made.id.as_bytes()), "the control");
    assert!(!contains(b"free"), "no token in clear");
}

/// Same rows, same bytes: what the digests are of does not depend on when it was made.
#[tokio::test(start_paused = true)]
async fn a_backup_of_the_same_tables_has_the_same_parts() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let parts = |name| Archive::open(&site.backup(name, None)).unwrap().manifest.parts;
    assert_eq!(parts("1"), parts("2"));
}

#[tokio::test(start_paused = true)]
async fn no_key_leaves_in_clear_and_without_keys_it_says_so() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let keys: Vec<Vec<u8>> = fs::read_dir(site.disk.keys())
        .unwrap()
        .map(|entry| fs::read(entry.unwrap().path()).unwrap())
        .collect();
    assert!(keys.len() >= 2);
    for (name, lock) in [
        ("1", Some(site.recipient())),
        ("2", Some(with_passphrase())),
        ("3", None),
    ] {
        let path = site.backup(name, lock.as_ref());
        let bytes = fs::read(&path).unwrap();
        for key in &keys {
            use base64::Engine as _;
            // The scalar of a P-256 key in PKCS#8, alone and in base64 at any phase.
            let secret = &key[36..68];
            assert!(!bytes.windows(32).any(|window| window == secret));
            for phase in 0..3 {
                let text = base64::engine::general_purpose::STANDARD.encode(&secret[phase..30]);
                let text = text.trim_end_matches('=').as_bytes();
                let text = &text[..text.len() - 2];
                assert!(!bytes.windows(text.len()).any(|window| window == text));
            }
        }
        let archive = Archive::open(&path).unwrap();
        let said = say::shown(&archive.manifest, Form::Text);
        assert_eq!(said.contains("NO SIGNING KEYS"), lock.is_none(), "{said}");
        assert_eq!(said.contains("key NOT in it"), lock.is_none(), "{said}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_byte_that_is_changed_anywhere_is_found() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let path = site.backup("1", Some(&site.recipient()));
    let bytes = fs::read(&path).unwrap();
    let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let mut put = |at: usize, byte: u8| {
        file.seek(SeekFrom::Start(at as u64)).unwrap();
        file.write_all(&[byte]).unwrap();
    };
    for (at, byte) in bytes.iter().enumerate() {
        put(at, byte ^ 1);
        assert!(Archive::open(&path).is_err(), "byte {at}");
        put(at, *byte);
    }
    Archive::open(&path).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_file_that_was_cut_or_has_grown_is_found() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let path = site.backup("1", Some(&site.recipient()));
    let bytes = fs::read(&path).unwrap();
    let cut = site.out.path().join("cut");
    for length in (0..bytes.len()).step_by(128).chain([bytes.len() - 1]) {
        write(&cut, &bytes[..length]);
        assert!(Archive::open(&cut).is_err(), "{length} bytes");
    }
    write(&cut, &[&bytes[..], b"\0"].concat());
    assert!(matches!(refused(&cut), ArchiveError::Damaged(_)));
}

#[tokio::test(start_paused = true)]
async fn what_is_no_backup_or_a_newer_one_is_not_called_damaged() {
    let site = Site::new();
    let path = site.out.path().join("1");
    for bytes in [
        b"".as_slice(),
        b"SQLite format 3\0",
        &[0; 2048],
        b"age-encryption.org/v1\n",
    ] {
        write(&path, bytes);
        assert!(matches!(refused(&path), ArchiveError::NotOurs));
    }
    let newer = pack(&[(FORMAT.to_owned(), b"landfast-backup 2\n".to_vec())]);
    write(&path, &newer);
    let error = refused(&path);
    assert!(
        matches!(&error, ArchiveError::NewerFormat(found) if found == "landfast-backup 2"),
        "{error}"
    );
    // The control: of this version it is damaged.
    write(&path, &pack(&[(FORMAT.to_owned(), FORMAT_1.to_vec())]));
    assert!(matches!(refused(&path), ArchiveError::Damaged(_)));
}

/// Whoever changes a backup can make its digests fit; there are still rules that it breaks.
#[tokio::test(start_paused = true)]
async fn parts_that_do_not_belong_there_are_refused() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let path = site.backup("1", Some(&site.recipient()));
    Archive::open(&forge(&path, "control", |_, _| ())).unwrap();
    let forged = [
        forge(&path, "2", |members, _| {
            members.push(("extra".to_owned(), Vec::new()))
        }),
        forge(&path, "3", |members, _| drop(members.remove(2))),
        forge(&path, "4", |members, _| members.swap(1, 2)),
        forge(&path, "5", |_, manifest| manifest.keys = None),
        forge(&path, "6", |members, manifest| {
            members.retain(|(name, _)| name != "keys.age");
            manifest.parts.retain(|part| part.name != "keys.age");
        }),
        forge(&path, "7", |_, manifest| manifest.parts[0].rows = None),
        forge(&path, "8", |members, _| {
            members[0].1 = b"landfast-backup 1\n\n".to_vec()
        }),
    ];
    for path in forged {
        let error = refused(&path);
        assert!(matches!(error, ArchiveError::Damaged(_)), "{path:?}: {error}");
    }
    let mut manifest = serde_json::to_value(&Archive::open(&path).unwrap().manifest).unwrap();
    Manifest::read(manifest.to_string().as_bytes()).unwrap();
    manifest["more"] = 1.into();
    assert!(
        Manifest::read(manifest.to_string().as_bytes()).is_err(),
        "a field of a later version"
    );
}

#[tokio::test(start_paused = true)]
async fn a_manifest_that_would_play_with_the_terminal_is_not_shown() {
    let site = Site::new();
    drop(site.disk.open().await);
    let path = site.out.path().join("1");
    site.try_backup(&path, Some(&site.recipient())).unwrap();
    let manifest = serde_json::to_value(&Archive::open(&path).unwrap().manifest).unwrap();
    Manifest::read(manifest.to_string().as_bytes()).unwrap();
    for (what, at) in [
        ("landfast-server 1\u{1b}[2J", "/made_by"),
        ("abc\n    fingerprint 00", "/authorities/0/id"),
        ("age1\u{202e}x", "/keys/sealed_for/0"),
        ("\u{9b}31m", "/trust_domain"),
    ] {
        let mut changed = manifest.clone();
        *changed.pointer_mut(at).unwrap() = what.into();
        let error = Manifest::read(changed.to_string().as_bytes()).unwrap_err();
        assert!(error.to_string().contains("could mislead"), "{at}: {error}");
    }
    let mut changed = manifest;
    changed["\u{1b}[2J"] = 1.into();
    let error = Manifest::read(changed.to_string().as_bytes()).unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_not_there_not_ours_or_newer_gives_no_backup() {
    let site = Site::new();
    let path = site.out.path().join("1");
    let tried = |site: &Site| error_chain(&site.try_backup(&path, None).unwrap_err());
    assert!(tried(&site).contains("there is no database"));
    assert!(site.names().is_empty(), "nor is one begun");
    drop(site.disk.open().await);
    site.try_backup(&site.out.path().join("control"), None).unwrap();
    let change = async |sql| {
        let db = SqliteDatastore::open(&site.disk.database(), &td(), true).unwrap();
        db.execute(sql).await;
    };
    change("INSERT INTO schema_migrations VALUES (99, '')").await;
    assert!(tried(&site).contains("newer than"), "{}", tried(&site));
    assert!(!path.exists());
}

#[tokio::test]
async fn a_database_that_was_moved_before_is_not_called_lost() {
    let dir = tempfile::tempdir().unwrap();
    let target = PostgresConfig::parse("host=/nowhere user=a dbname=a", None, None).unwrap();
    let domain = td();
    let move_it = || migrate(dir.path(), &domain, &target, START);
    let error = move_it().await.unwrap_err();
    assert!(matches!(error, BackupError::Open { .. }), "{error}");
    let aside = dir.path().join("before-migrate-2026-11-26T120000Z");
    fs::create_dir(&aside).unwrap();
    let error = move_it().await.unwrap_err();
    assert!(
        matches!(&error, BackupError::Moved { old_data } if *old_data == aside),
        "{error}"
    );
    assert_eq!(error.hint(), "start the server");
}

#[tokio::test(start_paused = true)]
async fn a_missing_key_or_that_of_another_gives_no_backup() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let mut keys: Vec<_> = fs::read_dir(site.disk.dir.path().join(KEYS))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    keys.sort();
    let (lock, path) = (site.recipient(), site.out.path().join("1"));
    let bytes = fs::read(&keys[0]).unwrap();
    fs::copy(&keys[1], &keys[0]).unwrap();
    let error = site.try_backup(&path, Some(&lock)).unwrap_err();
    assert!(matches!(error, BackupError::OtherKey { .. }), "{error}");
    fs::remove_file(&keys[0]).unwrap();
    let error = site.try_backup(&path, Some(&lock)).unwrap_err();
    assert!(matches!(error, BackupError::NoKey { .. }), "{error}");
    assert!(!path.exists());
    write(&keys[0], &bytes);
    fs::set_permissions(&keys[0], std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    site.try_backup(&path, Some(&lock)).unwrap();
}

#[test]
fn a_part_beyond_eight_gibibytes_has_a_head_too() {
    for size in [0, 1, (1 << 33) - 1, 1 << 33, u64::MAX] {
        let head = tar::header("tables/issued.jsonl", size).unwrap();
        let error = tar::members(&head[..]).unwrap_err();
        // The head is taken; what it announces is not there.
        assert!(error.to_string().contains("ends too early"), "{size}: {error}");
    }
    for name in ["", "a b", "ä", "x\0", &"x".repeat(101)] {
        assert!(tar::header(name, 0).is_none(), "{name:?}");
    }
}

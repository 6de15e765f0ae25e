//! Authorities over months, over restarts, and over broken disks.

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{BundleSet, KeyType, TrustDomain, jwt, verify_x509_svid};
use landfast_lifecycle::{Clock as _, SimClock};
use landfast_store::Store;
use landfast_store::faulty::{FaultyFiles, Script, Verb};

mod ahead;
mod below;
#[cfg(feature = "postgres-tests")]
mod beside;
mod left;
mod scripted;
mod whole;
mod wit;

use super::*;
use crate::core::fixture::{DAY, DiskRig, Rig, START, draft, id, key, me, td};
use crate::datastore::sqlite::SqliteDatastore;
use crate::random;
use crate::{Core, CoreError, CoreParams};
use scripted::{Lost, Scripted};

/// A hundred days, looked at every six hours: everything issued verifies with the bundle of every moment of its life.
#[tokio::test(start_paused = true)]
async fn months_of_rotations_break_nothing_that_was_issued() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let mut updates = rig.core.authorities.bundle_updates();
    updates.mark_unchanged();
    let (mut svids, mut tokens): (Vec<crate::issuance::IssuedX509>, Vec<crate::issuance::IssuedJwt>) =
        (vec![], vec![]);
    let mut sequence = rig.core.authorities.bundle().sequence();
    let mut seen = std::collections::BTreeSet::new();
    let entry = draft("/spire/agent/x", "/w").into_entry("e".into(), START);
    for _ in 0..400 {
        let now = rig.now();
        rig.core.authorities.tick(now, Trust::Steady).await.unwrap();
        let bundle = rig.core.authorities.bundle();
        assert_eq!(
            updates.has_changed().unwrap(),
            bundle.sequence() > sequence,
            "watchers see each change and only those"
        );
        updates.mark_unchanged();
        assert!(bundle.sequence() >= sequence);
        sequence = bundle.sequence();
        assert!(bundle.x509_authorities().len() <= 4 && bundle.jwt_authorities().len() <= 4);
        seen.extend(bundle.x509_authorities().iter().map(|a| a.certificate.subject()));
        svids.push(issuer.x509_for_entry(&me(), &entry, &key()).await.unwrap());
        svids.push(
            issuer
                .agent_svid(&me(), &id("/spire/agent/x/y"), &key())
                .await
                .unwrap(),
        );
        tokens.push(
            issuer
                .mint_jwt(&me(), &id("/w"), &["a".into()], Some(2 * DAY))
                .await
                .unwrap(),
        );
        svids.retain(|svid| now < svid.not_after);
        tokens.retain(|token| now < token.expires_at);
        let bundles: BundleSet = [bundle.as_ref().clone()].into_iter().collect();
        for svid in &svids {
            verify_x509_svid(&[svid.chain[0].as_der()], &bundles, now).unwrap();
        }
        for token in &tokens {
            jwt::verify(&token.token, &bundles, "a", now).unwrap();
        }
        rig.step(DAY / 4);
    }
    assert!(
        (7..=8).contains(&seen.len()),
        "each authority has a subject of its own: {seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_next_authority_is_known_before_it_signs() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let first = authorities.active_x509().unwrap().id.clone();
    assert_eq!(authorities.bundle().x509_authorities().len(), 1);
    rig.step(15 * DAY);
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    let bundle = authorities.bundle();
    assert_eq!(bundle.x509_authorities().len(), 2);
    assert_eq!(authorities.active_x509().unwrap().id, first);
    let next = random::hex(&bundle.x509_authorities()[1].certificate.public_key().key_id());
    rig.step(10 * DAY - Duration::from_secs(60));
    rig.core.issuer.server_svid(&key()).await.unwrap();
    rig.core
        .issuer
        .mint_jwt(&me(), &id("/w"), &["a".into()], None)
        .await
        .unwrap();
    rig.step(Duration::from_secs(60));
    authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert_eq!(authorities.active_x509().unwrap().id, next);
    assert_eq!(
        authorities.bundle().sequence(),
        bundle.sequence(),
        "activation changes nothing that others see"
    );
    let leaf = rig.core.issuer.server_svid(&key()).await.unwrap().chain.remove(0);
    assert_eq!(leaf.authority_key_id().map(|id| random::hex(&id)), Some(next));
}

#[tokio::test(start_paused = true)]
async fn an_old_authority_keeps_its_key_but_never_signs_again_and_is_removed_with_it() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let files = || std::fs::read_dir(disk.keys()).unwrap().count();
    let first = core.authorities.active_x509().unwrap().id.clone();
    assert_eq!(files(), 2);
    core.issuer
        .agent_svid(&me(), &id("/spire/agent/x/y"), &key())
        .await
        .unwrap();
    let mut day = 0;
    let tick = |to: u32, day: &mut u32| {
        disk.clock.step(i64::from(to - *day) * 86_400);
        *day = to;
        core.authorities
            .tick(START.saturating_add(to * DAY), Trust::Steady)
    };
    tick(15, &mut day).await.unwrap();
    core.issuer
        .agent_svid(&me(), &id("/spire/agent/x/y"), &key())
        .await
        .unwrap();
    tick(24, &mut day).await.unwrap();
    core.issuer
        .mint_jwt(&me(), &id("/w"), &["a".into()], None)
        .await
        .unwrap();
    core.issuer
        .mint_x509(&me(), &id("/w"), &[], None, &key())
        .await
        .unwrap();
    tick(25, &mut day).await.unwrap();
    assert_eq!(files(), 4, "the old keys are kept");
    assert_ne!(core.authorities.active_x509().unwrap().id, first);
    assert_eq!(core.authorities.bundle().x509_authorities().len(), 2);
    let leaf = core.issuer.server_svid(&key()).await.unwrap().chain.remove(0);
    assert_ne!(leaf.authority_key_id().map(|id| random::hex(&id)), Some(first));
    // What they signed ended on day 24; a day and an hour later nobody needs them.
    assert_eq!(core.authorities.bundle().jwt_authorities().len(), 2);
    tick(26, &mut day).await.unwrap();
    assert_eq!(core.authorities.bundle().x509_authorities().len(), 1);
    assert_eq!(files(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_restart_changes_nothing() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let (bundle, x509, jwt_id) = (
        core.authorities.bundle(),
        core.authorities.active_x509().unwrap().id.clone(),
        core.authorities.active_jwt().unwrap().id.clone(),
    );
    assert!(jwt_id.len() == 32 && jwt_id.bytes().all(|b| b.is_ascii_alphanumeric()));
    drop(core);
    for _ in 0..3 {
        let core = disk.open().await;
        assert_eq!(*core.authorities.bundle(), *bundle, "sequence included");
        assert_eq!(core.authorities.active_x509().unwrap().id, x509);
        assert_eq!(core.authorities.active_jwt().unwrap().id, jwt_id);
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_damaged_or_foreign_key_file_is_named_and_never_replaced() {
    let disk = DiskRig::new();
    drop(disk.open().await);
    disk.clock.step(15 * 86_400);
    let core = disk.open().await;
    core.authorities
        .tick(START.saturating_add(15 * DAY), Trust::Steady)
        .await
        .unwrap();
    drop(core);
    let mut files: Vec<_> = std::fs::read_dir(disk.keys())
        .unwrap()
        .map(|f| f.unwrap().path())
        .collect();
    files.sort();
    assert_eq!(files.len(), 4, "two active, two prepared");
    for (n, file) in files.iter().enumerate() {
        let good = std::fs::read(file).unwrap();
        let other = std::fs::read(&files[(n + 1) % 4]).unwrap();
        for bad in [
            None,
            Some(&good[..40]),
            Some(b"".as_slice()),
            Some(other.as_slice()),
        ] {
            match bad {
                None => std::fs::remove_file(file).unwrap(),
                Some(bytes) => write(file, bytes),
            }
            let error = landfast_daemon::error_chain(&disk.try_open().await.unwrap_err());
            assert!(
                error.contains(file.to_str().unwrap()) && error.contains("restore it"),
                "{error}"
            );
            assert_eq!(std::fs::read(file).ok().as_deref(), bad, "nobody has touched it");
            write(file, &good);
        }
    }
    disk.open().await;
}

#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn write(path: &std::path::Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, bytes).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

async fn core_with(keys: DiskKeys, clock: &SimClock) -> (Result<Core, CoreError>, Arc<SqliteDatastore>) {
    let db = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
    let params = CoreParams::in_memory(td(), Arc::new(clock.clone()));
    (Core::assemble(params, db.clone(), Arc::new(keys)).await, db)
}

#[tokio::test(start_paused = true)]
async fn a_key_that_cannot_be_written_makes_no_authority_and_the_old_one_goes_on() {
    for verb in [
        Verb::CreateTemp,
        Verb::Write,
        Verb::Sync,
        Verb::Link,
        Verb::SyncDir,
    ] {
        let dir = tempfile::tempdir().unwrap();
        let script = Script::default();
        let store = Store::open_with(dir.path(), |files| FaultyFiles::new(files, script.clone())).unwrap();
        let clock = SimClock::new(START);
        let (core, _db) = core_with(DiskKeys::new(store), &clock).await;
        let core = core.unwrap();
        clock.step(15 * 86_400);
        script.fail(verb, std::io::ErrorKind::StorageFull);
        let before = core.authorities.bundle();
        let error = core
            .authorities
            .tick(clock.now().unwrap(), Trust::Steady)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, AuthorityError::Key { source } if source.is_full()),
            "{verb:?}: {error:?}"
        );
        assert_eq!(core.authorities.bundle(), before);
        core.issuer.server_svid(&key()).await.unwrap();
        core.authorities
            .tick(clock.now().unwrap(), Trust::Steady)
            .await
            .unwrap();
        assert_eq!(
            core.authorities.bundle().x509_authorities().len(),
            2,
            "the next tick does it"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_leaves_what_was() {
    let rig = Rig::new().await;
    let before = (
        rig.core.authorities.bundle(),
        rig.core.authorities.active_x509().unwrap().id.clone(),
    );
    rig.db
        .execute(
            "CREATE TRIGGER broken BEFORE INSERT ON authorities BEGIN SELECT RAISE(ABORT, 'broken'); END",
        )
        .await;
    rig.step(29 * DAY);
    assert!(matches!(
        rig.core.authorities.tick(rig.now(), Trust::Steady).await,
        Err(AuthorityError::Storage { .. })
    ));
    assert_eq!(rig.core.authorities.bundle(), before.0);
    assert_eq!(
        rig.core.issuer.server_svid(&key()).await.unwrap().id,
        id("/spire/server")
    );
    rig.db.execute("DROP TRIGGER broken").await;
    rig.core.authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    rig.step(Duration::from_secs(600));
    rig.core.authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert_ne!(rig.core.authorities.active_x509().unwrap().id, before.1);
}

#[tokio::test(start_paused = true)]
async fn the_first_authorities_need_a_clock_later_ones_wait_for_it() {
    let disk = DiskRig::new();
    disk.clock.set_absent(true);
    let refused = disk.try_open().await.unwrap_err();
    assert!(
        matches!(
            refused,
            CoreError::Authority {
                source: AuthorityError::NoClock
            }
        ),
        "{refused:?}"
    );
    disk.clock.set_absent(false);
    drop(disk.open().await);
    disk.clock.set_absent(true);
    let core = disk.open().await;
    assert_eq!(core.authorities.bundle().x509_authorities().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_somebody_else_has_changed_is_read_again() {
    let rig = Rig::new().await;
    let datastore = &rig.core.datastore;
    let journal = datastore.journal().await.unwrap();
    assert!(
        datastore
            .save_journal(journal.version - 1, journal.rows.clone())
            .await
            .unwrap()
            .is_none()
    );
    let same = datastore
        .save_journal(journal.version, journal.rows.clone())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (same.version, same.sequence),
        (journal.version + 1, journal.sequence)
    );
    let fewer = journal.rows[1..].to_vec();
    let changed = datastore
        .save_journal(same.version, fewer)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        changed.sequence,
        journal.sequence + 1,
        "the sequence follows the content"
    );
}

#[tokio::test(start_paused = true)]
async fn a_tick_that_is_cut_off_is_taken_up_by_the_next() {
    let rig = Rig::new().await;
    rig.step(15 * DAY);
    let tick = rig.core.authorities.tick(rig.now(), Trust::Steady);
    let cut = tokio::time::timeout(Duration::ZERO, tick).await;
    drop(cut);
    rig.core.authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    let bundle = rig.core.authorities.bundle();
    assert_eq!(
        (bundle.x509_authorities().len(), bundle.jwt_authorities().len()),
        (2, 2)
    );
}

/// The names of the keys there are.
fn key_files(disk: &DiskRig) -> Vec<String> {
    let files = std::fs::read_dir(disk.keys()).unwrap();
    files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_journal_that_cannot_be_written_does_not_fill_the_disk_with_keys() {
    let disk = DiskRig::new();
    let core = disk.open().await;
    let sql = rusqlite::Connection::open(disk.database()).unwrap();
    let break_it =
        "CREATE TRIGGER broken BEFORE INSERT ON authorities BEGIN SELECT RAISE(ABORT, 'broken'); END";
    sql.execute_batch(break_it).unwrap();
    let later = START.saturating_add(15 * DAY);
    for _ in 0..5 {
        core.authorities.tick(later, Trust::Steady).await.unwrap_err();
    }
    assert_eq!(
        key_files(&disk).len(),
        3,
        "one is made, and waits for its journal"
    );
    sql.execute_batch("DROP TRIGGER broken").unwrap();
    core.authorities.tick(later, Trust::Steady).await.unwrap();
    assert_eq!(key_files(&disk).len(), 4);
    let bundle = core.authorities.bundle();
    drop((core, sql));
    assert_eq!(
        disk.open().await.authorities.bundle(),
        bundle,
        "every key is there"
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_that_was_used_after_all_is_not_used_twice() {
    for lost in [Lost::Answer, Lost::Request] {
        let rig = Rig::new().await;
        let scripted = Arc::new(Scripted::over(rig.db.clone()));
        let authorities = scripted.authorities(&rig).await;
        let day = |n: u32| START.saturating_add(n * DAY);
        scripted.script([lost]);
        authorities.tick(day(15), Trust::Steady).await.unwrap_err();
        // Over two rotations each authority has a key of its own, and every signer is found.
        for n in 15..60 {
            authorities.tick(day(n), Trust::Steady).await.unwrap();
            let rows = rig.db.journal().await.unwrap().rows;
            let keys: std::collections::BTreeSet<_> = rows.iter().map(|row| &row.key_name).collect();
            assert_eq!(keys.len(), rows.len(), "{lost:?}");
            assert!(authorities.active_x509_expires_at().unwrap() > day(n), "{lost:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn keys_that_no_authority_has_are_removed_when_the_clock_is_steady_and_no_others() {
    let disk = DiskRig::new();
    drop(disk.open().await);
    let ours = key_files(&disk);
    let copy = std::fs::read(disk.keys().join(&ours[0])).unwrap();
    let stray = [
        "x509-00112233445566778899aabbccddeeff.key",
        "jwt-00112233445566778899aabbccddeeff.key",
    ];
    let foreign = [
        "x509-backup.key",
        "ours-00112233445566778899aabbccddeeff.key",
        "jwt-00112233445566778899aabbccddeeff.pem",
    ];
    for name in stray.iter().chain(&foreign) {
        write(&disk.keys().join(name), &copy);
    }
    let core = disk.open().await;
    core.authorities.tick(START, Trust::Doubtful).await.unwrap();
    assert_eq!(key_files(&disk).len(), 7, "not while the clock is in doubt");
    core.authorities.tick(START, Trust::Steady).await.unwrap();
    let mut left = key_files(&disk);
    let mut wanted = ours.clone();
    wanted.extend(foreign.map(str::to_owned));
    left.sort();
    wanted.sort();
    assert_eq!(left, wanted);
    drop(core);
    disk.open().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_race_removes_no_key() {
    let rig = Rig::new().await;
    let scripted = Arc::new(Scripted::over(rig.db.clone()));
    let authorities = scripted.authorities(&rig).await;
    let day = |n: u32| START.saturating_add(n * DAY);
    authorities.tick(day(15), Trust::Steady).await.unwrap();
    rig.db
        .execute("UPDATE authorities SET last_svid_ends = created_at + 26 * 86400 WHERE slot = 'active'")
        .await;
    authorities.tick(day(25), Trust::Steady).await.unwrap();
    let before = rig.db.journal().await.unwrap();
    let old: Vec<_> = before.rows.iter().filter(|row| row.slot == Slot::Old).collect();
    assert_eq!(old.len(), 2, "they are forgotten after day 27");
    // Meanwhile an SVID of theirs that lives longer was recorded, and the journal changed.
    scripted.script([Lost::Race([
        "UPDATE authorities SET last_svid_ends = created_at + 29 * 86400",
        "UPDATE state SET journal_version = journal_version + 1",
    ])]);
    authorities.tick(day(28), Trust::Steady).await.unwrap();
    assert!(scripted.is_done(), "the race was run");
    let after = rig.db.journal().await.unwrap();
    assert_eq!(after.rows.len(), before.rows.len());
    for row in &after.rows {
        scripted.keys.get(&row.key_name).unwrap();
    }
    authorities.tick(day(31), Trust::Steady).await.unwrap();
    for row in old {
        assert!(scripted.keys.get(&row.key_name).is_err(), "forgotten in the end");
    }
}

#[tokio::test(start_paused = true)]
async fn an_authority_made_by_a_clock_that_was_ahead_gives_way_to_the_one_before() {
    let rig = Rig::new().await;
    let authorities = &rig.core.authorities;
    let issued = rig.core.issuer.server_svid(&key()).await.unwrap();
    let token = rig
        .core
        .issuer
        .mint_jwt(&me(), &id("/w"), &["a".into()], None)
        .await
        .unwrap();
    let (x509, jwt_id) = (
        authorities.active_x509().unwrap().id.clone(),
        authorities.active_jwt().unwrap().id.clone(),
    );
    rig.clock.step(40 * 86_400);
    authorities.tick(rig.now(), Trust::Doubtful).await.unwrap();
    assert_ne!(authorities.active_x509().unwrap().id, x509);
    rig.core.issuer.server_svid(&key()).await.unwrap();
    rig.clock.step(-40 * 86_400);
    assert!(rig.core.issuer.server_svid(&key()).await.is_err());
    authorities.tick(rig.now(), Trust::Doubtful).await.unwrap();
    assert_eq!(authorities.active_x509().unwrap().id, x509);
    assert_eq!(authorities.active_jwt().unwrap().id, jwt_id);
    rig.core.issuer.server_svid(&key()).await.unwrap();
    let bundles: BundleSet = [authorities.bundle().as_ref().clone()].into_iter().collect();
    verify_x509_svid(&[issued.chain[0].as_der()], &bundles, rig.now()).unwrap();
    jwt::verify(&token.token, &bundles, "a", rig.now()).unwrap();
}

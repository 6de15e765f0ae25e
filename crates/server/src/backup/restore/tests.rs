//! A data directory is lost or wrong, and there is a backup.

mod chain;
mod device;
mod undone;

use std::fs;

use landfast_daemon::error_chain;
use landfast_identity::Certificate;

use super::*;
use crate::backup::fixture::{BANNED, NODE, PASSPHRASE, Site, forge, guess, with_passphrase};
use crate::backup::swap::tests::PowerCut;
use crate::core::fixture::{DAY, DiskRig, START, draft, entry, id, key, me};
use crate::core::{Core, CoreError, CoreParams, MARKER};
use crate::registry::{AgentFilter, AgentStanding, EntryFilter, TokenError};

fn archive_error(error: BackupError) -> ArchiveError {
    match error {
        BackupError::Archive { source, .. } => source,
        other => panic!("{}", error_chain(&other)),
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_there_is_there_again_and_is_newer_than_what_came_after() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let before = (core.registry.agent(&id(NODE)).unwrap(), core.authorities.bundle());
    let records = core.issuer.records(&id("/w")).await.unwrap();
    let backup = site.backup("1", Some(&site.recipient()));
    // What comes after it is lost.
    core.registry.delete_entry(&made.id).await.unwrap();
    let later = entry(&core, draft(NODE, "/later")).await;
    let revision = core.registry.revision();
    drop(core);
    let restored = site.restore(&backup, &site.identity()).await.unwrap();
    let old = restored.old_data.unwrap();
    assert_eq!(old.parent().unwrap(), site.disk.dir.path());
    let core = site.disk.open().await;
    assert_eq!(core.registry.entry(&made.id), Some(made));
    assert_eq!(core.registry.entry(&later.id), None);
    assert!(core.registry.revision() > revision, "for agents it is newer");
    assert_eq!(core.registry.revision().epoch, restored.epoch);
    let agent = core.registry.agent(&id(NODE)).unwrap();
    assert_eq!(
        (&agent.serial, &agent.selectors),
        (&before.0.serial, &before.0.selectors)
    );
    assert_eq!(
        core.registry.standing(&id(BANNED), "0b", START).await,
        AgentStanding::Banned
    );
    let (was, is) = (before.1, core.authorities.bundle());
    assert_eq!(is.x509_authorities(), was.x509_authorities());
    assert_eq!(is.jwt_authorities(), was.jwt_authorities());
    assert!(
        is.sequence() > was.sequence() + 100,
        "those who follow it accept it"
    );
    assert_eq!(core.issuer.records(&id("/w")).await.unwrap(), records);
    // It signs with the same key.
    let entry = core
        .registry
        .list_entries(&EntryFilter::default(), 0, None)
        .0
        .remove(0);
    core.issuer.x509_for_entry(&me(), &entry, &key()).await.unwrap();
    drop(core);
    // And what was replaced is whole.
    let params = CoreParams {
        data_dir: Some(old),
        ..site.disk.params()
    };
    let core = Core::open(params).await.unwrap();
    assert_eq!(core.registry.entry(&later.id), Some(later));
}

#[tokio::test(start_paused = true)]
async fn an_empty_machine_becomes_the_server() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&with_passphrase()));
    let bundle = core.authorities.bundle();
    drop(core);
    let elsewhere = Site {
        disk: DiskRig::new(),
        ..site
    };
    let restored = elsewhere.restore(&backup, &guess(PASSPHRASE)).await.unwrap();
    assert_eq!((restored.replaced, restored.old_data), (true, None));
    let core = elsewhere.disk.open().await;
    assert_eq!(
        core.authorities.bundle().x509_authorities(),
        bundle.x509_authorities()
    );
    assert_eq!(elsewhere.names().len(), 8, "{:?}", elsewhere.names());
}

#[tokio::test(start_paused = true)]
async fn a_token_of_before_is_void_unless_it_is_kept() {
    for keep_tokens in [false, true] {
        let site = Site::new();
        let core = site.disk.open().await;
        site.populate(&core).await;
        let backup = site.backup("1", Some(&with_passphrase()));
        // The reason why: it is redeemed after the backup. Where the old data knows that, it stays void (`undone`).
        core.registry
            .redeem_join_token("free", [2; 32], START)
            .await
            .unwrap();
        drop(core);
        let site = Site {
            disk: DiskRig::new(),
            ..site
        };
        let choice = Choice {
            keep_tokens,
            ..guess(PASSPHRASE)
        };
        site.restore(&backup, &choice).await.unwrap();
        let core = site.disk.open().await;
        let again = core.registry.redeem_join_token("free", [3; 32], START).await;
        match keep_tokens {
            false => assert!(matches!(again, Err(TokenError::Revoked)), "{again:?}"),
            true => assert!(again.unwrap().first),
        }
        let other = core.registry.redeem_join_token("spent", [3; 32], START).await;
        assert!(matches!(other, Err(TokenError::Used)), "{other:?}");
        let same = core.registry.redeem_join_token("spent", [1; 32], START).await;
        assert!(!same.unwrap().first, "its reply may have been lost");
        let again = Some("free".to_owned());
        let again = core.registry.create_join_token(again, DAY, None, START).await;
        assert!(again.is_ok(), "a text that is spent or void can be given again");
    }
}

/// An SVID of this server that begins now, less the slack for slow clocks.
async fn svid(core: &Core) -> Certificate {
    let entry = core
        .registry
        .list_entries(&EntryFilter::default(), 0, None)
        .0
        .remove(0);
    let issued = core.issuer.x509_for_entry(&me(), &entry, &key()).await.unwrap();
    issued.chain[0].clone()
}

#[tokio::test(start_paused = true)]
async fn a_node_that_was_renewed_after_the_backup_goes_on_and_an_older_svid_of_it_does_not() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let long_before = svid(&core).await;
    site.disk.clock.step(3600);
    let backup = site.backup("1", Some(&site.recipient()));
    site.disk.clock.step(3600);
    let after = svid(&core).await;
    let core = {
        drop(core);
        site.restore(&backup, &site.identity()).await.unwrap();
        site.disk.open().await
    };
    let now = START.saturating_add(Duration::from_secs(7200));
    let registry = &core.registry;
    let (node, banned, new) = (id(NODE), id(BANNED), id("/spire/agent/x509pop/new"));
    let adopt =
        async |who, shown: &Certificate, serial| registry.adopt_after_restoration(who, shown, serial).await;
    assert_eq!(
        registry.standing(&node, "0c", now).await,
        AgentStanding::NotActive
    );
    assert!(
        !adopt(&node, &long_before, "09").await,
        "it was superseded before"
    );
    assert!(!adopt(&banned, &after, "0c").await, "banned");
    assert!(!adopt(&new, &after, "0c").await, "enrolled after the backup");
    assert_eq!(
        registry.standing(&node, "0a", now).await,
        AgentStanding::Active,
        "it may not have been renewed"
    );
    assert!(adopt(&node, &after, "0c").await);
    assert_eq!(registry.standing(&node, "0c", now).await, AgentStanding::Active);
    assert_eq!(registry.agent(&node).unwrap().not_after, after.not_after());
    assert_eq!(
        registry.standing(&node, "0a", now).await,
        AgentStanding::NotActive
    );
    assert!(!adopt(&node, &after, "0d").await, "once");
    drop(core);
    let core = site.disk.open().await;
    assert_eq!(
        core.registry.standing(&node, "0c", now).await,
        AgentStanding::Active,
        "durably"
    );
}

/// Without a restoration nothing is adopted.
#[tokio::test(start_paused = true)]
async fn in_an_ordinary_registry_an_unknown_svid_is_none() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let shown = svid(&core).await;
    assert!(
        !core
            .registry
            .adopt_after_restoration(&id(NODE), &shown, "0c")
            .await
    );
}

#[tokio::test(start_paused = true)]
async fn over_a_running_server_nothing_is_restored() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    let before = site.names();
    let error = site.restore(&backup, &site.identity()).await.unwrap_err();
    assert!(matches!(error, BackupError::InUse { .. }), "{error}");
    assert_eq!(site.names(), before);
    assert_eq!(core.registry.entry(&made.id), Some(made));
    drop(core);
    site.restore(&backup, &site.identity()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_does_not_open_the_keys_replaces_nothing() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let sealed = site.backup("1", Some(&site.recipient()));
    let phrase = site.backup("2", Some(&with_passphrase()));
    drop(core);
    let before = site.names();
    let stranger = Site::new();
    for (from, choice) in [
        (&sealed, stranger.identity()),
        (&sealed, guess(PASSPHRASE)),
        (&phrase, guess("correct horse batterz")),
        (&phrase, site.identity()),
    ] {
        let error = site.restore(from, &choice).await.unwrap_err();
        let said = error_chain(&error);
        assert!(
            said.contains("stays closed") && !said.contains("of no use"),
            "the backup is not to blame: {said}"
        );
        let error = archive_error(error);
        assert!(matches!(error, ArchiveError::Sealed(_)), "{error}");
        assert_eq!(site.names(), before);
    }
    for (from, how) in [
        (&sealed, "are sealed for age1"),
        (&phrase, "are sealed with a passphrase"),
    ] {
        let error = site.restore(from, &Choice::default()).await.unwrap_err();
        assert!(matches!(error, BackupError::NeedsUnlock { .. }), "{error}");
        assert!(error.to_string().contains(how), "{error}");
    }
    assert_eq!(site.names(), before);
    assert_eq!(site.disk.open().await.registry.entry(&made.id), Some(made));
}

#[tokio::test(start_paused = true)]
async fn another_trust_domain_or_a_newer_schema_is_refused() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    drop(core);
    let other = forge(&backup, "2", |_, manifest| {
        manifest.trust_domain = "office.example".to_owned()
    });
    let error = site.restore(&other, &site.identity()).await.unwrap_err();
    assert!(matches!(error, BackupError::OtherTrustDomain { .. }), "{error}");
    let newer = forge(&backup, "3", |_, manifest| manifest.schema += 1);
    let error = error_chain(&site.restore(&newer, &site.identity()).await.unwrap_err());
    assert!(error.contains("newer than"), "{error}");
    for schema in [0, -1] {
        let none = forge(&backup, "4", |_, manifest| manifest.schema = schema);
        site.restore(&none, &site.identity()).await.unwrap_err();
        fs::remove_file(none).unwrap();
    }
    let older = forge(&backup, "5", |_, manifest| manifest.schema -= 1);
    let error = error_chain(&site.restore(&older, &site.identity()).await.unwrap_err());
    assert!(
        error.contains("not those of its schema") || error.contains("has no table"),
        "{error}"
    );
    assert!(
        !site.names().iter().any(|name| name.starts_with("restore")),
        "{:?}",
        site.names()
    );
}

/// Somebody who can write to backups gives himself an entry, and makes every digest fit.
#[tokio::test(start_paused = true)]
async fn tables_that_were_changed_do_not_fit_the_sealed_keys() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    drop(core);
    let forged = forge(&backup, "2", |members, _| {
        let table = members
            .iter_mut()
            .find(|(name, _)| name == "tables/entries.jsonl")
            .unwrap();
        let text = String::from_utf8(table.1.clone()).unwrap();
        assert!(text.contains("spiffe://plant.example/w\""));
        table.1 = text
            .replace("spiffe://plant.example/w\"", "spiffe://plant.example/x\"")
            .into_bytes();
    });
    let error = archive_error(site.restore(&forged, &site.identity()).await.unwrap_err());
    assert!(matches!(error, ArchiveError::OtherManifest), "{error}");
    // The control: it is the tables that are not believed, and not the forgery as such.
    let same = forge(&backup, "3", |_, _| ());
    site.restore(&same, &site.identity()).await.unwrap();
}

/// As it is written down when the backup is made.
fn fingerprint_in(backup: &Path) -> String {
    Archive::open(backup).unwrap().manifest.authorities[0]
        .fingerprint
        .clone()
}

/// A moment that lies earlier would let an SVID be adopted that was superseded before.
#[tokio::test(start_paused = true)]
async fn what_the_manifest_says_is_sealed_as_well() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    drop(core);
    let before = site.names();
    let changes: [fn(&mut Manifest); 5] = [
        |manifest| manifest.made_at -= 1,
        |manifest| manifest.epoch += 1,
        |manifest| manifest.made_by.push('x'),
        |manifest| manifest.authorities[0].fingerprint.push('0'),
        |manifest| manifest.bundle_sequence += 1,
    ];
    for change in changes {
        let forged = forge(&backup, "2", |_, manifest| change(manifest));
        let error = archive_error(site.restore(&forged, &site.identity()).await.unwrap_err());
        assert!(matches!(error, ArchiveError::OtherManifest), "{error}");
        assert_eq!(site.names(), before);
        fs::remove_file(forged).unwrap();
    }
}

/// A recipient is public: whoever reads it in a manifest can seal a trust domain of his own for it.
#[tokio::test(start_paused = true)]
async fn a_backup_of_authorities_that_nobody_knows_replaces_nothing_until_it_is_trusted() {
    let (site, stranger) = (Site::new(), Site::new());
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let ours = site.backup("1", Some(&site.recipient()));
    drop(core);
    let core = stranger.disk.open().await;
    stranger.populate(&core).await;
    let theirs = stranger.backup("1", Some(&site.recipient()));
    let phrase = stranger.backup("2", Some(&with_passphrase()));
    drop(core);
    let before = site.names();
    let with = |trust: Option<String>, dry_run, new_authorities, keys| Choice {
        trust,
        dry_run,
        new_authorities,
        keys,
        ..site.identity()
    };
    let wrong = || Some(fingerprint_in(&ours));
    for choice in [
        with(None, false, false, None),
        with(None, false, true, None),
        with(None, false, false, Some(site.disk.keys())),
        with(wrong(), false, false, None),
        with(wrong(), true, false, None),
    ] {
        let error = site.restore(&theirs, &choice).await.unwrap_err();
        let BackupError::Unknown { authorities } = &error else {
            panic!("{}", error_chain(&error))
        };
        assert!(authorities.contains(&fingerprint_in(&theirs)), "{authorities}");
        assert_eq!(site.names(), before);
    }
    let rehearsed = site
        .restore(&theirs, &with(None, true, false, None))
        .await
        .unwrap();
    assert_eq!((rehearsed.replaced, rehearsed.vouched), (false, Vouched::NotYet));
    assert_eq!(site.disk.open().await.registry.entry(&made.id), Some(made));
    // Who knows the passphrase made it.
    let choice = Choice {
        dry_run: true,
        ..guess(PASSPHRASE)
    };
    let rehearsed = site.restore(&phrase, &choice).await.unwrap();
    assert_eq!(rehearsed.vouched, Vouched::Seal);
    let right = with(Some(fingerprint_in(&theirs).to_uppercase()), false, false, None);
    let restored = site.restore(&theirs, &right).await.unwrap();
    assert_eq!((restored.replaced, restored.vouched), (true, Vouched::Seal));
}

/// Else whoever changes the tables has them taken without the seal being looked at.
#[tokio::test(start_paused = true)]
async fn a_sealed_backup_is_opened_also_when_its_keys_are_not_wanted() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    drop(core);
    let forged = forge(&backup, "2", |_, manifest| manifest.made_at -= 1);
    let choices = |with: fn(&Site) -> Choice| {
        let copy = Choice {
            keys: Some(site.disk.keys()),
            ..with(&site)
        };
        let anew = Choice {
            new_authorities: true,
            ..with(&site)
        };
        [copy, anew]
    };
    let before = site.names();
    for choice in choices(|_| Choice::default()) {
        let error = site.restore(&backup, &choice).await.unwrap_err();
        assert!(matches!(error, BackupError::NeedsUnlock { .. }), "{error}");
        assert_eq!(site.names(), before);
    }
    for choice in choices(Site::identity) {
        let error = archive_error(site.restore(&forged, &choice).await.unwrap_err());
        assert!(matches!(error, ArchiveError::OtherManifest), "{error}");
        assert_eq!(site.names(), before);
    }
    let [copy, _] = choices(Site::identity);
    site.restore(&backup, &copy).await.unwrap();
    let [_, anew] = choices(Site::identity);
    site.restore(&backup, &anew).await.unwrap();
}

/// Nor do rows that no server ever wrote make a database, when nothing vouches for them.
#[tokio::test(start_paused = true)]
async fn rows_that_break_a_rule_replace_nothing() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", None);
    drop(core);
    let before = site.names();
    let table = |from: &str, to: &'static str, name: &'static str| {
        let from = from.to_owned();
        forge(&backup, "2", move |members, _| {
            let table = members
                .iter_mut()
                .find(|(member, _)| *member == format!("tables/{name}.jsonl"));
            let table = table.unwrap();
            let text = String::from_utf8(table.1.clone()).unwrap();
            assert!(text.contains(&from), "{text}");
            table.1 = text.replace(&from, to).into_bytes();
        })
    };
    for forged in [
        || ("spiffe://plant.example/w", "spiffe://plant.example//w", "entries"),
        || ("[\"id\",\"text\"]", "[\"id2\",\"text\"]", "entries"),
        || ("[\"id\",\"text\"]", "[\"id\",\"real\"]", "entries"),
        || ("\"entries\"", "\"agents\"", "entries"),
        || ("null", "1.5", "entries"),
        || ("\n", "\n[]\n", "entries"),
        || ("\n", "", "entries"),
        || ("\"x509\"", "\"x509 \"", "authorities"),
        || ("\"active\"", "\"activ\"", "authorities"),
        || ("office.example", "nowhere.example", "federated_bundles"),
        || ("[1,\"plant.example\"", "[1,\"office.example\"", "state"),
        || ("[1,\"plant.example\"", "[2,\"plant.example\"", "state"),
    ] {
        let (from, to, name) = forged();
        let forged = table(from, to, name);
        let error = site.restore(&forged, &Choice::default()).await;
        assert!(error.is_err(), "{from} -> {to}");
        assert_eq!(site.names(), before, "{from} -> {to}");
        fs::remove_file(forged).unwrap();
    }
    site.restore(&backup, &Choice::default()).await.unwrap();
    assert_eq!(site.disk.open().await.registry.entry(&made.id), Some(made));
}

#[tokio::test(start_paused = true)]
async fn without_keys_in_it_they_come_from_the_directory_from_a_copy_or_are_made_anew() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", None);
    let bundle = core.authorities.bundle();
    drop(core);
    let error = site.restore(&backup, &site.identity()).await.unwrap_err();
    assert!(matches!(error, BackupError::Choice(_)), "{error}");
    site.restore(&backup, &Choice::default()).await.unwrap();
    let core = site.disk.open().await;
    assert_eq!(
        core.authorities.bundle().x509_authorities(),
        bundle.x509_authorities()
    );
    drop(core);
    let copy = site.out.path().join("keys");
    fs::rename(site.disk.keys(), &copy).unwrap();
    let error = site.restore(&backup, &Choice::default()).await.unwrap_err();
    assert!(matches!(error, BackupError::NoKey { .. }), "{error}");
    assert!(error.hint().contains("--keys DIR") && error.hint().contains("--new-authorities"));
    let choice = Choice {
        keys: Some(site.out.path().join("mistyped")),
        ..Choice::default()
    };
    let error = site.restore(&backup, &choice).await.unwrap_err();
    assert!(error_chain(&error).contains("mistyped"), "{error}");
    let choice = Choice {
        keys: Some(copy),
        ..Choice::default()
    };
    site.restore(&backup, &choice).await.unwrap();
    let core = site.disk.open().await;
    assert_eq!(
        core.authorities.bundle().x509_authorities(),
        bundle.x509_authorities()
    );
    drop(core);
    let choice = Choice {
        new_authorities: true,
        ..Choice::default()
    };
    site.restore(&backup, &choice).await.unwrap();
    let core = site.disk.open().await;
    assert_ne!(
        core.authorities.bundle().x509_authorities(),
        bundle.x509_authorities()
    );
    assert_eq!(core.registry.count_entries(&EntryFilter::default()), 1);
    core.issuer
        .x509_for_entry(
            &me(),
            &core.registry.list_entries(&EntryFilter::default(), 0, None).0[0],
            &key(),
        )
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_key_that_is_not_its_authoritys_replaces_nothing() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", None);
    drop(core);
    let keys = site.disk.keys();
    let mut files: Vec<_> = fs::read_dir(&keys)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let (first, second) = (fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap());
    crate::backup::fixture::write(&files[0], &second);
    let error = site.restore(&backup, &Choice::default()).await.unwrap_err();
    assert!(matches!(error, BackupError::OtherKey { .. }), "{error}");
    crate::backup::fixture::write(&files[0], &first);
    site.restore(&backup, &Choice::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_rehearsal_replaces_nothing() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    let later = entry(&core, draft(NODE, "/later")).await;
    drop(core);
    let before = site.names();
    let choice = Choice {
        dry_run: true,
        ..site.identity()
    };
    let restored = site.restore(&backup, &choice).await.unwrap();
    assert!(!restored.replaced);
    assert_eq!(site.names(), before);
    let core = site.disk.open().await;
    assert_eq!(core.registry.entry(&later.id), Some(later));
    let standing = core.registry.standing(&id(NODE), "0a", START).await;
    assert_eq!(standing, AgentStanding::Active);
}

#[tokio::test(start_paused = true)]
async fn wherever_the_power_fails_a_whole_server_starts() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    drop(core);
    let (mut old, mut new) = (0, 0);
    for calls in 0.. {
        let core = site.disk.open().await;
        core.registry.delete_entry(&made.id).await.unwrap();
        drop(core);
        let cut = PowerCut::after(calls);
        let done = site
            .restore_through(&backup, &site.identity(), |files| cut.over(files))
            .await;
        let core = site.disk.open().await;
        match core.registry.entry(&made.id) {
            None => old += 1,
            Some(_) => new += 1,
        }
        let agents = core.registry.count_agents(&AgentFilter::default());
        assert_eq!(agents, 2, "after {calls} calls");
        let other = entry(&core, draft(NODE, &format!("/after/{calls}"))).await;
        core.issuer.x509_for_entry(&me(), &other, &key()).await.unwrap();
        drop(core);
        assert!(
            !site.names().iter().any(|name| name.starts_with("restore")),
            "{:?}",
            site.names()
        );
        if done.is_ok() {
            break;
        }
    }
    assert!(old > 3 && new > 5, "{old} {new}");
}

#[tokio::test(start_paused = true)]
async fn after_a_restoration_the_directory_is_one_that_was_used() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    drop(core);
    let elsewhere = Site {
        disk: DiskRig::new(),
        ..site
    };
    let choice = Choice {
        trust: Some(fingerprint_in(&backup)),
        ..elsewhere.identity()
    };
    elsewhere.restore(&backup, &choice).await.unwrap();
    fs::remove_file(elsewhere.disk.database()).unwrap();
    assert!(
        !elsewhere.disk.dir.path().join(MARKER).exists(),
        "not started yet"
    );
    let error = elsewhere.disk.try_open().await.unwrap_err();
    assert!(matches!(error, CoreError::Database { .. }), "{error}");
}

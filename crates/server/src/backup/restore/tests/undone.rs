//! What was decided after the backup, and whether it comes back unnoticed.

use std::fs;

use landfast_lifecycle::Clock as _;

use super::*;
use crate::authority::Trust;
use crate::issuance::IssueError;
use crate::quarantine::state::{FILE, MARK, MAX_FINDINGS, Mark, State};
use crate::quarantine::{End, EndError};

/// As an operator types it who has not thought of anything.
fn plain(site: &Site) -> Choice {
    Choice {
        accept_rollback: false,
        ..site.identity()
    }
}

fn kinds(restored: &Restored) -> Vec<&'static str> {
    let found = restored.undone.findings.iter();
    found.map(|finding| finding.kind.as_str()).collect()
}

async fn sign(core: &Core) -> Result<(), IssueError> {
    let some = entry(core, draft(NODE, "/signed")).await;
    let signed = core.issuer.x509_for_entry(&me(), &some, &key()).await;
    core.registry.delete_entry(&some.id).await.unwrap();
    signed.map(drop)
}

async fn end(core: &Core, accept_rollback: bool) -> Result<usize, EndError> {
    let order = End {
        by: "me",
        reason: "looked",
        accept_rollback,
    };
    core.quarantine
        .end(&order, &core.registry, &core.authorities)
        .await
}

#[tokio::test(start_paused = true)]
async fn a_ban_and_a_used_token_do_not_come_back_and_a_deletion_not_unnoticed() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    core.registry.delete_entry(&made.id).await.unwrap();
    core.registry.ban_agent(&id(NODE)).await.unwrap();
    let newcomer = crate::core::fixture::agent("/spire/agent/x509pop/new", "0d", &["k:2"]);
    core.registry
        .upsert_agent_on_attest(newcomer.clone())
        .await
        .unwrap();
    core.registry.ban_agent(&newcomer.id).await.unwrap();
    core.registry
        .redeem_join_token("free", [2; 32], START)
        .await
        .unwrap();
    drop(core);
    let choice = Choice {
        keep_tokens: true,
        ..plain(&site)
    };
    let restored = site.restore(&backup, &choice).await.unwrap();
    assert!(restored.undone.quarantine);
    assert_eq!(restored.undone.unknown, None);
    let mut bans = restored.undone.bans.clone();
    bans.sort();
    assert_eq!(bans, [id(NODE).to_string(), newcomer.id.to_string()]);
    assert_eq!(kinds(&restored), ["entry-deleted"]);

    let core = site.disk.open().await;
    for node in [id(NODE), newcomer.id] {
        assert!(core.registry.agent(&node).unwrap().is_banned(), "{node}");
    }
    let again = core.registry.redeem_join_token("free", [3; 32], START).await;
    assert!(matches!(again, Err(TokenError::Revoked)), "{again:?}");
    assert!(matches!(sign(&core).await, Err(IssueError::Quarantine { .. })));
    assert!(matches!(
        end(&core, false).await,
        Err(EndError::ComesBack { count: 1 })
    ));
    core.registry.delete_entry(&made.id).await.unwrap();
    // All of it was known: what was decided again does not come back.
    let epoch = core.registry.revision().epoch;
    assert_eq!(end(&core, false).await.unwrap(), 0);
    assert_eq!(
        core.registry.revision().epoch,
        epoch,
        "a restoration has begun it"
    );
    sign(&core).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn evictions_and_changes_are_named() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    let patch = crate::registry::EntryPatch {
        hint: Some("other".to_owned()),
        ..Default::default()
    };
    core.registry.update_entry(&made.id, patch).await.unwrap();
    core.registry.delete_agent(&id(NODE)).await.unwrap();
    // The ban of before is lifted.
    core.registry.delete_agent(&id(BANNED)).await.unwrap();
    let returned = crate::core::fixture::agent("/spire/agent/x509pop/b", "0e", &["k:2"]);
    core.registry.upsert_agent_on_attest(returned).await.unwrap();
    drop(core);
    let restored = site.restore(&backup, &plain(&site)).await.unwrap();
    assert_eq!(kinds(&restored), ["node-evicted", "entry-changed", "node-lost"]);
    let core = site.disk.open().await;
    core.registry.delete_agent(&id(NODE)).await.unwrap();
    assert!(matches!(
        end(&core, false).await,
        Err(EndError::ComesBack { count: 1 })
    ));
    assert_eq!(end(&core, true).await.unwrap(), 1);
    sign(&core).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_was_tainted_or_revoked_is_named() {
    use crate::authority::{Kind, Order};
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    let stolen = core.authorities.active_x509().unwrap().id.clone();
    {
        let order = async |order| core.authorities.order(&order, START).await.unwrap();
        let made = order(Order::Prepare(Kind::X509)).await;
        order(Order::Activate(Kind::X509, made.id)).await;
        order(Order::Taint(Kind::X509, stolen.clone())).await;
    }
    drop(core);
    let restored = site.restore(&backup, &plain(&site)).await.unwrap();
    assert_eq!(kinds(&restored), ["authority-gone"]);
    assert_eq!(restored.undone.findings[0].object, stolen);
    assert!(restored.undone.quarantine);
}

/// A night of an importer, and a key that was stolen.
#[tokio::test(start_paused = true)]
async fn more_than_is_listed_is_said_to_be_more_and_the_weightiest_are_listed() {
    use crate::authority::{Kind, Order};
    let site = Site::new();
    let core = site.disk.open().await;
    let mut made = vec![site.populate(&core).await];
    let drafts = (0..MAX_FINDINGS).map(|n| entry(&core, draft(NODE, &format!("/n/{n}"))));
    made.extend(futures_util::future::join_all(drafts).await);
    let backup = site.backup("1", Some(&site.recipient()));
    let stolen = core.authorities.active_x509().unwrap().id.clone();
    {
        let order = async |order| core.authorities.order(&order, START).await.unwrap();
        let next = order(Order::Prepare(Kind::X509)).await;
        order(Order::Activate(Kind::X509, next.id)).await;
        order(Order::Taint(Kind::X509, stolen.clone())).await;
    }
    let deletions = made.iter().map(|entry| core.registry.delete_entry(&entry.id));
    for done in futures_util::future::join_all(deletions).await {
        done.unwrap();
    }
    drop(core);
    let restored = site.restore(&backup, &plain(&site)).await.unwrap();
    let undone = &restored.undone;
    assert_eq!(undone.findings.len(), MAX_FINDINGS);
    assert_eq!(undone.findings[0].object, stolen, "of those there are few");
    let more = undone.unknown.as_ref().expect("it is not all");
    assert!(more.starts_with("2 more come back"), "{more}");
    let core = site.disk.open().await;
    let report = core.quarantine.report(&core.registry, &core.authorities.bundle());
    assert!(!report.complete);
}

/// A weekend in quarantine, and a rotation that is due: nobody may be told of the next authority, and what was signed since is not recorded.
#[tokio::test(start_paused = true)]
async fn a_registry_that_went_back_gives_up_no_authority_that_signs_what_nodes_have() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    core.registry.delete_entry(&made.id).await.unwrap();
    let active = core.authorities.active_x509().unwrap();
    drop(core);
    site.disk.clock.pass(26 * 86_400);
    site.restore(&backup, &plain(&site)).await.unwrap();
    let core = site.disk.open().await;
    assert!(core.quarantine.holds());
    let pass = async |seconds| {
        site.disk.clock.pass(seconds);
        let now = site.disk.clock.now().unwrap();
        core.authorities.tick(now, Trust::Steady).await.unwrap();
    };
    for _ in 0..3 {
        pass(3600).await;
        assert_eq!(core.authorities.active_x509().unwrap().id, active.id);
    }
    end(&core, true).await.unwrap();
    pass(3600).await;
    assert_ne!(
        core.authorities.active_x509().unwrap().id,
        active.id,
        "it goes on"
    );
    let bundle = core.authorities.bundle();
    let still = |authority: &landfast_identity::X509Authority| authority.certificate == active.certificate;
    assert!(
        bundle.x509_authorities().iter().any(still),
        "it may have signed until the registry went back"
    );
}

#[tokio::test(start_paused = true)]
async fn where_nothing_comes_back_the_server_signs_at_once() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    // Something is lost, and nobody gains by it.
    entry(&core, draft(NODE, "/later")).await;
    drop(core);
    let restored = site.restore(&backup, &plain(&site)).await.unwrap();
    assert!(!restored.undone.quarantine, "{:?}", restored.undone);
    sign(&site.disk.open().await).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_the_old_data_does_not_say_is_not_taken_for_granted() {
    // An empty machine; a damaged database; one of another registry; one that was put back itself.
    for what in ["empty", "damaged", "other", "put-back"] {
        let site = Site::new();
        let core = site.disk.open().await;
        site.populate(&core).await;
        let backup = site.backup("1", Some(&with_passphrase()));
        let revision = core.registry.revision();
        drop(core);
        let out = site.out;
        let disk = match what {
            "empty" | "other" => DiskRig::new(),
            _ => site.disk,
        };
        match what {
            "damaged" => drop(fs::copy(&backup, disk.database()).unwrap()),
            "other" => drop(disk.open().await),
            "put-back" => {
                let newer = Mark {
                    epoch: revision.epoch,
                    number: revision.number + 1,
                    sequence: 0,
                };
                let store = Store::open(disk.dir.path()).unwrap();
                store.replace(MARK, &newer.to_bytes()).unwrap();
            }
            _ => {}
        }
        let site = Site {
            disk,
            out,
            ..Site::new()
        };
        let choice = Choice {
            accept_rollback: false,
            ..guess(PASSPHRASE)
        };
        let restored = site.restore(&backup, &choice).await.unwrap();
        assert!(restored.undone.quarantine, "{what}");
        assert!(restored.undone.unknown.is_some(), "{what}");
        let core = site.disk.open().await;
        assert!(core.registry.revision() > revision, "{what}");
        assert!(
            matches!(sign(&core).await, Err(IssueError::Quarantine { .. })),
            "{what}"
        );
        assert!(
            matches!(end(&core, false).await, Err(EndError::NotKnown)),
            "{what}"
        );
        end(&core, true).await.unwrap();
        sign(&core).await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn epoch_and_sequence_are_greater_than_whatever_there_was_also_when_the_clock_is_behind() {
    let site = Site::new();
    let core = site.disk.open().await;
    site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    drop(core);
    // Restored once, and much has happened since.
    site.disk.clock.step(86_400);
    let first = site.restore(&backup, &site.identity()).await.unwrap();
    let core = site.disk.open().await;
    let noted = Mark {
        epoch: first.epoch,
        number: 0,
        sequence: 500_000,
    };
    core.quarantine.keep(noted).await;
    drop(core);
    site.disk.clock.step(-86_400);
    let second = site.restore(&backup, &site.identity()).await.unwrap();
    assert!(second.epoch > first.epoch, "{} {}", second.epoch, first.epoch);
    let core = site.disk.open().await;
    assert!(core.authorities.bundle().sequence() > 500_000);
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_would_be_and_writes_nothing_and_a_quarantine_outlives_another_restoration() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    core.registry.delete_entry(&made.id).await.unwrap();
    drop(core);
    let before = site.names();
    let choice = Choice {
        dry_run: true,
        ..plain(&site)
    };
    let restored = site.restore(&backup, &choice).await.unwrap();
    assert!(restored.undone.quarantine && !restored.replaced);
    assert_eq!(site.names(), before);
    site.restore(&backup, &plain(&site)).await.unwrap();
    // Nothing has changed since that one; what the first one undid is undone still.
    let again = site.restore(&backup, &plain(&site)).await.unwrap();
    assert!(again.undone.quarantine);
    let text = fs::read(site.disk.dir.path().join(FILE)).unwrap();
    let state = State::read(Some(&text), START);
    assert_eq!(state.causes[0].findings[0].object, made.id);
    site.restore(&backup, &site.identity()).await.unwrap();
    sign(&site.disk.open().await).await.unwrap();
}

/// The quarantine stands beside this database: PostgreSQL would not have it.
#[tokio::test]
async fn a_registry_in_quarantine_does_not_move() {
    let site = Site::new();
    let core = site.disk.open().await;
    let made = site.populate(&core).await;
    let backup = site.backup("1", Some(&site.recipient()));
    core.registry.delete_entry(&made.id).await.unwrap();
    drop(core);
    site.restore(&backup, &plain(&site)).await.unwrap();
    let nowhere = "postgres://me:secret@localhost:1/landfast";
    let target = crate::datastore::postgres::PostgresConfig::parse(nowhere, None, None).unwrap();
    let dir = site.disk.dir.path();
    let moved = crate::backup::migrate::migrate(dir, &crate::core::fixture::td(), &target, START).await;
    let error = moved.unwrap_err().to_string();
    assert!(error.contains("in quarantine"), "{error}");
    assert!(site.disk.database().exists());
}

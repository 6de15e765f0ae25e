//! What is in the ledger, and that nothing leaves that is not.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use landfast_audit::verify::{DirSource, Report, VerifierKey, verify};
use landfast_audit::{Actor, ActorClass, Category, CheckpointKey, Log, Record, Recovered};
use landfast_lifecycle::SimClock;
use landfast_store::Store;
use landfast_store::faulty::{FaultyFiles, Script, Verb};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::authority::MemoryKeys;
use crate::core::fixture::{DiskRig, START, draft, entry, id, key, me, td};
use crate::core::{Core, CoreError, CoreParams};
use crate::datastore::sqlite::SqliteDatastore;
use crate::issuance::{IssueError, Requester};

mod availability;
mod own;
mod rig;

use rig::{Faulty, marks};

/// Every record that a checkpoint names.
pub(crate) fn read(dir: &Path) -> Vec<Value> {
    let checkpoint = std::fs::read_to_string(dir.join("checkpoint")).unwrap();
    let size: usize = checkpoint.lines().nth(1).unwrap().parse().unwrap();
    let mut all = Vec::new();
    for index in 0..size.div_ceil(256) {
        let width = (size - index * 256).min(256);
        let name = match width {
            256 => format!("tile/entries/{index:03}"),
            _ => format!("tile/entries/{index:03}.p/{width}"),
        };
        let bytes = std::fs::read(dir.join(name)).unwrap();
        let mut rest = &bytes[..];
        while let Some((length, after)) = rest.split_first_chunk() {
            let (record, after) = after.split_at(u16::from_be_bytes(*length).into());
            all.push(serde_json::from_slice(record).unwrap());
            rest = after;
        }
    }
    all
}

pub(crate) fn report(dir: &Path) -> Report {
    let key = std::fs::read_to_string(dir.join("verifier-key")).unwrap();
    verify(&DirSource::new(dir), &VerifierKey::parse(&key).unwrap(), &[])
}

fn of_type<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["type"] == kind).collect()
}

/// Of all but what the authorities did by themselves.
fn types(records: &[Value]) -> Vec<&str> {
    let types = records.iter().map(|record| record["type"].as_str().unwrap());
    types.filter(|kind| !kind.starts_with("authority.")).collect()
}

fn record() -> Record {
    Record::new(
        Category::System,
        "test.happened",
        Actor::new(ActorClass::Server, None),
    )
}

#[tokio::test]
async fn what_is_issued_is_in_a_log_that_verifies() {
    let rig = DiskRig::new();
    let core = rig.open().await;
    let created = entry(&core, draft("/spire/agent/x", "/line/4")).await;
    let agent = Requester::agent(id("/spire/agent/x"), "join_token");
    let x509 = core
        .issuer
        .x509_for_entry(&agent, &created, &key())
        .await
        .unwrap();
    let audience = ["historian".to_owned()];
    let jwt = core
        .issuer
        .jwt_for_entry(&agent, &created, &audience)
        .await
        .unwrap();
    let minted = core
        .issuer
        .mint_x509(&me(), &id("/by/hand"), &[], None, &key())
        .await;
    let minted = minted.unwrap();
    drop(core);
    let dir = rig.dir.path().join("ledger");
    let report = report(&dir);
    assert!(report.is_good(), "{:?}", report.findings);
    assert!(report.origin.starts_with("plant.example/landfast/ledger/"));
    let records = read(&dir);
    assert_eq!(records[0]["type"], "log.started");
    assert_eq!(records.last().unwrap()["type"], "log.stopped");
    let issued = of_type(&records, "svid.issued");
    assert_eq!(issued.len(), 3);
    let first = issued[0];
    assert_eq!(first["actor"]["class"], "node");
    assert_eq!(first["actor"]["id"], "spiffe://plant.example/spire/agent/x");
    assert_eq!(first["actor"]["how"]["attestation"], "join_token");
    assert_eq!(first["subject"], "spiffe://plant.example/line/4");
    assert_eq!(first["decision"], "allow");
    assert_eq!(first["detail"]["serial"], x509.serial_hex());
    assert_eq!(first["detail"]["entry"], created.id);
    assert_eq!(first["detail"]["not_after"], x509.not_after.to_string());
    assert_eq!(issued[1]["detail"]["kind"], "jwt");
    assert_eq!(issued[2]["actor"]["how"]["uid"], 1000);
    assert_eq!(issued[2]["detail"]["serial"], minted.serial_hex());
    // The signature of a token is what makes it one.
    let secret = jwt.token.rsplit('.').next().unwrap();
    assert!(records.iter().all(|record| !record.to_string().contains(secret)));
}

#[tokio::test]
async fn what_is_denied_is_there_with_its_reason() {
    let faulty = Faulty::new();
    let core = faulty.core().await;
    let foreign = landfast_identity::SpiffeId::parse("spiffe://elsewhere.example/x").unwrap();
    let refused = core.issuer.mint_x509(&me(), &foreign, &[], None, &key()).await;
    let reason = refused.unwrap_err().to_string();
    drop(core);
    let records = faulty.end();
    let denied = of_type(&records, "svid.denied");
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["decision"], "deny");
    assert_eq!(denied[0]["result"], "refused");
    assert_eq!(denied[0]["reason"], reason);
    assert_eq!(denied[0]["subject"], "spiffe://elsewhere.example/x");
}

#[tokio::test]
async fn nothing_leaves_whose_record_is_not_on_the_disk() {
    for verb in [Verb::Write, Verb::Sync] {
        let faulty = Faulty::new();
        let core = faulty.core().await;
        // The tail is open.
        core.issuer
            .mint_x509(&me(), &id("/a"), &[], None, &key())
            .await
            .unwrap();
        faulty.script.break_down(verb, ErrorKind::StorageFull);
        let refused = core.issuer.mint_x509(&me(), &id("/b"), &[], None, &key()).await;
        assert!(
            matches!(refused, Err(IssueError::Ledger { .. })),
            "{verb:?}: {refused:?}"
        );
        let text = error_chain(&refused.unwrap_err());
        assert!(text.contains("make room"), "{text}");
        assert!(core.ledger.trouble().is_some());
        // From now on it is known before anything is signed, for tokens as well.
        let refused = core
            .issuer
            .mint_jwt(&me(), &id("/b"), &["x".to_owned()], None)
            .await;
        assert!(matches!(refused, Err(IssueError::Ledger { .. })), "{refused:?}");
        faulty.script.mend();
        mended(&core.ledger).await;
        let issued = core
            .issuer
            .mint_x509(&me(), &id("/c"), &[], None, &key())
            .await
            .unwrap();
        drop(core);
        let records = faulty.end();
        let gaps = of_type(&records, "log.gap");
        assert_eq!(gaps.len(), 1, "{verb:?}");
        assert_eq!(gaps[0]["detail"]["refused"], 1);
        assert_eq!(gaps[0]["detail"]["since"], START.to_string());
        let serials: Vec<_> = of_type(&records, "svid.issued")
            .iter()
            .map(|record| record["subject"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            serials,
            ["spiffe://plant.example/a", "spiffe://plant.example/c"],
            "{verb:?}"
        );
        assert_eq!(
            of_type(&records, "svid.issued")[1]["detail"]["serial"],
            issued.serial_hex()
        );
    }
}

/// Waits until it can be written again; it tries by itself.
async fn mended(ledger: &Ledger) {
    tokio::time::timeout(Duration::from_secs(60), async {
        while ledger.check().is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .expect("the ledger tries again");
}

#[tokio::test]
async fn those_who_come_while_a_batch_is_written_share_the_next() {
    let faulty = Faulty::new();
    faulty.ledger.append(vec![record()]).await.unwrap();
    faulty.script.hang(Verb::Sync);
    let before = faulty.script.calls().len();
    let first = tokio_tasks::append(&faulty.ledger);
    while !faulty.script.calls()[before..].contains(&Verb::Sync) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let rest: Vec<_> = (0..50).map(|_| tokio_tasks::append(&faulty.ledger)).collect();
    // Each has its turn, which is to be sent.
    tokio::task::yield_now().await;
    let waits = std::iter::once(&first)
        .chain(&rest)
        .all(|task| !task.is_finished());
    assert!(waits, "nothing is acknowledged before its sync");
    faulty.script.mend();
    for task in std::iter::once(first).chain(rest) {
        task.await.unwrap().unwrap();
    }
    let calls = &faulty.script.calls()[before..];
    let writes = calls.iter().filter(|call| **call == Verb::Write).count();
    assert_eq!(writes, 2, "{calls:?}");
    assert_eq!(of_type(&faulty.end(), "test.happened").len(), 52);
}

/// A task of a test, which joins it.
mod tokio_tasks {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "the test joins it")]
    pub(super) fn append(ledger: &Ledger) -> tokio::task::JoinHandle<Result<(), LedgerError>> {
        let ledger = ledger.clone();
        tokio::spawn(async move { ledger.append(vec![record()]).await })
    }
}

#[tokio::test]
async fn a_server_goes_on_with_its_ledger_also_after_a_kill() {
    let rig = DiskRig::new();
    let core = rig.open().await;
    core.issuer
        .mint_x509(&me(), &id("/a"), &[], None, &key())
        .await
        .unwrap();
    // As the disk is while it runs.
    let killed = tempfile::tempdir().unwrap();
    crate::core::fixture::copy(rig.dir.path(), killed.path());
    drop(core);
    drop(rig.open().await);
    let records = read(&rig.dir.path().join("ledger"));
    let found = types(&records);
    assert_eq!(
        found,
        [
            "log.started",
            "svid.issued",
            "log.stopped",
            "log.started",
            "log.stopped"
        ]
    );

    let params = CoreParams {
        data_dir: Some(killed.path().into()),
        ..rig.params()
    };
    drop(Core::open(params).await.unwrap());
    let records = read(&killed.path().join("ledger"));
    let found = types(&records);
    assert_eq!(
        found,
        ["log.started", "svid.issued", "log.started", "log.stopped"]
    );
    let again = of_type(&records, "log.started")[1];
    let made = of_type(&records, "authority.activated").len() + of_type(&records, "authority.prepared").len();
    assert!(made > 0, "what a server does by itself is there");
    assert_eq!(again["detail"]["recovered"], 1 + made);
    assert!(report(&killed.path().join("ledger")).is_good());
}

#[tokio::test]
async fn a_server_without_its_ledger_or_its_key_does_not_begin_another() {
    let rig = DiskRig::new();
    drop(rig.open().await);
    let (dir, key, aside) = (
        rig.dir.path().join("ledger"),
        rig.dir.path().join("ledger.key"),
        rig.dir.path().join("aside"),
    );
    std::fs::rename(&key, &aside).unwrap();
    let refused = rig.try_open().await.unwrap_err();
    assert!(matches!(refused, CoreError::Ledger { .. }), "{refused:?}");
    std::fs::rename(&aside, &key).unwrap();
    std::fs::rename(&dir, &aside).unwrap();
    let refused = rig.try_open().await.unwrap_err();
    let text = error_chain(&refused);
    assert!(text.contains("put the ledger back"), "{text}");
    // Without both, a new one begins under another name.
    std::fs::remove_dir_all(&dir).unwrap();
    std::fs::remove_file(&key).unwrap();
    drop(rig.open().await);
    let old = std::fs::read_to_string(aside.join("verifier-key")).unwrap();
    let new = std::fs::read_to_string(dir.join("verifier-key")).unwrap();
    assert_ne!(old.split('+').next(), new.split('+').next());
    assert!(report(&dir).is_good() && report(&aside).is_good());
}

#[tokio::test]
async fn the_ledger_may_lie_elsewhere() {
    let (rig, elsewhere) = (DiskRig::new(), tempfile::tempdir().unwrap());
    let params = CoreParams {
        ledger_dir: Some(elsewhere.path().join("records")),
        ..rig.params()
    };
    drop(Core::open(params).await.unwrap());
    assert!(!rig.dir.path().join("ledger").exists());
    assert!(report(&elsewhere.path().join("records")).is_good());
}

#[test]
fn how_somebody_is_known_stands_by_itself() {
    let behind_sudo = Requester::local(0, Some(7))
        .operated_by("loginuid 1000 person p-a".to_owned())
        .come_by(Some("uid:1000".to_owned()))
        .of_person(Some("p-a".to_owned()))
        .logged_in_as(Some(1000));
    let actor = actor(&behind_sudo);
    assert_eq!(
        (actor.class, actor.id.as_deref()),
        (ActorClass::Person, Some("p-a"))
    );
    let how: Vec<_> = actor.how.keys().copied().collect();
    assert_eq!(how, ["login", "loginuid", "pid", "uid"]);
    assert_eq!(actor.how["loginuid"], 1000_u64.into());
    assert_eq!(actor.how["login"], "uid:1000".into());
    let away = Requester::login(Some([192, 0, 2, 1].into())).of_person(Some("p-a".to_owned()));
    assert_eq!(super::actor(&away).how["address"], "192.0.2.1".into());
}

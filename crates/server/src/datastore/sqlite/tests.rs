//! The database: what is acknowledged stays, what is refused leaves nothing, what is wrong with a file is named.

use std::path::Path;
use std::sync::Mutex;

use landfast_identity::{JwtAuthority, X509Authority};
use rusqlite::Connection;

use super::migrate::{apply, pending, pending_of};
use super::*;
use crate::authority::Slot;
use crate::core::fixture::{DAY, NEW, START, agent, draft, foreign, id, td};
use crate::datastore::Pending;
use crate::datastore::conformance::authority;
use crate::datastore::{Committed, Redemption};
use crate::registry::{DeleteMode, EntryPatch, MargoPaths};

fn open(path: &Path, initialised: bool) -> Result<SqliteDatastore, OpenError> {
    SqliteDatastore::open(path, &td(), initialised)
}

async fn in_memory() -> ((), crate::datastore::conformance::Store) {
    ((), Arc::new(SqliteDatastore::in_memory(&td()).unwrap()))
}

crate::datastore::conformance::conforms!(in_memory);

struct Place {
    _dir: tempfile::TempDir,
    file: std::path::PathBuf,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("landfast.db");
        Self { _dir: dir, file }
    }

    /// With some of everything in it, closed.
    async fn filled() -> Self {
        let place = Self::new();
        fill(&open(&place.file, false).unwrap()).await;
        place
    }

    fn sql(&self, sql: &str) {
        Connection::open(&self.file).unwrap().execute_batch(sql).unwrap();
    }
}

async fn fill(db: &SqliteDatastore) {
    let bundle = foreign("b.example").await;
    let x509 = bundle.x509_authorities()[0].certificate.clone();
    let jwt = JwtAuthority {
        tainted: true,
        expires_at: None,
        ..bundle.jwt_authorities()[0].clone()
    };
    let bundle = bundle
        .with_x509_authorities(vec![X509Authority {
            certificate: x509,
            tainted: true,
        }])
        .unwrap()
        .with_jwt_authorities(vec![jwt])
        .unwrap()
        .with_sequence(u64::MAX);
    db.set_bundle(Arc::new(bundle), BundleWrite::Set).await.unwrap();
    for n in 0..50 {
        let mut draft = draft("/spire/agent/x", &format!("/w{n}"));
        draft.federates_with = vec![TrustDomain::parse("b.example").unwrap()];
        draft.dns_names = vec!["b.example".into(), "a.example".into()];
        draft.expires_at = Some(START.saturating_add(DAY));
        draft.hint = "\"ü\"".into();
        draft.jwt_svid_include_jti = true;
        draft.x509_svid_ttl = Some(DAY);
        db.create_entry(draft, format!("e{n:02}"), "me".into(), START)
            .await
            .unwrap();
    }
    let mut agent = agent("/spire/agent/x", "0a", &["k:1", "k:2"]);
    agent.new_serial = Some("0b".into());
    agent.new_not_after = Some(START);
    db.attest_agent(agent, NEW).await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_opening_again() {
    let place = Place::new();
    let db = open(&place.file, false).unwrap();
    fill(&db).await;
    let mut before = db.load(Some(START)).await.unwrap();
    drop(db);
    let mut after = open(&place.file, true).unwrap().load(Some(START)).await.unwrap();
    before.entries.sort_by(|a, b| a.entry.id.cmp(&b.entry.id));
    after.entries.sort_by(|a, b| a.entry.id.cmp(&b.entry.id));
    assert_eq!(before.entries.len(), 50);
    assert_eq!(after.entries, before.entries);
    assert_eq!(after.agents, before.agents);
    assert_eq!(after.bundles, before.bundles);
    assert!(after.bundles[0].x509_authorities()[0].tainted && after.bundles[0].jwt_authorities()[0].tainted);
    assert_eq!(after.bundles[0].sequence(), u64::MAX);
    assert_eq!((after.revision.number, before.revision.number), (52, 52));
}

#[tokio::test]
async fn authorities_are_in_the_main_file_also_when_the_log_is_lost() {
    let place = Place::new();
    let db = open(&place.file, false).unwrap();
    let rows = vec![authority("one", Slot::Active)];
    db.save_journal(0, rows).await.unwrap().unwrap();
    // As it lies there while the server runs.
    let copy = place.file.with_extension("copy");
    std::fs::copy(&place.file, &copy).unwrap();
    let found = open(&copy, true).unwrap().journal().await.unwrap();
    assert_eq!(found.rows.len(), 1);
    assert_eq!(found.sequence, 1);
}

#[tokio::test]
async fn commits_are_made_for_power_cuts_and_the_file_is_ours_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let db = open(&place.file, false).unwrap();
    let answers: Vec<String> = db
        .writer
        .write(|tx| -> Result<_, DatastoreError> {
            let ask = |pragma: &str| {
                tx.conn().query_row(&format!("PRAGMA {pragma}"), [], |row| {
                    Ok(row
                        .get::<_, i64>(0)
                        .map_or_else(|_| row.get(0).unwrap(), |n| n.to_string()))
                })
            };
            ["synchronous", "journal_mode", "foreign_keys"]
                .into_iter()
                .map(|p| Ok(ask(p)?))
                .collect()
        })
        .await
        .unwrap();
    assert_eq!(answers, ["2", "wal", "1"], "2 is FULL");
    fill(&db).await;
    for name in ["landfast.db", "landfast.db-wal", "landfast.db-shm"] {
        let mode = std::fs::metadata(place.file.with_file_name(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

/// Remembers what it was told, and how much was answered by then.
#[derive(Default)]
struct Listener(Mutex<Vec<Committed>>);

impl CommitListener for Listener {
    fn committed(&self, commit: &Committed) {
        self.0.lock().unwrap().push(commit.clone());
    }

    fn reloaded(&self, _: Snapshot) {
        panic!("nobody else writes");
    }
}

#[tokio::test]
async fn the_listener_hears_of_every_commit_in_order_and_of_no_refusal() {
    let db = SqliteDatastore::in_memory(&td()).unwrap();
    let listener = Arc::new(Listener::default());
    db.follow(listener.clone());
    let created = |n: u32| {
        db.create_entry(
            draft("/spire/agent/x", &format!("/w{n}")),
            format!("e{n}"),
            "me".into(),
            START,
        )
    };
    // Every third one takes a name that is taken.
    let answers =
        futures_util::future::join_all((0..90).map(|n| created(if n % 3 == 2 { n - 1 } else { n }))).await;
    let fresh = answers
        .iter()
        .filter(|a| matches!(a, Ok(Created::New(_))))
        .count();
    assert_eq!(fresh, 60);
    db.delete_entry("e0".into(), START).await.unwrap();
    let heard = listener.0.lock().unwrap();
    let revisions: Vec<_> = heard.iter().map(|commit| commit.revision).collect();
    assert_eq!(
        revisions,
        (1..=61).collect::<Vec<_>>(),
        "each change the next revision"
    );
    assert!(matches!(&heard[60].change, crate::datastore::Change::RemoveEntry(id) if id == "e0"));
}

#[tokio::test]
async fn a_refused_request_takes_no_other_with_it() {
    let db = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
    let (go, gate) = std::sync::mpsc::channel::<()>();
    // Holds the writer, so that what follows shares one transaction.
    let block = db.writer.write(move |_| -> Result<(), DatastoreError> {
        gate.recv().unwrap();
        Ok(())
    });
    let mut bad = draft("/spire/agent/x", "/bad");
    bad.federates_with = vec![TrustDomain::parse("nobody.example").unwrap()];
    let one = db.create_entry(draft("/spire/agent/x", "/one"), "one".into(), "me".into(), START);
    let bad = db.create_entry(bad, "bad".into(), "me".into(), START);
    let two = db.create_entry(draft("/spire/agent/x", "/two"), "two".into(), "me".into(), START);
    let release = async {
        tokio::task::yield_now().await;
        go.send(()).unwrap();
    };
    let (_, one, bad, two, ()) = tokio::join!(block, one, bad, two, release);
    assert!(matches!(one, Ok(Created::New(_))) && matches!(two, Ok(Created::New(_))));
    assert!(matches!(bad, Err(RegistryError::NoFederatedBundle { .. })));
    let loaded = db.load(Some(START)).await.unwrap();
    assert_eq!(
        (loaded.entries.len(), loaded.revision.number),
        (2, 2),
        "the refused one took its revision back"
    );
}

#[tokio::test]
async fn nobody_is_told_of_a_change_that_was_taken_back() {
    let db = SqliteDatastore::in_memory(&td()).unwrap();
    let listener = Arc::new(Listener::default());
    db.follow(listener.clone());
    let record = agent("/spire/agent/x", "0a", &[]);
    db.attest_agent(record.clone(), NEW).await.unwrap();
    let mut alias = draft("/spire/agent/x", "/alias");
    alias.selectors = crate::registry::alias_selector(&record.id).unwrap();
    db.create_entry(alias, "alias".into(), "me".into(), START)
        .await
        .unwrap();
    db.execute("CREATE TRIGGER broken BEFORE DELETE ON entries BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await;
    assert!(
        db.delete_agent(record.id.clone(), START).await.is_err(),
        "the agent goes, its alias does not"
    );
    assert_eq!(listener.0.lock().unwrap().len(), 2);
    let loaded = db.load(Some(START)).await.unwrap();
    assert_eq!(
        (loaded.agents.len(), loaded.entries.len(), loaded.revision.number),
        (1, 1, 2)
    );
}

#[tokio::test]
async fn what_is_asked_for_is_done_and_told_also_when_the_caller_goes_away() {
    let db = SqliteDatastore::in_memory(&td()).unwrap();
    let listener = Arc::new(Listener::default());
    db.follow(listener.clone());
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let mut block = Box::pin(db.writer.write(move |_| -> Result<(), DatastoreError> {
        gate.recv().unwrap();
        Ok(())
    }));
    let mut create = db.create_entry(draft("/spire/agent/x", "/w"), "e".into(), "me".into(), START);
    assert!(waits(&mut block).await);
    assert!(waits(&mut create).await);
    drop(create);
    go.send(()).unwrap();
    block.await.unwrap();
    assert_eq!(db.load(Some(START)).await.unwrap().entries.len(), 1);
    assert_eq!(listener.0.lock().unwrap().len(), 1);
}

/// Polls once.
async fn waits<F: Future + Unpin>(future: &mut F) -> bool {
    std::future::poll_fn(|cx| std::task::Poll::Ready(std::pin::Pin::new(&mut *future).poll(cx).is_pending()))
        .await
}

#[tokio::test]
async fn a_full_disk_is_named_and_room_mends_it() {
    let place = Place::filled().await;
    let db = open(&place.file, true).unwrap();
    let listener = Arc::new(Listener::default());
    db.follow(listener.clone());
    db.execute("PRAGMA max_page_count = 1").await;
    let before = db.load(Some(START)).await.unwrap();
    let big = |n: u32| {
        let mut draft = draft("/spire/agent/y", &format!("/full{n}"));
        draft.hint = "h".repeat(1024);
        db.create_entry(draft, format!("f{n}"), "me".into(), START)
    };
    let answers = futures_util::future::join_all((0..300).map(big)).await;
    let stored = answers.iter().filter(|a| a.is_ok()).count();
    for refused in answers.iter().filter_map(|a| a.as_ref().err()) {
        assert!(
            matches!(
                refused,
                RegistryError::Storage {
                    source: DatastoreError::Full
                }
            ),
            "{refused:?}"
        );
    }
    assert!(stored < 100);
    assert_eq!(
        db.load(Some(START)).await.unwrap().entries.len(),
        before.entries.len() + stored,
        "what was answered Ok is there"
    );
    assert_eq!(listener.0.lock().unwrap().len(), stored);
    db.execute("PRAGMA max_page_count = 1000000").await;
    assert!(big(999).await.is_ok());
    drop(db);
    assert_eq!(
        open(&place.file, true)
            .unwrap()
            .load(Some(START))
            .await
            .unwrap()
            .entries
            .len(),
        before.entries.len() + stored + 1
    );
}

#[tokio::test]
async fn a_removal_leaves_a_tombstone_with_its_revision() {
    let db = SqliteDatastore::in_memory(&td()).unwrap();
    fill(&db).await;
    db.delete_entry("e01".into(), START).await.unwrap();
    db.delete_agent(id("/spire/agent/x"), START).await.unwrap();
    let b = TrustDomain::parse("b.example").unwrap();
    db.delete_bundle(b, DeleteMode::Dissociate, START).await.unwrap();
    let found: Vec<(i64, String, String)> = db
        .writer
        .write(|tx| -> Result<_, DatastoreError> {
            let mut rows = tx
                .conn()
                .prepare("SELECT revision, kind, object FROM tombstones ORDER BY revision")?;
            Ok(rows
                .query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))?
                .collect::<Result<_, _>>()?)
        })
        .await
        .unwrap();
    let found: Vec<_> = found
        .iter()
        .map(|(r, k, o)| (*r, k.as_str(), o.as_str()))
        .collect();
    // 52 changes, two removals, 49 dissociations, one removal.
    assert_eq!(
        found,
        [
            (53, "entry", "e01"),
            (54, "agent", "spiffe://plant.example/spire/agent/x"),
            (104, "bundle", "b.example")
        ]
    );
    let prune = |before| db.prune(Prune::Tombstones { before }, 2);
    assert_eq!(prune(START).await.unwrap(), 0);
    let later = START.saturating_add(DAY);
    assert_eq!(
        prune(later).await.unwrap(),
        2,
        "a batch is as small as it was asked to be"
    );
    assert_eq!(prune(later).await.unwrap(), 1);
}

#[tokio::test]
async fn an_update_keeps_who_created_the_entry() {
    let db = SqliteDatastore::in_memory(&td()).unwrap();
    fill(&db).await;
    let patch = EntryPatch {
        hint: Some("new".into()),
        ..EntryPatch::default()
    };
    db.update_entry("e07".into(), patch, MargoPaths::Ordinary, START)
        .await
        .unwrap();
    let by: String = db
        .writer
        .write(|tx| -> Result<_, DatastoreError> {
            Ok(tx
                .conn()
                .query_row("SELECT created_by FROM entries WHERE id = 'e07'", [], |row| {
                    row.get(0)
                })?)
        })
        .await
        .unwrap();
    assert_eq!(by, "me");
}

#[tokio::test]
async fn a_file_that_is_gone_or_empty_is_not_begun_anew() {
    let place = Place::filled().await;
    std::fs::remove_file(&place.file).unwrap();
    let text = open(&place.file, true).err().unwrap().to_string();
    assert!(
        text.contains(place.file.to_str().unwrap()) && text.contains("restore it from a backup"),
        "{text}"
    );
    assert!(!place.file.exists());
    write(&place.file, b"");
    assert!(matches!(open(&place.file, true), Err(OpenError::Missing { .. })));
    assert_eq!(std::fs::metadata(&place.file).unwrap().len(), 0);
    // A database without a table, too.
    std::fs::remove_file(&place.file).unwrap();
    place.sql("CREATE TABLE t (a); DROP TABLE t;");
    assert!(matches!(open(&place.file, true), Err(OpenError::Missing { .. })));
    std::fs::remove_file(&place.file).unwrap();
    open(&place.file, false).expect("a place that was never used");
}

#[tokio::test]
async fn databases_of_others_are_refused_untouched() {
    let place = Place::new();
    place.sql("CREATE TABLE theirs (a); INSERT INTO theirs VALUES (1);");
    let bytes = std::fs::read(&place.file).unwrap();
    assert!(matches!(open(&place.file, false), Err(OpenError::NotOurs { .. })));
    assert_eq!(std::fs::read(&place.file).unwrap(), bytes);
    let place = Place::filled().await;
    place.sql("PRAGMA application_id = 7");
    assert!(matches!(open(&place.file, true), Err(OpenError::NotOurs { .. })));
    let place = Place::filled().await;
    let other = TrustDomain::parse("other.example").unwrap();
    let refused = SqliteDatastore::open(&place.file, &other, true).err().unwrap();
    assert!(
        matches!(&refused, OpenError::OtherTrustDomain { found, .. } if found == "plant.example"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_newer_schema_and_a_changed_migration_are_refused() {
    let place = Place::filled().await;
    let known = i64::try_from(migrate::MIGRATIONS.len()).unwrap();
    place.sql(&format!(
        "INSERT INTO schema_migrations VALUES ({}, 'x')",
        known + 1
    ));
    match open(&place.file, true).err().unwrap() {
        OpenError::NewerSchema {
            found, known: ours, ..
        } => assert_eq!((found, ours), (known + 1, known)),
        other => panic!("{other:?}"),
    }
    let place = Place::filled().await;
    place.sql("UPDATE schema_migrations SET sha256 = 'x' WHERE number = 1");
    assert!(matches!(
        open(&place.file, true),
        Err(OpenError::ChangedMigration { number: 1, .. })
    ));
}

#[test]
fn migrations_are_applied_once_in_order_and_all_or_nothing() {
    let conn = Connection::open_in_memory().unwrap();
    let path = Path::new("x");
    let first = migrate::MIGRATIONS[0];
    let second = "CREATE TABLE two (a)";
    assert!(apply(&conn, path, &td(), &[first]).unwrap());
    assert!(!apply(&conn, path, &td(), &[first]).unwrap());
    assert!(
        apply(
            &conn,
            path,
            &td(),
            &[first, second, "CREATE TABLE three (a); CREATE TABLE two (a)"]
        )
        .is_err()
    );
    let tables = |name: &str| -> i64 {
        conn.query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name = ?1",
            [name],
            |row| row.get(0),
        )
        .unwrap()
    };
    assert_eq!((tables("two"), tables("three")), (0, 0));
    assert!(apply(&conn, path, &td(), &[first, second]).unwrap());
    assert!(!apply(&conn, path, &td(), &[first, second]).unwrap());
    assert_eq!(tables("two"), 1);
    let owner: String = conn
        .query_row("SELECT trust_domain FROM state", [], |row| row.get(0))
        .unwrap();
    assert_eq!(owner, td().as_str());
}

/// Cuts and flips all over the file: it opens with all that was in it, or is refused by name. It never opens with less.
#[tokio::test]
async fn a_damaged_file_is_refused_by_name_and_never_opens_with_less() {
    let place = Place::filled().await;
    let good = std::fs::read(&place.file).unwrap();
    assert!(
        !place.file.with_extension("db-wal").exists(),
        "everything is in the one file"
    );
    let pages = good.len() / 4096;
    assert!(pages > 10);
    let mut refusals = 0;
    let mut cases: Vec<Vec<u8>> = (0..pages).map(|n| good[..n * 4096 + 100].to_vec()).collect();
    for page in 0..pages {
        // The header of each page, and its cell pointers.
        for at in [0, 1, 3, 5, 8, 9] {
            let mut bad = good.clone();
            bad[page * 4096 + at] ^= 0xff;
            cases.push(bad);
        }
        let mut bad = good.clone();
        bad[page * 4096..(page + 1) * 4096].fill(0);
        cases.push(bad);
    }
    for bad in cases {
        write(&place.file, &bad);
        let outcome = match open(&place.file, true) {
            Ok(db) => db.load(Some(START)).await.map_err(|error| error.to_string()),
            Err(error) => {
                let text = landfast_daemon::error_chain(&error);
                assert!(text.contains(place.file.to_str().unwrap()), "{text}");
                Err(text)
            }
        };
        match outcome {
            Ok(loaded) => assert_eq!((loaded.entries.len(), loaded.agents.len()), (50, 1)),
            Err(_) => refusals += 1,
        }
        for side in ["db-wal", "db-shm"] {
            let _may_be_absent = std::fs::remove_file(place.file.with_extension(side));
        }
    }
    assert!(refusals > pages * 3, "{refusals} of {pages} pages");
    write(&place.file, &good);
    assert_eq!(
        open(&place.file, true)
            .unwrap()
            .load(Some(START))
            .await
            .unwrap()
            .entries
            .len(),
        50
    );
}

#[tokio::test]
async fn a_value_that_does_not_read_back_is_damage() {
    for sql in [
        "UPDATE entries SET spiffe_id = 'spiffe://plant.example/../x' WHERE id = 'e03'",
        "UPDATE entries SET selectors = '[1' WHERE id = 'e03'",
        "UPDATE entries SET x509_svid_ttl = -1 WHERE id = 'e03'",
        "UPDATE agents SET key_hash = x'00'",
        "UPDATE federated_bundles SET body = '{}'",
    ] {
        let place = Place::filled().await;
        place.sql(sql);
        let refused = open(&place.file, true)
            .unwrap()
            .load(Some(START))
            .await
            .unwrap_err();
        assert!(
            matches!(refused, DatastoreError::Corrupt { .. }),
            "{sql}: {refused:?}"
        );
    }
}

#[tokio::test]
async fn a_redemption_that_is_undone_leaves_the_token_free() {
    let db = SqliteDatastore::in_memory(&td()).unwrap();
    let token = NewToken {
        hash: [1; 32],
        expires_at: START.saturating_add(DAY),
        alias: Some(id("/gateway")),
    };
    db.create_token(token).await.unwrap();
    let redemption = Redemption {
        hash: [1; 32],
        key_hash: [2; 32],
        agent_id: id("/spire/agent/join_token/t"),
        alias_entry_id: "alias".into(),
        now: START,
        retry_window: DAY,
    };
    db.execute("CREATE TRIGGER broken BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await;
    assert!(matches!(
        db.redeem_token(redemption.clone()).await,
        Err(TokenError::Storage { .. })
    ));
    db.execute("DROP TRIGGER broken").await;
    let other = Redemption {
        key_hash: [3; 32],
        ..redemption
    };
    assert!(
        db.redeem_token(other).await.unwrap().first,
        "token and alias are one transaction"
    );
}

#[tokio::test]
async fn a_probe_fails_as_writes_do_and_leaves_nothing() {
    let place = Place::filled().await;
    let db = open(&place.file, true).unwrap();
    let before = db.load(Some(START)).await.unwrap().revision.number;
    db.probe().await.unwrap();
    assert!(waits(&mut db.doubted()).await, "nothing has failed");
    db.execute("PRAGMA max_page_count = 1").await;
    assert!(matches!(db.probe().await, Err(DatastoreError::Full)));
    db.doubted().await;
    assert!(waits(&mut db.doubted()).await, "told once");
    db.execute("PRAGMA max_page_count = 1000000").await;
    db.probe().await.unwrap();
    db.execute("CREATE TRIGGER broken BEFORE INSERT ON entries BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await;
    let draft = draft("/spire/agent/y", "/doubt");
    db.create_entry(draft, "d".into(), "me".into(), START)
        .await
        .unwrap_err();
    db.doubted().await;
    drop(db);
    let conn = Connection::open(&place.file).unwrap();
    let count = |sql: &str| conn.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(
        count("SELECT count(*) FROM join_tokens WHERE length(hash) > 32"),
        0
    );
    assert_eq!(count("SELECT revision FROM state").unsigned_abs(), before);
}

#[expect(clippy::disallowed_methods, reason = "a test damages files")]
fn write(path: &Path, bytes: &[u8]) {
    std::fs::write(path, bytes).unwrap();
}

#[test]
fn a_database_from_before_the_switch_takes_authorities_of_three_kinds_one_a_slot() {
    let conn = Connection::open_in_memory().unwrap();
    let path = Path::new("x");
    let switch = migrate::MIGRATIONS
        .iter()
        .position(|sql| sql.contains("COLUMN wit"));
    apply(&conn, path, &td(), &migrate::MIGRATIONS[..switch.unwrap()]).unwrap();
    let put = |columns: &str, values: &str| {
        conn.execute_batch(&format!(
            "INSERT INTO authorities (place, slot, public_key, created_at, not_before, not_after, {columns}) \
             VALUES (0, 'active', x'00', 0, 0, 9, {values})"
        ))
    };
    put("id, key_name, kind", "'a', 'a', 'x509'").unwrap();
    put("id, key_name, kind", "'b', 'b', 'jwt'").unwrap();
    apply(&conn, path, &td(), migrate::MIGRATIONS).unwrap();
    let wit: i64 = conn
        .query_row("SELECT sum(wit) FROM authorities", [], |row| row.get(0))
        .unwrap();
    assert_eq!(wit, 0, "those that were there are none of WIT-SVIDs");
    put("id, key_name, kind, wit", "'c', 'c', 'jwt', 1").unwrap();
    assert!(put("id, key_name, kind, wit", "'d', 'd', 'jwt', 1").is_err());
    assert!(put("id, key_name, kind, wit", "'e', 'e', 'jwt', 0").is_err());
}

/// A start that takes the longer the more was ever issued would take minutes in the end.
#[tokio::test]
async fn in_a_large_file_the_records_are_not_checked_at_the_start_and_all_else_is() {
    let place = Place::filled().await;
    place.sql(
        "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2000)
         INSERT INTO issued SELECT n, 'x509', 'spiffe://plant.example/w', n, NULL, 'a', 'r', 't', NULL, 0, 9, 0, 0, 0, NULL FROM n",
    );
    let good = std::fs::read(&place.file).unwrap();
    let root = |table: &str| -> usize {
        let conn = Connection::open(&place.file).unwrap();
        let sql = "SELECT rootpage FROM sqlite_schema WHERE name = ?1";
        let page: i64 = conn.query_row(sql, [table], |row| row.get(0)).unwrap();
        page.try_into().unwrap()
    };
    let found = |table: &str, whole: u64| {
        let at = (root(table) - 1) * 4096;
        let mut bad = good.clone();
        bad[at..at + 4096].fill(0);
        write(&place.file, &bad);
        let conn = Connection::open(&place.file).unwrap();
        let outcome = open::check_start(&conn, &place.file, whole);
        drop(conn);
        write(&place.file, &good);
        outcome
    };
    assert!(found("issued", 0).is_ok());
    for table in [
        "entries",
        "agents",
        "join_tokens",
        "entries_by_parent",
        "entry_policies",
    ] {
        assert!(
            matches!(found(table, 0), Err(OpenError::Damaged { .. })),
            "{table}"
        );
    }
    assert!(matches!(
        found("issued", u64::MAX),
        Err(OpenError::Damaged { .. })
    ));
    let conn = Connection::open(&place.file).unwrap();
    open::check_start(&conn, &place.file, 0).unwrap();
}

#[tokio::test]
async fn what_a_start_would_apply_is_said_and_not_done() {
    let place = Place::new();
    let known: Vec<i64> = (1..).take(migrate::MIGRATIONS.len()).collect();
    let all = Pending {
        schema: 0,
        numbers: known.clone(),
    };
    assert_eq!(pending(&place.file, &td()).unwrap(), all);
    assert!(!place.file.exists());
    let running = open(&place.file, false).unwrap();
    fill(&running).await;
    let (last, newer) = (
        known.len(),
        [migrate::MIGRATIONS, &["SELECT no_such_thing"]].concat(),
    );
    let last = i64::try_from(last).unwrap();
    // Beside a server, and after it.
    for running in [Some(running), None] {
        let nothing = pending(&place.file, &td()).unwrap();
        assert_eq!((nothing.schema, nothing.numbers), (last, vec![]));
        for _ in 0..2 {
            let one = pending_of(&place.file, &td(), &newer).unwrap();
            assert_eq!((one.schema, one.numbers), (last, vec![last + 1]));
        }
        drop(running);
    }
    let older = pending_of(&place.file, &td(), &newer[..2]).unwrap_err();
    assert!(matches!(older, OpenError::NewerSchema { .. }), "{older}");
    let changed = pending_of(&place.file, &td(), &[&["SELECT 1"], &newer[1..]].concat()).unwrap_err();
    assert!(
        matches!(changed, OpenError::ChangedMigration { number: 1, .. }),
        "{changed}"
    );
    let other = TrustDomain::parse("office.example").unwrap();
    let other = pending(&place.file, &other).unwrap_err();
    assert!(matches!(other, OpenError::OtherTrustDomain { .. }), "{other}");
}

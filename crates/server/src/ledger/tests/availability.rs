//! What goes on without the ledger, and what is told of it afterwards: AT-02 in both modes.

use super::*;
use crate::admission::Turn;
use crate::core::fixture::{NEW, agent};
use crate::issuance::RungOrder;
use crate::registry::{Entry, EntryError, PolicyPatch, RegistryError};

const NODE: &str = "/spire/agent/x";

/// A core with an entry that waits for the ledger and one that does not, both of one node.
struct Both {
    faulty: Faulty,
    core: Core,
    strict: Arc<Entry>,
    first: Arc<Entry>,
}

impl Both {
    async fn new() -> Self {
        let both = Self::of(Faulty::new()).await;
        // The tail is open, so that what fails is the write of a batch.
        both.x509(&both.strict).await.unwrap();
        both
    }

    async fn of(faulty: Faulty) -> Self {
        let core = faulty.core().await;
        let node = agent(NODE, "01", &["join_token:x"]);
        core.datastore.attest_agent(node, NEW).await.unwrap();
        let strict = entry(&core, draft(NODE, "/strict")).await;
        let first = entry(&core, draft(NODE, "/first")).await;
        let patch = PolicyPatch {
            availability_first: Some(true),
            reserve: Some(Duration::from_secs(3 * 86_400)),
            ..PolicyPatch::default()
        };
        core.registry
            .set_entry_policy(&first.id, patch, None)
            .await
            .unwrap();
        Self {
            faulty,
            core,
            strict,
            first,
        }
    }

    async fn x509(&self, entry: &Entry) -> Result<String, IssueError> {
        let issued = self.core.issuer.x509_for_entry(&node(), entry, &key()).await;
        Ok(issued?.serial_hex())
    }

    fn mark(&self) -> PathBuf {
        self.faulty.dir.path().join("data/ledger.gap")
    }

    /// Waits until all is told.
    async fn told(&self) {
        tokio::time::timeout(Duration::from_secs(60), async {
            while self.core.ledger.trouble().is_some() || self.mark().exists() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
        .expect("the ledger tries again");
    }

    fn end(self) -> Vec<Value> {
        drop(self.core);
        self.faulty.end()
    }
}

fn node() -> Requester {
    Requester::agent(id(NODE), "join_token")
}

fn serials(records: &[Value]) -> Vec<String> {
    let issued = records
        .iter()
        .filter(|record| matches!(record["type"].as_str(), Some("svid.issued" | "rung.issued")));
    issued
        .map(|record| record["detail"]["serial"].as_str().unwrap().to_owned())
        .collect()
}

fn refused<T: std::fmt::Debug>(answer: Result<T, IssueError>) {
    assert!(matches!(answer, Err(IssueError::Ledger { .. })), "{answer:?}");
}

#[tokio::test]
async fn at_02_on_a_full_disk_only_what_is_availability_first_goes_on_and_the_gap_is_recorded() {
    for verb in [Verb::Write, Verb::Sync] {
        let both = Both::new().await;
        both.faulty.script.break_down(verb, ErrorKind::StorageFull);
        let issuer = &both.core.issuer;
        // In one batch, before anybody knows.
        let orders = vec![
            (Arc::clone(&both.strict), key()),
            (Arc::clone(&both.first), key()),
        ];
        let mut answers = issuer.x509_batch(&node(), orders, &Turn::free()).await;
        let mut left = vec![answers.pop().unwrap().unwrap().serial_hex()];
        refused(answers.pop().unwrap());
        assert!(both.mark().exists(), "{verb:?}: the mark is there before it left");
        // And when it is known, of each kind.
        refused(both.x509(&both.strict).await);
        left.push(both.x509(&both.first).await.unwrap());
        let audience = ["historian".to_owned()];
        refused(issuer.jwt_for_entry(&node(), &both.strict, &audience).await);
        issuer
            .jwt_for_entry(&node(), &both.first, &audience)
            .await
            .unwrap();
        let rung = RungOrder {
            entry: both.core.registry.versioned(&both.first.id).unwrap(),
            key: key(),
            begins: START.saturating_add(Duration::from_secs(3600)),
        };
        let rung = issuer
            .rungs(&node(), vec![rung], &Turn::free())
            .await
            .pop()
            .unwrap();
        left.push(rung.unwrap().serial_hex());
        refused(issuer.mint_x509(&me(), &id("/by/hand"), &[], None, &key()).await);
        let text = both.core.ledger.trouble().unwrap();
        assert!(text.contains("4 that are availability first"), "{text}");

        both.faulty.script.mend();
        both.told().await;
        both.x509(&both.strict).await.unwrap();
        let records = both.end();
        let gaps = of_type(&records, "log.gap");
        assert_eq!(gaps.len(), 1, "{verb:?}");
        assert_eq!(gaps[0]["detail"]["refused"], 1, "those that were signed");
        assert_eq!(gaps[0]["detail"]["written_after"], 4);
        assert_eq!(gaps[0]["detail"]["since"], START.to_string());
        assert_eq!(gaps[0]["result"], "failed");
        let gap = gaps[0]["seq"].as_u64().unwrap();
        let issued = serials(&records);
        assert_eq!(issued.len(), 6, "one before, four in the gap, one after");
        for serial in left {
            let found = records.iter().find(|record| record["detail"]["serial"] == serial);
            let at = found.unwrap()["seq"].as_u64().unwrap();
            assert!(
                (gap + 1..=gap + 4).contains(&at),
                "{at} is behind the gap at {gap}"
            );
        }
    }
}

#[tokio::test]
async fn at_02_a_disk_that_hangs_does_not_hold_up_what_is_availability_first() {
    let both = Both::new().await;
    both.faulty.script.hang(Verb::Sync);
    let left = [
        both.x509(&both.first).await.unwrap(),
        both.x509(&both.first).await.unwrap(),
    ];
    assert!(both.mark().exists());
    let text = both.core.ledger.trouble().unwrap();
    assert!(text.contains("has not answered"), "{text}");
    both.faulty.script.mend();
    both.told().await;
    let records = both.end();
    let gaps = of_type(&records, "log.gap");
    assert_eq!(gaps[0]["detail"]["late"], 2, "{gaps:?}");
    for serial in left {
        let found = serials(&records).into_iter().filter(|found| *found == serial);
        assert_eq!(found.count(), 1);
    }
}

#[tokio::test]
async fn where_not_even_the_mark_can_be_written_nothing_goes_on() {
    let both = Both::new().await;
    both.faulty.script.break_down(Verb::Write, ErrorKind::StorageFull);
    both.faulty.data.break_down(Verb::Write, ErrorKind::StorageFull);
    refused(both.x509(&both.first).await);
    both.faulty.data.mend();
    both.x509(&both.first).await.unwrap();
}

#[tokio::test]
async fn without_its_own_svid_a_node_could_not_have_it_and_a_node_without_such_an_entry_waits() {
    let both = Both::new().await;
    both.faulty.script.break_down(Verb::Write, ErrorKind::StorageFull);
    let issuer = &both.core.issuer;
    issuer.agent_svid(&node(), &id(NODE), &key()).await.unwrap();
    issuer.server_svid(&key()).await.unwrap();
    let other = Requester::agent(id("/spire/agent/y"), "join_token");
    refused(issuer.agent_svid(&other, &id("/spire/agent/y"), &key()).await);
    // Nor does an identity of the domain go on by being asked for under such an entry's name.
    let none = PolicyPatch {
        availability_first: Some(false),
        ..PolicyPatch::default()
    };
    let registry = &both.core.registry;
    registry
        .set_entry_policy(&both.first.id, none, None)
        .await
        .unwrap();
    refused(issuer.agent_svid(&node(), &id(NODE), &key()).await);
    refused(issuer.server_svid(&key()).await);
    refused(both.x509(&both.first).await);
}

#[tokio::test]
async fn what_gives_power_over_the_server_never_leaves_without_its_record() {
    let both = Both::new().await;
    let admin = crate::registry::EntryDraft {
        admin: true,
        ..draft(NODE, "/operator")
    };
    let admin = entry(&both.core, admin).await;
    let registry = &both.core.registry;
    let patch = || PolicyPatch {
        availability_first: Some(true),
        ..PolicyPatch::default()
    };
    let answer = registry.set_entry_policy(&admin.id, patch(), None).await;
    let expected = EntryError::PowerfulUnrecorded;
    assert!(matches!(answer, Err(RegistryError::Invalid { source }) if source == expected));
    // One that came to it otherwise has no more of it.
    both.core
        .datastore
        .set_policy(admin.id.clone(), patch(), None, START)
        .await
        .unwrap();
    both.faulty.script.break_down(Verb::Write, ErrorKind::StorageFull);
    refused(both.x509(&admin).await);
}

#[tokio::test]
async fn a_server_that_dies_in_a_gap_records_it_uncounted_when_it_starts_again() {
    let rig = DiskRig::new();
    drop(rig.open().await);
    let data = Store::open(rig.dir.path()).unwrap();
    let missed = Missed::new(data);
    missed.keep(Some(START), vec![record()]).unwrap();
    // It dies.
    drop(missed);
    drop(rig.open().await);
    drop(rig.open().await);
    let records = read(&rig.dir.path().join("ledger"));
    let gaps = of_type(&records, "log.gap");
    assert_eq!(gaps.len(), 1, "told once");
    assert_eq!(gaps[0]["detail"]["uncounted"], true);
    assert_eq!(gaps[0]["detail"]["since"], START.to_string());
    assert!(!rig.dir.path().join("ledger.gap").exists());
}

/// A full disk takes nothing from a start that it does not take from a server that runs.
#[tokio::test]
async fn a_start_on_a_full_disk_begins_in_the_gap() {
    let faulty = Faulty::new();
    faulty.ledger.append(vec![record()]).await.unwrap();
    let both = Both::of(faulty.killed()).await;
    assert!(both.core.ledger.check().is_err() && both.mark().exists());
    refused(both.x509(&both.strict).await);
    let left = both.x509(&both.first).await.unwrap();
    both.core.issuer.server_svid(&key()).await.unwrap();
    both.faulty.script.mend();
    both.told().await;
    both.x509(&both.strict).await.unwrap();
    let records = both.end();
    let kinds = types(&records);
    assert_eq!(
        kinds[..4],
        ["log.started", "test.happened", "log.gap", "log.started"],
        "what was acknowledged before, and then the gap: {kinds:?}"
    );
    assert_eq!(records[3]["detail"]["recovered"], 1);
    assert_eq!(records[2]["detail"]["since"], START.to_string());
    assert!(serials(&records).contains(&left));
    // But not where not even that can be said.
    let faulty = Faulty::new();
    faulty.ledger.append(vec![record()]).await.unwrap();
    let refused = faulty.copied().restarted(|script, data| {
        script.break_down(Verb::Write, ErrorKind::StorageFull);
        data.break_down(Verb::Write, ErrorKind::StorageFull);
    });
    assert!(matches!(refused, Err(OpenLedgerError::Mark { .. })));
}

/// One that left while its record stood in the queue, and whose write then failed, is told of once.
#[test]
fn what_left_and_was_not_written_then_is_counted_once() {
    let dir = tempfile::tempdir().unwrap();
    let missed = Missed::new(marks(dir.path(), &Script::default()));
    let ticket = Ticket::new(1);
    assert!(missed.leave(Some(START), &ticket).unwrap());
    assert_eq!((missed.told().late, missed.count()), (1, 1));
    missed
        .keep_of_queue(Some(START), vec![record()], &ticket)
        .unwrap();
    let told = missed.told();
    assert_eq!((told.late, told.records.len(), missed.count()), (0, 1, 1));
    missed.settle(&told);
    missed.unmark().unwrap();
    assert!(
        !dir.path().join("data/ledger.gap").exists(),
        "nothing is left to be told"
    );
}

#[test]
fn more_than_is_kept_is_counted_and_the_mark_stays_until_all_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let missed = Missed::new(marks(dir.path(), &Script::default()));
    let mark = dir.path().join("data/ledger.gap");
    missed.keep(Some(START), vec![record(); 4000]).unwrap();
    missed.keep(Some(START), vec![record(); 100]).unwrap();
    let told = missed.told();
    assert_eq!((told.records.len(), told.lost), (4096, 4));
    // One that leaves while the others are written.
    missed.keep(Some(START), vec![record()]).unwrap();
    missed.settle(&told);
    missed.unmark().unwrap();
    assert!(mark.exists(), "one more is to be told");
    assert_eq!(missed.count(), 1);
    missed.settle(&missed.told());
    missed.unmark().unwrap();
    assert!(!mark.exists());
}

#[tokio::test]
async fn a_change_that_was_made_is_recorded_when_it_can_be() {
    let both = Both::new().await;
    both.faulty.script.break_down(Verb::Write, ErrorKind::StorageFull);
    let kept = both.core.ledger.append_or_keep(vec![record()]).await;
    kept.unwrap();
    both.faulty.script.mend();
    both.told().await;
    assert_eq!(of_type(&both.end(), "test.happened").len(), 1);
}

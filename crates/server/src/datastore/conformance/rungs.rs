//! What nodes have ahead, and who knows which bundle.

use super::*;
use crate::registry::JwtOffline;
use crate::registry::ThirdParty;
use crate::reserve::ReserveError;

fn policy(reserve: u64, privileged: bool) -> PolicyPatch {
    PolicyPatch {
        reserve: Some(Duration::from_secs(reserve)),
        privileged: Some(privileged),
        ..PolicyPatch::default()
    }
}

pub(in crate::datastore) async fn what_an_entry_may_have_ahead_is_kept_and_judged(db: Store) {
    new(make(&db, "/w", "e").await);
    let tokens = vec![
        JwtOffline {
            audience: "historian \"7\"".into(),
            ttl: Duration::from_secs(28_800),
        },
        JwtOffline {
            audience: "mqtt".into(),
            ttl: Duration::from_secs(60),
        },
    ];
    let patch = PolicyPatch {
        jwt_offline: Some(tokens.clone()),
        availability_first: Some(true),
        third_party: Some(Some(ThirdParty {
            sponsor: "p-jo".to_owned(),
            contract: "C-7".to_owned(),
        })),
        ..policy(259_200, false)
    };
    let set = db.set_policy("e".into(), patch, None, START).await.unwrap();
    assert_eq!(set.reserve, Duration::from_secs(259_200));
    assert_eq!((set.jwt_offline.clone(), set.privileged), (tokens, false));
    assert!(set.availability_first);
    assert_eq!(set.third_party.as_ref().unwrap().contract, "C-7");
    let stored = loaded(&db).await.entries[0].policy.clone();
    assert_eq!(stored.as_ref(), Some(&set), "read back as it was");
    // Of two that set one half each, the second is refused, whatever both have seen.
    let half = PolicyPatch {
        privileged: Some(true),
        ..PolicyPatch::default()
    };
    let refused = db.set_policy("e".into(), half, None, START).await.unwrap_err();
    let reason = |error: RegistryError| match error {
        RegistryError::Reserve { source } => source,
        other => panic!("{other}"),
    };
    assert_eq!(reason(refused), ReserveError::Privileged);
    assert_eq!(
        loaded(&db).await.entries[0].policy.as_ref(),
        Some(&set),
        "and nothing is changed"
    );
    let none = PolicyPatch {
        jwt_offline: Some(Vec::new()),
        ..policy(0, true)
    };
    let set = db.set_policy("e".into(), none, None, START).await.unwrap();
    assert_eq!(loaded(&db).await.entries[0].policy, Some(set));
}

pub(super) const HOUR: Duration = Duration::from_secs(3600);

pub(super) fn rung(agent: &str, entry: &str, serial: &str, ends: Duration) -> IssuanceRecord {
    IssuanceRecord {
        serial: serial.into(),
        requester: format!("agent {}", id(agent)),
        entry_id: Some(entry.into()),
        not_before: START.saturating_add(ends).saturating_sub(HOUR),
        not_after: START.saturating_add(ends),
        is_rung: true,
        ..record("/w", None)
    }
}

pub(super) fn wanted() -> DebtQuery {
    DebtQuery {
        agents: Vec::new(),
        entries: Vec::new(),
        authorities: Vec::new(),
        untainted: false,
        now: START,
        after: Default::default(),
        limit: 100,
    }
}

/// Agent, entry, rungs, hours until the last ends.
pub(super) async fn seen(db: &Store, query: DebtQuery) -> Vec<(String, String, u64, u64)> {
    let short = |debt: Debt| {
        let agent = debt.agent.rsplit('/').next().unwrap().to_owned();
        (
            agent,
            debt.entry,
            debt.rungs,
            debt.ends.since(START).as_secs() / 3600,
        )
    };
    db.debts(query).await.unwrap().into_iter().map(short).collect()
}

pub(super) fn row(agent: &str, entry: &str, rungs: u64, hours: u64) -> (String, String, u64, u64) {
    (agent.into(), entry.into(), rungs, hours)
}

pub(super) async fn with_rungs(db: &Store) {
    use crate::authority::Slot;
    let saved = db.save_journal(0, vec![authority("a", Slot::Active), authority("b", Slot::Old)]);
    saved.await.unwrap().unwrap();
    for (path, entry) in [("/one", "e1"), ("/two", "e2")] {
        new(make(db, path, entry).await);
    }
    for name in ["/spire/agent/x", "/spire/agent/y"] {
        db.attest_agent(agent(name, "0a", &[]), NEW).await.unwrap();
    }
    let (x, y) = ("/spire/agent/x", "/spire/agent/y");
    let ordinary = IssuanceRecord {
        is_rung: false,
        ..rung(x, "e1", "01", 90 * HOUR)
    };
    let tainted = IssuanceRecord {
        authority_id: "b".into(),
        ..rung(y, "e2", "06", 5 * HOUR)
    };
    let records = vec![
        ordinary,
        rung(x, "e1", "02", HOUR),
        rung(x, "e1", "03", 2 * HOUR),
        rung(x, "e2", "04", 3 * HOUR),
        rung(y, "e1", "05", 4 * HOUR),
        tainted,
    ];
    assert_eq!(db.record(records).await.unwrap(), vec![Recorded::Yes; 6]);
}

pub(in crate::datastore) async fn what_nodes_have_is_listed_until_it_is_spent_or_revoked(db: Store) {
    with_rungs(&db).await;
    let all = [
        row("x", "e1", 2, 2),
        row("x", "e2", 1, 3),
        row("y", "e1", 1, 4),
        row("y", "e2", 1, 5),
    ];
    assert_eq!(seen(&db, wanted()).await, all);
    // In pages of two.
    let page = |after: (&str, &str)| DebtQuery {
        after: (
            id(&format!("/spire/agent/{}", after.0)).to_string(),
            after.1.into(),
        ),
        limit: 2,
        ..wanted()
    };
    assert_eq!(seen(&db, DebtQuery { limit: 2, ..wanted() }).await, all[..2]);
    assert_eq!(seen(&db, page(("x", "e2"))).await, all[2..]);
    let of = DebtQuery {
        agents: vec![id("/spire/agent/y").to_string(), "nobody".into()],
        entries: vec!["e2".into()],
        ..wanted()
    };
    assert_eq!(seen(&db, of).await, all[3..]);
    let by = |authority: &str| DebtQuery {
        authorities: vec![authority.into()],
        ..wanted()
    };
    assert_eq!(seen(&db, by("b")).await, all[3..]);
    assert!(seen(&db, by("c")).await.is_empty());
    // The ends of an hour: what is spent is no debt.
    let later = DebtQuery {
        now: START.saturating_add(2 * HOUR),
        ..wanted()
    };
    assert_eq!(seen(&db, later).await, all[1..]);
    assert!(db.delete_entry("e2".into(), START).await.unwrap());
    assert_eq!(seen(&db, wanted()).await, [all[0].clone(), all[2].clone()]);
    let ban = AgentChange::Ban {
        at: START.saturating_add(HOUR),
    };
    assert!(db.change_agent(id("/spire/agent/x"), ban).await.unwrap());
    let records = db.records(id("/w")).await.unwrap();
    let revoked: Vec<_> = records
        .iter()
        .map(|r| r.revoked_at.map(|at| at.since(START)))
        .collect();
    let (never, at_once) = (None, Some(Duration::ZERO));
    assert_eq!(
        revoked,
        [never, never, Some(HOUR), at_once, never, at_once],
        "not what was spent, nor what was no rung, nor what was revoked before"
    );
    assert_eq!(seen(&db, wanted()).await[1..], [all[2].clone()]);
    let spent = DebtQuery {
        now: START.saturating_add(HOUR),
        ..wanted()
    };
    assert_eq!(seen(&db, spent).await, [all[2].clone()]);
    // An eviction leaves them: the node may come back.
    assert!(db.delete_agent(id("/spire/agent/y"), START).await.unwrap());
    assert_eq!(seen(&db, wanted()).await[1..], [all[2].clone()]);
    let expired_before = START.saturating_add(200 * HOUR);
    let pruned = db.prune(Prune::Records { expired_before }, 100).await.unwrap();
    assert_eq!(pruned, 6);
    assert!(seen(&db, wanted()).await.is_empty());
}

pub(in crate::datastore) async fn a_bundle_is_known_when_every_agent_that_counts_has_said_so(db: Store) {
    let unknown = |sequence, hours: u32| {
        let db = &db;
        async move {
            let now = START.saturating_add(hours * HOUR);
            db.unacknowledged(sequence, now).await.unwrap()
        }
    };
    assert_eq!(unknown(9, 0).await, 0, "nobody has to know");
    with_rungs(&db).await;
    assert_eq!(unknown(9, 0).await, 2);
    let (x, y) = (id("/spire/agent/x"), id("/spire/agent/y"));
    // Ten bundles.
    for n in 0..9 {
        let journal = db.journal().await.unwrap();
        let mut rows = journal.rows;
        rows.push(authority(&n.to_string(), crate::authority::Slot::Old));
        let saved = db.save_journal(journal.version, rows).await.unwrap().unwrap();
        assert_eq!(saved.sequence, n + 2);
    }
    db.acknowledge(x.clone(), 8).await.unwrap();
    assert_eq!(unknown(9, 0).await, 2, "an older one");
    db.acknowledge(x.clone(), 9).await.unwrap();
    db.acknowledge(id("/spire/agent/nobody"), 1).await.unwrap();
    assert_eq!((unknown(9, 0).await, unknown(10, 0).await), (1, 2));
    db.acknowledge(y.clone(), 11).await.unwrap();
    assert_eq!(unknown(9, 0).await, 1, "no bundle that was ever made here");
    // Its SVID is over, and what it has ahead.
    assert_eq!(unknown(9, 7 * 24).await, 0);
    let long = rung("/spire/agent/y", "e1", "07", 300 * HOUR);
    db.record(vec![long]).await.unwrap();
    assert_eq!(unknown(9, 7 * 24).await, 1, "it has rungs still");
    db.acknowledge(y.clone(), 10).await.unwrap();
    assert_eq!(unknown(9, 0).await, 0);
    // One that was restored, or has lost its disk.
    db.acknowledge(y.clone(), 3).await.unwrap();
    assert_eq!(unknown(9, 0).await, 1);
    let ban = AgentChange::Ban { at: START };
    assert!(db.change_agent(y.clone(), ban).await.unwrap());
    assert_eq!(unknown(9, 0).await, 0, "it is not to know");
    assert!(db.delete_agent(x.clone(), START).await.unwrap());
    db.attest_agent(agent("/spire/agent/x", "0b", &[]), NEW)
        .await
        .unwrap();
    assert_eq!(unknown(9, 0).await, 1, "a new one has said nothing");
    assert_eq!(unknown(9, 7 * 24).await, 0, "and is over");
    // The registry has gone back: it may have been renewed, and have rungs that nobody knows of.
    let mut renewed = agent("/spire/agent/x", "0b", &[]);
    renewed.new_serial = Some(crate::registry::renewed_since(START.as_secs()));
    db.attest_agent(renewed, NEW).await.unwrap();
    assert_eq!(unknown(9, 7 * 24).await, 1);
    db.acknowledge(x, 9).await.unwrap();
    assert_eq!(unknown(9, 7 * 24).await, 0);
}

pub(in crate::datastore) async fn what_is_signed_while_a_ban_or_a_deletion_comes_is_not_recorded(db: Store) {
    with_rungs(&db).await;
    let ban = AgentChange::Ban { at: START };
    assert!(db.change_agent(id("/spire/agent/x"), ban).await.unwrap());
    let before = seen(&db, wanted()).await;
    let ordinary = IssuanceRecord {
        is_rung: false,
        ..rung("/spire/agent/x", "e1", "10", HOUR)
    };
    let signed = vec![
        rung("/spire/agent/x", "e1", "11", 9 * HOUR),
        rung("/spire/agent/nobody", "e1", "12", 9 * HOUR),
        rung("/spire/agent/y", "none", "13", 9 * HOUR),
        ordinary,
    ];
    let recorded = db.record(signed).await.unwrap();
    assert_eq!(
        recorded,
        [Recorded::Gone, Recorded::Gone, Recorded::Gone, Recorded::Yes]
    );
    assert_eq!(seen(&db, wanted()).await, before);
    assert!(db.delete_entry("e1".into(), START).await.unwrap());
    let signed = vec![
        rung("/spire/agent/y", "e1", "14", 9 * HOUR),
        rung("/spire/agent/y", "e2", "15", 9 * HOUR),
    ];
    let recorded = db.record(signed).await.unwrap();
    assert_eq!(recorded, [Recorded::Gone, Recorded::Yes]);
    assert_eq!(seen(&db, wanted()).await, [row("y", "e2", 2, 9)]);
}

pub(in crate::datastore) async fn a_rung_has_a_key_of_its_own_and_nobody_has_more_than_any_reserve_takes(
    db: Store,
) {
    with_rungs(&db).await;
    let keyed = |number: u32| {
        let mut key = [7; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        IssuanceRecord {
            key_hash: Some(key),
            // Each begins before the one that was asked for before, and so takes the place of none.
            ..rung(
                "/spire/agent/x",
                "e1",
                &format!("k{number}"),
                3 * HOUR - Duration::from_secs(number.into()),
            )
        }
    };
    let ordinary = IssuanceRecord {
        is_rung: false,
        ..keyed(1)
    };
    let signed = vec![ordinary.clone(), keyed(1), keyed(2), keyed(2), keyed(3)];
    let recorded = db.record(signed).await.unwrap();
    let used = Recorded::KeyUsed;
    assert_eq!(
        recorded,
        [
            Recorded::Yes,
            used.clone(),
            Recorded::Yes,
            used.clone(),
            Recorded::Yes
        ],
        "of an SVID that is worn, or of another of the same batch"
    );
    let other = IssuanceRecord {
        requester: format!("agent {}", id("/spire/agent/y")),
        ..keyed(3)
    };
    assert_eq!(db.record(vec![other]).await.unwrap(), [used]);
    // What is worn is renewed with its key, as in SPIRE's agents.
    assert_eq!(db.record(vec![ordinary]).await.unwrap(), [Recorded::Yes]);
    // Two of these, and two of before.
    let most = u32::try_from(crate::reserve::MOST_AHEAD).unwrap();
    let recorded = db.record((10..10 + most).map(keyed).collect()).await.unwrap();
    let written = recorded.iter().filter(|one| **one == Recorded::Yes).count();
    assert_eq!(
        (written, recorded.last()),
        (recorded.len() - 4, Some(&Recorded::Enough))
    );
    let again = || db.record(vec![keyed(9999)]);
    assert_eq!(again().await.unwrap(), [Recorded::Enough]);
    for (agent, entry) in [("/spire/agent/x", "e2"), ("/spire/agent/y", "e1")] {
        let elsewhere = rung(agent, entry, "20", HOUR);
        assert_eq!(db.record(vec![elsewhere]).await.unwrap(), [Recorded::Yes]);
    }
    let spent = IssuanceRecord {
        issued_at: START.saturating_add(4 * HOUR),
        ..keyed(9998)
    };
    assert_eq!(db.record(vec![spent]).await.unwrap(), [Recorded::Yes]);
    // Without a reserve all of it is marked.
    db.set_policy("e1".into(), policy(0, true), None, START)
        .await
        .unwrap();
    assert_eq!(again().await.unwrap(), [Recorded::Yes]);
}

/// Rights go by the SPIFFE ID, which all these rungs have.
pub(in crate::datastore) async fn what_is_not_to_lie_about_is_marked_or_refused(db: Store) {
    with_rungs(&db).await;
    let powerful = |path: &str| {
        let mut wanted = draft("/spire/agent/z", path);
        wanted.admin = true;
        db.create_entry(wanted, path[1..].to_owned(), "me".into(), START)
    };
    let ahead = |error: RegistryError| match error {
        RegistryError::Reserve {
            source: ReserveError::Ahead { until },
        } => until.since(START).as_secs() / 3600,
        other => panic!("{other}"),
    };
    assert_eq!(ahead(powerful("/w").await.unwrap_err()), 5);
    new(powerful("/other").await.unwrap());
    new(make(&db, "/w", "e3").await);
    let crown = || EntryPatch {
        downstream: Some(true),
        ..EntryPatch::default()
    };
    let update = |entry: &str, patch| db.update_entry(entry.into(), patch, MargoPaths::Ordinary, START);
    assert_eq!(ahead(update("e3", crown()).await.unwrap_err()), 5);
    // Another parent, or another ID.
    let hint = EntryPatch {
        hint: Some("h".into()),
        ..EntryPatch::default()
    };
    update("e1", hint).await.unwrap();
    assert_eq!(seen(&db, wanted()).await.len(), 4, "of no concern");
    let elsewhere = EntryPatch {
        parent_id: Some(id("/spire/agent/z")),
        ..EntryPatch::default()
    };
    update("e1", elsewhere).await.unwrap();
    assert_eq!(
        seen(&db, wanted()).await,
        [row("x", "e2", 1, 3), row("y", "e2", 1, 5)]
    );
    // Privileged, or without a reserve.
    db.set_policy("e2".into(), policy(7200, false), None, START)
        .await
        .unwrap();
    assert_eq!(seen(&db, wanted()).await.len(), 2);
    db.set_policy("e2".into(), policy(0, true), None, START)
        .await
        .unwrap();
    assert!(seen(&db, wanted()).await.is_empty());
    update("e3", crown()).await.unwrap();
}

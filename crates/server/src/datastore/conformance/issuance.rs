//! Records of issuance and authorities.

use super::*;

pub(super) fn record(path: &str, key: Option<u8>) -> IssuanceRecord {
    IssuanceRecord {
        kind: if key.is_some() {
            SvidKind::X509
        } else {
            SvidKind::Wit
        },
        spiffe_id: id(path),
        serial: "0a".into(),
        key_hash: key.map(|key| [key; 32]),
        authority_id: "a".into(),
        requester: "agent".into(),
        attestation: "join_token".into(),
        entry_id: Some("e".into()),
        not_before: START,
        not_after: START.saturating_add(DAY),
        issued_at: START,
        is_rung: false,
        revoked_at: None,
    }
}

pub(in crate::datastore) fn authority(id: &str, slot: crate::authority::Slot) -> AuthorityRow {
    AuthorityRow {
        id: id.into(),
        kind: crate::authority::Kind::Jwt,
        slot,
        key_name: format!("jwt-{id}"),
        certificate: None,
        descent: None,
        public_key: crate::core::fixture::key(),
        created_at: START,
        activated_at: Some(START),
        not_before: START,
        not_after: START.saturating_add(30 * DAY),
        last_svid_ends: None,
        tainted: false,
    }
}

pub(in crate::datastore) async fn a_key_has_one_identity(db: Store) {
    use crate::authority::Slot;
    let saved = db.save_journal(0, vec![authority("a", Slot::Active)]).await;
    saved.unwrap().unwrap();
    let minted = IssuanceRecord {
        entry_id: None,
        requester: "local uid 0".into(),
        ..record("/minted", Some(1))
    };
    let batch = vec![
        minted,
        record("/one", Some(1)),
        record("/two", Some(1)),
        record("/one", Some(1)),
        record("/wit", None),
        record("/spire/agent/x", Some(2)),
    ];
    let answers = db.record(batch).await.unwrap();
    let taken = Recorded::KeyTaken(id("/one").to_string());
    assert_eq!(
        answers,
        [
            Recorded::Yes,
            Recorded::Yes,
            taken.clone(),
            Recorded::Yes,
            Recorded::Yes,
            Recorded::Yes
        ]
    );
    let answers = db.record(vec![
        record("/two", Some(1)),
        record("/spire/agent/y", Some(2)),
        record("/z", Some(2)),
    ]);
    let agent = Recorded::KeyTaken(id("/spire/agent/x").to_string());
    assert_eq!(answers.await.unwrap(), [taken, Recorded::Yes, agent]);
    assert_eq!(
        db.records(id("/one")).await.unwrap(),
        vec![record("/one", Some(1)); 2]
    );
    assert_eq!(db.records(id("/wit")).await.unwrap(), [record("/wit", None)]);
    let journal = db.journal().await.unwrap();
    assert_eq!(journal.rows[0].last_svid_ends, Some(START.saturating_add(DAY)));
    let unknown = IssuanceRecord {
        authority_id: "forgotten".into(),
        ..record("/late", Some(3))
    };
    assert!(db.record(vec![unknown]).await.is_err());
    assert!(
        db.records(id("/late")).await.unwrap().is_empty(),
        "nothing leaves without its authority"
    );
}

pub(in crate::datastore) async fn the_journal_is_saved_by_who_knows_it(db: Store) {
    use crate::authority::Slot;
    let (one, two) = (authority("one", Slot::Active), authority("two", Slot::Prepared));
    let first = db.save_journal(0, vec![one.clone()]).await.unwrap().unwrap();
    assert_eq!((first.version, first.sequence, first.rows.len()), (1, 1, 1));
    let stale = db.save_journal(0, vec![two.clone()]).await.unwrap();
    assert!(stale.is_none());
    let second = db
        .save_journal(1, vec![one.clone(), two.clone()])
        .await
        .unwrap()
        .unwrap();
    assert_eq!((second.version, second.sequence), (2, 2));
    let turned = vec![
        AuthorityRow {
            slot: Slot::Old,
            ..one
        },
        AuthorityRow {
            slot: Slot::Active,
            ..two
        },
    ];
    let third = db.save_journal(2, turned.clone()).await.unwrap().unwrap();
    assert_eq!(
        (third.version, third.sequence),
        (3, 2),
        "the same are in the bundle"
    );
    assert_eq!(third.rows[1].public_key, turned[1].public_key);
    let both = vec![
        AuthorityRow {
            slot: Slot::Active,
            ..turned[0].clone()
        },
        turned[1].clone(),
    ];
    assert!(db.save_journal(3, both).await.is_err(), "one a slot");
    let above = Above::default();
    let fourth = db
        .save_below(3, vec![turned[1].clone()], above)
        .await
        .unwrap()
        .unwrap();
    assert_eq!((fourth.version, fourth.sequence, fourth.rows.len()), (4, 3, 1));
    assert_eq!(db.journal().await.unwrap().version, 4);
}

pub(in crate::datastore) async fn appended_authorities_go_with_the_journal(db: Store) {
    let bundle = foreign("b.example").await;
    let jwt = crate::authority::AppendedKey::Jwt(bundle.jwt_authorities()[0].clone());
    let x509 = crate::authority::AppendedKey::X509(bundle.x509_authorities()[0].clone());
    let row = |key: &crate::authority::AppendedKey| AppendedRow {
        key: key.clone(),
        by: "downstream".into(),
        at: START,
        revoked: false,
    };
    let mut rows = vec![row(&jwt), row(&x509)];
    let saved = db.save_appended(0, rows.clone()).await.unwrap().unwrap();
    assert_eq!(
        (saved.version, saved.sequence, saved.appended.clone()),
        (1, 1, rows.clone())
    );
    assert!(db.save_appended(0, Vec::new()).await.unwrap().is_none());
    rows[0].revoked = true;
    rows.truncate(1);
    let saved = db.save_appended(1, rows.clone()).await.unwrap().unwrap();
    assert_eq!((saved.sequence, saved.appended), (2, rows));
}

pub(in crate::datastore) async fn old_things_are_pruned_in_batches(db: Store) {
    use crate::authority::Slot;
    for n in 0..3_u8 {
        let mut draft = draft("/spire/agent/x", &format!("/w{n}"));
        draft.expires_at = Some(START.saturating_add(DAY));
        db.create_entry(draft, format!("e{n}"), "me".into(), START)
            .await
            .unwrap();
        db.create_token(token(n)).await.unwrap();
    }
    db.save_journal(0, vec![authority("a", Slot::Active)])
        .await
        .unwrap();
    db.record(vec![record("/r", Some(1)); 3]).await.unwrap();
    let later = START.saturating_add(2 * DAY);
    let kinds = |at| {
        [
            Prune::Entries { now: at },
            Prune::Tokens { before: at },
            Prune::Records { expired_before: at },
            Prune::Tombstones { before: at },
        ]
    };
    for what in kinds(START) {
        assert_eq!(db.prune(what, 2).await.unwrap(), 0, "{what:?}");
    }
    for what in kinds(later).into_iter().take(3) {
        assert_eq!(db.prune(what, 2).await.unwrap(), 2, "{what:?}");
        assert_eq!(db.prune(what, 2).await.unwrap(), 1, "{what:?}");
    }
    let snapshot = loaded(&db).await;
    assert_eq!((snapshot.entries.len(), snapshot.revision.number), (0, 6));
}

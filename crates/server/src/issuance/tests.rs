//! The door: what it refuses, what comes out of it, and that nothing comes out unrecorded.

mod profile;
mod subordinate;
mod wit;

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::{BundleSet, PublicKey, jwt, verify_x509_svid};

use super::{IssueError, Requester, SvidKind, Ttls};
use crate::admission::Turn;
use crate::core::fixture::{DAY, Rig, START, draft, id, key, me};
use crate::datastore::DatastoreError;
use crate::registry::Entry;

const HOUR: Duration = Duration::from_secs(3600);

fn w(change: impl FnOnce(&mut Entry)) -> Entry {
    let mut entry = draft("/spire/agent/x", "/w").into_entry("e1".into(), START);
    change(&mut entry);
    entry
}

fn bundles(rig: &Rig) -> BundleSet {
    [rig.core.authorities.bundle().as_ref().clone()]
        .into_iter()
        .collect()
}

fn refused_by_policy<T: std::fmt::Debug>(answer: Result<T, IssueError>, part: &str) {
    match answer {
        Err(IssueError::Policy(text)) => assert!(text.contains(part), "{text}"),
        other => panic!("{other:?} is no refusal by policy"),
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_issued_verifies_and_is_recorded() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let who = Requester::agent(id("/spire/agent/x509pop/a"), "x509pop");
    let key = key();
    let issued = issuer.x509_for_entry(&who, &w(|_| ()), &key).await.unwrap();
    let leaf = &issued.chain[0];
    let peer = verify_x509_svid(&[leaf.as_der()], &bundles(&rig), START).unwrap();
    assert_eq!(peer.id, id("/w"));
    assert_eq!(leaf.public_key(), &key);
    assert_eq!(issued.chain.len(), 1, "the self-signed authority is left out");
    assert_eq!(leaf.not_before(), START.saturating_sub(Duration::from_secs(300)));
    assert_eq!(
        (issued.not_after, leaf.not_after()),
        (START.saturating_add(HOUR), issued.not_after)
    );
    let records = issuer.records(&id("/w")).await.unwrap();
    assert_eq!(records.len(), 1);
    let r = &records[0];
    assert_eq!((r.kind, r.serial.clone()), (SvidKind::X509, issued.serial_hex()));
    assert_eq!(
        (r.key_hash, r.entry_id.as_deref()),
        (Some(key.sha256()), Some("e1"))
    );
    assert_eq!(
        (r.requester.as_str(), r.attestation.as_str()),
        ("agent spiffe://plant.example/spire/agent/x509pop/a", "x509pop")
    );
    assert_eq!(
        (r.not_before, r.not_after, r.issued_at),
        (leaf.not_before(), leaf.not_after(), START)
    );
}

#[tokio::test(start_paused = true)]
async fn a_token_verifies_and_is_recorded_by_a_name_not_by_itself() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let audience = vec!["historian".to_owned(), "broker".to_owned()];
    let entry = w(|e| e.jwt_svid_include_jti = true);
    let with_jti = issuer.jwt_for_entry(&me(), &entry, &audience).await.unwrap();
    let svid = jwt::verify(&with_jti.token, &bundles(&rig), "broker", START).unwrap();
    assert_eq!((svid.id(), svid.audience()), (&id("/w"), audience.as_slice()));
    assert_eq!(svid.expires_at(), START.saturating_add(Duration::from_secs(300)));
    assert_eq!(
        svid.issued_at(),
        Some(START.saturating_sub(Duration::from_secs(300))),
        "iat is back-dated"
    );
    assert_eq!(
        (with_jti.issued_at, with_jti.expires_at),
        (START, svid.expires_at()),
        "agents renew at half of what is between, so this is not back-dated"
    );
    assert!(!svid.claims().contains_key("nbf") && !svid.claims().contains_key("iss"));
    let without = issuer.jwt_for_entry(&me(), &w(|_| ()), &audience).await.unwrap();
    let plain = jwt::verify(&without.token, &bundles(&rig), "broker", START).unwrap();
    assert!(!plain.claims().contains_key("jti"));
    let records = issuer.records(&id("/w")).await.unwrap();
    assert_eq!(records.len(), 2);
    assert!(
        records
            .iter()
            .all(|r| r.kind == SvidKind::Jwt && r.key_hash.is_none())
    );
    assert_eq!(Some(records[0].serial.as_str()), svid.claims()["jti"].as_str());
    assert_eq!(records[1].serial.len(), 64);
    assert!(!without.token.contains(&records[1].serial));
    assert!(!format!("{without:?}").contains(&without.token[..20]));
}

#[tokio::test(start_paused = true)]
async fn policy_refuses_before_anything_is_signed() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let foreign = landfast_identity::SpiffeId::parse("spiffe://other.example/w").unwrap();
    for (bad, why) in [
        (w(|e| e.spiffe_id = id("/spire/server")), "reserved"),
        (w(|e| e.spiffe_id = foreign.clone()), "not a member"),
        (
            w(|e| e.spiffe_id = crate::core::fixture::td().id()),
            "path cannot be empty",
        ),
        (w(|e| e.expires_at = Some(START)), "expired"),
    ] {
        refused_by_policy(issuer.x509_for_entry(&me(), &bad, &key()).await, why);
        refused_by_policy(issuer.jwt_for_entry(&me(), &bad, &["a".to_owned()]).await, why);
        assert!(issuer.records(&bad.spiffe_id).await.unwrap().is_empty());
    }
    refused_by_policy(
        issuer
            .x509_for_entry(&me(), &w(|e| e.dns_names = vec!["10.0.0.1".into()]), &key())
            .await,
        "DNS",
    );
    refused_by_policy(
        issuer
            .x509_for_entry(&me(), &w(|e| e.x509_svid_ttl = Some(Duration::ZERO)), &key())
            .await,
        "TTL",
    );
    refused_by_policy(
        issuer
            .mint_x509(&me(), &id("/spire/agent/x/y"), &[], None, &key())
            .await,
        "reserved",
    );
    refused_by_policy(
        issuer
            .mint_x509(&me(), &id("/m"), &["a b".to_owned()], None, &key())
            .await,
        "DNS",
    );
    refused_by_policy(
        issuer
            .mint_jwt(&me(), &id("/spire/server"), &["a".to_owned()], None)
            .await,
        "reserved",
    );
    refused_by_policy(issuer.mint_jwt(&me(), &id("/m"), &[], None).await, "audience");
    refused_by_policy(
        issuer.mint_jwt(&me(), &id("/m"), &[String::new()], None).await,
        "audience",
    );
    refused_by_policy(
        issuer
            .mint_jwt(&me(), &id("/m"), &vec!["a".to_owned(); 65], None)
            .await,
        "audiences",
    );
    refused_by_policy(
        issuer
            .mint_jwt(&me(), &id("/m"), &["a".to_owned()], Some(Duration::ZERO))
            .await,
        "TTL",
    );
    refused_by_policy(issuer.agent_svid(&me(), &id("/w"), &key()).await, "agent");
    refused_by_policy(
        issuer.agent_svid(&me(), &id("/spire/server"), &key()).await,
        "agent",
    );
    // The control: the same with nothing wrong.
    issuer
        .mint_x509(&me(), &id("/m"), &["m.example".to_owned()], None, &key())
        .await
        .unwrap();
    issuer
        .mint_jwt(&me(), &id("/m"), &["a".to_owned()], None)
        .await
        .unwrap();
    issuer
        .agent_svid(&me(), &id("/spire/agent/x/y"), &key())
        .await
        .unwrap();
}

/// T-10.
#[tokio::test(start_paused = true)]
async fn a_key_belongs_to_one_identity() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let shared = key();
    let other = w(|e| e.spiffe_id = id("/other"));
    issuer.x509_for_entry(&me(), &w(|_| ()), &shared).await.unwrap();
    issuer.x509_for_entry(&me(), &w(|_| ()), &shared).await.unwrap();
    for answer in [
        issuer.x509_for_entry(&me(), &other, &shared).await,
        issuer
            .agent_svid(
                &Requester::attestation("join_token"),
                &id("/spire/agent/x/y"),
                &shared,
            )
            .await,
        issuer.server_svid(&shared).await,
    ] {
        assert!(matches!(answer, Err(IssueError::KeyInUse { .. })), "{answer:?}");
    }
    assert!(issuer.records(&id("/other")).await.unwrap().is_empty());
    let node = key();
    issuer
        .agent_svid(
            &Requester::attestation("join_token"),
            &id("/spire/agent/join_token/one"),
            &node,
        )
        .await
        .unwrap();
    issuer
        .agent_svid(
            &Requester::attestation("join_token"),
            &id("/spire/agent/join_token/two"),
            &node,
        )
        .await
        .expect("a node whose answer was lost comes with a new token and the same key");
    let answer = issuer.x509_for_entry(&me(), &other, &node).await;
    assert!(
        matches!(answer, Err(IssueError::KeyInUse { .. })),
        "but no workload has its node's key"
    );
    // Two in one batch see each other.
    let batch = [("/b1", &node), ("/b2", &shared), ("/b3", &key()), ("/b4", &key())];
    let mut batch: Vec<_> = batch
        .map(|(path, key)| (Arc::new(w(|e| e.spiffe_id = id(path))), key.clone()))
        .into();
    batch[3].1 = batch[2].1.clone();
    let answers = issuer.x509_batch(&me(), batch, &Turn::free()).await;
    let good: Vec<_> = answers.iter().map(Result::is_ok).collect();
    assert_eq!(good, [false, false, true, false]);
}

/// What an administrator mints neither owns a key nor is judged by one: he may have any identity, and tools of SPIRE use one key for many.
#[tokio::test(start_paused = true)]
async fn what_is_minted_takes_no_key_and_needs_none_of_its_own() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let admin = Requester::admin(id("/ops"));
    let (minted, used) = (key(), key());
    for (who, path) in [(me(), "/m1"), (me(), "/m2"), (admin.clone(), "/m3")] {
        issuer
            .mint_x509(&who, &id(path), &[], None, &minted)
            .await
            .unwrap();
    }
    let agent = Requester::agent(id("/spire/agent/x/y"), "x509pop");
    issuer.x509_for_entry(&agent, &w(|_| ()), &used).await.unwrap();
    issuer
        .mint_x509(&admin, &id("/m4"), &[], None, &used)
        .await
        .unwrap();
    let other = w(|e| e.spiffe_id = id("/other"));
    let answer = issuer.x509_for_entry(&agent, &other, &used).await;
    assert!(
        matches!(answer, Err(IssueError::KeyInUse { .. })),
        "an agent is judged by what agents have"
    );
    issuer
        .x509_for_entry(&agent, &other, &minted)
        .await
        .expect("and not by what was minted");
    let answer = issuer.agent_svid(&agent, &id("/spire/agent/x/y"), &minted).await;
    assert!(
        matches!(answer, Err(IssueError::KeyInUse { .. })),
        "from now on it has an owner"
    );
}

/// An agent renews at half of what the certificate says it lives, which must be after it was signed.
#[tokio::test(start_paused = true)]
async fn a_short_certificate_does_not_begin_so_early_that_it_is_to_be_renewed_at_once() {
    let rig = Rig::new().await;
    for (ttl, backdate) in [
        (8, 1),
        (60, 7),
        (240, 30),
        (2400, 300),
        (3600, 300),
        (86_000, 300),
    ] {
        let entry = w(|e| e.x509_svid_ttl = Some(Duration::from_secs(ttl)));
        let issued = rig
            .core
            .issuer
            .x509_for_entry(&me(), &entry, &key())
            .await
            .unwrap();
        let leaf = &issued.chain[0];
        let begins = START.saturating_sub(Duration::from_secs(backdate));
        assert_eq!(leaf.not_before(), begins, "{ttl} s");
        assert_eq!(leaf.not_after(), START.saturating_add(Duration::from_secs(ttl)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_wildcard_beside_a_name_that_it_covers_is_not_minted() {
    let rig = Rig::new().await;
    let mint = async |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        rig.core
            .issuer
            .mint_x509(&me(), &id("/m"), &names, None, &key())
            .await
    };
    for names in [
        ["*.line4.example", "db.line4.example"],
        ["DB.line4.example", "*.LINE4.example"],
    ] {
        refused_by_policy(
            mint(&names).await,
            "CSR DNS name contains a wildcard that covers another",
        );
    }
    mint(&["*.line4.example", "line4.example", "a.db.line4.example"])
        .await
        .unwrap();
}

/// T-10.
#[tokio::test(start_paused = true)]
async fn no_identity_has_an_authoritys_key() {
    let rig = Rig::new().await;
    let bundle = rig.core.authorities.bundle();
    let x509: &PublicKey = bundle.x509_authorities()[0].certificate.public_key();
    let jwt: &PublicKey = &bundle.jwt_authorities()[0].public_key;
    for key in [x509, jwt] {
        refused_by_policy(
            rig.core.issuer.x509_for_entry(&me(), &w(|_| ()), key).await,
            "authority",
        );
        refused_by_policy(
            rig.core
                .issuer
                .agent_svid(&me(), &id("/spire/agent/x/y"), key)
                .await,
            "authority",
        );
        refused_by_policy(
            rig.core.issuer.mint_x509(&me(), &id("/m"), &[], None, key).await,
            "authority",
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_batch_answers_each_in_its_place() {
    let rig = Rig::new().await;
    let expired = w(|e| e.expires_at = Some(START));
    let batch = (0..40).map(|n| {
        let entry = if n % 3 == 0 {
            expired.clone()
        } else {
            w(|e| e.spiffe_id = id(&format!("/w{n}")))
        };
        (Arc::new(entry), key())
    });
    let answers = rig
        .core
        .issuer
        .x509_batch(&me(), batch.collect(), &Turn::free())
        .await;
    assert_eq!(answers.len(), 40);
    for (n, answer) in answers.into_iter().enumerate() {
        if n % 3 == 0 {
            refused_by_policy(answer, "expired");
        } else {
            let issued = answer.unwrap();
            assert_eq!(issued.id, id(&format!("/w{n}")));
            assert_eq!(issued.chain[0].spiffe_id().unwrap(), issued.id);
        }
    }
    assert!(
        rig.core
            .issuer
            .x509_batch(&me(), Vec::new(), &Turn::free())
            .await
            .is_empty()
    );
}

#[tokio::test(start_paused = true)]
async fn nothing_outlives_its_authority_or_its_entry() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let end = rig.core.authorities.active_x509_expires_at().unwrap();
    let long = w(|e| {
        e.x509_svid_ttl = Some(365 * DAY);
        e.jwt_svid_ttl = Some(365 * DAY);
    });
    assert_eq!(
        issuer
            .x509_for_entry(&me(), &long, &key())
            .await
            .unwrap()
            .not_after,
        end
    );
    let token = issuer
        .jwt_for_entry(&me(), &long, &["a".to_owned()])
        .await
        .unwrap();
    assert_eq!(token.expires_at, end);
    let soon = START.saturating_add(Duration::from_secs(90));
    let short = w(|e| e.expires_at = Some(soon));
    assert_eq!(
        issuer
            .x509_for_entry(&me(), &short, &key())
            .await
            .unwrap()
            .not_after,
        soon
    );
    assert_eq!(
        issuer
            .jwt_for_entry(&me(), &short, &["a".to_owned()])
            .await
            .unwrap()
            .expires_at,
        soon
    );
    let agent = issuer
        .agent_svid(&me(), &id("/spire/agent/x/y"), &key())
        .await
        .unwrap();
    assert_eq!(agent.not_after, START.saturating_add(7 * DAY));
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_refuses_with_its_own_code_and_recovers() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    rig.set_full(true).await;
    let mut issued = 0;
    let refused = loop {
        match issuer.x509_for_entry(&me(), &w(|_| ()), &key()).await {
            Ok(_) => issued += 1,
            Err(error) => break error,
        }
        assert!(issued < 200, "the disk never becomes full");
    };
    assert!(matches!(refused, IssueError::StorageFull), "{refused:?}");
    let token = issuer
        .jwt_for_entry(&me(), &w(|e| e.hint = "h".repeat(9)), &["a".to_owned()])
        .await;
    assert!(
        token.is_ok() || matches!(token, Err(IssueError::StorageFull)),
        "{token:?}"
    );
    issued += usize::from(token.is_ok());
    assert_eq!(
        issuer.records(&id("/w")).await.unwrap().len(),
        issued,
        "as many records as left the door"
    );
    rig.set_full(false).await;
    issuer.x509_for_entry(&me(), &w(|_| ()), &key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn without_a_record_nothing_leaves() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    rig.db
        .execute("CREATE TRIGGER broken BEFORE INSERT ON issued BEGIN SELECT RAISE(ABORT, 'broken'); END")
        .await;
    let batch = vec![
        (Arc::new(w(|_| ())), key()),
        (Arc::new(w(|e| e.spiffe_id = id("/v"))), key()),
    ];
    for answer in issuer.x509_batch(&me(), batch, &Turn::free()).await {
        assert!(matches!(answer, Err(IssueError::Storage { .. })), "{answer:?}");
    }
    assert!(matches!(
        issuer.jwt_for_entry(&me(), &w(|_| ()), &["a".to_owned()]).await,
        Err(IssueError::Storage { .. })
    ));
    assert!(matches!(
        issuer.agent_svid(&me(), &id("/spire/agent/x/y"), &key()).await,
        Err(IssueError::Storage { .. })
    ));
    assert!(matches!(
        issuer.server_svid(&key()).await,
        Err(IssueError::Storage { .. })
    ));
    assert!(matches!(
        issuer.mint_jwt(&me(), &id("/m"), &["a".to_owned()], None).await,
        Err(IssueError::Storage { .. })
    ));
    rig.db.execute("DROP TRIGGER broken").await;
    issuer.server_svid(&key()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_authority_that_was_forgotten_signs_nothing_that_leaves() {
    let rig = Rig::new().await;
    rig.db
        .execute("UPDATE authorities SET id = 'another' WHERE kind = 'x509'")
        .await;
    let answer = rig.core.issuer.x509_for_entry(&me(), &w(|_| ()), &key()).await;
    assert!(
        matches!(
            answer,
            Err(IssueError::Storage {
                source: DatastoreError::Failed { .. }
            })
        ),
        "{answer:?}"
    );
    assert!(rig.core.issuer.records(&id("/w")).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_absent_or_behind_refuses_and_says_so() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    rig.clock.set_absent(true);
    assert!(matches!(
        issuer.x509_for_entry(&me(), &w(|_| ()), &key()).await,
        Err(IssueError::NoClock)
    ));
    assert!(matches!(
        issuer.mint_jwt(&me(), &id("/m"), &["a".to_owned()], None).await,
        Err(IssueError::NoClock)
    ));
    rig.clock.set_absent(false);
    rig.clock.step(-86_400);
    let behind = issuer.server_svid(&key()).await.unwrap_err();
    assert!(matches!(behind, IssueError::ClockBehind { .. }));
    assert!(
        behind.to_string().contains("2026-11-22T08:00:00Z") && behind.to_string().contains("set the clock"),
        "{behind}"
    );
    assert!(matches!(
        issuer.mint_jwt(&me(), &id("/m"), &["a".to_owned()], None).await,
        Err(IssueError::ClockBehind { .. })
    ));
    rig.clock.step(86_400 - 200);
    let issued = issuer
        .server_svid(&key())
        .await
        .expect("a little behind is within the back-dating");
    let ca = rig
        .core
        .authorities
        .active_x509()
        .unwrap()
        .certificate
        .not_before();
    assert_eq!(
        issued.chain[0].not_before(),
        ca,
        "nothing begins before its authority"
    );
    rig.step(40 * DAY);
    assert!(
        matches!(issuer.server_svid(&key()).await, Err(IssueError::NoAuthority)),
        "an expired authority signs nothing"
    );
    assert!(matches!(
        issuer.mint_jwt(&me(), &id("/m"), &["a".to_owned()], None).await,
        Err(IssueError::NoAuthority)
    ));
}

#[tokio::test(start_paused = true)]
async fn records_are_pruned_in_batches_thirty_days_after_expiry() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    for round in 0..3 {
        let batch = (0..400).map(|n| {
            (
                Arc::new(w(|e| e.spiffe_id = id(&format!("/r{round}/{n}")))),
                key(),
            )
        });
        assert!(
            issuer
                .x509_batch(&me(), batch.collect(), &Turn::free())
                .await
                .iter()
                .all(Result::is_ok)
        );
    }
    rig.step(30 * DAY + HOUR);
    assert_eq!(rig.core.prune(rig.now()).await.unwrap(), 0);
    assert_eq!(issuer.records(&id("/r2/399")).await.unwrap().len(), 1);
    rig.step(Duration::from_secs(1));
    assert_eq!(rig.core.prune(rig.now()).await.unwrap(), 1200);
    assert!(issuer.records(&id("/r2/399")).await.unwrap().is_empty());
}

#[test]
fn lives_that_do_not_fit_together_are_named() {
    assert!(Ttls::default().warnings().is_empty(), "the defaults fit");
    let short_ca = Ttls {
        ca: 13 * DAY,
        ..Ttls::default()
    };
    let said = short_ca.warnings();
    assert!(said.len() == 1 && said[0].contains("ttl.agent"), "{said:?}");
    let long_svid = Ttls {
        x509: 6 * DAY,
        jwt: 6 * DAY,
        ..Ttls::default()
    };
    assert_eq!(long_svid.warnings().len(), 2);
}

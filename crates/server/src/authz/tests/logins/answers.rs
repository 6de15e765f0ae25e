//! What an answer is good for, and what becomes of one that is good for nothing.

use super::*;

#[tokio::test]
async fn an_answer_is_for_this_trust_domain_purpose_and_key_and_is_taken_once() {
    let rig = Rig::new().await;
    let key = ssh(ONE);
    first(&rig, &key).await;
    let stranger = rig.tls(None).await.unwrap();
    let other = Odd {
        trust_domain: Some(TrustDomain::parse("other.test").unwrap()),
        ..Odd::default()
    };
    let purpose = Odd {
        namespace: Some("file"),
        ..Odd::default()
    };
    let csr = Odd {
        other_csr: true,
        ..Odd::default()
    };
    for (odd, what) in [
        (other, "another trust domain"),
        (purpose, "another purpose"),
        (csr, "another key"),
    ] {
        assert_eq!(
            code(try_to(&stranger, &key, odd).await),
            Code::PermissionDenied,
            "{what}"
        );
    }
    let (.., request) = try_to(&stranger, &key, Odd::default()).await.unwrap();
    let mut client = LoginClient::new(stranger.clone());
    let again = client.finish(request.clone()).await.unwrap_err();
    assert!(again.message().contains("answered already"), "{again:?}");
    let none = FinishRequest {
        proof: None,
        ..request.clone()
    };
    assert_eq!(code(client.finish(none).await), Code::InvalidArgument);
    for bad in [b"".to_vec(), b"SSHSIG".to_vec(), vec![0xff; 5000]] {
        let bad = FinishRequest {
            proof: Some(Proof::SshSignature(bad.into())),
            ..request.clone()
        };
        assert_eq!(code(client.finish(bad).await), Code::PermissionDenied);
    }
    let bad = FinishRequest {
        challenge: vec![0; 72].into(),
        ..request
    };
    assert_eq!(code(client.finish(bad).await), Code::PermissionDenied);
    let bad = BeginRequest {
        key_sha256: vec![0; 31].into(),
    };
    assert_eq!(code(client.begin(bad).await), Code::InvalidArgument);
    rig.tear_down().await;
}

/// Else anybody with keys enough would shut the door to all.
#[tokio::test]
async fn an_answer_of_nobody_is_not_remembered_and_is_counted_where_it_came_from() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_owned();
    let rig = Rig::with(move |config| config.data_dir = Some(dir)).await;
    let (mine, theirs) = (ssh(ONE), ssh(TWO));
    let reference = first(&rig, &mine).await;
    let stranger = rig.tls(None).await.unwrap();
    let mut client = LoginClient::new(stranger.clone());
    let (own, request) = answer(&mut client, &theirs, Odd::default()).await.unwrap();
    for _ in 0..2 {
        let refused = client.finish(request.clone()).await.unwrap_err();
        assert!(refused.message().contains("no active person"), "{refused:?}");
    }
    let other = Odd {
        other_csr: true,
        ..Odd::default()
    };
    let other = try_to(&stranger, &mine, other).await;
    assert_eq!(code(other), Code::PermissionDenied);
    // What it answers is good as soon as somebody has the key, and once.
    let more = pb::Change {
        person: reference.clone(),
        logins: vec![login(&theirs)],
        ..pb::Change::default()
    };
    grant(rig.admin().await, more).await.unwrap();
    client.finish(request.clone()).await.unwrap();
    let again = client.finish(request).await.unwrap_err();
    assert!(again.message().contains("answered already"), "{again:?}");
    let mut people = PeopleClient::new(rig.admin().await);
    let out = pb::WithdrawRequest {
        person: reference.clone(),
        deactivate: true,
        ..pb::WithdrawRequest::default()
    };
    people.withdraw(out).await.unwrap();
    let inactive = try_to(&stranger, &mine, Odd::default()).await;
    assert_eq!(code(inactive), Code::PermissionDenied);
    drop((own, client, stranger, people));
    rig.tear_down().await;

    let dir = data.path().join("ledger");
    assert!(crate::ledger::tests::report(&dir).is_good());
    let records = crate::ledger::tests::read(&dir);
    let of_type = |kind: &str| -> Vec<_> { records.iter().filter(|record| record["type"] == kind).collect() };
    let failed = of_type("login.failed");
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert_eq!(failed[0]["detail"]["times"], 4);
    assert_eq!(failed[0]["reason"], "an SSH key is nobody's login");
    assert_eq!(failed[0]["actor"]["how"]["address"], "127.0.0.1");
    let denied = of_type("login.denied");
    assert_eq!(denied.len(), 1);
    assert_eq!(denied[0]["actor"]["id"], reference.as_str());
    assert_eq!(denied[0]["decision"], "deny");
}

#[tokio::test]
async fn who_guesses_is_told_to_come_again() {
    let rig = Rig::new().await;
    let stranger = rig.tls(None).await.unwrap();
    let mut client = LoginClient::new(stranger);
    let mut refused = 0;
    for _ in 0..30 {
        let asked = client
            .begin(BeginRequest {
                key_sha256: vec![1; 32].into(),
            })
            .await;
        refused += usize::from(code(asked) == Code::ResourceExhausted);
    }
    assert!(refused > 0);
    rig.tear_down().await;
}

//! Authorities below ours: what they are, what they sign, when they end, and who gets none.

use landfast_identity::issue::{LeafParams, leaf, random_serial};
use landfast_identity::{Certificate, PrivateKey, PublicKey, UnixTime, verify_x509_svid};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{HOUR, bundles, refused_by_policy, w};
use crate::authority::Trust;
use crate::core::fixture::{DAY, Rig, START, id, key, td};
use crate::issuance::{IssueError, Requester, SvidKind};
use crate::registry::Entry;

fn nested(change: impl FnOnce(&mut Entry)) -> Entry {
    w(|entry| {
        entry.spiffe_id = id("/nested");
        entry.downstream = true;
        change(entry);
    })
}

fn who() -> Requester {
    Requester::downstream(id("/nested"))
}

fn workload(below: &Certificate, signer: &PrivateKey, key: &PublicKey, not_after: UnixTime) -> Certificate {
    let params = LeafParams {
        id: &id("/line4/press"),
        public_key: key,
        dns_names: &[],
        serial: random_serial().unwrap(),
        not_before: START,
        not_after,
    };
    leaf(&params, below, signer).unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_a_server_below_signs_verifies_with_its_chain_and_is_recorded_as_the_trust_domains() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let signer = PrivateKey::generate().unwrap();
    let issued = issuer
        .subordinate_authority(&who(), &nested(|_| ()), &signer.public_key(), Some(HOUR))
        .await
        .unwrap();
    let [below] = issued.chain.as_slice() else {
        panic!("the self-signed authority is left out: {issued:?}");
    };
    let svid = workload(below, &signer, &key(), issued.not_after);
    let peer = verify_x509_svid(&[svid.as_der(), below.as_der()], &bundles(&rig), START).unwrap();
    assert_eq!(peer.id, id("/line4/press"));
    verify_x509_svid(&[svid.as_der()], &bundles(&rig), START).expect_err("the link is missing");
    verify_x509_svid(&[below.as_der()], &bundles(&rig), START).expect_err("an authority is no workload");
    let after = issued.not_after.saturating_add(std::time::Duration::from_secs(1));
    verify_x509_svid(&[svid.as_der(), below.as_der()], &bundles(&rig), after).expect_err("it has ended");

    let records = issuer.records(&td().id()).await.unwrap();
    let [record] = records.as_slice() else {
        panic!("{records:?}")
    };
    assert_eq!(
        (record.kind, record.serial.as_str()),
        (SvidKind::X509, below.serial_hex().as_str())
    );
    assert_eq!(record.requester, "downstream spiffe://plant.example/nested");
    assert_eq!(
        (record.entry_id.as_deref(), record.not_after),
        (Some("e1"), issued.not_after)
    );
}

/// X509-SVID §3.2, §4.1-4.3.
#[tokio::test(start_paused = true)]
async fn a_subordinate_authority_has_the_profile_of_a_signing_certificate() {
    let rig = Rig::new().await;
    let issued = rig
        .core
        .issuer
        .subordinate_authority(
            &who(),
            &nested(|e| e.dns_names = vec!["db.line4.example".into()]),
            &key(),
            None,
        )
        .await
        .unwrap();
    let (_, cert) = X509Certificate::from_der(issued.chain[0].as_der()).unwrap();
    let constraints = cert.basic_constraints().unwrap().unwrap();
    assert!(constraints.critical && constraints.value.ca && constraints.value.path_len_constraint.is_none());
    let usage = cert.key_usage().unwrap().unwrap();
    assert!(usage.critical);
    assert_eq!(usage.value.to_string(), "Key Cert Sign, CRL Sign");
    assert!(
        cert.extended_key_usage().unwrap().is_none(),
        "it is never shown to a peer"
    );
    assert_eq!(issued.chain[0].spiffe_id().unwrap(), td().id());
    assert!(
        issued.chain[0].dns_sans().is_empty(),
        "the entry's names are the workload's"
    );
    assert_eq!(
        issued.chain[0].not_before(),
        START.saturating_sub(rig.core.issuer.ttls().backdate)
    );
}

#[tokio::test(start_paused = true)]
async fn it_ends_with_our_authority_and_with_the_entry() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let end = rig.core.authorities.active_x509_expires_at().unwrap();
    for (entry, ttl, expected) in [
        (nested(|_| ()), Some(HOUR), START.saturating_add(HOUR)),
        (nested(|_| ()), None, end),
        (nested(|_| ()), Some(1000 * DAY), end),
        (
            nested(|e| e.expires_at = Some(START.saturating_add(DAY))),
            Some(2 * DAY),
            START.saturating_add(DAY),
        ),
        // The life of the workload's own SVIDs says nothing about what it signs.
        (
            nested(|e| e.x509_svid_ttl = Some(HOUR)),
            Some(2 * HOUR),
            START.saturating_add(2 * HOUR),
        ),
    ] {
        let issued = issuer
            .subordinate_authority(&who(), &entry, &key(), ttl)
            .await
            .unwrap();
        assert_eq!(issued.not_after, expected, "{ttl:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_not_below_us_gets_no_authority() {
    let rig = Rig::new().await;
    let issuer = &rig.core.issuer;
    let ask = |entry: Entry, key: PublicKey| async move {
        issuer.subordinate_authority(&who(), &entry, &key, None).await
    };
    refused_by_policy(
        ask(nested(|e| e.downstream = false), key()).await,
        "not one of a downstream server",
    );
    refused_by_policy(
        ask(nested(|e| e.expires_at = Some(START)), key()).await,
        "has expired",
    );
    refused_by_policy(
        ask(nested(|e| e.spiffe_id = id("/spire/server")), key()).await,
        "reserved",
    );
    let ours = rig
        .core
        .authorities
        .active_x509()
        .unwrap()
        .certificate
        .public_key()
        .clone();
    refused_by_policy(ask(nested(|_| ()), ours).await, "the key is one of an authority");
    assert!(issuer.records(&td().id()).await.unwrap().is_empty());

    // Neither may a workload have the key of an authority below, nor the other way round.
    let theirs = key();
    ask(nested(|_| ()), theirs.clone()).await.unwrap();
    ask(nested(|_| ()), theirs.clone()).await.unwrap();
    let taken = issuer.x509_for_entry(&who(), &w(|_| ()), &theirs).await;
    assert!(matches!(taken, Err(IssueError::KeyInUse { .. })), "{taken:?}");
    let workloads = key();
    issuer
        .x509_for_entry(&who(), &w(|_| ()), &workloads)
        .await
        .unwrap();
    let taken = ask(nested(|_| ()), workloads).await;
    assert!(matches!(taken, Err(IssueError::KeyInUse { .. })), "{taken:?}");
}

#[tokio::test(start_paused = true)]
async fn without_a_record_no_authority_leaves() {
    let rig = Rig::new().await;
    rig.set_full(true).await;
    let mut refused = 0;
    for _ in 0..200 {
        let made = rig
            .core
            .issuer
            .subordinate_authority(&who(), &nested(|_| ()), &key(), None)
            .await;
        refused += usize::from(matches!(made, Err(IssueError::StorageFull)));
    }
    rig.set_full(false).await;
    let recorded = rig.core.issuer.records(&td().id()).await.unwrap().len();
    assert!(refused > 0);
    assert_eq!(recorded, 200 - refused);
}

/// Until the last thing that was signed below it has ended, our authority stays in the bundle.
#[tokio::test(start_paused = true)]
async fn our_authority_stays_as_long_as_the_one_below_it() {
    let rig = Rig::new().await;
    let first = rig.core.authorities.active_x509().unwrap().certificate.clone();
    rig.step(25 * DAY - HOUR);
    let issued = rig
        .core
        .issuer
        .subordinate_authority(&who(), &nested(|_| ()), &key(), None)
        .await
        .unwrap();
    let has_first = || {
        let bundle = rig.core.authorities.bundle();
        bundle.x509_authorities().iter().any(|a| a.certificate == first)
    };
    while rig.now() < issued.not_after {
        rig.core.authorities.tick(rig.now(), Trust::Steady).await.unwrap();
        assert!(has_first(), "{}", rig.now());
        rig.step(DAY / 4);
    }
    assert_ne!(
        rig.core.authorities.active_x509().unwrap().certificate,
        first,
        "it was replaced meanwhile"
    );
    rig.step(2 * DAY);
    rig.core.authorities.tick(rig.now(), Trust::Steady).await.unwrap();
    assert!(!has_first());
}

//! Agents of a server that cannot sign for all of them at once.

use super::*;

/// T-38: a server that has no room for more says so and when to come again, and nothing else suffers from it.
#[tokio::test]
async fn who_finds_no_room_is_told_when_to_come_again_and_is_not_charged() {
    let rig = Rig::with(|config| {
        config.limits.signing_queue = 0;
        config.limits.signatures_burst = 1;
    })
    .await;
    // A node that joins cannot use its token twice: it is served.
    let node = rig.node().await;
    let entry = rig.entry(&node.id, "/a", |_| {}).await;
    let key = PrivateKey::generate().unwrap();
    let csr = build_csr(&key, None, &[]).unwrap();
    let one = svid::NewX509svidParams {
        entry_id: entry.id.clone(),
        csr: csr.into(),
    };
    for _ in 0..3 {
        let refused = batch(&node.channel, vec![one.clone()]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        let pushback = refused.metadata().get(landfast_proto::PUSHBACK).unwrap();
        let pushback: u64 = pushback.to_str().unwrap().parse().unwrap();
        assert!((1..300_000).contains(&pushback), "{pushback}");
    }
    for _ in 0..2 {
        let renewal = renew(&node.channel, &key).await.unwrap_err();
        assert_eq!(renewal.code(), Code::Unavailable);
    }
    let mut client = SvidClient::new(node.channel.clone());
    let jwt = svid::NewJwtsvidRequest {
        entry_id: entry.id,
        audience: vec!["a".to_owned()],
    };
    let refused = client.new_jwtsvid(jwt).await.unwrap_err();
    assert!(refused.metadata().contains_key(landfast_proto::PUSHBACK));
    // What the node is told, and what an operator asks for, is not waited for.
    assert_eq!(authorised(&node.channel).await.unwrap().len(), 1);
    rig.mint("/operator").await;
    rig.tear_down().await;
}

/// T-38: WIT-SVIDs wait and are refused like everything that is signed for agents, and an operator is not kept waiting by them.
#[tokio::test]
async fn wit_svids_have_no_way_around_the_room() {
    let rig = Rig::with(|config| {
        config.wit_svid = true;
        config.limits.signing_queue = 0;
        config.limits.signatures_burst = 1;
    })
    .await;
    let node = rig.node().await;
    let entry = rig.entry(&node.id, "/a", |_| {}).await;
    let key = PrivateKey::generate().unwrap();
    let one = svid::NewWitsvidParams {
        entry_id: entry.id,
        public_key: key.public_key().spki_der().to_vec().into(),
        signing_algorithm: "ES256".to_owned(),
    };
    let mut client = SvidClient::new(node.channel.clone());
    for needed_by in ["0", "9999999999", "1"] {
        let mut request = tonic::Request::new(svid::BatchNewWitsvidRequest {
            params: vec![one.clone()],
        });
        let needed_by = needed_by.parse().unwrap();
        request
            .metadata_mut()
            .insert(landfast_proto::NEEDED_BY, needed_by);
        let refused = client.batch_new_witsvid(request).await.unwrap_err();
        // Were it charged for, the second would meet the limit of one.
        assert_eq!(refused.code(), Code::Unavailable, "{refused:?}");
        let pushback = refused.metadata().get(landfast_proto::PUSHBACK).unwrap();
        let pushback: u64 = pushback.to_str().unwrap().parse().unwrap();
        assert!((1..300_000).contains(&pushback), "{pushback}");
    }
    rig.tear_down().await;
}

/// A batch is signed whole, whoever else asks meanwhile, and everything leaves the room.
#[tokio::test]
async fn many_agents_at_once_are_all_served() {
    let rig = Rig::with(|config| config.limits.signing_queue = 64).await;
    let mut nodes = Vec::new();
    for n in 0..6 {
        let node = rig.node().await;
        let entry = rig.entry(&node.id, &format!("/{n}"), |_| {}).await;
        nodes.push((node, entry));
    }
    let asking = nodes.iter().map(|(node, entry)| async {
        let key = PrivateKey::generate().unwrap();
        let csr: bytes::Bytes = build_csr(&key, None, &[]).unwrap().into();
        let one = svid::NewX509svidParams {
            entry_id: entry.id.clone(),
            csr,
        };
        let own = PrivateKey::generate().unwrap();
        let renewed = renew(&node.channel, &own);
        tokio::join!(batch(&node.channel, vec![one; 120]), renewed)
    });
    for (batch, renewed) in futures_util::future::join_all(asking).await {
        assert!(batch.unwrap().iter().all(|one| one.svid.is_some()));
        renewed.unwrap();
    }
    rig.tear_down().await;
}

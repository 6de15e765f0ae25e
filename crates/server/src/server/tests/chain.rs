//! The bundle chain over real sockets: for anybody to walk, for operators to make.

use landfast_identity::chain::{RootKey, RootPrivateKey, SignedStep, Step, Walker};
use landfast_proto::landfast::chain::v1::{self as pb, chain_client::ChainClient};
use landfast_proto::landfast::quarantine::v1::{self as quarantine, quarantine_client::QuarantineClient};
use prost::Message as _;

use super::*;
use crate::RootKeyConfig;

async fn rig(dir: &tempfile::TempDir) -> Rig {
    let file = dir.path().join("root.key");
    Rig::with(|config| config.root_key = RootKeyConfig::File(file)).await
}

async fn newest(channel: Channel) -> Vec<SignedStep> {
    let request = pb::GetStepsRequest {
        epoch: 0,
        sequence: 0,
    };
    let answer = ChainClient::new(channel)
        .get_steps(request)
        .await
        .unwrap()
        .into_inner();
    answer
        .steps
        .iter()
        .map(|step| SignedStep::from_bytes(step).unwrap())
        .collect()
}

async fn first_step(rig: &Rig) -> SignedStep {
    for _ in 0..200 {
        if let Some(step) = newest(rig.tls(None).await.unwrap()).await.pop() {
            return step;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("no step was made");
}

#[tokio::test]
async fn a_stranger_is_shown_steps_and_can_add_none() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(&dir).await;
    let step = first_step(&rig).await;
    Walker::begin(td(), &step).unwrap();
    assert_eq!(
        step.step().bundle.x509_authorities(),
        rig.handle.bundle().x509_authorities()
    );
    let mut stranger = ChainClient::new(rig.tls(None).await.unwrap());
    let import = pb::ImportStepRequest {
        step: step.to_bytes().into(),
    };
    let refused = stranger.import_step(import.clone()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let refused = stranger
        .prepare_step(pb::PrepareStepRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    let mut operator = ChainClient::new(rig.admin().await);
    let same = operator.import_step(import).await.unwrap().into_inner();
    assert_eq!((same.epoch, same.sequence), (step.step().epoch, 1));
    let prepared = operator
        .prepare_step(pb::PrepareStepRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(prepared.step.is_empty() && prepared.trouble.is_empty());
    assert_eq!(RootKey::from_bytes(&prepared.own_root_key), step.signers().next());
    for bad in [vec![vec![1; 31].into()], vec![vec![1; 32].into(); 2]] {
        let refused = operator
            .prepare_step(pb::PrepareStepRequest { root_keys: bad })
            .await;
        assert!([Code::InvalidArgument, Code::FailedPrecondition].contains(&refused.unwrap_err().code()));
    }
    let refused = operator
        .import_step(pb::ImportStepRequest {
            step: vec![1, 2, 3].into(),
        })
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    rig.tear_down().await;
}

/// What an administrator can mint ends with him; root keys do not.
#[tokio::test]
async fn a_stolen_administrators_svid_makes_no_root_key() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("root.key");
    let rig = Rig::with(|config| {
        config.root_key = RootKeyConfig::File(file);
        config.admin_ids = vec![SpiffeId::from_parts(&td(), "/operations/console").unwrap()];
    })
    .await;
    let step = first_step(&rig).await;
    let own = RootPrivateKey::generate().unwrap();
    let mine = own.public_key();
    let request = pb::PrepareStepRequest {
        root_keys: vec![mine.as_bytes().to_vec().into()],
    };
    let node = rig.node().await;
    rig.entry(&node.id, "/ops/by-entry", |entry| entry.admin = true)
        .await;
    let mut operator = ChainClient::new(rig.admin().await);
    let prepared = operator.prepare_step(request.clone()).await.unwrap().into_inner();
    let mut signed = SignedStep::from_bytes(&prepared.step).unwrap();
    signed.sign(&own).unwrap();
    let import = pb::ImportStepRequest {
        step: signed.to_bytes().into(),
    };
    for admin in ["/operations/console", "/ops/by-entry"] {
        let mut thief = ChainClient::new(rig.tls(Some(rig.mint(admin).await)).await.unwrap());
        let refused = thief.prepare_step(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{admin}");
        let refused = thief.import_step(import.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unimplemented, "{admin}");
    }
    let still = newest(rig.tls(None).await.unwrap()).await.pop().unwrap();
    assert_eq!(still.digest(), step.digest());
    // On the machine itself it is how root keys are changed.
    operator.import_step(import).await.unwrap();
    let changed = newest(rig.tls(None).await.unwrap()).await.pop().unwrap();
    assert_eq!(changed.step().root_keys, [mine]);
    rig.tear_down().await;
}

/// What others write clients from.
#[tokio::test]
async fn steps_are_as_the_definitions_say() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(&dir).await;
    let signed = first_step(&rig).await;
    let outer = pb::SignedStep::decode(signed.to_bytes().as_slice()).unwrap();
    let inner = pb::Step::decode(outer.step.clone()).unwrap();
    let step = signed.step();
    assert_eq!(outer.encode_to_vec(), signed.to_bytes());
    assert_eq!(inner.encode_to_vec(), outer.step);
    assert_eq!(
        (inner.trust_domain.as_str(), inner.epoch, inner.sequence),
        ("plant.test", step.epoch, 1)
    );
    assert_eq!(
        (inner.bundle_sequence, inner.time),
        (step.bundle.sequence(), step.time.as_secs())
    );
    let x509 = &step.bundle.x509_authorities()[0];
    assert_eq!(inner.x509_authorities[0].certificate, x509.certificate.as_der());
    let jwt = &step.bundle.jwt_authorities()[0];
    assert_eq!(inner.jwt_authorities[0].key_id, jwt.key_id);
    assert_eq!(inner.jwt_authorities[0].public_key, jwt.public_key.spki_der());
    assert_eq!(
        inner.jwt_authorities[0].expires_at,
        jwt.expires_at.unwrap().as_secs()
    );
    assert_eq!(inner.root_keys, [step.root_keys[0].as_bytes().as_slice()]);
    rig.tear_down().await;
}

#[tokio::test]
async fn who_asks_for_steps_all_the_time_is_told_to_come_again() {
    let rig = Rig::new().await;
    let stranger = ChainClient::new(rig.tls(None).await.unwrap());
    let asks = (0..1000).map(|_| {
        let mut stranger = stranger.clone();
        async move { stranger.get_steps(pb::GetStepsRequest::default()).await }
    });
    let answers = futures_util::future::join_all(asks).await;
    // Others are refused for what they would have under way.
    let mut refused = answers.into_iter().filter_map(Result::err);
    let refused = refused.find(|status| status.message().contains("walks of the bundle chain"));
    let refused = refused.expect("a limit");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.metadata().contains_key(landfast_proto::PUSHBACK));
    rig.tear_down().await;
}

#[tokio::test]
async fn a_server_without_a_root_key_shows_nothing_and_says_so_to_operators() {
    let rig = Rig::new().await;
    assert!(newest(rig.tls(None).await.unwrap()).await.is_empty());
    let mut operator = ChainClient::new(rig.admin().await);
    let refused = operator
        .prepare_step(pb::PrepareStepRequest::default())
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("[root_key]"), "{refused:?}");
    rig.tear_down().await;
}

async fn show(channel: Channel, steps: Vec<Vec<u8>>) -> Result<bool, Status> {
    let steps = steps.into_iter().map(Into::into).collect();
    let request = pb::ShowStepsRequest { steps };
    let answer = ChainClient::new(channel).show_steps(request).await?;
    Ok(answer.into_inner().adopted)
}

#[tokio::test]
async fn steps_are_taken_of_nodes_that_have_attested_and_of_nobody_else() {
    let dir = tempfile::tempdir().unwrap();
    let rig = rig(&dir).await;
    let first = first_step(&rig).await;
    let text = std::fs::read_to_string(dir.path().join("root.key")).unwrap();
    let own = RootPrivateKey::from_pem(&text).unwrap();
    let next = |signer: &RootPrivateKey| {
        let step = Step {
            sequence: 2,
            previous: Some(first.digest()),
            ..first.step().clone()
        };
        let mut step = SignedStep::unsigned(&step).unwrap();
        step.sign(signer).unwrap();
        step
    };
    let good = next(&own);
    let node = rig.node().await;
    rig.entry(&node.id, "/ops/by-entry", |entry| entry.admin = true)
        .await;
    let admin = rig.tls(Some(rig.mint("/ops/by-entry").await)).await.unwrap();
    for (who, channel) in [
        ("stranger", rig.tls(None).await.unwrap()),
        (
            "workload",
            rig.tls(Some(rig.mint("/line4/collector").await)).await.unwrap(),
        ),
        ("administrator", admin),
        ("operator", rig.admin().await),
    ] {
        let refused = show(channel, vec![good.to_bytes()]).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{who}");
    }
    let channel = || node.channel.clone();
    let refused = show(
        channel(),
        vec![next(&RootPrivateKey::generate().unwrap()).to_bytes()],
    )
    .await;
    assert_eq!(refused.unwrap_err().code(), Code::FailedPrecondition);
    let refused = show(channel(), vec![vec![1, 2, 3]]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    let refused = show(channel(), vec![first.to_bytes(); 33]).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    // Few, and more bytes than an agent keeps: they are not even read.
    let refused = show(channel(), vec![vec![0; 20_000]; 32]).await.unwrap_err();
    assert!(
        refused.message().contains("bytes of steps at once"),
        "{refused:?}"
    );
    assert_eq!(newest(channel()).await[0].digest(), first.digest());
    assert!(show(channel(), vec![good.to_bytes()]).await.unwrap());
    assert_eq!(newest(channel()).await[0].digest(), good.digest());
    for _ in 0..8 {
        match show(channel(), vec![first.to_bytes()]).await {
            Ok(adopted) => assert!(!adopted),
            Err(refused) => {
                assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
                return rig.tear_down().await;
            }
        }
    }
    panic!("a node may show steps all the time");
}

/// Nodes that know another root key would not follow what is signed after it.
#[tokio::test]
async fn an_end_before_any_node_has_shown_its_steps_asks_for_the_root_key() {
    for (signs, shows) in [(true, false), (true, true), (false, false)] {
        let (data, root) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let start = || {
            let (data, file) = (data.path().to_owned(), root.path().join("root.key"));
            Rig::with(move |config| {
                config.data_dir = Some(data);
                if signs {
                    config.root_key = RootKeyConfig::File(file);
                }
            })
        };
        let rig = start().await;
        let node = rig.node().await;
        let step = if signs { Some(first_step(&rig).await) } else { None };
        rig.tear_down().await;
        crate::server::rig::hold_in_doubt(data.path());

        let rig = start().await;
        let asks = |text: &str| assert_eq!(text.contains("present root key in place"), signs, "{text}");
        let mut operator = QuarantineClient::new(rig.admin().await);
        let mut found = async || {
            let found = operator.get_quarantine(quarantine::GetQuarantineRequest {}).await;
            found.unwrap().into_inner()
        };
        asks(&found().await.caution);
        let mut request = quarantine::EndQuarantineRequest {
            reason: "looked".to_owned(),
            accept_rollback: false,
        };
        let mut operator = QuarantineClient::new(rig.admin().await);
        let refused = operator.end_quarantine(request.clone()).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        asks(refused.message());
        if let Some(step) = step.filter(|_| shows) {
            let channel = rig.tls(Some(Arc::clone(&node.svid))).await.unwrap();
            assert!(!show(channel, vec![step.to_bytes()]).await.unwrap());
            let found = found().await;
            assert_eq!((found.nodes_shown, found.caution.as_str()), (1, ""));
        }
        request.accept_rollback = true;
        let ended = operator.end_quarantine(request).await.unwrap().into_inner();
        assert_eq!(ended.caution.is_empty(), shows || !signs, "{ended:?}");
        rig.tear_down().await;
    }
}

//! Nodes that come back by their device key, those who only say so, and what people decide.

use landfast_identity::{PublicKey, RecoveryProof, RegistrationProof};
use landfast_proto::landfast::recovery::v1::{
    self as recovery, recovery_client::RecoveryClient, refusal::Reason as Refused,
    register_device_key_response::State as Registered, request::Kind, request::State,
};
use prost::Message as _;

use super::*;

/// A node with a device key, and what it signs next.
struct Device {
    node: Node,
    key: PrivateKey,
}

/// What is signed, where it differs from what is honest.
#[derive(Default)]
struct Lie<'a> {
    agent_id: Option<&'a SpiffeId>,
    csr_key: Option<PublicKey>,
    counter: Option<u64>,
    nonce: Option<[u8; 32]>,
    by: Option<&'a PrivateKey>,
}

fn fresh() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

fn copy(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_pkcs8_der(key.as_pkcs8_der().to_vec()).unwrap()
}

async fn register(node: &Node, key: &PrivateKey) -> Result<Registered, Status> {
    let public = key.public_key();
    let proof = RegistrationProof {
        agent_id: &node.id,
        device_key: &public,
    };
    register_with(&node.channel, &public, proof.sign(key).unwrap()).await
}

async fn register_with(channel: &Channel, key: &PublicKey, signature: Vec<u8>) -> Result<Registered, Status> {
    let request = recovery::RegisterDeviceKeyRequest {
        public_key: key.spki_der().to_vec().into(),
        signature: signature.into(),
    };
    let mut client = RecoveryClient::new(channel.clone());
    Ok(client.register_device_key(request).await?.into_inner().state())
}

async fn device(rig: &Rig) -> Device {
    let (node, key) = (rig.node().await, fresh());
    assert_eq!(register(&node, &key).await.unwrap(), Registered::Registered);
    Device { node, key }
}

impl Device {
    async fn returns(&self, rig: &Rig, counter: u64, key: &PrivateKey) -> Result<types::X509svid, Status> {
        self.claims(rig, counter, key, Lie::default()).await
    }

    async fn claims(
        &self,
        rig: &Rig,
        counter: u64,
        key: &PrivateKey,
        lie: Lie<'_>,
    ) -> Result<types::X509svid, Status> {
        let payload = recovery::Claim {
            agent_id: self.node.id.to_string(),
            counter,
        };
        let public = key.public_key();
        let answer = |challenge: &[u8]| {
            let asked = recovery::Challenge::decode(challenge).unwrap();
            let nonce = <[u8; 32]>::try_from(&*asked.nonce).unwrap();
            let proof = RecoveryProof {
                agent_id: lie.agent_id.unwrap_or(&self.node.id),
                nonce: lie.nonce.as_ref().unwrap_or(&nonce),
                csr_key: lie.csr_key.as_ref().unwrap_or(&public),
                counter: lie.counter.unwrap_or(counter),
            };
            let signature = proof.sign(lie.by.unwrap_or(&self.key)).unwrap();
            recovery::Proof {
                signature: signature.into(),
            }
            .encode_to_vec()
        };
        let channel = rig.tls(None).await.unwrap();
        attest_on(channel, "device_key", payload.encode_to_vec(), key, answer).await
    }
}

fn refusal(status: &Status) -> Option<Refused> {
    #[derive(Clone, PartialEq, prost::Message)]
    struct RpcStatus {
        #[prost(message, repeated, tag = "3")]
        details: Vec<prost_types::Any>,
    }
    let rpc = RpcStatus::decode(status.details()).ok()?;
    let any = rpc.details.first()?;
    any.type_url.ends_with("/landfast.recovery.v1.Refusal").then(|| {
        assert_eq!(status.code(), Code::FailedPrecondition);
        recovery::Refusal::decode(any.value.as_slice()).unwrap().reason()
    })
}

async fn waiting(channel: Channel) -> Vec<recovery::Request> {
    let request = recovery::ListRequestsRequest::default();
    let listed = RecoveryClient::new(channel).list_requests(request).await;
    listed.unwrap().into_inner().requests
}

/// Who administers, approves and revokes, and comes by this identity.
pub(super) async fn first_person(rig: &Rig, login: &str) -> String {
    use landfast_proto::landfast::people::v1::{self as people, login::Kind, people_client::PeopleClient};
    let role = |verb: people::Verb| people::Role {
        verb: verb.into(),
        pattern: String::new(),
    };
    let change = people::Change {
        name: "Anna".to_owned(),
        logins: vec![people::Login {
            kind: Some(Kind::SpiffeId(format!("spiffe://plant.test{login}"))),
        }],
        roles: [
            people::Verb::Administer,
            people::Verb::Approve,
            people::Verb::Revoke,
        ]
        .map(role)
        .to_vec(),
        ..people::Change::default()
    };
    let change = Some(change);
    let mut client = PeopleClient::new(rig.admin().await);
    let granted = client.grant(people::GrantRequest { change }).await;
    granted.unwrap().into_inner().person
}

async fn decide(channel: Channel, node: &Node, key: &PrivateKey, approve: bool) -> Result<(), Status> {
    let request = recovery::DecideRequest {
        agent_id: node.id.to_string(),
        key: key.public_key().sha256().to_vec().into(),
        approve,
    };
    RecoveryClient::new(channel).decide(request).await.map(drop)
}

#[tokio::test]
async fn a_node_that_lost_its_svid_comes_back_as_itself() {
    let rig = Rig::new().await;
    let device = device(&rig).await;
    rig.entry(&device.node.id, "/line4/collector", |_| ()).await;
    let of = |id: &SpiffeId| agent::GetAgentRequest {
        id: Some(wire(id)),
        output_mask: None,
    };
    let mut operator = AgentClient::new(rig.admin().await);
    let before = operator
        .get_agent(of(&device.node.id))
        .await
        .unwrap()
        .into_inner();
    let key = fresh();
    let svid = device.returns(&rig, 1, &key).await.unwrap();
    let back = rig.node_of(svid, copy(&key)).await;
    assert_eq!(back.id, device.node.id);
    assert_eq!(authorised(&back.channel).await.unwrap().len(), 1);
    let after = operator
        .get_agent(of(&device.node.id))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (&after.attestation_type, &after.selectors, after.can_reattest),
        (&before.attestation_type, &before.selectors, before.can_reattest)
    );
    assert_ne!(after.x509svid_serial_number, before.x509svid_serial_number);
    // There is one node, not two.
    let old = authorised(&device.node.channel).await.unwrap_err();
    assert_eq!(reason(&old), Some(Reason::AgentNotActive));
    renew(&back.channel, &fresh()).await.unwrap();
    // An answer that was lost is had again; the next time is another counter and key.
    let again = device.returns(&rig, 2, &key).await.unwrap();
    assert_eq!(device.returns(&rig, 2, &key).await.unwrap().id, again.id);
    device.returns(&rig, 3, &fresh()).await.unwrap();
    rig.tear_down().await;
}

/// One lie for each thing that is signed.
#[tokio::test]
async fn who_has_not_signed_just_that_learns_nothing_and_moves_nothing() {
    let rig = Rig::new().await;
    let (device, other) = (device(&rig).await, device(&rig).await);
    let (stranger, key) = (fresh(), fresh());
    let lies = [
        Lie {
            by: Some(&stranger),
            ..Lie::default()
        },
        Lie {
            by: Some(&other.key),
            ..Lie::default()
        },
        Lie {
            agent_id: Some(&other.node.id),
            ..Lie::default()
        },
        Lie {
            csr_key: Some(stranger.public_key()),
            ..Lie::default()
        },
        Lie {
            counter: Some(8),
            ..Lie::default()
        },
        // A proof for another question, as one that was overheard.
        Lie {
            nonce: Some([7; 32]),
            ..Lie::default()
        },
    ];
    let mut texts = Vec::new();
    for lie in lies {
        let status = device.claims(&rig, 9, &key, lie).await.unwrap_err();
        assert_eq!(refusal(&status), Some(Refused::Unknown), "{status:?}");
        texts.push(status.message().to_owned());
    }
    // A node that has no device key, and one that never was, are told the same.
    for path in ["nobody", rig.node().await.id.path().rsplit('/').next().unwrap()] {
        let id = SpiffeId::agent(&td(), "join_token", path).unwrap();
        let nobody = Device {
            node: Node {
                id,
                svid: device.node.svid.clone(),
                channel: device.node.channel.clone(),
            },
            key: fresh(),
        };
        let status = nobody.returns(&rig, 1, &key).await.unwrap_err();
        texts.push(status.message().to_owned());
    }
    texts.dedup();
    assert_eq!(texts.len(), 1, "{texts:?}");
    // Nothing was used up, nothing is locked.
    assert!(waiting(rig.admin().await).await.is_empty());
    device.returns(&rig, 1, &fresh()).await.unwrap();
    rig.tear_down().await;
}

#[tokio::test]
async fn a_claim_that_is_none_is_refused() {
    let rig = Rig::new().await;
    let claim = |id: &str| {
        recovery::Claim {
            agent_id: id.to_owned(),
            counter: 1,
        }
        .encode_to_vec()
    };
    let bad = [
        Vec::new(),
        b"\xff\xff\xff".to_vec(),
        claim(""),
        claim("no ID"),
        claim("spiffe://plant.test/line4/hmi"),
        claim("spiffe://plant.test/spire/server"),
        claim("spiffe://other.test/spire/agent/join_token/x"),
    ];
    for payload in bad {
        let status = rig.attest("device_key", payload, &fresh()).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
    let id = "spiffe://plant.test/spire/agent/join_token/x";
    for answer in [vec![0xff], vec![0; 4096], Vec::new()] {
        let channel = rig.tls(None).await.unwrap();
        let status = attest_on(channel, "device_key", claim(id), &fresh(), |_| answer.clone()).await;
        let status = status.unwrap_err();
        let unknown = refusal(&status) == Some(Refused::Unknown);
        assert!(unknown || status.code() == Code::InvalidArgument, "{status:?}");
    }
    rig.tear_down().await;
    let rig = Rig::with(|config| config.device_key = None).await;
    let status = rig.attest("device_key", claim(id), &fresh()).await.unwrap_err();
    assert_eq!(
        (status.code(), refusal(&status)),
        (Code::FailedPrecondition, None)
    );
    let status = register(&rig.node().await, &fresh()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    rig.tear_down().await;
}

#[tokio::test]
async fn only_its_holder_registers_a_device_key_and_only_once() {
    let rig = Rig::new().await;
    let (node, other, key) = (rig.node().await, rig.node().await, fresh());
    let public = key.public_key();
    let signed = |id: &SpiffeId, by: &PrivateKey| {
        let proof = RegistrationProof {
            agent_id: id,
            device_key: &public,
        };
        proof.sign(by).unwrap()
    };
    // A stranger, a workload; somebody who does not hold the key; a proof that another node made.
    let stranger = rig.tls(None).await.unwrap();
    let workload = rig.tls(Some(rig.mint("/line4/hmi").await)).await.unwrap();
    for channel in [stranger, workload] {
        let status = register_with(&channel, &public, signed(&node.id, &key))
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
    for signature in [signed(&node.id, &fresh()), signed(&other.id, &key), Vec::new()] {
        let status = register_with(&node.channel, &public, signature)
            .await
            .unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    assert_eq!(register(&node, &key).await.unwrap(), Registered::Registered);
    assert_eq!(register(&node, &key).await.unwrap(), Registered::Registered);
    // Another one waits for a person.
    let another = fresh();
    assert_eq!(register(&node, &another).await.unwrap(), Registered::Held);
    let device = Device { node, key: another };
    let early = device.returns(&rig, 1, &fresh()).await.unwrap_err();
    assert_eq!(refusal(&early), Some(Refused::Unknown));
    let asked = waiting(rig.admin().await).await;
    assert_eq!(asked.len(), 1);
    assert_eq!(
        (asked[0].kind(), asked[0].state()),
        (Kind::Registration, State::Waiting)
    );
    decide(rig.admin().await, &device.node, &device.key, false)
        .await
        .unwrap();
    assert_eq!(
        register(&device.node, &device.key).await.unwrap(),
        Registered::Denied
    );
    decide(rig.admin().await, &device.node, &device.key, true)
        .await
        .unwrap();
    assert_eq!(
        register(&device.node, &device.key).await.unwrap(),
        Registered::Registered
    );
    device.returns(&rig, 1, &fresh()).await.unwrap();
    rig.tear_down().await;
}

/// T-15: the data directory was copied.
#[tokio::test]
async fn of_two_with_one_device_key_none_comes_back_until_a_person_has_chosen() {
    let rig = Rig::new().await;
    let device = device(&rig).await;
    let (ours, theirs) = (fresh(), fresh());
    let svid = device.returns(&rig, 1, &ours).await.unwrap();
    let back = rig.node_of(svid, copy(&ours)).await;
    for (counter, key) in [
        (1, &theirs),
        (1, &ours),
        (2, &fresh()),
        (0, &theirs),
        (9, &theirs),
    ] {
        let status = device.returns(&rig, counter, key).await.unwrap_err();
        assert_eq!(refusal(&status), Some(Refused::Locked), "{counter}");
    }
    // What is valid goes on.
    authorised(&back.channel).await.unwrap();
    renew(&back.channel, &fresh()).await.unwrap();
    let asked = waiting(rig.admin().await).await;
    let asked: Vec<_> = asked
        .iter()
        .map(|r| (r.kind(), r.state(), r.address.as_str(), r.key.to_vec()))
        .collect();
    let name = |key: &PrivateKey| key.public_key().sha256().to_vec();
    let here = "127.0.0.1";
    assert_eq!(
        asked,
        [
            (Kind::Conflict, State::Accepted, here, name(&ours)),
            (Kind::Conflict, State::Waiting, here, name(&theirs)),
        ]
    );
    // The person says: the second one is the node.
    let none = decide(rig.admin().await, &device.node, &fresh(), true)
        .await
        .unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    decide(rig.admin().await, &device.node, &theirs, true)
        .await
        .unwrap();
    let svid = device.returns(&rig, 1, &theirs).await.unwrap();
    let chosen = rig.node_of(svid, copy(&theirs)).await;
    let old = authorised(&back.channel).await.unwrap_err();
    assert_eq!(reason(&old), Some(Reason::AgentNotActive));
    // The device key is known to two: the one that was chosen makes another, and the old one is worth nothing.
    assert_eq!(
        register(&chosen, &device.key).await.unwrap(),
        Registered::MakeAnother
    );
    assert_eq!(register(&chosen, &fresh()).await.unwrap(), Registered::Registered);
    let status = device.returns(&rig, 5, &fresh()).await.unwrap_err();
    assert_eq!(refusal(&status), Some(Refused::Unknown));
    rig.tear_down().await;
}

#[tokio::test]
async fn who_was_silent_for_long_waits_for_a_person_on_the_admin_socket() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_owned();
    let rig = Rig::with(move |config| {
        config.data_dir = Some(dir);
        config.device_key = Some(Duration::ZERO);
        config.admin_ids = vec![SpiffeId::from_parts(&td(), "/operations/console").unwrap()];
    })
    .await;
    let device = device(&rig).await;
    let key = fresh();
    for _ in 0..2 {
        let status = device.returns(&rig, 1, &key).await.unwrap_err();
        assert_eq!(refusal(&status), Some(Refused::Held), "{status:?}");
    }
    // An administrator elsewhere may look; what is decided there is decided by somebody, and there is no person.
    let console = rig
        .tls(Some(rig.mint("/operations/console").await))
        .await
        .unwrap();
    let asked = waiting(console.clone()).await;
    assert_eq!((asked[0].kind(), asked[0].counter), (Kind::Recovery, 1));
    for channel in [console, device.node.channel.clone()] {
        let status = decide(channel, &device.node, &key, true).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{status:?}");
    }
    let status = RecoveryClient::new(device.node.channel.clone())
        .list_requests(recovery::ListRequestsRequest::default())
        .await;
    assert_eq!(status.unwrap_err().code(), Code::PermissionDenied);
    decide(rig.admin().await, &device.node, &key, false)
        .await
        .unwrap();
    let status = device.returns(&rig, 1, &key).await.unwrap_err();
    assert_eq!(refusal(&status), Some(Refused::Denied));
    // A person may be anywhere.
    let anna = rig.tls(Some(rig.mint("/operations/anna").await)).await.unwrap();
    let person = first_person(&rig, "/operations/anna").await;
    let request = recovery::DecideRequest {
        agent_id: device.node.id.to_string(),
        key: key.public_key().sha256().to_vec().into(),
        approve: true,
    };
    let decided = RecoveryClient::new(anna.clone()).decide(request).await.unwrap();
    assert_eq!(decided.into_inner().person, person);
    assert_eq!(waiting(anna.clone()).await[0].state(), State::Approved);
    device.returns(&rig, 1, &key).await.unwrap();
    assert!(waiting(anna).await.is_empty());
    let node = device.node.id.to_string();
    drop(device);
    rig.tear_down().await;
    // What came of it says by whose leave.
    let records = crate::ledger::tests::read(&data.path().join("ledger"));
    let of = |kind: &str| {
        let mut found = records
            .iter()
            .filter(|record| record["type"] == kind && record["subject"] == node);
        found.next_back().unwrap()
    };
    let approval = crate::random::hex(&key.public_key().sha256());
    for kind in ["node.approved", "svid.issued", "node.attested"] {
        assert_eq!(of(kind)["approval"], approval, "{kind}");
    }
    let first = records.iter().find(|record| record["type"] == "node.attested");
    assert!(first.unwrap()["approval"].is_null());
}

#[tokio::test]
async fn an_eviction_forgets_the_device_key_and_a_ban_blocks_it() {
    let rig = Rig::new().await;
    let (banned, evicted) = (device(&rig).await, device(&rig).await);
    let mut operator = AgentClient::new(rig.admin().await);
    let id = Some(wire(&banned.node.id));
    operator.ban_agent(agent::BanAgentRequest { id }).await.unwrap();
    let status = banned.returns(&rig, 1, &fresh()).await.unwrap_err();
    assert_eq!(reason(&status), Some(Reason::AgentBanned));
    let id = Some(wire(&evicted.node.id));
    operator
        .delete_agent(agent::DeleteAgentRequest { id })
        .await
        .unwrap();
    let status = evicted.returns(&rig, 1, &fresh()).await.unwrap_err();
    assert_eq!(refusal(&status), Some(Refused::Unknown));
    rig.tear_down().await;
}

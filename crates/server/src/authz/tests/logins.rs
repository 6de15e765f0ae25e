//! Persons who log in from another machine.

mod answers;

use std::sync::Arc;

use landfast_identity::ssh::SshPrivateKey;
use landfast_identity::{Certificate, LoginProof, PrivateKey, TrustDomain, X509Svid, build_csr};
use landfast_proto::landfast::login::v1::{
    BeginRequest, FinishRequest, FinishResponse, finish_request::Proof, login_client::LoginClient,
};
use landfast_proto::landfast::people::v1::{
    self as pb, login::Kind, people_client::PeopleClient, who_am_i_response::Standing,
};
use landfast_proto::spire::api::server::entry::v1::{BatchCreateEntryRequest, entry_client::EntryClient};
use landfast_proto::spire::api::server::svid::v1::{
    MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient,
};
use landfast_proto::spire::api::types;

use super::people::role;
use super::*;

const ONE: &str = include_str!("../../../../identity/src/ssh/tests/ed25519");
const TWO: &str = include_str!("../../../../identity/src/ssh/tests/p256");

fn ssh(text: &str) -> SshPrivateKey {
    SshPrivateKey::from_pem(text).unwrap()
}

fn login(key: &SshPrivateKey) -> pb::Login {
    pb::Login {
        kind: Some(Kind::SshKey(key.public_key().fingerprint().to_string())),
    }
}

/// What an attempt differs in from one that is as it should be.
#[derive(Default)]
struct Odd {
    trust_domain: Option<TrustDomain>,
    namespace: Option<&'static str>,
    other_csr: bool,
    seconds: i64,
}

async fn try_to(
    channel: &Channel,
    key: &SshPrivateKey,
    odd: Odd,
) -> Result<(FinishResponse, PrivateKey, FinishRequest), Status> {
    let mut client = LoginClient::new(channel.clone());
    let (shown, request) = answer(&mut client, key, odd).await?;
    let answer = client.finish(request.clone()).await?.into_inner();
    Ok((answer, shown, request))
}

/// The answer to a question, not given yet.
async fn answer(
    client: &mut LoginClient<Channel>,
    key: &SshPrivateKey,
    odd: Odd,
) -> Result<(PrivateKey, FinishRequest), Status> {
    let own = PrivateKey::generate().unwrap();
    let public = own.public_key();
    let asked = client
        .begin(BeginRequest {
            key_sha256: public.sha256().to_vec().into(),
        })
        .await?
        .into_inner();
    let trust_domain = odd.trust_domain.unwrap_or_else(td);
    let proof = LoginProof {
        trust_domain: &trust_domain,
        challenge: &asked.challenge,
        csr_key: &public,
    };
    let signature = key
        .sign(odd.namespace.unwrap_or(LoginProof::NAMESPACE), &proof.message())
        .unwrap();
    let shown = match odd.other_csr {
        true => PrivateKey::generate().unwrap(),
        false => own,
    };
    let request = FinishRequest {
        challenge: asked.challenge,
        csr: build_csr(&shown, None, &[]).unwrap().into(),
        proof: Some(Proof::SshSignature(signature.into())),
        seconds: odd.seconds,
    };
    Ok((shown, request))
}

async fn session(rig: &Rig, key: &SshPrivateKey) -> Channel {
    let stranger = rig.tls(None).await.unwrap();
    let (answer, own, _) = try_to(&stranger, key, Odd::default()).await.unwrap();
    let chain = answer.chain.iter().map(|der| Certificate::from_der(der).unwrap());
    let svid = X509Svid::new(chain.collect(), own).unwrap();
    rig.tls(Some(Arc::new(svid))).await.unwrap()
}

async fn whoami(channel: &Channel) -> pb::WhoAmIResponse {
    let mut people = PeopleClient::new(channel.clone());
    people.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner()
}

/// Whether it is let list who there is, and what it says of itself.
async fn standing(channel: &Channel) -> (bool, Standing) {
    let listed = PeopleClient::new(channel.clone())
        .list_persons(pb::ListPersonsRequest {})
        .await;
    (listed.is_ok(), whoami(channel).await.standing())
}

async fn grant(channel: Channel, change: pb::Change) -> Result<pb::GrantResponse, Status> {
    let request = pb::GrantRequest { change: Some(change) };
    PeopleClient::new(channel)
        .grant(request)
        .await
        .map(tonic::Response::into_inner)
}

async fn first(rig: &Rig, key: &SshPrivateKey) -> String {
    let change = pb::Change {
        name: "Jo".to_owned(),
        logins: vec![login(key)],
        roles: vec![role(pb::Verb::Administer, ""), role(pb::Verb::Approve, "")],
        ..pb::Change::default()
    };
    grant(rig.admin().await, change).await.unwrap().person
}

fn code<T>(outcome: Result<T, Status>) -> Code {
    outcome.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn a_person_logs_in_by_an_ssh_key_and_is_that_person_from_then_on() {
    let rig = Rig::new().await;
    let stranger = rig.tls(None).await.unwrap();
    let key = ssh(ONE);
    let nobody = try_to(&stranger, &key, Odd::default()).await;
    assert_eq!(code(nobody), Code::PermissionDenied, "no person has it yet");
    let reference = first(&rig, &key).await;
    let (answer, own, _) = try_to(&stranger, &key, Odd::default()).await.unwrap();
    assert_eq!(answer.person, reference);
    let leaf = Certificate::from_der(&answer.chain[0]).unwrap();
    let id = leaf.spiffe_id().unwrap();
    assert!(
        id.path().starts_with(&format!("/landfast/person/{reference}/")),
        "{id}"
    );
    assert_eq!(leaf.public_key(), &own.public_key());
    let life = answer.expires_at - leaf.not_before().as_secs();
    assert!(
        (3600..3600 + 600).contains(&life),
        "an hour unless said otherwise: {life}"
    );
    let channel = session(&rig, &key).await;
    let who = whoami(&channel).await;
    assert_eq!(
        (who.standing(), who.person),
        (Standing::Person, reference.clone())
    );
    assert_eq!(who.login, Some(login(&key)));
    assert!(who.login_ends_at > leaf.not_before().as_secs());
    assert!(who.actor.contains(&reference), "{}", who.actor);
    // The rights are the person's, and no more.
    assert_eq!(standing(&channel).await, (true, Standing::Person));
    let revoke = call(&channel, "/spire.api.server.agent.v1.Agent/BanAgent").await;
    assert_eq!(code(revoke), Code::PermissionDenied);
    // As long as was asked for, and not longer than is given.
    let short = Odd {
        seconds: 60,
        ..Odd::default()
    };
    let (answer, ..) = try_to(&stranger, &key, short).await.unwrap();
    let leaf = Certificate::from_der(&answer.chain[0]).unwrap();
    assert!(answer.expires_at - leaf.not_before().as_secs() <= 60 + 10);
    for seconds in [8 * 3600 + 1, -1] {
        let long = Odd {
            seconds,
            ..Odd::default()
        };
        assert_eq!(
            code(try_to(&stranger, &key, long).await),
            Code::InvalidArgument,
            "{seconds}"
        );
    }
    rig.tear_down().await;
}

#[tokio::test]
async fn a_session_ends_with_the_login_that_began_it_and_is_never_anothers() {
    let rig = Rig::new().await;
    let (mine, theirs) = (ssh(ONE), ssh(TWO));
    let reference = first(&rig, &mine).await;
    let channel = session(&rig, &mine).await;
    let admin = rig.admin().await;
    let kim = pb::Change {
        name: "Kim".to_owned(),
        logins: vec![login(&theirs)],
        roles: vec![role(pb::Verb::Read, "")],
        ..pb::Change::default()
    };
    let kim = grant(admin.clone(), kim).await.unwrap().person;
    let kims = session(&rig, &theirs).await;
    assert_eq!(standing(&kims).await, (true, Standing::Person));

    let mut people = PeopleClient::new(admin.clone());
    let withdraw = |person: &str, deactivate| pb::WithdrawRequest {
        person: person.to_owned(),
        deactivate,
        logins: if deactivate { vec![] } else { vec![login(&theirs)] },
        ..pb::WithdrawRequest::default()
    };
    people.withdraw(withdraw(&kim, true)).await.unwrap();
    assert_eq!(standing(&kims).await, (false, Standing::Nobody), "inactive");
    let stranger = rig.tls(None).await.unwrap();
    let refused = try_to(&stranger, &theirs, Odd::default()).await;
    assert_eq!(
        code(refused),
        Code::PermissionDenied,
        "an inactive person does not log in"
    );
    let back = pb::Change {
        person: kim.clone(),
        activate: true,
        ..pb::Change::default()
    };
    grant(admin.clone(), back).await.unwrap();
    assert_eq!(
        standing(&kims).await,
        (false, Standing::Nobody),
        "active again, and what was ended is not"
    );
    let kims = session(&rig, &theirs).await;
    assert_eq!(standing(&kims).await, (true, Standing::Person), "a new session");
    people.withdraw(withdraw(&kim, false)).await.unwrap();
    assert_eq!(
        standing(&kims).await,
        (false, Standing::Nobody),
        "the login was taken away"
    );
    // Another's now: what was begun with it is not.
    let more = pb::Change {
        person: reference.clone(),
        logins: vec![login(&theirs)],
        ..pb::Change::default()
    };
    grant(admin.clone(), more).await.unwrap();
    assert_eq!(
        standing(&kims).await,
        (false, Standing::Nobody),
        "the login is another's"
    );
    assert_eq!(standing(&channel).await, (true, Standing::Person));
    people
        .forget(pb::ForgetRequest { person: reference })
        .await
        .unwrap();
    assert_eq!(standing(&channel).await, (false, Standing::Nobody), "forgotten");
    rig.tear_down().await;
}

#[tokio::test]
async fn nobody_else_is_issued_the_identity_of_a_session() {
    let rig = Rig::new().await;
    let node = rig.node().await;
    let reference = first(&rig, &ssh(ONE)).await;
    let admin = rig.admin().await;
    let path = format!("/landfast/person/{reference}/{}", "a".repeat(26));
    let id = SpiffeId::from_parts(&td(), &path).unwrap();
    let mut svids = SvidClient::new(admin.clone());
    let own = PrivateKey::generate().unwrap();
    let csr = build_csr(&own, Some(&id), &[]).unwrap().into();
    assert_eq!(
        code(svids.mint_x509svid(MintX509svidRequest { csr, ttl: 600 }).await),
        Code::InvalidArgument
    );
    let token = MintJwtsvidRequest {
        id: Some(wire(&id)),
        ttl: 60,
        audience: vec!["x".to_owned()],
    };
    assert_eq!(code(svids.mint_jwtsvid(token).await), Code::InvalidArgument);
    let entry = types::Entry {
        spiffe_id: Some(wire(&id)),
        parent_id: Some(wire(&node.id)),
        selectors: vec![types::Selector {
            r#type: "unix".to_owned(),
            value: "uid:8".to_owned(),
        }],
        ..types::Entry::default()
    };
    let request = BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let made = EntryClient::new(admin.clone())
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(made.results[0].status.as_ref().unwrap().code, 3, "{made:?}");
    // Nor is it a login of anybody.
    let change = pb::Change {
        person: reference,
        logins: vec![pb::Login {
            kind: Some(Kind::SpiffeId(id.to_string())),
        }],
        ..pb::Change::default()
    };
    assert_eq!(code(grant(admin, change).await), Code::InvalidArgument);
    rig.tear_down().await;
}

#[tokio::test]
async fn two_sessions_of_one_person_are_one_person_and_root_gains_nothing_by_a_key() {
    let rig = Rig::new().await;
    let (one, two) = (ssh(ONE), ssh(TWO));
    let reference = first(&rig, &one).await;
    let admin = rig.admin().await;
    let second = pb::Change {
        name: "Kim".to_owned(),
        logins: vec![pb::Login {
            kind: Some(Kind::Uid(4711)),
        }],
        roles: vec![role(pb::Verb::Administer, "")],
        ..pb::Change::default()
    };
    grant(admin.clone(), second).await.unwrap();
    // Two can confirm: a key more for Jo is a proposal, which root's own word does not help.
    let more = pb::Change {
        person: reference,
        logins: vec![login(&two)],
        ..pb::Change::default()
    };
    let by_root = grant(admin.clone(), more.clone()).await.unwrap();
    assert_ne!(by_root.proposal, "");
    let confirm = |id: &str| pb::ConfirmProposalRequest { id: id.to_owned() };
    let local = PeopleClient::new(admin)
        .confirm_proposal(confirm(&by_root.proposal))
        .await;
    assert_ne!(code(local), Code::Ok);
    let stranger = rig.tls(None).await.unwrap();
    assert_eq!(
        code(try_to(&stranger, &two, Odd::default()).await),
        Code::PermissionDenied,
        "a proposal is no login"
    );
    // Jo agrees, in one session and in another: that is one person.
    let (jo, again) = (session(&rig, &one).await, session(&rig, &one).await);
    let answer = PeopleClient::new(jo)
        .confirm_proposal(confirm(&by_root.proposal))
        .await
        .unwrap();
    assert_ne!(answer.into_inner().proposal, "", "one of two");
    let same = PeopleClient::new(again)
        .confirm_proposal(confirm(&by_root.proposal))
        .await;
    assert_eq!(code(same), Code::FailedPrecondition);
    assert_eq!(
        code(try_to(&stranger, &two, Odd::default()).await),
        Code::PermissionDenied
    );
    rig.tear_down().await;
}

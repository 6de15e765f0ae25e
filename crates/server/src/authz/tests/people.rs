//! Operators once there are persons.

mod agree;
mod each;
mod refused;

use landfast_proto::REASON;
use landfast_proto::landfast::people::v1::{
    self as pb, login::Kind, people_client::PeopleClient, who_am_i_response::Standing,
};
use landfast_proto::landfast::recovery::v1::{DecideRequest, recovery_client::RecoveryClient};
use landfast_proto::spire::api::server::agent::v1::{BanAgentRequest, CreateJoinTokenRequest};
use landfast_proto::spire::api::server::entry::v1::{
    BatchCreateEntryRequest, BatchDeleteEntryRequest, BatchUpdateEntryRequest, entry_client::EntryClient,
};
use landfast_proto::spire::api::server::svid::v1::{
    MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient,
};
use landfast_proto::spire::api::types;

use super::*;
use crate::people::Verb;

/// A server, and SVIDs that were made while there was nobody.
struct Place {
    rig: Rig,
    node: crate::server::rig::Node,
}

pub(super) fn role(verb: pb::Verb, pattern: &str) -> pb::Role {
    pb::Role {
        verb: verb.into(),
        pattern: pattern.to_owned(),
    }
}

fn login(path: &str) -> pb::Login {
    pb::Login {
        kind: Some(Kind::SpiffeId(format!("spiffe://plant.test{path}"))),
    }
}

fn person(name: &str, roles: Vec<pb::Role>) -> pb::GrantRequest {
    let change = pb::Change {
        name: name.to_owned(),
        logins: vec![login(&format!("/ops/{name}"))],
        roles,
        ..pb::Change::default()
    };
    pb::GrantRequest { change: Some(change) }
}

impl Place {
    /// With a ledger there.
    async fn recording(data: &std::path::Path) -> Self {
        let data = data.to_owned();
        let rig = Rig::with(move |config| config.data_dir = Some(data)).await;
        let node = rig.node().await;
        Self { rig, node }
    }

    async fn new() -> Self {
        let config = |config: &mut crate::ServerConfig| {
            config.admin_ids = vec![SpiffeId::from_parts(&td(), "/ops/by-config").unwrap()];
        };
        let rig = Rig::with(config).await;
        let node = rig.node().await;
        Self { rig, node }
    }

    async fn channel(&self, name: &str) -> Channel {
        let svid = self.rig.mint(&format!("/ops/{name}")).await;
        self.rig.tls(Some(svid)).await.unwrap()
    }

    /// The first one, on the admin socket.
    async fn first(&self, name: &str) -> String {
        let roles = vec![role(pb::Verb::Administer, "")];
        let mut people = PeopleClient::new(self.rig.admin().await);
        let made = people.grant(person(name, roles)).await.unwrap().into_inner();
        assert_eq!(made.proposal, "");
        made.person
    }
}

fn denied(outcome: &Result<(), Status>) -> bool {
    let said = ["not allowed to ", "authorization denied"];
    outcome.as_ref().is_err_and(|status| {
        status.code() == Code::PermissionDenied && said.iter().any(|said| status.message().starts_with(said))
    })
}

#[tokio::test]
async fn with_persons_every_method_is_open_to_exactly_those_who_have_its_verb() {
    let place = Place::new().await;
    place
        .rig
        .entry(&place.node.id, "/ops/by-entry", |entry| entry.admin = true)
        .await;
    let verbs = [
        (Verb::Read, pb::Verb::Read, "read"),
        (Verb::Approve, pb::Verb::Approve, "approve"),
        (Verb::Enrol, pb::Verb::Enrol, "enrol"),
        (Verb::Revoke, pb::Verb::Revoke, "revoke"),
    ];
    let mut callers = vec![];
    for (verb, _, name) in verbs {
        callers.push((name, Some(verb), place.channel(name).await));
    }
    callers.push((
        "administer",
        Some(Verb::Administer),
        place.channel("administer").await,
    ));
    for name in ["by-config", "by-entry", "gone", "part"] {
        callers.push((name, None, place.channel(name).await));
    }
    place.first("administer").await;
    let mut people = PeopleClient::new(callers[4].2.clone());
    // There is one who can confirm, until the approver comes.
    let gone = people
        .grant(person("gone", vec![role(pb::Verb::Enrol, "")]))
        .await;
    let gone = gone.unwrap().into_inner().person;
    let withdraw = pb::WithdrawRequest {
        person: gone,
        deactivate: true,
        ..pb::WithdrawRequest::default()
    };
    people.withdraw(withdraw).await.unwrap();
    let part = vec![role(pb::Verb::Administer, "spiffe://plant.test/line4/*")];
    people.grant(person("part", part)).await.unwrap();
    // The approver last: from then on two have to agree.
    for (_, verb, name) in [0, 2, 3, 1].map(|n| verbs[n]) {
        let made = people.grant(person(name, vec![role(verb, "")])).await.unwrap();
        assert_eq!(made.into_inner().proposal, "", "{name}");
    }

    for (method, row, right) in TABLE.iter().filter(|(_, row, _)| row.contains(&Admin)) {
        let needed = right.verb().expect("an operator's method without a verb");
        for (name, verb, channel) in &callers {
            let reads = verb.is_some() && needed == Verb::Read;
            // Who administers a part reads something, and nothing as a whole.
            let some = *name == "part" && matches!(right, Right::Each(Verb::Read));
            let expected = *verb == Some(needed) || reads || some;
            let outcome = call(channel, method).await;
            assert_eq!(
                !denied(&outcome),
                expected,
                "{name} calls {method} {row:?}: {outcome:?}"
            );
        }
    }
    place.rig.tear_down().await;
}

#[tokio::test]
async fn a_reason_has_its_bounds_whoever_gives_it() {
    let place = Place::new().await;
    let mut people = PeopleClient::new(place.rig.admin().await);
    let mut ask = async |reason: &str| {
        let mut request = Request::new(pb::WhoAmIRequest {});
        request.metadata_mut().insert(REASON, reason.parse().unwrap());
        people.who_am_i(request).await.map(|_| ())
    };
    ask("ticket 7: pump 4 was replaced").await.unwrap();
    for bad in ["a%0Ab", "a%1B[2J", "%zz", &"x".repeat(600)] {
        assert_eq!(ask(bad).await.unwrap_err().code(), Code::InvalidArgument, "{bad}");
    }
    place.rig.tear_down().await;
}

//! Two who agree.

use super::*;

#[tokio::test]
async fn two_persons_agree_over_the_network_and_whoami_says_who_is_who() {
    let place = Place::new().await;
    let mut one = PeopleClient::new(place.channel("one").await);
    let mut two = PeopleClient::new(place.channel("two").await);
    let mut three = PeopleClient::new(place.channel("three").await);
    let whoami = async |client: &mut PeopleClient<Channel>| {
        client.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner()
    };
    assert_eq!(whoami(&mut one).await.standing(), Standing::Nobody);
    let local = whoami(&mut PeopleClient::new(place.rig.admin().await)).await;
    assert_eq!(local.standing(), Standing::Administrator);
    let first = place.first("one").await;
    let both = || vec![role(pb::Verb::Administer, ""), role(pb::Verb::Approve, "")];
    let second = one.grant(person("two", both())).await.unwrap().into_inner();
    assert_eq!(second.proposal, "");
    assert!(
        second
            .notices
            .iter()
            .any(|notice| notice.contains("fewer than two")),
        "{second:?}"
    );
    let told = whoami(&mut two).await;
    assert_eq!((told.standing(), told.name.as_str()), (Standing::Person, "two"));
    assert_eq!(told.person, second.person);
    assert!(told.actor.ends_with(&format!("person {}", second.person)) && !told.actor.contains(" two"));
    assert_eq!(told.roles[1].pattern, "spiffe://plant.test/*");

    let third = one.grant(person("three", both())).await.unwrap().into_inner();
    assert_ne!(third.proposal, "");
    let listed = two
        .list_proposals(pb::ListProposalsRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.proposals[0].id, third.proposal);
    assert_eq!(listed.proposals[0].agreed, std::slice::from_ref(&first));
    assert_eq!(whoami(&mut three).await.standing(), Standing::Nobody, "not yet");
    let confirm = || pb::ConfirmProposalRequest {
        id: third.proposal.clone(),
    };
    let same = one.confirm_proposal(confirm()).await.unwrap_err();
    assert_eq!(same.code(), Code::FailedPrecondition);
    let stranger = three.confirm_proposal(confirm()).await.unwrap_err();
    assert_eq!(stranger.code(), Code::PermissionDenied);
    let done = two.confirm_proposal(confirm()).await.unwrap().into_inner();
    assert_eq!(
        (done.person.as_str(), done.proposal.as_str()),
        (third.person.as_str(), "")
    );
    assert_eq!(whoami(&mut three).await.standing(), Standing::Person);
    // Leaving: the name and the login are gone, and with them the way in; the reference stays.
    let request = pb::ForgetRequest {
        person: third.person.clone(),
    };
    one.forget(request).await.unwrap();
    assert_eq!(whoami(&mut three).await.standing(), Standing::Nobody);
    let all = one
        .list_persons(pb::ListPersonsRequest {})
        .await
        .unwrap()
        .into_inner()
        .persons;
    let gone = all
        .iter()
        .find(|person| person.reference == third.person)
        .unwrap();
    assert!(gone.forgotten && gone.name.is_empty() && gone.logins.is_empty());
    assert_eq!(gone.agreed.as_ref().unwrap().persons.len(), 2);
    place.rig.tear_down().await;
}

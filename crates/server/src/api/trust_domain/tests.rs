//! The service over the admin socket of a whole server, in the words that SPIRE's clients know.

use landfast_proto::spire::api::server::bundle::v1::{
    GetFederatedBundleRequest, bundle_client::BundleClient,
};
use landfast_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::federation::tests::endpoint::{Endpoint, Site};
use crate::federation::tests::loopback;
use crate::server::rig::Rig;

fn spiffe(id: &str) -> Option<Wire> {
    Some(Wire::HttpsSpiffe(types::HttpsspiffeProfile {
        endpoint_spiffe_id: id.to_owned(),
    }))
}

fn wanted(name: &str) -> types::FederationRelationship {
    types::FederationRelationship {
        trust_domain: name.to_owned(),
        // Where nobody is asked: the tests need no network.
        bundle_endpoint_url: "https://127.0.0.1:9/bundle".to_owned(),
        bundle_endpoint_profile: spiffe("spiffe://site.example/endpoint"),
        trust_domain_bundle: None,
    }
}

async fn create(
    client: &mut TrustDomainClient<Channel>,
    wanted: types::FederationRelationship,
) -> pb::batch_create_federation_relationship_response::Result {
    let request = pb::BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![wanted],
        output_mask: None,
    };
    let answer = client
        .batch_create_federation_relationship(request)
        .await
        .unwrap();
    answer.into_inner().results.remove(0)
}

fn code_of(status: Option<&types::Status>) -> (Code, &str) {
    let status = status.unwrap();
    (Code::from_i32(status.code), status.message.as_str())
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_item_by_item() {
    let rig = Rig::new().await;
    let mut client = TrustDomainClient::new(rig.admin().await);
    let site = Site::new("site.example");
    type Change = fn(&mut types::FederationRelationship);
    let cases: [(Change, &str); 10] = [
        (
            |r| r.trust_domain.clear(),
            "failed to convert federation relationship: failed to parse trust domain",
        ),
        (
            |r| r.trust_domain = "Not A Name".into(),
            "failed to parse trust domain",
        ),
        (
            |r| r.trust_domain = "plant.test".into(),
            "unable to create federation relationship for server trust domain",
        ),
        (
            |r| r.bundle_endpoint_url = "http://site.example".into(),
            "bundle endpoint URL must use the https scheme",
        ),
        (
            |r| r.bundle_endpoint_url = "https://".into(),
            "bundle endpoint URL",
        ),
        (
            |r| r.bundle_endpoint_url = "https://a:b@site.example".into(),
            "bundle endpoint URL must not contain user info",
        ),
        (
            |r| r.bundle_endpoint_profile = None,
            "unsupported bundle endpoint profile type",
        ),
        (
            |r| r.bundle_endpoint_profile = spiffe(""),
            "failed to parse endpoint SPIFFE ID",
        ),
        (
            |r| {
                r.trust_domain_bundle = Some(types::Bundle {
                    trust_domain: "other.example".into(),
                    ..Default::default()
                })
            },
            "trust domain bundle (\"other.example\") must match the trust domain of the federation relationship (\"site.example\")",
        ),
        (
            |r| {
                r.trust_domain_bundle = Some(types::Bundle {
                    trust_domain: "site.example".into(),
                    x509_authorities: vec![types::X509Certificate::default()],
                    ..Default::default()
                })
            },
            "failed to parse bundle",
        ),
    ];
    for (change, words) in cases {
        let mut relationship = wanted("site.example");
        change(&mut relationship);
        let result = create(&mut client, relationship).await;
        let (code, text) = code_of(result.status.as_ref());
        assert_eq!(
            (code, result.federation_relationship),
            (Code::InvalidArgument, None),
            "{words}: {text}"
        );
        assert!(text.contains(words), "{words}: {text}");
    }

    let mut first = wanted("site.example");
    first.trust_domain_bundle = Some(bundle_out(&site.bundle(3), None));
    let made = create(&mut client, first.clone()).await;
    assert_eq!(
        (
            code_of(made.status.as_ref()).0,
            made.federation_relationship.as_ref()
        ),
        (Code::Ok, Some(&first))
    );
    let again = create(&mut client, wanted("site.example")).await;
    let (code, text) = code_of(again.status.as_ref());
    assert_eq!(code, Code::AlreadyExists);
    assert!(
        text.starts_with("failed to create federation relationship: "),
        "{text}"
    );
    rig.tear_down().await;
}

#[tokio::test]
async fn relationships_are_shown_changed_and_deleted() {
    let rig = Rig::new().await;
    let mut client = TrustDomainClient::new(rig.admin().await);
    for name in ["c.example", "a.example", "b.example"] {
        create(&mut client, wanted(name)).await;
    }
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListFederationRelationshipsRequest {
            output_mask: Some(Mask::default()),
            page_size: 2,
            page_token,
        };
        let page = client
            .list_federation_relationships(request)
            .await
            .unwrap()
            .into_inner();
        for shown in &page.federation_relationships {
            assert!(shown.bundle_endpoint_url.is_empty() && shown.bundle_endpoint_profile.is_none());
        }
        names.push(
            page.federation_relationships
                .into_iter()
                .map(|r| r.trust_domain)
                .collect::<Vec<_>>(),
        );
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, [vec!["a.example", "b.example"], vec!["c.example"]]);

    // Only what the mask names changes.
    let mut change = wanted("b.example");
    change.bundle_endpoint_url = "https://127.0.0.1:9/moved".to_owned();
    change.bundle_endpoint_profile = Some(Wire::HttpsWeb(types::HttpsWebProfile {}));
    let mut update = pb::BatchUpdateFederationRelationshipRequest {
        federation_relationships: vec![change.clone(), wanted("unknown.example")],
        input_mask: Some(Mask {
            bundle_endpoint_url: true,
            ..Mask::default()
        }),
        output_mask: None,
    };
    let results = client
        .batch_update_federation_relationship(update.clone())
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(code_of(results[0].status.as_ref()).0, Code::Ok);
    assert_eq!(code_of(results[1].status.as_ref()).0, Code::NotFound);
    let get = |name: &str| pb::GetFederationRelationshipRequest {
        trust_domain: name.to_owned(),
        output_mask: None,
    };
    let shown = client
        .get_federation_relationship(get("b.example"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown.bundle_endpoint_url, "https://127.0.0.1:9/moved");
    assert_eq!(
        shown.bundle_endpoint_profile,
        spiffe("spiffe://site.example/endpoint")
    );
    update.input_mask = None;
    client.batch_update_federation_relationship(update).await.unwrap();
    let shown = client
        .get_federation_relationship(get("b.example"))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(shown, change);

    let request = pb::BatchDeleteFederationRelationshipRequest {
        trust_domains: ["b.example", "b.example", "", "Not A Name"]
            .map(str::to_owned)
            .to_vec(),
    };
    let results = client
        .batch_delete_federation_relationship(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<Code> = results.iter().map(|r| code_of(r.status.as_ref()).0).collect();
    assert_eq!(
        codes,
        [
            Code::Ok,
            Code::NotFound,
            Code::InvalidArgument,
            Code::InvalidArgument
        ]
    );
    let gone = client
        .get_federation_relationship(get("b.example"))
        .await
        .unwrap_err();
    assert_eq!(
        (gone.code(), gone.message()),
        (Code::NotFound, "federation relationship does not exist")
    );
    let bad = client.get_federation_relationship(get("")).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
    rig.tear_down().await;
}

#[tokio::test]
async fn a_refreshed_bundle_reaches_agents_and_a_refusal_says_only_our_reason() {
    let rig = Rig::with(|config| config.federation.danger_networks = loopback()).await;
    let mut client = TrustDomainClient::new(rig.admin().await);
    let site = Site::now("site.example");
    let endpoint = Endpoint::start(site.tls("/endpoint")).await;
    endpoint.publish(&site.bundle(7));
    let mut relationship = wanted("site.example");
    relationship.bundle_endpoint_url = endpoint.url("/");
    relationship.trust_domain_bundle = Some(bundle_out(&site.bundle(1), None));
    create(&mut client, relationship).await;
    let refresh = |name: &str| pb::RefreshBundleRequest {
        trust_domain: name.to_owned(),
    };
    client.refresh_bundle(refresh("site.example")).await.unwrap();
    let node = rig.node().await;
    let request = GetFederatedBundleRequest {
        trust_domain: "site.example".to_owned(),
        output_mask: None,
    };
    let mut agent = BundleClient::new(node.channel.clone());
    let bundle = agent.get_federated_bundle(request).await.unwrap().into_inner();
    assert_eq!(bundle.sequence_number, 7);

    let unknown = client
        .refresh_bundle(refresh("unknown.example"))
        .await
        .unwrap_err();
    assert_eq!(
        (unknown.code(), unknown.message()),
        (
            Code::NotFound,
            "no relationship with trust domain \"unknown.example\""
        )
    );
    assert_eq!(
        client.refresh_bundle(refresh("")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
    endpoint.publish(&site.bundle(6));
    let back = client.refresh_bundle(refresh("site.example")).await.unwrap_err();
    assert_eq!(back.code(), Code::Unavailable);
    assert!(back.message().contains("sequence 6, older than 7"), "{back:?}");
    rig.tear_down().await;
}

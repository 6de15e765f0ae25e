//! What an open connection is worth when the authority of its certificate is revoked, and who may connect from another trust domain.

use landfast_identity::{Bundle, PrivateKey, SpiffeId, build_csr};
use landfast_proto::spire::api::server::bundle::v1::{self as bundle, bundle_client::BundleClient};
use landfast_proto::spire::api::server::entry::v1::{CountEntriesRequest, entry_client::EntryClient};
use landfast_proto::spire::api::server::localauthority::v1::{
    self as authority, local_authority_client::LocalAuthorityClient,
};
use landfast_proto::spire::api::server::svid::v1::{MintX509svidRequest, svid_client::SvidClient};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::api::convert::bundle_out;
use crate::federation::tests::endpoint::Site;
use crate::server::rig::{Rig, td};

async fn count(channel: &Channel) -> Result<(), Status> {
    let request = CountEntriesRequest { filter: None };
    EntryClient::new(channel.clone())
        .count_entries(request)
        .await
        .map(drop)
}

/// What the thief is after: a genuine certificate of the new authority.
async fn mint(channel: &Channel) -> Result<(), Status> {
    let key = PrivateKey::generate().unwrap();
    let id = SpiffeId::from_parts(&td(), "/line4/hmi").unwrap();
    let csr = build_csr(&key, Some(&id), &[]).unwrap().into();
    let request = MintX509svidRequest { csr, ttl: 600 };
    SvidClient::new(channel.clone())
        .mint_x509svid(request)
        .await
        .map(drop)
}

/// Has another authority sign, and taints the one before; returns that one.
async fn replace(orders: &mut LocalAuthorityClient<Channel>) -> String {
    let state = orders
        .get_x509_authority_state(authority::GetX509AuthorityStateRequest {})
        .await
        .unwrap()
        .into_inner();
    let before = state.active.unwrap().authority_id;
    let prepared = orders
        .prepare_x509_authority(authority::PrepareX509AuthorityRequest {})
        .await
        .unwrap()
        .into_inner();
    let authority_id = prepared.prepared_authority.unwrap().authority_id;
    orders
        .activate_x509_authority(authority::ActivateX509AuthorityRequest { authority_id })
        .await
        .unwrap();
    let authority_id = before.clone();
    orders
        .taint_x509_authority(authority::TaintX509AuthorityRequest { authority_id })
        .await
        .unwrap();
    before
}

/// Calls until it is refused; what was revoked is in force at once, but for the moment that a task takes.
async fn refused(channel: &Channel) -> Status {
    let refused = async {
        loop {
            match count(channel).await {
                Ok(()) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
                Err(status) => return status,
            }
        }
    };
    let bound = std::time::Duration::from_secs(20);
    tokio::time::timeout(bound, refused)
        .await
        .expect("it is still let in")
}

#[tokio::test]
async fn a_connection_is_worth_nothing_once_the_authority_of_its_certificate_is_revoked() {
    let admin = SpiffeId::from_parts(&td(), "/ops").unwrap();
    let rig = Rig::with(|config| config.admin_ids = vec![admin]).await;
    let thief = rig.tls(Some(rig.mint("/ops").await)).await.unwrap();
    let node = rig.node().await;
    mint(&thief).await.unwrap();
    let mut orders = LocalAuthorityClient::new(rig.admin().await);
    let authority_id = replace(&mut orders).await;
    // A taint refuses nothing yet: all that is honest has to come by with what it has.
    count(&thief).await.unwrap();
    let honest = rig.tls(Some(rig.mint("/ops").await)).await.unwrap();
    orders
        .revoke_x509_authority(authority::RevokeX509AuthorityRequest { authority_id })
        .await
        .unwrap();

    let status = refused(&thief).await;
    assert_eq!(status.code(), Code::Unauthenticated, "{status:?}");
    assert!(status.message().contains("revoked") && status.message().contains("connect again"));
    for _ in 0..2 {
        assert_eq!(mint(&thief).await.unwrap_err().code(), Code::Unauthenticated);
    }
    let status = super::authorised(&node.channel).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "an agent is no better");
    // What is open to anybody is open to them, as to anybody; who has a certificate of the new authority stays.
    let anybody = bundle::GetBundleRequest { output_mask: None };
    BundleClient::new(thief).get_bundle(anybody).await.unwrap();
    mint(&honest).await.unwrap();
    rig.tear_down().await;
}

async fn set(rig: &Rig, bundle: &Bundle) {
    let request = bundle::BatchSetFederatedBundleRequest {
        bundle: vec![bundle_out(bundle, None)],
        output_mask: None,
    };
    let set = BundleClient::new(rig.admin().await)
        .batch_set_federated_bundle(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(set.results[0].status.as_ref().unwrap().code, 0);
}

/// Tries until it is let in.
async fn let_in(rig: &Rig, site: &Site) -> Channel {
    let tried = async {
        loop {
            let channel = rig.tls(Some(site.svid("/ops"))).await;
            match channel {
                Ok(channel) if count(&channel).await.is_ok() => return channel,
                _ => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    };
    let bound = std::time::Duration::from_secs(20);
    tokio::time::timeout(bound, tried)
        .await
        .expect("it is not let in")
}

#[tokio::test]
async fn of_another_trust_domain_the_listed_administrators_come_in_and_nobody_else() {
    let (site, other) = (Site::now("office.test"), Site::now("other.test"));
    let admins = vec![site.id("/ops"), SpiffeId::from_parts(&td(), "/ops").unwrap()];
    let rig = Rig::with(|config| config.admin_ids = admins).await;
    // Without its bundle nobody can tell who it is.
    let early = rig.tls(Some(site.svid("/ops"))).await;
    assert!(match early {
        Ok(channel) => count(&channel).await.is_err(),
        Err(_) => true,
    });
    set(&rig, &site.bundle(1)).await;
    set(&rig, &other.bundle(1)).await;
    let admin = let_in(&rig, &site).await;
    mint(&admin).await.unwrap();
    for stranger in [
        site.svid("/else"),
        site.svid("/spire/agent/x"),
        other.svid("/ops"),
    ] {
        let id = stranger.id().clone();
        // The handshake fails, or the connection ends before the first word.
        let anybody = bundle::GetBundleRequest { output_mask: None };
        let answered = match rig.tls(Some(stranger)).await {
            Ok(channel) => BundleClient::new(channel).get_bundle(anybody).await.is_ok(),
            Err(_) => false,
        };
        assert!(!answered, "{id} got in");
    }
    // An impostor of the right name is not verified by the bundle of the other trust domain.
    let impostor = Site::now("office.test");
    let channel = rig.tls(Some(impostor.svid("/ops"))).await;
    assert!(match channel {
        Ok(channel) => count(&channel).await.is_err(),
        Err(_) => true,
    });
    // With the keys of their trust domain goes what they may do here, on open connections too.
    set(&rig, &Bundle::new(site.name.clone()).with_sequence(2)).await;
    assert_eq!(refused(&admin).await.code(), Code::Unauthenticated);
    rig.tear_down().await;
}

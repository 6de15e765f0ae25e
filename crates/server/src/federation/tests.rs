//! Hostile and honest peers over real TLS (T-18, T-26, T-27).

pub(crate) mod endpoint;
mod hostile;

use std::pin::pin;

use landfast_identity::{SpiffeId, UnixTime};

use super::*;
use crate::core::fixture::{DiskRig, Rig, START, td};
use crate::registry::{EndpointUrl, Profile};
use endpoint::{Endpoint, Reply, Site, web};

/// The loopback is where these tests are.
pub(crate) fn loopback() -> DangerNetworks {
    DangerNetworks::parse(["127.0.0.0/8", "::1/128"]).unwrap()
}

async fn federation(core: &Core, clock: impl landfast_lifecycle::Clock + 'static) -> Federation {
    let config = FederationConfig {
        relationships: Vec::new(),
        danger_networks: loopback(),
    };
    Federation::open(&config, core, Arc::new(clock)).await.unwrap()
}

fn relationship(site: &Site, url: &str, profile: Profile) -> Relationship {
    Relationship {
        trust_domain: site.name.clone(),
        url: EndpointUrl::parse(url).unwrap(),
        profile,
    }
}

fn by_web(site: &Site, url: &str, roots: WebRoots) -> Known {
    Known {
        relationship: Arc::new(relationship(site, url, Profile::Web)),
        web_roots: Some(roots),
        stored: false,
    }
}

fn by_id(site: &Site, url: &str, endpoint_id: SpiffeId) -> Known {
    Known {
        stored: false,
        ..Known::of(Arc::new(relationship(site, url, Profile::Spiffe { endpoint_id })))
    }
}

/// A federation in memory with a site whose endpoint is trusted by its host's certificate.
struct Web {
    rig: Rig,
    federation: Federation,
    site: Site,
    endpoint: Endpoint,
    known: Known,
}

impl Web {
    async fn new() -> Self {
        let rig = Rig::new().await;
        let federation = federation(&rig.core, rig.clock.clone()).await;
        let site = Site::new("site.example");
        let (tls, roots) = web("localhost", 2100);
        let endpoint = Endpoint::start(tls).await;
        let known = by_web(&site, &endpoint.url("/"), roots);
        Self {
            rig,
            federation,
            site,
            endpoint,
            known,
        }
    }

    async fn ask(&self) -> Result<bool, RoundError> {
        self.federation.round(&self.known).await
    }

    fn stored(&self) -> Option<Arc<Bundle>> {
        self.rig.core.registry.federated_bundle(&self.site.name)
    }
}

#[tokio::test]
async fn a_bundle_comes_from_a_host_that_proves_its_name_and_nothing_from_others() {
    let it = Web::new().await;
    let published = it
        .site
        .bundle(7)
        .with_refresh_hint(Some(Duration::from_secs(600)));
    it.endpoint.publish(&published);
    assert!(it.ask().await.unwrap());
    assert_eq!(*it.stored().unwrap(), published);
    assert!(!it.ask().await.unwrap(), "the same is no news");

    let address = by_web(
        &it.site,
        &format!("https://127.0.0.1:{}/", it.endpoint.port),
        it.known.web_roots.clone().unwrap(),
    );
    let tls = |outcome: Result<bool, RoundError>| {
        matches!(
            outcome.unwrap_err(),
            RoundError::Fetch {
                source: FetchError::Tls { .. }
            }
        )
    };
    assert!(tls(it.federation.round(&address).await), "a host by another name");
    let asked = it.endpoint.asked();
    for (host, until, trusted) in [
        ("other.example", 2100, true),
        ("localhost", 2020, true),
        ("localhost", 2100, false),
    ] {
        let (config, roots) = web(host, until);
        let impostor = Endpoint::start(config).await;
        impostor.publish(&it.site.bundle(8));
        let roots = if trusted {
            roots
        } else {
            it.known.web_roots.clone().unwrap()
        };
        let known = by_web(&it.site, &impostor.url("/"), roots);
        assert!(tls(it.federation.round(&known).await), "{host} {until} {trusted}");
        assert_eq!(impostor.asked(), 0);
    }
    assert_eq!((it.endpoint.asked(), it.stored().unwrap().sequence()), (asked, 7));
}

#[tokio::test]
async fn a_bundle_comes_from_the_very_spiffe_id_verified_with_the_newest_bundle() {
    let rig = Rig::new().await;
    let federation = federation(&rig.core, rig.clock.clone()).await;
    let (site, other) = (Site::new("site.example"), Site::new("other.example"));
    let registry = &rig.core.registry;
    let endpoint = Endpoint::start(site.tls("/spire/server")).await;
    endpoint.publish(&site.bundle(3));
    let known = by_id(&site, &endpoint.url("/"), site.id("/spire/server"));
    assert!(matches!(
        federation.round(&known).await.unwrap_err(),
        RoundError::NoBundle { .. }
    ));
    registry.set_federated_bundle(site.bundle(1)).await.unwrap();
    assert!(federation.round(&known).await.unwrap());
    assert_eq!(registry.federated_bundle(&site.name).unwrap().sequence(), 3);

    // Another ID of the same trust domain, and the right words from another trust domain.
    let asked = endpoint.asked();
    let wrong = by_id(&site, &endpoint.url("/"), site.id("/other"));
    assert!(federation.round(&wrong).await.is_err());
    assert_eq!(endpoint.asked(), asked);
    let impostor = Endpoint::start(other.tls("/spire/server")).await;
    impostor.publish(&site.bundle(9));
    let lured = by_id(&site, &impostor.url("/"), site.id("/spire/server"));
    registry.set_federated_bundle(other.bundle(1)).await.unwrap();
    assert!(federation.round(&lured).await.is_err());
    assert_eq!(impostor.asked(), 0);
    // It may be an endpoint for that trust domain if it is named: then its own bundle verifies it.
    let hosted = by_id(&site, &impostor.url("/"), other.id("/spire/server"));
    assert!(federation.round(&hosted).await.unwrap());

    // The newest bundle verifies: when it has no authority any more, nobody is believed.
    let revoked = Bundle::new(other.name.clone()).with_sequence(2);
    registry.set_federated_bundle(revoked).await.unwrap();
    assert!(federation.round(&hosted).await.is_err());
}

#[tokio::test]
async fn a_host_that_leads_to_this_machine_is_not_asked_unless_its_network_is_named() {
    let it = Web::new().await;
    it.endpoint.publish(&it.site.bundle(1));
    let config = FederationConfig::default();
    let strict = Federation::open(&config, &it.rig.core, Arc::new(it.rig.clock.clone()))
        .await
        .unwrap();
    for url in [
        it.endpoint.url("/"),
        format!("https://[::ffff:127.0.0.1]:{}/", it.endpoint.port),
    ] {
        let known = by_web(&it.site, &url, it.known.web_roots.clone().unwrap());
        let error = strict.round(&known).await.unwrap_err();
        assert!(error.told().contains("federation_danger_networks"), "{error:?}");
    }
    assert_eq!((it.endpoint.asked(), it.stored()), (0, None));
    // A redirect is judged as well.
    let link = DangerNetworks::parse(["127.0.0.0/8", "::1/128"]).unwrap();
    assert_eq!(link, it.federation.0.danger);
    it.endpoint
        .say("/", Reply::Redirect("https://169.254.169.254/".to_owned()));
    assert!(matches!(
        it.ask().await.unwrap_err(),
        RoundError::Fetch {
            source: FetchError::Address
        }
    ));
}

#[tokio::test]
async fn a_bundle_never_goes_back_also_after_a_restart_unless_an_operator_says_so() {
    let disk = DiskRig::new();
    let site = Site::new("site.example");
    let (tls, roots) = web("localhost", 2100);
    let endpoint = Endpoint::start(tls).await;
    let known = by_web(&site, &endpoint.url("/"), roots);
    let ten = site.bundle(10);
    let stored = |core: &Core| (*core.registry.federated_bundle(&site.name).unwrap()).clone();
    for restarts in 0..3 {
        let core = disk.open().await;
        let federation = federation(&core, disk.clock.clone()).await;
        endpoint.publish(&ten);
        assert_eq!(federation.round(&known).await.unwrap(), restarts == 0);
        for back in [site.bundle(9), site.bundle(10), site.bundle(0)] {
            endpoint.publish(&back);
            let error = federation.round(&known).await.unwrap_err();
            assert!(error.is_rollback(), "{restarts}: {error:?}");
            assert_eq!(stored(&core), ten);
        }
    }
    let core = disk.open().await;
    let federation = federation(&core, disk.clock.clone()).await;
    let older = site.bundle(9);
    endpoint.publish(&older);
    assert!(federation.round(&known).await.is_err());
    core.registry.set_federated_bundle(older.clone()).await.unwrap();
    assert!(!federation.round(&known).await.unwrap(), "as the operator said");
    endpoint.publish(&ten);
    assert!(federation.round(&known).await.unwrap());
    assert_eq!(stored(&core), ten);
}

#[tokio::test]
async fn an_empty_set_of_keys_revokes_them_all_and_our_own_document_is_never_stored() {
    let it = Web::new().await;
    it.endpoint.publish(&it.site.bundle(1));
    it.ask().await.unwrap();
    it.endpoint
        .publish(&Bundle::new(it.site.name.clone()).with_sequence(2));
    assert!(it.ask().await.unwrap());
    let stored = it.stored().unwrap();
    assert!(stored.x509_authorities().is_empty() && stored.jwt_authorities().is_empty());

    let ours = Relationship {
        trust_domain: td(),
        ..(*it.known.relationship).clone()
    };
    let refused = it.federation.create(ours.clone(), None).await.unwrap_err();
    assert!(matches!(
        refused,
        ChangeError::Registry {
            source: RegistryError::OwnTrustDomain { .. }
        }
    ));
    let known = Known {
        relationship: Arc::new(ours),
        web_roots: it.known.web_roots.clone(),
        stored: false,
    };
    assert!(it.federation.round(&known).await.is_err());
    assert_eq!(it.rig.core.registry.federated_bundle(&td()), None);
}

/// Waits for what a task of the federation does.
async fn until(core: &Core, done: impl Fn(&Registry) -> bool) {
    let wait = async {
        while !done(&core.registry) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_never_answers_delays_no_other_and_ends_with_its_relationship() {
    let rig = Rig::new().await;
    let federation = federation(&rig.core, rig.clock.clone()).await;
    let tree = landfast_daemon::TaskTree::new();
    let (stop, keep) = (tree.handle().token(), federation.clone().keep(tree.handle()));
    tree.handle().spawn("federation", async move {
        stop.run_until_cancelled(keep).await.unwrap_or_default();
    });
    let (slow, fast) = (Site::new("a-slow.example"), Site::new("b-fast.example"));
    let dead = Endpoint::start(slow.tls("/endpoint")).await;
    dead.say("/", Reply::Silent);
    let alive = Endpoint::start(fast.tls("/endpoint")).await;
    alive.publish(&fast.bundle(5));
    let make = |site: &Site, endpoint: &Endpoint| {
        let profile = Profile::Spiffe {
            endpoint_id: site.id("/endpoint"),
        };
        (
            relationship(site, &endpoint.url("/"), profile),
            Some(Arc::new(site.bundle(1))),
        )
    };
    let (first, bundle) = make(&slow, &dead);
    federation.create(first, bundle).await.unwrap();
    dead.reached(1).await;
    let (second, bundle) = make(&fast, &alive);
    federation.create(second, bundle).await.unwrap();
    until(&rig.core, |registry| {
        registry.federated_bundle(&fast.name).unwrap().sequence() == 5
    })
    .await;
    assert_eq!(
        rig.core.registry.federated_bundle(&slow.name).unwrap().sequence(),
        1
    );

    // Its place moves: the new one is asked at once, the old one no more.
    let moved = Endpoint::start(slow.tls("/endpoint")).await;
    moved.publish(&slow.bundle(2));
    let patch = RelationshipPatch {
        url: Some(EndpointUrl::parse(&moved.url("/")).unwrap()),
        ..RelationshipPatch::default()
    };
    federation.update(&slow.name, patch).await.unwrap();
    until(&rig.core, |registry| {
        registry.federated_bundle(&slow.name).unwrap().sequence() == 2
    })
    .await;
    assert!(federation.delete(&slow.name).await.unwrap());
    assert!(!federation.delete(&slow.name).await.unwrap());
    assert!(
        rig.core.registry.federated_bundle(&slow.name).is_some(),
        "the bundle stays"
    );
    tree.join_with_deadline(Duration::from_secs(60)).await.unwrap();
}

/// What was asked for under a relationship that has ended, or changed, by the time it is answered is stored for nobody.
#[tokio::test]
async fn what_comes_after_the_end_of_its_relationship_is_not_stored() {
    let rig = Rig::new().await;
    let federation = federation(&rig.core, rig.clock.clone()).await;
    let site = Site::new("site.example");
    let stored = || rig.core.registry.federated_bundle(&site.name).unwrap().sequence();
    let endpoint = Endpoint::start(site.tls("/endpoint")).await;
    let profile = Profile::Spiffe {
        endpoint_id: site.id("/endpoint"),
    };
    let made = relationship(&site, &endpoint.url("/"), profile);
    let moved = RelationshipPatch {
        url: Some(EndpointUrl::parse("https://elsewhere.example/").unwrap()),
        ..RelationshipPatch::default()
    };
    for (sequence, patch) in [
        (2, None),
        (3, Some(moved)),
        (4, Some(RelationshipPatch::default())),
    ] {
        let first = Some(Arc::new(site.bundle(1)));
        federation.create(made.clone(), first).await.unwrap();
        let release = Arc::new(tokio::sync::Notify::new());
        endpoint.say(
            "/",
            Reply::Held(site.bundle(sequence).to_jwks(), Arc::clone(&release)),
        );
        let same = patch.as_ref().is_some_and(|patch| patch.url.is_none());
        let change = async {
            endpoint.reached(endpoint.asked() + 1).await;
            match patch {
                None => assert!(federation.delete(&site.name).await.unwrap()),
                Some(patch) => drop(federation.update(&site.name, patch).await.unwrap()),
            }
            release.notify_one();
        };
        let (outcome, ()) = tokio::join!(federation.refresh(&site.name), change);
        let outcome = outcome.unwrap();
        if same {
            assert!(outcome.unwrap(), "nothing has changed, so it is stored");
            assert_eq!(stored(), sequence);
        } else {
            let refused = outcome.unwrap_err();
            assert!(refused.told().contains("changed or deleted"), "{refused:?}");
            assert_eq!(stored(), 1);
            assert!(
                !federation.0.standings.knows(&site.name),
                "nobody is told about it"
            );
        }
        federation.delete(&site.name).await.unwrap();
    }
}

#[tokio::test]
async fn what_the_configuration_names_begins_with_its_bundle_and_is_not_changed_by_the_api() {
    let disk = DiskRig::new();
    let (site, other) = (Site::new("m.example"), Site::new("a.example"));
    let (tls, roots) = web("localhost", 2100);
    let endpoint = Endpoint::start(tls).await;
    endpoint.publish(&site.bundle(4));
    let config = FederationConfig {
        relationships: vec![StaticRelationship {
            relationship: relationship(&site, &endpoint.url("/"), Profile::Web),
            bundle: Some(site.bundle(2)),
            web_roots: Some(roots),
        }],
        danger_networks: loopback(),
    };
    let stored = |core: &Core| core.registry.federated_bundle(&site.name).unwrap().sequence();
    let names = |page: &(Vec<Arc<Relationship>>, Option<String>)| -> Vec<String> {
        page.0.iter().map(|r| r.trust_domain.to_string()).collect()
    };
    {
        let core = disk.open().await;
        let federation = Federation::open(&config, &core, Arc::new(disk.clock.clone()))
            .await
            .unwrap();
        assert_eq!(stored(&core), 2);
        assert!(federation.refresh(&site.name).await.unwrap().unwrap());
        assert!(federation.refresh(&other.name).await.is_none());
        let elsewhere = relationship(&other, "https://a.example/", Profile::Web);
        federation.create(elsewhere.clone(), None).await.unwrap();
        let again = federation.create(elsewhere, None).await.unwrap_err();
        assert!(matches!(
            again,
            ChangeError::Registry {
                source: RegistryError::RelationshipExists { .. }
            }
        ));
        let taken = relationship(&site, "https://m.example/", Profile::Web);
        assert!(matches!(
            federation.create(taken, None).await.unwrap_err(),
            ChangeError::Registry {
                source: RegistryError::RelationshipExists { .. }
            }
        ));
        let refused = federation.delete(&site.name).await.unwrap_err();
        assert!(matches!(refused, ChangeError::Static { .. }));
        let refused = federation
            .update(&site.name, RelationshipPatch::default())
            .await
            .unwrap_err();
        assert!(matches!(refused, ChangeError::Static { .. }));
        assert_eq!(names(&federation.list(true, 0, None)), ["a.example", "m.example"]);
        assert_eq!(
            names(&federation.list(false, 0, None)),
            ["a.example"],
            "what the API made"
        );
        assert!(federation.stored(&site.name).is_none() && federation.stored(&other.name).is_some());
        let first = federation.list(true, 1, None);
        assert_eq!(
            (names(&first), first.1.as_deref()),
            (vec!["a.example".to_owned()], Some("a.example"))
        );
        let second = federation.list(true, 1, first.1.as_deref());
        assert_eq!((names(&second), second.1), (vec!["m.example".to_owned()], None));
    }
    // After a restart: what was fetched counts, not what the file begins with; what the API made is there; without the file, only that.
    let core = disk.open().await;
    let federation = Federation::open(&config, &core, Arc::new(disk.clock.clone()))
        .await
        .unwrap();
    assert_eq!(stored(&core), 4);
    assert_eq!(names(&federation.list(true, 0, None)), ["a.example", "m.example"]);
    let bare = Federation::open(&FederationConfig::default(), &core, Arc::new(disk.clock.clone()))
        .await
        .unwrap();
    assert_eq!(names(&bare.list(true, 0, None)), ["a.example"]);
    let found = bare.get(&other.name).unwrap();
    assert_eq!(
        (found.url.as_str(), &found.profile),
        ("https://a.example/", &Profile::Web)
    );
}

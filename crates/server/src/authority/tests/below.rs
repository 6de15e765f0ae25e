//! Authorities under a parent that fails, lies, or is told to change its root.

use std::sync::Mutex;

use async_trait::async_trait;
use landfast_daemon::error_chain;
use landfast_identity::issue::{
    AuthorityParams as RootParams, SubordinateParams, random_serial, self_signed_authority,
    subordinate_authority,
};
use landfast_identity::{JwtAuthority, PrivateKey, X509Authority};

use super::*;
use crate::upstream::ParentError;

/// A parent in memory, which does as its fields say.
#[derive(Debug)]
pub(super) struct Parent(Mutex<State>);

#[derive(Debug)]
pub(super) struct State {
    pub(super) roots: Vec<(X509Authority, Arc<PrivateKey>)>,
    pub(super) jwt: Vec<JwtAuthority>,
    pub(super) sequence: Option<u64>,
    pub(super) gone: bool,
    pub(super) asked: usize,
    lie: Option<Lie>,
    /// It takes no key of this ID.
    pub(super) refuses: Option<String>,
    /// Keys that it was to take.
    pub(super) offered: Vec<String>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Lie {
    OtherKey,
    OtherRoot,
    AnotherDomain,
    Short,
}

pub(super) fn root() -> (X509Authority, Arc<PrivateKey>) {
    let key = PrivateKey::generate().unwrap();
    let params = RootParams {
        trust_domain: &td(),
        authority_id: "root",
        not_before: START,
        not_after: START.saturating_add(365 * DAY),
    };
    let certificate = self_signed_authority(&params, &key).unwrap();
    let authority = X509Authority {
        certificate,
        tainted: false,
    };
    (authority, Arc::new(key))
}

impl Parent {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            roots: vec![root()],
            jwt: Vec::new(),
            sequence: None,
            gone: false,
            asked: 0,
            lie: None,
            refuses: None,
            offered: Vec::new(),
        })))
    }

    pub(super) fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }

    fn answer(&self) -> Result<(), UpstreamError> {
        match self.change(|state| state.gone) {
            true => Err(ParentError::NoCertificate.into()),
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Upstream for Parent {
    async fn sign(&self, wish: &Wish<'_>) -> Result<Signed, UpstreamError> {
        self.change(|state| state.asked += 1);
        self.answer()?;
        let (lie, roots) = self.change(|state| (state.lie, state.roots.clone()));
        let lying = PrivateKey::generate().unwrap().public_key();
        let elsewhere = root();
        let other = TrustDomain::parse("other.example").unwrap();
        let (issuer, signer) = match lie {
            Some(Lie::OtherRoot) => &elsewhere,
            _ => roots.last().unwrap(),
        };
        let params = SubordinateParams {
            trust_domain: match lie {
                Some(Lie::AnotherDomain) => &other,
                _ => wish.trust_domain,
            },
            public_key: &match lie {
                Some(Lie::OtherKey) => lying,
                _ => wish.signer.public_key(),
            },
            serial: random_serial().unwrap(),
            not_before: wish.not_before.max(issuer.certificate.not_before()),
            not_after: match lie {
                Some(Lie::Short) => wish.now.saturating_add(Duration::from_secs(20)),
                _ => wish.not_after,
            },
        };
        Ok(Signed {
            certificate: subordinate_authority(&params, &issuer.certificate, &**signer).unwrap(),
            chain: Vec::new(),
            roots: roots.into_iter().map(|(root, _)| root).collect(),
        })
    }

    async fn look(&self, _now: UnixTime) -> Result<Seen, UpstreamError> {
        self.answer()?;
        Ok(self.change(|state| Seen {
            roots: state.roots.iter().map(|(root, _)| root.clone()).collect(),
            jwt: state.jwt.clone(),
            fresh: false,
            sequence: state.sequence,
        }))
    }

    async fn publish(&self, key: &JwtAuthority) -> Result<(), UpstreamError> {
        self.answer()?;
        self.change(|state| {
            state.offered.push(key.key_id.clone());
            if state.refuses.as_ref() == Some(&key.key_id) {
                let (method, code) = ("PublishJWTAuthority", tonic::Code::InvalidArgument);
                let message = "it was revoked".to_owned();
                return Err(ParentError::Refused {
                    method,
                    code,
                    message,
                }
                .into());
            }
            state.jwt.push(key.clone());
            Ok(())
        })
    }

    fn is_complete(&self) -> bool {
        true
    }

    fn name(&self) -> String {
        "a parent in memory".to_owned()
    }
}

pub(super) struct Site {
    pub(super) core: Core,
    pub(super) clock: SimClock,
    pub(super) parent: Arc<Parent>,
}

impl Site {
    pub(super) async fn new() -> Self {
        let (clock, parent) = (SimClock::new(START), Parent::new());
        let core = open(
            &clock,
            &parent,
            Arc::new(SqliteDatastore::in_memory(&td()).unwrap()),
        )
        .await;
        Self { core, clock, parent }
    }

    pub(super) async fn tick(&self) -> Result<(), AuthorityError> {
        let now = self.clock.now().unwrap();
        self.core.authorities.tick(now, Trust::Steady).await
    }

    pub(super) fn id(&self) -> String {
        self.core.authorities.active_x509().unwrap().id.clone()
    }

    pub(super) fn step(&self, by: Duration) {
        self.clock.step(by.as_secs().try_into().unwrap());
    }

    /// Prepares and activates the next one.
    async fn rotate(&self) {
        let (authorities, now) = (&self.core.authorities, self.clock.now().unwrap());
        let next = authorities
            .order(&Order::Prepare(Kind::X509), now)
            .await
            .unwrap()
            .id;
        authorities
            .order(&Order::Activate(Kind::X509, next), now)
            .await
            .unwrap();
    }

    pub(super) async fn verifies(&self) -> bool {
        let issued = self.core.issuer.server_svid(&key()).await.unwrap();
        let ders: Vec<&[u8]> = issued.chain.iter().map(Certificate::as_der).collect();
        let bundles = BundleSet::from_iter([(*self.core.authorities.bundle()).clone()]);
        verify_x509_svid(&ders, &bundles, self.clock.now().unwrap()).is_ok()
    }
}

async fn open(clock: &SimClock, parent: &Arc<Parent>, datastore: Arc<SqliteDatastore>) -> Core {
    open_with(clock, Some(parent), datastore, Arc::default(), false).await
}

pub(super) async fn open_with(
    clock: &SimClock,
    parent: Option<&Arc<Parent>>,
    datastore: Arc<SqliteDatastore>,
    keys: Arc<MemoryKeys>,
    wit: bool,
) -> Core {
    let params = CoreParams {
        wit,
        ..CoreParams::in_memory(td(), Arc::new(clock.clone()))
    };
    let parent = parent.map(|parent| -> Arc<dyn Upstream> { Arc::<Parent>::clone(parent) });
    Core::assemble_below(params, datastore, keys, parent)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_gone_stops_nothing_until_the_authority_ends() {
    let site = Site::new().await;
    let authorities = &site.core.authorities;
    authorities.look_as_kept().await.unwrap();
    assert_eq!(
        site.parent.change(|state| state.jwt.len()),
        1,
        "our JWT key is known there"
    );
    let first = site.id();
    site.parent.change(|state| (state.gone, state.asked) = (true, 0));
    let mut jwt = std::collections::BTreeSet::new();
    for _ in 0..59 {
        site.step(DAY / 2);
        let held = site.tick().await;
        jwt.insert(authorities.active_jwt().unwrap().id.clone());
        assert!(site.verifies().await && site.id() == first);
        assert!(held.is_ok() || authorities.upstream_trouble().is_some());
    }
    assert_eq!(jwt.len(), 2, "JWT authorities are our own and rotate");
    assert!((1..=59).contains(&site.parent.change(|state| state.asked)));
    site.parent.change(|state| state.gone = false);
    authorities.look_as_kept().await.unwrap();
    assert_eq!(
        site.parent.change(|state| state.jwt.len()),
        2,
        "what was made meanwhile is published"
    );
    site.tick().await.unwrap();
    site.step(Duration::from_secs(3600));
    site.tick().await.unwrap();
    assert!(site.id() != first && site.verifies().await);
    assert_eq!(authorities.upstream_trouble(), None);
}

/// A key that went back may have been revoked since.
#[tokio::test(start_paused = true)]
async fn in_quarantine_no_jwt_key_goes_up() {
    let site = Site::new().await;
    site.core.quarantine.set(true);
    site.core.authorities.look_as_kept().await.unwrap();
    assert_eq!(site.parent.change(|state| state.jwt.len()), 0);
    site.core.quarantine.set(false);
    site.core.authorities.look_as_kept().await.unwrap();
    assert_eq!(site.parent.change(|state| state.jwt.len()), 1);
}

#[tokio::test(start_paused = true)]
async fn a_parent_is_not_asked_to_sign_at_every_tick_while_it_fails() {
    let site = Site::new().await;
    site.parent.change(|state| (state.gone, state.asked) = (true, 0));
    site.step(16 * DAY);
    for _ in 0..360 {
        site.tick().await.unwrap_err();
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let asked = site.parent.change(|state| state.asked);
    assert!((10..=80).contains(&asked), "in an hour: {asked}");
}

#[tokio::test(start_paused = true)]
async fn what_a_parent_signs_is_judged_before_anybody_sees_it() {
    for (lie, words) in [
        (Lie::OtherKey, "another key than ours"),
        (Lie::OtherRoot, "do not verify"),
        (Lie::AnotherDomain, "do not verify"),
        (Lie::Short, "about to be"),
    ] {
        let site = Site::new().await;
        let (first, bundle) = (site.id(), site.core.authorities.bundle());
        site.parent.change(|state| state.lie = Some(lie));
        let now = site.clock.now().unwrap();
        let order = Order::Prepare(Kind::X509);
        let refused = site.core.authorities.order(&order, now).await.unwrap_err();
        assert!(
            error_chain(&refused).contains(words),
            "{lie:?}: {}",
            error_chain(&refused)
        );
        let standing = site.core.authorities.standing(Kind::X509).await.unwrap();
        assert!(standing.prepared.is_none() && site.id() == first);
        assert_eq!(site.core.authorities.bundle().sequence(), bundle.sequence());
    }
}

#[tokio::test(start_paused = true)]
async fn a_root_tainted_above_is_left_before_agents_are_told() {
    let site = Site::new().await;
    let authorities = &site.core.authorities;
    authorities.look_as_kept().await.unwrap();
    let first = site.id();
    site.parent.change(|state| {
        state.roots[0].0.tainted = true;
        state.roots.push(root());
        state.gone = false;
    });
    authorities.look_as_kept().await.unwrap();
    assert!(
        authorities
            .bundle()
            .x509_authorities()
            .iter()
            .all(|root| !root.tainted)
    );
    site.tick().await.unwrap();
    assert!(site.id() != first && site.verifies().await);
    authorities.look_as_kept().await.unwrap();
    let bundle = authorities.bundle();
    let tainted: Vec<bool> = bundle
        .x509_authorities()
        .iter()
        .map(|root| root.tainted)
        .collect();
    assert_eq!(tainted, [true, false]);
    let second = site.id();
    site.tick().await.unwrap();
    assert_eq!(site.id(), second, "and now there is rest");
    site.parent.change(|state| state.roots.remove(0));
    authorities.look_as_kept().await.unwrap();
    assert_eq!(authorities.bundle().x509_authorities().len(), 1);
    assert!(site.verifies().await);
}

#[tokio::test(start_paused = true)]
async fn an_empty_bundle_of_the_parent_takes_nothing_away() {
    let site = Site::new().await;
    let before = site.core.authorities.bundle();
    site.parent.change(|state| state.roots.clear());
    let refused = site.core.authorities.look_as_kept().await.unwrap_err();
    assert!(error_chain(&refused).contains("no X.509 authority"));
    assert_eq!(*site.core.authorities.bundle(), *before);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_root_is_tainted_and_revoked_by_operators_when_it_signs_no_more() {
    let site = Site::new().await;
    let authorities = &site.core.authorities;
    let root_of = |row: Option<AuthorityRow>| row.unwrap().descent.unwrap().root;
    let old = root_of(authorities.standing(Kind::X509).await.unwrap().active);
    let order = async |order, id: &str| {
        authorities
            .order_above(order, id)
            .await
            .map_err(|e| e.to_string())
    };
    let (taint, revoke) = (UpstreamOrder::Taint, UpstreamOrder::Revoke);
    for (id, words) in [
        ("", "no subject key ID"),
        (old.as_str(), "singing current"),
        ("00", "didn't sign"),
    ] {
        assert!(order(taint, id).await.unwrap_err().contains(words), "{id}");
        assert!(order(revoke, id).await.unwrap_err().contains(words), "{id}");
    }
    site.parent.change(|state| state.roots.push(root()));
    site.rotate().await;
    assert!(order(revoke, &old).await.unwrap_err().contains("untainted"));
    order(taint, &old).await.unwrap();
    assert!(order(taint, &old).await.unwrap_err().contains("already tainted"));
    let tainted = authorities
        .bundle()
        .x509_authorities()
        .iter()
        .filter(|root| root.tainted)
        .count();
    assert_eq!(tainted, 1);
    authorities.look_as_kept().await.unwrap();
    let tainted = authorities
        .bundle()
        .x509_authorities()
        .iter()
        .filter(|root| root.tainted)
        .count();
    assert_eq!(tainted, 1, "also when the parent does not think so");
    order(revoke, &old).await.unwrap();
    assert_eq!(authorities.bundle().x509_authorities().len(), 1);
    authorities.look_as_kept().await.unwrap();
    assert_eq!(
        authorities.bundle().x509_authorities().len(),
        1,
        "it does not come back"
    );
    assert!(order(revoke, &old).await.unwrap_err().contains("no ca found"));
    // Nor does what is signed under it.
    site.parent.change(|state| state.roots.swap(0, 1));
    let now = site.clock.now().unwrap();
    let refused = authorities
        .order(&Order::Prepare(Kind::X509), now)
        .await
        .unwrap_err();
    assert!(
        error_chain(&refused).contains("tainted or revoked"),
        "{}",
        error_chain(&refused)
    );
    let own = authorities
        .order(&Order::Taint(Kind::X509, site.id()), now)
        .await
        .unwrap_err();
    assert!(own.to_string().contains("if there is an upstream authority"));
    let none = Rig::new().await;
    let refused = none.core.authorities.order_above(taint, "00").await.unwrap_err();
    assert_eq!(refused.to_string(), "upstream authority is not configured");
}

#[tokio::test(start_paused = true)]
async fn a_server_below_cannot_take_the_key_id_of_one_beside_us() {
    let site = Site::new().await;
    let jwt = |key_id: &str, public_key| JwtAuthority {
        key_id: key_id.to_owned(),
        public_key,
        expires_at: Some(START.saturating_add(DAY)),
        tainted: false,
    };
    let theirs = jwt("theirs", key());
    site.parent.change(|state| state.jwt.push(theirs.clone()));
    let authorities = &site.core.authorities;
    authorities.look_as_kept().await.unwrap();
    let append = async |authority: JwtAuthority| {
        authorities
            .append(vec![AppendedKey::Jwt(authority)], &me(), START)
            .await
    };
    let refused = append(jwt("theirs", key())).await.unwrap_err();
    assert!(refused.to_string().contains("another key"), "{refused}");
    append(jwt("new", key())).await.unwrap();
    let known = authorities.bundle();
    assert_eq!(
        known.jwt_authority("theirs").unwrap().public_key,
        theirs.public_key
    );
    authorities.look_as_kept().await.unwrap();
    let above = site
        .parent
        .change(|state| state.jwt.iter().map(|key| key.key_id.clone()).collect::<Vec<_>>());
    assert!(
        above.contains(&"new".to_owned()),
        "what is below is passed on: {above:?}"
    );
    authorities.look_as_kept().await.unwrap();
    for order in [
        Order::Taint(Kind::Jwt, "new".to_owned()),
        Order::Revoke(Kind::Jwt, "new".to_owned()),
    ] {
        authorities.order_appended(&order, START).await.unwrap();
    }
    authorities.look_as_kept().await.unwrap();
    assert!(
        authorities.bundle().jwt_authority("new").is_none(),
        "although it is named above"
    );
}

/// A database, and so a process, that begins again.
#[tokio::test(start_paused = true)]
async fn what_stands_above_is_remembered_over_a_restart() {
    let (clock, parent) = (SimClock::new(START), Parent::new());
    let datastore = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
    let core = open(&clock, &parent, Arc::clone(&datastore)).await;
    core.authorities.look_as_kept().await.unwrap();
    core.authorities.look_as_kept().await.unwrap();
    let journal = datastore.journal().await.unwrap();
    assert_eq!((journal.above.roots.len(), journal.above.jwt.len()), (1, 1));
    let row = journal.rows.iter().find(|row| row.kind == Kind::X509).unwrap();
    assert_eq!(row.descent.as_ref().unwrap().root, journal.above.roots[0].id());
}

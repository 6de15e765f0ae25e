//! Files of an offline root: what signs, what is refused, what becomes of files that change under us.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use landfast_daemon::error_chain;
use landfast_identity::{Bundle, BundleSet, verify_x509_svid};
use landfast_lifecycle::{Clock as _, SimClock};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use tempfile::TempDir;

use super::*;
use crate::authority::{MemoryKeys, Trust};
use crate::core::fixture::{DAY, START, id, key, me, td};
use crate::datastore::sqlite::SqliteDatastore;
use crate::{Core, CoreParams, UpstreamConfig};

/// An authority of the plant's PKI, as tools of others make it.
struct Pki {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// 2036.
const LATE: i32 = 2036;

fn pki(name: &str, above: Option<&Pki>, change: impl FnOnce(&mut CertificateParams)) -> Pki {
    pki_with(name, above, KeyPair::generate().unwrap(), change)
}

fn pki_with(
    name: &str,
    above: Option<&Pki>,
    key: KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> Pki {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::OrganizationName, "Plant");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    params.not_after = rcgen::date_time_ymd(LATE, 1, 1);
    params.use_authority_key_identifier_extension = true;
    change(&mut params);
    let made = match above {
        None => params.self_signed(&key),
        Some(above) => params.signed_by(&key, &above.issuer),
    };
    Pki {
        pem: made.unwrap().pem(),
        issuer: Issuer::new(params, key),
    }
}

struct Folder {
    dir: TempDir,
    files: DiskConfig,
    clock: SimClock,
}

impl Folder {
    /// With the intermediate's certificates, its key, and the roots.
    fn new(chain: &[&Pki], roots: &[&Pki]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let files = DiskConfig {
            cert: path("ca.crt"),
            key: path("ca.key"),
            bundle: Some(path("roots.crt")),
        };
        let folder = Self {
            dir,
            files,
            clock: SimClock::new(START),
        };
        folder.put(chain, roots);
        folder
    }

    fn put(&self, chain: &[&Pki], roots: &[&Pki]) {
        let pem = |all: &[&Pki]| all.iter().map(|one| one.pem.as_str()).collect::<String>();
        self.write("ca.crt", &pem(chain));
        self.write("ca.key", &chain[0].issuer.key().serialize_pem());
        self.write("roots.crt", &pem(roots));
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::File::create(&path).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes()).unwrap();
    }

    fn chmod(&self, mode: u32) {
        std::fs::set_permissions(&self.files.key, Permissions::from_mode(mode)).unwrap();
    }

    fn check(&self) -> Result<(), String> {
        check(&self.files, &td(), Some(START)).map_err(|error| error_chain(&error))
    }

    async fn core(&self) -> Result<Core, String> {
        let params = CoreParams {
            upstream: Some(UpstreamConfig::Disk(self.files.clone())),
            ..CoreParams::in_memory(td(), Arc::new(self.clock.clone()))
        };
        let datastore = Arc::new(SqliteDatastore::in_memory(&td()).unwrap());
        let core = Core::assemble(params, datastore, Arc::new(MemoryKeys::default())).await;
        core.map_err(|error| error_chain(&error))
    }
}

fn bundle(roots: &[&Pki]) -> BundleSet {
    let pem: String = roots.iter().map(|root| root.pem.as_str()).collect();
    BundleSet::from_iter([Bundle::from_pem(td(), &pem).unwrap()])
}

fn verifies(chain: &[Certificate], bundles: &BundleSet) -> bool {
    let ders: Vec<&[u8]> = chain.iter().map(Certificate::as_der).collect();
    verify_x509_svid(&ders, bundles, START).is_ok()
}

#[tokio::test(start_paused = true)]
async fn an_svid_verifies_with_the_offline_root_alone_and_carries_what_is_between() {
    let root = pki("root", None, |_| {});
    let policy = pki("policy", Some(&root), |_| {});
    let site = pki("site", Some(&policy), |_| {});
    let stranger = pki("root", None, |_| {});
    let folder = Folder::new(&[&site, &policy], &[&root]);
    folder.check().unwrap();
    let core = folder.core().await.unwrap();
    let issued = core.issuer.server_svid(&key()).await.unwrap();
    assert_eq!(issued.chain.len(), 4, "leaf, server, site, policy");
    assert!(verifies(&issued.chain, &bundle(&[&root])));
    assert!(!verifies(&issued.chain, &bundle(&[&stranger])));
    assert!(
        !verifies(&issued.chain[..2], &bundle(&[&root])),
        "a chain with a gap"
    );
    let ours = core.authorities.bundle();
    assert_eq!(ours.to_pem(), bundle(&[&root]).get(&td()).unwrap().to_pem());
    assert_eq!(ours.jwt_authorities().len(), 1);
    let signer = core.authorities.active_x509().unwrap();
    assert!(!verifies(
        &[issued.chain[0].clone()],
        &BundleSet::from_iter([(*ours).clone()])
    ));
    let refused = core.issuer.server_svid(signer.certificate.public_key()).await;
    assert!(refused.is_err(), "our own authority's key is no SVID's");
    let refused = core.issuer.server_svid(signer.chain[1].public_key()).await;
    assert!(refused.is_err(), "nor is one above");
}

#[tokio::test(start_paused = true)]
async fn a_root_itself_does_and_so_do_rsa_and_a_root_in_the_file_of_the_certificate() {
    let root = pki("root", None, |_| {});
    let mut folder = Folder::new(&[&root], &[]);
    folder.files.bundle = None;
    let issued = folder
        .core()
        .await
        .unwrap()
        .issuer
        .server_svid(&key())
        .await
        .unwrap();
    assert!(issued.chain.len() == 2 && verifies(&issued.chain, &bundle(&[&root])));

    let rsa = KeyPair::from_pem(include_str!("../../../../../tests/vectors/keys/rsa-2048.pem")).unwrap();
    let site = pki_with("site", Some(&root), rsa, |_| {});
    let folder = Folder::new(&[&site, &root], &[&root]);
    let issued = folder
        .core()
        .await
        .unwrap()
        .issuer
        .server_svid(&key())
        .await
        .unwrap();
    assert_eq!(issued.chain.len(), 3, "the root is not sent");
    assert!(verifies(&issued.chain, &bundle(&[&root])));
}

#[tokio::test(start_paused = true)]
async fn files_that_cannot_sign_for_us_are_refused_with_what_is_wrong() {
    let root = pki("root", None, |_| {});
    let good = pki("site", Some(&root), |_| {});
    let other = pki("other", None, |_| {});
    let site = |change: fn(&mut CertificateParams)| pki("site", Some(&root), change);
    let cases: Vec<(&str, Folder)> = vec![
        (
            "do not verify",
            Folder::new(&[&site(|p| p.is_ca = IsCa::ExplicitNoCa)], &[&root]),
        ),
        (
            "longer than an authority allows",
            Folder::new(
                &[&site(|p| p.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)))],
                &[&root],
            ),
        ),
        (
            "keyCertSign",
            Folder::new(
                &[&site(|p| p.key_usages = vec![KeyUsagePurpose::CrlSign])],
                &[&root],
            ),
        ),
        (
            "ended at 2026-11-22",
            Folder::new(
                &[&site(|p| p.not_after = rcgen::date_time_ymd(2026, 11, 22))],
                &[&root],
            ),
        ),
        ("do not verify", Folder::new(&[&good], &[&other])),
        ("no private key", {
            let folder = Folder::new(&[&good], &[&root]);
            folder.write(
                "ca.key",
                "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
            );
            folder
        }),
        ("not that of the first certificate", {
            let folder = Folder::new(&[&good], &[&root]);
            folder.write("ca.key", &other.issuer.key().serialize_pem());
            folder
        }),
        ("chmod 600", {
            let folder = Folder::new(&[&good], &[&root]);
            folder.chmod(0o640);
            folder
        }),
        ("holds no certificates", {
            let folder = Folder::new(&[&good], &[&root]);
            folder.write("roots.crt", "");
            folder
        }),
        ("cannot read", {
            let mut folder = Folder::new(&[&good], &[&root]);
            folder.files.cert = PathBuf::from("/nowhere/ca.crt");
            folder
        }),
        ("it is not a file", {
            let mut folder = Folder::new(&[&good], &[&root]);
            folder.files.cert = PathBuf::from("/dev/zero");
            folder
        }),
        ("bundle_file", {
            let mut folder = Folder::new(&[&good, &root], &[]);
            folder.files.bundle = None;
            folder
        }),
    ];
    for (words, folder) in cases {
        let refused = folder.check().unwrap_err();
        assert!(refused.contains(words), "{words}: {refused}");
        let refused = folder.core().await.unwrap_err();
        assert!(refused.contains(words), "a first start: {words}: {refused}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_authority_ends_with_what_is_above_it_and_one_that_ends_at_once_is_none() {
    let root = pki("root", None, |_| {});
    // A day and eight hours after the clock's start.
    let short = pki("site", Some(&root), |p| {
        p.not_after = rcgen::date_time_ymd(2026, 11, 24)
    });
    let folder = Folder::new(&[&short], &[&root]);
    let core = folder.core().await.unwrap();
    let end = UnixTime::from_secs(1_795_478_400);
    assert_eq!(core.authorities.active_x509_expires_at(), Some(end));
    let svid = core
        .issuer
        .agent_svid(&me(), &id("/spire/agent/x/y"), &key())
        .await;
    assert_eq!(svid.unwrap().not_after, end);

    // Nothing better is to be had above: the one that signs goes on, and this is said; JWT authorities have nothing to do with it.
    let first = core.authorities.active_x509().unwrap().id.clone();
    tokio::time::sleep(10 * HOUR).await;
    core.authorities
        .tick(folder.clock.now().unwrap(), Trust::Steady)
        .await
        .unwrap();
    assert_eq!(core.authorities.upstream_trouble(), None, "there is time enough");
    assert_eq!(core.authorities.active_x509().unwrap().id, first);
    tokio::time::sleep(4 * HOUR).await;
    let now = folder.clock.now().unwrap();
    let stays = core.authorities.tick(now, Trust::Steady).await.unwrap_err();
    assert!(
        error_chain(&stays).contains("renew them there"),
        "{}",
        error_chain(&stays)
    );
    assert_eq!(core.authorities.active_x509().unwrap().id, first);
    assert!(core.authorities.upstream_trouble().is_some());

    // New files: the next authority is prepared.
    folder.put(&[&pki("site", Some(&root), |_| {})], &[&root]);
    core.authorities.look_as_kept().await.unwrap();
    core.authorities.tick(now, Trust::Steady).await.unwrap();
    assert_eq!(core.authorities.upstream_trouble(), None);

    folder.put(&[&short], &[&root]);
    folder.clock.step(3600 + 3590);
    assert!(
        folder.core().await.unwrap_err().contains("about to be"),
        "ten seconds are left"
    );
    folder.clock.step(3600);
    assert!(folder.core().await.unwrap_err().contains("ended at"));
}

#[tokio::test(start_paused = true)]
async fn new_files_are_taken_and_broken_ones_leave_the_last_good() {
    let (old, new) = (pki("root", None, |_| {}), pki("root 2", None, |_| {}));
    let (first, second) = (pki("site", Some(&old), |_| {}), pki("site 2", Some(&new), |_| {}));
    let folder = Folder::new(&[&first], &[&old]);
    let core = folder.core().await.unwrap();
    let authorities = &core.authorities;
    assert!(!authorities.look_as_kept().await.unwrap(), "nothing is new");
    for spoil in [
        &(|| folder.write("ca.key", "half a ke")) as &dyn Fn(),
        &|| folder.chmod(0o644),
        &|| folder.write("ca.crt", &second.pem),
        &|| std::fs::remove_file(&folder.files.key).unwrap(),
    ] {
        spoil();
        let trouble = authorities.look_as_kept().await.unwrap_err();
        assert!(
            error_chain(&trouble).contains("upstream files"),
            "{}",
            error_chain(&trouble)
        );
        let order = crate::authority::Order::Prepare(crate::authority::Kind::X509);
        authorities
            .order(&order, START)
            .await
            .expect("the last good ones sign");
        folder.put(&[&first], &[&old]);
        authorities.look_as_kept().await.unwrap();
    }

    // The root is rotated: both are believed, until nothing stands under the old one.
    folder.put(&[&second], &[&new]);
    assert!(authorities.look_as_kept().await.unwrap());
    assert_eq!(
        authorities.bundle().x509_authorities().len(),
        2,
        "SVIDs of before are still about"
    );
    let svid = core.issuer.server_svid(&key()).await.unwrap();
    let bundles = BundleSet::from_iter([(*authorities.bundle()).clone()]);
    assert!(verifies(&svid.chain, &bundles) && verifies(&svid.chain, &bundle(&[&old])));
    let order = crate::authority::Order::Prepare(crate::authority::Kind::X509);
    let next = authorities.order(&order, START).await.unwrap().id;
    let order = crate::authority::Order::Activate(crate::authority::Kind::X509, next);
    authorities.order(&order, START).await.unwrap();
    let svid = core.issuer.server_svid(&key()).await.unwrap();
    assert!(verifies(&svid.chain, &bundle(&[&new])) && !verifies(&svid.chain, &bundle(&[&old])));
    for _ in 0..3 {
        folder.clock.step(DAY.as_secs().try_into().unwrap());
        let now = folder.clock.now().unwrap();
        authorities.tick(now, Trust::Steady).await.unwrap();
    }
    authorities.look_as_kept().await.unwrap();
    assert_eq!(
        authorities.bundle().x509_authorities().len(),
        1,
        "the old root is over"
    );
}

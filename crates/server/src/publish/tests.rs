//! What is published, seen by clients over real TLS.

mod certificate;
mod client;
mod hostile;
mod margo;
mod pages;

use std::io::Write as _;
use std::path::Path;

use landfast_daemon::TaskTree;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use rustls::pki_types::CertificateDer;
use tempfile::TempDir;

use super::*;
use crate::core::fixture::Rig as CoreRig;
use front::Patience;

const HOST: &str = "bundle.plant.test";
const ISSUER: &str = "https://bundle.plant.test/oidc";
const HINT: Duration = Duration::from_secs(120);

/// Both profiles over a core in memory, and an authority of the web's.
struct Rig {
    core: CoreRig,
    web: Web,
    own: IdentityStore,
    certificates: Arc<Certificates>,
    addresses: PublishAddresses,
    tree: TaskTree,
}

/// An authority of the web's, and the operator's files.
struct Web {
    issuer: rcgen::Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
    dir: TempDir,
}

impl Web {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: rcgen::Issuer::new(params, key),
            root,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn files(&self) -> CertificateFiles {
        CertificateFiles {
            cert: self.dir.path().join("tls.crt"),
            key: self.dir.path().join("tls.key"),
        }
    }

    /// Writes a new certificate for the key, and returns it.
    fn renew(&self, key: &KeyPair) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec![HOST.to_owned()]).unwrap();
        let certificate = params.signed_by(key, &self.issuer).unwrap();
        write(&self.files().cert, &certificate.pem());
        write(&self.files().key, &key.serialize_pem());
        certificate.der().clone()
    }

    fn config(&self) -> PublishConfig {
        PublishConfig {
            web: Some(WebConfig {
                listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
                certificate: self.files(),
                issuer: Issuer::parse(ISSUER),
                margo: None,
                tls12: true,
            }),
            spiffe_listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
            path: "/".to_owned(),
            refresh_hint: HINT,
        }
    }
}

impl Rig {
    async fn new() -> Self {
        let long = Duration::from_secs(60);
        Self::with(Patience {
            handshake: long,
            request: long,
        })
        .await
    }

    async fn with(patience: Patience) -> Self {
        Self::changed(patience, |_| {}).await
    }

    async fn changed(patience: Patience, change: impl FnOnce(&mut WebConfig)) -> Self {
        let (core, web, own) = (CoreRig::new().await, Web::new(), IdentityStore::new());
        web.renew(&KeyPair::generate().unwrap());
        let key = landfast_identity::PrivateKey::generate().unwrap();
        let issued = core.core.issuer.server_svid(&key.public_key()).await.unwrap();
        own.set(Arc::new(
            landfast_identity::X509Svid::new(issued.chain, key).unwrap(),
        ));
        let clock: SharedClock = Arc::new(core.clock.clone());
        let updates = core.core.authorities.bundle_updates();
        let mut config = web.config();
        change(config.web.as_mut().unwrap());
        let bound = Publishing::bind(Some(&config), updates, own.clone(), &clock).await;
        let mut publishing = bound.unwrap().held_by(&core.core.quarantine);
        for (front, _) in &mut publishing.bound {
            *front = front.clone().with_patience(patience);
        }
        let (tree, certificates) = (TaskTree::new(), publishing.certificates.clone().unwrap());
        Self {
            addresses: publishing.serve(&tree.handle()),
            core,
            web,
            own,
            certificates,
            tree,
        }
    }

    fn bundle(&self) -> Arc<Bundle> {
        self.core.core.authorities.bundle()
    }

    async fn tear_down(self) {
        let ended = self.tree.join_with_deadline(Duration::from_secs(60)).await;
        ended.unwrap();
    }
}

fn write(path: &Path, text: &str) {
    let mut file = std::fs::File::create(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

//! The operator's certificate: which are good, and what happens when the files change.

use super::client::Client;
use super::*;
use crate::publish::certificate::Seen;

const RSA: &str = include_str!("../../../../../tests/vectors/keys/rsa-2048.pem");

#[tokio::test]
async fn a_new_certificate_is_shown_and_who_is_connected_stays() {
    let rig = Rig::new().await;
    let address = rig.addresses.web[0];
    let mut old = rig.web.connect(address).await;
    let document = old.get("/").await;
    assert_eq!(rig.certificates.look_again(), Seen::NoChange);
    let renewed = rig.web.renew(&KeyPair::generate().unwrap());
    assert_eq!(rig.certificates.look_again(), Seen::Taken);
    let mut new = rig.web.connect(address).await;
    assert_eq!(new.certificate(), renewed);
    assert_ne!(old.certificate(), renewed);
    assert_eq!(new.get("/").await, document);
    assert_eq!(old.get("/").await, document, "the old connection goes on");
    rig.tear_down().await;
}

#[tokio::test]
async fn files_that_are_no_good_change_nothing_and_are_complained_of_once() {
    let rig = Rig::new().await;
    let shown = rig.web.connect(rig.addresses.web[0]).await.certificate();
    let files = rig.web.files();
    let good = std::fs::read_to_string(&files.cert).unwrap();
    let cut = good.replacen("\n-----END", "AAAA\n-----END", 1);
    let many = good.repeat(17);
    let other = KeyPair::generate().unwrap();
    for text in ["", "nothing in PEM", cut.as_str(), many.as_str()] {
        write(&files.cert, text);
        assert_eq!(rig.certificates.look_again(), Seen::Refused, "{text}");
        assert_eq!(rig.certificates.look_again(), Seen::NoChange, "{text}");
    }
    write(&files.cert, &good);
    write(&files.key, &other.serialize_pem());
    assert_eq!(rig.certificates.look_again(), Seen::Refused, "another's key");
    std::fs::remove_file(&files.key).unwrap();
    assert_eq!(rig.certificates.look_again(), Seen::Refused);
    assert_eq!(rig.certificates.look_again(), Seen::NoChange);
    std::fs::create_dir(&files.key).unwrap();
    assert_eq!(rig.certificates.look_again(), Seen::Refused);
    std::fs::remove_dir(&files.key).unwrap();
    write(&files.key, &"x".repeat(300_000));
    assert_eq!(rig.certificates.look_again(), Seen::Refused);
    assert_eq!(rig.web.connect(rig.addresses.web[0]).await.certificate(), shown);
    let renewed = rig.web.renew(&other);
    assert_eq!(rig.certificates.look_again(), Seen::Taken);
    assert_eq!(rig.web.connect(rig.addresses.web[0]).await.certificate(), renewed);
    rig.tear_down().await;
}

#[tokio::test]
async fn keys_of_both_kinds_serve_both_versions_of_tls() {
    let rig = Rig::new().await;
    for key in [
        KeyPair::from_pkcs8_pem_and_sign_algo(RSA, &rcgen::PKCS_RSA_SHA256).unwrap(),
        KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap(),
    ] {
        let renewed = rig.web.renew(&key);
        assert_eq!(rig.certificates.look_again(), Seen::Taken);
        for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
            let tls = Arc::new(rig.web.client_of(&[version]));
            for _ in 0..2 {
                let address = rig.addresses.web[0];
                let mut client = Client::connect(address, Arc::clone(&tls)).await.unwrap();
                assert_eq!(client.certificate(), renewed);
                assert_eq!(client.get("/").await.status, 200);
                // TLS 1.3 would have sent tickets by now.
                let kind = client.0.get_ref().1.handshake_kind();
                assert_ne!(kind, Some(rustls::HandshakeKind::Resumed));
            }
        }
    }
    rig.tear_down().await;
}

/// As a power cut between the two writes of a renewal leaves it.
#[tokio::test]
async fn files_that_are_no_good_at_the_start_close_this_listener_alone_until_they_are_good() {
    let (core, web, own) = (CoreRig::new().await, Web::new(), IdentityStore::new());
    let key = KeyPair::generate().unwrap();
    web.renew(&key);
    write(&web.files().key, &KeyPair::generate().unwrap().serialize_pem());
    let clock: SharedClock = Arc::new(core.clock.clone());
    let updates = core.core.authorities.bundle_updates();
    let bound = Publishing::bind(Some(&web.config()), updates, own, &clock)
        .await
        .unwrap();
    let (trouble, certificates) = (bound.trouble(), bound.certificates.clone().unwrap());
    assert!(trouble().unwrap().contains("publish.listen"));
    let tree = TaskTree::new();
    let addresses = bound.serve(&tree.handle());
    tokio::net::TcpStream::connect(addresses.spiffe[0]).await.unwrap();
    let closed = tokio::net::TcpStream::connect(addresses.web[0])
        .await
        .unwrap_err();
    assert_eq!(closed.kind(), std::io::ErrorKind::ConnectionRefused);
    assert_eq!(certificates.look_again(), Seen::NoChange);

    let renewed = web.renew(&key);
    assert_eq!(certificates.look_again(), Seen::Taken);
    let open = async {
        while tokio::net::TcpStream::connect(addresses.web[0]).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), open)
        .await
        .expect("it stays closed");
    assert_eq!(web.connect(addresses.web[0]).await.certificate(), renewed);
    assert_eq!(trouble(), None);
    tree.join_with_deadline(Duration::from_secs(60)).await.unwrap();
}

/// A socket that does not listen yet keeps nobody out.
#[tokio::test]
async fn an_address_that_somebody_else_has_taken_meanwhile_is_opened_when_it_is_free() {
    let (core, web, own) = (CoreRig::new().await, Web::new(), IdentityStore::new());
    let clock: SharedClock = Arc::new(core.clock.clone());
    let updates = core.core.authorities.bundle_updates();
    let bound = Publishing::bind(Some(&web.config()), updates, own, &clock)
        .await
        .unwrap();
    let (trouble, certificates) = (bound.trouble(), bound.certificates.clone().unwrap());
    let tree = TaskTree::new();
    let address = bound.serve(&tree.handle()).web[0];
    let other = TcpListener::bind(address).await.unwrap();
    let renewed = web.renew(&KeyPair::generate().unwrap());
    assert_eq!(certificates.look_again(), Seen::Taken);
    let within = Duration::from_secs(60);
    let told = async {
        while !trouble().is_some_and(|trouble| trouble.contains("somebody else listens")) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, told).await.expect("nobody is told");
    drop(other);
    let open = async {
        while trouble().is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(within, open).await.expect("it stays closed");
    assert_eq!(web.connect(address).await.certificate(), renewed);
    tree.join_with_deadline(Duration::from_secs(60)).await.unwrap();
}

//! TLS to the database: it is known by its name and its authority, or not spoken to.

use super::*;

/// An authority's certificate, and certificate and key for this host under it, in PEM.
fn certificate(host: &str) -> (String, String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    (root.pem(), leaf.pem(), key.serialize_pem())
}

#[tokio::test]
async fn a_database_elsewhere_is_known_by_its_name_and_its_authority() {
    let mut cluster = Cluster::start();
    let (root, leaf, key) = certificate("localhost");
    cluster.cut();
    let port = cluster.secure(&leaf, &key);
    cluster.go();
    let (other, ..) = certificate("localhost");
    let (ours, theirs) = (
        cluster.file("ours.pem", &root),
        cluster.file("theirs.pem", &other),
    );
    let target = |host: &str, ca: &std::path::Path| {
        let text = format!("postgres://landfast@{host}:{port}/landfast");
        PostgresConfig::parse(&text, None, Some(ca)).unwrap()
    };
    let db = cluster
        .try_open(&target("localhost", &ours), "a", false)
        .await
        .unwrap();
    create(&db, "one").await.unwrap();
    let secured = "SELECT count(*) > 0 AND bool_and(s.ssl) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
        WHERE a.application_name = 'landfast-server'";
    assert_eq!(cluster.sql(secured), "t");
    for wrong in [target("localhost", &theirs), target("127.0.0.1", &ours)] {
        let refused = Link::connect(&wrong).await.err().expect("it is refused");
        let said = landfast_daemon::error_chain(&refused);
        assert!(said.contains("certificate"), "{said}");
    }
    // One that has no TLS gets nothing.
    cluster.cut();
    cluster.unsecure();
    cluster.go();
    let refused = Link::connect(&target("localhost", &ours)).await.err();
    let said = landfast_daemon::error_chain(&refused.expect("it is refused"));
    assert!(said.contains("TLS"), "{said}");
}

//! Handshakes: none is resumed, none is waited for for ever, and strangers take no place of others.

use super::*;

/// T-19: a client that keeps every session gets none, and shakes hands in full each time.
#[tokio::test]
async fn no_tls_session_is_ever_resumed() {
    let rig = Rig::new().await;
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = hoarder(version);
        for _ in 0..3 {
            let tcp = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
            let name = rustls::pki_types::ServerName::try_from("server.invalid").unwrap();
            let mut tls = tokio_rustls::TlsConnector::from(Arc::clone(&config))
                .connect(name, tcp)
                .await
                .unwrap();
            // A ticket would come with the first bytes after the handshake: HTTP/2's settings.
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            tls.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
                .await
                .unwrap();
            assert!(tls.read(&mut [0; 64]).await.unwrap() > 0);
            let connection = tls.get_ref().1;
            assert_eq!(
                connection.handshake_kind(),
                Some(rustls::HandshakeKind::Full),
                "{version:?}"
            );
            if connection.protocol_version() == Some(rustls::ProtocolVersion::TLSv1_3) {
                assert_eq!(connection.tls13_tickets_received(), 0);
            }
        }
    }
    rig.tear_down().await;
}

fn hoarder(version: &'static rustls::SupportedProtocolVersion) -> Arc<rustls::ClientConfig> {
    #[derive(Debug)]
    struct Trusting;
    impl rustls::client::danger::ServerCertVerifier for Trusting {
        fn verify_server_cert(
            &self,
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &[rustls::pki_types::CertificateDer<'_>],
            _: &rustls::pki_types::ServerName<'_>,
            _: &[u8],
            _: rustls::pki_types::UnixTime,
        ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
            Ok(rustls::client::danger::ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &rustls::pki_types::CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            vec![rustls::SignatureScheme::ECDSA_NISTP256_SHA256]
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Trusting))
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = rustls::client::Resumption::in_memory_sessions(16);
    Arc::new(config)
}

#[tokio::test]
async fn a_connection_that_does_not_shake_hands_is_closed() {
    let rig = Rig::new().await;
    let mut silent = tokio::net::TcpStream::connect(rig.address()).await.unwrap();
    use tokio::io::AsyncReadExt as _;
    let closed = tokio::time::timeout(Duration::from_secs(60), silent.read(&mut [0; 8])).await;
    assert!(matches!(closed, Ok(Ok(0) | Err(_))), "{closed:?}");
    rig.tear_down().await;
}

/// Who shows no certificate cannot take the places of those who do.
#[tokio::test]
async fn strangers_cannot_lock_agents_out() {
    let rig = Rig::with(|config| config.limits.connections = 40).await;
    let node = rig.node().await;
    let mut strangers = Vec::new();
    for _ in 0..60 {
        // The first ones are held open; what is too much from one address is closed again, so there is room.
        strangers.push(rig.tls(None).await);
    }
    let agent = tokio::time::timeout(Duration::from_secs(20), rig.tls(Some(Arc::clone(&node.svid)))).await;
    let channel = agent.expect("no place is left").unwrap();
    authorised(&channel).await.unwrap();
    rig.tear_down().await;
}

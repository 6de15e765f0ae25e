//! Raw HTTP/2 and raw bytes: the header rule, paths, authorities, HTTP/1 (threats T-09, T-21).

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Duration,
};

use http::Request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::Code;

use super::rig::{Rig, until};

const METHODS: [&str; 7] = [
    "/SpiffeWorkloadAPI/FetchX509SVID",
    "/SpiffeWorkloadAPI/FetchX509Bundles",
    "/SpiffeWorkloadAPI/FetchJWTSVID",
    "/SpiffeWorkloadAPI/FetchJWTBundles",
    "/SpiffeWorkloadAPI/ValidateJWTSVID",
    "/SpiffeWorkloadAPI/FetchWITSVID",
    "/SpiffeWorkloadAPI/FetchWITBundles",
];

/// A request written byte by byte, as no client library would.
pub(super) struct RawRequest {
    fields: Vec<(String, String)>,
}

impl RawRequest {
    pub(super) fn new(path: &str) -> Self {
        Self::with(path, "localhost", &["true"])
    }

    pub(super) fn with(path: &str, authority: &str, security: &[&str]) -> Self {
        let mut fields = vec![
            (":method", "POST"),
            (":scheme", "http"),
            (":path", path),
            (":authority", authority),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
        ];
        fields.extend(security.iter().map(|value| ("workload.spiffe.io", *value)));
        Self {
            fields: fields
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
        }
    }

    /// Preface, SETTINGS, HEADERS, and an empty message.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut block = Vec::new();
        for text in self
            .fields
            .iter()
            .flat_map(|(name, value)| [(true, name), (false, value)])
        {
            if text.0 {
                block.push(0);
            }
            block.push(text.1.len() as u8);
            block.extend_from_slice(text.1.as_bytes());
        }
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
        bytes.extend_from_slice(&[0, (block.len() >> 8) as u8, block.len() as u8, 1, 4, 0, 0, 0, 1]);
        bytes.extend_from_slice(&block);
        bytes.extend_from_slice(&[0, 0, 5, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
        bytes
    }

    pub(super) fn send(&self, mut socket: UnixStream) -> UnixStream {
        socket.write_all(&self.bytes()).unwrap();
        socket
    }
}

/// The gRPC code of the answer to a request over a real HTTP/2 client, and the length of its body.
async fn ask(rig: &Rig, path: &str, authority: &str, security: &[&str]) -> Result<(Code, usize), String> {
    let mut raw = tokio::net::UnixStream::connect(&rig.path).await.unwrap();
    raw.write_all(&RawRequest::with(path, authority, security).bytes())
        .await
        .unwrap();
    // Frames of the answer are read with h2's own decoder: replay the server's bytes to a client that has asked the same.
    let (ours, theirs) = tokio::io::duplex(1 << 20);
    let (send, connection) = h2::client::handshake(ours).await.unwrap();
    let (mut server_read, mut server_write) = raw.into_split();
    let (mut client_read, mut client_write) = tokio::io::split(theirs);
    let mut send = send.ready().await.map_err(|error| error.to_string())?;
    let request = Request::builder()
        .method("POST")
        .uri("http://h/")
        .body(())
        .unwrap();
    let (response, _) = send.send_request(request, true).unwrap();
    let answer = async {
        let response = response.await.map_err(|error| error.to_string())?;
        let code = |headers: &http::HeaderMap| {
            headers
                .get("grpc-status")
                .map(|value| Code::from_bytes(value.as_bytes()))
        };
        let found = code(response.headers());
        let mut body = response.into_body();
        let mut length = 0;
        if found.is_none() {
            // A stream stays open: its first bytes are the answer.
            match body.data().await {
                Some(Ok(data)) => length += data.len(),
                Some(Err(error)) => return Err(error.to_string()),
                None => {}
            }
        }
        let trailers = match (found, length) {
            (None, 0) => body.trailers().await.ok().flatten(),
            _ => None,
        };
        Ok((
            found
                .or_else(|| trailers.as_ref().and_then(code))
                .unwrap_or(Code::Ok),
            length,
        ))
    };
    let pump = async {
        let swallow = async {
            let mut sink = [0; 4096];
            while client_read.read(&mut sink).await.is_ok_and(|length| length > 0) {}
        };
        let forward = async {
            drop(tokio::io::copy(&mut server_read, &mut client_write).await);
            drop(client_write.shutdown().await);
        };
        tokio::join!(swallow, forward);
    };
    let answered = async {
        tokio::select! {
            answer = answer => answer,
            error = connection => Err(format!("{error:?}")),
            () = pump => Err("closed".to_owned()),
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(60), answered)
        .await
        .expect("no answer");
    drop(server_write.shutdown().await);
    outcome
}

#[tokio::test]
async fn without_exactly_the_security_header_every_method_is_refused_before_attestation() {
    let rig = Rig::start();
    for method in METHODS {
        for security in [
            &[][..],
            &["True"],
            &["TRUE"],
            &["1"],
            &[""],
            &["true", "true"],
            &["true", "false"],
        ] {
            let answer = ask(&rig, method, "localhost", security).await;
            assert_eq!(answer, Ok((Code::InvalidArgument, 0)), "{method} {security:?}");
        }
    }
    assert_eq!(rig.attestations(), 0);
    // The same requests with the header do reach the attestor.
    assert!(
        matches!(ask(&rig, METHODS[0], "localhost", &["true"]).await, Ok((Code::Ok, length)) if length > 100)
    );
    assert_eq!(rig.attestations(), 1);
    rig.stop().await;
}

#[tokio::test]
async fn wit_methods_are_unimplemented() {
    let rig = Rig::start();
    for method in &METHODS[5..] {
        assert_eq!(
            ask(&rig, method, "localhost", &["true"]).await,
            Ok((Code::Unimplemented, 0))
        );
    }
    assert_eq!(rig.attestations(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn only_exact_paths_reach_a_method() {
    let rig = Rig::start();
    for path in [
        "//SpiffeWorkloadAPI/FetchX509SVID",
        "/SpiffeWorkloadAPI/FetchX509SVID/",
        "/SpiffeWorkloadAPI/FetchX509SVID?x=1",
        "/SpiffeWorkloadAPI/%46etchX509SVID",
        "/%53piffeWorkloadAPI/FetchX509SVID",
        "/spiffeworkloadapi/FetchX509SVID",
        "/SpiffeWorkloadAPI/fetchx509svid",
        "/SpiffeWorkloadAPI/../SpiffeWorkloadAPI/FetchX509SVID",
        "/SpiffeWorkloadAPI/",
        "/landfast.agent.v1.AgentAdmin/GetStatus",
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        "/",
        "*",
    ] {
        assert_eq!(
            ask(&rig, path, "localhost", &["true"]).await,
            Ok((Code::Unimplemented, 0)),
            "{path}"
        );
    }
    // A query does not lead past the header rule either.
    let answer = ask(&rig, "/SpiffeWorkloadAPI/FetchX509SVID?x=1", "localhost", &[]).await;
    assert_eq!(answer, Ok((Code::InvalidArgument, 0)));
    assert!(
        ask(&rig, "SpiffeWorkloadAPI/FetchX509SVID", "localhost", &["true"])
            .await
            .is_err()
    );
    assert_eq!(rig.attestations(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn every_authority_is_served() {
    let rig = Rig::start();
    let path = rig.path.to_str().unwrap();
    let encoded = path.replace('/', "%2F");
    for authority in [path, &encoded, "", "localhost", "unix:/a b", "[::"] {
        let answer = ask(&rig, METHODS[0], authority, &["true"]).await;
        assert!(
            matches!(answer, Ok((Code::Ok, length)) if length > 100),
            "{authority:?}: {answer:?}"
        );
    }
    rig.stop().await;
}

#[tokio::test]
async fn http1_gets_no_byte_of_identity_and_no_attestation() {
    let rig = Rig::start();
    let path = rig.path.clone();
    let read = tokio::task::spawn_blocking(move || {
        let mut socket = UnixStream::connect(path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        socket.write_all(b"GET /SpiffeWorkloadAPI/FetchX509SVID HTTP/1.1\r\nworkload.spiffe.io: true\r\nhost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        drop(socket.read_to_end(&mut answer));
        answer
    });
    let answer = read.await.unwrap();
    assert!(
        answer.len() < 200 && !answer.windows(6).any(|window| window == b"spiffe"),
        "{answer:?}"
    );
    until("the connection has ended", || rig.gauges.connections() == 0).await;
    assert_eq!(rig.attestations(), 0);
    rig.stop().await;
}

#[tokio::test]
async fn health_follows_the_source_and_needs_no_header() {
    use tonic_health::pb::{
        HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
    };
    let rig = Rig::start();
    let path = rig.path.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move {
            tokio::net::UnixStream::connect(path)
                .await
                .map(hyper_util::rt::TokioIo::new)
        }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://localhost");
    let mut client = HealthClient::new(endpoint.connect_with_connector(connector).await.unwrap());
    for (ready, expected) in [
        (true, ServingStatus::Serving),
        (false, ServingStatus::NotServing),
        (true, ServingStatus::Serving),
    ] {
        rig.script.ready.send_replace(ready);
        for service in ["", "SpiffeWorkloadAPI"] {
            let request = HealthCheckRequest {
                service: service.to_owned(),
            };
            let mut watch = client.watch(request.clone()).await.unwrap().into_inner();
            while watch.message().await.unwrap().unwrap().status() != expected {}
            assert_eq!(
                client.check(request).await.unwrap().into_inner().status(),
                expected
            );
        }
    }
    assert_eq!(rig.attestations(), 0);
    drop(client);
    rig.stop().await;
}

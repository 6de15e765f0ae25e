//! A client that says what a test tells it to say, and nothing by itself.

use std::collections::BTreeMap;

use futures_util::stream;
use landfast_proto::envoy::{
    config::core::v3::{Node, data_source::Specifier},
    extensions::transport_sockets::tls::v3::{Secret, SpiffeCertValidatorConfig, secret::Type},
    service::{
        discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse},
        secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient,
    },
};
use landfast_proto::google::rpc;
use prost::Message as _;
use prost_types::{Any, Struct, Value, value::Kind};
use tokio::sync::mpsc;
use tonic::{Status, Streaming, transport::Channel};

use crate::tests::rig::{Rig, next};

pub(super) type Client = SecretDiscoveryServiceClient<Channel>;

pub(super) async fn connect(rig: &Rig) -> Client {
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
    SecretDiscoveryServiceClient::new(endpoint.connect_with_connector(connector).await.unwrap())
}

/// An open stream, and what was said on it last.
pub(super) struct Talk<Q, A> {
    requests: mpsc::UnboundedSender<Q>,
    answers: Streaming<A>,
}

impl<Q, A> Talk<Q, A> {
    pub(super) fn say(&self, request: Q) {
        self.requests.send(request).expect("the stream has ended");
    }

    /// The next answer, or the status that ends the stream.
    pub(super) async fn hear(&mut self) -> Result<A, Status> {
        next(&mut self.answers)
            .await
            .expect("it has ended without a status")
    }
}

fn requests<Q: Send + 'static>(
    first: Q,
) -> (
    mpsc::UnboundedSender<Q>,
    impl futures_util::Stream<Item = Q> + Send + 'static,
) {
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(first).unwrap();
    let stream = stream::unfold(receiver, async |mut receiver| {
        receiver.recv().await.map(|request| (request, receiver))
    });
    (sender, stream)
}

pub(super) type Whole = Talk<DiscoveryRequest, DiscoveryResponse>;
pub(super) type Delta = Talk<DeltaDiscoveryRequest, DeltaDiscoveryResponse>;

pub(super) async fn whole(client: &mut Client, first: DiscoveryRequest) -> Result<Whole, Status> {
    let (requests, stream) = requests(first);
    let answers = client.stream_secrets(stream).await?.into_inner();
    Ok(Talk { requests, answers })
}

pub(super) async fn delta(client: &mut Client, first: DeltaDiscoveryRequest) -> Result<Delta, Status> {
    let (requests, stream) = requests(first);
    let answers = client.delta_secrets(stream).await?.into_inner();
    Ok(Talk { requests, answers })
}

pub(super) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

pub(super) fn ask(wanted: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        resource_names: names(wanted),
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret".to_owned(),
        ..DiscoveryRequest::default()
    }
}

pub(super) fn ask_delta(wanted: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        resource_names_subscribe: names(wanted),
        ..DeltaDiscoveryRequest::default()
    }
}

/// As the client takes `answer`.
pub(super) fn ack(answer: &DiscoveryResponse, wanted: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        version_info: answer.version_info.clone(),
        response_nonce: answer.nonce.clone(),
        ..ask(wanted)
    }
}

/// As it does not.
pub(super) fn nack(answer: &DiscoveryResponse, wanted: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        response_nonce: answer.nonce.clone(),
        error_detail: Some(refusal()),
        ..ask(wanted)
    }
}

pub(super) fn refusal() -> rpc::Status {
    rpc::Status {
        code: 13,
        message: "I do not like it\n".to_owned(),
        ..rpc::Status::default()
    }
}

pub(super) fn node(key: &str, value: Kind) -> Node {
    let fields = [(key.to_owned(), Value { kind: Some(value) })];
    Node {
        metadata: Some(Struct {
            fields: fields.into_iter().collect(),
        }),
        ..Node::default()
    }
}

pub(super) fn secret(any: &Any) -> Secret {
    assert_eq!(
        any.type_url,
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    );
    Secret::decode(any.value.as_slice()).unwrap()
}

pub(super) fn named(answer: &DiscoveryResponse) -> Vec<String> {
    answer.resources.iter().map(|any| secret(any).name).collect()
}

/// Names and versions.
pub(super) fn versions(answer: &DeltaDiscoveryResponse) -> BTreeMap<String, String> {
    let resource = answer.resources.iter();
    resource
        .map(|resource| (resource.name.clone(), resource.version.clone()))
        .collect()
}

fn text(source: Option<landfast_proto::envoy::config::core::v3::DataSource>) -> String {
    match source.unwrap().specifier.unwrap() {
        Specifier::InlineBytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Chain and key, in PEM.
pub(super) fn certificate(secret: Secret) -> (String, String) {
    match secret.r#type.unwrap() {
        Type::TlsCertificate(found) => (text(found.certificate_chain), text(found.private_key)),
        other => panic!("{other:?}"),
    }
}

/// Trust domains with their authorities, as the SPIFFE validator gets them.
pub(super) fn domains(secret: Secret) -> Vec<(String, String)> {
    let Some(Type::ValidationContext(context)) = secret.r#type else {
        panic!("{secret:?}");
    };
    assert!(context.trusted_ca.is_none());
    let extension = context.custom_validator_config.unwrap();
    assert_eq!(extension.name, "envoy.tls.cert_validator.spiffe");
    let config = extension.typed_config.unwrap();
    assert_eq!(
        config.type_url,
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
    );
    let config = SpiffeCertValidatorConfig::decode(config.value.as_slice()).unwrap();
    let domains = config.trust_domains.into_iter();
    domains
        .map(|domain| (domain.name, text(domain.trust_bundle)))
        .collect()
}

/// The authorities, as an Envoy without that validator gets them.
pub(super) fn plain(secret: Secret) -> String {
    let Some(Type::ValidationContext(context)) = secret.r#type else {
        panic!("{secret:?}");
    };
    assert!(context.custom_validator_config.is_none());
    text(context.trusted_ca)
}

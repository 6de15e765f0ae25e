//! What a view has under which name, in the form that an Envoy understands.
//!
//! Invariant: nothing is offered that the view does not hold; a bundle is bound to its trust domain unless the operator or the
//! Envoy's own metadata says otherwise.

use std::{collections::BTreeMap, sync::Arc};

use landfast_identity::{Bundle, X509Svid, chain_to_pem};
use landfast_proto::envoy::{
    config::core::v3::{
        DataSource, Node, TypedExtensionConfig, data_source::Specifier, node::UserAgentVersionType,
    },
    extensions::transport_sockets::tls::v3::{
        CertificateValidationContext, Secret, SpiffeCertValidatorConfig, TlsCertificate, secret::Type,
        spiffe_cert_validator_config::TrustDomain,
    },
};
use prost::Message as _;
use prost_types::{Any, value::Kind};
use ring::digest::{Context, SHA256};

use super::Sds;
use crate::{ServedX509, WorkloadView};

/// How bundles are given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Form {
    /// With the validator that chooses by the trust domain of the peer.
    Spiffe,
    /// As certificates and nothing else.
    Plain,
}

impl Form {
    pub(super) fn of(node: Option<&Node>, sds: &Sds) -> Self {
        let own = node.and_then(metadata_switch);
        let disabled = own.unwrap_or(sds.disable_spiffe_cert_validation);
        if disabled || node.is_some_and(lacks_validator) {
            Self::Plain
        } else {
            Self::Spiffe
        }
    }
}

/// A value that is no truth value says nothing.
fn metadata_switch(node: &Node) -> Option<bool> {
    let value = node
        .metadata
        .as_ref()?
        .fields
        .get("disable_spiffe_cert_validation")?;
    match value.kind.as_ref()? {
        Kind::BoolValue(value) => Some(*value),
        Kind::StringValue(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// Envoy has the validator since 1.18.
fn lacks_validator(node: &Node) -> bool {
    let Some(UserAgentVersionType::UserAgentBuildVersion(build)) = &node.user_agent_version_type else {
        return false;
    };
    let version = build.version.as_ref();
    version.is_some_and(|version| (version.major_number, version.minor_number) < (1, 18))
}

/// A secret under the name that it was asked by.
pub(super) struct Named {
    pub(super) name: String,
    pub(super) version: Version,
    content: Content,
}

/// A digest of a secret, or of the versions of several: the same whenever the content is the same.
pub(super) type Version = String;

enum Content {
    /// Written out only when it is sent: what a key is copied to is not wiped.
    Certificate(ServedX509),
    Validation(CertificateValidationContext),
}

impl Named {
    fn new(name: &str, content: Content) -> Self {
        let bytes = match &content {
            // A chain tells its key: a digest of the key itself need not go into the logs of Envoys.
            Content::Certificate(served) => served.svid.chain_der_concat(),
            Content::Validation(context) => context.encode_to_vec(),
        };
        Self {
            name: name.to_owned(),
            version: digest([name.as_bytes(), &bytes]),
            content,
        }
    }

    /// The SVID, if it is one.
    pub(super) fn svid(&self) -> Option<&ServedX509> {
        match &self.content {
            Content::Certificate(served) => Some(served),
            Content::Validation(_) => None,
        }
    }

    pub(super) fn into_any(self) -> Any {
        let content = match self.content {
            Content::Certificate(served) => Type::TlsCertificate(certificate(&served.svid)),
            Content::Validation(context) => Type::ValidationContext(context),
        };
        let secret = Secret {
            name: self.name,
            r#type: Some(content),
        };
        any(TYPE_URL, &secret)
    }
}

/// What there is under a name.
pub(super) enum Found {
    Secret(Box<Named>),
    /// It is the caller's, and not at hand: it follows.
    Later,
    /// It is not the caller's.
    Nothing,
}

/// A view, to be asked by name.
pub(super) struct Offer<'a> {
    sds: &'a Sds,
    view: &'a WorkloadView,
    form: Form,
    /// By the ID of their trust domains, hence sorted.
    bundles: BTreeMap<String, &'a Arc<Bundle>>,
}

impl<'a> Offer<'a> {
    pub(super) fn new(sds: &'a Sds, view: &'a WorkloadView, form: Form) -> Self {
        #[cfg(test)]
        MADE.set(MADE.get() + 1);
        let federated = view.federated.iter();
        // Our own bundle last: it stands where another claims its name.
        let bundles = federated.chain([&view.own_bundle]);
        let bundles = bundles.map(|bundle| (bundle.trust_domain().id_string(), bundle));
        Self {
            sds,
            view,
            form,
            bundles: bundles.collect(),
        }
    }

    /// Whether `name` cannot be had in this form, whoever asks.
    pub(super) fn is_impossible(&self, name: &str) -> bool {
        self.form == Form::Plain && name == self.sds.default_all_bundles_name
    }

    /// The names of all that the caller may have, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let ids = self.view.x509.iter().map(|served| served.svid.id());
        let ids = ids.chain(self.view.jwt_identities.iter().map(|identity| &identity.id));
        let mut names: Vec<String> = ids.map(ToString::to_string).collect();
        names.extend(self.bundles.keys().cloned());
        names.sort();
        names.dedup();
        names
    }

    pub(super) fn find(&self, name: &str) -> Found {
        let own = self.view.own_bundle.trust_domain().id_string();
        if name == self.sds.default_svid_name {
            return self.svid(name, |served| served.told, |_any| true);
        }
        if name == self.sds.default_all_bundles_name {
            return self.validation(name, self.bundles.values().copied());
        }
        let domain = if name == self.sds.default_bundle_name {
            &own
        } else {
            name
        };
        match self.bundles.get(domain) {
            Some(bundle) => self.validation(name, std::iter::once(*bundle)),
            None => self.svid(name, |served| served.svid.id().as_str() == name, |id| id == name),
        }
    }

    fn svid(&self, name: &str, fits: impl Fn(&ServedX509) -> bool, follows: impl Fn(&str) -> bool) -> Found {
        let view = self.view;
        let served = view.x509.iter().find(|served| fits(served));
        // Until the first round is over a part of the SVIDs would make a later one the default.
        let complete = view.state.is_served(crate::source::Wanted::X509Svids);
        match served.filter(|_| complete) {
            Some(served) => Found::Secret(Box::new(Named::new(name, Content::Certificate(served.clone())))),
            None if view
                .jwt_identities
                .iter()
                .any(|identity| follows(identity.id.as_str())) =>
            {
                Found::Later
            }
            None => Found::Nothing,
        }
    }

    fn validation<'b>(&self, name: &str, bundles: impl Iterator<Item = &'b Arc<Bundle>>) -> Found {
        // One without authorities verifies nobody, and Envoy refuses it.
        let domains = bundles.filter(|bundle| !bundle.x509_authorities().is_empty());
        let domains: Vec<TrustDomain> = domains
            .map(|bundle| TrustDomain {
                name: bundle.trust_domain().to_string(),
                trust_bundle: Some(data(bundle.to_pem().into_bytes())),
            })
            .collect();
        if domains.is_empty() {
            return Found::Later;
        }
        let context = match self.form {
            Form::Spiffe => CertificateValidationContext {
                trusted_ca: None,
                custom_validator_config: Some(TypedExtensionConfig {
                    name: VALIDATOR.to_owned(),
                    typed_config: Some(any(
                        VALIDATOR_URL,
                        &SpiffeCertValidatorConfig {
                            trust_domains: domains,
                        },
                    )),
                }),
            },
            // One bundle: `is_impossible` keeps all of them from being mixed, so that none can certify another's names.
            Form::Plain => CertificateValidationContext {
                trusted_ca: domains.into_iter().next().and_then(|domain| domain.trust_bundle),
                custom_validator_config: None,
            },
        };
        Found::Secret(Box::new(Named::new(name, Content::Validation(context))))
    }
}

/// Whether nothing is asked for that has a key.
pub(super) fn are_bundles(names: &[String], sds: &Sds) -> bool {
    let bundle = |name: &String| {
        *name == sds.default_bundle_name
            || *name == sds.default_all_bundles_name
            || name
                .strip_prefix("spiffe://")
                .is_some_and(|rest| !rest.contains('/'))
    };
    let mut names = names.iter().filter(|name| !name.is_empty()).peekable();
    names.peek().is_some() && names.all(bundle)
}

fn certificate(svid: &X509Svid) -> TlsCertificate {
    TlsCertificate {
        certificate_chain: Some(data(chain_to_pem(svid.chain()).into_bytes())),
        private_key: Some(data(svid.key().to_pem().as_bytes().to_vec())),
    }
}

fn data(bytes: Vec<u8>) -> DataSource {
    DataSource {
        specifier: Some(Specifier::InlineBytes(bytes.into())),
    }
}

fn any(type_url: &str, message: &impl prost::Message) -> Any {
    Any {
        type_url: type_url.to_owned(),
        value: message.encode_to_vec(),
    }
}

/// Of parts, each with its length before it, so that no two lists give the same bytes.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Version {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let digest = context.finish();
    digest.as_ref()[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

#[cfg(test)]
thread_local! {
    static MADE: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How many offers were made on this thread.
#[cfg(test)]
pub(crate) fn made() -> usize {
    MADE.get()
}

pub(super) const TYPE_URL: &str = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";
const VALIDATOR: &str = "envoy.tls.cert_validator.spiffe";
const VALIDATOR_URL: &str =
    "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig";

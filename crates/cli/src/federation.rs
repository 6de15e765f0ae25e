//! `landfast federation`.

use std::path::{Path, PathBuf};

use crate::connect::Channel;
use clap::{Args, Subcommand, ValueEnum};
use landfast_daemon::error_chain;
use landfast_identity::{Bundle, SpiffeId, TrustDomain};
use landfast_proto::spire::api::server::trustdomain::v1 as api;
use landfast_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use landfast_proto::spire::api::types::federation_relationship::BundleEndpointProfile as Wire;
use landfast_proto::spire::api::types::{
    FederationRelationship, FederationRelationshipMask, HttpsWebProfile, HttpsspiffeProfile,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, inspect, output, wire};

#[derive(Subcommand, Debug)]
pub(crate) enum FederationCommand {
    /// Fetch another trust domain's bundle from now on [server].
    Create {
        /// Whose bundle it is.
        #[arg(long)]
        trust_domain: TrustDomain,
        /// Where it is published, beginning with https://
        #[arg(long)]
        url: String,
        #[command(flatten)]
        how: How,
    },
    /// Change where a bundle is fetched and how the place is verified; what is not given stays [server].
    Update {
        /// Whose bundle it is.
        trust_domain: TrustDomain,
        /// Where it is published, beginning with https://
        #[arg(long)]
        url: Option<String>,
        #[command(flatten)]
        how: How,
    },
    /// Fetch a bundle no more; the one we have stays [server].
    Delete {
        /// Whose.
        trust_domain: TrustDomain,
    },
    /// Whose bundles are fetched [server].
    List,
    /// One relationship [server].
    Show {
        /// With whom.
        trust_domain: TrustDomain,
    },
    /// Fetch a bundle now, and wait until it is stored [server].
    Refresh {
        /// Whose.
        trust_domain: TrustDomain,
    },
}

/// How the place proves what it is.
#[derive(Args, Debug)]
pub(crate) struct How {
    /// By a certificate for its host name, or by a SPIFFE ID.
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// With --profile https-spiffe: whose X509-SVID the place shows.
    #[arg(long, value_name = "ID", required_if_eq("profile", "https-spiffe"))]
    endpoint_spiffe_id: Option<SpiffeId>,
    /// The bundle to begin with: PEM certificates or a SPIFFE bundle document; `-` for standard input. https-spiffe needs one, once.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Profile {
    /// The Web PKI.
    HttpsWeb,
    /// An X509-SVID.
    HttpsSpiffe,
}

pub(crate) async fn run(command: FederationCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        FederationCommand::Create {
            trust_domain,
            url,
            how,
        } => create(&trust_domain, url, &how, globals).await,
        FederationCommand::Update {
            trust_domain,
            url,
            how,
        } => update(&trust_domain, url, &how, globals).await,
        FederationCommand::Delete { trust_domain } => delete(&trust_domain, globals).await,
        FederationCommand::List => list(globals).await,
        FederationCommand::Show { trust_domain } => show(&trust_domain, globals).await,
        FederationCommand::Refresh { trust_domain } => refresh(&trust_domain, globals).await,
    }
}

async fn client(globals: &Globals) -> Result<TrustDomainClient<Channel>, Failure> {
    Ok(TrustDomainClient::new(connect::server(globals).await?))
}

async fn create(
    trust_domain: &TrustDomain,
    url: String,
    how: &How,
    globals: &Globals,
) -> Result<(), Failure> {
    let profile = how.wire()?.ok_or_else(|| {
        Failure::usage(
            "--profile is missing",
            "https-web for a place with a public or plant certificate, https-spiffe for one with an X509-SVID",
        )
    })?;
    let relationship = message(
        trust_domain,
        url,
        Some(profile),
        how.bundle(trust_domain)?.as_ref(),
    );
    let request = api::BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![relationship],
        output_mask: None,
    };
    let answer = connect::call(
        SERVER,
        client(globals)
            .await?
            .batch_create_federation_relationship(request),
    )
    .await?;
    let made = answer.results.into_iter().next();
    wire::outcome(made.as_ref().and_then(|made| made.status.as_ref()))?;
    tell(made.and_then(|made| made.federation_relationship), globals)
}

async fn update(
    trust_domain: &TrustDomain,
    url: Option<String>,
    how: &How,
    globals: &Globals,
) -> Result<(), Failure> {
    let (profile, bundle) = (how.wire()?, how.bundle(trust_domain)?);
    let mask = FederationRelationshipMask {
        bundle_endpoint_url: url.is_some(),
        bundle_endpoint_profile: profile.is_some(),
        trust_domain_bundle: bundle.is_some(),
    };
    if mask == FederationRelationshipMask::default() {
        return Err(Failure::usage(
            "nothing to change is given",
            "--url, --profile or --bundle",
        ));
    }
    let relationship = message(trust_domain, url.unwrap_or_default(), profile, bundle.as_ref());
    let request = api::BatchUpdateFederationRelationshipRequest {
        federation_relationships: vec![relationship],
        input_mask: Some(mask),
        output_mask: None,
    };
    let answer = connect::call(
        SERVER,
        client(globals)
            .await?
            .batch_update_federation_relationship(request),
    )
    .await?;
    let made = answer.results.into_iter().next();
    outcome(made.as_ref().and_then(|made| made.status.as_ref()))?;
    tell(made.and_then(|made| made.federation_relationship), globals)
}

async fn delete(trust_domain: &TrustDomain, globals: &Globals) -> Result<(), Failure> {
    let request = api::BatchDeleteFederationRelationshipRequest {
        trust_domains: vec![trust_domain.to_string()],
    };
    let answer = connect::call(
        SERVER,
        client(globals)
            .await?
            .batch_delete_federation_relationship(request),
    )
    .await?;
    outcome(answer.results.first().and_then(|result| result.status.as_ref()))?;
    done(globals, "deleted", trust_domain)
}

/// What the server's configuration names is federated with as well.
fn with_configured<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    let yes = tonic::metadata::MetadataValue::from_static("true");
    request
        .metadata_mut()
        .insert(landfast_proto::WITH_CONFIGURED, yes);
    request
}

async fn list(globals: &Globals) -> Result<(), Failure> {
    let mut client = client(globals).await?;
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = api::ListFederationRelationshipsRequest {
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let answer = connect::call(
            SERVER,
            client.list_federation_relationships(with_configured(request)),
        )
        .await?;
        all.extend(answer.federation_relationships);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if globals.json() {
        return output::print_json(&Value::Array(all.iter().map(shown_json).collect()));
    }
    let rows = all.iter().map(|relationship| {
        vec![
            relationship.trust_domain.clone(),
            profile_words(relationship).0.to_owned(),
            relationship.bundle_endpoint_url.clone(),
            sequence(relationship).map_or_else(|| "none yet".to_owned(), |sequence| sequence.to_string()),
        ]
    });
    output::print(&output::table(
        &["TRUST DOMAIN", "PROFILE", "URL", "SEQUENCE"],
        rows,
    ))
}

async fn show(trust_domain: &TrustDomain, globals: &Globals) -> Result<(), Failure> {
    let request = api::GetFederationRelationshipRequest {
        trust_domain: trust_domain.to_string(),
        output_mask: None,
    };
    let found = connect::call(
        SERVER,
        client(globals)
            .await?
            .get_federation_relationship(with_configured(request)),
    )
    .await?;
    tell(Some(found), globals)
}

async fn refresh(trust_domain: &TrustDomain, globals: &Globals) -> Result<(), Failure> {
    let request = api::RefreshBundleRequest {
        trust_domain: trust_domain.to_string(),
    };
    let mut client = client(globals).await?;
    let answered = connect::answer(client.refresh_bundle(request)).await;
    answered.map_err(|status| match status.code() {
        Code::Unavailable => Failure::not_ready(
            format!("{SERVER}: {}", status.message()),
            "the bundle we had stays; the server asks again by itself, and its log says more",
        ),
        _ => Failure::status(SERVER, &status),
    })?;
    done(globals, "refreshed", trust_domain)
}

impl How {
    fn wire(&self) -> Result<Option<Wire>, Failure> {
        match (self.profile, &self.endpoint_spiffe_id) {
            (Some(Profile::HttpsSpiffe), Some(id)) => Ok(Some(Wire::HttpsSpiffe(HttpsspiffeProfile {
                endpoint_spiffe_id: id.to_string(),
            }))),
            (Some(Profile::HttpsWeb), None) => Ok(Some(Wire::HttpsWeb(HttpsWebProfile {}))),
            (None, None) => Ok(None),
            _ => Err(Failure::usage(
                "--endpoint-spiffe-id goes with --profile https-spiffe, and only with it",
                "give both, or --profile https-web alone",
            )),
        }
    }

    fn bundle(&self, trust_domain: &TrustDomain) -> Result<Option<Bundle>, Failure> {
        self.bundle
            .as_deref()
            .map(|file| read_bundle(trust_domain, file))
            .transpose()
    }
}

fn read_bundle(trust_domain: &TrustDomain, file: &Path) -> Result<Bundle, Failure> {
    let text = inspect::read_text(file)?;
    let bundle = match text.trim_start().starts_with('{') {
        true => Bundle::from_jwks(trust_domain.clone(), text.as_bytes()),
        false => Bundle::from_pem(trust_domain.clone(), &text),
    };
    bundle.map_err(|error| {
        Failure::failed(
            format!("{}: {}", file.display(), error_chain(&error)),
            "PEM certificates or a SPIFFE bundle document is wanted",
        )
    })
}

fn message(
    trust_domain: &TrustDomain,
    url: String,
    profile: Option<Wire>,
    bundle: Option<&Bundle>,
) -> FederationRelationship {
    FederationRelationship {
        trust_domain: trust_domain.to_string(),
        bundle_endpoint_url: url,
        bundle_endpoint_profile: profile,
        trust_domain_bundle: bundle.map(wire::bundle_message),
    }
}

/// As [`wire::outcome`]; what the configuration file holds is changed there.
fn outcome(status: Option<&landfast_proto::spire::api::types::Status>) -> Result<(), Failure> {
    match status {
        Some(status) if Code::from_i32(status.code) == Code::FailedPrecondition => Err(Failure::failed(
            format!("{SERVER}: {}", status.message),
            "edit its [[federation]] table in server.toml and restart the server",
        )),
        other => wire::outcome(other),
    }
}

fn tell(made: Option<FederationRelationship>, globals: &Globals) -> Result<(), Failure> {
    let made =
        made.ok_or_else(|| Failure::answer(SERVER, Code::Internal, "its answer has no relationship"))?;
    if globals.json() {
        return output::print_json(&shown_json(&made));
    }
    let (profile, endpoint_id) = profile_words(&made);
    let mut rows = vec![
        ("trust domain", made.trust_domain.clone()),
        ("url", made.bundle_endpoint_url.clone()),
        ("profile", profile.to_owned()),
    ];
    if let Some(id) = endpoint_id {
        rows.push(("endpoint ID", id.to_owned()));
    }
    let bundle = sequence(&made).map_or_else(
        || "none yet".to_owned(),
        |sequence| format!("sequence {sequence}"),
    );
    rows.push(("bundle", bundle));
    output::print(&output::facts(&rows))
}

fn shown_json(made: &FederationRelationship) -> Value {
    let (profile, endpoint_id) = profile_words(made);
    json!({
        "trust_domain": made.trust_domain, "url": made.bundle_endpoint_url, "profile": profile,
        "endpoint_spiffe_id": endpoint_id, "sequence": sequence(made),
    })
}

fn profile_words(made: &FederationRelationship) -> (&'static str, Option<&str>) {
    match &made.bundle_endpoint_profile {
        Some(Wire::HttpsSpiffe(profile)) => ("https_spiffe", Some(&profile.endpoint_spiffe_id)),
        Some(Wire::HttpsWeb(_)) => ("https_web", None),
        None => ("unknown", None),
    }
}

fn sequence(made: &FederationRelationship) -> Option<u64> {
    made.trust_domain_bundle
        .as_ref()
        .map(|bundle| bundle.sequence_number)
}

fn done(globals: &Globals, what: &str, trust_domain: &TrustDomain) -> Result<(), Failure> {
    if globals.json() {
        return output::print_json(&json!({"trust_domain": trust_domain.as_str(), "done": what}));
    }
    output::print(&format!("{what}: {trust_domain}"))
}

const PAGE: i32 = 100;

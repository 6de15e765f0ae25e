//! `landfast bundle`.

mod publish;

use std::path::PathBuf;

use crate::connect::Channel;
use clap::{Subcommand, ValueEnum};
use landfast_daemon::error_chain;
use landfast_identity::{Bundle, TrustDomain};
use landfast_proto::spire::api::server::bundle::v1 as api;
use landfast_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use serde_json::{Value, json};

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, inspect, output, wire};

#[derive(Subcommand, Debug)]
pub(crate) enum BundleCommand {
    /// Our trust domain's bundle, or a federated one's [server].
    Show {
        /// A federated trust domain.
        #[arg(long)]
        trust_domain: Option<TrustDomain>,
        /// As PEM certificates, or as a SPIFFE bundle document with the JWT and WIT keys (also chosen by --output json).
        #[arg(long, value_enum, default_value = "pem")]
        format: BundleFormat,
    },
    /// Our trust domain's bundle, or a federated one's, into a file for others [server].
    Publish(publish::PublishArgs),
    /// Trust a federated trust domain's bundle, in place of the one we had [server].
    Set {
        /// Whose bundle it is.
        #[arg(long)]
        trust_domain: TrustDomain,
        /// PEM certificates or a SPIFFE bundle document; `-` for standard input.
        file: PathBuf,
    },
    /// Federated trust domains [server].
    List,
    /// Trust a federated trust domain no more [server].
    Delete {
        /// Which.
        trust_domain: TrustDomain,
        /// What becomes of entries that federate with it.
        #[arg(long, value_enum, default_value = "restrict")]
        mode: DeleteMode,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum BundleFormat {
    /// Certificates.
    Pem,
    /// The SPIFFE bundle document.
    Jwks,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum DeleteMode {
    /// Refuse while there are any.
    Restrict,
    /// They are deleted.
    Delete,
    /// They lose the federation.
    Dissociate,
}

pub(crate) async fn run(command: BundleCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        BundleCommand::Show { trust_domain, format } => show(trust_domain.as_ref(), format, globals).await,
        BundleCommand::Publish(args) => publish::run(args, globals).await,
        BundleCommand::Set { trust_domain, file } => set(trust_domain, &file, globals).await,
        BundleCommand::List => list(globals).await,
        BundleCommand::Delete { trust_domain, mode } => delete(&trust_domain, mode, globals).await,
    }
}

async fn client(globals: &Globals) -> Result<BundleClient<Channel>, Failure> {
    Ok(BundleClient::new(connect::server(globals).await?))
}

async fn show(
    trust_domain: Option<&TrustDomain>,
    format: BundleFormat,
    globals: &Globals,
) -> Result<(), Failure> {
    let bundle = fetch(trust_domain, globals).await?;
    if globals.json() || format == BundleFormat::Jwks {
        return output::print(&bundle.to_jwks());
    }
    output::print(&bundle.to_pem())
}

async fn fetch(trust_domain: Option<&TrustDomain>, globals: &Globals) -> Result<Bundle, Failure> {
    let mut client = client(globals).await?;
    let message = match trust_domain {
        None => {
            connect::call(
                SERVER,
                client.get_bundle(api::GetBundleRequest { output_mask: None }),
            )
            .await?
        }
        Some(trust_domain) => {
            let request = api::GetFederatedBundleRequest {
                trust_domain: trust_domain.to_string(),
                output_mask: None,
            };
            connect::call(SERVER, client.get_federated_bundle(request)).await?
        }
    };
    wire::bundle(&message)
}

async fn set(trust_domain: TrustDomain, file: &std::path::Path, globals: &Globals) -> Result<(), Failure> {
    let text = inspect::read_text(file)?;
    let document = text.trim_start().starts_with('{');
    let bundle = if document {
        Bundle::from_jwks(trust_domain.clone(), text.as_bytes())
    } else {
        Bundle::from_pem(trust_domain.clone(), &text)
    };
    let bundle = bundle.map_err(|error| {
        Failure::failed(
            format!("{}: {}", file.display(), error_chain(&error)),
            "PEM certificates or a SPIFFE bundle document is wanted",
        )
    })?;
    let request = api::BatchSetFederatedBundleRequest {
        bundle: vec![wire::bundle_message(&bundle)],
        output_mask: None,
    };
    let answer = connect::call(SERVER, client(globals).await?.batch_set_federated_bundle(request)).await?;
    let result = answer.results.into_iter().next();
    wire::outcome(result.as_ref().and_then(|result| result.status.as_ref()))?;
    done(globals, "set", &trust_domain)
}

async fn list(globals: &Globals) -> Result<(), Failure> {
    let mut client = client(globals).await?;
    let (mut bundles, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = api::ListFederatedBundlesRequest {
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let answer = connect::call(SERVER, client.list_federated_bundles(request)).await?;
        bundles.extend(answer.bundles);
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if globals.json() {
        let each = bundles.iter().map(|bundle| {
            json!({
                "trust_domain": bundle.trust_domain, "x509_authorities": bundle.x509_authorities.len(),
                "jwt_authorities": bundle.jwt_authorities.len(), "sequence": bundle.sequence_number,
            })
        });
        return output::print_json(&Value::Array(each.collect()));
    }
    let rows = bundles.iter().map(|bundle| {
        vec![
            bundle.trust_domain.clone(),
            bundle.x509_authorities.len().to_string(),
            bundle.jwt_authorities.len().to_string(),
            bundle.sequence_number.to_string(),
        ]
    });
    output::print(&output::table(
        &["TRUST DOMAIN", "X.509 AUTHORITIES", "JWT KEYS", "SEQUENCE"],
        rows,
    ))
}

async fn delete(trust_domain: &TrustDomain, mode: DeleteMode, globals: &Globals) -> Result<(), Failure> {
    use api::batch_delete_federated_bundle_request::Mode;
    let mode = match mode {
        DeleteMode::Restrict => Mode::Restrict,
        DeleteMode::Delete => Mode::Delete,
        DeleteMode::Dissociate => Mode::Dissociate,
    };
    let request = api::BatchDeleteFederatedBundleRequest {
        trust_domains: vec![trust_domain.to_string()],
        mode: mode.into(),
    };
    let answer = connect::call(
        SERVER,
        client(globals).await?.batch_delete_federated_bundle(request),
    )
    .await?;
    wire::outcome(answer.results.first().and_then(|result| result.status.as_ref()))?;
    done(globals, "deleted", trust_domain)
}

fn done(globals: &Globals, what: &str, trust_domain: &TrustDomain) -> Result<(), Failure> {
    if globals.json() {
        return output::print_json(&json!({"trust_domain": trust_domain.as_str(), "done": what}));
    }
    output::print(&format!("{what}: {trust_domain}"))
}

const PAGE: i32 = 100;

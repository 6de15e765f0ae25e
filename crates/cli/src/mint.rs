//! `landfast mint`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use landfast_daemon::error_chain;
use landfast_identity::{Bundle, Certificate, KeyType, PrivateKey, SpiffeId, X509Svid, build_csr};
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use landfast_proto::spire::api::server::svid::v1::{
    MintJwtsvidRequest, MintX509svidRequest, svid_client::SvidClient,
};
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output, svid_files, wire};

#[derive(Subcommand, Debug)]
pub(crate) enum MintCommand {
    /// An X509-SVID with a key made here [server].
    X509 {
        /// Whose.
        #[arg(long)]
        spiffe_id: SpiffeId,
        /// A DNS name for the certificate; can be repeated.
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// How long it is valid; the server's default when not given.
        #[arg(long, value_parser = wire::duration)]
        ttl: Option<Duration>,
        /// Kind of the key: ec-p256 or ec-p384.
        #[arg(long, value_name = "KIND", default_value_t)]
        key_type: KeyType,
        /// Write svid.pem, key.pem and bundle.pem here. Without it everything is printed, the key too.
        #[arg(long, value_name = "DIR")]
        write: Option<PathBuf>,
    },
    /// A WIT-SVID, where the server issues them (incubating) [server].
    Wit(crate::mint_wit::MintWit),
    /// A JWT-SVID [server].
    Jwt {
        /// Whose.
        #[arg(long)]
        spiffe_id: SpiffeId,
        /// Whom it is meant for; can be repeated.
        #[arg(long, required = true)]
        audience: Vec<String>,
        /// How long it is valid; the server's default when not given.
        #[arg(long, value_parser = wire::duration)]
        ttl: Option<Duration>,
    },
}

pub(crate) async fn run(command: MintCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        MintCommand::X509 {
            spiffe_id,
            dns,
            ttl,
            key_type,
            write,
        } => {
            let (svid, bundle) = mint(&spiffe_id, &dns, ttl, key_type, globals).await?;
            if let Some(dir) = write {
                svid_files::write_x509(&dir, &svid, &bundle)?;
                if globals.json() {
                    return output::print_json(&json!({
                        "spiffe_id": svid.id().as_str(), "not_after": svid.not_after().to_string(),
                        "written_to": dir.display().to_string(),
                    }));
                }
                return output::print(&format!("{}: written to {}", svid.id(), dir.display()));
            }
            let chain = landfast_identity::chain_to_pem(svid.chain());
            if globals.json() {
                return output::print_json(&json!({
                    "spiffe_id": svid.id().as_str(), "not_after": svid.not_after().to_string(), "svid": chain,
                    "key": svid.key().to_pem().as_str(), "bundle": bundle.to_pem(),
                }));
            }
            output::print(&format!(
                "{chain}{}{}",
                svid.key().to_pem().as_str(),
                bundle.to_pem()
            ))
        }
        MintCommand::Wit(args) => crate::mint_wit::run(args, globals).await,
        MintCommand::Jwt {
            spiffe_id,
            audience,
            ttl,
        } => {
            let request = MintJwtsvidRequest {
                id: Some(wire::id(&spiffe_id)),
                audience,
                ttl: wire::seconds(ttl),
            };
            let channel = connect::server(globals).await?;
            let answer =
                connect::call(SERVER, SvidClient::new(channel.clone()).mint_jwtsvid(request)).await?;
            let svid = answer.svid.ok_or_else(empty)?;
            if globals.json() {
                let expires = output::time_json(svid.expires_at);
                return output::print_json(
                    &json!({"spiffe_id": spiffe_id.as_str(), "token": svid.token, "expires_at": expires}),
                );
            }
            output::print(&svid.token)
        }
    }
}

async fn mint(
    id: &SpiffeId,
    dns: &[String],
    ttl: Option<Duration>,
    key_type: KeyType,
    globals: &Globals,
) -> Result<(X509Svid, Bundle), Failure> {
    let failed = |error: &dyn std::error::Error| {
        Failure::failed(error_chain(error), "correct the ID or the DNS names and repeat")
    };
    let key = PrivateKey::generate_as(key_type).map_err(|error| failed(&error))?;
    let csr = build_csr(&key, Some(id), dns).map_err(|error| failed(&error))?;
    let channel = connect::server(globals).await?;
    let svid = signed(key, csr, ttl, channel.clone()).await?;
    let bundle = connect::call(
        SERVER,
        BundleClient::new(channel.clone()).get_bundle(GetBundleRequest { output_mask: None }),
    )
    .await?;
    Ok((svid, wire::bundle(&bundle)?))
}

/// With a key made here, for who has a connection.
pub(crate) async fn svid(
    id: &SpiffeId,
    ttl: Option<Duration>,
    channel: connect::Channel,
) -> Result<X509Svid, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::failed(error_chain(error), "please report this");
    let key = PrivateKey::generate().map_err(|error| failed(&error))?;
    let csr = build_csr(&key, Some(id), &[]).map_err(|error| failed(&error))?;
    signed(key, csr, ttl, channel).await
}

async fn signed(
    key: PrivateKey,
    csr: Vec<u8>,
    ttl: Option<Duration>,
    channel: connect::Channel,
) -> Result<X509Svid, Failure> {
    let request = MintX509svidRequest {
        csr: csr.into(),
        ttl: wire::seconds(ttl),
    };
    let answer = connect::call(SERVER, SvidClient::new(channel).mint_x509svid(request)).await?;
    let chain = answer.svid.ok_or_else(empty)?.cert_chain;
    let unusable = |error: &dyn std::error::Error| {
        Failure::failed(
            format!("the server's answer cannot be used: {}", error_chain(error)),
            "its log says more",
        )
    };
    let chain = chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<Vec<_>, _>>();
    X509Svid::new(chain.map_err(|error| unusable(&error))?, key).map_err(|error| unusable(&error))
}

pub(crate) fn empty() -> Failure {
    Failure::failed("the server's answer holds no SVID", "its log says more")
}

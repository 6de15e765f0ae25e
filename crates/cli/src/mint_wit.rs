//! `landfast mint wit`. It has no audience: a WIT-SVID is shown to anybody, together with a proof that its key is held (WIT-SVID §3.8, §5).

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use landfast_daemon::error_chain;
use landfast_identity::{KeyType, PrivateKey, SpiffeId, wit};
use landfast_proto::spire::api::server::svid::v1::{MintWitsvidRequest, svid_client::SvidClient};
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::mint::empty;
use crate::{connect, inspect, output, svid_files, wire};

#[derive(Args, Debug)]
pub(crate) struct MintWit {
    /// Whose.
    #[arg(long)]
    spiffe_id: SpiffeId,
    /// How long it is valid; the server's default when not given.
    #[arg(long, value_parser = wire::duration)]
    ttl: Option<Duration>,
    /// Bind it to this key, PKCS#8 PEM, in place of a new one.
    #[arg(long, value_name = "FILE", conflicts_with = "key_type")]
    key: Option<PathBuf>,
    /// Kind of the key that is made: ec-p256 or ec-p384.
    #[arg(long, value_name = "KIND", default_value_t)]
    key_type: KeyType,
    /// Write wit.token and wit.jwk (the private key) here. Without it both are printed.
    #[arg(long, value_name = "DIR")]
    write: Option<PathBuf>,
}

pub(crate) async fn run(args: MintWit, globals: &Globals) -> Result<(), Failure> {
    let key = match &args.key {
        Some(file) => PrivateKey::from_pem(&inspect::read_text(file)?).map_err(|error| {
            let message = format!("{}: {}", file.display(), error_chain(&error));
            Failure::failed(message, "an EC key in PKCS#8 PEM is wanted")
        })?,
        None => PrivateKey::generate_as(args.key_type).map_err(|error| no_key(&error))?,
    };
    let public = key.public_key();
    let algorithm = wit::algorithms(&public).first().copied().unwrap_or_default();
    let request = MintWitsvidRequest {
        id: Some(wire::id(&args.spiffe_id)),
        public_key: public.spki_der().to_vec().into(),
        ttl: wire::seconds(args.ttl),
        signing_algorithm: algorithm.to_owned(),
    };
    let mut client = SvidClient::new(connect::server(globals).await?);
    let answer = connect::call(SERVER, client.mint_witsvid(request)).await?;
    let svid = answer.svid.ok_or_else(empty)?;
    let parsed = wit::parse_unverified(&svid.token).ok();
    if parsed.is_none_or(|parsed| *parsed.confirmation_key() != public || *parsed.id() != args.spiffe_id) {
        let message = "the server's answer cannot be used: its token is not the one that was asked for";
        return Err(Failure::failed(message, "its log says more"));
    }
    let jwk = key.to_private_jwk().map_err(|error| no_key(&error))?;
    let expires = output::time_json(svid.expires_at);
    let id = args.spiffe_id.as_str();
    if let Some(dir) = &args.write {
        svid_files::write_wit(dir, &svid.token, &jwk)?;
        let written_to = dir.display().to_string();
        if globals.json() {
            return output::print_json(
                &json!({"spiffe_id": id, "expires_at": expires, "written_to": written_to}),
            );
        }
        return output::print(&format!("{id}: written to {written_to}"));
    }
    if globals.json() {
        return output::print_json(
            &json!({"spiffe_id": id, "token": svid.token, "key": jwk.as_str(), "expires_at": expires}),
        );
    }
    output::print(&format!("{}\n{}", svid.token, jwk.as_str()))
}

fn no_key(error: &landfast_identity::KeyError) -> Failure {
    Failure::failed(error_chain(error), "try again, or give a key with --key")
}

//! `landfast login`: from this machine to a server elsewhere, as the person whose SSH key this is, or whom an OIDC provider names.
//!
//! Invariant: nothing is signed but for the trust domain whose bundle verified the server, for a key that was made here and now; what is written is
//! mode 0600.

mod https;
mod oidc;
mod ssh;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::{
    Bundle, Certificate, LoginProof, PrivateKey, TrustDomain, X509Svid, build_csr, parse_chain_pem,
};
use landfast_proto::landfast::login::v1::{self as pb, finish_request::Proof, login_client::LoginClient};
use landfast_proto::spire::api::server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient};
use serde_json::json;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output, svid_files, wire};
use ssh::Signer;

#[derive(clap::Args, Debug)]
pub(crate) struct LoginArgs {
    /// The trust bundle that the server is verified by, PEM or a bundle document, as somebody you trust has given it to you. Needed the first time.
    #[arg(long, value_name = "FILE")]
    bundle: Option<PathBuf>,
    /// The trust domain, where the bundle does not say it.
    #[arg(long, value_name = "NAME")]
    trust_domain: Option<TrustDomain>,
    /// A private key of OpenSSH without passphrase; or a public one (FILE.pub), whose other half the SSH agent has. Default: the one that the agent has.
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// The socket of the SSH agent.
    #[arg(long, value_name = "PATH", env = "SSH_AUTH_SOCK")]
    ssh_agent: Option<PathBuf>,
    /// At an OIDC provider, with a browser on this machine, in place of an SSH key.
    #[arg(long, conflicts_with = "ssh_key")]
    oidc: bool,
    /// Which provider, where the server knows several.
    #[arg(long, value_name = "URL", requires = "oidc")]
    oidc_issuer: Option<String>,
    /// The authorities of the provider's certificate, in PEM. Default: the system's.
    #[arg(long, value_name = "FILE", requires = "oidc")]
    oidc_roots: Option<PathBuf>,
    /// For how long, as in 30m or 8h. Default: as the server has it, an hour.
    #[arg(long, value_name = "DURATION", value_parser = wire::duration)]
    ttl: Option<Duration>,
}

pub(crate) async fn run(args: LoginArgs, globals: &Globals) -> Result<(), Failure> {
    let address = globals.server.as_deref().ok_or_else(|| {
        Failure::usage(
            "which server?",
            "landfast login --server HOST:PORT; on the server's own machine its admin socket needs no login",
        )
    })?;
    let dir = match &globals.identity_dir {
        Some(dir) => dir.clone(),
        None => connect::login_dir(address).ok_or_else(|| {
            Failure::usage(
                "you have no home directory",
                "give a directory: --identity-dir DIR",
            )
        })?,
    };
    let bundle = known_bundle(&args, &dir)?;
    let trust_domain = bundle.trust_domain().clone();
    let signer = match args.oidc {
        true => None,
        false => Some(Signer::find(args.ssh_key.as_deref(), args.ssh_agent.as_deref()).await?),
    };
    let failed = |error: &dyn std::error::Error| Failure::failed(error_chain(error), "please report this");
    let key = PrivateKey::generate().map_err(|error| failed(&error))?;
    let csr = build_csr(&key, None, &[]).map_err(|error| failed(&error))?;
    let channel = connect::stranger(address, bundle).await?;
    let mut client = LoginClient::new(channel.clone());
    let public = key.public_key();
    let request = pb::BeginRequest {
        key_sha256: public.sha256().to_vec().into(),
    };
    let asked = connect::call(SERVER, client.begin(request)).await?;
    let proof = LoginProof {
        trust_domain: &trust_domain,
        challenge: &asked.challenge,
        csr_key: &public,
    };
    let (login, proof) = match &signer {
        Some(signer) => {
            let signature = signer.sign(LoginProof::NAMESPACE, &proof.message()).await?;
            let login = format!("ssh:{}", signer.fingerprint());
            (login, Proof::SshSignature(signature.into()))
        }
        None => {
            let provider = oidc::chosen(&asked.providers, args.oidc_issuer.as_deref())?;
            let token = oidc::id_token(provider, &proof.nonce(), args.oidc_roots.as_deref()).await?;
            let issuer = provider.issuer.clone();
            let login = format!("oidc:{issuer}");
            (login, Proof::IdToken(pb::IdToken { issuer, token }))
        }
    };
    let request = pb::FinishRequest {
        challenge: asked.challenge.clone(),
        csr: csr.into(),
        proof: Some(proof),
        seconds: args
            .ttl
            .map_or(0, |ttl| i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX)),
    };
    let answer = connect::answer(client.finish(request)).await.map_err(|status| {
        let mut failure = Failure::status(SERVER, &status);
        if status.code() == tonic::Code::PermissionDenied {
            failure.hint = match &signer {
                Some(signer) => format!("who administers gives it to you: landfast person grant p-… --ssh-key {}", signer.fingerprint()),
                None => "the server's log says what was wrong; who administers gives it to you: landfast person grant p-… --oidc ISSUER#SUB".to_owned(),
            };
        }
        failure
    })?;
    let svid = svid_of(&answer, key)?;
    let bundle = fresh_bundle(channel).await?;
    svid_files::write_x509(&dir, &svid, &bundle)?;
    shown(&answer, &svid, &login, (address, &dir), globals)
}

fn shown(
    answer: &pb::FinishResponse,
    svid: &X509Svid,
    login: &str,
    (address, dir): (&str, &Path),
    globals: &Globals,
) -> Result<(), Failure> {
    if globals.json() {
        return output::print_json(&json!({
            "person": answer.person,
            "login": login,
            "spiffe_id": svid.id().as_str(),
            "expires_at": output::time_json(svid.not_after().as_secs()),
            "written_to": dir.display().to_string(),
        }));
    }
    let directory = match globals.identity_dir {
        Some(_) => format!(" --identity-dir {}", dir.display()),
        None => String::new(),
    };
    output::print(&output::facts(&[
        ("person", answer.person.clone()),
        ("login", output::clean_line(login)),
        ("until", svid.not_after().to_string()),
        ("written to", dir.display().to_string()),
        ("next", format!("landfast --server {address}{directory} whoami")),
    ]))
}

/// The file that was given; else what an earlier login has left.
fn known_bundle(args: &LoginArgs, dir: &Path) -> Result<Bundle, Failure> {
    let path = args.bundle.clone().unwrap_or_else(|| dir.join("bundle.pem"));
    let shown = path.display();
    let hint = "landfast bundle show on the server prints it: have it brought to you on a way that you trust, and give it with --bundle FILE";
    let mut text = String::new();
    let file = std::fs::File::open(&path)
        .map_err(|error| Failure::failed(format!("no trust bundle at {shown}: {error}"), hint))?;
    file.take(MAX_FILE)
        .read_to_string(&mut text)
        .map_err(|error| Failure::failed(format!("cannot read {shown}: {error}"), hint))?;
    let trust_domain = args.trust_domain.clone().or_else(|| said(&text)).ok_or_else(|| {
        Failure::usage(
            format!("{shown} does not say of which trust domain it is"),
            "give it with --trust-domain NAME",
        )
    })?;
    let bundle = match text.trim_start().starts_with('{') {
        true => Bundle::from_jwks(trust_domain, text.as_bytes()),
        false => Bundle::from_pem(trust_domain, &text),
    };
    bundle.map_err(|error| Failure::failed(format!("{shown}: {}", error_chain(&error)), hint))
}

/// The trust domain in the first certificate.
fn said(text: &str) -> Option<TrustDomain> {
    let chain = parse_chain_pem(text).ok()?;
    let uri = chain
        .first()?
        .uri_sans()
        .first()?
        .strip_prefix("spiffe://")?
        .to_owned();
    TrustDomain::parse(&uri).ok()
}

fn svid_of(answer: &pb::FinishResponse, key: PrivateKey) -> Result<X509Svid, Failure> {
    let unusable = |error: &dyn std::error::Error| {
        Failure::failed(
            format!("the server's answer cannot be used: {}", error_chain(error)),
            "its log says more",
        )
    };
    let chain = answer
        .chain
        .iter()
        .map(|der| Certificate::from_der(der))
        .collect::<Result<Vec<_>, _>>();
    X509Svid::new(chain.map_err(|error| unusable(&error))?, key).map_err(|error| unusable(&error))
}

/// As it is now, by the connection that the old one has verified: the next login may be after a rotation.
async fn fresh_bundle(channel: tonic::transport::Channel) -> Result<Bundle, Failure> {
    let request = GetBundleRequest { output_mask: None };
    let bundle = connect::call(SERVER, BundleClient::new(channel).get_bundle(request)).await?;
    wire::bundle(&bundle)
}

const MAX_FILE: u64 = 4 << 20;

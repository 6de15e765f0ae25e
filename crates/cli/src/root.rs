//! `landfast root`: the root key of the trust domain, and the steps that it signs.
//!
//! Invariant: a private key is written to a new file of the caller alone and never sent; what is signed is shown.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use landfast_daemon::error_chain;
use landfast_identity::chain::{RootKey, RootPrivateKey, SignedStep};
use landfast_proto::landfast::chain::v1 as api;
use landfast_proto::landfast::chain::v1::chain_client::ChainClient;
use landfast_store::FreshFile;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::Globals;
use crate::failure::{Failure, SERVER};
use crate::{connect, output};

#[derive(Subcommand, Debug)]
pub(crate) enum RootCommand {
    /// The root keys that nodes know, the newest step, and whether one waits to be signed [server].
    Show,
    /// Make a root key [local file].
    Key {
        /// A new file for the private key.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Write the step that waits to be signed to a file [server].
    Pending {
        /// Who signs from then on, as `landfast root key` prints it; may be given up to four times. Default: as before.
        #[arg(long, value_name = "HEX")]
        root_key: Vec<RootKey>,
        /// A new file for the step.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// What a step says, and who has signed it [local file].
    Inspect {
        /// The step.
        step: PathBuf,
    },
    /// Sign a step, away from every network if you like [local file].
    Sign {
        /// The private root key.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// The step.
        step: PathBuf,
        /// A new file for the signed step.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Bring a signed step back [server].
    Import {
        /// The step.
        step: PathBuf,
    },
}

pub(crate) async fn run(command: RootCommand, globals: &Globals) -> Result<(), Failure> {
    match command {
        RootCommand::Show => show(globals).await,
        RootCommand::Key { out } => key(&out, globals),
        RootCommand::Pending { root_key, out } => pending(&root_key, &out, globals).await,
        RootCommand::Inspect { step } => shown(&read_step(&step)?, globals),
        RootCommand::Sign { key, step, out } => sign(&key, &step, &out, globals),
        RootCommand::Import { step } => import(&step, globals).await,
    }
}

async fn prepare(root_keys: &[RootKey], globals: &Globals) -> Result<api::PrepareStepResponse, Failure> {
    let mut client = ChainClient::new(connect::server(globals).await?);
    let root_keys = root_keys.iter().map(|key| key.as_bytes().to_vec().into());
    let request = api::PrepareStepRequest {
        root_keys: root_keys.collect(),
    };
    connect::call(SERVER, client.prepare_step(request)).await
}

async fn show(globals: &Globals) -> Result<(), Failure> {
    let answer = prepare(&[], globals).await?;
    let newest = step_of(&answer.newest)?;
    let own = RootKey::from_bytes(&answer.own_root_key);
    if globals.json() {
        return output::print_json(&json!({
            "newest": newest.as_ref().map(to_json), "own_root_key": own.map(|key| key.to_string()),
            "pending": !answer.step.is_empty(), "trouble": answer.trouble,
        }));
    }
    let mut rows = match &newest {
        Some(newest) => facts(newest),
        None => vec![("newest step", "none yet".to_owned())],
    };
    let own = own.map_or_else(|| "none: it is kept elsewhere".to_owned(), |key| key.to_string());
    rows.push(("this server's key", own));
    if !answer.trouble.is_empty() {
        rows.push(("lags behind", answer.trouble));
    }
    output::print(&output::facts(&rows))
}

fn key(out: &Path, globals: &Globals) -> Result<(), Failure> {
    let key = RootPrivateKey::generate()
        .map_err(|error| Failure::failed(error_chain(&error), "try again; no file was written"))?;
    write(out, key.to_pem().as_bytes())?;
    let public = key.public_key().to_string();
    if globals.json() {
        return output::print_json(&json!({"root_key": public, "file": out}));
    }
    output::print(&output::facts(&[
        ("root key", public),
        ("private key", out.display().to_string()),
        ("keep it", "where no server is, with a copy: whoever has it can send nodes that come back to servers of his own".to_owned()),
    ]))
}

async fn pending(root_keys: &[RootKey], out: &Path, globals: &Globals) -> Result<(), Failure> {
    let answer = prepare(root_keys, globals).await?;
    let Some(step) = step_of(&answer.step)? else {
        let hint = match answer.newest.is_empty() {
            true => "for the first step say who signs: --root-key, as landfast root key prints it",
            false => "the newest step says all of it: landfast root show",
        };
        return Err(Failure::failed("no step waits to be signed", hint));
    };
    write(out, step.to_pem().as_bytes())?;
    shown(&step, globals)
}

fn sign(key: &Path, step: &Path, out: &Path, globals: &Globals) -> Result<(), Failure> {
    let text = read(key)?;
    let key = RootPrivateKey::from_pem(&text).map_err(|error| {
        let hint = "landfast root key makes one: Ed25519, PKCS#8 PEM";
        Failure::failed(format!("{}: {}", key.display(), error_chain(&error)), hint)
    })?;
    let mut step = read_step(step)?;
    step.sign(&key).map_err(|error| {
        Failure::failed(
            error_chain(&error),
            "prepare the step anew: landfast root pending",
        )
    })?;
    write(out, step.to_pem().as_bytes())?;
    if !step.step().root_keys.contains(&key.public_key()) {
        output::complain(
            "note: this key may not sign the steps after this one: it is right only if it is being replaced",
        );
    }
    shown(&step, globals)
}

async fn import(step: &Path, globals: &Globals) -> Result<(), Failure> {
    let step = read_step(step)?;
    let mut client = ChainClient::new(connect::server(globals).await?);
    let request = api::ImportStepRequest {
        step: step.to_bytes().into(),
    };
    let answer = connect::answer(client.import_step(request))
        .await
        .map_err(|status| {
            let mut failure = Failure::status(SERVER, &status);
            if status.code() == tonic::Code::FailedPrecondition {
                "landfast root inspect says who has signed it, landfast root show who has to"
                    .clone_into(&mut failure.hint);
            }
            failure
        })?;
    let place = format!("{}.{}", answer.epoch, answer.sequence);
    match globals.json() {
        true => output::print_json(&json!({"done": "imported", "step": place})),
        false => output::print(&format!("imported: step {place}")),
    }
}

fn shown(step: &SignedStep, globals: &Globals) -> Result<(), Failure> {
    match globals.json() {
        true => output::print_json(&to_json(step)),
        false => output::print(&output::facts(&facts(step))),
    }
}

fn facts(signed: &SignedStep) -> Vec<(&'static str, String)> {
    let step = signed.step();
    let x509 = step.bundle.x509_authorities().iter().map(|authority| {
        format!(
            "X.509 until {}{}, SHA-256 {}",
            output::when(authority.certificate.not_after().as_secs(), "-"),
            if authority.tainted { ", tainted" } else { "" },
            hex(&authority.certificate.fingerprint_sha256())
        )
    });
    let jwt = step.bundle.jwt_authorities().iter().map(|authority| {
        let until = authority.expires_at.map_or(0, |end| end.as_secs());
        let tainted = if authority.tainted { ", tainted" } else { "" };
        format!(
            "JWT until {}{tainted}, {}",
            output::when(until, "-"),
            output::clean_line(&authority.key_id)
        )
    });
    vec![
        ("trust domain", step.bundle.trust_domain().to_string()),
        ("step", format!("{}.{}", step.epoch, step.sequence)),
        (
            "after",
            step.previous
                .map_or_else(|| "none: it is the first".to_owned(), |digest| hex(&digest)),
        ),
        ("made", output::when(step.time.as_secs(), "-")),
        ("bundle sequence", step.bundle.sequence().to_string()),
        ("authorities", output::lines(x509.chain(jwt), "none")),
        ("root keys", output::lines(&step.root_keys, "none")),
        ("signed by", output::lines(signers(signed), "nobody")),
    ]
}

fn to_json(signed: &SignedStep) -> Value {
    let step = signed.step();
    let x509 = step.bundle.x509_authorities().iter().map(|authority| {
        json!({
            "sha256": hex(&authority.certificate.fingerprint_sha256()), "tainted": authority.tainted,
            "expires_at": output::time_json(authority.certificate.not_after().as_secs()),
        })
    });
    let jwt = step.bundle.jwt_authorities().iter().map(|authority| {
        let end = authority.expires_at.map_or(0, |end| end.as_secs());
        json!({"key_id": authority.key_id, "tainted": authority.tainted, "expires_at": output::time_json(end)})
    });
    json!({
        "trust_domain": step.bundle.trust_domain().as_str(), "epoch": step.epoch, "sequence": step.sequence,
        "previous": step.previous.map(|digest| hex(&digest)), "digest": hex(&signed.digest()),
        "time": output::time_json(step.time.as_secs()), "bundle_sequence": step.bundle.sequence(),
        "x509_authorities": x509.collect::<Vec<_>>(), "jwt_authorities": jwt.collect::<Vec<_>>(),
        "root_keys": step.root_keys.iter().map(ToString::to_string).collect::<Vec<_>>(), "signed_by": signers(signed),
    })
}

/// Only those whose signature is one.
fn signers(signed: &SignedStep) -> Vec<String> {
    let signers = signed.signers().filter(|key| signed.is_signed_by(*key));
    signers.map(|key| key.to_string()).collect()
}

/// What a server says.
fn step_of(bytes: &[u8]) -> Result<Option<SignedStep>, Failure> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let read = SignedStep::from_bytes(bytes);
    read.map(Some).map_err(|error| {
        Failure::failed(
            error_chain(&error),
            "is this landfast older than the server? Update it",
        )
    })
}

fn read_step(path: &Path) -> Result<SignedStep, Failure> {
    SignedStep::from_pem(&read(path)?).map_err(|error| {
        let hint = "landfast root pending writes such a file";
        Failure::failed(format!("{}: {}", path.display(), error_chain(&error)), hint)
    })
}

fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let file = std::fs::File::open(path);
    let read = file.and_then(|file| file.take(MAX_FILE).read_to_string(&mut text));
    let failed = |error| {
        Failure::failed(
            format!("cannot read {}: {error}", path.display()),
            "give a file that is there and yours to read",
        )
    };
    read.map(|_| text).map_err(failed)
}

/// To a new file of the caller alone.
fn write(path: &Path, content: &[u8]) -> Result<(), Failure> {
    let written = FreshFile::begin(path).and_then(|mut file| {
        file.write(content)?;
        file.commit()
    });
    written.map_err(|error| {
        Failure::failed(
            error_chain(&error),
            "give a new file in a directory that is there",
        )
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

const MAX_FILE: u64 = 2 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use clap::Parser as _;
    use landfast_identity::chain::Step;
    use landfast_identity::issue::{AuthorityParams, self_signed_authority};
    use landfast_identity::{Bundle, PrivateKey, TrustDomain, UnixTime, X509Authority};

    use super::*;
    use crate::cli::Cli;

    fn step(key: RootKey) -> SignedStep {
        let trust_domain = TrustDomain::parse("plant.test").unwrap();
        let params = AuthorityParams {
            trust_domain: &trust_domain,
            authority_id: "1",
            not_before: UnixTime::from_secs(0),
            not_after: UnixTime::from_secs(3600),
        };
        let certificate = self_signed_authority(&params, &PrivateKey::generate().unwrap()).unwrap();
        let authority = X509Authority {
            certificate,
            tainted: false,
        };
        let bundle = Bundle::new(trust_domain.clone()).with_x509_authorities(vec![authority]);
        let step = Step {
            epoch: 3,
            sequence: 7,
            previous: None,
            bundle: bundle.unwrap(),
            root_keys: vec![key],
            time: UnixTime::from_secs(1000),
        };
        SignedStep::unsigned(&step).unwrap()
    }

    #[test]
    fn a_step_is_signed_by_files_alone_and_nothing_is_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let globals = Cli::parse_from(["landfast", "log", "level"]).globals;
        let at = |name: &str| dir.path().join(name);
        key(&at("root.key"), &globals).unwrap();
        let mode = std::fs::metadata(at("root.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(key(&at("root.key"), &globals).is_err(), "it would be another key");
        let text = read(&at("root.key")).unwrap();
        let public = RootPrivateKey::from_pem(&text).unwrap().public_key();
        write(&at("1.step"), step(public).to_pem().as_bytes()).unwrap();
        sign(&at("root.key"), &at("1.step"), &at("1.signed"), &globals).unwrap();
        let signed = read_step(&at("1.signed")).unwrap();
        assert!(signed.is_signed_by(public));
        assert_eq!(to_json(&signed)["signed_by"][0], public.to_string());
        assert!(
            facts(&signed)
                .iter()
                .any(|(name, value)| *name == "step" && value == "3.7")
        );
        assert!(sign(&at("root.key"), &at("1.step"), &at("1.signed"), &globals).is_err());
        for (key, step) in [
            ("1.step", "1.step"),
            ("root.key", "root.key"),
            ("none", "1.step"),
            ("root.key", "none"),
        ] {
            let failed = sign(&at(key), &at(step), &at("2.signed"), &globals).unwrap_err();
            assert!(
                !failed.hint.is_empty() && !at("2.signed").exists(),
                "{key} {step}"
            );
            assert!(
                !failed.message.contains("PRIVATE"),
                "no part of a key is repeated"
            );
        }
    }
}

//! `landfast bundle publish`: the bundle as a file for a web server, an object store, or a stick that crosses an air gap.
//!
//! Invariant: readers of the file see a bundle of one trust domain, whole, and none that is older than the one they saw; between two that follow
//! each other an authority stays the same.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use landfast_daemon::error_chain;
use landfast_identity::{Bundle, TrustDomain, X509Authority};
use landfast_lifecycle::Backoff;
use landfast_store::{PublicFile, StoreError};
use serde_json::json;

use super::{BundleFormat, fetch};
use crate::cli::Globals;
use crate::failure::{Failure, NOT_READY};
use crate::output;
use crate::wire;

#[derive(Args, Debug)]
pub(crate) struct PublishArgs {
    /// The file. Its directory must be there; the file is for all to read.
    file: PathBuf,
    /// A federated trust domain's bundle instead of our own.
    #[arg(long)]
    trust_domain: Option<TrustDomain>,
    /// A SPIFFE bundle document, or PEM certificates (which have no sequence: whatever is newer cannot be told).
    #[arg(long, value_enum, default_value = "jwks")]
    format: BundleFormat,
    /// How often readers shall look for a new one, in the document (90s, 5m, 1h).
    #[arg(long, value_parser = wire::duration, value_name = "TIME")]
    refresh_hint: Option<Duration>,
    /// Also put an older bundle over a newer one, and one of other authorities over another: after the server was restored from a backup
    /// or began anew, when readers know. Once, not with --watch.
    #[arg(long, conflicts_with = "watch")]
    danger_older: bool,
    /// Stay, and write each change.
    #[arg(long)]
    watch: bool,
    /// With --watch: how often the server is asked.
    #[arg(long, value_parser = wire::duration, default_value = "10s", value_name = "TIME", requires = "watch")]
    interval: Duration,
}

/// What became of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    Written,
    Unchanged,
}

pub(super) async fn run(args: PublishArgs, globals: &Globals) -> Result<(), Failure> {
    if args.refresh_hint.is_some() && args.format == BundleFormat::Pem {
        return Err(Failure::usage(
            "PEM certificates have no refresh hint",
            "leave --refresh-hint out, or take --format jwks",
        ));
    }
    if !args.watch {
        let (bundle, done) = once(&args, globals).await?;
        return tell(&args, &bundle, done, globals);
    }
    let mut away = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
    let mut said = String::new();
    loop {
        let waiting = match once(&args, globals).await {
            Ok((bundle, done)) => {
                if done == Done::Written {
                    tell(&args, &bundle, done, globals)?;
                }
                said.clear();
                away = Backoff::new(Duration::from_secs(1), Duration::from_secs(30));
                args.interval
            }
            // Waiting mends a server that is away, a full disk, and one that went back until it has passed its old sequence.
            Err(failure) => {
                if said != failure.message {
                    output::complain(&format!(
                        "{}; the file stays as it is\nhint: {}",
                        failure.message, failure.hint
                    ));
                    said = failure.message;
                }
                if failure.code == NOT_READY {
                    away.next()
                } else {
                    args.interval
                }
            }
        };
        tokio::time::sleep(waiting).await;
    }
}

async fn once(args: &PublishArgs, globals: &Globals) -> Result<(Bundle, Done), Failure> {
    let mut bundle = fetch(args.trust_domain.as_ref(), globals).await?;
    if let Some(hint) = args.refresh_hint {
        bundle = bundle.with_refresh_hint(Some(hint));
    }
    let done = put(&args.file, &bundle, args.format, args.danger_older)?;
    Ok((bundle, done))
}

fn put(path: &Path, bundle: &Bundle, format: BundleFormat, danger_older: bool) -> Result<Done, Failure> {
    if bundle.x509_authorities().is_empty() {
        return Err(Failure::failed(
            format!("the bundle of {} has no X.509 authority", bundle.trust_domain()),
            "it would verify nobody; nothing was written",
        ));
    }
    let file = PublicFile::open(path).map_err(|error| cannot(&error))?;
    let text = match format {
        BundleFormat::Jwks => format!("{}\n", bundle.to_jwks()),
        BundleFormat::Pem => bundle.to_pem(),
    };
    let there = file.read().map_err(|error| cannot(&error))?;
    if let Some(there) = there {
        if there == text.as_bytes() {
            return Ok(Done::Unchanged);
        }
        judge(path, &there, bundle, format, danger_older)?;
    }
    file.replace(text.as_bytes()).map_err(|error| cannot(&error))?;
    Ok(Done::Written)
}

/// Whether what is there may be replaced.
fn judge(
    path: &Path,
    there: &[u8],
    bundle: &Bundle,
    format: BundleFormat,
    danger_older: bool,
) -> Result<(), Failure> {
    let (shown, trust_domain) = (path.display(), bundle.trust_domain());
    let other = |what: &str| {
        Failure::failed(
            format!("{shown} {what}; it was not replaced"),
            "name another file, or remove this one when it may go",
        )
    };
    let old = match format {
        BundleFormat::Pem => std::str::from_utf8(there)
            .ok()
            .and_then(|text| Bundle::from_pem(trust_domain.clone(), text).ok())
            .ok_or_else(|| other("is not a bundle in PEM"))?,
        BundleFormat::Jwks => Bundle::from_jwks(trust_domain.clone(), there)
            .map_err(|error| other(&format!("is not a bundle document ({})", error_chain(&error))))?,
    };
    if danger_older {
        return Ok(());
    }
    // A file does not say whose bundle it is: that of another trust domain shares no authority with ours. Neither does ours of before a new
    // beginning, or of so long ago that all have gone: that is for the operator to decide.
    if !shares_an_authority(bundle, &old) {
        return Err(Failure::failed(
            format!("{shown} has none of the X.509 authorities of {trust_domain}; it was not replaced"),
            "it is another trust domain's, or ours of long ago: name another file, or say --danger-older once when this one may go",
        ));
    }
    if format == BundleFormat::Pem {
        return Ok(());
    }
    let refused = |what: String| {
        Failure::failed(
            format!("{shown} {what}; it was not replaced"),
            "readers refuse what goes back. When the server was restored from a backup and its readers know, say --danger-older",
        )
    };
    let (ours, theirs) = (bundle.sequence(), old.sequence());
    if ours < theirs {
        return Err(refused(format!(
            "has sequence {theirs}, newer than {ours} of the server"
        )));
    }
    if ours == theirs && !bundle.content_eq(&old) {
        return Err(refused(format!(
            "has sequence {theirs} as the server, and other keys"
        )));
    }
    Ok(())
}

/// Also when the old one has none: then it says nothing of whose it is.
fn shares_an_authority(new: &Bundle, old: &Bundle) -> bool {
    let (new, old) = (new.x509_authorities(), old.x509_authorities());
    let known =
        |authority: &X509Authority| old.iter().any(|other| other.certificate == authority.certificate);
    old.is_empty() || new.iter().any(known)
}

fn cannot(error: &StoreError) -> Failure {
    if let StoreError::NotAFile { path } = error {
        let message = format!("{} is not a regular file", path.display());
        return Failure::failed(message, "name the file, with its directory; nothing was written");
    }
    Failure::failed(
        error_chain(error),
        "what is there stays as it is; see that the directory exists, is writable and has room",
    )
}

fn tell(args: &PublishArgs, bundle: &Bundle, done: Done, globals: &Globals) -> Result<(), Failure> {
    let done = match done {
        Done::Written => "written",
        Done::Unchanged => "unchanged",
    };
    let (file, trust_domain) = (args.file.display(), bundle.trust_domain());
    if !globals.json() {
        let sequence = bundle.sequence();
        return output::print(&format!("{done}: {file}, {trust_domain}, sequence {sequence}"));
    }
    let report = json!({
        "file": file.to_string(),
        "trust_domain": trust_domain.as_str(),
        "format": match args.format { BundleFormat::Jwks => "jwks", BundleFormat::Pem => "pem" },
        "sequence": bundle.sequence(),
        "x509_authorities": bundle.x509_authorities().len(),
        "jwt_authorities": bundle.jwt_authorities().len(),
        "done": done,
    });
    // One line for each change: a program reads them as they come.
    match args.watch {
        true => output::print(&report.to_string()),
        false => output::print_json(&report),
    }
}

#[cfg(test)]
mod tests;

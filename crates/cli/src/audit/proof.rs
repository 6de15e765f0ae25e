//! `landfast audit prove`, in the forms of C2SP's tlog-proof and tlog-witness. Invariant: what is printed was verified under the key that was given.

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfast_audit::verify::{SignedHead, Source, VerifierKey, read, verify_consistency, verify_inclusion};
use landfast_audit::{Hash, ProveError, Prover};
use landfast_daemon::error_chain;
use serde_json::{Value, json};

use super::place::Where;
use crate::cli::Globals;
use crate::failure::Failure;
use crate::{inspect, output};

#[derive(clap::Args, Debug)]
#[group(required = true, multiple = false)]
pub(crate) struct What {
    /// That this record is in the ledger, by its number.
    #[arg(long, value_name = "NUMBER")]
    record: Option<u64>,
    /// That the ledger goes on from this checkpoint.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
}

/// A proof under a checkpoint.
struct Proof {
    /// What stands before its hashes.
    head: String,
    hashes: Vec<Hash>,
    checkpoint: String,
    more: Value,
}

pub(super) fn prove(place: &Where, key: &VerifierKey, what: &What, globals: &Globals) -> Result<(), Failure> {
    let source = place.open()?;
    let kept = what.since.as_ref().map(|file| {
        let text = inspect::read_text(file)?;
        let head = key.checkpoint(text.as_bytes());
        head.map_err(|error| {
            let message = format!("{} is {error}", file.display());
            Failure::failed(message, "give a checkpoint of this ledger that was kept")
        })
    });
    let kept = kept.transpose()?;
    let mut last: Option<(String, String)> = None;
    // The partial tiles of a checkpoint go when the next is there: beside a running server the next is taken then.
    for _ in 0..ATTEMPTS {
        let checkpoint = checkpoint(&*source, place)?;
        if last.as_ref().is_some_and(|(then, _)| *then == checkpoint) {
            break;
        }
        let head = key.checkpoint(checkpoint.as_bytes());
        let head = head.map_err(|error| {
            let message = format!("{} is {error}", source.describe(CHECKPOINT));
            Failure::failed(message, verify_it(place))
        })?;
        let made = match (what.record, &kept) {
            (Some(record), _) => included(&*source, record, &head),
            (None, Some(kept)) => continued(&*source, kept, &head),
            (None, None) => return Err(Failure::usage("nothing is asked for", "give --record or --since")),
        };
        match made {
            Ok((head, hashes, more)) => {
                let proof = Proof {
                    head,
                    hashes,
                    checkpoint,
                    more,
                };
                return show(&proof, globals);
            }
            Err(Trouble::Passing(why)) => last = Some((checkpoint, why)),
            Err(Trouble::Final(why)) => return Err(Failure::failed(why, verify_it(place))),
        }
    }
    let why = last.map_or_else(String::new, |(_, why)| why);
    Err(Failure::failed(why, verify_it(place)))
}

enum Trouble {
    /// The log may have grown meanwhile.
    Passing(String),
    Final(String),
}

type Made = Result<(String, Vec<Hash>, Value), Trouble>;

fn included(source: &dyn Source, index: u64, head: &SignedHead) -> Made {
    let proof = prover(source, head)?.inclusion(index).map_err(trouble)?;
    let mut record = Vec::new();
    let found = read(source, index, &mut |_, bytes| {
        record = bytes.to_vec();
        false
    });
    found.map_err(|error| Trouble::Passing(error.to_string()))?;
    match verify_inclusion(&record, index, (head.size, &head.root), &proof) {
        true => Ok((
            format!("c2sp.org/tlog-proof@v1\nindex {index}"),
            proof,
            json!({ "record": String::from_utf8_lossy(&record), "index": index, "size": head.size }),
        )),
        false => {
            let why = format!("record {index} is not the one that was signed, or the hashes are not");
            Err(Trouble::Final(why))
        }
    }
}

fn continued(source: &dyn Source, kept: &SignedHead, head: &SignedHead) -> Made {
    let proof = prover(source, head)?.consistency(kept.size).map_err(trouble)?;
    match verify_consistency((kept.size, &kept.root), (head.size, &head.root), &proof) {
        true => Ok((
            format!("old {}", kept.size),
            proof,
            json!({ "old": kept.size, "size": head.size }),
        )),
        false => {
            let why = "the ledger does not go on from that checkpoint, or its hashes were changed";
            Err(Trouble::Final(why.to_owned()))
        }
    }
}

fn prover<'a>(source: &'a dyn Source, head: &SignedHead) -> Result<Prover<'a>, Trouble> {
    Prover::new(source, head.size, head.size).map_err(trouble)
}

fn trouble(error: ProveError) -> Trouble {
    match error {
        ProveError::Missing(_) => Trouble::Passing(error.to_string()),
        other => Trouble::Final(error_chain(&other)),
    }
}

fn checkpoint(source: &dyn Source, place: &Where) -> Result<String, Failure> {
    let path = source.describe(CHECKPOINT);
    let read = source.read(CHECKPOINT, MAX_CHECKPOINT_BYTES);
    let read =
        read.map_err(|error| Failure::failed(format!("{path} cannot be read: {error}"), verify_it(place)))?;
    let bytes = read.ok_or_else(|| {
        let hint = "give the directory, or its URL, that holds the checkpoint of a ledger";
        Failure::failed(format!("{path} is missing"), hint)
    })?;
    String::from_utf8(bytes)
        .map_err(|_cause| Failure::failed(format!("{path} is no checkpoint"), verify_it(place)))
}

fn verify_it(place: &Where) -> String {
    format!("landfast audit verify {} --key KEY says more", place.shown())
}

fn show(proof: &Proof, globals: &Globals) -> Result<(), Failure> {
    let hashes: Vec<String> = proof.hashes.iter().map(|hash| STANDARD.encode(hash)).collect();
    if globals.json() {
        let mut shown = proof.more.clone();
        shown["hashes"] = json!(hashes);
        shown["checkpoint"] = json!(proof.checkpoint);
        return output::print_json(&shown);
    }
    let mut lines = vec![proof.head.clone()];
    lines.extend(hashes);
    output::write(&format!("{}\n\n{}", lines.join("\n"), proof.checkpoint)).map(drop)
}

const CHECKPOINT: &str = "checkpoint";
const MAX_CHECKPOINT_BYTES: u64 = 64 * 1024;
const ATTEMPTS: usize = 5;

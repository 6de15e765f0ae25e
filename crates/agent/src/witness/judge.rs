//! What a checkpoint that was shown is, beside the one that was kept. Invariant: pure; good is only what its key has signed and what is proven to go on
//! from what was seen.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use landfast_audit::verify::{VerifierKey, verify_consistency};
use landfast_identity::TrustDomain;
use prost::bytes::Bytes;
use ring::digest::{SHA256, digest};

use super::seen::{Fork, Head, Seen};
use crate::journal::{hex, unhex};

/// What a server has answered.
pub(super) struct Shown<'a> {
    pub(super) note: &'a str,
    pub(super) key: &'a str,
    pub(super) proof: &'a [Bytes],
}

#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// As it was.
    Same,
    Grown(Head),
    /// A ledger that was not seen before; beside that one, when another was.
    New {
        head: Head,
        before: Option<String>,
    },
    /// Nothing is proven, and nothing contradicted. When it stays so, somebody avoids the proof.
    Unproven {
        why: String,
        suspect: Option<Fork>,
    },
    Fork(Fork),
}

/// Of a server of this trust domain.
pub(super) fn judge(seen: &Seen, trust_domain: &TrustDomain, shown: &Shown<'_>) -> Verdict {
    if shown.note.len() > LONGEST || shown.key.len() > LONGEST || shown.proof.len() > LONGEST_PROOF {
        return unproven("the answer is too long for a checkpoint".to_owned());
    }
    let origin = shown.note.lines().next().unwrap_or_default();
    let Some(kept) = seen.of(origin) else {
        return first_sight(seen, trust_domain, shown);
    };
    let fork = |what: &str| Verdict::Fork(Fork::new(kept, what, shown.note));
    // The key that was pinned, whatever is shown now.
    let head = match VerifierKey::parse(&kept.key) {
        Ok(key) => key.checkpoint(shown.note.as_bytes()),
        Err(error) => return unproven(format!("the key that was kept is none: {error}")),
    };
    let head = match head {
        Ok(head) => head,
        Err(error) => return fork(&format!("under the name of this ledger stands {error}")),
    };
    let Some(root) = unhex(&kept.root) else {
        return unproven("the root that was kept is none".to_owned());
    };
    if head.size < kept.size {
        return fork("it has fewer records than it had");
    }
    if head.size == kept.size {
        return match head.root == root {
            true => Verdict::Same,
            false => fork("it has other records than it had, and as many"),
        };
    }
    let proof: Option<Vec<[u8; 32]>> = shown
        .proof
        .iter()
        .map(|hash| hash.as_ref().try_into().ok())
        .collect();
    let proof = proof.unwrap_or_default();
    if verify_consistency((kept.size, &root), (head.size, &head.root), &proof) {
        return Verdict::Grown(Head {
            size: head.size,
            root: hex(&head.root),
            note: shown.note.to_owned(),
            key: kept.key.clone(),
        });
    }
    match shown.proof.is_empty() {
        // Its files may have moved on while it looked; if it never has one, that is said as often as it is asked.
        true => Verdict::Unproven {
            why: "the server has shown no proof".to_owned(),
            suspect: Some(Fork::new(
                kept,
                "it was asked again and again to prove that it goes on from what it was, and has not",
                shown.note,
            )),
        },
        false => fork("it does not go on from what it was"),
    }
}

fn unproven(why: impl Into<String>) -> Verdict {
    Verdict::Unproven {
        why: why.into(),
        suspect: None,
    }
}

/// The name of a ledger says its key, so what is pinned with it cannot be another's.
fn first_sight(seen: &Seen, trust_domain: &TrustDomain, shown: &Shown<'_>) -> Verdict {
    let key = match VerifierKey::parse(shown.key) {
        Ok(key) => key,
        Err(error) => return unproven(error.to_string()),
    };
    let public = shown.key.trim().splitn(3, '+').nth(2);
    let public = public
        .and_then(|text| STANDARD.decode(text).ok())
        .unwrap_or_default();
    let hash = digest(&SHA256, public.get(1..).unwrap_or_default());
    let expected = format!("{trust_domain}/landfast/ledger/{}", hex(&hash.as_ref()[..8]));
    if key.name() != expected {
        return unproven("the ledger has a name that is not of its key and this trust domain".to_owned());
    }
    match key.checkpoint(shown.note.as_bytes()) {
        Ok(head) => Verdict::New {
            head: Head {
                size: head.size,
                root: hex(&head.root),
                note: shown.note.to_owned(),
                key: shown.key.trim().to_owned(),
            },
            before: seen.last().map(|head| head.origin().to_owned()),
        },
        Err(error) => unproven(error.to_string()),
    }
}

/// Of a checkpoint, a key.
const LONGEST: usize = 8192;
/// Hashes of a proof: twice the height of the tallest tree.
const LONGEST_PROOF: usize = 128;

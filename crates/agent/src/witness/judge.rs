//! What a checkpoint that was shown is, beside the one that was kept. Invariant: pure; good is only what its key has signed and what is proven to go on
//! from what was seen; and what is kept of a note is so short that it stands whole in the journal, with the signature that convicts.

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
    /// One that was not seen before, and as many as are kept are known.
    Crowd(Head),
    /// Nothing is proven, and nothing contradicted. When it stays so, somebody avoids the proof.
    Unproven {
        why: String,
        suspect: Option<Fork>,
    },
    Fork(Fork),
}

/// Of a server of this trust domain.
pub(super) fn judge(seen: &Seen, trust_domain: &TrustDomain, shown: &Shown<'_>) -> Verdict {
    let is_long =
        shown.note.len() > LONGEST || shown.key.len() > LONGEST || shown.proof.len() > LONGEST_PROOF;
    let origin = shown.note.lines().next().unwrap_or_default();
    let Some(kept) = seen.of(origin) else {
        return match is_long {
            true => unproven("the answer is too long for a checkpoint".to_owned()),
            false => first_sight(seen, trust_domain, shown),
        };
    };
    // The key that was pinned, whatever is shown now.
    let key = match VerifierKey::parse(&kept.key) {
        Ok(key) => key,
        Err(error) => return unproven(format!("the key that was kept is none: {error}")),
    };
    let Some(note) = essence(shown.note, &key).filter(|_| !is_long) else {
        let why = "it was asked again and again, and answers with more than a checkpoint";
        let beginning = shown.note.chars().filter(|c| !c.is_control());
        let beginning: String = beginning.take(SHORT).collect();
        return Verdict::Unproven {
            why: "the answer is too long for a checkpoint".to_owned(),
            suspect: Some(Fork::new(kept, why, &beginning)),
        };
    };
    let fork = |what: &str| Verdict::Fork(Fork::new(kept, what, &note));
    let head = match key.checkpoint(note.as_bytes()) {
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
            note,
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
                &note,
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
    let Some(note) = essence(shown.note, &key) else {
        return unproven("the answer is too long for a checkpoint".to_owned());
    };
    let head = match key.checkpoint(note.as_bytes()) {
        Ok(head) => Head {
            size: head.size,
            root: hex(&head.root),
            note,
            key: shown.key.trim().to_owned(),
        },
        Err(error) => return unproven(error.to_string()),
    };
    match seen.is_full() {
        true => Verdict::Crowd(head),
        false => Verdict::New {
            head,
            before: seen.last().map(|head| head.origin().to_owned()),
        },
    }
}

/// The text and one signature: that of this key, where there is one. What others have signed may be of any length. `None`: it is none, or longer than a
/// journal keeps whole.
fn essence(note: &str, key: &VerifierKey) -> Option<String> {
    let at = note.rfind("\n\n")?;
    let (text, signatures) = (&note[..at + 2], &note[at + 2..]);
    let is_ours = |line: &&str| {
        let encoded = line
            .strip_prefix("\u{2014} ")
            .and_then(|line| line.strip_prefix(key.name()));
        let bytes = encoded.and_then(|text| STANDARD.decode(text.trim_start()).ok());
        bytes.is_some_and(|bytes| bytes.get(..4).is_some_and(|id| hex(id) == key.id()))
    };
    let own = signatures.lines().find(is_ours);
    let own = own.or_else(|| signatures.lines().next())?;
    let essence = format!("{text}{own}\n");
    let written = serde_json::to_string(&essence).ok()?;
    (written.len() <= MOST_OF_A_NOTE).then_some(essence)
}

/// Of a checkpoint that is kept, as it is written into the journal: two have room in one record.
const MOST_OF_A_NOTE: usize = 1000;
/// Of one that is too long, in characters.
const SHORT: usize = 200;
/// Of a checkpoint, a key.
const LONGEST: usize = 8192;
/// Hashes of a proof: twice the height of the tallest tree.
const LONGEST_PROOF: usize = 128;

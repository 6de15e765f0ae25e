//! Which files an image is made of, and what is in them.
//!
//! Invariant: a file has the same name for the same SVID of the same entry, and for no other: so it never changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use landfast_identity::Certificate;
use landfast_proto::landfast::cache::v1 as wire;
use ring::digest::{SHA256, digest};
use zeroize::Zeroizing;

use super::{Image, RUNG, SVID, convert};
use crate::keeper::rungs::Rung;
use crate::keeper::state::Held;

/// The entry that a file is of, as it was when the index was written.
#[derive(Clone)]
pub(super) struct Of {
    pub(super) entry_id: String,
    pub(super) revision: i64,
    pub(super) created_at: i64,
}

/// One that is to be there.
pub(super) struct File<'i> {
    pub(super) name: String,
    entry_id: &'i Arc<str>,
    of: Content<'i>,
}

enum Content<'i> {
    Svid(&'i Held),
    Rung(&'i Arc<Rung>),
}

impl File<'_> {
    pub(super) fn plain(&self) -> Zeroizing<Vec<u8>> {
        match self.of {
            Content::Svid(held) => convert::svid_of(self.entry_id, held),
            Content::Rung(rung) => convert::rung_of(self.entry_id, rung),
        }
    }
}

/// All of them.
pub(super) fn files_of(image: &Image) -> impl Iterator<Item = File<'_>> {
    let held = image.snapshot.held.iter();
    let svids = held.map(|(entry_id, held)| File {
        name: named_after(SVID, digest_of(entry_id, held.svid.leaf(), held.revision)),
        entry_id,
        of: Content::Svid(held),
    });
    let each = image.snapshot.rungs.iter();
    let rungs = each.flat_map(|(entry_id, ladder)| {
        ladder.rungs().iter().map(move |rung| File {
            name: named_after(RUNG, digest_of_rung(entry_id, rung)),
            entry_id,
            of: Content::Rung(rung),
        })
    });
    svids.chain(rungs)
}

pub(super) fn names_of(image: &Image) -> impl Iterator<Item = String> {
    files_of(image).map(|file| file.name)
}

/// The same for an index, but for the digests of files that may not be there yet.
pub(super) fn named(image: &Image) -> (Vec<wire::SvidFile>, Vec<wire::Ladder>) {
    let svids = files_of(image).filter(|file| matches!(file.of, Content::Svid(_)));
    let svids = svids.map(|file| wire::SvidFile {
        entry_id: file.entry_id.to_string(),
        sha256: vec![0; SHA256.output_len()].into(),
        name: file.name,
    });
    let ladders = image.snapshot.rungs.iter().map(|(entry_id, ladder)| {
        let each = ladder
            .rungs()
            .iter()
            .flat_map(|rung| digest_of_rung(entry_id, rung));
        wire::Ladder {
            entry_id: entry_id.to_string(),
            names: each.collect::<Vec<u8>>().into(),
        }
    });
    (svids.collect(), ladders.collect())
}

/// The files of one ladder.
pub(super) fn rung_names(ladder: &wire::Ladder) -> impl Iterator<Item = String> {
    ladder
        .names
        .chunks_exact(NAME)
        .map(|name| named_after(RUNG, name))
}

/// Every file that an index names.
pub(super) fn names_in(
    index: &wire::Index,
    as_of: impl Fn(&str) -> Option<(i64, i64)>,
) -> BTreeMap<String, Of> {
    let of = |entry_id: &str| {
        let (revision, created_at) = as_of(entry_id).unwrap_or_default();
        Of {
            entry_id: entry_id.to_owned(),
            revision,
            created_at,
        }
    };
    let svids = index
        .svids
        .iter()
        .map(|file| (file.name.clone(), of(&file.entry_id)));
    let rungs = index.ladders.iter().flat_map(|ladder| {
        let of = of(&ladder.entry_id);
        rung_names(ladder).map(move |name| (name, of.clone()))
    });
    svids.chain(rungs).collect()
}

fn digest_of_rung(entry_id: &str, rung: &Rung) -> [u8; NAME] {
    digest_of(entry_id, &rung.chain()[0], rung.revision())
}

fn digest_of(entry_id: &str, leaf: &Certificate, revision: i64) -> [u8; NAME] {
    let (leaf, revision) = (leaf.fingerprint_sha256(), revision.to_be_bytes());
    let hash = digest(
        &SHA256,
        &[leaf.as_slice(), &revision, entry_id.as_bytes()].concat(),
    );
    let mut name = [0; NAME];
    name.copy_from_slice(&hash.as_ref()[..NAME]);
    name
}

fn named_after(kind: &str, digest: impl AsRef<[u8]>) -> String {
    let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{kind}{hex}")
}

const NAME: usize = 16;

//! How large a message will be, before it is made. Invariant: never less than it is but for a few bytes, so what is counted is what is held.

use std::sync::Arc;

use landfast_identity::Bundle;

use crate::registry::Entry;

/// About the bytes of an entry on the wire, with its policy.
pub(crate) fn of_entry(entry: &Entry) -> usize {
    let ids = [&entry.spiffe_id, &entry.parent_id].map(|id| id.as_str().len() + FIELD);
    let selectors = entry
        .selectors
        .iter()
        .map(|one| one.kind().len() + one.value().len() + FIELD);
    let domains = entry.federates_with.iter().map(|one| one.as_str().len() + FIELD);
    let names = entry.dns_names.iter().map(|one| one.len() + FIELD);
    let lists: usize = selectors.chain(domains).chain(names).sum();
    ids.iter().sum::<usize>() + lists + entry.id.len() + entry.hint.len() + NUMBERS
}

/// The largest page of so many entries that can be made of these.
pub(crate) fn of_page(entries: &[Arc<Entry>], page: usize) -> usize {
    let mut sizes: Vec<usize> = entries.iter().map(|entry| of_entry(entry)).collect();
    if sizes.len() > page {
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.truncate(page);
    }
    sizes.iter().sum::<usize>() + NUMBERS
}

/// About the bytes of a bundle.
pub(crate) fn of_bundle(bundle: &Bundle) -> usize {
    let x509 = bundle.x509_authorities().iter();
    let x509: usize = x509.map(|one| one.certificate.as_der().len() + FIELD).sum();
    let jwt = bundle.jwt_authorities().iter();
    let jwt: usize = jwt
        .map(|one| one.public_key.spki_der().len() + one.key_id.len() + 2 * FIELD)
        .sum();
    x509 + jwt + bundle.trust_domain().as_str().len() + NUMBERS
}

/// Tags and lengths.
const FIELD: usize = 16;
/// All fields that are numbers.
const NUMBERS: usize = 128;

//! SPIRE's API as an operator calls it: up to eight calls on a fresh server, after which everything the server holds is still sound, and
//! what it signed is of its own trust domain.
//!
//! Input: calls, as `calls::parse` has them.
#![no_main]

use std::collections::HashSet;

use bytes::Bytes;
use landfast_fuzz::fixed::NOW;
use landfast_fuzz::plant::{Caller, DOMAIN, METHODS, Method, Plant, method, streams, with};
use landfast_fuzz::{calls, raw::Answer};
use landfast_identity::{Certificate, Csr, Selector, SpiffeId, jwt, verify_x509_svid};
use landfast_proto::spire::api::server::{bundle::v1 as bundle, entry::v1 as entry, svid::v1 as svid};
use landfast_proto::spire::api::types;
use libfuzzer_sys::fuzz_target;
use prost::Message;

fuzz_target!(|data: &[u8]| {
    with(false, 20_000, |plant| {
        let mut changed = false;
        for (caller, method, messages) in streams(&calls::parse(data), &[Caller::Operator]) {
            let asked = messages.clone();
            let Some(answer) = plant.call(caller, method, messages) else {
                continue;
            };
            changed |= method.changes && answer.refused.is_none();
            issued(plant, method, &asked, &answer);
        }
        if changed {
            sound(plant);
        }
        changed
    });
});

fn issued(plant: &Plant, method: &Method, asked: &[Bytes], answer: &Answer) {
    let (Some(request), Some(message)) = (asked.first(), answer.messages.first()) else {
        return;
    };
    if method.path.ends_with("/MintX509SVID") {
        let request = svid::MintX509svidRequest::decode(&request[..]).expect("answered, but unreadable");
        let minted = svid::MintX509svidResponse::decode(&message[..]).expect("an answer");
        let minted = minted.svid.expect("an SVID");
        let chain: Vec<&[u8]> = minted.cert_chain.iter().map(AsRef::as_ref).collect();
        let peer = verify_x509_svid(&chain, &plant.bundles(), NOW).expect("an SVID that verifies");
        let csr = Csr::parse_der(&request.csr).expect("answered, but no request");
        assert_eq!(peer.leaf.public_key(), csr.public_key());
        assert_eq!(csr.uri_sans(), [peer.id.as_str()]);
        workload(&peer.id);
    }
    if method.path.ends_with("/MintJWTSVID") {
        let request = svid::MintJwtsvidRequest::decode(&request[..]).expect("answered, but unreadable");
        let minted = svid::MintJwtsvidResponse::decode(&message[..]).expect("an answer");
        let token = minted.svid.expect("an SVID").token;
        for audience in &request.audience {
            let svid = jwt::verify(&token, &plant.bundles(), audience, NOW).expect("a token that verifies");
            workload(svid.id());
        }
    }
}

/// Of this trust domain, with a path, and not one of SPIRE's own.
fn workload(id: &SpiffeId) {
    assert!(
        id.trust_domain().as_str() == DOMAIN && !id.path().is_empty() && !id.is_reserved(),
        "{id}"
    );
}

fn sound(plant: &Plant) {
    let listed = entry::ListEntriesRequest::default();
    let entries: entry::ListEntriesResponse = ask(plant, "Entry/ListEntries", &listed);
    let mut seen = HashSet::new();
    for one in &entries.entries {
        let id = |id: &Option<types::Spiffeid>| {
            let id = id.as_ref().expect("an ID");
            SpiffeId::parse(&format!("spiffe://{}{}", id.trust_domain, id.path)).expect("a stored ID")
        };
        workload(&id(&one.spiffe_id));
        assert_eq!(id(&one.parent_id).trust_domain().as_str(), DOMAIN);
        assert!(seen.insert(one.id.clone()), "an entry twice: {}", one.id);
        assert!(!one.selectors.is_empty());
        for selector in &one.selectors {
            Selector::new(&selector.r#type, &selector.value).expect("a stored selector");
        }
        let got: types::Entry = ask(
            plant,
            "Entry/GetEntry",
            &entry::GetEntryRequest {
                id: one.id.clone(),
                output_mask: None,
            },
        );
        assert_eq!(got, *one);
    }
    let counted: entry::CountEntriesResponse = ask(
        plant,
        "Entry/CountEntries",
        &entry::CountEntriesRequest::default(),
    );
    if entries.next_page_token.is_empty() {
        assert_eq!(usize::try_from(counted.count).ok(), Some(entries.entries.len()));
    }
    let own: types::Bundle = ask(plant, "Bundle/GetBundle", &bundle::GetBundleRequest::default());
    assert_eq!(own.trust_domain, DOMAIN);
    for authority in plant.bundle().x509_authorities() {
        let kept = |one: &types::X509Certificate| {
            Certificate::from_der(&one.asn1).is_ok_and(|kept| kept == authority.certificate)
        };
        assert!(own.x509_authorities.iter().any(kept), "an authority is gone");
    }
    let foreign: bundle::ListFederatedBundlesResponse = ask(
        plant,
        "Bundle/ListFederatedBundles",
        &bundle::ListFederatedBundlesRequest::default(),
    );
    assert!(foreign.bundles.iter().all(|bundle| bundle.trust_domain != DOMAIN));
}

fn ask<A: Message + Default>(plant: &Plant, name: &str, request: &impl Message) -> A {
    let (at, _) = method(name);
    let answer = plant
        .call(
            Caller::Operator,
            &METHODS[usize::from(at)],
            vec![request.encode_to_vec().into()],
        )
        .expect("the admin socket holds");
    let message = answer.messages.first();
    let message = message.unwrap_or_else(|| panic!("{name}: {:?}", answer.refused));
    A::decode(&message[..]).expect("an answer")
}

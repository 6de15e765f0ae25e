//! What is kept, as messages and back.
//!
//! Invariant: what comes back passed every rule that it passed when the server sent it; a key comes back only with the certificate that it
//! belongs to. Copies of keys are wiped.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use landfast_identity::{Bundle, Certificate, PrivateKey, SpiffeId, TrustDomain, UnixTime, X509Svid};
use landfast_proto::landfast::cache::v1 as wire;
use landfast_proto::spire::api::types;
use prost::Message as _;
use prost::bytes::Bytes;
use zeroize::Zeroizing;

use super::Image;
use crate::entry::{Entry, EntryIndex, Offline};
use crate::jwt::{Key, Token};
use crate::keeper::rungs::Rung;
use crate::keeper::state::Held;
use crate::keeper::state::Snapshot;
use crate::link::bundle_wire;

/// The index, but for what only the shelf knows.
pub(super) fn index(
    image: &Image,
    generation: u64,
    svids: Vec<wire::SvidFile>,
    ladders: Vec<wire::Ladder>,
) -> wire::Index {
    let snapshot = &image.snapshot;
    let own = snapshot.bundle.iter();
    wire::Index {
        generation,
        agent_id: image.agent_id.to_string(),
        bootstrap: image.bootstrap.clone(),
        synced_at: snapshot.synced_at.map_or(0, UnixTime::as_secs),
        newest: image.newest.map(Into::into),
        entries: snapshot.entries.iter().map(|entry| entry_of(entry)).collect(),
        bundles: own
            .chain(snapshot.federated.values())
            .map(|bundle| bundle_of(bundle))
            .collect(),
        svids,
        ladders,
    }
}

fn entry_of(entry: &Entry) -> wire::Entry {
    let selectors = entry.selectors.iter().map(|selector| types::Selector {
        r#type: selector.kind().to_owned(),
        value: selector.value().to_owned(),
    });
    let policy = entry.offline.to_policy(&entry.id);
    let entry = types::Entry {
        id: entry.id.to_string(),
        spiffe_id: Some(types::Spiffeid {
            trust_domain: entry.spiffe_id.trust_domain().to_string(),
            path: entry.spiffe_id.path().to_owned(),
        }),
        selectors: selectors.collect(),
        federates_with: entry.federates_with.iter().map(ToString::to_string).collect(),
        hint: entry.hint.clone(),
        expires_at: entry.expires_at.map_or(0, UnixTime::as_secs),
        revision_number: entry.revision,
        created_at: entry.created_at,
        admin: entry.privileged,
        additional_attributes: entry.on_demand.then(|| types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    wire::Entry {
        entry: Some(entry),
        policy,
    }
}

fn bundle_of(bundle: &Bundle) -> types::Bundle {
    let secs = |time: Option<UnixTime>| time.map_or(0, UnixTime::as_secs);
    let x509 = bundle
        .x509_authorities()
        .iter()
        .map(|authority| types::X509Certificate {
            asn1: Bytes::copy_from_slice(authority.certificate.as_der()),
            tainted: authority.tainted,
        });
    let jwt = bundle.jwt_authorities().iter().map(|authority| types::JwtKey {
        public_key: Bytes::copy_from_slice(authority.public_key.spki_der()),
        key_id: authority.key_id.clone(),
        expires_at: secs(authority.expires_at),
        tainted: authority.tainted,
    });
    let wit = bundle.wit_authorities().iter().map(|authority| types::WitKey {
        public_key: Bytes::copy_from_slice(authority.public_key.spki_der()),
        key_id: authority.key_id.clone(),
        expires_at: secs(authority.expires_at),
        tainted: authority.tainted,
    });
    types::Bundle {
        trust_domain: bundle.trust_domain().to_string(),
        x509_authorities: x509.collect(),
        jwt_authorities: jwt.collect(),
        wit_authorities: wit.collect(),
        refresh_hint: bundle
            .refresh_hint()
            .map_or(0, |hint| i64::try_from(hint.as_secs()).unwrap_or(i64::MAX)),
        sequence_number: bundle.sequence(),
    }
}

/// An image without SVIDs and tokens. What of it is not understood is said in `complaints` and left out.
pub(super) fn image(
    index: wire::Index,
    trust_domain: &TrustDomain,
    complaints: &mut Vec<String>,
) -> Option<Image> {
    let agent_id = SpiffeId::parse(&index.agent_id).ok()?;
    let mut entries = Vec::with_capacity(index.entries.len());
    for kept in index.entries {
        let Some(entry) = kept.entry else { continue };
        let offline = Offline::of(kept.policy.as_ref());
        match Entry::parse(&entry, trust_domain) {
            Ok(Some(entry)) => entries.push(Arc::new(Entry { offline, ..entry })),
            Ok(None) => {}
            Err(refusal) => complaints.push(format!("a cached entry is not used: {refusal}")),
        }
    }
    let (mut own, mut federated) = (None, BTreeMap::new());
    for bundle in index.bundles {
        let parsed = TrustDomain::parse(&bundle.trust_domain)
            .map_err(|_cause| "it names no trust domain".to_owned())
            .and_then(|name| Ok((bundle_wire::parse(&bundle, &name)?, name)));
        match parsed {
            Ok((bundle, name)) if name == *trust_domain => own = Some(Arc::new(bundle)),
            Ok((bundle, name)) => drop(federated.insert(name, Arc::new(bundle))),
            Err(what) => complaints.push(format!(
                "the cached bundle of {:?} is not used: {what}",
                bundle.trust_domain
            )),
        }
    }
    Some(Image {
        agent_id,
        bootstrap: index.bootstrap,
        newest: index.newest.as_ref().map(Into::into),
        snapshot: Arc::new(Snapshot {
            entries: Arc::new(EntryIndex::new(entries)),
            held: Arc::default(),
            bundle: own,
            federated: Arc::new(federated),
            synced_at: (index.synced_at != 0).then(|| UnixTime::from_secs(index.synced_at)),
            // What is missing has to be asked for; nobody who has something waits for it.
            round_over: true,
            banned: false,
            wanted: Arc::default(),
            rungs: Arc::default(),
            reading: false,
        }),
        tokens: Vec::new(),
    })
}

/// The content of an SVID's file.
pub(super) fn svid_of(entry_id: &str, held: &Held) -> Zeroizing<Vec<u8>> {
    let chain = held.svid.chain();
    let key = Bytes::from_owner(KeyBytes(Arc::clone(held.svid.key())));
    file_of(entry_id, chain, key, held.revision, held.received())
}

/// The content of a rung's file.
pub(super) fn rung_of(entry_id: &str, rung: &Arc<Rung>) -> Zeroizing<Vec<u8>> {
    let key = Bytes::from_owner(RungKey(Arc::clone(rung)));
    file_of(entry_id, rung.chain(), key, rung.revision(), rung.received())
}

fn file_of(
    entry_id: &str,
    chain: &[Certificate],
    key: Bytes,
    revision: i64,
    received: UnixTime,
) -> Zeroizing<Vec<u8>> {
    let chain = chain.iter();
    let message = wire::Svid {
        entry_id: entry_id.to_owned(),
        entry_revision: revision,
        received_at: received.as_secs(),
        chain: chain
            .map(|certificate| Bytes::copy_from_slice(certificate.as_der()))
            .collect(),
        key,
    };
    // All at once into room for all of it, so that no copy is left behind.
    Zeroizing::new(message.encode_to_vec())
}

/// The key's own memory, which is wiped with it.
struct KeyBytes(Arc<PrivateKey>);

impl AsRef<[u8]> for KeyBytes {
    fn as_ref(&self) -> &[u8] {
        self.0.as_pkcs8_der()
    }
}

/// The same of a rung.
struct RungKey(Arc<Rung>);

impl AsRef<[u8]> for RungKey {
    fn as_ref(&self) -> &[u8] {
        self.0.key()
    }
}

/// The SVID of this entry. The message shares the memory that it is read from, which is wiped when it is dropped.
pub(super) fn svid(plain: Zeroizing<Vec<u8>>, entry_id: &str) -> Result<Held, &'static str> {
    let (message, chain) = content(plain, entry_id)?;
    let key = PrivateKey::from_pkcs8_der(message.key.to_vec()).map_err(|_cause| "the key cannot be read")?;
    let svid = X509Svid::new(chain, key).map_err(|_cause| "certificate and key do not belong together")?;
    Ok(Held::new(
        Arc::new(svid),
        message.entry_revision,
        UnixTime::from_secs(message.received_at),
    ))
}

/// A rung of this entry. Whether the key is the certificate's is seen when it is its turn.
pub(super) fn rung(plain: Zeroizing<Vec<u8>>, entry_id: &str) -> Result<Rung, &'static str> {
    let (message, chain) = content(plain, entry_id)?;
    let received = UnixTime::from_secs(message.received_at);
    let key = Zeroizing::new(message.key.to_vec());
    Rung::from_parts(chain, key, message.entry_revision, received)
        .map_err(|_cause| "its certificate is no X.509-SVID")
}

fn content(
    plain: Zeroizing<Vec<u8>>,
    entry_id: &str,
) -> Result<(wire::Svid, Vec<Certificate>), &'static str> {
    let message = wire::Svid::decode(Bytes::from_owner(plain)).map_err(|_cause| "it cannot be understood")?;
    if message.entry_id != entry_id {
        return Err("it is of another entry");
    }
    let chain = message.chain.iter().map(|der| Certificate::from_der(der));
    let chain = chain
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_cause| "a certificate cannot be read")?;
    Ok((message, chain))
}

/// The content of the tokens' file. Tokens with a key of their own are not kept.
pub(super) fn tokens_of(tokens: &[(Key, Token)]) -> Zeroizing<Vec<u8>> {
    let tokens = tokens
        .iter()
        .filter(|(_, token)| token.key.is_none())
        .map(|(key, token)| wire::Token {
            entry_id: key.entry().to_string(),
            audience: key.audience().to_vec(),
            token: token.text.to_string(),
            held_since: token.held_since.as_secs(),
            offline: key.is_for_later(),
        });
    let message = wire::Tokens {
        tokens: tokens.collect(),
    };
    Zeroizing::new(message.encode_to_vec())
}

/// Those that can be read.
pub(super) fn tokens(plain: Zeroizing<Vec<u8>>) -> Result<Vec<(Key, Token)>, &'static str> {
    let message =
        wire::Tokens::decode(Bytes::from_owner(plain)).map_err(|_cause| "it cannot be understood")?;
    let read = message.tokens.into_iter().filter_map(|kept| {
        let parsed = landfast_identity::jwt::parse_unverified(&kept.token).ok()?;
        let token = Token {
            id: parsed.id().clone(),
            expires_at: parsed.expires_at(),
            text: kept.token.into(),
            held_since: UnixTime::from_secs(kept.held_since),
            key: None,
        };
        let key = Key::new(kept.entry_id.into(), &kept.audience);
        Some((if kept.offline { key.for_later() } else { key }, token))
    });
    Ok(read.collect())
}

/// SVIDs by their entries.
pub(super) type HeldMap = HashMap<Arc<str>, Arc<Held>>;

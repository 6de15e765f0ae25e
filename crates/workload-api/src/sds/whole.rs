//! State of the world: each request says all that is wanted, each response has those that changed.
//!
//! Invariant: a request that answers an older response than the last one changes nothing; the client asks again after the last.

use std::{collections::BTreeSet, sync::Arc};

use landfast_proto::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tonic::Status;

use super::{
    Sds,
    offer::{Found, Named, Offer, TYPE_URL, Version, digest},
    session::Dialogue,
    subscriber::{Heard, Subscriber, check_type, not_authorized, refusal},
};
use crate::{ServedX509, WorkloadView};

#[derive(Default)]
pub(super) struct Whole {
    subscriber: Subscriber,
    /// Whether names were ever given: from then on none means none, and not all.
    named: bool,
    begun: bool,
}

impl Dialogue for Whole {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;

    fn hear(&mut self, request: DiscoveryRequest, sds: &Sds) -> Result<Heard, Status> {
        check_type(&request.type_url)?;
        let subscriber = &mut self.subscriber;
        if subscriber.is_answered() && !subscriber.is_current(&request.response_nonce) {
            return Ok(Heard::Stale);
        }
        subscriber.meet(request.node.as_ref(), sds, !self.begun);
        self.begun = true;
        let mut names = request.resource_names;
        names.retain(|name| !name.is_empty());
        self.named |= !names.is_empty();
        let all = !self.named || names.iter().any(|name| name == EVERYTHING);
        names.retain(|name| name != EVERYTHING);
        let names: BTreeSet<String> = names.into_iter().collect();
        subscriber.asked |= (all, &names) != (subscriber.all, &subscriber.names);
        (subscriber.all, subscriber.names) = (all, names);
        // What is asked for again after it was not is sent again.
        let Subscriber { all, names, told, .. } = subscriber;
        told.retain(|name, _version| *all || names.contains(name));
        Ok(match request.error_detail {
            Some(detail) => Heard::Refused {
                reason: refusal(&detail),
                asked: true,
            },
            None => Heard::Asked,
        })
    }

    fn tell(&mut self, sds: &Sds, view: &Arc<WorkloadView>) -> Result<Option<DiscoveryResponse>, Status> {
        let changes = self.subscriber.changes(sds, view)?;
        // This way of asking has no word for a secret that is gone. One that was asked for by its name ends the stream, as it would
        // if it were asked for now.
        let named = |name: &String| self.subscriber.names.contains(name);
        let gone: Vec<String> = changes.removed.into_iter().filter(named).collect();
        if !gone.is_empty() {
            return Err(not_authorized(&gone));
        }
        if changes.changed.is_empty() {
            return Ok(None);
        }
        let versions = self.subscriber.told.iter();
        let versions = versions.filter_map(|(_name, version)| version.as_ref());
        let response = response(version_of(versions), changes.changed);
        let nonce = self.subscriber.next_nonce();
        Ok(Some(DiscoveryResponse { nonce, ..response }))
    }

    fn given(&mut self) -> Vec<ServedX509> {
        self.subscriber.given()
    }

    fn part(&mut self) -> Option<DiscoveryResponse> {
        None
    }
}

/// The answer to a single question, and the SVIDs in it.
pub(super) fn fetched(
    offer: &Offer<'_>,
    names: &[String],
) -> Result<(DiscoveryResponse, Vec<ServedX509>), Status> {
    let named = names
        .iter()
        .filter(|name| !name.is_empty() && *name != EVERYTHING);
    let mut wanted: Vec<String> = named.cloned().collect();
    if wanted.is_empty() || names.iter().any(|name| name == EVERYTHING) {
        wanted.extend(offer.names());
    }
    wanted.sort();
    wanted.dedup();
    let (mut found, mut foreign) = (Vec::new(), Vec::new());
    for name in wanted {
        match offer.find(&name) {
            _ if offer.is_impossible(&name) => {
                return Err(super::subscriber::impossible(&name));
            }
            Found::Secret(named) => found.push(*named),
            Found::Later if names.contains(&name) => {
                return Err(Status::unavailable(format!("{name:?} cannot be had now")));
            }
            Found::Later => {}
            Found::Nothing => foreign.push(name),
        }
    }
    if !foreign.is_empty() {
        return Err(not_authorized(&foreign));
    }
    let given = found.iter().filter_map(Named::svid).cloned().collect();
    let version = version_of(found.iter().map(|named| &named.version));
    Ok((response(version, found), given))
}

fn response(version_info: Version, secrets: Vec<Named>) -> DiscoveryResponse {
    DiscoveryResponse {
        version_info,
        resources: secrets.into_iter().map(Named::into_any).collect(),
        type_url: TYPE_URL.to_owned(),
        nonce: String::new(),
    }
}

/// Of the names' order, which is the same each time.
fn version_of<'a>(versions: impl Iterator<Item = &'a Version>) -> Version {
    digest(versions.map(|version| version.as_bytes()))
}

/// How a client that gives names asks for all others too.
pub(super) const EVERYTHING: &str = "*";

//! Differences: requests add and remove names, responses have what changed and what is gone.
//!
//! Invariant: names are taken in from every request, whatever response it answers: they are said once.

use std::sync::Arc;

use landfast_proto::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, Resource,
};
use tonic::Status;

use super::{
    Sds,
    offer::{Named, TYPE_URL, digest},
    session::Dialogue,
    subscriber::{Changes, Heard, Subscriber, check_type, refusal},
    whole::EVERYTHING,
};
use crate::{ServedX509, WorkloadView};

#[derive(Default)]
pub(super) struct Difference {
    subscriber: Subscriber,
    begun: bool,
}

impl Dialogue for Difference {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;

    fn hear(&mut self, request: DeltaDiscoveryRequest, sds: &Sds) -> Result<Heard, Status> {
        check_type(&request.type_url)?;
        let subscriber = &mut self.subscriber;
        let first = !std::mem::replace(&mut self.begun, true);
        subscriber.meet(request.node.as_ref(), sds, first);
        let asked =
            !(request.resource_names_subscribe.is_empty() && request.resource_names_unsubscribe.is_empty());
        subscriber.all |= first && request.resource_names_subscribe.is_empty();
        for name in request.resource_names_unsubscribe {
            if name == EVERYTHING {
                subscriber.all = false;
            }
            subscriber.asked |= subscriber.names.remove(&name) || name == EVERYTHING;
        }
        let Subscriber {
            all,
            names,
            told,
            asked: anew,
            ..
        } = subscriber;
        // The client knows that it does not want them any more.
        told.retain(|name, _version| *all || names.contains(name));
        for name in request.resource_names_subscribe {
            *anew |= !name.is_empty();
            if name == EVERYTHING {
                *all = true;
            } else if !name.is_empty() {
                // Asking again is how a client says that it has lost it.
                told.remove(&name);
                names.insert(name);
            }
        }
        if first {
            let had = request.initial_resource_versions.into_iter();
            let had = had.filter(|(name, _version)| *all || names.contains(name));
            told.extend(had.map(|(name, version)| (name, Some(version))));
        }
        let current = request.response_nonce.is_empty() || subscriber.is_current(&request.response_nonce);
        Ok(match request.error_detail {
            Some(detail) if current => Heard::Refused {
                reason: refusal(&detail),
                asked,
            },
            _ if first || asked || request.node.is_some() => Heard::Asked,
            _ => Heard::Stale,
        })
    }

    fn tell(
        &mut self,
        sds: &Sds,
        view: &Arc<WorkloadView>,
    ) -> Result<Option<DeltaDiscoveryResponse>, Status> {
        let changes = self.subscriber.changes(sds, view)?;
        Ok(self.response(changes))
    }

    fn given(&mut self) -> Vec<ServedX509> {
        self.subscriber.given()
    }

    fn part(&mut self) -> Option<DeltaDiscoveryResponse> {
        let told = std::mem::take(&mut self.subscriber.told).into_iter();
        let removed = told.filter_map(|(name, version)| version.map(|_| name));
        self.response(Changes {
            removed: removed.collect(),
            ..Changes::default()
        })
    }
}

impl Difference {
    fn response(&mut self, changes: Changes) -> Option<DeltaDiscoveryResponse> {
        let Changes { changed, removed } = changes;
        if changed.is_empty() && removed.is_empty() {
            return None;
        }
        let versions = self.subscriber.told.values().flatten();
        Some(DeltaDiscoveryResponse {
            system_version_info: digest(versions.map(|version| version.as_bytes())),
            resources: changed.into_iter().map(resource).collect(),
            type_url: TYPE_URL.to_owned(),
            removed_resources: removed,
            nonce: self.subscriber.next_nonce(),
        })
    }
}

fn resource(named: Named) -> Resource {
    Resource {
        name: named.name.clone(),
        version: named.version.clone(),
        resource: Some(named.into_any()),
    }
}

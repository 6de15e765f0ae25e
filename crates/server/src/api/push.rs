//! `landfast.sync.v1.Sync`.

use std::time::Duration;

use landfast_proto::landfast::sync::v1::{self as pb, sync_server::Sync};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Api;
use super::entry::{along, at_revision};
use super::status::{internal, quarantined, stale};
use crate::answers::Way;
use crate::authz::Caller;
use crate::endpoints::TlsPeer;
use crate::push::{Answers, Grounds, Held, Subscription, slot};
use crate::registry::Revision;
use crate::server::{DRAIN, MAX_AGE};

#[tonic::async_trait]
impl Sync for Api {
    type SubscribeStream = Answers;

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.subscribe_limit.charge(&request, 1)?;
        let agent = Caller::agent(&request)?;
        self.peers.note(&agent.id, request.metadata(), self.clock.now());
        if self.quarantine.holds() {
            return Err(self.listen_in_quarantine(request));
        }
        // Else it would begin and end, and the agent take that for an answer.
        self.authorities.current().map_err(|error| stale(&error))?;
        let tls = request.extensions().get::<TlsPeer>().cloned();
        let tls = tls.ok_or_else(|| internal("an agent without a connection"))?;
        let peer = tls
            .verified()
            .ok_or_else(|| internal("an agent without a certificate"))?;
        let grounds = Grounds {
            agent: agent.id.clone(),
            serial: peer.serial_hex.clone(),
            not_after: peer.not_after,
            cut: tls.cut(),
            retires: retires(&tls, &peer.serial_hex),
            verifies: Box::new({
                let tls = tls.clone();
                move |now| tls.verify_again(now).is_ok()
            }),
        };
        let way = Way::of(&self.answers, &agent.id, &request);
        let said = request.into_inner();
        let newest = said.newest.map(|newest| Revision {
            epoch: newest.epoch,
            number: newest.number,
        });
        // Before anything is read: what changes from here on is told.
        let subscriber = self.registry.subscribe(agent.id.clone(), &grounds.serial);
        if let Some(newest) = newest {
            let caught_up = self.stale.catch_up(&self.registry, newest, &agent.id).await;
            if let Err(behind) = caught_up {
                self.quarantine.claim(&agent.id, newest, &self.registry).await;
                return Err(behind);
            }
        }
        let known = self.registry.revision();
        let trusted = newest.is_some_and(|newest| newest.epoch == known.epoch);
        let held = Held::parse(said, trusted).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let subscription = Subscription {
            registry: self.registry.clone(),
            authorities: self.authorities.clone(),
            digests: self.digests.clone(),
            clock: self.clock.clone(),
            grounds,
            subscriber,
            held,
            ends: None,
        };
        let (slot, answers) = slot(way.clone());
        let stop = self.tasks.cancelled();
        self.tasks.spawn_job("subscription", async move {
            tokio::select! {
                () = subscription.run(slot) => {}
                () = stop => {}
            }
        });
        Ok(along(way, at_revision(answers, known, &*self.clock)))
    }
}

impl Api {
    /// What the node holds and has seen is noted for operators; it is told to come again.
    fn listen_in_quarantine(&self, request: Request<pb::SubscribeRequest>) -> Status {
        match Caller::agent(&request) {
            Ok(agent) => {
                let view = self.registry.view(&agent.id);
                self.quarantine.heard(&agent.id, request.get_ref(), &view);
                quarantined()
            }
            Err(fault) => fault,
        }
    }
}

/// Some time before the end of the connection's age, and for each agent at another time, so that a fleet that came at once does not come again
/// at once.
fn retires(tls: &TlsPeer, serial: &str) -> Instant {
    // The serial number is random.
    let last = serial.get(serial.len().saturating_sub(4)..);
    let drawn = last.and_then(|last| u16::from_str_radix(last, 16).ok());
    let share = f64::from(drawn.unwrap_or_default()) / f64::from(u16::MAX);
    let retires = tls.begun() + MAX_AGE.mul_f64(0.7 + 0.25 * share);
    // Who subscribes late on an old connection gets something for it.
    retires
        .max(Instant::now() + LEAST)
        .min(tls.begun() + MAX_AGE + DRAIN / 2)
}

const LEAST: Duration = Duration::from_secs(600);

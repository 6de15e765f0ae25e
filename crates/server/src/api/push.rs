//! `landfast.sync.v1.Sync`.

use std::time::Duration;

use landfast_proto::landfast::sync::v1::{self as pb, sync_server::Sync};
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use super::Api;
use super::status::internal;
use crate::authz::Caller;
use crate::endpoints::TlsPeer;
use crate::push::{Answers, Grounds, Held, Subscription, slot};
use crate::registry::Revision;

#[tonic::async_trait]
impl Sync for Api {
    type SubscribeStream = Answers;

    async fn subscribe(
        &self,
        request: Request<pb::SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        self.subscribe_limit.charge(&request, 1)?;
        let agent = Caller::agent(&request)?;
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
            retires: self.retires(&tls, &peer.serial_hex),
            verifies: Box::new({
                let tls = tls.clone();
                move |now| tls.verify_again(now).is_ok()
            }),
        };
        let said = request.into_inner();
        let newest = said.newest.map(|newest| Revision {
            epoch: newest.epoch,
            number: newest.number,
        });
        // Before anything is read: what changes from here on is told.
        let subscriber = self.registry.subscribe(agent.id.clone(), &grounds.serial);
        if let Some(newest) = newest {
            self.catch_up(newest, &grounds).await?;
        }
        let trusted = newest.is_some_and(|newest| newest.epoch == self.registry.revision().epoch);
        let held = Held::parse(said, trusted).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let subscription = Subscription {
            registry: self.registry.clone(),
            authorities: self.authorities.clone(),
            digests: self.digests.clone(),
            clock: self.clock.clone(),
            grounds,
            subscriber,
            held,
        };
        let (way, answers) = slot();
        let stop = self.tasks.cancelled();
        self.tasks.spawn_job("subscription", async move {
            tokio::select! {
                () = subscription.run(way) => {}
                () = stop => {}
            }
        });
        Ok(Response::new(answers))
    }
}

impl Api {
    /// Waits until this server knows what the agent has seen: of several servers on one database, one may hear of a change a little later.
    async fn catch_up(&self, newest: Revision, grounds: &Grounds) -> Result<(), Status> {
        let until = Instant::now() + CATCHING_UP;
        loop {
            let known = self.registry.revision();
            if known >= newest {
                return Ok(());
            }
            if known.epoch < newest.epoch || Instant::now() >= until {
                metrics::counter!("landfast_server_push_stale_total").increment(1);
                tracing::error!(
                    agent = %grounds.agent, known = %known, seen_by_the_agent = %newest,
                    "an agent has seen a newer registry than this server has: its database was put back without `landfast-server restore`, or is \
                     a replica that does not follow; nothing is told to the agent from here"
                );
                return Err(Status::failed_precondition(format!(
                    "the registry of this server is at {known}, older than {newest}, which the agent has seen: ask another server; here the \
                     database was put back without `landfast-server restore`, or is a replica that does not follow"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Some time before the end of the connection's age, and for each agent at another time, so that a fleet that came at once does not come
    /// again at once.
    fn retires(&self, tls: &TlsPeer, serial: &str) -> Instant {
        let age = self.connection_age;
        // The serial number is random.
        let drawn = serial.get(..4).and_then(|drawn| u16::from_str_radix(drawn, 16).ok());
        let share = f64::from(drawn.unwrap_or(0)) / f64::from(u16::MAX);
        let retires = tls.begun() + age.mul_f64(0.7 + 0.25 * share);
        // Who subscribes late on an old connection gets something for it.
        retires.max(Instant::now() + LEAST)
    }
}

const CATCHING_UP: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(50);
const LEAST: Duration = Duration::from_secs(60);

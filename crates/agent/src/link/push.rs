//! The subscription to what concerns this node: when it is begun, and what it brings.
//!
//! Invariant: a step is adopted whole or not at all, and what ends a subscription costs nothing that is held: the node then asks as SPIRE's
//! agents do, and subscribes again.

use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::TrustDomain;
use landfast_lifecycle::Backoff;
use landfast_proto::landfast::sync::v1::{SubscribeRequest, SubscribeResponse, sync_client::SyncClient};
use landfast_proto::spire::api::types::Bundle;
use tokio::time::{Instant, timeout_at};
use tonic::transport::Channel;
use tonic::{Code, Streaming};

use super::Link;
use super::failure::LinkError;
use super::outcome;
use super::revision::{Floor, Revision};
use super::rpc::{self, MAX_MESSAGE};
use super::speaks;
use super::step::{self, Parts, SUBSCRIBE, Step};
use crate::keeper::state::{Event, Order};
use crate::telemetry;

/// The subscription, and when there is to be another.
pub(super) struct Push {
    live: Option<Live>,
    /// The server of this connection has no such service.
    missing: bool,
    /// Grows while subscriptions end soon after they began.
    pause: Backoff,
    not_before: Option<Instant>,
    backstop: Duration,
    pub(super) check_at: Instant,
    /// The last check found a difference, which may be under way on the subscription.
    pub(super) doubt: bool,
}

struct Live {
    stream: Streaming<SubscribeResponse>,
    parts: Parts,
    since: Instant,
}

impl Push {
    pub(super) fn new(retry: (Duration, Duration), backstop: Duration) -> Self {
        Self {
            live: None,
            missing: false,
            pause: Backoff::new(retry.0, retry.1),
            not_before: None,
            backstop,
            check_at: Instant::now(),
            doubt: false,
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.live.is_some()
    }

    fn may_begin(&self) -> bool {
        !self.missing && self.not_before.is_none_or(|at| at <= Instant::now())
    }

    /// How long until the next try, where one makes sense.
    pub(super) fn again_in(&self) -> Option<Duration> {
        let at = self.not_before.filter(|_| !self.missing)?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    fn begin(&mut self, stream: Streaming<SubscribeResponse>) {
        self.not_before = None;
        self.live = Some(Live {
            stream,
            parts: Parts::awaited(),
            since: Instant::now(),
        });
        self.checked();
    }

    /// All was as it should be, or is said anew.
    pub(super) fn checked(&mut self) {
        self.doubt = false;
        // Between 0.9 and 1.1 of it, as between two polls.
        let jitter = Backoff::new(self.backstop / 5, self.backstop / 5).next();
        self.check_at = Instant::now() + self.backstop.mul_f64(0.9) + jitter;
    }

    /// Somebody's question to the server failed in a way that a look may explain.
    pub(super) fn check_soon(&mut self) {
        self.check_at = Instant::now();
    }

    /// Answers for how long there is no other.
    pub(super) fn over(&mut self) -> Duration {
        if self.live.take().is_some_and(|live| live.since.elapsed() >= LONG) {
            self.pause.reset();
        }
        let pause = self.pause.next();
        self.not_before = Some(Instant::now() + pause);
        pause
    }

    /// The connection is given up. The next one may be to a server that can what this one cannot.
    pub(super) fn hang_up(&mut self) {
        self.live = None;
        self.missing = false;
    }

    /// The next step; never, without a subscription. May be dropped and asked again: nothing that came is lost.
    pub(super) async fn next(&mut self, floor: &Floor) -> Result<Step, LinkError> {
        let Some(live) = &mut self.live else {
            return std::future::pending().await;
        };
        loop {
            let message = match live.parts.deadline() {
                None => live.stream.message().await,
                Some(deadline) => match timeout_at(deadline, live.stream.message()).await {
                    Ok(message) => message,
                    Err(_elapsed) => return Err(late()),
                },
            };
            let message = message.map_err(|status| LinkError::from_status(SUBSCRIBE, &status))?;
            let message = message.ok_or(LinkError::Unsubscribed)?;
            // Also how the node stands: an old copy knows nothing of that.
            floor.admit(SUBSCRIBE, message.revision.as_ref().map(Revision::from))?;
            floor.heard_in_message(message.time);
            if let Some(step) = live.parts.add(message)? {
                return Ok(step);
            }
        }
    }
}

/// Both ways to write a trust domain are read.
fn is_of(bundle: &Bundle, trust_domain: &str) -> bool {
    TrustDomain::parse(&bundle.trust_domain).is_ok_and(|name| name.as_str() == trust_domain)
}

fn late() -> LinkError {
    LinkError::Deadline {
        method: SUBSCRIBE,
        seconds: step::PATIENCE.as_secs(),
    }
}

impl Link {
    /// Subscribed, if that can be had: then the node is in step with its server, and this answers what is to be issued.
    pub(super) async fn subscribed(&mut self, channel: &Channel) -> Result<Option<Vec<Order>>, LinkError> {
        if self.push.is_live() && self.push.check_at <= Instant::now() {
            self.check(channel).await?;
        }
        if !self.push.is_live() {
            if !self.push.may_begin() {
                return Ok(None);
            }
            match self.subscribe(channel).await {
                Ok(()) => {}
                Err(LinkError::Refused {
                    code: Code::Unimplemented,
                    ..
                }) => {
                    self.push.missing = true;
                    self.status
                        .send_modify(|status| status.unsubscribed("the server has no subscriptions"));
                    return Ok(None);
                }
                Err(error) if error.only_ends_a_subscription() && !error.connection_broke() => {
                    self.lost(&error);
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        self.save_bundle_again().await?;
        Ok(Some(self.keeper.tell(Event::Due).await))
    }

    async fn subscribe(&mut self, channel: &Channel) -> Result<(), LinkError> {
        let (entries, bundles) = self.known.held();
        let request = SubscribeRequest {
            newest: self.floor.newest().map(Into::into),
            entries,
            bundles,
        };
        let mut client = SyncClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE);
        let (stream, said) = rpc::call_at(SUBSCRIBE, client.subscribe(speaks::introduced(request)))
            .await
            .map_err(|error| self.or_stale(error))?;
        let revision = self.floor.heard(said);
        self.floor.admit(SUBSCRIBE, revision)?;
        self.push.begin(stream);
        // Also who holds all is told so: until then it is not known to be in step.
        let adopted = match self.hear().await {
            Ok(step) => self.adopt_step(step).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = adopted {
            self.push.over();
            return Err(error);
        }
        // That much it has brought, or said that there is nothing to bring.
        self.floor.raise(revision);
        let (now, newest, told) = (self.clock.now(), self.floor.newest(), self.floor.server.told());
        self.status.send_modify(|status| {
            status.newest = newest;
            status.told = told;
            status.subscribed_since = now;
            status.polls_because.clear();
            status.last_sync = now.or(status.last_sync);
        });
        Ok(())
    }

    /// Steps until one asks for something, or for ever. May be dropped and asked again: a step that came is adopted whole.
    pub(super) async fn hear(&mut self) -> Result<Step, LinkError> {
        let heard = self.push.next(&self.floor).await;
        heard.map_err(|error| self.or_stale(error))
    }

    /// Takes a step, and answers what it asks for.
    pub(super) async fn adopt_step(&mut self, step: Step) -> Result<Vec<Order>, LinkError> {
        let revision = Some(step.revision);
        let own = self.settings.trust_domain.as_str();
        let bundles = step.bundles.iter().filter_map(|current| current.bundle.as_ref());
        for bundle in bundles.filter(|bundle| is_of(bundle, own)) {
            self.floor
                .admit_bundle(SUBSCRIBE, revision, bundle.sequence_number)?;
        }
        let pushed = self.known.apply(step, &self.settings.trust_domain)?;
        if let Some(bundle) = pushed.bundle.clone() {
            self.floor.hold_bundle(revision, bundle.sequence());
            self.adopt_bundle(&bundle).await?;
            self.taints.adopt(&bundle, self.now()?);
        }
        self.floor.raise(revision);
        telemetry::step();
        let orders = self.keeper.tell(Event::Pushed(pushed)).await;
        let (now, newest) = (self.clock.now(), self.floor.newest());
        self.status.send_modify(|status| {
            status.last_sync = now.or(status.last_sync);
            status.newest = newest;
        });
        self.save_revision(false).await?;
        Ok(orders)
    }

    /// Looks whether the node holds what it should. What is different is first given time to come by itself, and then asked for anew.
    async fn check(&mut self, channel: &Channel) -> Result<(), LinkError> {
        // The floor stays where it is: a step that is under way may be of a revision before this one.
        let seen = super::sync::look(channel, &self.floor).await?;
        if self.known.agrees_with(&seen) {
            self.push.checked();
        } else if !self.push.doubt {
            self.push.doubt = true;
            self.push.check_at = Instant::now() + self.settings.confirm_after;
        } else {
            telemetry::missed();
            tracing::warn!(
                "what the server sent on the subscription is not what it has; everything is asked for anew"
            );
            self.known.forget_versions();
            self.push.hang_up();
            self.push.not_before = None;
        }
        Ok(())
    }

    /// A subscription is over, or was not to be had. Answers for how long.
    pub(super) fn lost(&mut self, error: &LinkError) -> Duration {
        let text = error_chain(error);
        let repeated = self.status.borrow().polls_because == text;
        match repeated {
            true => tracing::debug!(error = text, "still no subscription that lasts"),
            false => tracing::info!(
                error = text,
                "the subscription is over; the node asks, and subscribes again"
            ),
        }
        let pause = self.push.over();
        if !error.server_answered() {
            self.hang_up();
        } else if matches!(error, LinkError::Unsubscribed) {
            self.leaving = true;
        }
        if error.connection_broke() || error.another_server_may_help() {
            self.rota.pass_over();
        }
        self.status.send_modify(|status| status.unsubscribed(&text));
        pause
    }

    /// The connection is not used any more, nor what came over it.
    pub(super) fn hang_up(&mut self) {
        self.channel.send_replace(None);
        self.leaving = false;
        self.push.hang_up();
        self.reserve.hang_up();
        self.floor.server.hang_up();
        self.acknowledged = outcome::Acknowledged::default();
        self.status
            .send_if_modified(|status| status.subscribed_since.take().is_some());
    }

    /// A server that has forgotten something, or is somebody's old copy, is told about once, and for as long as it is so.
    pub(super) fn alarm_if_stale(&mut self, error: &LinkError) {
        if !matches!(error, LinkError::Stale { .. } | LinkError::OlderBundle { .. }) {
            return;
        }
        telemetry::stale();
        self.push.over();
        let (server, text) = (self.rota.at(), error_chain(error));
        self.status.send_if_modified(|status| {
            let address = &status.address;
            let known = status.behind.as_ref().is_some_and(|(known, _)| *known == server);
            if !known {
                tracing::error!(%address, "{text}");
            }
            status.behind = Some((server, format!("{address}: {text}")));
            !known
        });
    }

    /// The server's way to say that it has seen less than this node.
    fn or_stale(&self, error: LinkError) -> LinkError {
        match (&error, self.floor.newest()) {
            (
                LinkError::Refused {
                    code: Code::FailedPrecondition,
                    by_server: true,
                    pushback: None,
                    ..
                },
                Some(newest),
            ) => LinkError::Stale {
                method: SUBSCRIBE,
                theirs: None,
                newest,
            },
            _ => error,
        }
    }
}

/// A subscription that lasted so long was a good one.
const LONG: Duration = Duration::from_secs(60);

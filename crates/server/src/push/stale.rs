//! This server's registry is older than what an agent has seen. Invariant: it is said at once, and not once an agent.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::SpiffeId;
use tokio::time::Instant;
use tonic::Status;

use crate::authority::Authorities;
use crate::registry::{Registry, Revision};

/// When that was last said.
#[derive(Default)]
pub(crate) struct Stale(Mutex<Option<Instant>>);

impl Stale {
    /// Waits until this server knows what the agent has seen: of several servers on one database, one may hear of a change a little later.
    ///
    /// # Errors
    /// FailedPrecondition when it does not.
    pub(crate) async fn catch_up(
        &self,
        registry: &Registry,
        newest: Revision,
        agent: &SpiffeId,
    ) -> Result<(), Status> {
        let until = Instant::now() + CATCHING_UP;
        loop {
            let known = registry.revision();
            if known >= newest {
                return Ok(());
            }
            // Another epoch does not come by waiting.
            if known.epoch < newest.epoch || Instant::now() >= until {
                metrics::counter!("landfast_server_push_stale_total").increment(1);
                self.say(known, newest, agent);
                return Err(Status::failed_precondition(format!(
                    "the registry of this server is at revision {known}, older than {newest}, which the agent has seen: {WHAT_TO_DO}"
                )));
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// A fleet sees it at once.
    fn say(&self, known: Revision, newest: Revision, agent: &SpiffeId) {
        let now = Instant::now();
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.duration_since(last) >= COMPLAINTS) {
            *last = Some(now);
            tracing::error!(
                %agent, %known, seen_by_the_agent = %newest,
                "the registry of this server is older than what agents have seen; they are told nothing from here: {WHAT_TO_DO}"
            );
        }
    }
}

/// Wakes subscriptions when something changes, for ever.
pub(crate) async fn keep(authorities: Arc<Authorities>, registry: Arc<Registry>) {
    tokio::join!(registry.wake_subscribers(), send_away(&authorities, &registry));
}

/// Wakes all of them once this server cannot tell any more whether it knows what is so; each then sends its agent away.
async fn send_away(authorities: &Authorities, registry: &Registry) {
    let mut was_current = true;
    loop {
        tokio::time::sleep(EVERY).await;
        let current = authorities.current();
        if let (true, Err(error)) = (was_current, &current) {
            let why = error_chain(error);
            tracing::warn!(
                why,
                "agents cannot be told what is so: subscribed ones are sent to another server"
            );
            registry.wake_everybody();
        }
        was_current = current.is_ok();
    }
}

const WHAT_TO_DO: &str = "its database is a replica that does not follow, or was put back as a file: follow the primary, or put the backup back \
    with `landfast-server restore`, which begins a new epoch";
const CATCHING_UP: Duration = Duration::from_secs(2);
const EVERY: Duration = Duration::from_millis(250);
const LOOK: Duration = Duration::from_millis(50);
const COMPLAINTS: Duration = Duration::from_secs(60);

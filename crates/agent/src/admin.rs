//! The admin socket: how the agent is, and why a process gets what it gets.
//!
//! Invariant: whoever gets here was let in by [`crate::access`]; nothing here changes anything but how much is logged.

mod debug;
mod logger;

use std::io::ErrorKind;
use std::sync::Arc;

use landfast_identity::{TrustDomain, UnixTime};
use landfast_lifecycle::{GuardedClock, SharedClock};
use landfast_proto::landfast::agent::v1 as api;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::attestor::unix::Missing;
use crate::attestor::{Attestors, look};
use crate::cache::CacheState;
use crate::handouts::Records;
use crate::jwt::JwtCache;
use crate::keeper::views::Views;
use crate::link::LinkHandle;
use crate::link::status::LinkStatus;
use crate::standing::Report;
use crate::time;
use crate::why::{Asked, Compared, explain};
use crate::witness;
use landfast_workload_api::Gauges;

/// The services of operators. Clone to share.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) started_at: Option<UnixTime>,
    pub(crate) clock: SharedClock,
    pub(crate) time: GuardedClock,
    pub(crate) views: Views,
    pub(crate) link: LinkHandle,
    pub(crate) attestors: Arc<Attestors>,
    pub(crate) missing: Missing,
    /// How the Workload API pins its callers on this kernel.
    pub(crate) pin_mode: &'static str,
    pub(crate) gauges: Arc<Gauges>,
    pub(crate) descriptors_wanted: u64,
    pub(crate) tokens: JwtCache,
    pub(crate) started: Instant,
    pub(crate) standing: watch::Receiver<Report>,
    pub(crate) cache: watch::Receiver<CacheState>,
    /// Who could use what is on disk.
    pub(crate) sealed: &'static str,
    pub(crate) hand_outs: Records,
    pub(crate) ledger: watch::Receiver<witness::Report>,
    pub(crate) journal: watch::Receiver<String>,
}

impl Admin {
    fn status(&self, link: &LinkStatus) -> api::GetStatusResponse {
        let snapshot = self.views.snapshot();
        let now = self.clock.now();
        let report = self.standing.borrow().clone();
        let identities = snapshot.entries.iter().map(|entry| {
            let held = now.and_then(|now| snapshot.svid(entry, now));
            api::Identity {
                entry_id: entry.id.to_string(),
                spiffe_id: entry.spiffe_id.to_string(),
                not_after: held.map_or(0, |held| held.svid.not_after().as_secs()),
                renew_at: held.map_or(0, |held| held.renew_at.as_secs()),
                serial: held.map(|held| held.svid.serial_hex()).unwrap_or_default(),
                selectors: entry.selectors.iter().map(ToString::to_string).collect(),
                lasts_until: now
                    .and_then(|now| snapshot.lasts(entry, now))
                    .map_or(0, UnixTime::as_secs),
                debt_until: snapshot
                    .rungs
                    .get(&entry.id)
                    .and_then(|ladder| ladder.debt())
                    .map_or(0, UnixTime::as_secs),
            }
        });
        api::GetStatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            trust_domain: self.trust_domain.to_string(),
            agent_id: link
                .agent_id
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            agent_svid_not_after: link.agent_not_after.map_or(0, UnixTime::as_secs),
            server_reachable: link.reachable,
            server_address: link.address.clone(),
            last_sync: link.synced_at(now).map_or(0, UnixTime::as_secs),
            last_error: link.complaint(),
            identities: identities.collect(),
            attestation_mode: self.pin_mode.to_owned(),
            missing_capabilities: self.missing.capabilities.clone(),
            connections: self.gauges.connections(),
            streams: self.gauges.streams(),
            processes: self.gauges.processes(),
            state: link.phase.as_str().to_owned(),
            started_at: self.started_at.map_or(0, UnixTime::as_secs),
            missing_selectors: self.missing.selectors.clone(),
            descriptor_limit: landfast_daemon::descriptor_limit(),
            descriptors_wanted: self.descriptors_wanted,
            subscribed_since: link.subscribed_since.map_or(0, UnixTime::as_secs),
            polls_because: link.polls_because.clone(),
            newest_revision: link.newest.map(|newest| newest.to_string()).unwrap_or_default(),
            standing: report.standing.as_str().to_owned(),
            standing_text: report.text,
            valid_until: report.valid_until.map_or(0, UnixTime::as_secs),
            first_ends: report.first_ends.map_or(0, UnixTime::as_secs),
            cache: self.cache.borrow().in_words(),
            bundle_chain: link.chain.clone(),
            time: Some(time::wire(&self.time.report())),
            device_key: link.device_key.clone(),
            reserve_until: report.reserve.until.map_or(0, UnixTime::as_secs),
            trust_debt_until: report.reserve.debt.map_or(0, UnixTime::as_secs),
            trust_debt: report.reserve.in_words(self.sealed),
            hand_outs: self.hand_outs.in_words(),
            hand_outs_unwritten: self.hand_outs.unwritten(),
            server_speaks: link.told.to_string(),
            ledger_seen: self.ledger.borrow().text.clone(),
            ledger_fork: self.ledger.borrow().fork,
            journal: self.journal.borrow().clone(),
        }
    }

    async fn explain(&self, pid: i32) -> Result<api::WhyResponse, Status> {
        let subject = look::at(pid).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Status::not_found(format!("there is no process {pid}")),
            _ => Status::failed_precondition(format!("process {pid} cannot be looked at: {error}")),
        })?;
        let executable = subject
            .files
            .program_path()
            .map(|path| path.to_string_lossy().into_owned())
            .unwrap_or_default();
        let found = self.attestors.look_at(&subject).await.map_err(|failures| {
            Status::failed_precondition(
                failures
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("; "),
            )
        })?;
        let link = self.link.status.borrow().clone();
        let asked = Asked {
            selectors: &found.selectors,
            executable: &executable,
            agent_id: link.agent_id.as_ref(),
            trust_domain: &self.trust_domain,
            now: self
                .clock
                .now()
                .ok_or_else(|| Status::failed_precondition("the system has no time of day"))?,
        };
        let explanation = explain(&asked, &self.views.snapshot());
        Ok(api::WhyResponse {
            pid,
            executable,
            selectors: found.selectors.iter().map(ToString::to_string).collect(),
            matches: explanation.matches.into_iter().map(wire).collect(),
            nearest: explanation.nearest.into_iter().map(wire).collect(),
            advice: explanation.advice,
            command: explanation.command,
        })
    }
}

fn wire(compared: Compared) -> api::EntryMatch {
    let Compared {
        entry_id,
        spiffe_id,
        matched,
        missing,
    } = compared;
    api::EntryMatch {
        entry_id,
        spiffe_id,
        matched,
        missing,
    }
}

#[tonic::async_trait]
impl api::agent_admin_server::AgentAdmin for Admin {
    async fn get_status(
        &self,
        _: Request<api::GetStatusRequest>,
    ) -> Result<Response<api::GetStatusResponse>, Status> {
        let link = self.link.status.borrow().clone();
        Ok(Response::new(self.status(&link)))
    }

    async fn why(&self, request: Request<api::WhyRequest>) -> Result<Response<api::WhyResponse>, Status> {
        let pid = request.into_inner().pid;
        if pid <= 0 {
            return Err(Status::invalid_argument("pid must be a process's number"));
        }
        self.explain(pid).await.map(Response::new)
    }
}

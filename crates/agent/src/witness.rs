//! The node as a witness: it keeps the last checkpoint of each ledger it was shown, and has it proven that the next goes on from that.
//!
//! Invariant: a checkpoint is kept before it is called good, and one that contradicts it never takes its place; whatever is found is told, and so is that
//! for long nothing was shown that could be; nothing that is served depends on it.

mod judge;
mod seen;
mod silence;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::TrustDomain;
use landfast_lifecycle::Backoff;
use landfast_proto::landfast::ledger::v1 as pb;
use landfast_proto::landfast::ledger::v1::ledger_client::LedgerClient;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tonic::transport::Channel;

use crate::journal::{Desk, Event, LEDGER_FORK, LEDGER_NEW, LEDGER_UNWITNESSED};
use crate::link::disk::Disk;
use crate::link::failure::LinkError;
use crate::link::rpc;
use crate::persist::NodeFiles;
use crate::telemetry;
use judge::{Shown, Verdict};
use seen::{Head, Seen};
use silence::Silence;

/// The one task that asks.
pub(crate) struct Witness {
    desk: Desk,
    files: Arc<NodeFiles>,
    disk: Disk,
    trust_domain: TrustDomain,
    channel: watch::Receiver<Option<Channel>>,
    report: watch::Sender<Report>,
    unsaved: String,
    /// Questions in a row that brought no proof.
    unproven: u32,
    silence: Silence,
    /// A ledger that was shown and cannot be kept beside all others.
    crowd: Option<String>,
}

/// What is said of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) text: String,
    /// A ledger contradicts, or has contradicted, what was seen of it.
    pub(crate) fork: bool,
    /// For long nothing was shown that could be verified, or one ledger too many.
    pub(crate) unwitnessed: bool,
}

impl Witness {
    pub(crate) fn new(
        desk: Desk,
        files: Arc<NodeFiles>,
        trust_domain: TrustDomain,
        channel: watch::Receiver<Option<Channel>>,
    ) -> (Self, watch::Receiver<Report>) {
        let (report, told) = watch::channel(Report::default());
        let witness = Self {
            desk,
            files,
            disk: Disk::default(),
            trust_domain,
            channel,
            report,
            unsaved: String::new(),
            unproven: 0,
            silence: Silence::default(),
            crowd: None,
        };
        (witness, told)
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let run = async {
            let mut seen = self.open().await;
            self.say(&seen);
            let mut jitter = Backoff::new(EVERY / 2, EVERY / 2);
            let mut again = Backoff::new(AGAIN, EVERY);
            loop {
                let Some(channel) = self.connected().await else {
                    return std::future::pending().await;
                };
                let settled = self.ask(channel, &mut seen).await;
                self.say(&seen);
                let pause = match settled {
                    true => {
                        again.reset();
                        jitter.reset();
                        EVERY.mul_f64(0.75) + jitter.next()
                    }
                    false => again.next(),
                };
                tokio::select! {
                    // Another connection may be to another server.
                    Ok(()) = self.channel.changed() => {}
                    () = tokio::time::sleep(pause) => {}
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            ended = run => ended,
        }
    }

    /// The connection, once there is one; `None` when there will be none any more.
    async fn connected(&mut self) -> Option<Channel> {
        let found = self.channel.wait_for(Option::is_some).await.ok()?;
        found.clone()
    }

    async fn open(&mut self) -> Seen {
        let files = Arc::clone(&self.files);
        let error = match self.disk.run(move || files.ledgers_seen()).await {
            Ok(Ok(None)) => return Seen::default(),
            Ok(Ok(Some(bytes))) => match Seen::parse(&bytes) {
                Ok(seen) => return seen,
                Err(what) => what.to_owned(),
            },
            Ok(Err(error)) => error_chain(&error),
            Err(error) => error_chain(&error),
        };
        tracing::error!(
            error,
            "what this node had seen of its servers' ledgers is lost: it begins anew with what it is shown next; the file is written anew"
        );
        let lost = Event::new(LEDGER_NEW).with("lost", error);
        self.desk.note(lost);
        Seen::default()
    }

    /// Whether there is nothing to ask again soon.
    async fn ask(&mut self, channel: Channel, seen: &mut Seen) -> bool {
        let (settled, shown) = self.ask_once(channel, seen).await;
        let ledger = seen.last().map(|head| head.origin().to_owned());
        if let Some(silent) = self.silence.heard(Instant::now(), shown || ledger.is_none()) {
            let why = "a ledger was shown before, and nothing since that can be verified";
            let seconds = silent.as_secs();
            tracing::error!(
                ledger,
                seconds,
                "{why}: the server keeps none any more, or hides it; look with landfast audit verify at the server's"
            );
            self.desk.note(
                Event::new(LEDGER_UNWITNESSED)
                    .with("why", why)
                    .with("ledger", ledger)
                    .with("seconds", seconds),
            );
        }
        settled
    }

    /// That, and whether something was shown of which it can be said what it is.
    async fn ask_once(&mut self, channel: Channel, seen: &mut Seen) -> (bool, bool) {
        let request = pb::GetCheckpointRequest { seen: seen.sizes() };
        let answer = rpc::call(GET, LedgerClient::new(channel).get_checkpoint(request)).await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(LinkError::Refused {
                code: Code::Unimplemented | Code::FailedPrecondition,
                ..
            }) => return (true, false),
            Err(error) => {
                let error = error_chain(&error);
                tracing::debug!(error, "the server has not shown its ledger's checkpoint");
                return (false, false);
            }
        };
        let shown = Shown {
            note: &answer.checkpoint,
            key: &answer.verifier_key,
            proof: &answer.proof,
        };
        let verdict = judge::judge(seen, &self.trust_domain, &shown);
        let is_said = !matches!(verdict, Verdict::Unproven { .. } | Verdict::Crowd(_));
        self.adopt(verdict, seen).await;
        (self.unproven == 0, is_said)
    }

    async fn adopt(&mut self, verdict: Verdict, seen: &mut Seen) {
        let time = self.desk.time();
        let verdict = match verdict {
            Verdict::Unproven { why, suspect } => {
                self.unproven += 1;
                tracing::warn!(
                    why,
                    "it was not proven that the server's ledger goes on from what was seen of it; it is asked again"
                );
                match suspect.filter(|_| self.unproven >= MOST_UNPROVEN) {
                    Some(fork) => Verdict::Fork(fork),
                    None => return,
                }
            }
            proven => {
                self.unproven = 0;
                proven
            }
        };
        match verdict {
            Verdict::Same | Verdict::Unproven { .. } => return,
            Verdict::Crowd(head) => return self.is_one_too_many(&head),
            Verdict::Grown(head) => seen.keep(head),
            Verdict::New { head, before } => {
                tracing::info!(
                    ledger = head.origin(),
                    "this node is a witness of a ledger that it had not seen before"
                );
                let event = Event::new(LEDGER_NEW)
                    .with("ledger", head.origin())
                    .with("size", head.size)
                    .with("verifier_key", head.key.clone());
                let event = match before {
                    Some(before) => event.with("beside", before),
                    None => event,
                };
                self.desk.note(event);
                seen.keep(head);
            }
            Verdict::Fork(fork) => {
                let fork = fork.at(time);
                if !seen.accuse(fork.clone()) {
                    return;
                }
                tracing::error!(
                    ledger = fork.origin,
                    what = fork.what,
                    seen = fork.seen,
                    shown = fork.shown,
                    "the server's ledger contradicts what this node has seen of it: it was put back, cut or rewritten, or there are two of it; keep the ledger's \
                     directory as evidence and look with landfast audit verify --checkpoint"
                );
                let event = Event::new(LEDGER_FORK).with_all(&fork);
                self.desk.note(event);
            }
        }
        self.save(seen).await;
    }

    /// What was seen of the others stays: else who shows new ones could have it forgotten. Told once: names are cheap.
    fn is_one_too_many(&mut self, head: &Head) {
        if self.crowd.is_some() {
            return;
        }
        let why = "it is one more than this node keeps, and none is forgotten for it";
        tracing::error!(
            ledger = head.origin(),
            "the server shows another ledger, and {why}: find out why there are so many; then remove ledgers-seen.json and restart the agent"
        );
        self.desk.note(
            Event::new(LEDGER_UNWITNESSED)
                .with("why", why)
                .with("ledger", head.origin())
                .with("size", head.size)
                .with("verifier_key", head.key.clone()),
        );
        self.crowd = Some(head.origin().to_owned());
    }

    async fn save(&mut self, seen: &Seen) {
        let (files, bytes) = (Arc::clone(&self.files), seen.file());
        let saved = self.disk.run(move || files.save_ledgers_seen(&bytes)).await;
        self.unsaved = match saved {
            Ok(Ok(())) => String::new(),
            Ok(Err(error)) => error_chain(&error),
            Err(error) => error_chain(&error),
        };
        if !self.unsaved.is_empty() {
            tracing::error!(
                error = self.unsaved,
                "the last checkpoint of the ledger cannot be kept: after a restart this node would know an older one"
            );
        }
    }

    fn say(&self, seen: &Seen) {
        let mut report = seen.report();
        if !self.unsaved.is_empty() {
            report.text = format!("{}; it cannot be kept: {}", report.text, self.unsaved);
        }
        if let Some(ledger) = &self.crowd {
            report.text = format!(
                "UNWITNESSED: {ledger} is one ledger more than this node keeps; see docs/operations.md; {}",
                report.text
            );
        }
        if let Some(silent) = self.silence.is_long() {
            let hours = silent.as_secs() / 3600;
            report.text = format!(
                "UNWITNESSED: nothing that can be verified was shown for {hours} h of connection; see docs/operations.md; {}",
                report.text
            );
        }
        report.unwitnessed = self.crowd.is_some() || self.silence.is_long().is_some();
        telemetry::ledger_fork(report.fork);
        telemetry::ledger_unwitnessed(report.unwitnessed);
        self.report.send_if_modified(|old| {
            let differs = *old != report;
            *old = report;
            differs
        });
    }
}

const GET: &str = "GetCheckpoint";
/// Between two questions, more or less.
const EVERY: Duration = Duration::from_secs(300);
/// After one that brought nothing, at first.
const AGAIN: Duration = Duration::from_secs(2);
/// Its files move on while a server looks: once is nothing.
const MOST_UNPROVEN: u32 = 3;

#[cfg(test)]
mod tests;

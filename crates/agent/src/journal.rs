//! The node's journal (`docs/formats/journal.md`): what was given, denied and noticed here, until a server has it in its ledger.
//!
//! Invariant: nothing waits for it and nothing is refused because of it; a record is forgotten when a server has acknowledged it, or counted where it
//! had to make room; whatever is wrong with its file is told, recorded, and keeps nothing from starting.

mod chain;
mod desk;
mod event;
mod forward;
mod watch;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use landfast_daemon::error_chain;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::watch as channels;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

pub(crate) use chain::{hex, unhex};
pub(crate) use desk::Desk;
pub(crate) use event::{Event, HANDED_OUT, LEDGER_FORK, LEDGER_NEW, LEDGER_UNWITNESSED};
pub(crate) use watch::Watcher;

use crate::link::disk::Disk;
use crate::persist::NodeFiles;
use crate::telemetry;
use chain::Journal;
use event::{BEGUN, STARTED, STOPPED};
use forward::Forward;

/// The one task that has the journal.
pub(crate) struct Keeper {
    desk: Desk,
    files: Arc<NodeFiles>,
    limit: usize,
    disk: Disk,
    channel: channels::Receiver<Option<Channel>>,
    forward: Forward,
    budget: Budget,
    /// Numbers below it are in the file.
    written: u64,
    /// The file is not what is held, but for what is to be added.
    outdated: bool,
    /// When a write that failed is tried again.
    retry: Option<Instant>,
    /// Bytes of the file that a server has acknowledged.
    dead: usize,
    complaint: String,
    status: channels::Sender<String>,
}

impl Keeper {
    /// The task, and how the journal is, in words.
    pub(crate) fn new(
        desk: Desk,
        files: Arc<NodeFiles>,
        limit: u64,
        channel: channels::Receiver<Option<Channel>>,
    ) -> (Self, channels::Receiver<String>) {
        let (status, told) = channels::channel(String::new());
        // Before anything else is.
        desk.note(Event::new(STARTED).with("version", env!("CARGO_PKG_VERSION")));
        let keeper = Self {
            desk,
            files,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            disk: Disk::default(),
            channel,
            forward: Forward::default(),
            budget: Budget::new(),
            written: 0,
            outdated: false,
            retry: None,
            dead: 0,
            complaint: String::new(),
            status,
        };
        (keeper, told)
    }

    /// Until `stop`, and until whoever may still note something has ended.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let Some(mut journal) = self.open(&stop).await else {
            return Ok(());
        };
        loop {
            self.say(&journal);
            let wake = self.due(&journal);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.desk.changed() => {}
                changed = self.channel.changed() => {
                    if changed.is_err() {
                        // The link has ended, so the agent ends.
                        stop.cancelled().await;
                        break;
                    }
                    self.forward.connected();
                }
                () = sleep_until(wake) => {}
            }
            if self.must_write() || self.retry.is_some_and(|at| at <= Instant::now()) {
                self.take(&mut journal, false).await;
            }
            self.forward_all(&mut journal, &stop).await;
        }
        self.desk.note(Event::new(STOPPED));
        self.desk.left_alone(LAST).await;
        self.take(&mut journal, true).await;
        Ok(())
    }

    /// What the last run left, or another journal where that is damaged. `None`: the agent stops.
    async fn open(&mut self, stop: &CancellationToken) -> Option<Journal> {
        let found = loop {
            let files = Arc::clone(&self.files);
            let error = match self.disk.run(move || files.journal()).await {
                Ok(Ok(found)) => break found,
                Ok(Err(error)) => error_chain(&error),
                Err(error) => error_chain(&error),
            };
            self.complain(format!(
                "the journal cannot be read ({error}): what happens is counted; make it readable for the agent, or move it away"
            ));
            let _nothing_to_say = self.status.send_replace(self.complaint.clone());
            tokio::select! {
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(AGAIN) => {}
            }
        };
        self.complain(String::new());
        let Some(bytes) = found else {
            let mut journal = Journal::new(self.name(), self.limit);
            journal.add(&Event::new(BEGUN).with("why", "new"), self.desk.moment());
            self.outdated = true;
            self.write(&mut journal).await;
            return Some(journal);
        };
        let (read, damage) = Journal::parse(&bytes, self.limit);
        let Some(damage) = damage else {
            let mut journal = read.unwrap_or_else(|| Journal::new(self.name(), self.limit));
            self.outdated = journal.file() != *bytes;
            if !self.outdated {
                self.written = journal.next();
                journal.is_written();
            }
            self.write(&mut journal).await;
            return Some(journal);
        };
        let (taken_over, text) = (read.as_ref().map_or(0, Journal::waiting), damage.to_string());
        tracing::error!(
            damage = text,
            taken_over,
            "the journal is damaged: it is begun anew with the records before that; the old file is put aside as journal.log.damaged"
        );
        let files = Arc::clone(&self.files);
        let aside = self.disk.run(move || files.put_journal_aside(&bytes)).await;
        if !matches!(aside, Ok(Ok(()))) {
            tracing::error!("the damaged journal could not be put aside");
        }
        let read = read.unwrap_or_else(|| Journal::new(String::new(), self.limit));
        let mut journal = read.anew(self.name(), &format!("damaged: {text}"), self.desk.moment());
        self.outdated = true;
        self.write(&mut journal).await;
        Some(journal)
    }

    /// Everything that waits goes into the journal, and that to the disk.
    async fn take(&mut self, journal: &mut Journal, all: bool) {
        let taken = self.desk.take(all);
        for (event, at) in &taken.events {
            journal.add(event, *at);
        }
        for (kind, number) in taken.over {
            journal.count(kind, number);
        }
        if journal.is_full() {
            journal.make_room();
            self.outdated = true;
        }
        self.write(journal).await;
    }

    async fn write(&mut self, journal: &mut Journal) {
        let next = journal.next();
        let lines = match self.outdated {
            true => None,
            false => journal.lines_from(self.written),
        };
        if lines.as_ref().is_some_and(Vec::is_empty) {
            return;
        }
        self.budget.spend();
        let (files, whole) = (Arc::clone(&self.files), lines.is_none());
        let bytes = lines.unwrap_or_else(|| journal.file());
        let written = self.disk.run(move || match whole {
            true => files.replace_journal(&bytes),
            false => files.add_to_journal(&bytes),
        });
        let error = match written.await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_chain(&error)),
            Err(error) => Some(error_chain(&error)),
        };
        // What was added may be there in part.
        self.outdated = error.is_some();
        self.retry = error.is_some().then(|| Instant::now() + AGAIN);
        if error.is_none() {
            self.written = next;
            journal.is_written();
            if whole {
                self.dead = 0;
            }
        }
        self.complain(error.map_or_else(String::new, |error| {
            format!("the journal cannot be written ({error}): a restart would lose what the server has not; make room, or mend the disk")
        }));
    }

    /// Another name for what is held.
    async fn begin_anew(&mut self, journal: &mut Journal, why: &str) {
        tracing::error!(
            why,
            journal = journal.id,
            "the journal is begun anew, with all records that it has"
        );
        *journal = journal.anew(self.name(), why, self.desk.moment());
        self.outdated = true;
        self.write(journal).await;
    }

    fn must_write(&self) -> bool {
        self.write_due().is_some_and(|due| due <= Instant::now())
    }

    fn write_due(&self) -> Option<Instant> {
        let (since, urgent) = self.desk.waits()?;
        Some(match urgent {
            true => since,
            false => (since + GROUP).max(self.budget.again_at()),
        })
    }

    /// When there is something to do without anybody saying so.
    fn due(&self, journal: &Journal) -> Option<Instant> {
        let forward = self
            .forward
            .due(journal.is_empty(), self.channel.borrow().is_some());
        [self.write_due(), forward, self.retry, Some(Instant::now() + LOOK)]
            .into_iter()
            .flatten()
            .min()
    }

    fn say(&self, journal: &Journal) {
        let (waiting, counted) = (journal.waiting(), journal.counted());
        telemetry::journal(waiting, counted);
        let held = match (waiting, journal.acknowledged_by.as_str()) {
            (0, ledger) => format!("all {} records are in {ledger}", journal.next()),
            (_, "") => format!("{waiting} records wait for a server"),
            (_, ledger) => format!("{waiting} records wait for a server; those before are in {ledger}"),
        };
        let held = match counted {
            0 => held,
            _ => format!("{held}; {counted} of them are only counted, for want of room"),
        };
        let text = [self.complaint.as_str(), self.forward.complaint(), &held];
        let text: Vec<_> = text.into_iter().filter(|text| !text.is_empty()).collect();
        let text = text.join("; ");
        self.status.send_if_modified(|old| {
            let differs = *old != text;
            *old = text;
            differs
        });
    }

    fn complain(&mut self, what: String) {
        telemetry::journal_fails(!what.is_empty());
        match (self.complaint.is_empty(), what.is_empty()) {
            (true, false) => tracing::error!("{what}"),
            (false, true) => tracing::info!("the journal is read and written again"),
            _ => {}
        }
        self.complaint = what;
    }

    fn name(&self) -> String {
        let mut bytes = [0; 16];
        if SystemRandom::new().fill(&mut bytes).is_err() {
            // Then the time tells journals of one node apart.
            let now = self.desk.moment().time.as_secs().to_be_bytes();
            bytes[..8].copy_from_slice(&now);
        }
        hex(&bytes)
    }
}

/// How often the disk is written to: some at once, and then one a minute.
struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    fn new() -> Self {
        Self {
            left: BURST,
            at: Instant::now(),
        }
    }

    fn now(&self) -> f64 {
        let passed = self.at.elapsed().as_secs_f64();
        (self.left + passed / PER_WRITE.as_secs_f64()).min(BURST)
    }

    fn spend(&mut self) {
        self.left = (self.now() - 1.0).max(0.0);
        self.at = Instant::now();
    }

    fn again_at(&self) -> Instant {
        let lacks = (1.0 - self.now()).max(0.0);
        Instant::now() + PER_WRITE.mul_f64(lacks)
    }
}

async fn sleep_until(wake: Option<Instant>) {
    match wake {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Records are gathered for so long.
const GROUP: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(15);
const AGAIN: Duration = Duration::from_secs(30);
const BURST: f64 = 30.0;
const PER_WRITE: Duration = Duration::from_secs(60);
/// Streams have a little less to end.
const LAST: Duration = Duration::from_secs(4);

#[cfg(test)]
pub(crate) mod tests;

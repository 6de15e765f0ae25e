//! What the node knows of the time: told by servers, kept on disk, shown to people. The knowledge itself is `lifecycle`'s.
//!
//! Invariant: whatever is wrong with a clock is said once in the log, and everywhere else for as long as it is so.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use landfast_daemon::error_chain;
use landfast_identity::UnixTime;
use landfast_lifecycle::{GuardedClock, Heard, TimeReport, Verdict, Wrong};
use landfast_proto::landfast::agent::v1 as api;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::link::disk::Disk;
use crate::persist::{NodeFiles, PersistError};

/// Where the time of verified servers goes. Clone to share.
#[derive(Clone)]
pub(crate) struct Ear {
    pub(crate) clock: GuardedClock,
    /// How far a server's time may be from what its certificate allows.
    pub(crate) skew: Duration,
    news: Arc<News>,
}

#[derive(Default)]
struct News {
    /// There is something to write before its time.
    save: Notify,
    told: AtomicBool,
    last: Mutex<Option<std::mem::Discriminant<Verdict>>>,
}

impl Ear {
    pub(crate) fn new(clock: GuardedClock, skew: Duration) -> Self {
        Self {
            clock,
            skew,
            news: Arc::default(),
        }
    }

    /// Takes in what a server says over a verified connection.
    pub(crate) fn hear(&self, said: UnixTime, heard: Heard) -> Verdict {
        let verdict = self.clock.hear(said, heard);
        let kind = Some(std::mem::discriminant(&verdict));
        let mut last = self.news.last.lock().unwrap_or_else(PoisonError::into_inner);
        let other = std::mem::replace(&mut *last, kind) != kind;
        drop(last);
        let first = !self.news.told.load(Ordering::Relaxed);
        match verdict {
            Verdict::Agreed if first => self.save_soon(),
            Verdict::Agreed => {}
            Verdict::Adopted(by) => {
                tracing::info!(%said, by = span(by), "the server has said what time it is");
                self.save_soon();
            }
            Verdict::Doubted(by) if other => tracing::error!(
                %said, later = span(by),
                "the server's clock has leapt; it is not believed unless it stays so for an hour, or for up to a day while this machine's clock is against it; set the one that is wrong"
            ),
            Verdict::BelowFloor(by) if other => tracing::error!(
                %said, floor = %self.clock.floor(), earlier = span(by),
                "the server says an earlier time than this node has been told; it is not believed, or not before it has stayed so for an hour; set its clock if it is wrong"
            ),
            Verdict::Doubted(_) | Verdict::BelowFloor(_) => {}
        }
        verdict
    }

    fn save_soon(&self) {
        self.news.told.store(true, Ordering::Relaxed);
        self.news.save.notify_one();
    }
}

/// Writes what is known: at the start, every ten minutes, when a server has said it for the first time, and at the end.
pub(crate) struct Timekeeper {
    clock: GuardedClock,
    news: Arc<News>,
    files: Arc<NodeFiles>,
    disk: Disk,
    failed: bool,
}

impl Timekeeper {
    pub(crate) fn new(clock: GuardedClock, skew: Duration, files: Arc<NodeFiles>) -> (Self, Ear) {
        let ear = Ear::new(clock.clone(), skew);
        let keeper = Self {
            clock,
            news: Arc::clone(&ear.news),
            files,
            disk: Disk::default(),
            failed: false,
        };
        (keeper, ear)
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        // On an island there may be nothing else to write for long, and a disk that takes nothing is better known now.
        self.save_anew().await;
        loop {
            let wait = if self.failed { RETRY } else { EVERY };
            let over = tokio::select! {
                () = stop.cancelled() => true,
                () = self.news.save.notified() => false,
                () = tokio::time::sleep(wait) => false,
            };
            self.save().await;
            if over {
                return Ok(());
            }
        }
    }

    /// If it has been written before.
    async fn save_anew(&mut self) {
        let files = Arc::clone(&self.files);
        let known = self.disk.run(move || files.times()).await;
        if matches!(known, Ok(Ok(Some(_)))) {
            self.save().await;
        }
    }

    async fn save(&mut self) {
        let (files, record) = (Arc::clone(&self.files), self.clock.record());
        let saved = self.disk.run(move || files.save_times(&record)).await;
        // One that does not answer may do so in a moment, and is not full.
        let refused = matches!(&saved, Ok(Err(error)) if !matches!(error, PersistError::Hangs));
        let failure = match saved {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error_chain(&error)),
            Err(error) => Some(error_chain(&error)),
        };
        if let Some(error) = failure.as_ref().filter(|_| !self.failed) {
            tracing::warn!(
                error,
                "what is known of the time cannot be written; it is tried again every five seconds"
            );
        }
        self.failed = failure.is_some();
        if refused || !self.failed {
            self.clock.kept(!refused);
        }
    }
}

/// Says in the log what is wrong, when that is something else than before.
#[derive(Default)]
pub(crate) struct TimeWatch {
    last: Option<std::mem::Discriminant<Wrong>>,
}

impl TimeWatch {
    pub(crate) fn look(&mut self, report: &TimeReport) {
        let kind = report.judged.wrong.as_ref().map(std::mem::discriminant);
        if std::mem::replace(&mut self.last, kind) == kind {
            return;
        }
        match clock_complaint(report) {
            Some(text) => tracing::error!(now = %report.judged.now, "{text}"),
            None => tracing::info!(now = %report.judged.now, "the clock is right again"),
        }
    }
}

/// By how many seconds the machine's clock is ahead, or, when negative, behind.
pub(crate) fn wrong_by(report: &TimeReport) -> i64 {
    let secs = |by: Duration| i64::try_from(by.as_secs()).unwrap_or(i64::MAX);
    match report.judged.wrong {
        None | Some(Wrong::Absent) => 0,
        Some(Wrong::Behind(by)) => -secs(by),
        Some(Wrong::Ahead(by)) => secs(by),
    }
}

/// What is wrong with a clock, and what to do, for people; empty when nothing is.
pub(crate) fn complaint(report: &TimeReport) -> String {
    let doubted = report.doubted.map(|by| {
        format!(
            "the server's clock has leapt by {}: it is not believed unless it stays so for an hour, or for up to a day while this machine's clock is against it; set the \
             one that is wrong",
            span(by)
        )
    });
    let below = report.below_floor.map(|by| {
        format!(
            "the server's clock is {} behind what this node has been told: set it; or, if servers were ahead for long and this lasts, stop the agent, remove \
             {} in its data directory and start it again",
            span(by),
            crate::persist::TIME
        )
    });
    let unsaved = report.unsaved.then(|| {
        "what is known of the time cannot be written to the data directory: make room, or the disk writable; after a restart it would be known less well"
            .to_owned()
    });
    let all: Vec<_> = [clock_complaint(report), doubted, below, unsaved]
        .into_iter()
        .flatten()
        .collect();
    all.join("; ")
}

fn clock_complaint(report: &TimeReport) -> Option<String> {
    Some(match report.judged.wrong? {
        Wrong::Absent => "time: estimated, for the machine has no time of day; set its clock".to_owned(),
        Wrong::Behind(by) => format!(
            "time: estimated, for the clock is wrong by {} or more: it is behind; set it",
            span(by)
        ),
        Wrong::Ahead(by) => format!(
            "the clock is wrong by {}: it is ahead of what the server said; set it: until then what is valid may seem to be over",
            span(by)
        ),
    })
}

/// For the operator.
pub(crate) fn wire(report: &TimeReport) -> api::Time {
    api::Time {
        now: report.judged.now.as_secs(),
        estimated: report.judged.estimated,
        floor: report.floor.as_secs(),
        estimate: report.estimate.as_secs(),
        clock_wrong_by: wrong_by(report),
        complaint: complaint(report),
    }
}

/// In the two largest units: what is shown every second is not to differ every second.
fn span(by: Duration) -> String {
    let minutes = by.as_secs() / 60;
    let (days, hours, minutes) = (minutes / 1440, minutes / 60 % 24, minutes % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes} min"),
        (0, _) => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// 144 small writes a day.
const EVERY: Duration = Duration::from_secs(600);
/// As the cache is: what a server said first is lost with the power otherwise. A write that fails wears nothing.
const RETRY: Duration = Duration::from_secs(5);

#[cfg(test)]
mod tests;

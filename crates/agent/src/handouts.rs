//! Who was given what: a line for each SVID that leaves, in a file of the data directory (`docs/formats/hand-outs.md`).
//!
//! Invariant: nobody waits for a line, whatever the disk does; no line has a key or a token in it; and a hand-out that has none, though it
//! should, is counted.

mod line;
mod recent;
mod writer;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use landfast_identity::Selector;
use landfast_lifecycle::GuardedClock;
use landfast_workload_api::{Given, HandOut};
use tokio::sync::{Notify, watch};

use crate::journal::{Desk as Journal, Event, HANDED_OUT};
use crate::standing::Report;
use crate::telemetry;
pub(crate) use line::Whom;
use line::{Line, Lost};
use recent::{Recent, Turn};
pub(crate) use writer::{NAME, Writer};

/// Takes hand-outs down. Clone to share; the writer ends with the last of them.
#[derive(Clone)]
pub(crate) struct HandOuts(Arc<Desk>);

struct Desk {
    clock: GuardedClock,
    standing: watch::Receiver<Report>,
    recent: Mutex<Recent>,
    waiting: Arc<Waiting>,
    journal: Journal,
    /// Tells the writer when nobody is left who could hand out.
    _open: watch::Sender<()>,
}

/// What is not on disk yet.
#[derive(Default)]
struct Waiting {
    lines: Mutex<Lines>,
    /// There is much of it.
    much: Notify,
}

#[derive(Default)]
struct Lines {
    /// At most [`MOST_WAITING`].
    bytes: Vec<u8>,
    /// So many found no room.
    lost: u64,
    /// Of those and the ones over their user's rate, since the start.
    unwritten: u64,
}

/// How the record is, for `agent status`.
#[derive(Clone)]
pub(crate) struct Records {
    waiting: Arc<Waiting>,
    /// What is wrong, and what to do; empty when nothing is.
    complaint: watch::Receiver<String>,
}

impl Records {
    /// Where it is written down, or why it is not.
    pub(crate) fn in_words(&self) -> String {
        match self.complaint.borrow().as_str() {
            "" => format!("written to {NAME} in the data directory"),
            complaint => complaint.to_owned(),
        }
    }

    /// How many hand-outs have no line.
    pub(crate) fn unwritten(&self) -> u64 {
        self.waiting.lock().unwritten
    }
}

impl HandOuts {
    /// The record, what writes it, and how it is.
    pub(crate) fn new(
        clock: GuardedClock,
        standing: watch::Receiver<Report>,
        files: Arc<crate::persist::NodeFiles>,
        journal: Journal,
    ) -> (Self, Writer, Records) {
        let waiting = Arc::new(Waiting::default());
        let (open, closed) = watch::channel(());
        let desk = Desk {
            clock: clock.clone(),
            standing,
            recent: Mutex::default(),
            waiting: Arc::clone(&waiting),
            journal,
            _open: open,
        };
        let (complain, complaint) = watch::channel(String::new());
        let writer = Writer::new(Arc::clone(&waiting), clock, files, closed, complain);
        (Self(Arc::new(desk)), writer, Records { waiting, complaint })
    }

    /// Takes one down. Waits for nothing.
    pub(crate) fn note(&self, handed: &HandOut<'_>) {
        let desk = &*self.0;
        let payer = handed.to.process.map_or(NOBODY, |process| process.uid());
        let mut recent = desk.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = match recent.turn(payer, &key(handed)) {
            Turn::Again => return,
            Turn::LeftOut => {
                desk.waiting.lock().unwritten += 1;
                desk.journal.count(HANDED_OUT);
                telemetry::unwritten_hand_out("rate");
                return;
            }
            Turn::Line { left_out } => left_out,
        };
        drop(recent);
        let (now, quality) = desk.clock.stamp();
        let standing = desk.standing.borrow().standing.as_str();
        let line = Line::of(handed, now, quality.as_str(), standing, left_out);
        desk.journal
            .note(Event::new(HANDED_OUT).with_all(&line.without_time()));
        desk.waiting
            .add(&line.text(), || Lost::text(now, quality.as_str()));
    }
}

/// What tells a hand-out from others: who, by which service, and what. A token is not kept, but a digest of it.
fn key<'a>(handed: &'a HandOut<'_>) -> impl std::hash::Hash + use<'a> {
    let party = |party: landfast_workload_api::Party<'a>| {
        let process = party.process.map(|process| (process.pid(), process.uid()));
        // Of a process the others may grow while it is looked at; by these it is known that a number is another program's now.
        let named = party
            .selectors
            .iter()
            .filter(|selector| process.is_none() || says_program(selector));
        (process, named.map(ToString::to_string).collect::<Vec<_>>())
    };
    let what = match handed.given {
        Given::X509(served) => (0, &served.entry_id, served.svid.leaf().as_der()),
        Given::Jwt(jwt) => (1, &jwt.entry_id, jwt.token.as_bytes()),
        Given::Wit(wit) => (2, &wit.entry_id, wit.token.as_bytes()),
    };
    (handed.way, party(handed.to), handed.of.map(party), what)
}

fn says_program(selector: &Selector) -> bool {
    let of = |name| selector.value().starts_with(name);
    selector.kind() == "unix" && (of("path:") || of("sha256:"))
}

impl Waiting {
    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line; when some found no room before, one that says so first.
    fn add(&self, line: &str, lost: impl Fn() -> Lost) {
        let mut lines = self.lock();
        let before = match lines.lost {
            0 => String::new(),
            number => lost().line(number),
        };
        if lines.bytes.len() + before.len() + line.len() > MOST_WAITING {
            lines.lost += 1;
            lines.unwritten += 1;
            drop(lines);
            telemetry::unwritten_hand_out("disk");
            return;
        }
        lines.lost = 0;
        lines.bytes.extend_from_slice(before.as_bytes());
        lines.bytes.extend_from_slice(line.as_bytes());
        let much = lines.bytes.len() >= MUCH;
        drop(lines);
        if much {
            self.much.notify_one();
        }
    }

    /// All of it, with how many were lost after it.
    fn take(&self, lost: impl Fn() -> Lost) -> Vec<u8> {
        let mut lines = self.lock();
        let mut bytes = std::mem::take(&mut lines.bytes);
        let number = std::mem::take(&mut lines.lost);
        drop(lines);
        if number > 0 {
            bytes.extend_from_slice(lost().line(number).as_bytes());
        }
        bytes
    }
}

/// Some two thousand lines.
const MOST_WAITING: usize = 1 << 20;
const MUCH: usize = 32 << 10;
/// What no process pays for.
const NOBODY: u32 = u32::MAX;

#[cfg(test)]
pub(crate) mod tests;

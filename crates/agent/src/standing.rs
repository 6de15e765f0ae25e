//! How the node stands, in one place, so that `agent status`, health, metrics and systemd say the same.
//!
//! Invariant: one task makes the report and all others only repeat it.

mod reserve;

use std::sync::Arc;
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::island::{At, Event, Holdings, Island, Standing};
use tokio::time::Instant;

use crate::keeper::state::Snapshot;
use crate::link::status::{LinkStatus, Phase};
pub(crate) use reserve::Reserve;

/// What is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) standing: Standing,
    /// The same in words, with what it lasts for.
    pub(crate) text: String,
    pub(crate) first_ends: Option<UnixTime>,
    pub(crate) valid_until: Option<UnixTime>,
    pub(crate) reserve: Reserve,
}

impl Report {
    /// Of an agent that has not looked yet.
    pub(crate) fn first() -> Self {
        Self {
            standing: Standing::Starting,
            text: Standing::Starting.as_str().to_owned(),
            first_ends: None,
            valid_until: None,
            reserve: Reserve::default(),
        }
    }
}

/// Makes the reports.
pub(crate) struct Watch {
    island: Island,
    counted: Option<(Arc<Snapshot>, UnixTime)>,
    reserve: Reserve,
}

impl Watch {
    /// Of a node that starts now, with something from before or not.
    pub(crate) fn new(before: bool) -> Self {
        let started = Instant::now();
        let mut island = Island::new(started, PATIENCE);
        if before {
            let at = At {
                wall: None,
                mono: started,
            };
            island.step(at, Event::Restored);
        }
        Self {
            island,
            counted: None,
            reserve: Reserve::default(),
        }
    }

    pub(crate) fn look(
        &mut self,
        snapshot: &Arc<Snapshot>,
        status: &LinkStatus,
        now: Option<UnixTime>,
    ) -> Report {
        let at = At {
            wall: now,
            mono: Instant::now(),
        };
        let before = self.island.standing();
        if let Some(now) = now
            && self.must_count(snapshot, now)
        {
            self.counted = Some((Arc::clone(snapshot), now));
            self.reserve = Reserve::of(snapshot, now);
            self.island.step(at, Event::Holds(holdings(snapshot, now)));
        }
        let event = match (status.phase, status.last_error.is_empty()) {
            (Phase::Serving, true) => Event::InStep,
            (_, false) => Event::Failed,
            (_, true) => Event::Tick,
        };
        self.island.step(at, event);
        let report = self.report(status, now);
        if before != report.standing {
            log(&report);
        }
        report
    }

    /// Counting looks at each entry: it is done when something is different, or may be by the time that has passed.
    fn must_count(&self, snapshot: &Arc<Snapshot>, now: UnixTime) -> bool {
        self.counted.as_ref().is_none_or(|(counted, when)| {
            let ends = self.island.holdings().first_ends;
            let over = ends.is_some_and(|end| end <= now);
            let later = now.since(*when) >= COUNT_EVERY || now < *when;
            !Arc::ptr_eq(counted, snapshot) || over || later
        })
    }

    fn report(&self, status: &LinkStatus, now: Option<UnixTime>) -> Report {
        let (standing, holdings) = (self.island.standing(), self.island.holdings());
        let since = status
            .last_sync
            .map_or_else(|| "since it started".to_owned(), |sync| format!("since {sync}"));
        let mut text = standing.as_str().to_owned();
        let more = match standing {
            Standing::Connected => String::new(),
            Standing::Starting => {
                ": the server has not been reached yet, and there is nothing from before".to_owned()
            }
            Standing::Degraded => format!(
                ": no success with the server {since}; {}",
                lasts(&holdings, &self.reserve, now)
            ),
            Standing::Islanded => format!(": on its own {since}, {}", lasts(&holdings, &self.reserve, now)),
            Standing::Exhausted => format!(
                ": on its own {since}, and nothing of the {} identities that it should give is valid any more",
                holdings.wanted
            ),
        };
        text.push_str(&more);
        Report {
            standing,
            text,
            first_ends: holdings.first_ends,
            valid_until: holdings.last_ends,
            reserve: self.reserve,
        }
    }
}

/// How long what is held lasts.
fn lasts(holdings: &Holdings, reserve: &Reserve, now: Option<UnixTime>) -> String {
    let (Some(first), Some(last), Some(now)) = (holdings.first_ends, holdings.last_ends, now) else {
        return "with no identities to give".to_owned();
    };
    let (mut text, last) = match reserve.until {
        Some(until) => (
            format!("reserve for {} (until {until})", in_words(until.since(now))),
            until,
        ),
        None => (
            format!("valid until {last} ({})", in_words(last.since(now))),
            last,
        ),
    };
    if last.since(first) >= WORTH_A_WORD {
        text.push_str(&format!(
            ", the first until {first} ({})",
            in_words(first.since(now))
        ));
    }
    if reserve.reading {
        text.push_str("; more of its reserve is being read from disk");
    }
    if holdings.valid < holdings.wanted {
        let lost = holdings.wanted - holdings.valid;
        text.push_str(&format!("; {lost} of {} have nothing valid", holdings.wanted));
    }
    text
}

/// In the largest unit of which there are two or more.
fn in_words(left: Duration) -> String {
    let secs = left.as_secs();
    let units = [(86_400, "days"), (3600, "h"), (60, "min")];
    let unit = units.into_iter().find(|(unit, _)| secs >= 2 * unit);
    unit.map_or_else(
        || format!("{secs} s"),
        |(unit, name)| format!("{} {name}", secs / unit),
    )
}

fn holdings(snapshot: &Snapshot, now: UnixTime) -> Holdings {
    let mut counted = Holdings::default();
    for entry in snapshot.entries.iter().filter(|entry| !entry.is_over(now)) {
        // What nobody asked for is not to be given.
        counted.wanted += usize::from(snapshot.is_wanted(entry) || snapshot.held.contains_key(&entry.id));
        if let Some(held) = snapshot.svid(entry, now) {
            let end = snapshot
                .lasts(entry, now)
                .unwrap_or_else(|| held.svid.not_after());
            counted.valid += 1;
            counted.first_ends = Some(counted.first_ends.map_or(end, |first| first.min(end)));
            counted.last_ends = counted.last_ends.max(Some(end));
        }
    }
    counted
}

fn log(report: &Report) {
    let text = &report.text;
    match report.standing {
        Standing::Connected | Standing::Starting => tracing::info!("{text}"),
        Standing::Degraded | Standing::Islanded => tracing::warn!("{text}"),
        Standing::Exhausted => tracing::error!("{text}"),
    }
}

/// So long attempts may fail before a node is an island.
const PATIENCE: Duration = Duration::from_secs(300);
const COUNT_EVERY: Duration = Duration::from_secs(60);
const WORTH_A_WORD: Duration = Duration::from_secs(300);

#[cfg(test)]
mod tests;

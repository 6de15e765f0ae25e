//! What the journal says of the node itself: islands, the clock, bans and quarantines, told when they change.
//!
//! Invariant: what has not changed is not told again; what is told is decided purely.

use std::convert::Infallible;
use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::island::Standing;
use landfast_lifecycle::{GuardedClock, Wrong};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::desk::Desk;
use super::event::{
    BANNED, CLOCK_RIGHT, CLOCK_STEPPED, CLOCK_WRONG, Event, ISLAND_BEGAN, ISLAND_ENDED, ISLAND_EXHAUSTED,
    QUARANTINE_OVER, QUARANTINED,
};
use crate::link::LinkHandle;
use crate::link::status::Phase;
use crate::standing::Report;

/// Looks at what others report.
pub(crate) struct Watcher {
    pub(crate) desk: Desk,
    pub(crate) standing: watch::Receiver<Report>,
    pub(crate) link: LinkHandle,
    pub(crate) clock: GuardedClock,
}

impl Watcher {
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), Infallible> {
        let (mut before, mut status) = (Before::default(), self.link.status.clone());
        loop {
            let now = self.now();
            for event in before.look(&now) {
                self.desk.note(event);
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Ok(()) = self.standing.changed() => {}
                Ok(()) = status.changed() => {}
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    fn now(&self) -> Now {
        let (report, link) = (self.clock.report(), self.link.status.borrow());
        Now {
            standing: self.standing.borrow().standing,
            banned: link.phase == Phase::Banned,
            quarantined: link.quarantined,
            wrong: report.judged.wrong.or_else(|| report.doubted.map(Wrong::Ahead)),
            time: report.judged.now,
            at: Instant::now(),
        }
    }
}

/// How it is.
#[derive(Clone, Copy, Debug)]
struct Now {
    standing: Standing,
    banned: bool,
    quarantined: bool,
    wrong: Option<Wrong>,
    time: UnixTime,
    at: Instant,
}

/// What was told.
#[derive(Default)]
struct Before {
    island_since: Option<Instant>,
    exhausted: bool,
    banned: bool,
    quarantined: bool,
    wrong: bool,
    clock: Option<(UnixTime, Instant)>,
}

impl Before {
    fn look(&mut self, now: &Now) -> Vec<Event> {
        let mut events = Vec::new();
        let islanded = now.standing >= Standing::Islanded;
        match self.island_since {
            None if islanded => {
                self.island_since = Some(now.at);
                events.push(Event::new(ISLAND_BEGAN));
            }
            Some(since) if now.standing == Standing::Connected => {
                let seconds = now.at.duration_since(since).as_secs();
                self.island_since = None;
                events.push(Event::new(ISLAND_ENDED).with("seconds", seconds));
            }
            _ => {}
        }
        let exhausted = now.standing == Standing::Exhausted;
        if exhausted && !self.exhausted {
            events.push(Event::new(ISLAND_EXHAUSTED));
        }
        self.exhausted = exhausted;
        if now.banned && !self.banned {
            events.push(Event::new(BANNED));
        }
        self.banned = now.banned;
        if now.quarantined != self.quarantined {
            let kind = if now.quarantined {
                QUARANTINED
            } else {
                QUARANTINE_OVER
            };
            events.push(Event::new(kind));
        }
        self.quarantined = now.quarantined;
        self.look_at_clock(now, &mut events);
        events
    }

    fn look_at_clock(&mut self, now: &Now, events: &mut Vec<Event>) {
        let stepped = self.clock.and_then(|(time, at)| {
            let passed = i64::try_from(now.at.duration_since(at).as_secs()).unwrap_or(i64::MAX);
            let by = now
                .time
                .as_secs()
                .saturating_sub(time.as_secs())
                .saturating_sub(passed);
            (by.unsigned_abs() > STEP).then_some(by)
        });
        if let Some(by) = stepped {
            events.push(Event::new(CLOCK_STEPPED).with("by_seconds", by));
        }
        self.clock = Some((now.time, now.at));
        match (now.wrong, self.wrong) {
            (Some(wrong), false) => events.push(Event::new(CLOCK_WRONG).with("wrong", format!("{wrong:?}"))),
            (None, true) => events.push(Event::new(CLOCK_RIGHT)),
            _ => {}
        }
        self.wrong = now.wrong.is_some();
    }
}

const EVERY: Duration = Duration::from_secs(10);
/// Seconds that the time may differ from what has passed, between two looks, without a step.
const STEP: u64 = 30;

#[cfg(test)]
mod tests {
    use super::*;

    fn now(standing: Standing) -> Now {
        Now {
            standing,
            banned: false,
            quarantined: false,
            wrong: None,
            time: UnixTime::from_secs(1_000_000),
            at: Instant::now(),
        }
    }

    fn kinds(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.kind).collect()
    }

    #[test]
    fn an_island_has_a_beginning_and_an_end() {
        let mut before = Before::default();
        let first = now(Standing::Starting);
        assert!(before.look(&first).is_empty());
        let away = now(Standing::Islanded);
        assert_eq!(kinds(&before.look(&away)), [ISLAND_BEGAN]);
        assert!(before.look(&away).is_empty());
        let spent = now(Standing::Exhausted);
        assert_eq!(kinds(&before.look(&spent)), [ISLAND_EXHAUSTED]);
        let unsure = now(Standing::Degraded);
        assert!(before.look(&unsure).is_empty(), "it is not over yet");
        assert_eq!(kinds(&before.look(&now(Standing::Connected))), [ISLAND_ENDED]);
        assert!(before.look(&now(Standing::Connected)).is_empty());
    }

    #[test]
    fn a_ban_a_quarantine_and_a_clock_are_told_once_each() {
        let mut before = Before::default();
        let good = now(Standing::Connected);
        assert!(before.look(&good).is_empty());
        let bad = Now {
            banned: true,
            quarantined: true,
            wrong: Some(Wrong::Absent),
            ..good
        };
        assert_eq!(kinds(&before.look(&bad)), [BANNED, QUARANTINED, CLOCK_WRONG]);
        assert!(before.look(&bad).is_empty());
        assert_eq!(kinds(&before.look(&good)), [QUARANTINE_OVER, CLOCK_RIGHT]);
    }

    #[test]
    fn a_step_of_the_clock_is_told_with_its_length_and_the_passing_of_time_is_none() {
        let mut before = Before::default();
        let first = now(Standing::Connected);
        before.look(&first);
        let hour = Duration::from_secs(3600);
        let later = Now {
            time: first.time.saturating_add(hour),
            at: first.at + hour,
            ..first
        };
        assert!(before.look(&later).is_empty());
        let back = Now {
            time: first.time,
            at: later.at + Duration::from_secs(1),
            ..first
        };
        let events = before.look(&back);
        assert_eq!(kinds(&events), [CLOCK_STEPPED]);
        assert_eq!(events[0].members["by_seconds"], -3601);
    }
}

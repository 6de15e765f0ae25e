//! How a node stands that lives without its server for a while: connected, degraded, islanded, exhausted.
//!
//! Invariant: pure. What is valid stays valid whatever fails: a standing says how things are and takes nothing away.

use std::time::Duration;

use landfast_identity::UnixTime;
use tokio::time::Instant;

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// What the validity of credentials goes by. `None`: nothing can be shown to be valid.
    pub wall: Option<UnixTime>,
    /// What waiting goes by.
    pub mono: Instant,
}

/// How a node stands, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// In step with its server.
    Connected,
    /// Has never had anything to give, and waits for its server.
    Starting,
    /// Attempts fail, for a short time.
    Degraded,
    /// Has been on its own for longer than that, or since it started, and gives what is still valid.
    Islanded,
    /// On its own, and nothing that it should give is valid any more.
    Exhausted,
}

impl Standing {
    /// Every one, best first.
    pub const ALL: [Self; 5] = [
        Self::Connected,
        Self::Starting,
        Self::Degraded,
        Self::Islanded,
        Self::Exhausted,
    ];

    /// One word, lower case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Starting => "starting",
            Self::Degraded => "degraded",
            Self::Islanded => "islanded",
            Self::Exhausted => "exhausted",
        }
    }
}

/// What a node is to give, and for how long it can.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Identities that it is to give.
    pub wanted: usize,
    /// Those for which it holds something valid.
    pub valid: usize,
    /// When the first of these ends.
    pub first_ends: Option<UnixTime>,
    /// When the last of these ends.
    pub last_ends: Option<UnixTime>,
}

/// What happens to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It has something from before it started.
    Restored,
    /// It is in step with its server.
    InStep,
    /// An attempt to be so failed.
    Failed,
    /// What it holds now.
    Holds(Holdings),
    /// Time passed.
    Tick,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It stands otherwise now, and everybody who says how it stands is to say so.
    Stand {
        /// How it stood.
        from: Standing,
        /// How it stands.
        to: Standing,
    },
    /// Look again then, whatever happens before.
    Wake(Instant),
}

/// The state. See the module.
#[derive(Clone, Debug)]
pub struct Island {
    standing: Standing,
    holdings: Holdings,
    known: bool,
    /// Whether it has been in step since it started.
    met: bool,
    failed: bool,
    /// When it was in step last, or started.
    alone_since: Instant,
    patience: Duration,
}

impl Island {
    /// Of a node that starts now. It is degraded for at most `patience`.
    #[must_use]
    pub const fn new(started: Instant, patience: Duration) -> Self {
        Self {
            standing: Standing::Starting,
            holdings: Holdings {
                wanted: 0,
                valid: 0,
                first_ends: None,
                last_ends: None,
            },
            known: false,
            met: false,
            failed: false,
            alone_since: started,
            patience,
        }
    }

    /// How it stands.
    #[must_use]
    pub const fn standing(&self) -> Standing {
        self.standing
    }

    /// What it holds, as it was last told.
    #[must_use]
    pub const fn holdings(&self) -> Holdings {
        self.holdings
    }

    /// Takes one event in.
    pub fn step(&mut self, at: At, event: Event) -> Vec<Action> {
        match event {
            Event::Restored => self.known = true,
            Event::InStep => {
                self.known = true;
                self.met = true;
                self.failed = false;
                self.alone_since = at.mono;
            }
            Event::Failed => self.failed = true,
            Event::Holds(holdings) => self.holdings = holdings,
            Event::Tick => {}
        }
        let (from, to) = (self.standing, self.judge(at));
        self.standing = to;
        let mut actions = Vec::new();
        if from != to {
            actions.push(Action::Stand { from, to });
        }
        if to == Standing::Degraded {
            actions.push(Action::Wake(self.alone_since + self.patience));
        }
        actions
    }

    fn judge(&self, at: At) -> Standing {
        let alone = at.mono.saturating_duration_since(self.alone_since) >= self.patience;
        match (self.known, self.met, self.failed) {
            (false, ..) => Standing::Starting,
            (true, true, false) => Standing::Connected,
            // A server that has accepted the connection and says nothing is none either.
            (true, false, false) if !alone => Standing::Degraded,
            _ if self.is_empty(at.wall) => Standing::Exhausted,
            (true, true, true) if !alone => Standing::Degraded,
            _ => Standing::Islanded,
        }
    }

    /// Who has nothing to give has nothing that could run out.
    fn is_empty(&self, wall: Option<UnixTime>) -> bool {
        let valid = self
            .holdings
            .last_ends
            .zip(wall)
            .is_some_and(|(end, now)| now < end);
        self.holdings.wanted > 0 && !(valid && self.holdings.valid > 0)
    }
}

#[cfg(test)]
mod tests;

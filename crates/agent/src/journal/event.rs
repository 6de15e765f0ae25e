//! What may be written into the journal. Invariant: nothing of a key, and of a token its name at most; whatever is said is bounded.

use serde_json::{Map, Value};

/// What is given up first when the journal is full: the lowest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Class {
    /// Anybody on the node can have these made.
    Denial,
    HandOut,
    /// How the node is: islands, clocks, starts.
    State,
    /// What somebody has to look at.
    Alarm,
}

impl Class {
    /// The lowest first.
    pub(super) const ALL: [Self; 4] = [Self::Denial, Self::HandOut, Self::State, Self::Alarm];
}

/// The types of records, with their classes. A type that this program does not know, as of a later version, is a state's.
const KINDS: [(&str, Class); 17] = [
    (DENIED, Class::Denial),
    (HANDED_OUT, Class::HandOut),
    (STARTED, Class::State),
    (STOPPED, Class::State),
    (ISLAND_BEGAN, Class::State),
    (ISLAND_EXHAUSTED, Class::State),
    (ISLAND_ENDED, Class::State),
    (CLOCK_WRONG, Class::State),
    (CLOCK_RIGHT, Class::State),
    (CLOCK_STEPPED, Class::State),
    (QUARANTINED, Class::State),
    (QUARANTINE_OVER, Class::State),
    (LEDGER_NEW, Class::State),
    (BANNED, Class::Alarm),
    (LEDGER_FORK, Class::Alarm),
    (LEDGER_UNWITNESSED, Class::Alarm),
    (BEGUN, Class::Alarm),
];

pub(crate) const DENIED: &str = "svid.denied";
pub(crate) const HANDED_OUT: &str = "svid.handed-out";
pub(crate) const STARTED: &str = "agent.started";
pub(crate) const STOPPED: &str = "agent.stopped";
pub(crate) const ISLAND_BEGAN: &str = "island.began";
pub(crate) const ISLAND_EXHAUSTED: &str = "island.exhausted";
pub(crate) const ISLAND_ENDED: &str = "island.ended";
pub(crate) const CLOCK_WRONG: &str = "clock.wrong";
pub(crate) const CLOCK_RIGHT: &str = "clock.right";
pub(crate) const CLOCK_STEPPED: &str = "clock.stepped";
pub(crate) const QUARANTINED: &str = "quarantine.began";
pub(crate) const QUARANTINE_OVER: &str = "quarantine.over";
pub(crate) const BANNED: &str = "node.banned";
pub(crate) const LEDGER_NEW: &str = "ledger.new";
pub(crate) const LEDGER_FORK: &str = "ledger.fork";
pub(crate) const LEDGER_UNWITNESSED: &str = "ledger.unwitnessed";
pub(crate) const BEGUN: &str = "journal.begun";
/// Not a record: so many stood where it is.
pub(super) const GAP: &str = "journal.gap";

pub(super) fn class_of(kind: &str) -> Class {
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    known.map_or(Class::State, |(_, class)| *class)
}

/// Something that has happened. The journal gives it its number and its place in the chain.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(super) kind: &'static str,
    pub(super) members: Map<String, Value>,
}

impl Event {
    pub(crate) fn new(kind: &'static str) -> Self {
        Self {
            kind,
            members: Map::new(),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    /// With the members of something that serialises as an object.
    pub(crate) fn with_all(mut self, of: &impl serde::Serialize) -> Self {
        if let Ok(Value::Object(members)) = serde_json::to_value(of) {
            self.members.extend(members);
        }
        self
    }

    /// What this node says of itself is read as soon as possible.
    pub(super) fn is_urgent(&self) -> bool {
        class_of(self.kind) == Class::Alarm
    }
}

//! What is said to and by the floor and the estimate. Invariant: none of it changes them.

use std::time::Duration;

use landfast_identity::UnixTime;

/// The time that counts, and how it was come by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Judged {
    /// What time it is for everybody.
    pub now: UnixTime,
    /// The wall clock does not count: it shows too early a time, or none.
    pub estimated: bool,
    /// How wrong the wall clock is, when that is more than the skew.
    pub wrong: Option<Wrong>,
}

/// How wrong the wall clock is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// It shows no time.
    Absent,
    /// It is behind by so much, or more.
    Behind(Duration),
    /// It is ahead by so much of what a server has said since the machine was started.
    Ahead(Duration),
}

/// How new a server's time is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Heard {
    /// Of the answer to a question that was asked just now.
    Answer,
    /// It may have been under way for long: it can show that it is later, and not that it is earlier.
    Message,
}

/// What became of a server's time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is about what was expected.
    Agreed,
    /// It is so much later than could be known, as after a time without power, and counts: the floor follows when it has stayed so. Or it is
    /// otherwise by so much, and has stayed so.
    Adopted(Duration),
    /// It is so much later than it can be, by what a server has said and the boot clock since, or the machine's clock is against it. It counts
    /// when it has stayed so.
    Doubted(Duration),
    /// It is so much earlier than what this node has been told, and the boot clock since: it does not count; above the floor, not before it
    /// has stayed so.
    BelowFloor(Duration),
}

/// What the time that counts is worth, for records.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Quality {
    /// A server has said it since the machine was started, and nothing speaks against it.
    Confirmed,
    /// The machine's clock shows it; no server has said it for long enough since the machine was started.
    Unconfirmed,
    /// The machine's clock or a server says otherwise.
    Doubted,
    /// The machine's clock does not count.
    Estimated,
}

impl Quality {
    /// For records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Confirmed => "confirmed",
            Self::Unconfirmed => "unconfirmed",
            Self::Doubted => "doubted",
            Self::Estimated => "estimated",
        }
    }
}

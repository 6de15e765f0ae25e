//! What operators do, told in one place. Invariant: an event has references, never names, and no text that could look like another line.

use std::fmt;

use landfast_proto::Reason;

use super::person::Verb;
use crate::issuance::Requester;

/// Something that an operator has done, or was refused.
#[derive(Debug)]
pub(crate) struct Event<'a> {
    pub(crate) verb: Verb,
    /// With the person, where there is one.
    pub(crate) actor: &'a Requester,
    /// The method, or what was done about persons.
    pub(crate) action: &'a str,
    /// To whom or what, where it is known here.
    pub(crate) target: Option<&'a str>,
    pub(crate) reason: Option<&'a Reason>,
    pub(crate) outcome: Outcome<'a>,
}

/// What came of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome<'a> {
    Done,
    /// What an operator was not let do.
    Denied,
    /// gRPC's code.
    Failed(&'a str),
    /// Fewer than two persons have agreed: it took effect all the same, as there are no two.
    Alone,
}

impl fmt::Display for Outcome<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Done => f.write_str("done"),
            Self::Denied => f.write_str("denied"),
            Self::Failed(code) => write!(f, "failed: {code}"),
            Self::Alone => f.write_str("done, by fewer than two persons"),
        }
    }
}

/// Says it, where it is heard: in the log, and counted.
pub(crate) fn told(event: &Event<'_>) {
    let Event {
        verb,
        actor,
        action,
        target,
        reason,
        outcome,
    } = event;
    let came_of = match outcome {
        Outcome::Done => "done",
        Outcome::Denied => "denied",
        Outcome::Failed(_) => "failed",
        Outcome::Alone => "alone",
    };
    metrics::counter!("landfast_server_operator_actions_total", "verb" => verb.to_string(), "outcome" => came_of).increment(1);
    let (target, reason) = (target.unwrap_or_default(), reason.map_or("", Reason::as_str));
    match outcome {
        Outcome::Done => {
            tracing::info!(%verb, %actor, action, target, reason, %outcome, "an operator acted");
        }
        Outcome::Denied | Outcome::Failed(_) | Outcome::Alone => {
            tracing::warn!(%verb, %actor, action, target, reason, %outcome, "an operator acted");
        }
    }
}

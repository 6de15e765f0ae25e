//! How a conversation with the server can fail, and what each failure means for the node.
//!
//! Invariant: what to do is decided by code and detail, never by the text of a message.

use std::time::Duration;

use landfast_identity::UnixTime;
use landfast_lifecycle::Disposition;
use landfast_proto::landfast::recovery::v1::{self as recovery, refusal::Reason as Reasons};
use landfast_proto::spire::api::types::PermissionDeniedDetails;
use landfast_proto::spire::api::types::permission_denied_details::Reason;
use landfast_proto::{PUSHBACK, QUARANTINE};
use prost::Message as _;

use super::dial::DialError;
use super::evidence::EvidenceError;
use super::revision::Revision;
use crate::persist::{PersistError, REVISION};

/// Why a turn of the link did not succeed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("cannot connect to a server")]
    Dial(#[source] DialError),
    #[error("{method}: {code:?}: {message}")]
    Refused {
        method: &'static str,
        code: tonic::Code,
        message: String,
        denial: Option<Denial>,
        /// By the server. Otherwise the connection failed, and the code is a guess of our side.
        by_server: bool,
        /// The server is busy, and named the time after which to ask again.
        pushback: Option<Duration>,
        /// It is in quarantine, and may have forgotten what the node knows.
        quarantined: bool,
    },
    #[error("{method}: no answer within {seconds} s")]
    Deadline { method: &'static str, seconds: u64 },
    #[error("{method}: the answer is not understood: {what}")]
    Protocol { method: &'static str, what: String },
    #[error(
        "{method}: what the server signs is not valid at this time: its clock, or that of this node, is wrong"
    )]
    OtherClock { method: &'static str },
    #[error(
        "the server refused the join token; create a new one with `landfast token create` (on a SPIRE server: `spire-server token generate`) and put it where the agent's configuration reads it"
    )]
    Token(#[source] Box<Self>),
    #[error("the server does not let this node come back by its device key: {message}")]
    NotBack { refusal: Refusal, message: String },
    #[error("cannot attest this node")]
    Evidence(#[source] EvidenceError),
    #[error("cannot keep the node's state")]
    Persist(#[from] PersistError),
    #[error("clock is behind by {seconds} s or more: the node's own SVID begins at {not_before}")]
    ClockBehind { seconds: u64, not_before: UnixTime },
    /// What it says counts for nothing.
    #[error("{method}: {}", stale(theirs, newest))]
    Stale {
        method: &'static str,
        /// Not said with a refusal.
        theirs: Option<Revision>,
        newest: Revision,
    },
    /// So does this.
    #[error(
        "{method}: the server's trust bundle has sequence {theirs}, and this node holds one of {held} from the same registry: nothing of it is taken; \
         bring that server up to date, or restore its registry with `landfast-server restore`"
    )]
    OlderBundle {
        method: &'static str,
        theirs: u64,
        held: u64,
    },
    /// Said on a subscription.
    #[error("the server says that this node {}", match .0 { Denial::Banned => "is banned", _ => "must attest again" })]
    Told(Denial),
    #[error("the server ended the subscription")]
    Unsubscribed,
    #[error("the system has no time of day")]
    NoClock,
    #[error("cannot make a key or request")]
    Key,
    #[error("the server cannot be reached")]
    Unreachable,
    #[error("stopping")]
    Stopping,
}

/// `landfast.recovery.v1.Refusal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It knows no such key: the node was evicted, or has made another.
    Unknown,
    /// A person has to decide.
    ByAPerson,
}

/// SPIRE's `PermissionDeniedDetails.reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Denial {
    Expired,
    NotAttested,
    NotActive,
    Banned,
    MustReattest,
}

impl LinkError {
    pub(crate) fn from_status(method: &'static str, status: &tonic::Status) -> Self {
        let refusal = refusal(status.details());
        if let Some(refusal) = refusal.filter(|_| status.code() == tonic::Code::FailedPrecondition) {
            return Self::NotBack {
                refusal,
                message: shorten(status.message()),
            };
        }
        Self::Refused {
            method,
            code: status.code(),
            message: shorten(status.message()),
            denial: denial(status.details()).filter(|_| status.code() == tonic::Code::PermissionDenied),
            by_server: std::error::Error::source(status).is_none(),
            pushback: pushback(status),
            quarantined: status.code() == tonic::Code::Unavailable
                && status.metadata().contains_key(QUARANTINE),
        }
    }

    pub(crate) fn protocol(method: &'static str, what: impl Into<String>) -> Self {
        Self::Protocol {
            method,
            what: what.into(),
        }
    }

    pub(crate) fn denial(&self) -> Option<Denial> {
        match self {
            Self::Refused { denial, .. } => *denial,
            Self::Told(denial) => Some(*denial),
            Self::Token(inner) => inner.denial(),
            _ => None,
        }
    }

    /// When to ask again, if the server is only busy. It is no reason to go to another: that one would be as busy, and a handshake is more work
    /// than waiting.
    pub(crate) fn pushback(&self) -> Option<Duration> {
        match self {
            Self::Refused { pushback, .. } => *pushback,
            Self::Token(inner) => inner.pushback(),
            _ => None,
        }
    }

    /// What the loop does next. Nothing here ever drops an SVID, except `Fatal`: the server has banned the node.
    pub(crate) fn disposition(&self) -> Disposition {
        match self.denial() {
            Some(Denial::Banned) => Disposition::Fatal,
            Some(Denial::Expired | Denial::NotAttested | Denial::NotActive | Denial::MustReattest) => {
                Disposition::Reattest
            }
            None => match self {
                Self::Refused {
                    code: tonic::Code::Unavailable | tonic::Code::DeadlineExceeded,
                    ..
                }
                | Self::Dial(_)
                | Self::Deadline { .. } => Disposition::Retry,
                _ => Disposition::Retain,
            },
        }
    }

    /// Whether the server was there and hung up without a word: what it does, after a handshake that looks well, to a certificate that it does not take
    /// (RFC 8446 §4.4.2.4).
    pub(crate) fn server_hung_up(&self) -> bool {
        matches!(self, Self::Refused { by_server: false, .. })
    }

    /// Whether the connection itself is the likely cause.
    pub(crate) fn connection_broke(&self) -> bool {
        matches!(
            self,
            Self::Refused { by_server: false, .. }
                // What it was opened with does not verify any more: the next one shows a newer certificate.
                | Self::Refused {
                    code: tonic::Code::Unauthenticated,
                    ..
                }
                | Self::Deadline { .. }
        )
    }

    /// Whether a round of synchronisation may explain or mend it: the connection is dead, the entry is gone, or the node is out.
    pub(crate) fn calls_for_a_round(&self) -> bool {
        let code = matches!(
            self,
            Self::Refused {
                code: tonic::Code::NotFound | tonic::Code::PermissionDenied,
                ..
            }
        );
        code || self.connection_broke()
    }

    /// Whether the server was reached and is itself the trouble, so that another may do better: its datastore, its disk, its limits,
    /// its wits.
    pub(crate) fn another_server_may_help(&self) -> bool {
        match self {
            Self::Refused {
                pushback: Some(_), ..
            } => false,
            Self::Refused { code, .. } => matches!(
                code,
                tonic::Code::Unavailable
                    | tonic::Code::Unknown
                    | tonic::Code::Internal
                    | tonic::Code::Cancelled
                    | tonic::Code::DeadlineExceeded
                    | tonic::Code::ResourceExhausted
                    | tonic::Code::DataLoss
            ),
            Self::Deadline { .. }
            | Self::Protocol { .. }
            | Self::OtherClock { .. }
            | Self::Stale { .. }
            | Self::OlderBundle { .. } => true,
            _ => false,
        }
    }

    /// Whether it is only to say that a subscription is over, or cannot be had now: the node asks as SPIRE's agents do, and subscribes again.
    pub(crate) fn only_ends_a_subscription(&self) -> bool {
        match self {
            Self::Refused { code, denial, .. } => {
                // Whatever the server has against this one service. What it has against the node itself, a poll would meet too.
                denial.is_none() && *code != tonic::Code::PermissionDenied
            }
            Self::Unsubscribed | Self::Deadline { .. } | Self::Protocol { .. } => true,
            _ => false,
        }
    }

    /// Whether the connection is still worth something: the server answered over it.
    pub(crate) fn server_answered(&self) -> bool {
        match self {
            Self::Refused {
                pushback: Some(_), ..
            } => true,
            Self::Refused { code, by_server, .. } => {
                let ill = matches!(
                    code,
                    tonic::Code::Unavailable
                        | tonic::Code::Unknown
                        | tonic::Code::Internal
                        | tonic::Code::Cancelled
                        // The certificate of this connection does not verify any more: another connection shows a newer one.
                        | tonic::Code::Unauthenticated
                );
                *by_server && !ill
            }
            Self::Protocol { .. }
            | Self::NotBack { .. }
            | Self::OtherClock { .. }
            | Self::Stale { .. }
            | Self::OlderBundle { .. }
            | Self::Told(_)
            | Self::Unsubscribed => true,
            Self::Token(inner) => inner.server_answered(),
            _ => false,
        }
    }
}

fn stale(theirs: &Option<Revision>, newest: &Revision) -> String {
    let theirs = theirs.map_or_else(
        || "too old a revision".to_owned(),
        |theirs| format!("revision {theirs}"),
    );
    format!(
        "the server's registry is at {theirs}, and this node has seen {newest}: nothing of it is taken; bring that server up to date, or restore its \
         registry with `landfast-server restore`; if an older registry is meant to count, stop the agent, remove {REVISION} from its data directory and start it"
    )
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

fn denial(details: &[u8]) -> Option<Denial> {
    let status = RpcStatus::decode(details).ok()?;
    let any = status
        .details
        .iter()
        .find(|any| any.type_url.ends_with("/spire.api.types.PermissionDeniedDetails"))?;
    match PermissionDeniedDetails::decode(any.value.as_slice())
        .ok()?
        .reason()
    {
        Reason::AgentExpired => Some(Denial::Expired),
        Reason::AgentNotAttested => Some(Denial::NotAttested),
        Reason::AgentNotActive => Some(Denial::NotActive),
        Reason::AgentBanned => Some(Denial::Banned),
        Reason::AgentMustReattest => Some(Denial::MustReattest),
        Reason::Unknown => None,
    }
}

fn refusal(details: &[u8]) -> Option<Refusal> {
    let status = RpcStatus::decode(details).ok()?;
    let mut details = status.details.iter();
    let any = details.find(|any| any.type_url.ends_with("/landfast.recovery.v1.Refusal"))?;
    match recovery::Refusal::decode(any.value.as_slice()).ok()?.reason() {
        Reasons::Unspecified => None,
        Reasons::Unknown => Some(Refusal::Unknown),
        Reasons::Held | Reasons::Locked | Reasons::Denied => Some(Refusal::ByAPerson),
    }
}

/// gRPC's A6: milliseconds, and only with a refusal that another time would do for. Nobody's word puts a node off for longer than [`FARTHEST`].
fn pushback(status: &tonic::Status) -> Option<Duration> {
    let busy = matches!(
        status.code(),
        tonic::Code::Unavailable | tonic::Code::ResourceExhausted
    );
    let said = status.metadata().get(PUSHBACK).filter(|_| busy)?;
    let milliseconds: u64 = said.to_str().ok()?.parse().ok()?;
    Some(Duration::from_millis(milliseconds).min(FARTHEST))
}

#[cfg(test)]
pub(crate) fn denied_details(reason: i32) -> Vec<u8> {
    let value = PermissionDeniedDetails { reason }.encode_to_vec();
    let type_url = "type.googleapis.com/spire.api.types.PermissionDeniedDetails".to_owned();
    RpcStatus {
        details: vec![Any { type_url, value }],
    }
    .encode_to_vec()
}

/// A peer's words go into logs: no control characters, no more than a line.
pub(super) fn shorten(message: &str) -> String {
    message
        .chars()
        .filter(|c| !c.is_control())
        .take(MAX_MESSAGE)
        .collect()
}

const MAX_MESSAGE: usize = 300;
/// Twice what our servers say at most.
const FARTHEST: Duration = Duration::from_secs(600);

#[cfg(test)]
mod tests;

//! What a person reads when something fails, and the exit code a script sees.

use std::fmt::Display;
use std::process::ExitCode;

use tonic::{Code, Status};

use crate::output;

/// A failure with the hint that goes with it.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) hint: String,
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn failed(message: impl Display, hint: impl Display) -> Self {
        Self::new(FAILED, message, hint)
    }

    pub(crate) fn usage(message: impl Display, hint: impl Display) -> Self {
        Self::new(USAGE, message, hint)
    }

    pub(crate) fn not_ready(message: impl Display, hint: impl Display) -> Self {
        Self::new(NOT_READY, message, hint)
    }

    fn new(code: u8, message: impl Display, hint: impl Display) -> Self {
        Self {
            message: output::clean_line(&message.to_string()),
            hint: output::clean_line(&hint.to_string()),
            code,
        }
    }

    /// What a gRPC status means to the person at the keyboard.
    pub(crate) fn status(who: &str, status: &Status) -> Self {
        Self::answer(who, status.code(), status.message())
    }

    /// Of one item in a batch.
    pub(crate) fn answer(who: &str, code: Code, text: &str) -> Self {
        let message = if text.is_empty() {
            format!("{who}: {code}")
        } else {
            format!("{who}: {text}")
        };
        match code {
            Code::Unavailable if who == AGENT => Self::not_ready(
                message,
                "it is starting, or on its own and nothing that it holds is valid any more: landfast agent status says which",
            ),
            Code::Unavailable => Self::not_ready(
                message,
                "it is starting or cannot be reached; try again in a moment",
            ),
            Code::DeadlineExceeded => Self::not_ready(message, "it does not answer; look at its log"),
            Code::PermissionDenied if who == AGENT => Self::failed(
                message,
                "no entry fits this process: landfast why --pid PID says what is missing",
            ),
            Code::PermissionDenied => Self::failed(
                message,
                "landfast whoami says whom the server takes you for, and what you may do",
            ),
            Code::Unauthenticated => Self::failed(
                message,
                "give an identity with --identity-dir, or run where a Workload API serves one",
            ),
            Code::InvalidArgument => {
                Self::failed(message, "correct the value and repeat; nothing was changed")
            }
            Code::NotFound if who == ADMIN => Self::failed(message, "ps -e shows what runs on this machine"),
            Code::NotFound => Self::failed(message, "the list command of the same noun shows what there is"),
            Code::FailedPrecondition => Self::failed(
                message,
                "the show or list command of the same noun says in which state it is",
            ),
            Code::AlreadyExists => Self::failed(message, "show or update the one that exists"),
            Code::ResourceExhausted => Self::failed(
                message,
                "a limit was reached; wait, or look at the disk and the limits",
            ),
            Code::Unimplemented => Self::failed(message, "the other side does not offer this"),
            _ => Self::failed(message, "its log says more"),
        }
    }

    /// Prints the two lines; gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        output::complain(&format!("error: {}\nhint: {}", self.message, self.hint));
        ExitCode::from(self.code)
    }
}

/// As [`Failure::status`] names the two sides.
pub(crate) const SERVER: &str = "the server refuses";
pub(crate) const AGENT: &str = "the agent refuses";
pub(crate) const ADMIN: &str = "the agent's admin socket answers";

pub(crate) const FAILED: u8 = 1;
pub(crate) const USAGE: u8 = 2;
pub(crate) const NOT_READY: u8 = 3;

//! One case of a suite, and what came of it. Invariant: the expectation is the suite's, the answer is the verifier's.

use std::fmt::Debug;
use std::path::Path;

use crate::BoxError;

/// Where a suite comes from, and under which name it is looked for in DIR.
pub(crate) struct Source {
    pub(crate) url: &'static str,
    pub(crate) folder: &'static str,
}

impl Source {
    pub(crate) fn read(&self, dir: &Path, file: &str) -> Result<String, BoxError> {
        let path = dir.join(self.folder).join(file);
        std::fs::read_to_string(&path).map_err(|e| {
            format!(
                "{} is not readable ({e}); it comes from {}",
                path.display(),
                self.url
            )
            .into()
        })
    }
}

/// What the suite wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Expected {
    Accept,
    Refuse,
    /// The suite leaves it to the implementation.
    Either,
}

/// What our verifier said.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Answer {
    Accepted,
    /// Accepted, and what is wrong with it is the name of the peer, which was not asked.
    AcceptedButNamed,
    /// The name of the error, as in the headers of `tests/vectors`.
    Refused(String),
}

impl Answer {
    pub(crate) fn of<T, E: Debug>(result: Result<T, E>) -> Self {
        match result {
            Ok(_) => Self::Accepted,
            Err(error) => Self::Refused(reason(&error)),
        }
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Accepted => "accepted",
            Self::AcceptedButNamed => "named",
            Self::Refused(reason) => reason,
        }
    }
}

pub(crate) struct Case {
    pub(crate) suite: &'static str,
    pub(crate) id: String,
    pub(crate) expected: Expected,
    pub(crate) answer: Answer,
}

/// `Variant`, or `Variant/Role` for an error that says which certificate it means.
fn reason(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let word = |t: &str| -> String { t.chars().take_while(char::is_ascii_alphanumeric).collect() };
    match text.split_once("role: ") {
        Some((_, role)) => format!("{}/{}", word(&text), word(role)),
        None => word(&text),
    }
}

//! What is wrong with a configuration file, in words an operator can act on.

use std::fmt::{self, Display};
use std::io;
use std::path::{Path, PathBuf};

use super::locate;

/// Where in a file; both count from 1. Columns count characters.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Position {
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

/// `Display` is complete but for the cause of [`ConfigError::CannotRead`].
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, not readable, or not text.
    #[error("cannot read {}", file.display())]
    CannotRead {
        /// The file.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Hardly a configuration.
    #[error("{} is larger than {limit} bytes", file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
        /// The bound in bytes.
        limit: u64,
    },
    /// The file is not TOML.
    #[error("{}: {message}", At(file, *at))]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where.
        at: Option<Position>,
        /// What the parser says.
        message: String,
    },
    /// There is no such key.
    #[error("{}: unknown key {key}: {expected}", At(file, *at))]
    UnknownKey {
        /// The file.
        file: PathBuf,
        /// Where.
        at: Option<Position>,
        /// With its tables: `ttl.x509`.
        key: String,
        /// The keys there are.
        expected: String,
    },
    /// A key without a default is not there.
    #[error("{}: the key {key} is missing", At(file, *at))]
    MissingKey {
        /// The file.
        file: PathBuf,
        /// The table it should be in, when that is there.
        at: Option<Position>,
        /// With its tables.
        key: String,
    },
    /// A value is not what it should be.
    #[error("{}: {key} = {value}: {problem}", At(file, *at))]
    Invalid {
        /// The file.
        file: PathBuf,
        /// Where the value stands, when it can be found.
        at: Option<Position>,
        /// With its tables.
        key: String,
        /// As written, or `(not shown)`.
        value: String,
        /// "expected …", or what is wrong.
        problem: String,
    },
}

impl ConfigError {
    /// A value that parses but makes no sense. Finds the line by reading the file again; says nothing about it if it cannot.
    #[must_use]
    pub fn invalid(file: &Path, key: impl Display, value: impl Display, expected: impl Display) -> Self {
        let key = key.to_string();
        let at = super::read(file)
            .ok()
            .and_then(|text| locate::value(&text, &key).map(|at| locate::position(&text, at)));
        let value = if is_secret(&key) {
            HIDDEN.to_owned()
        } else {
            value.to_string()
        };
        Self::Invalid {
            file: file.to_owned(),
            at,
            key,
            value,
            problem: format!("expected {expected}"),
        }
    }

    pub(super) fn of_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let file = file.to_owned();
        let span = error.span();
        let at = span.as_ref().map(|span| locate::position(text, span.start));
        let message = error.message().trim().replace('\n', ", ");
        let Some(place) = locate::key_at(text, span.as_ref()) else {
            return Self::Syntax { file, at, message };
        };
        if let Some(missing) = quoted_after(&message, "missing field ") {
            // For the top level the parser names the whole file, which is no place.
            let at = if place.is_empty() { None } else { at };
            return Self::MissingKey {
                file,
                at,
                key: join(&place, missing),
            };
        }
        if let Some(unknown) = quoted_after(&message, "unknown field ") {
            let expected = message
                .split_once(", ")
                .map_or("none is known here", |(_, expected)| expected)
                .to_owned();
            let key = if place.rsplit('.').next() == Some(unknown) {
                place
            } else {
                join(&place, unknown)
            };
            return Self::UnknownKey {
                file,
                at,
                key,
                expected,
            };
        }
        let problem = match message.split_once(", expected ") {
            // The parser's words for two things of TOML.
            Some((_, "a sequence")) => "expected a list, in brackets".to_owned(),
            Some((_, expected)) if expected.starts_with("struct ") => "expected a table".to_owned(),
            Some((_, expected)) => format!("expected {expected}"),
            None => message,
        };
        let value = span.and_then(|span| text.get(span)).unwrap_or_default();
        Self::Invalid {
            file,
            at,
            value: shown(&place, value),
            key: place,
            problem,
        }
    }
}

/// The name in backquotes after `prefix`.
fn quoted_after<'a>(message: &'a str, prefix: &str) -> Option<&'a str> {
    message
        .strip_prefix(prefix)?
        .strip_prefix('`')?
        .split_once('`')
        .map(|(name, _)| name)
}

fn join(table: &str, key: &str) -> String {
    if table.is_empty() {
        key.to_owned()
    } else {
        format!("{table}.{key}")
    }
}

fn shown(key: &str, value: &str) -> String {
    // A URL with a user in it may hold a password.
    if is_secret(key) || value.contains('@') {
        return HIDDEN.to_owned();
    }
    match value.split_once('\n') {
        Some((first, _)) => format!("{} …", first.trim_end()),
        None => value.to_owned(),
    }
}

/// By its last name: a file or directory with a secret in it may be shown.
fn is_secret(key: &str) -> bool {
    let name = key.rsplit('.').next().unwrap_or(key);
    ["token", "password", "secret", "pin"].contains(&name)
}

struct At<'a>(&'a Path, Option<Position>);

impl Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Some(Position { line, column }) => write!(f, "{}:{line}:{column}", self.0.display()),
            None => write!(f, "{}", self.0.display()),
        }
    }
}

const HIDDEN: &str = "(not shown)";

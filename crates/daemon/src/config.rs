//! Reads a daemon's TOML file.
//!
//! Invariant: an error names the file, the place, the key, the value and what was expected; a secret is never repeated in it.

mod error;
mod human;
mod locate;

use std::io::Read as _;
use std::path::Path;

use serde::de::DeserializeOwned;

pub use error::{ConfigError, Position};
pub use human::{HumanDuration, HumanError, HumanSize};

/// Reads and parses a file. Types should refuse unknown keys (`deny_unknown_fields`).
///
/// # Errors
/// The file cannot be read, is not TOML, or does not hold what `T` expects.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(path, &read(path)?)
}

/// Parses text as if it stood in the file `path`.
///
/// # Errors
/// As [`load`].
pub fn parse<T: DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error| ConfigError::of_toml(path, text, &error))
}

fn read(path: &Path) -> Result<String, ConfigError> {
    let cannot = |source| ConfigError::CannotRead {
        file: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(cannot)?;
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(cannot)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(ConfigError::TooLarge {
            file: path.to_owned(),
            limit: MAX_BYTES,
        });
    }
    Ok(text)
}

const MAX_BYTES: u64 = 1024 * 1024;

#[cfg(test)]
mod tests;

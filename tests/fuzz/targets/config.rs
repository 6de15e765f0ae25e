//! Configuration files of both daemons: refused ones are refused with the place, and in words that repeat no secret.
//!
//! Input: a byte, even for the server and odd for the agent, and the text of the file.
#![no_main]

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landfast_agent::AgentConfig;
use landfast_daemon::config::{ConfigError, HumanDuration, HumanSize, Position};
use landfast_server::ServerConfig;
use libfuzzer_sys::fuzz_target;
use toml::{Table, Value};

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = str::from_utf8(text) else { return };
    human(text);
    let table = toml::from_str::<Table>(text).ok();
    if table.as_ref().is_some_and(reads_files) {
        return;
    }
    let path = write(text);
    let refused = if kind % 2 == 0 {
        ServerConfig::load(path).map(|config| sound_server(&config)).err()
    } else {
        AgentConfig::load(path).map(|config| sound_agent(&config)).err()
    };
    if let Some(error) = refused {
        says_where(&error, text, table.as_ref());
        keeps_secrets(&error, text, table.as_ref());
    }
});

fn sound_server(config: &ServerConfig) {
    assert!(!config.listen.is_empty() && config.listen.len() <= 16);
    assert!(config.data_dir.as_ref().is_some_and(|dir| dir.is_absolute()));
    assert!(config.admin_socket.is_absolute());
    assert!(config.ttls.agent < config.ttls.ca && config.ttls.x509 < config.ttls.ca);
    assert!(config.join_token || config.x509pop.is_some());
    assert!(config.admin_ids.iter().all(|id| !id.path().is_empty()));
    assert!(config.limits.connections > 0 && config.limits.signatures > 0);
}

fn sound_agent(config: &AgentConfig) {
    assert!(!config.servers.is_empty());
    assert!(config.data_dir.is_absolute() && config.socket.is_absolute());
    assert!(config.limits.connections_total > 0 && config.limits.streams_per_process > 0);
}

/// A line and column that exist, whenever there is something to point at.
fn says_where(error: &ConfigError, text: &str, table: Option<&Table>) {
    let (at, must) = match error {
        ConfigError::Syntax { at, .. } | ConfigError::UnknownKey { at, .. } => (at, true),
        // A key of the top level that is missing is missing everywhere.
        ConfigError::MissingKey { at, key, .. } => (at, table.is_some_and(|table| has_table_of(table, key))),
        ConfigError::Invalid { at, key, .. } => (at, table.is_some_and(|table| has(table, key))),
        other => panic!("{other}"),
    };
    assert!(at.is_some() || !must, "no line: {error}");
    if let Some(Position { line, column }) = *at {
        // A place behind the last line break counts as a line.
        let found = text.split('\n').nth(line.wrapping_sub(1));
        let width = found.map(|line| line.chars().count());
        assert!(
            width.is_some_and(|width| (1..=width + 1).contains(&column)),
            "no such place: {error}"
        );
        let shown = format!(":{line}:{column}: ");
        assert!(error.to_string().contains(&shown), "{error}");
    }
    assert!(!error.to_string().contains('\n'), "more than a line: {error}");
}

/// Whether the file says anything at this key, or at the table it would be in.
fn has(table: &Table, key: &str) -> bool {
    table.contains_key(key.split('.').next().unwrap_or_default())
}

fn has_table_of(table: &Table, key: &str) -> bool {
    let Some((first, rest)) = key
        .rsplit_once('.')
        .map(|(tables, _)| tables.split_once('.').unwrap_or((tables, "")))
    else {
        return false;
    };
    let mut value = table.get(first);
    for name in rest.split('.').filter(|name| !name.is_empty()) {
        value = value.and_then(|value| value.get(name));
    }
    value.is_some_and(Value::is_table)
}

/// A join token that is long enough to be one never comes back in an error.
fn keeps_secrets(error: &ConfigError, text: &str, table: Option<&Table>) {
    // What is no TOML is refused in the parser's own words: there the token is what stands between quotes behind its key.
    let token = match table {
        Some(table) => table
            .get("attestation")
            .and_then(|table| table.get("token")?.as_str()),
        None => text
            .split_once("\ntoken = \"")
            .and_then(|(_, rest)| rest.split('"').next())
            .filter(|token| token.bytes().all(|byte| byte.is_ascii_alphanumeric())),
    };
    let token = token.filter(|token| token.len() >= 20 && text.matches(token).count() == 1);
    if let Some(token) = token {
        assert!(!error.to_string().contains(token), "a secret: {error}");
    }
}

/// The files that a configuration names are not the fuzzer's to open.
fn reads_files(table: &Table) -> bool {
    let pop = table
        .get("attestation")
        .and_then(|attestation| attestation.get("x509pop"));
    pop.is_some_and(|x509pop| x509pop.get("ca_bundle").is_some())
}

fn human(text: &str) {
    if let Ok(duration) = text.parse::<HumanDuration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration), "{text}");
    }
    if let Ok(size) = text.parse::<HumanSize>() {
        assert_eq!(size.to_string().parse(), Ok(size), "{text}");
    }
}

/// Into one file that stays open: a file system that is asked to truncate and close takes its time.
fn write(text: &str) -> &'static Path {
    static FILE: OnceLock<(PathBuf, File)> = OnceLock::new();
    let (path, file) = FILE.get_or_init(|| {
        let path = std::env::temp_dir().join(format!("landfast-fuzz-{}.toml", std::process::id()));
        let file = File::create(&path).expect("a folder for temporary files");
        (path, file)
    });
    let written = file
        .write_all_at(text.as_bytes(), 0)
        .and_then(|()| file.set_len(text.len() as u64));
    written.expect("room for a temporary file");
    path
}

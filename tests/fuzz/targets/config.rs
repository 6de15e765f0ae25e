//! Configuration files of both daemons: refused ones are refused with the place, and in words that repeat no secret.
//!
//! Input: a byte, even for the server and odd for the agent, and the text of the file.
#![no_main]

use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use landfast_agent::AgentConfig;
use landfast_daemon::config::{ConfigError, HumanDuration, HumanSize, Position};
use landfast_server::ServerConfig;
use libfuzzer_sys::fuzz_target;
use toml::Value;

fuzz_target!(|data: &[u8]| {
    let Some((kind, text)) = data.split_first() else {
        return;
    };
    let Ok(text) = str::from_utf8(text) else { return };
    human(text);
    if reads_files(text) {
        return;
    }
    let path = file();
    std::fs::write(path, text).expect("a folder for temporary files");
    let refused = if kind % 2 == 0 {
        ServerConfig::load(path).map(|config| sound_server(&config)).err()
    } else {
        AgentConfig::load(path).map(|config| sound_agent(&config)).err()
    };
    if let Some(error) = refused {
        says_where(&error, text);
        keeps_secrets(&error, text);
    }
});

fn sound_server(config: &ServerConfig) {
    assert!(!config.listen.is_empty() && config.listen.len() <= 16);
    assert!(config.data_dir.as_ref().is_some_and(|dir| dir.is_absolute()));
    assert!(config.admin_socket.is_absolute());
    assert!(config.ttls.agent < config.ttls.ca && config.ttls.x509 < config.ttls.ca);
    assert!(config.join_token || config.x509pop.is_some());
    let own = |id: &landfast_identity::SpiffeId| id.trust_domain() == &config.trust_domain;
    assert!(config.admin_ids.iter().all(own));
    assert!(config.limits.connections > 0 && config.limits.signatures > 0);
}

fn sound_agent(config: &AgentConfig) {
    assert!(!config.servers.is_empty());
    assert!(config.data_dir.is_absolute() && config.socket.is_absolute());
    assert!(config.limits.connections_total > 0 && config.limits.streams_per_process > 0);
}

/// A line and column that exist, whenever there is something to point at.
fn says_where(error: &ConfigError, text: &str) {
    let (at, must) = match error {
        ConfigError::Syntax { at, .. } | ConfigError::UnknownKey { at, .. } => (at, true),
        // A key of the top level that is missing is missing everywhere.
        ConfigError::MissingKey { at, key, .. } => (at, key.contains('.') && has_table_of(text, key)),
        ConfigError::Invalid { at, key, .. } => (at, has(text, key)),
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
fn has(text: &str, key: &str) -> bool {
    let first = key.split('.').next().unwrap_or_default();
    toml::from_str::<toml::Table>(text).is_ok_and(|table| table.contains_key(first))
}

fn has_table_of(text: &str, key: &str) -> bool {
    let Ok(table) = toml::from_str::<toml::Table>(text) else {
        return false;
    };
    let Some((tables, _)) = key.rsplit_once('.') else {
        return false;
    };
    let mut value = &Value::Table(table);
    for name in tables.split('.') {
        match value.get(name) {
            Some(inner) => value = inner,
            None => return false,
        }
    }
    true
}

/// A join token that is long enough to be one never comes back in an error.
fn keeps_secrets(error: &ConfigError, text: &str) {
    let Ok(table) = toml::from_str::<toml::Table>(text) else {
        return;
    };
    let token = table
        .get("attestation")
        .and_then(|attestation| attestation.get("token"))
        .and_then(Value::as_str)
        .filter(|token| token.len() >= 20 && text.matches(token).count() == 1);
    if let Some(token) = token {
        assert!(!error.to_string().contains(token), "a secret: {error}");
    }
}

/// The files that a configuration names are not the fuzzer's to open.
fn reads_files(text: &str) -> bool {
    let Ok(table) = toml::from_str::<toml::Table>(text) else {
        return false;
    };
    table
        .get("attestation")
        .and_then(|attestation| attestation.get("x509pop"))
        .and_then(|x509pop| x509pop.get("ca_bundle"))
        .is_some()
}

fn human(text: &str) {
    if let Ok(duration) = text.parse::<HumanDuration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration), "{text}");
    }
    if let Ok(size) = text.parse::<HumanSize>() {
        assert_eq!(size.to_string().parse(), Ok(size), "{text}");
    }
}

fn file() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| std::env::temp_dir().join(format!("landfast-fuzz-{}.toml", std::process::id())))
}

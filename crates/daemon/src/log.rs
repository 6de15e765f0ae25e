//! Logging to standard error, as text for people or as JSON lines.
//!
//! Invariant: `LANDFAST_LOG` is the only environment variable that changes what a daemon does.

use std::sync::OnceLock;

use serde::Deserialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::EnvFilter;

/// How a line looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// The least severe events that are logged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Something failed for good.
    Error,
    /// Something failed that will be tried again, or that an operator should look at.
    Warn,
    /// What happened.
    #[default]
    Info,
    /// How it happened.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    fn of(filter: LevelFilter) -> Self {
        match filter {
            LevelFilter::TRACE => Self::Trace,
            LevelFilter::DEBUG => Self::Debug,
            LevelFilter::INFO => Self::Info,
            LevelFilter::WARN => Self::Warn,
            _ => Self::Error,
        }
    }

    /// As written in the file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// The `[log]` table of every daemon.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: LogLevel,
    /// `text` or `json`.
    pub format: LogFormat,
}

/// Starts logging for the whole process. `LANDFAST_LOG` (directives such as `info,landfast_agent=debug`) overrides `level`.
/// A second call changes nothing, so that one process can hold both daemons.
pub fn init(level: &str, format: LogFormat) {
    if RUNNING.get().is_some() {
        return; // a second subscriber, even one that is refused, would raise the level that all of the process looks at first
    }
    let wanted = std::env::var_os(FILTER).map(|value| value.to_string_lossy().into_owned());
    let (filter, refused) = filter(level, wanted.as_deref());
    let launch = filter.to_string();
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(filter);
    let (started, reload): (_, Reload) = match format {
        LogFormat::Text => {
            let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
            let builder = builder.with_ansi(ansi).with_filter_reloading();
            let handle = builder.reload_handle();
            (
                builder.try_init(),
                Box::new(move |filter| handle.reload(filter).is_ok()),
            )
        }
        LogFormat::Json => {
            let builder = builder.json().flatten_event(true).with_filter_reloading();
            let handle = builder.reload_handle();
            (
                builder.try_init(),
                Box::new(move |filter| handle.reload(filter).is_ok()),
            )
        }
    };
    if started.is_err() {
        return;
    }
    let level = LogLevel::of(LevelFilter::current());
    // Once a process: a second call ended above.
    drop(RUNNING.set(Running {
        reload,
        launch,
        level,
    }));
    if let Some(refused) = refused {
        tracing::warn!(
            value = refused,
            "{FILTER} is not a log filter such as info,landfast_agent=debug; not used"
        );
    }
}

type Reload = Box<dyn Fn(EnvFilter) -> bool + Send + Sync>;

/// What this process began to log with.
struct Running {
    reload: Reload,
    launch: String,
    level: LogLevel,
}

static RUNNING: OnceLock<Running> = OnceLock::new();

/// The least severe events that are logged now, and at the start. `None` when this process did not start its logging here.
#[must_use]
pub fn levels() -> Option<(LogLevel, LogLevel)> {
    let running = RUNNING.get()?;
    Some((LogLevel::of(LevelFilter::current()), running.level))
}

/// Logs everything of this level from now on, whatever directives were there before. Returns whether it does.
pub fn set_level(level: LogLevel) -> bool {
    RUNNING
        .get()
        .is_some_and(|running| (running.reload)(EnvFilter::new(level.as_str())))
}

/// Logs again what was logged at the start, directives included. Returns whether it does.
pub fn reset_level() -> bool {
    RUNNING
        .get()
        .is_some_and(|running| (running.reload)(EnvFilter::new(&running.launch)))
}

/// The filter, and the override that had to be refused.
fn filter<'a>(level: &str, wanted: Option<&'a str>) -> (EnvFilter, Option<&'a str>) {
    let from_file = || {
        EnvFilter::builder()
            .parse(level)
            .unwrap_or_else(|_| EnvFilter::new("info"))
    };
    match wanted {
        None | Some("") => (from_file(), None),
        Some(text) => match EnvFilter::builder().parse(text) {
            Ok(filter) => (filter, None),
            Err(_) => (from_file(), Some(text)),
        },
    }
}

const FILTER: &str = "LANDFAST_LOG";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_of_the_file_holds_unless_overridden() {
        assert_eq!(filter("warn", None).0.to_string(), "warn");
        assert_eq!(filter("warn", Some("")).0.to_string(), "warn");
        assert_eq!(
            filter("warn", Some("landfast_agent=debug")).0.to_string(),
            "landfast_agent=debug"
        );
    }

    #[test]
    fn an_override_that_is_no_filter_is_reported_and_not_used() {
        let (kept, refused) = filter("warn", Some("a=b=c"));
        assert_eq!((kept.to_string().as_str(), refused), ("warn", Some("a=b=c")));
    }

    /// The only test of this process that starts logging.
    #[test]
    fn the_level_changes_while_it_runs_and_goes_back_to_what_it_was() {
        assert!(levels().is_none() && !set_level(LogLevel::Debug) && !reset_level());
        init("warn,landfast_daemon=info", LogFormat::Json);
        init("trace", LogFormat::Text);
        let start = Some((LogLevel::Info, LogLevel::Info));
        assert_eq!(levels(), start, "the second call changes nothing");
        assert!(set_level(LogLevel::Debug));
        assert_eq!(levels(), Some((LogLevel::Debug, LogLevel::Info)));
        assert!(tracing::enabled!(target: "somebody_else", tracing::Level::DEBUG));
        assert!(reset_level());
        assert_eq!(levels(), start);
        assert!(
            !tracing::enabled!(target: "somebody_else", tracing::Level::INFO),
            "directives are back"
        );
    }

    #[test]
    fn the_table_has_defaults_and_no_unknown_keys() {
        let config: LogConfig = toml::from_str("").unwrap();
        assert_eq!((config.level.as_str(), config.format), ("info", LogFormat::Text));
        let config: LogConfig = toml::from_str("level = \"debug\"\nformat = \"json\"").unwrap();
        assert_eq!((config.level.as_str(), config.format), ("debug", LogFormat::Json));
        for wrong in ["level = \"loud\"", "format = \"xml\"", "colour = true"] {
            assert!(toml::from_str::<LogConfig>(wrong).is_err(), "{wrong}");
        }
    }
}

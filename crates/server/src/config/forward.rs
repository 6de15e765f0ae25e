//! `[[ledger.forward]]`: where the ledger's records are forwarded to.

use std::net::IpAddr;
use std::path::PathBuf;

use http::Uri;
use landfast_daemon::config::ConfigError;

use super::Checker;
use super::raw::RawForward;
use crate::federation::read_roots;
use crate::forward::{ForwardConfig, MOST_DESTINATIONS, Target};

impl Checker<'_> {
    pub(super) fn forward(&self, tables: Vec<RawForward>) -> Result<Vec<ForwardConfig>, ConfigError> {
        if tables.len() > MOST_DESTINATIONS {
            let expected = format!("at most {MOST_DESTINATIONS} tables");
            return Err(self.invalid("ledger.forward", &tables.len().to_string(), &expected));
        }
        let mut made: Vec<ForwardConfig> = Vec::with_capacity(tables.len());
        for table in tables {
            let is_taken = made.iter().any(|other| other.name == table.name);
            if !is_name(&table.name) || is_taken {
                let expected = "a name of small letters, digits and -, another one for each table";
                return Err(self.invalid("ledger.forward.name", &table.name, expected));
            }
            let target = parse(&table.to)
                .map_err(|expected| self.invalid("ledger.forward.to", &table.to, &expected))?;
            let ca_file = table.ca_file.map(|path| self.roots(path)).transpose()?;
            made.push(ForwardConfig {
                name: table.name,
                target,
                ca_file,
            });
        }
        Ok(made)
    }

    fn roots(&self, path: PathBuf) -> Result<PathBuf, ConfigError> {
        let key = "ledger.forward.ca_file";
        let path = self.absolute(key, path)?;
        // A server that starts does without: the destination fails, and what it lacks is in the log.
        if self.strict {
            read_roots(&path)
                .map_err(|expected| self.invalid(key, &path.display().to_string(), &expected))?;
        }
        Ok(path)
    }
}

fn is_name(name: &str) -> bool {
    let is_of_it = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=32).contains(&name.len()) && name.bytes().all(is_of_it) && !name.starts_with('-')
}

fn parse(text: &str) -> Result<Target, String> {
    for (scheme, target) in [
        ("file://", Target::File as fn(PathBuf) -> Target),
        ("unix://", Target::Unix),
    ] {
        if let Some(path) = text.strip_prefix(scheme) {
            let path = PathBuf::from(path);
            return match path.is_absolute() {
                true => Ok(target(path)),
                false => Err(format!(
                    "an absolute path, such as {scheme}/var/log/landfast/ledger.jsonl"
                )),
            };
        }
    }
    let uri: Uri = text.parse().map_err(|_cause| KINDS.to_owned())?;
    let authority = uri.authority().ok_or_else(|| KINDS.to_owned())?;
    let host = authority
        .host()
        .trim_start_matches('[')
        .trim_end_matches(']')
        .to_owned();
    let scheme = uri.scheme_str().unwrap_or_default();
    let (tls, usual) = match scheme {
        "syslog+tls" => (true, Some(6514)),
        "syslog+tcp" => (false, None),
        "https" => (true, Some(4318)),
        "http" => (false, Some(4318)),
        _ => return Err(KINDS.to_owned()),
    };
    let is_written = !authority.as_str().ends_with(authority.host());
    let port = if is_written { authority.port_u16() } else { usual };
    let port = port.filter(|port| *port != 0).ok_or("a host and a port")?;
    if host.is_empty() || authority.as_str().contains('@') || uri.query().is_some() {
        return Err("a host and a port".to_owned());
    }
    if !tls && !is_here(&host) {
        return Err(format!(
            "an address of this machine, such as 127.0.0.1: {scheme} is not encrypted"
        ));
    }
    match scheme {
        "https" | "http" => Ok(Target::Otlp {
            host,
            port,
            tls,
            path: match uri.path() {
                "" | "/" => "/v1/logs".to_owned(),
                path => path.to_owned(),
            },
        }),
        _ if uri.path() == "" || uri.path() == "/" => Ok(Target::Syslog { host, port, tls }),
        _ => Err("no path".to_owned()),
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

const KINDS: &str = "syslog+tls://HOST:6514, syslog+tcp://127.0.0.1:PORT, https://HOST:4318/v1/logs, http://127.0.0.1:4318/v1/logs, file:///PATH or unix:///PATH";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_destination_is_known_by_its_url() {
        let syslog = |host: &str, port, tls| Target::Syslog {
            host: host.to_owned(),
            port,
            tls,
        };
        let otlp = |host: &str, port, tls, path: &str| Target::Otlp {
            host: host.to_owned(),
            port,
            tls,
            path: path.to_owned(),
        };
        for (text, target) in [
            (
                "syslog+tls://logs.plant.example",
                syslog("logs.plant.example", 6514, true),
            ),
            (
                "syslog+tls://[2001:db8::1]:7000/",
                syslog("2001:db8::1", 7000, true),
            ),
            ("syslog+tcp://127.0.0.1:514", syslog("127.0.0.1", 514, false)),
            (
                "https://otel.plant.example/v1/logs",
                otlp("otel.plant.example", 4318, true, "/v1/logs"),
            ),
            (
                "https://otel.plant.example:443/x/v1/logs",
                otlp("otel.plant.example", 443, true, "/x/v1/logs"),
            ),
            ("http://[::1]:4318", otlp("::1", 4318, false, "/v1/logs")),
            ("file:///var/log/l.jsonl", Target::File("/var/log/l.jsonl".into())),
            ("unix:///run/vector.sock", Target::Unix("/run/vector.sock".into())),
        ] {
            assert_eq!(parse(text), Ok(target), "{text}");
        }
    }

    #[test]
    fn nothing_goes_unencrypted_to_another_machine() {
        for bad in [
            "syslog+tcp://logs.plant.example:514",
            "syslog+tcp://192.0.2.1:514",
            "http://otel.plant.example:4318/v1/logs",
            "syslog+udp://127.0.0.1:514",
            "syslog+tcp://127.0.0.1",
            "syslog+tls://user@logs.plant.example",
            "syslog+tls://logs.plant.example/path",
            "syslog+tls://logs.plant.example:0",
            "file://relative",
            "logs.plant.example:6514",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

//! What SPIRE's server and agent say in the same way: plugins switched off, logs, HTTP.

use landfast_identity::TrustDomain;

use super::mapping::Mapping;
use super::settings::Setting;
use super::toml::quoted;
use super::values::{is_absolute, socket_address};
use crate::failure::Failure;

/// A plugin with `enabled = false` is as good as absent.
pub(super) fn switched_off(mapping: &mut Mapping) {
    for plugin in mapping.settings.plugins() {
        let path = ["plugins", plugin.0.as_str(), plugin.1.as_str()];
        let switch = [path[0], path[1], path[2], "enabled"];
        let Some(enabled) = mapping.take(&switch) else {
            continue;
        };
        if enabled.flag() == Some(false) {
            for setting in mapping.settings.take_below(&path) {
                mapping.hold(&setting, OFF);
            }
        }
        mapping.hold(
            &enabled,
            if enabled.flag() == Some(false) {
                OFF
            } else {
                "holds anyway"
            },
        );
    }
}

pub(super) fn trust_domain(mapping: &mut Mapping, side: &str) -> Result<TrustDomain, Failure> {
    let file = mapping.settings.file.clone();
    let setting = mapping.take_said(&[side, "trust_domain"]).ok_or_else(|| {
        Failure::failed(
            format!("{file} has no {side}.trust_domain"),
            "add it; if SPIRE gets it on its command line, write it into a copy of the file",
        )
    })?;
    let text = setting.text().unwrap_or_default();
    let trust_domain = TrustDomain::parse(&text).map_err(|error| {
        let hint = if text.contains('$') {
            "--expand-env fills in what SPIRE takes from its environment"
        } else {
            "a name such as plant.example is wanted, in lower case"
        };
        Failure::failed(
            format!("{file}:{}: trust_domain {text:?}: {error}", setting.place),
            hint,
        )
    })?;
    mapping.carry(&setting, "", "trust_domain", quoted(trust_domain.as_str()));
    Ok(trust_domain)
}

/// A path that means the same from every directory is carried over.
pub(super) fn path(mapping: &mut Mapping, path: &[&str], to: (&'static str, &'static str), otherwise: &str) {
    let Some(setting) = mapping.take_said(path) else {
        return;
    };
    match setting.text() {
        Some(text) if is_absolute(&text) => mapping.carry(&setting, to.0, to.1, quoted(&text)),
        _ => mapping.change(
            &setting,
            to,
            quoted(otherwise),
            "an absolute path is wanted here: move the file there",
        ),
    }
}

pub(super) fn log(mapping: &mut Mapping, side: &str) {
    if let Some(setting) = mapping.take_said(&[side, "log_level"]) {
        let given = setting.text().unwrap_or_default().to_lowercase();
        match given.as_str() {
            "error" | "warn" | "info" | "debug" | "trace" => {
                mapping.carry(&setting, "log", "level", quoted(&given))
            }
            "warning" => mapping.carry(&setting, "log", "level", quoted("warn")),
            "fatal" | "panic" => {
                mapping.change(
                    &setting,
                    ("log", "level"),
                    quoted("error"),
                    "the least that can be logged",
                );
            }
            _ => mapping.list(&setting, "error, warn, info, debug or trace as level in [log]"),
        }
    }
    if let Some(setting) = mapping.take_said(&[side, "log_format"]) {
        let given = setting.text().unwrap_or_default().to_lowercase();
        match given.as_str() {
            "text" | "json" => mapping.carry(&setting, "log", "format", quoted(&given)),
            _ => mapping.list(&setting, "text or json as format in [log]"),
        }
    }
}

/// Prometheus and health checks are one listener here. Prometheus's place wins: the scraper's configuration names it.
pub(super) fn http(mapping: &mut Mapping) {
    let prometheus = mapping.settings.has_below(&["telemetry", "Prometheus"]);
    if prometheus {
        listener(
            mapping,
            Listener {
                block: &["telemetry", "Prometheus"],
                host: "host",
                port: "port",
                default_port: None,
            },
        );
    }
    let enabled = mapping.take(&["health_checks", "listener_enabled"]);
    let on = enabled.as_ref().and_then(Setting::flag) == Some(true);
    if let Some(enabled) = &enabled {
        mapping.hold(
            enabled,
            if on {
                "/live and /ready of http_listen"
            } else {
                OFF
            },
        );
    }
    if on {
        listener(
            mapping,
            Listener {
                block: &["health_checks"],
                host: "bind_address",
                port: "bind_port",
                default_port: Some(80),
            },
        );
    } else {
        for setting in mapping.settings.take_below(&["health_checks"]) {
            mapping.hold(&setting, OFF);
        }
    }
}

struct Listener {
    block: &'static [&'static str],
    host: &'static str,
    port: &'static str,
    default_port: Option<u16>,
}

/// In both, the host is the loopback unless given.
fn listener(
    mapping: &mut Mapping,
    Listener {
        block,
        host,
        port,
        default_port,
    }: Listener,
) {
    let host = mapping.take_said(&[block, &[host]].concat());
    let port = mapping.take_said(&[block, &[port]].concat());
    let host_text = host
        .as_ref()
        .and_then(Setting::text)
        .unwrap_or_else(|| "localhost".to_owned());
    let port_number = match &port {
        Some(port) => port.integer().and_then(|port| u16::try_from(port).ok()),
        None => default_port,
    };
    let said: Vec<Setting> = [host, port].into_iter().flatten().collect();
    let Some(address) = port_number.and_then(|port| socket_address(&host_text, port)) else {
        let wanted = "an IP address and a port are wanted: write http_listen by hand";
        said.iter().for_each(|setting| mapping.list(setting, wanted));
        return;
    };
    if mapping.document.has("", "http_listen") {
        let instead = "http_listen has /metrics, /live and /ready in one place: ask there";
        said.iter().for_each(|setting| mapping.list(setting, instead));
        return;
    }
    mapping
        .document
        .set("", "http_listen", quoted(&address.to_string()), block.join("."));
    said.iter()
        .for_each(|setting| mapping.hold(setting, "http_listen"));
    if !address.ip().is_loopback() {
        let text = "http_listen is open to the network, without encryption: 127.0.0.1 keeps it local";
        mapping
            .report
            .note(said.first().map(|setting| setting.place), text);
    }
}

const OFF: &str = "switched off there, so nothing is needed";

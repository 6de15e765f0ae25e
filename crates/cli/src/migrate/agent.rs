//! SPIRE's agent.conf to our agent.toml.

use std::time::Duration;

use super::both;
use super::mapping::Mapping;
use super::programs;
use super::settings::Setting;
use super::toml::{list, quoted};
use super::values::{duration, host_port, human, is_absolute};
use crate::failure::Failure;

pub(super) fn map(mapping: &mut Mapping) -> Result<(), Failure> {
    let trust_domain = both::trust_domain(mapping, "agent")?;
    server(mapping)?;
    data_dir(mapping);
    trust_bundle(mapping);
    sockets(mapping);
    both::http(mapping);
    attestation(mapping);
    if let Some(kind) = mapping.take_said(&["agent", "workload_x509_svid_key_type"]) {
        let text = kind.text().unwrap_or_default().to_lowercase();
        match text.as_str() {
            "ec-p256" | "ec-p384" => mapping.carry(&kind, "keys", "workload", quoted(&text)),
            _ => mapping.list(&kind, "[keys] workload: ec-p256 or ec-p384; it is ec-p256 now"),
        }
    }
    if let Some(interval) = mapping.take_said(&["agent", "experimental", "sync_interval"]) {
        sync(mapping, &interval);
    }
    unix(mapping);
    programs::map(mapping, &trust_domain);
    both::log(mapping, "agent");
    Ok(())
}

fn server(mapping: &mut Mapping) -> Result<(), Failure> {
    let file = mapping.settings.file.clone();
    let missing = |key: &str| {
        Failure::failed(
            format!("{file} has no usable agent.{key}"),
            "add it; if SPIRE gets it on its command line or from its environment, write it into a copy of the file (or see --expand-env)",
        )
    };
    let address = mapping
        .take_said(&["agent", "server_address"])
        .ok_or_else(|| missing("server_address"))?;
    let port = mapping
        .take_said(&["agent", "server_port"])
        .ok_or_else(|| missing("server_port"))?;
    let number = port
        .integer()
        .and_then(|port| u16::try_from(port).ok())
        .filter(|port| *port != 0);
    let server = host_port(
        &address.text().unwrap_or_default(),
        number.ok_or_else(|| missing("server_port"))?,
    );
    if server.parse::<landfast_agent::config::ServerAddress>().is_err() {
        return Err(missing("server_address"));
    }
    mapping.carry(&address, "", "server", list(&[server]));
    mapping.hold(&port, "server");
    Ok(())
}

fn data_dir(mapping: &mut Mapping) {
    let why = "the node gets an identity of its own here; SPIRE's data is not read or touched";
    match mapping.take_said(&["agent", "data_dir"]) {
        Some(setting) => mapping.change(&setting, ("", "data_dir"), quoted(DATA_DIR), why),
        None => mapping.add(("", "data_dir"), quoted(DATA_DIR), why),
    }
}

fn trust_bundle(mapping: &mut Mapping) {
    both::path(
        mapping,
        &["agent", "trust_bundle_path"],
        ("", "trust_bundle"),
        TRUST_BUNDLE,
    );
    if !mapping.document.has("", "trust_bundle") {
        let why = "no node believes a server without a bundle: what landfast bundle show prints on the server belongs in this file";
        mapping.add(("", "trust_bundle"), quoted(TRUST_BUNDLE), why);
    }
    mapping.report.note(
        None,
        "the file of trust_bundle must hold the authorities of the server that this agent will meet; a Landfast server has others than the SPIRE server before it",
    );
    if let Some(format) = mapping.take_said(&["agent", "trust_bundle_format"]) {
        mapping.hold(
            &format,
            "the content of trust_bundle shows whether it is PEM or a SPIFFE bundle",
        );
    }
}

fn sockets(mapping: &mut Mapping) {
    for (key, ours, default, spires) in [
        (
            "socket_path",
            "socket",
            "/run/landfast/agent/public/api.sock",
            "/tmp/spire-agent/public/api.sock",
        ),
        (
            "admin_socket_path",
            "admin_socket",
            "/run/landfast/agent/private/admin.sock",
            "",
        ),
    ] {
        match mapping.take_said(&["agent", key]) {
            Some(setting) => match setting.text() {
                Some(text) if is_absolute(&text) && text.len() <= MAX_SOCKET => {
                    mapping.carry(&setting, "", ours, quoted(&text));
                    let note = format!("{ours} keeps its path. The packaged systemd unit may write only under /run/landfast/agent: add ReadWritePaths= or take {default}");
                    mapping.note(&setting, &note);
                }
                _ => {
                    let instead = format!("{ours} wants an absolute path of at most {MAX_SOCKET} bytes; it is {default} by default");
                    mapping.list(&setting, &instead);
                }
            },
            None if spires.is_empty() => {}
            None => mapping.report.note(None, &format!("{ours} is {default}, SPIRE's was {spires}: workloads that name it in SPIFFE_ENDPOINT_SOCKET must name the new one")),
        }
    }
}

fn attestation(mapping: &mut Mapping) {
    let path = |name| [X509POP[0], X509POP[1], X509POP[2], X509POP[3], name];
    let to = |key| ("attestation", key);
    let token = mapping.take_said(&["agent", "join_token"]);
    let token_file = mapping.take_said(&["agent", "join_token_file"]);
    let certificate = mapping.settings.has_below(&path("certificate_path"));
    if certificate {
        mapping.document.set(
            "attestation",
            "method",
            quoted("x509pop"),
            "plugins.NodeAttestor.x509pop".to_owned(),
        );
        both::path(
            mapping,
            &path("certificate_path"),
            to("certificate"),
            "/etc/landfast/device.pem",
        );
        both::path(
            mapping,
            &path("private_key_path"),
            to("private_key"),
            "/etc/landfast/device-key.pem",
        );
        if !mapping.document.has("attestation", "private_key") {
            mapping.add(
                to("private_key"),
                quoted("/etc/landfast/device-key.pem"),
                "not given there",
            );
        }
        [token, token_file]
            .iter()
            .flatten()
            .for_each(|setting| mapping.hold(setting, "x509pop needs no token"));
        return;
    }
    mapping
        .document
        .set("attestation", "method", quoted("join_token"), String::new());
    let file = token_file
        .as_ref()
        .and_then(Setting::text)
        .filter(|text| is_absolute(text));
    match (&token_file, file) {
        (Some(setting), Some(file)) => mapping.carry(setting, "attestation", "token_file", quoted(&file)),
        (Some(setting), None) => {
            let why = "an absolute path is wanted here";
            mapping.change(setting, to("token_file"), quoted(TOKEN_FILE), why);
        }
        (None, _) => {
            let why = "the node has to attest anew: landfast token create on the server makes a token for this file";
            mapping.add(to("token_file"), quoted(TOKEN_FILE), why);
        }
    }
    if let Some(token) = token {
        mapping.list(&token, "a token works once and does not belong in a configuration: landfast token create makes one for token_file");
    }
}

fn sync(mapping: &mut Mapping, interval: &Setting) {
    let Some(given) = interval.text().as_deref().and_then(duration) else {
        return mapping.list(interval, "a duration such as 5s is wanted as interval in [sync]");
    };
    let millis = Duration::from_millis(u64::try_from(given.as_millis()).unwrap_or(u64::MAX));
    let fitting = millis.clamp(Duration::from_millis(100), Duration::from_secs(3600));
    if fitting == given {
        mapping.carry(interval, "sync", "interval", human(given));
    } else {
        mapping.change(interval, ("sync", "interval"), human(fitting), "100ms to 1h");
    }
}

fn unix(mapping: &mut Mapping) {
    let path = |name| ["plugins", "WorkloadAttestor", "unix", "plugin_data", name];
    if let Some(discover) = mapping.take_said(&path("discover_workload_path")) {
        if discover.flag() != Some(true) {
            mapping.note(
                &discover,
                "unix:path and unix:sha256 are always there when an entry asks for them",
            );
        }
        mapping.hold(&discover, "always on");
    }
    let Some(limit) = mapping.take_said(&path("workload_size_limit")) else {
        return;
    };
    let to = ("workload", "max_hash_size");
    match limit.integer() {
        Some(0) => mapping.change(&limit, to, quoted("1024GiB"), "the largest that can be said"),
        Some(bytes) if bytes >= MIN_HASH => {
            mapping.carry(&limit, to.0, to.1, quoted(&format!("{}B", bytes.min(MAX_HASH))));
        }
        Some(bytes) if bytes > 0 => {
            mapping.change(&limit, to, quoted("1MiB"), "the smallest that can be said")
        }
        _ => mapping.list(
            &limit,
            "a program is hashed only when an entry asks for its unix:sha256",
        ),
    }
}

const X509POP: [&str; 4] = ["plugins", "NodeAttestor", "x509pop", "plugin_data"];
const DATA_DIR: &str = "/var/lib/landfast-agent";
const TRUST_BUNDLE: &str = "/etc/landfast/bundle.pem";
const TOKEN_FILE: &str = "/etc/landfast/join-token";
/// `sun_path`, less the final zero.
const MAX_SOCKET: usize = 107;
const MIN_HASH: i64 = 1 << 20;
const MAX_HASH: i64 = 1 << 40;

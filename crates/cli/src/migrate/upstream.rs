//! SPIRE's UpstreamAuthority to our `[upstream]`: files of an offline root, or a parent server. Invariant: one of them at most, as there.

use super::mapping::Mapping;
use super::settings::Setting;
use super::toml::quoted;
use super::values::is_absolute;

pub(super) fn map(mapping: &mut Mapping) {
    let has = |mapping: &Mapping, name| {
        mapping
            .settings
            .has_below(&["plugins", PLUGIN, name, "plugin_data"])
    };
    if has(mapping, "disk") {
        disk(mapping);
    } else if has(mapping, "spire") {
        spire(mapping);
    }
}

fn disk(mapping: &mut Mapping) {
    for (name, key, default) in [
        ("cert_file_path", "cert_file", "/etc/landfast/upstream.crt"),
        ("key_file_path", "key_file", "/etc/landfast/upstream.key"),
        (
            "bundle_file_path",
            "bundle_file",
            "/etc/landfast/upstream-roots.crt",
        ),
    ] {
        let to = ("upstream.disk", key);
        match mapping.take_said(&["plugins", PLUGIN, "disk", "plugin_data", name]) {
            Some(path) => match path.text().filter(|text| is_absolute(text)) {
                Some(text) => mapping.carry(&path, to.0, to.1, quoted(&text)),
                None => mapping.change(
                    &path,
                    to,
                    quoted(default),
                    "an absolute path is wanted here: move the file there",
                ),
            },
            // Without it the certificate is a root, here as there.
            None if key == "bundle_file" => {}
            None => mapping.add(
                to,
                quoted(default),
                "SPIRE's file did not say where it is: put it there",
            ),
        }
    }
    mapping.report.note(
        None,
        "upstream.disk.key_file must belong to the server's own user, mode 0600; the intermediate must allow one more CA below it (docs/nested.md)",
    );
}

fn spire(mapping: &mut Mapping) {
    let option = |name| ["plugins", PLUGIN, "spire", "plugin_data", name];
    let host = mapping.take_said(&option("server_address"));
    let port = mapping.take_said(&option("server_port"));
    let port_text = port.as_ref().and_then(|port| {
        let number = port.integer().map(|number| number.to_string());
        number.or_else(|| port.text())
    });
    let port_text = port_text.filter(|text| text.parse::<u16>().is_ok_and(|port| port != 0));
    let plain = |text: &String| {
        text.chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'))
    };
    let host_text = host.as_ref().and_then(Setting::text).filter(plain);
    let to = ("upstream.spire", "server");
    match (&host, host_text, port_text) {
        (Some(said), Some(host), Some(port)) => {
            mapping.carry(said, to.0, to.1, quoted(&format!("{host}:{port}")))
        }
        (Some(said), ..) => mapping.change(
            said,
            to,
            quoted(NOBODY),
            "the parent's host and port are wanted: nothing can be signed until they are right",
        ),
        (None, ..) => mapping.add(
            to,
            quoted(NOBODY),
            "SPIRE's file did not say where the parent server is: say it",
        ),
    }
    if let Some(port) = &port {
        mapping.hold(port, "upstream.spire.server");
    }
    let to = ("upstream.spire", "workload_api");
    match mapping.take_said(&option("workload_api_socket")) {
        Some(socket) => match socket.text().filter(|text| is_absolute(text)) {
            Some(text) => mapping.carry(&socket, to.0, to.1, quoted(&format!("unix://{text}"))),
            None => mapping.change(&socket, to, quoted(AGENT), "an absolute path is wanted here"),
        },
        None => mapping.add(
            to,
            quoted(AGENT),
            "the socket of the parent's agent on this machine",
        ),
    }
}

const PLUGIN: &str = "UpstreamAuthority";
const NOBODY: &str = "parent.invalid:8081";
const AGENT: &str = "unix:///run/landfast/agent/api.sock";

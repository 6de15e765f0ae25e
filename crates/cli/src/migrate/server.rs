//! SPIRE's server.conf to our server.toml.

use std::time::Duration;

use landfast_identity::SpiffeId;

use super::both;
use super::federation;
use super::mapping::Mapping;
use super::settings::Setting;
use super::toml::{list, quoted};
use super::upstream;
use super::values::{duration, human, is_absolute, socket_address};
use crate::failure::Failure;

pub(super) fn map(mapping: &mut Mapping) -> Result<(), Failure> {
    let trust_domain = both::trust_domain(mapping, "server")?;
    data_dir(mapping);
    listen(mapping);
    admin(mapping);
    both::http(mapping);
    if let Some(issuer) = mapping.take_said(&["server", "jwt_issuer"]) {
        let text = issuer.text().unwrap_or_default();
        mapping.carry(&issuer, "", "jwt_issuer", quoted(&text));
    }
    let ca = ttls(mapping);
    federation::map(mapping, &trust_domain, ca);
    keys(mapping);
    upstream::map(mapping);
    attestation(mapping);
    both::log(mapping, "server");
    if mapping.settings.has_below(&["server", "ratelimit"]) {
        let text = "attestations: SPIRE allows one a second and address, Landfast 10 ([limits] attestations_per_second); signatures: 500 a second and address there, here 10 a second for each identity in the long run and 20,000 at once ([limits] signatures_per_second, signatures_burst)";
        mapping.report.note(None, text);
    }
    Ok(())
}

fn data_dir(mapping: &mut Mapping) {
    let Some(setting) = mapping.take_said(&["server", "data_dir"]) else {
        return;
    };
    let why =
        "nothing of SPIRE's is read or touched; authorities are new, entries come with landfast entry import";
    mapping.change(&setting, ("", "data_dir"), quoted(DATA_DIR), why);
}

fn listen(mapping: &mut Mapping) {
    let host = mapping.take_said(&["server", "bind_address"]);
    let port = mapping.take_said(&["server", "bind_port"]);
    let host_text = host
        .as_ref()
        .and_then(Setting::text)
        .unwrap_or_else(|| "0.0.0.0".to_owned());
    let port_number = port.as_ref().map_or(Some(8081), |port| {
        port.integer().and_then(|port| u16::try_from(port).ok())
    });
    let said: Vec<Setting> = [host, port].into_iter().flatten().collect();
    let Some(first) = said.first() else { return };
    match port_number.and_then(|port| socket_address(&host_text, port)) {
        Some(address) => {
            mapping.carry(first, "", "listen", list(&[address.to_string()]));
        }
        None => {
            let address = format!("127.0.0.1:{}", port_number.unwrap_or(8081));
            let why = "an IP address and a port are wanted: agents reach nothing until it is the right one";
            mapping.change(first, ("", "listen"), list(&[address]), why);
        }
    }
    said.iter()
        .skip(1)
        .for_each(|setting| mapping.hold(setting, "listen"));
}

fn admin(mapping: &mut Mapping) {
    match mapping.take_said(&["server", "socket_path"]) {
        Some(socket) => match socket.text() {
            Some(text) if is_absolute(&text) => {
                mapping.carry(&socket, "", "admin_socket", quoted(&text));
                mapping.note(&socket, "landfast looks at /run/landfast/server/admin.sock unless --server-socket or LANDFAST_SERVER_SOCKET says otherwise; \
                    the packaged systemd unit may write only there");
            }
            _ => mapping.list(&socket, "admin_socket wants an absolute path; it is /run/landfast/server/admin.sock by default"),
        },
        None => mapping.report.note(None, "admin_socket is /run/landfast/server/admin.sock, SPIRE's was /tmp/spire-server/private/api.sock: \
            spire-server commands need -socketPath"),
    }
    let Some(ids) = mapping.take_said(&["server", "admin_ids"]) else {
        return;
    };
    let good = |text: &String| SpiffeId::parse(text).is_ok_and(|id| !id.path().is_empty());
    let (good, bad): (Vec<String>, Vec<String>) = ids.texts().into_iter().partition(good);
    if !good.is_empty() {
        mapping.carry(&ids, "", "admin_ids", list(&good));
    }
    if !bad.is_empty() {
        let instead = format!(
            "administrators are SPIFFE IDs with a path: not carried over are {}",
            bad.join(", ")
        );
        mapping.list(&ids, &instead);
    }
}

/// Every lifetime must be shorter than that of the authorities, given or not. Returns theirs.
fn ttls(mapping: &mut Mapping) -> Duration {
    let ca = mapping.take_said(&["server", "ca_ttl"]);
    let ca_ttl = ca.as_ref().and_then(whole_seconds);
    if let Some(setting) = &ca {
        carry_ttl(mapping, setting, "ca", ca_ttl, Duration::from_secs(60)..=MOST);
    }
    let ca_ttl = ca_ttl.map(|ttl| ttl.clamp(Duration::from_secs(60), MOST));
    if ca_ttl.is_none() {
        mapping.report.note(
            None,
            "ttl.ca is 30d; SPIRE's authorities live 24h unless ca_ttl says otherwise",
        );
    }
    let limit = ca_ttl.unwrap_or(30 * DAY);
    let below = |ttl: Duration| {
        if ttl < limit {
            ttl
        } else {
            Duration::from_secs(limit.as_secs() / 2)
        }
    };
    let x509 = mapping.take_said(&["server", "default_x509_svid_ttl"]);
    let x509_ttl = x509.as_ref().and_then(whole_seconds);
    let agent = mapping.take_said(&["server", "agent_ttl"]);
    let jwt = mapping.take_said(&["server", "default_jwt_svid_ttl"]);
    let least = Duration::from_secs(1);
    let most = limit.saturating_sub(least);
    for (setting, key, default) in [
        (&agent, "agent", 7 * DAY),
        (&x509, "x509", HOUR),
        (&jwt, "jwt", HOUR / 12),
    ] {
        if let Some(setting) = setting {
            carry_ttl(mapping, setting, key, whole_seconds(setting), least..=most);
        } else if default >= limit {
            let spires = if key == "agent" {
                below(x509_ttl.unwrap_or(HOUR))
            } else {
                below(default)
            };
            let why = if key == "agent" {
                "not given: as in SPIRE, since our 7d do not fit ca_ttl. A node that is cut off for longer must attest anew"
            } else {
                "not given: our default does not fit ca_ttl"
            };
            mapping.add(("ttl", key), human(spires), why);
        } else if key == "agent" {
            let text = "ttl.agent is 7d: for so long a node can be cut off. In SPIRE it is default_x509_svid_ttl (1h) unless agent_ttl says otherwise";
            mapping.report.note(None, text);
        }
    }
    limit
}

fn carry_ttl(
    mapping: &mut Mapping,
    setting: &Setting,
    key: &'static str,
    ttl: Option<Duration>,
    range: std::ops::RangeInclusive<Duration>,
) {
    let Some(ttl) = ttl else {
        return mapping.list(
            setting,
            "a duration such as 90s, 5m, 1h or 30d is wanted in [ttl]",
        );
    };
    let fitting = ttl.clamp(*range.start(), *range.end());
    if fitting == ttl && setting.text().as_deref().and_then(duration) == Some(ttl) {
        mapping.carry(setting, "ttl", key, human(ttl));
    } else {
        let why = format!(
            "{} to {} in whole seconds, and less than the authorities'",
            human(*range.start()).trim_matches('"'),
            human(*range.end()).trim_matches('"')
        );
        mapping.change(setting, ("ttl", key), human(fitting), &why);
    }
}

fn whole_seconds(setting: &Setting) -> Option<Duration> {
    let ttl = duration(&setting.text()?)?;
    Some(Duration::from_secs(ttl.as_secs().max(1)))
}

fn keys(mapping: &mut Mapping) {
    let both = mapping.take_said(&["server", "ca_key_type"]);
    let jwt = mapping.take_said(&["server", "jwt_key_type"]);
    let kind = |setting: &Setting| {
        let text = setting.text()?.to_lowercase();
        matches!(text.as_str(), "ec-p256" | "ec-p384").then(|| quoted(&text))
    };
    for (setting, key) in [(&both, "x509"), (jwt.as_ref().map_or(&both, |_| &jwt), "jwt")] {
        let Some(setting) = setting else { continue };
        match kind(setting) {
            Some(kind) => mapping.carry(setting, "keys", key, kind),
            None => mapping.list(
                setting,
                &format!("[keys] {key}: ec-p256 or ec-p384; it is ec-p256 now"),
            ),
        }
    }
}

fn attestation(mapping: &mut Mapping) {
    let join_token = mapping
        .settings
        .has_below(&["plugins", "NodeAttestor", "join_token"]);
    let x509pop = mapping.settings.has_below(&X509POP[..3]) && x509pop(mapping);
    if !x509pop && !join_token {
        let why = "no way of attestation that is known here was configured; join tokens always work";
        mapping.add(("attestation.join_token", "enabled"), "true".to_owned(), why);
    } else {
        let said = if join_token {
            "plugins.NodeAttestor.join_token"
        } else {
            "there is no NodeAttestor \"join_token\""
        };
        mapping.document.set(
            "attestation.join_token",
            "enabled",
            join_token.to_string(),
            said.to_owned(),
        );
    }
}

/// Whether device certificates attest here too.
fn x509pop(mapping: &mut Mapping) -> bool {
    let option = |name| [X509POP[0], X509POP[1], X509POP[2], X509POP[3], name];
    let bundle = mapping.take_said(&option("ca_bundle_path"));
    let bundles = mapping.take_said(&option("ca_bundle_paths"));
    let to = ("attestation.x509pop", "ca_bundle");
    let paths: Vec<String> = [&bundle, &bundles]
        .into_iter()
        .flatten()
        .flat_map(Setting::texts)
        .collect();
    let said: Vec<Setting> = [bundle, bundles].into_iter().flatten().collect();
    let Some(first) = said.first() else { return false };
    match paths.as_slice() {
        [path] if is_absolute(path) => mapping.carry(first, to.0, to.1, quoted(path)),
        [_] => mapping.change(
            first,
            to,
            quoted(DEVICE_CA),
            "an absolute path is wanted here: move the file there",
        ),
        _ => mapping.change(
            first,
            to,
            quoted(DEVICE_CA),
            "one file is wanted here: put all the certificates, at most 16, into it",
        ),
    }
    said.iter()
        .skip(1)
        .for_each(|setting| mapping.hold(setting, "attestation.x509pop.ca_bundle"));
    if let Some(setting) = mapping.take_said(&option("max_intermediates")) {
        let to = ("attestation.x509pop", "max_intermediates");
        match setting.integer() {
            Some(count @ 0..=4) => mapping.carry(&setting, to.0, to.1, count.to_string()),
            _ => mapping.change(&setting, to, "4".to_owned(), "at most 4"),
        }
    }
    true
}

const X509POP: [&str; 4] = ["plugins", "NodeAttestor", "x509pop", "plugin_data"];
const DATA_DIR: &str = "/var/lib/landfast-server";
const DEVICE_CA: &str = "/etc/landfast/device-ca.pem";
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);
/// The longest that a configuration may say.
const MOST: Duration = Duration::from_secs(3650 * 86_400);

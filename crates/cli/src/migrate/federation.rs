//! SPIRE's bundle endpoint and relationships to `[publish]` and `[[federation]]`.

use std::time::Duration;

use landfast_identity::{SpiffeId, TrustDomain};
use landfast_server::registry::EndpointUrl;

use super::both;
use super::mapping::Mapping;
use super::settings::Setting;
use super::toml::{list, quoted};
use super::values::{duration, human, socket_address};

/// `ca` is the life of our authorities.
pub(super) fn map(mapping: &mut Mapping, trust_domain: &TrustDomain, ca: Duration) {
    endpoint(mapping, ca);
    let peers = ["server", "federation", "federates_with"];
    for name in mapping.settings.names_below(&peers) {
        peer(mapping, &name, trust_domain);
    }
}

/// With ACME it stays as it is, and is listed: there is no certificate to name.
fn endpoint(mapping: &mut Mapping, ca: Duration) {
    let has = |mapping: &Mapping, rest: &[&str]| mapping.settings.has_below(&[&ENDPOINT[..], rest].concat());
    if !has(mapping, &[]) || has(mapping, &["acme"]) || has(mapping, &["profile", "https_web", "acme"]) {
        return;
    }
    let web = has(mapping, &["profile", "https_web"]);
    let key = if web { "listen" } else { "spiffe_listen" };
    if !endpoint_address(mapping, key) {
        return;
    }
    if web {
        certificate(mapping);
        if mapping.document.has("", "jwt_issuer") {
            let why = "SPIRE's discovery provider is another program; without this line this server serves discovery for jwt_issuer, which must then be an https URL";
            mapping.add(("publish", "oidc"), "false".to_owned(), why);
        }
    } else if let Some(profile) = mapping.take(&[&ENDPOINT[..], &["profile", "https_spiffe"]].concat()) {
        mapping.hold(&profile, "publish.spiffe_listen");
    }
    refresh_hint(mapping, ca);
}

/// Whether there is one to listen on.
fn endpoint_address(mapping: &mut Mapping, key: &'static str) -> bool {
    let host = mapping.take_said(&[&ENDPOINT[..], &["address"]].concat());
    let port = mapping.take_said(&[&ENDPOINT[..], &["port"]].concat());
    let text = host.as_ref().and_then(Setting::text);
    let number = match &port {
        Some(port) => port.integer().and_then(|port| u16::try_from(port).ok()),
        None => Some(443),
    };
    let address = number.and_then(|port| socket_address(text.as_deref().unwrap_or("0.0.0.0"), port));
    let said: Vec<Setting> = [host, port].into_iter().flatten().collect();
    let Some(address) = address else {
        let instead = format!("an IP address and a port are wanted: write {key} of [publish] by hand");
        said.iter().for_each(|setting| mapping.list(setting, &instead));
        return false;
    };
    let value = list(&[address.to_string()]);
    match said.first() {
        Some(first) => mapping.carry(first, "publish", key, value),
        None => mapping.add(("publish", key), value, "not given there: SPIRE's default"),
    }
    let rest = said.iter().skip(1);
    rest.for_each(|setting| mapping.hold(setting, &format!("publish.{key}")));
    true
}

fn certificate(mapping: &mut Mapping) {
    let option = |name| {
        [
            &ENDPOINT[..],
            &["profile", "https_web", "serving_cert_file", name],
        ]
        .concat()
    };
    for (name, key, otherwise) in [
        ("cert_file_path", "cert_file", "/etc/landfast/tls.crt"),
        ("key_file_path", "key_file", "/etc/landfast/tls.key"),
    ] {
        both::path(mapping, &option(name), ("publish", key), otherwise);
        if !mapping.document.has("publish", key) {
            mapping.add(("publish", key), quoted(otherwise), "not given there");
        }
    }
    if let Some(interval) = mapping.take(&option("file_sync_interval")) {
        mapping.hold(&interval, "the files are looked at every 10 seconds");
    }
}

fn refresh_hint(mapping: &mut Mapping, ca: Duration) {
    let Some(hint) = mapping.take_said(&[&ENDPOINT[..], &["refresh_hint"]].concat()) else {
        return;
    };
    let Some(given) = hint.text().as_deref().and_then(duration) else {
        return mapping.list(
            &hint,
            "a duration such as 5m is wanted as refresh_hint of [publish]",
        );
    };
    let most = Duration::from_secs((ca / 12).as_secs()).min(DAY);
    let fitting = Duration::from_secs(given.as_secs()).clamp(LEAST_HINT.min(most), most);
    if fitting == given {
        mapping.carry(&hint, "publish", "refresh_hint", human(given));
    } else {
        let why = "10s to a day, and at most a twelfth of ttl.ca";
        mapping.change(&hint, ("publish", "refresh_hint"), human(fitting), why);
    }
}

/// One relationship; what cannot be one stays, and is listed with the others.
fn peer(mapping: &mut Mapping, name: &str, ours: &TrustDomain) {
    let option =
        |rest: &[&'static str]| [&["server", "federation", "federates_with", name][..], rest].concat();
    let trust_domain = TrustDomain::parse(name.strip_prefix("spiffe://").unwrap_or(name));
    let url = mapping.settings.text_of(&option(&["bundle_endpoint_url"]));
    let id = option(&["bundle_endpoint_profile", "https_spiffe", "endpoint_spiffe_id"]);
    let (endpoint_id, web) = (
        mapping.settings.text_of(&id),
        mapping
            .settings
            .has_below(&option(&["bundle_endpoint_profile", "https_web"])),
    );
    let fits = |url: &String| EndpointUrl::parse(url).is_ok();
    let (Some(trust_domain), Some(url)) = (trust_domain.ok().filter(|td| td != ours), url.filter(fits))
    else {
        return;
    };
    let mut lines = vec![
        ("trust_domain", quoted(trust_domain.as_str())),
        ("url", quoted(&url)),
    ];
    match (endpoint_id, web) {
        (Some(id), false) if SpiffeId::parse(&id).is_ok() => {
            lines.push(("profile", quoted("https_spiffe")));
            lines.push(("endpoint_spiffe_id", quoted(&id)));
            let note = format!(
                "{trust_domain} is not asked before its bundle is here: spire-server bundle list -id {trust_domain} -format spiffe > FILE, then landfast bundle set --trust-domain {trust_domain} FILE"
            );
            mapping.report.note(None, &note);
        }
        (None, true) => lines.push(("profile", quoted("https_web"))),
        _ => return,
    }
    mapping.document.table("federation", lines);
    for setting in mapping.settings.take_below(&option(&[])) {
        mapping.hold(&setting, "[[federation]]");
    }
}

const ENDPOINT: [&str; 3] = ["server", "federation", "bundle_endpoint"];
const LEAST_HINT: Duration = Duration::from_secs(10);
const DAY: Duration = Duration::from_secs(86_400);

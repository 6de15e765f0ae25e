//! What SPIRE's agent.conf says of programs with rights or names of their own: Envoys and delegates.

use landfast_identity::{SpiffeId, TrustDomain};

use super::mapping::Mapping;
use super::settings::Setting;
use super::toml::{list, quoted};

pub(super) fn map(mapping: &mut Mapping, trust_domain: &TrustDomain) {
    sds(mapping);
    delegates(mapping, trust_domain);
}

fn sds(mapping: &mut Mapping) {
    if let Some(setting) = mapping.take_said(&["agent", "disable_sds_api"]) {
        match setting.flag() {
            Some(true) => mapping.carry(&setting, "sds", "enabled", "false".to_owned()),
            _ => mapping.hold(&setting, "holds anyway"),
        }
    }
    let names: Vec<(&'static str, &str, Option<Setting>)> = NAMES
        .into_iter()
        .map(|(key, default)| (key, default, mapping.take_said(&["agent", "sds", key])))
        .collect();
    let texts: Vec<String> = names
        .iter()
        .map(|(_, default, said)| {
            said.as_ref()
                .and_then(Setting::text)
                .unwrap_or_else(|| (*default).to_owned())
        })
        .collect();
    // As the agent's configuration has it: three different names, and none that says something else already.
    let good = texts.iter().enumerate().all(|(at, text)| {
        !text.is_empty() && text != "*" && !text.starts_with("spiffe:") && !texts[..at].contains(text)
    });
    for ((key, _, said), text) in names.into_iter().zip(&texts) {
        let Some(said) = said else { continue };
        match good {
            true => mapping.carry(&said, "sds", key, quoted(text)),
            false => mapping.list(
                &said,
                "three different names are wanted in [sds], none an ID and none *",
            ),
        }
    }
    if let Some(setting) = mapping.take_said(&["agent", "sds", PLAIN]) {
        match setting.flag() {
            Some(plain) => mapping.carry(&setting, "sds", PLAIN, plain.to_string()),
            None => mapping.list(&setting, "true or false in [sds]"),
        }
    }
}

/// SPIRE gives a delegate whatever it asks for.
fn delegates(mapping: &mut Mapping, trust_domain: &TrustDomain) {
    let Some(said) = mapping.take_said(&["agent", "authorized_delegates"]) else {
        return;
    };
    let (good, bad): (Vec<String>, Vec<String>) = said
        .texts()
        .into_iter()
        .partition(|text| SpiffeId::parse(text).is_ok_and(|id| !id.path().is_empty()));
    for delegate in &good {
        let all = format!("{}/*", trust_domain.id());
        let lines = vec![("delegate", quoted(delegate)), ("may_have", list(&[all]))];
        mapping.document.table("authorized_delegates", lines);
    }
    if !good.is_empty() {
        mapping.hold(&said, "[[authorized_delegates]]");
        let note = "a delegate may have every identity of the trust domain, as in SPIRE, but none that is admin or downstream: name in may_have those that it needs; \
            it finds the service on the admin socket, and on delegate_socket when that is given";
        mapping.note(&said, note);
    }
    if !bad.is_empty() {
        let instead = format!(
            "SPIFFE IDs with a path are wanted: not carried over are {}",
            bad.join(", ")
        );
        mapping.list(&said, &instead);
    }
}

const NAMES: [(&str, &str); 3] = [
    ("default_svid_name", "default"),
    ("default_bundle_name", "ROOTCA"),
    ("default_all_bundles_name", "ALL"),
];
const PLAIN: &str = "disable_spiffe_cert_validation";
